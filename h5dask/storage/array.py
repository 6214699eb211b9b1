"""One lazy array over all datasets and files that make up a variable.

A table of segments (runs of rows x lanes, such as layers) says which dataset holds what. The
array is plain columns: it pickles, holds no open file and no lock, and reads what is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from h5dask.chunkindex import CHUNKED, INLINE, LIBRARY, ChunkIndex
from h5dask.contents import ArrayForm
from h5dask.errors import CorruptInput, Refused
from h5dask.storage.ahead import ahead
from h5dask.storage.elements import Files, read_values, slab_of
from h5dask.storage.place import Place, bytes_of
from h5dask.storage.ranges import read_ranges
from h5dask.storage.remote import Source
from h5dask.storage.selection import Selection, per_axis, select

_ATTEMPTS = 6
"""How often bytes that can't be right are fetched, as long as they are wrong in other ways."""
_SEVERAL = 8
"""Datasets that are worth to be read together."""
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
        self.in_store = not all(source.is_local for source in sources)
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
        keys = per_axis(key, self.shape)
        rows = select(keys.pop(0), self.shape[0])
        lane_axis = self.lane_axis
        lanes = np.zeros(1, np.int64)
        if lane_axis is not None:
            lanes = select(keys.pop(lane_axis - 1), self.shape[lane_axis]).wanted()
        covers = [select(k, n) for k, n in zip(keys, self.trailing, strict=True)]
        boxes = tuple(cover.cover for cover in covers)
        inner = tuple(box.stop - box.start for box in boxes)
        out = np.empty((len(lanes), rows.size, *inner), self.dtype)
        said = ""
        for attempt in range(_ATTEMPTS):
            try:
                self._read(rows, lanes.tolist(), boxes, out)
                break
            except CorruptInput as error:
                # What a network has damaged comes right, or is damaged elsewhere, the next time.
                if not self.in_store or str(error) == said or attempt == _ATTEMPTS - 1:
                    raise
                said = str(error)
                for source in self.sources:
                    source.forget()
        for axis, cover in enumerate(covers, start=2):
            if not isinstance(cover.inside, slice):
                out = out.take(cover.inside, axis)
        return self._shaped(out, key)

    def _read(
        self,
        rows: Selection,
        lanes: list[int],
        boxes: tuple[slice, ...],
        out: NDArray[Any],
    ) -> None:
        """Read rows and lanes, in as many passes as stores need."""
        meanwhile = self._reading_ahead(rows, lanes, boxes)
        with ExitStack() as stack:
            files = Files(self.sources, stack)
            while True:
                for first, run in rows.runs():
                    for at, lane in enumerate(lanes):
                        target = out[at, first : first + run.stop - run.start]
                        self._read_rows(files, lane, run, boxes, target)
                if not files.fetch(meanwhile):
                    break

    def _reading_ahead(
        self, rows: Selection, lanes: list[int], boxes: tuple[slice, ...]
    ) -> Callable[[], None] | None:
        """Return what asks stores for the next rows, where one run follows another."""
        if self.dtype == object or not self.in_store:
            return None
        runs = list(islice(rows.runs(), 2))
        if len(runs) != 1:
            return None
        (_, run), n = runs[0], self.shape[0]
        marks = tuple(source.fingerprint for source in self.sources)
        reader = (self.name, marks, tuple(lanes), tuple((b.start, b.stop) for b in boxes))
        if not ahead.follows(reader, run.start, run.stop):
            return None

        def ask() -> None:
            for slab in ahead.runs(reader, run.start, run.stop, n):
                room = np.empty(
                    (slab.stop - slab.start, *(b.stop - b.start for b in boxes)), self.dtype
                )
                with ExitStack() as stack:
                    files = Files(self.sources, stack)
                    for lane in lanes:
                        self._read_rows(files, lane, slab, boxes, room)
                    if not files.ask_ahead(reader):
                        return

        return ask

    def _shaped(self, read: NDArray[Any], key: Any) -> NDArray[Any]:
        """Bring (lane, row, ...) into the order of dims, and drop what an int selected."""
        read = read[0] if self.lane_axis is None else np.moveaxis(read, 0, self.lane_axis)
        scalar = [isinstance(k, (int, np.integer)) for k in per_axis(key, self.shape)]
        return read[tuple(0 if one else slice(None) for one in scalar)] if any(scalar) else read

    def _read_rows(
        self,
        files: Files,
        lane: int,
        run: slice,
        boxes: tuple[slice, ...],
        out: NDArray[Any],
    ) -> None:
        """Read consecutive rows of one lane, segment by segment, or all at once."""
        starts = self.segments.starts
        if self._read_plain(files, lane, run, boxes, out):
            return
        at = int(np.searchsorted(starts, run.start, side="right")) - 1
        row = run.start
        while row < run.stop:
            first, end = int(starts[at]), int(starts[at + 1])
            stop = min(run.stop, end)
            if stop > row:
                part = out[row - run.start : stop - run.start]
                self._read_segment(files, lane, at, slice(row - first, stop - first), boxes, part)
            row, at = max(row, stop), at + 1

    def _read_plain(
        self,
        files: Files,
        lane: int,
        run: slice,
        boxes: tuple[slice, ...],
        out: NDArray[Any],
    ) -> bool:
        """Read rows of many small datasets if they lie in one file as they are wanted."""
        seg = self.segments
        first = int(np.searchsorted(seg.starts, run.start, side="right")) - 1
        last = int(np.searchsorted(seg.starts, run.stop, side="left"))
        begin = np.maximum(seg.starts[first:last], run.start)
        rows = np.minimum(seg.starts[first + 1 : last + 1], run.stop) - begin
        held = first + np.flatnonzero(rows)
        if len(held) < _SEVERAL or boxes != tuple(slice(0, n) for n in self.trailing):
            return False
        source, form = int(seg.sources[held[0]]), int(seg.forms[lane, held[0]])
        if (
            (seg.offsets[lane, held] < 0).any()
            or (seg.sources[held] != source).any()
            or (seg.forms[lane, held] != form).any()
            or self.forms[form].dtype != out.dtype.str
            or not out.flags.c_contiguous
        ):
            return False
        row = math.prod(self.trailing) * self.dtype.itemsize
        inside = held - first
        offsets = seg.offsets[lane, held] + (begin[inside] - seg.starts[held]) * row
        try:
            into = memoryview(bytes_of(out))
            read_ranges(files.ranges(source), offsets, rows[inside] * row, into)
        except CorruptInput:
            return False  # read one by one, each fails by its name
        return True

    def _read_segment(
        self,
        files: Files,
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
        files: Files,
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
            read_values(files.ranges(source), place, (rows, *boxes), out)
        else:
            slab, flat = slab_of(rows, lead)
            box = (slab, *(slice(0, n) for n in lead[1:]), *boxes)
            whole = np.empty((slab.stop - slab.start, *lead[1:], *out.shape[1:]), out.dtype)
            read_values(files.ranges(source), place, box, whole)
            out[...] = whole.reshape(-1, *out.shape[1:])[flat]

    def _place(self, lane: int, at: int) -> Place:
        """Return where one dataset lies; contiguous ones are rows whatever their rank."""
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
