"""FASTA out and in: sequences as records, their labels in headers.

What letters stand for is told in `spelling`; bytes of files are a matter of the storage.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from numpy.typing import NDArray

from h5dask.errors import CorruptInput, LayoutError, Refused
from h5dask.fasta.spelling import (
    ALPHABET,
    FIELDS,
    LETTER,
    NAME,
    SEQUENCES,
    STRUCTURE,
    alphabet_of,
    named,
    owning,
    spelled,
    whole_runs,
)
from h5dask.fasta.spelling import letters as letters
from h5dask.indexes import RaggedIndex
from h5dask.losses import compute
from h5dask.storage.fasta import records, write_records
from h5dask.storage.remote import UrlPath, resolved
from h5dask.vectors.raw import refuse_target

LINE = 60
"""Letters of a written line."""
AT_ONCE = 16
"""Blocks that are computed together while a file is written."""

_FIELD = re.compile(rf"(?<![^\s,])({'|'.join(FIELDS)})=([0-9]{{1,18}})(?![^\s,])")
_NUMBERED = re.compile(rf"{STRUCTURE}_(0|[1-9][0-9]{{0,17}})")
_UNFIT = re.compile(r"[\s>\ud800-\udfff]|,\Z")
"""What would end a name in a header, or can't be written."""
_UNKNOWN, _LEFT_OUT, _STOP = b"BJOUZ", b"-./", b"*"
_INDICES = bytes.maketrans(
    ALPHABET.encode() + _UNKNOWN,
    bytes([*range(len(ALPHABET)), *[ALPHABET.index("X")] * len(_UNKNOWN)]),
)


def write_fasta(
    ds: xr.Dataset,
    urlpath: str | os.PathLike[str],
    *,
    names: Mapping[int, str] | None = None,
    score: xr.DataArray | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write sequences as FASTA, a record each, in their order.

    A header is ``>NAME sample=0 noise=1``, and tells ``temperature=1`` where any temperature isn't
    0, ``structure=17`` where names don't tell structures apart, ``score=1.2345`` where there is
    one. White space and ">" in names become "_", with a warning. Lines have 60 letters.

    Parameters
    ----------
    ds : Dataset
        `sequences` (residue), integers, with the `RaggedIndex` that says which sequence owns which;
        the letters of the indices are the labels of `aa`, where there, else ACDEFGHIKLMNPQRSTVWYX.
    urlpath : str or path
        Local path, or fsspec URL (written by way of a local temporary file). It appears whole or
        not at all.
    names : mapping of int to str, optional
        Names of structures by number. Those it lacks have their `structure_id`, or are called
        structure_17.
    score : DataArray, optional
        A number for each sequence, such as its mean negative log-probability; computed with the
        sequences.
    overwrite : bool, default False
        Whether an existing file is replaced.
    storage_options : mapping, optional
        Options of the fsspec filesystem.

    Raises
    ------
    Refused
        There are no sequences, no index, or sizes that don't add up, as after `isel`; the score has
        other labels, or no name is one of a structure that is there.
    LayoutError
        Variables or labels are missing or have other dims or dtypes; when computed: an index has no
        letter (its structure and sample are named).
    Conflict
        The target is there already.

    Notes
    -----
    Blocks end where sequences do; 16 of them are computed and formatted at once, by tasks whose
    names begin with "fasta-". Memory per task: two blocks of indices, and some 500 bytes a
    sequence. The caller holds the text of 16 blocks, a byte a letter.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> rows = {"structure": [3, 3], "sample": [0, 1], "noise": [0, 0], "row_size": [4, 4]}
    >>> index = RaggedIndex("sequence", "residue", 8, rows)
    >>> ds = xr.Dataset({"sequences": ("residue", [10, 17, 8, 20, 10, 17, 8, 9])})
    >>> ds = ds.assign_coords(xr.Coordinates.from_xindex(index))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_fasta(ds, f"{folder}/a.fasta", names={3: "1O91"})
    ...     print(Path(f"{folder}/a.fasta").read_text())
    >1O91 sample=0 noise=0
    MVKX
    >1O91 sample=1 noise=0
    MVKL
    """
    url = resolved(urlpath)
    index = owning(ds)
    if not index.table.n_rows:
        raise Refused(
            f"{url}: found no sequences; expected one or more, as nobody could tell such a file "
            "from one that was cut off; select others"
        )
    refuse_target(url, overwrite=overwrite, options=storage_options)
    structures, of = named(index, names or {})
    fit = _fit(structures)
    held = [field for field in FIELDS if field in index.table.names]
    if _tell_apart(fit):
        held.remove(STRUCTURE)
    if "temperature" in held and not index.table["temperature"].values.any():
        held.remove("temperature")
    column = np.array(list(fit.values()), object)[of]
    values, runs, counts = whole_runs(ds, index, column, held)
    blocks = [values, runs] if score is None else [values, runs, _scores(score, index, counts)]
    texts = _texts(blocks, alphabet_of(ds))
    write_records(texts, url, overwrite=overwrite, storage_options=storage_options)


def read_fasta(
    urlpath: UrlPath | Iterable[UrlPath], *, storage_options: Mapping[str, Any] | None = None
) -> xr.Dataset:
    r"""Read the sequences of FASTA files into memory, a sequence each record.

    Labels are read back where all headers tell them, as ``sample=1 noise=0`` or ``sample=1, ...``;
    records of one name then are of one structure. Its number is ``structure=17`` or, where all
    names are so, that of structure_17. Structures are numbered in order otherwise.

    Parameters
    ----------
    urlpath : str, path, file object, or list of them
        Local path, fsspec URL or glob; the records of several files lie end to end.
    storage_options : mapping, optional
        Options of the fsspec filesystem.

    Returns
    -------
    Dataset
        `sequences` (residue) int32, indices of the letters `aa`; the coords `structure`, `sample`,
        `noise`, `temperature`, `row_size` int32 and `structure_id`, the name without a comma at its
        end, form a `RaggedIndex`. Memory: 6 bytes a letter, some 500 a record.

    Raises
    ------
    LayoutError, CorruptInput, Refused
        As `storage.fasta.records` says; and a "*" stands before the end of a sequence.

    Warns
    -----
    UserWarning
        B, J, O, U, Z became X, or gaps (- and .), chain breaks (/) and stops were left out.

    Examples
    --------
    >>> import io
    >>> ds = read_fasta(io.BytesIO(b">5L33, score=1.17, sample=1\nMKV\n>5L33, sample=2\nMKL\n"))
    >>> ds.sel(sample=2).sequences.values, ds.structure_id.values[0], ds.structure.values
    (array([10,  8,  9], dtype=int32), '5L33', array([0, 0], dtype=int32))
    """
    told: dict[str, list[int]] = {field: [] for field in FIELDS}
    names, sizes, text = [], [], bytearray()
    unknown, left_out = [], []
    for record in records(urlpath, storage_options):
        kept = record.letters.translate(None, _LEFT_OUT).rstrip(_STOP)
        if _STOP in kept:
            raise CorruptInput(
                f"{record.where}: {record.name!r}: found '*' before the end of the sequence; "
                "expected it at the end alone; divide the record there, or write X"
            )
        known = len(kept.translate(None, _UNKNOWN))
        unknown.append(len(kept) - known)
        left_out.append(len(record.letters) - len(kept))
        fields = dict(_FIELD.findall(record.description))
        for field in list(told):
            if field in fields:
                told[field].append(int(fields[field]))
            else:
                del told[field]
        names.append(record.name.removesuffix(",") or record.name)
        sizes.append(len(kept))
        text += kept
    _warn_of({"became X": unknown, "were left out": left_out}, names)
    indices = np.frombuffer(text.translate(_INDICES), np.uint8).astype(np.int32)
    index = RaggedIndex("sequence", "residue", len(indices), _labels(names, sizes, told))
    ds = xr.Dataset({SEQUENCES: ("residue", indices)}, xr.Coordinates.from_xindex(index))
    return ds.assign_coords({LETTER: np.array(list(ALPHABET), object)})


def _fit(names: Mapping[int, str]) -> dict[int, str]:
    """Return names that fit into headers."""
    fit = {number: _UNFIT.sub("_", name) for number, name in names.items()}
    changed = [name for number, name in names.items() if name != fit[number]]
    if changed:
        warnings.warn(
            f"names: found {len(changed):,} with white space, '>' or a comma at the end, such as "
            f"{changed[0]!r}; written with '_' instead",
            UserWarning,
            stacklevel=3,
        )
    return fit


def _tell_apart(names: Mapping[int, str]) -> bool:
    """Whether structures have names of their own, and none has another one's number."""
    numbered = (
        (int(found[1]), number)
        for number, name in names.items()
        if (found := _NUMBERED.fullmatch(name))
    )
    distinct = len(set(names.values())) == len(names)
    return distinct and all(named == number for named, number in numbered)


def _scores(score: xr.DataArray, index: RaggedIndex, counts: tuple[int, ...]) -> da.Array:
    """Return a number for each sequence, in blocks of so many."""
    if score.dims != (index.dim,) or score.size != sum(counts) or score.dtype.kind not in "iuf":
        raise LayoutError(
            f"score: found {score.dtype} {dict(score.sizes)!r}; expected numbers "
            f"{ {index.dim: sum(counts)}!r}, one for each sequence; reduce it to these"
        )
    shared = [name for name in index.table.names if name in score.coords]
    unlike = [n for n in shared if not np.array_equal(score[n].values, index.table[n].values)]
    if unlike:
        raise Refused(
            f"score: found other {', '.join(map(str, unlike))} than the sequences have; expected "
            "the same in the same order; select both alike"
        )
    values = score.data if isinstance(score.data, da.Array) else da.from_array(score.values, -1)
    made: da.Array = values.rechunk((counts,))
    return made


def _texts(blocks: Sequence[da.Array], alphabet: bytes) -> Iterator[bytes]:
    """Yield the text of each block, a few computed together."""
    for first in range(0, blocks[0].numblocks[0], AT_ONCE):
        some = [one.blocks[first : first + AT_ONCE] for one in blocks]
        texts = da.map_blocks(
            _formatted, *some, alphabet=alphabet, dtype=object, name=f"fasta-{tokenize(some)}",
            chunks=((1,) * some[0].numblocks[0],), meta=np.empty(0, object),
        )  # fmt: skip
        yield from compute(texts)[0]


def _formatted(
    values: NDArray[Any], runs: NDArray[Any], score: NDArray[Any] | None = None, *, alphabet: bytes
) -> NDArray[Any]:
    """Return the text of a block's records: one bytes object."""
    (run,) = runs
    headers = run.headers()
    if score is not None:
        pairs = zip(headers, score.tolist(), strict=True)
        headers = [f"{header} score={number:.4f}" for header, number in pairs]
    ends = np.cumsum(run.sizes)
    n_lines = -(-run.sizes // LINE)
    nth = np.arange(n_lines.sum()) - np.repeat(np.cumsum(n_lines) - n_lines, n_lines)
    breaks = np.repeat(ends - run.sizes, n_lines) + LINE * (nth + 1)
    breaks = np.minimum(breaks, np.repeat(ends, n_lines))
    unbroken = spelled(values, run, alphabet)
    text = np.insert(np.frombuffer(unbroken, np.uint8), breaks, ord("\n")).tobytes()
    del unbroken
    borders = np.append(0, ends + np.cumsum(n_lines)).tolist()
    heads = (f">{header}\n".encode() for header in headers)
    bodies = (text[a:b] for a, b in pairwise(borders))
    made = np.empty(1, object)
    made[0] = b"".join(chain.from_iterable(zip(heads, bodies, strict=True)))
    return made


def _labels(
    names: Sequence[str], sizes: Sequence[int], told: Mapping[str, Sequence[int]]
) -> dict[str, NDArray[Any]]:
    """Return the labels of records that are so named and so long, where headers told these."""
    columns = {field: told.get(field, [0] * len(names)) for field in FIELDS}
    numbered = [int(found[1]) for found in map(_NUMBERED.fullmatch, names) if found]
    if STRUCTURE not in told:
        if len(numbered) == len(names):
            columns[STRUCTURE] = numbered
        elif told:
            codes = {name: code for code, name in enumerate(dict.fromkeys(names))}
            columns[STRUCTURE] = [codes[name] for name in names]
        else:
            columns[STRUCTURE] = range(len(names))
    labels = {field: _integers(column) for field, column in (columns | {"row_size": sizes}).items()}
    return labels | {NAME: np.array(names, object)}


def _integers(column: Sequence[int]) -> NDArray[Any]:
    values = np.array(column, np.int64)
    return values.astype(np.int32) if values.max(initial=0) <= np.iinfo(np.int32).max else values


def _warn_of(changes: Mapping[str, Sequence[int]], names: Sequence[str]) -> None:
    """Say once how many letters aren't in the Dataset as the file has them."""
    told = []
    for what, counts in changes.items():
        if any(counts):
            first = next(name for name, n in zip(names, counts, strict=True) if n)
            told.append(f"{sum(counts):,} {what} (first in {first!r})")
    if told:
        warnings.warn(
            f"letters: found some that no index stands for: {', '.join(told)}; expected those of "
            f"{ALPHABET}",
            UserWarning,
            stacklevel=3,
        )
