"""Files of vectors without a structure of their own: what their names end in, headers, places.

`.npy`, big-ann's `.fbin`, `.u8bin`, `.i8bin`, and the counted rows of `.fvecs`, `.bvecs`, `.ivecs`.
What the values mean is told elsewhere.
"""

from __future__ import annotations

import io
import tokenize
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from h5dask.errors import CorruptInput, LayoutError, Refused
from h5dask.storage.ranges import Ranges
from h5dask.storage.region import (
    COUNT,
    Region,
    read_start,
    read_words,
    refuse_other_size,
)
from h5dask.storage.remote import Source

DTYPES = ("float32", "float64", "float16", "int8", "uint8")
"""What values of vectors may be."""
IDS = ("int32", "int64", "uint32", "uint64")
"""What ids of neighbors may be."""
_MOST_COUNT = 2**32 - 1
"""What big-ann's header can tell of rows and features."""
_NPY_HEADER = 12 + 10_000
"""Bytes in which numpy's header must end: what numpy itself takes without trust, and its length."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorFormat:
    """How one kind of file holds vectors."""

    dtypes: tuple[str, ...]
    """Dtypes that it holds, by numpy's name."""
    find: Callable[[Source, Ranges], Region]
    """A file and its open bytes -> where the rows lie, its size seen to be right."""
    header: Callable[[Shape, np.dtype[Any]], bytes]
    """Shape and dtype -> the bytes before the first row."""
    counted: bool = False
    """Whether the number of its values stands before each row."""


def find_npy(source: Source, file: Ranges, *, dtypes: tuple[str, ...] = DTYPES) -> Region:
    """Return where the rows of a file of numpy's lie; nothing in it is unpickled.

    Parameters
    ----------
    source, file : Source, Ranges
        The file, and its open bytes.
    dtypes : tuple of str
        What the values may be, by numpy's name.

    Raises
    ------
    CorruptInput
        The header can't be read, or doesn't go with the file's size.
    LayoutError
        The values aren't rows of numbers.
    """
    header = io.BytesIO(read_start(file, _NPY_HEADER, source.nbytes))
    shape, by_columns, dtype = _npy_header(source, header)
    if dtype.hasobject:
        raise Refused(
            f"{source.url}: found pickled objects (dtype {dtype.name!r}), which are never loaded; "
            f"expected one of {', '.join(dtypes)}: write it again with such numbers"
        )
    if len(shape) != 2 or min(shape) < 0:
        raise LayoutError(
            f"{source.url}: found the shape {shape!r}, expected rows and features; "
            "reshape it to two dims and write it again"
        )
    refuse_dtype(source.url, dtype, dtypes)
    stored = shape[::-1] if by_columns else shape
    region = Region(offset=header.tell(), shape=stored, dtype=dtype.str, by_columns=by_columns)
    refuse_no_features(source, shape[1])
    refuse_other_size(source, region)
    return region


def _npy_header(source: Source, header: io.BytesIO) -> tuple[Shape, bool, np.dtype[Any]]:
    """Return shape, whether columns lie end to end, and dtype."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(header)
        if version not in readers:
            raise ValueError(f"version {version!r} is neither (1, 0) nor (2, 0)")
        shape, by_columns, dtype = readers[version](header)
    # What Python's own parser raises of text that is no literal, besides ValueError.
    except (
        ValueError,
        TypeError,
        tokenize.TokenError,
        SyntaxError,
        RecursionError,
        MemoryError,
    ) as e:
        raise CorruptInput(
            f"{source.url}: numpy can't read its header ({' '.join(str(e).split())[:200]}); "
            "copy or download it again"
        ) from None
    return tuple(int(n) for n in shape), by_columns, dtype


def header_npy(shape: Shape, dtype: np.dtype[Any]) -> bytes:
    """Return the header that numpy.save writes."""
    out = io.BytesIO()
    told = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, told)
    return out.getvalue()


def find_bin(source: Source, file: Ranges, *, dtype: str) -> Region:
    """Return where the rows of big-ann's kind of file lie: uint32 rows, uint32 features, rows."""
    n, d = read_words(source, file, "<u4", "the numbers of rows and features")
    refuse_no_features(source, d)
    region = Region(offset=8, shape=(n, d), dtype=dtype)
    refuse_other_size(source, region)
    return region


def header_bin(shape: Shape, dtype: np.dtype[Any]) -> bytes:
    """Return big-ann's header: uint32 rows, uint32 features."""
    if max(shape) > _MOST_COUNT:
        raise Refused(
            f"shape {shape!r}: found more than the {_MOST_COUNT:,} rows or features that the "
            "header can tell of; write it as .npy or .zarr"
        )
    return np.array(shape, "<u4").tobytes()


def find_counted(source: Source, file: Ranges, *, dtype: str) -> Region:
    """Return where counted rows lie: int32 features before each row, all alike."""
    nbytes = source.nbytes
    if nbytes < COUNT.itemsize:
        raise CorruptInput(
            f"{source.url}: found {nbytes} bytes, expected a row; without any nobody can say how "
            "many features there are: copy or download it again"
        )
    d = int(np.frombuffer(read_start(file, COUNT.itemsize, nbytes), COUNT)[0])
    refuse_no_features(source, d)
    row = Region(offset=0, shape=(1, d), dtype=dtype, counted=True).row_nbytes
    n, left = divmod(nbytes, row)
    if left or not n:
        raise CorruptInput(
            f"{source.url}: found {nbytes:,} bytes, expected a multiple of {row:,}: a row of "
            f"{d:,} {np.dtype(dtype).name} and their number; copy or download it again"
        )
    return Region(offset=0, shape=(n, d), dtype=dtype, counted=True)


def header_counted(shape: Shape, dtype: np.dtype[Any]) -> bytes:
    """Return no header: what there is to tell stands before each row."""
    if not shape[0]:
        raise Refused(
            f"shape {shape!r}: found no rows, which counted rows can't say the width of; "
            "write it as .npy or .zarr"
        )
    return b""


def refuse_dtype(subject: str, dtype: np.dtype[Any], dtypes: tuple[str, ...] = DTYPES) -> None:
    """Raise where numbers of a dtype aren't values of vectors, or of what else is wanted."""
    if dtype.name not in dtypes:
        way_out = "convert the values with astype"
        if dtypes == IDS:
            way_out = "name the file that holds ids of neighbors, a row a query"
        elif dtype.name in IDS:
            way_out = f"are they ids of neighbors? h5dask.recall takes them; if not, {way_out}"
        raise LayoutError(
            f"{subject}: found dtype {dtype.name!r}, expected one of {', '.join(dtypes)}; {way_out}"
        )


def refuse_no_features(source: Source, d: int) -> None:
    """Raise where a header tells of rows without values, of which any number takes no bytes."""
    if d < 1:
        raise CorruptInput(
            f"{source.url}: found {d!r} features in its header, expected 1 or more; "
            "copy or download it again"
        )


def _bin(dtype: str) -> VectorFormat:
    find = partial(find_bin, dtype=dtype)
    return VectorFormat(dtypes=(np.dtype(dtype).name,), find=find, header=header_bin)


def _counted(dtype: str) -> VectorFormat:
    find = partial(find_counted, dtype=dtype)
    name = np.dtype(dtype).name
    return VectorFormat(dtypes=(name,), find=find, header=header_counted, counted=True)


IVECS = _counted("<i4")
"""Counted rows of ids, not of vectors."""
NPY_OF_IDS = VectorFormat(dtypes=IDS, find=partial(find_npy, dtypes=IDS), header=header_npy)
"""numpy's file of ids, a row a query."""

FORMATS: Mapping[str, VectorFormat] = {
    ".npy": VectorFormat(dtypes=DTYPES, find=find_npy, header=header_npy),
    ".fbin": _bin("<f4"),
    ".u8bin": _bin("|u1"),
    ".i8bin": _bin("|i1"),
    ".fvecs": _counted("<f4"),
    ".bvecs": _counted("|u1"),
}
"""Files of vectors by what their names end in."""
