"""FASTA in: records as sequences, the labels in their headers read back."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.errors import CorruptInput, LayoutError, Refused
from h5dask.fasta.spelling import (
    ALPHABET,
    FIELDS,
    LETTER,
    NAME,
    NUMBERED,
    SEQUENCES,
    STRUCTURE,
    fitting,
)
from h5dask.indexes import RaggedIndex
from h5dask.storage.fasta import Record, records
from h5dask.storage.remote import UrlPath

SAMPLE = "sample"
"""The label that the sequence a structure came with has no need to tell: it is 0."""

_FIELD = re.compile(rf"(?<![^\s,])({'|'.join(FIELDS)})=([0-9]{{1,18}})(?![^\s,])")
_UNKNOWN, _LEFT_OUT, _STOP = b"BJOUZ", b"-./", b"*"
_CHANGED = {"became X": _UNKNOWN, "were left out": _LEFT_OUT + _STOP}
_NAMED = 5
"""Records that a message names."""
_Change: TypeAlias = tuple[int, set[str], str]
"""How many letters of a record are changed, which, and where it is."""
_INDICES = bytes.maketrans(
    ALPHABET.encode() + _UNKNOWN,
    bytes([*range(len(ALPHABET)), *[ALPHABET.index("X")] * len(_UNKNOWN)]),
)


def read_fasta(
    urlpath: UrlPath | Iterable[UrlPath],
    *,
    names: Mapping[int, str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
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
    names : mapping of int to str, optional
        Names of structures by number, as `write_fasta` takes them: records of these names get
        these numbers, so that structures that have no names are found again. Others are numbered
        as structure_17 is, and there is no `structure_id`.
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
        As `storage.fasta.records` says; a "*" stands before the end of a sequence; no record of
        the file has a name before one without; or names are given, and one of a record is that of
        no structure, or of several.

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
    owners: list[str] = []
    sizes, text = [], bytearray()
    changes: dict[str, list[_Change]] = {}
    native = 0
    for record, name in _owned(records(urlpath, storage_options)):
        kept = record.letters.translate(None, _LEFT_OUT).rstrip(_STOP)
        if _STOP in kept:
            raise CorruptInput(
                f"{record.where}: {record.name!r}: found '*' before the end of the sequence; "
                "expected it at the end alone; divide the record there, or write X"
            )
        for what, change in _changed(record, name):
            changes.setdefault(what, []).append(change)
        fields = dict(_FIELD.findall(f"{record.name} {record.description}"))
        for field, column in told.items():
            column.append(int(fields[field]) if field in fields else None)
        if not _is_field(record.name):
            native = len(owners)
        elif told[SAMPLE][native] is None:
            told[SAMPLE][native] = 0
        owners.append(name)
        sizes.append(len(kept))
        text += kept
    _warn_of(changes)
    indices = np.frombuffer(text.translate(_INDICES), np.uint8).astype(np.int32)
    labels = _labels(owners, sizes, {field: c for field, c in told.items() if None not in c}, names)
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
    names: Sequence[str],
    sizes: Sequence[int],
    told: Mapping[str, Sequence[Any]],
    given: Mapping[int, str] | None,
) -> dict[str, NDArray[Any]]:
    """Return the labels of records that are so named and so long, where headers told these."""
    columns = {field: told.get(field, [0] * len(names)) for field in FIELDS}
    numbered = [int(found[1]) for found in map(NUMBERED.fullmatch, names) if found]
    if STRUCTURE not in told:
        if given is not None:
            columns[STRUCTURE] = _numbers_of(names, given)
        elif len(numbered) == len(names):
            columns[STRUCTURE] = numbered
        elif told:
            codes = {name: code for code, name in enumerate(dict.fromkeys(names))}
            columns[STRUCTURE] = [codes[name] for name in names]
        else:
            columns[STRUCTURE] = range(len(names))
    labels = {field: _integers(column) for field, column in (columns | {"row_size": sizes}).items()}
    return labels if given is not None else labels | {NAME: np.array(names, object)}


def _integers(column: Sequence[int]) -> NDArray[Any]:
    values = np.array(column, np.int64)
    return values.astype(np.int32) if values.max(initial=0) <= np.iinfo(np.int32).max else values


def _numbers_of(records: Sequence[str], names: Mapping[int, str]) -> list[int]:
    """Return the number of each record's structure, which names give or its own name is."""
    known: dict[str, list[int]] = {}
    for number, name in names.items():
        known.setdefault(fitting(name), []).append(number)
    for name in set(records) - known.keys():
        found = NUMBERED.fullmatch(name)
        known[name] = [int(found[1])] if found else []
    faults = [
        f"{name!r} of {' and '.join(map(str, known[name])) or 'none'}"
        for name in dict.fromkeys(records)
        if len(known[name]) != 1
    ]
    if faults:
        more = f" and {len(faults) - _NAMED:,} more" if len(faults) > _NAMED else ""
        raise Refused(
            f"names: found the record {', '.join(faults[:_NAMED])}{more}; expected each to be of "
            "one structure; correct names, or leave those records out"
        )
    return [known[name][0] for name in records]


def _changed(record: Record, name: str) -> Iterator[tuple[str, _Change]]:
    """Yield what becomes of letters that aren't in the Dataset as the file has them."""
    for what, those in _CHANGED.items():
        if n := len(record.letters) - len(record.letters.translate(None, those)):
            letters = {chr(one) for one in those if one in record.letters}
            yield what, (n, letters, f"{record.where}: {name!r}")


def _warn_of(changes: Mapping[str, Sequence[_Change]]) -> None:
    """Say once how many letters aren't in the Dataset as the file has them."""
    told = []
    for what, found in changes.items():
        letters = sorted(set[str]().union(*(some for _, some, _ in found)))
        n = sum(n for n, _, _ in found)
        told.append(f"{n:,} {what} ({', '.join(map(repr, letters))}; first in {found[0][2]})")
    if told:
        warnings.warn(
            f"letters: found some that no index stands for: {', '.join(told)}; expected those of "
            f"{ALPHABET}",
            UserWarning,
            stacklevel=3,
        )
