"""FASTA out: sequences as records, their labels in headers; `reading` has the way back.

What letters stand for is told in `spelling`; bytes of files are a matter of the storage.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from numpy.typing import NDArray

from h5dask.errors import LayoutError, Refused
from h5dask.fasta.reading import read_fasta as read_fasta
from h5dask.fasta.spelling import (
    FIELDS,
    NUMBERED,
    SEQUENCES,
    STRUCTURE,
    alphabet_of,
    fitting,
    named,
    owning,
    spelled,
    whole_runs,
)
from h5dask.fasta.spelling import letters as letters
from h5dask.indexes import RaggedIndex
from h5dask.losses import compute
from h5dask.results import refuse_existing_file
from h5dask.storage.fasta import write_records
from h5dask.storage.remote import resolved

LINE = 60
"""Letters of a written line."""
AT_ONCE = 16
"""Blocks that are computed together while a file is written."""

_PACKED = (".gz", ".bgz", ".bz2", ".xz", ".zst", ".zip")
"""How names of compressed files end."""


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
    one, and it isn't NaN. White space, ">" and "=" in names become "_", with a warning. Lines have
    60 letters.

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
        other labels, or no name is one of a structure that is there; the file is named as a
        compressed one.
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
    if url.endswith(_PACKED):
        raise Refused(
            f"{url}: is named as a compressed file, and FASTA is written as plain text; name it "
            ".fasta, and compress it then"
        )
    found = texts(ds, names=names, score=score)
    refuse_existing_file(url, overwrite=overwrite, storage_options=storage_options)
    write_records(found, url, overwrite=overwrite, storage_options=storage_options)


def texts(
    ds: xr.Dataset,
    *,
    names: Mapping[int, str] | None = None,
    score: xr.DataArray | None = None,
) -> Iterator[bytes]:
    """Return what `write_fasta` writes, piece by piece; each is computed when it is asked for.

    Parameters
    ----------
    ds, names, score
        As for `write_fasta`.

    Raises
    ------
    Refused, LayoutError
        As for `write_fasta`; at once where values needn't be computed for it.
    """
    index = owning(ds)
    if not index.table.n_rows:
        raise Refused(
            f"{SEQUENCES}: found none; expected one or more, as nobody could tell such a file "
            "from one that was cut off; select others"
        )
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
    return _texts(blocks, alphabet_of(ds))


def _fit(names: Mapping[int, str]) -> dict[int, str]:
    """Return names that fit into headers."""
    fit = {number: fitting(name) for number, name in names.items()}
    changed = [name for number, name in names.items() if name != fit[number]]
    if changed:
        warnings.warn(
            f"names: found {len(changed):,} with white space, '>', '=' or a comma at the end, such "
            f"as {changed[0]!r}; written with '_' instead",
            UserWarning,
            stacklevel=4,
        )
    return fit


def _tell_apart(names: Mapping[int, str]) -> bool:
    """Whether structures have names of their own, and none has another one's number."""
    numbered = (
        (int(found[1]), number)
        for number, name in names.items()
        if (found := NUMBERED.fullmatch(name))
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
        headers = [
            header if math.isnan(number) else f"{header} score={number:.4f}"
            for header, number in pairs
        ]
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
