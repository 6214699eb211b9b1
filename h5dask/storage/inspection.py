"""One open HDF5 object -> its form, its attributes, and where its bytes lie."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from h5py import h5d, h5o, h5s, h5t

from h5dask.chunkindex import CHUNKED, INLINE, LIBRARY, NOTHING, ChunkIndex, Filter
from h5dask.contents import AS_SHAPE, UNLIMITED, ArrayForm, Attr
from h5dask.errors import CorruptInput, Refused
from h5dask.storage import codec
from h5dask.storage.place import DESCRIPTOR, Place
from h5dask.storage.ranges import Ranges
from h5dask.storage.read import read_box
from h5dask.storage.soundness import Heaps, refuse_unknown

MAX_CHUNKS = 20_000_000
"""Allocated chunks of one dataset; more is refused."""


_MEASURED_ROWS = 32
_ASSUMED_NBYTES = 64.0
_MOST_VALUES = 2**60


_STORAGE = {h5d.COMPACT: "compact", h5d.CONTIGUOUS: "contiguous", h5d.CHUNKED: "chunked"}


def read_attr(name: str, attr: Any, loc: Any, heaps: Heaps | None = None) -> Attr:
    """Return an open attribute of an object with its value and on-disk type."""
    kind = attr.get_type()
    refuse_unknown(kind)
    if heaps is not None and attr.dtype.hasobject:
        heaps.refuse_endless(h5o.get_info(loc).addr)
    if attr.get_space().get_simple_extent_type() == h5s.NULL:
        return Attr(name=name, value=None, type=kind.encode(), shape=None)
    values = np.empty(attr.shape, attr.dtype)
    attr.read(values)
    return Attr(name=name, value=_plain(values), type=kind.encode(), shape=attr.shape)


def _plain(values: np.ndarray[Any, Any]) -> Any:
    """Return an attribute's values as str, int, bool, numpy scalar or array."""
    if values.dtype.kind == "O":
        text = [_text(value) for value in values.ravel()]
        if values.shape == ():
            return text[0]
        out = np.empty(values.shape, object)
        out.ravel()[:] = text
        return out
    if values.shape == ():
        return values.item() if values.dtype.kind in "iub" else values[()]
    return values


def _text(value: Any) -> Any:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def dtype_name(kind: Any) -> str:
    """Return the name that `ArrayForm.dtype` uses for an on-disk type."""
    try:
        return _readable_dtype(kind.dtype)
    except TypeError:
        return "other"


def form_and_shape(dataset: Any) -> tuple[ArrayForm, tuple[int, ...]]:
    """Return how an open dataset is stored, and its shape."""
    space, kind, created = dataset.get_space(), dataset.get_type(), dataset.get_create_plist()
    refuse_unknown(kind)
    null = space.get_simple_extent_type() == h5s.NULL
    shape = () if null else space.get_simple_extent_dims()
    limits = () if null else space.get_simple_extent_dims(True)
    maxshape = tuple(
        UNLIMITED if m == h5s.UNLIMITED else AS_SHAPE if m == n else m
        for n, m in zip(shape, limits, strict=True)
    )
    storage = _STORAGE.get(created.get_layout(), "virtual")
    if storage == "contiguous" and created.get_external_count():
        storage = "external"
    form = ArrayForm(
        dtype=dtype_name(kind),
        type=kind.encode(),
        storage=storage,
        maxshape=maxshape,
        chunks=created.get_chunk() if storage == "chunked" else None,
        filters=tuple(_filters(created)),
        fill=_fill(created, kind),
        alloc_time=created.get_alloc_time(),
        fill_time=created.get_fill_time(),
        attr_order=created.get_attr_creation_order(),
        times=bool(created.get_obj_track_times()),
        null=null,
    )
    return form, shape


def _filters(created: Any) -> Iterator[Filter]:
    for i in range(created.get_nfilters()):
        number, flags, values, name = created.get_filter(i)
        yield Filter(number, flags, tuple(values), name.decode(errors="replace"))


def _fill(created: Any, kind: Any) -> bytes | None:
    """Return the bytes of a fill value that the file sets, in the stored byte order."""
    if created.fill_value_defined() != h5d.FILL_VALUE_USER_DEFINED:
        return None
    try:
        value = np.zeros((), kind.dtype)
        if value.dtype.hasobject:
            return None
        created.get_fill_value(value)
    except TypeError:
        return None
    return value.tobytes()


def locate(
    subject: str, dataset: Any, shape: tuple[int, ...], form: ArrayForm, heap_base: int
) -> tuple[int, ChunkIndex | None, bytes | None]:
    """Return where a dataset's bytes lie: its offset or code, its chunks, its inline values."""
    if math.prod(shape) >= _MOST_VALUES:
        raise Refused(
            f"{subject} declares {math.prod(shape):,} values in shape {shape!r}; no file holds "
            "so many: write it again, of the shape that its values have"
        )
    if form.null or not math.prod(shape):
        return NOTHING, None, None
    by_ranges = form.dtype.startswith("S") or (form.is_numeric and is_plain(dataset.get_type()))
    by_heap = form.dtype in ("str", "vlen |u1") and heap_base >= 0
    if form.storage in ("external", "virtual") or not (by_ranges or by_heap):
        return LIBRARY, None, None
    if form.storage == "compact":
        return (INLINE, None, _raw_values(dataset, shape)) if by_ranges else (LIBRARY, None, None)
    if form.storage == "contiguous":
        offset = dataset.get_offset()
        return (NOTHING if offset is None else offset), None, None
    if not codec.decodable(form.filters):
        return LIBRARY, None, None
    return CHUNKED, _chunks(subject, dataset, shape, form.chunks or ()), None


def is_plain(kind: Any) -> bool:
    """Whether stored numbers are laid out as numpy's are: all bits used, IEEE floats."""
    if isinstance(kind, h5t.TypeEnumID):
        kind = kind.get_super()
    try:
        return bool(kind.equal(h5t.py_create(kind.dtype)))
    except TypeError:
        return False


def _raw_values(dataset: Any, shape: tuple[int, ...]) -> bytes:
    kind = dataset.get_type()
    values = np.empty(shape, f"V{kind.get_size()}")
    dataset.read(h5s.ALL, h5s.ALL, values, kind)
    return values.tobytes()


def _chunks(
    subject: str, dataset: Any, shape: tuple[int, ...], chunks: tuple[int, ...]
) -> ChunkIndex:
    n = dataset.get_num_chunks()
    if n > MAX_CHUNKS:
        raise Refused(f"{subject} has {n:,} chunks; at most {MAX_CHUNKS:,} are read")
    found: list[Any] = []
    if n:
        dataset.chunk_iter(found.append)
    grid = [-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True)]
    starts = np.array([c.chunk_offset for c in found], np.int64).reshape(len(found), len(shape))
    numbers = np.zeros(len(found), np.int64)
    for axis, (chunk, count) in enumerate(zip(chunks, grid, strict=True)):
        numbers = numbers * count + starts[:, axis] // chunk
    return ChunkIndex.from_chunks(
        shape,
        chunks,
        numbers,
        np.array([c.byte_offset for c in found], np.int64),
        np.array([c.size for c in found], np.int64),
        np.array([c.filter_mask for c in found], np.uint32),
    )


def mean_nbytes(file: Ranges | None, place: Place, most: int) -> float:
    """Return the mean length of the first and last few values of variable length.

    Only their descriptors are read. A damaged file has lengths that can't be, and is told of when
    its values are read.
    """
    if place.offset == NOTHING:
        return 0.0
    if file is None or place.offset == LIBRARY or len(place.shape) != 1:
        return _ASSUMED_NBYTES
    n, half = place.shape[0], _MEASURED_ROWS // 2
    first, last = slice(0, min(half, n)), slice(max(n - half, min(half, n)), n)
    lengths: list[int] = []
    try:
        for rows in (first, last):
            values = np.empty(rows.stop - rows.start, DESCRIPTOR)
            read_box(file, place, (rows,), values)
            lengths += values["length"].tolist()
    except (CorruptInput, Refused):
        return _ASSUMED_NBYTES
    return min(sum(lengths) / len(lengths), float(most))


def _readable_dtype(dtype: np.dtype[Any]) -> str:
    """Return the name that `ArrayForm.dtype` uses for a dtype as h5py reports it."""
    metadata: Mapping[str, Any] = dtype.metadata or {}
    base = metadata.get("vlen")
    if base is str or base is bytes:
        return "str"
    if base is not None:
        return f"vlen {np.dtype(base).str}"
    if "ref" in metadata:
        return "reference"
    if dtype.kind == "S":
        return f"S{dtype.itemsize}"
    if dtype.kind == "V":
        return "compound" if dtype.names else ("array" if dtype.subdtype else "opaque")
    return dtype.str if dtype.kind in "iufbc" else "other"
