"""One lazy array over all datasets and files that make up a variable.

A table of segments (runs of rows x lanes, such as layers) says which dataset holds what. The
array is plain columns: it pickles, holds no open file and no lock, and reads what is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from h5dask.chunkindex import CHUNKED, INLINE, LIBRARY, ChunkIndex
from h5dask.contents import ArrayForm
from h5dask.errors import CorruptInput, Refused
from h5dask.storage import heap
from h5dask.storage.read import Place, read_box
from h5dask.storage.remote import Ranges, Source

ABSENT = -9
"""In `Segments.offsets`: the group has no such dataset; its rows read as NaN, 0 or ""."""


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Which dataset holds which rows: one column a run of rows, one line a lane."""

    starts: NDArray[np.int64]
    """First row of each segment, and the number of rows at the end."""
    sources: NDArray[np.int32]
    """Which source each segment lies in."""
    offsets: NDArray[np.int64]
    """(lane, segment): byte offset, or a code of `chunkindex`, or `ABSENT`."""
    forms: NDArray[np.int32]
    """(lane, segment): which of the array's forms the dataset has."""
    heap_bases: NDArray[np.int64]
    """(source,): what to add to global-heap addresses."""
    shapes: Mapping[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)
    """(lane, segment) -> shape, of datasets that aren't contiguous rows."""
    paths: tuple[tuple[str | None, ...], ...] = ()
    """Path of each segment's dataset, lane by lane."""
    indexes: Mapping[tuple[int, int], ChunkIndex] = field(default_factory=dict)
    """(lane, segment) -> chunks, of chunked datasets."""
    inline: Mapping[tuple[int, int], bytes] = field(default_factory=dict)
    """(lane, segment) -> values, of compact datasets."""


class StoredArray(BackendArray):
    """A lazy array that reads rows, lanes and columns of many datasets as one.

    Indexed like numpy (slices, ints, one-dimensional integer arrays, each axis by itself), by
    xarray's indexers, or wrapped by `dask.array.from_array`.
    """

    def __init__(
        self,
        name: str,
        sources: tuple[Source, ...],
        segments: Segments,
        forms: tuple[ArrayForm, ...],
        trailing: tuple[int, ...],
        lane_axis: int | None = None,
    ) -> None:
        self.name = name
        self.sources = sources
        self.segments = segments
        self.forms = forms
        self.trailing = trailing
        self.lane_axis = lane_axis
        shape = [int(segments.starts[-1]), *trailing]
        if lane_axis is not None:
            shape.insert(lane_axis, len(segments.offsets))
        self.shape: tuple[int, ...] = tuple(shape)
        self.dtype = _result_dtype(forms)

    @property
    def ndim(self) -> int:
        """Number of dims."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, indexing.ExplicitIndexer):
            support = indexing.IndexingSupport.OUTER
            return indexing.explicit_indexing_adapter(key, self.shape, support, self._outer)
        return self._outer(key)

    def _outer(self, key: Any) -> NDArray[Any]:
        keys = _per_axis(key, self.shape)
        rows = _as_rows(keys.pop(0), self.shape[0])
        lane_axis = self.lane_axis
        lanes = np.zeros(1, np.int64)
        if lane_axis is not None:
            lanes = _as_rows(keys.pop(lane_axis - 1), self.shape[lane_axis]).wanted()
        covers = [_as_rows(k, n) for k, n in zip(keys, self.trailing, strict=True)]
        boxes = tuple(cover.cover for cover in covers)
        inner = tuple(box.stop - box.start for box in boxes)
        out = np.empty((len(lanes), rows.size, *inner), self.dtype)
        with ExitStack() as stack:
            files = _Files(self.sources, stack)
            for first, run in rows.runs():
                for at, lane in enumerate(lanes.tolist()):
                    target = out[at, first : first + run.stop - run.start]
                    self._read_rows(files, lane, run, boxes, target)
        for axis, cover in enumerate(covers, start=2):
            if not isinstance(cover.inside, slice):
                out = out.take(cover.inside, axis)
        return self._shaped(out, key)

    def _shaped(self, read: NDArray[Any], key: Any) -> NDArray[Any]:
        """Bring (lane, row, ...) into the order of dims, and drop what an int selected."""
        if self.lane_axis is None:
            read = read[0]
        else:
            read = np.moveaxis(read, 0, self.lane_axis)
        scalar = [isinstance(k, (int, np.integer)) for k in _per_axis(key, self.shape)]
        return read[tuple(0 if one else slice(None) for one in scalar)] if any(scalar) else read

    def _read_rows(
        self,
        files: _Files,
        lane: int,
        run: slice,
        boxes: tuple[slice, ...],
        out: NDArray[Any],
    ) -> None:
        """Read consecutive rows of one lane, segment by segment."""
        starts = self.segments.starts
        at = int(np.searchsorted(starts, run.start, side="right")) - 1
        row = run.start
        while row < run.stop:
            first, end = int(starts[at]), int(starts[at + 1])
            stop = min(run.stop, end)
            if stop > row:
                part = out[row - run.start : stop - run.start]
                self._read_segment(files, lane, at, slice(row - first, stop - first), boxes, part)
            row, at = max(row, stop), at + 1

    def _read_segment(
        self,
        files: _Files,
        lane: int,
        at: int,
        rows: slice,
        boxes: tuple[slice, ...],
        out: NDArray[Any],
    ) -> None:
        code = int(self.segments.offsets[lane, at])
        place = self._place(lane, at)
        if code == ABSENT:
            _fill_absent(out, place.form)
            return
        source = int(self.segments.sources[at])
        try:
            self._read_place(files, source, place, rows, boxes, out)
        except (CorruptInput, Refused) as error:
            url = self.sources[source].url
            text = str(error)
            raise type(error)(text if text.startswith(url) else f"{url}: {text}") from None

    def _read_place(
        self,
        files: _Files,
        source: int,
        place: Place,
        rows: slice,
        boxes: tuple[slice, ...],
        out: NDArray[Any],
    ) -> None:
        """Read rows of one dataset, whose leading axes may lie end to end."""
        if place.offset == LIBRARY:
            files.through_library(source, place, rows, boxes, out)
            return
        lead = place.shape[: len(place.shape) - len(self.trailing)]
        if len(lead) == 1:
            _read_values(files.ranges(source), place, (rows, *boxes), out)
        else:
            slab, flat = _slab(rows, lead)
            box = (slab, *(slice(0, n) for n in lead[1:]), *boxes)
            whole = np.empty((slab.stop - slab.start, *lead[1:], *out.shape[1:]), out.dtype)
            _read_values(files.ranges(source), place, box, whole)
            out[...] = whole.reshape(-1, *out.shape[1:])[flat]

    def _place(self, lane: int, at: int) -> Place:
        """Return where one dataset lies; contiguous ones are rows end to end whatever their rank."""
        seg = self.segments
        key, offset = (lane, at), int(seg.offsets[lane, at])
        rows = int(seg.starts[at + 1] - seg.starts[at])
        return Place(
            path=seg.paths[lane][at] or self.name,
            shape=seg.shapes.get(key, (rows, *self.trailing)),
            form=self.forms[int(seg.forms[lane, at])],
            offset=offset,
            index=seg.indexes.get(key) if offset == CHUNKED else None,
            inline=seg.inline.get(key) if offset == INLINE else None,
            heap_base=int(seg.heap_bases[seg.sources[at]]),
        )


class _Files:
    """The sources that one read needs, each opened once and closed with the read."""

    def __init__(self, sources: Sequence[Source], stack: ExitStack) -> None:
        self._sources, self._stack = sources, stack
        self._open: dict[int, Ranges] = {}

    def ranges(self, source: int) -> Ranges:
        if source not in self._open:
            self._open[source] = self._stack.enter_context(self._sources[source].open())
        return self._open[source]

    def through_library(
        self, source: int, place: Place, rows: slice, boxes: tuple[slice, ...], out: NDArray[Any]
    ) -> None:
        """Read what has no byte range through HDF5's own library, opened for this block."""
        self.ranges(source)
        url = self._sources[source].url
        if place.form.storage in ("external", "virtual"):
            raise Refused(
                f"{url}: /{place.path} keeps its values in other files ({place.form.storage} "
                "storage), which are not followed; copy its values into this file with h5repack"
            )
        _load_plugins(place.form)
        n_lead = len(place.shape) - len(boxes)
        lead = place.shape[:n_lead]
        slab, flat = _slab(rows, lead)
        box = (slab, *(slice(0, n) for n in lead[1:]), *boxes)
        try:
            with (
                self._sources[source].local_path() as file,
                h5py.File(file, "r", locking=False) as opened,
            ):
                values = opened[place.path][box]
        except OSError as error:
            names = ", ".join(f.name or str(f.id) for f in place.form.filters)
            raise CorruptInput(
                f"{url}: /{place.path}: HDF5 can't read it ({error})"
                + (f"; its filters are {names}: pip install 'h5dask[filters]'" if names else "")
            ) from None
        out[...] = _decoded(values.reshape(-1, *values.shape[n_lead:]), out.dtype)[flat]


def _load_plugins(form: ArrayForm) -> None:
    """Make hdf5plugin's filters known to HDF5 where a dataset has one that HDF5 lacks."""
    if all(h5py.h5z.filter_avail(f.id) for f in form.filters):
        return
    try:
        import hdf5plugin  # noqa: F401
    except ImportError:
        return


def _read_values(file: Ranges, place: Place, box: tuple[slice, ...], out: NDArray[Any]) -> None:
    """Read a box and turn stored elements into values: native numbers, str, uint8 arrays."""
    stored = place.stored
    if out.dtype != object:
        if stored == out.dtype:
            read_box(file, place, box, out)
        elif stored.newbyteorder("=") == out.dtype:
            read_box(file, place, box, out.view(stored))
            out.byteswap(inplace=True)
        else:
            part = np.empty(out.shape, stored)
            read_box(file, place, box, part)
            out[...] = part
        return
    part = np.empty(out.shape, stored)
    read_box(file, place, box, part)
    if stored.kind == "S":
        out[...] = _decoded(part, out.dtype, place.form.padding)
        return
    flat = np.ascontiguousarray(part).reshape(-1)
    as_text = place.form.dtype == "str"
    values = heap.resolve(file, place.path, place.heap_base, flat, as_text)
    out[...] = values.reshape(out.shape)


def _decoded(values: NDArray[Any], dtype: np.dtype[Any], padding: int = 1) -> NDArray[Any]:
    """Return text as str, undecodable bytes as surrogates; other values as they are."""
    if dtype != object or values.dtype.kind not in "SO":
        return values
    out = np.empty(values.size, object)
    for i, value in enumerate(values.reshape(-1).tolist()):
        if isinstance(value, bytes):
            raw = value.split(b"\0")[0] if padding == 0 else value
            raw = raw.rstrip(b" ") if padding == 2 else raw
            value = raw.decode("utf-8", "surrogateescape")
        out[i] = value
    return out.reshape(values.shape)


def _slab(rows: slice, lead: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the run of the first axis that covers flat rows, and where they lie within it."""
    inner = math.prod(lead[1:])
    first, last = rows.start // inner, -(-rows.stop // inner)
    return slice(first, last), slice(rows.start - first * inner, rows.stop - first * inner)


def _result_dtype(forms: Sequence[ArrayForm]) -> np.dtype[Any]:
    if any(not form.is_numeric for form in forms):
        return np.dtype(object)
    kinds = [np.dtype(form.dtype).newbyteorder("=") for form in forms]
    return np.result_type(*kinds) if len(set(kinds)) > 1 else kinds[0]


def _fill_absent(out: NDArray[Any], form: ArrayForm) -> None:
    """Fill rows whose group has no such dataset."""
    if out.dtype == object:
        value = np.empty((), object)
        value[()] = np.empty(0, np.uint8) if form.is_ragged_bytes else ""
        out[...] = value
    else:
        out[...] = np.nan if out.dtype.kind == "f" else 0


@dataclass(frozen=True, slots=True)
class _Rows:
    """A selection along one axis: a covering slice, and what is wanted of it."""

    cover: slice
    inside: slice | NDArray[np.int64]
    size: int

    def wanted(self) -> NDArray[np.int64]:
        """Return the selected positions."""
        return np.arange(self.cover.start, self.cover.stop)[self.inside]

    def runs(self) -> Iterator[tuple[int, slice]]:
        """Yield each run of consecutive positions and where it starts in the output."""
        if isinstance(self.inside, slice) and self.inside == slice(None):
            yield 0, self.cover
            return
        wanted = self.wanted()
        borders = np.flatnonzero(np.diff(wanted) != 1) + 1
        starts = [0, *borders.tolist()] if len(wanted) else []
        for start, stop in zip(starts, [*starts[1:], len(wanted)], strict=True):
            yield start, slice(int(wanted[start]), int(wanted[stop - 1]) + 1)


def _as_rows(key: Any, size: int) -> _Rows:
    """Return a slice, int or integer array as a selection along an axis of `size`."""
    if isinstance(key, slice):
        start, stop, step = key.indices(size)
        if step == 1:
            return _Rows(slice(start, max(start, stop)), slice(None), max(0, stop - start))
        positions = np.arange(start, stop, step)
    else:
        positions = np.atleast_1d(np.asarray(key))
        if positions.dtype == bool:
            positions = np.flatnonzero(positions)
        positions = np.where(positions < 0, positions + size, positions).astype(np.int64)
        if len(positions) and not (0 <= positions.min() and positions.max() < size):
            raise IndexError(f"index {key!r} is out of bounds for a dim of size {size}")
    if not len(positions):
        return _Rows(slice(0, 0), slice(None), 0)
    low, high = int(positions.min()), int(positions.max())
    return _Rows(slice(low, high + 1), positions - low, len(positions))


def _per_axis(key: Any, shape: tuple[int, ...]) -> list[Any]:
    """Return one key an axis, ellipsis and missing ones filled in."""
    keys = list(key) if isinstance(key, tuple) else [key]
    if any(k is Ellipsis for k in keys):
        at = next(i for i, k in enumerate(keys) if k is Ellipsis)
        keys[at : at + 1] = [slice(None)] * (len(shape) - len(keys) + 1)
    return keys + [slice(None)] * (len(shape) - len(keys))
