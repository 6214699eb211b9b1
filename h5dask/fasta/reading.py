"""FASTA in: records as sequences, the labels in their headers read back."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.errors import CorruptInput, LayoutError
from h5dask.fasta.spelling import (
    ALPHABET,
    FIELDS,
    LETTER,
    NAME,
    NUMBERED,
    SEQUENCES,
    STRUCTURE,
)
from h5dask.indexes import RaggedIndex
from h5dask.storage.fasta import Record, records
from h5dask.storage.remote import UrlPath

SAMPLE = "sample"
"""The label that the sequence a structure came with has no need to tell: it is 0."""

_FIELD = re.compile(rf"(?<![^\s,])({'|'.join(FIELDS)})=([0-9]{{1,18}})(?![^\s,])")
_UNKNOWN, _LEFT_OUT, _STOP = b"BJOUZ", b"-./", b"*"
_INDICES = bytes.maketrans(
    ALPHABET.encode() + _UNKNOWN,
    bytes([*range(len(ALPHABET)), *[ALPHABET.index("X")] * len(_UNKNOWN)]),
)


def read_fasta(
    urlpath: UrlPath | Iterable[UrlPath], *, storage_options: Mapping[str, Any] | None = None
) -> xr.Dataset:
    r"""Read the sequences of FASTA files into memory, a sequence each record.

    Labels are read back where all headers tell them, as ``sample=1 noise=0`` or ``sample=1, ...``;
    records of one name then are of one structure. Its number is ``structure=17`` or, where all
    names are so, that of structure_17. Structures are numbered in order otherwise.

    A header whose first word is a field, as in ``>T=0.1, sample=1``, has no name: it goes on with
    the structure that was named last, as ProteinMPNN writes samples below the native sequence.
    That is sample 0 then, unless it tells another; T is no label.

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
        As `storage.fasta.records` says; a "*" stands before the end of a sequence; or no record of
        the file has a name before one without.

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
    told: dict[str, list[int | None]] = {field: [] for field in FIELDS}
    names: list[str] = []
    sizes, text = [], bytearray()
    unknown, left_out = [], []
    native = 0
    for record, name in _owned(records(urlpath, storage_options)):
        kept = record.letters.translate(None, _LEFT_OUT).rstrip(_STOP)
        if _STOP in kept:
            raise CorruptInput(
                f"{record.where}: {record.name!r}: found '*' before the end of the sequence; "
                "expected it at the end alone; divide the record there, or write X"
            )
        known = len(kept.translate(None, _UNKNOWN))
        unknown.append(len(kept) - known)
        left_out.append(len(record.letters) - len(kept))
        fields = dict(_FIELD.findall(f"{record.name} {record.description}"))
        for field, column in told.items():
            column.append(int(fields[field]) if field in fields else None)
        if not _is_field(record.name):
            native = len(names)
        elif told[SAMPLE][native] is None:
            told[SAMPLE][native] = 0
        names.append(name)
        sizes.append(len(kept))
        text += kept
    _warn_of({"became X": unknown, "were left out": left_out}, names)
    indices = np.frombuffer(text.translate(_INDICES), np.uint8).astype(np.int32)
    labels = _labels(names, sizes, {field: c for field, c in told.items() if None not in c})
    index = RaggedIndex("sequence", "residue", len(indices), labels)
    ds = xr.Dataset({SEQUENCES: ("residue", indices)}, xr.Coordinates.from_xindex(index))
    return ds.assign_coords({LETTER: np.array(list(ALPHABET), object)})


def _owned(found: Iterable[Record]) -> Iterator[tuple[Record, str]]:
    """Yield each record and the name of its structure: its own, or the last one of its file."""
    file, name = "", ""
    for record in found:
        before, file = file, record.where.rpartition(":")[0]
        if not _is_field(record.name):
            name = record.name.removesuffix(",") or record.name
        elif not name or file != before:
            raise LayoutError(
                f"{record.where}: found the field {record.name!r} where a name stands; expected a "
                "name in a file's first header; name the record"
            )
        yield record, name


def _is_field(word: str) -> bool:
    return "=" in word


def _labels(
    names: Sequence[str], sizes: Sequence[int], told: Mapping[str, Sequence[Any]]
) -> dict[str, NDArray[Any]]:
    """Return the labels of records that are so named and so long, where headers told these."""
    columns = {field: told.get(field, [0] * len(names)) for field in FIELDS}
    numbered = [int(found[1]) for found in map(NUMBERED.fullmatch, names) if found]
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
