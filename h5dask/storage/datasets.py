"""One dataset of a new file: created empty, with the places where its bytes belong."""

from __future__ import annotations

import math
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5o, h5p, h5s, h5t

from h5dask.chunkindex import ChunkIndex
from h5dask.contents import ArrayForm
from h5dask.errors import LayoutError, Refused
from h5dask.storage import plugins
from h5dask.storage.attributes import AttributeWriter
from h5dask.storage.forms import limits, stored_chunks, takes_bytes
from h5dask.storage.links import link_creation
from h5dask.storage.objectheader import SpaceTimes
from h5dask.storage.planned import PlannedArray
from h5dask.storage.space import Reservation
from h5dask.storage.values import write_values

_ZERO, _ONE = np.zeros(1, np.int64), np.ones(1, np.int64)
_NO_MASK = np.zeros(1, np.uint32)
for _column in (_ZERO, _ONE, _NO_MASK):
    _column.flags.writeable = False

_STORAGE = {"compact": h5d.COMPACT, "contiguous": h5d.CONTIGUOUS, "chunked": h5d.CHUNKED}


class DatasetWriter:
    """Creates the datasets of one file; types and properties are made once and used again.

    Parameters
    ----------
    file : str
        The file's name, for messages.
    attributes : AttributeWriter
        Writes the datasets' attributes.
    space : Reservation
        Where room for values that are written at once is taken.
    """

    def __init__(self, file: str, attributes: AttributeWriter, space: Reservation) -> None:
        self.indexes: dict[str, ChunkIndex] = {}
        """Where bytes that follow belong, by path."""
        self.times: list[SpaceTimes] = []
        """What the headers shall say once the file is closed."""
        self._file = file
        self._attributes = attributes
        self._space = space
        self._types: dict[bytes, Any] = {}
        self._spaces: dict[tuple[tuple[int, ...], tuple[int | None, ...]], Any] = {}
        self._properties: dict[tuple[ArrayForm, tuple[int, ...] | None, bool], Any] = {}

    def create(self, parent: Any, array: PlannedArray) -> None:
        """Create a dataset in an open group, and write the values that it comes with.

        Raises
        ------
        LayoutError
            Where HDF5 doesn't accept its form, or a value or attribute doesn't fit.
        Refused
            Where a filter or a kind of storage can't be written here.
        OutOfSpace
            Where the disk is full.
        """
        subject = f"{self._file}: '/{array.path}'"
        form = array.form
        chunks = stored_chunks(form, array.shape) if form.storage == "chunked" else None
        _refuse(array, chunks, subject)
        name = array.path.rpartition("/")[2]
        try:
            dataset = h5d.create(
                parent,
                name.encode(),
                self._type(form),
                self._dataspace(array),
                dcpl=self._creation(form, chunks, array.allocated),
                lcpl=link_creation(name),
            )
        except (ValueError, TypeError, RuntimeError) as error:
            raise LayoutError(
                f"{subject} of shape {array.shape!r} and chunks {chunks!r} can't be made by HDF5 "
                f"({error}); choose another form"
            ) from None
        if array.follows:
            self._note_places(dataset, array, chunks)
        self._attributes.write(dataset, array.path, array.attrs)
        if array.values is not None and not form.null:
            write_values(dataset, form, array.values(), subject, self._space)

    def _type(self, form: ArrayForm) -> Any:
        kind = self._types.get(form.type)
        if kind is None:
            kind = self._types[form.type] = h5t.decode(form.type)
        return kind

    def _dataspace(self, array: PlannedArray) -> Any:
        if array.form.null:
            return h5s.create(h5s.NULL)
        most = limits(array.form, array.shape)
        space = self._spaces.get((array.shape, most))
        if space is None:
            bounds = tuple(h5s.UNLIMITED if bound is None else bound for bound in most)
            space = h5s.create_simple(array.shape, bounds) if bounds else h5s.create(h5s.SCALAR)
            self._spaces[array.shape, most] = space
        return space

    def _creation(self, form: ArrayForm, chunks: tuple[int, ...] | None, allocated: bool) -> Any:
        """Return the dataset's creation properties."""
        properties = self._properties.get((form, chunks, allocated))
        if properties is None:
            properties = _new_properties(form, chunks, allocated)
            self._properties[form, chunks, allocated] = properties
        return properties

    def _note_places(
        self, dataset: Any, array: PlannedArray, chunks: tuple[int, ...] | None
    ) -> None:
        form = array.form
        self.indexes[array.path] = _index(dataset, array.shape, chunks, form)
        times = (form.alloc_time, form.fill_time)
        if array.allocated and times != (h5d.ALLOC_TIME_EARLY, h5d.FILL_TIME_NEVER):
            self.times.append(SpaceTimes(h5o.get_info(dataset).addr, *times))


def _new_properties(form: ArrayForm, chunks: tuple[int, ...] | None, allocated: bool) -> Any:
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_layout(_STORAGE[form.storage])
    if chunks is not None:
        properties.set_chunk(chunks)
    for step in plugins.requests(form.filters, form.type, chunks or ()) or ():
        properties.set_filter(step.id, step.flags, step.values)
    if form.fill is not None:
        properties.set_fill_value(_fill_value(form, form.fill))
    properties.set_alloc_time(h5d.ALLOC_TIME_EARLY if allocated else form.alloc_time)
    properties.set_fill_time(h5d.FILL_TIME_NEVER if allocated else form.fill_time)
    properties.set_obj_track_times(form.times)
    properties.set_attr_creation_order(form.attr_order)
    return properties


def _fill_value(form: ArrayForm, raw: bytes) -> np.ndarray[Any, Any]:
    if form.dtype == "str":
        text = np.empty((), h5py.string_dtype())
        text[()] = raw
        return text
    return np.ndarray((), h5t.decode(form.type).dtype, buffer=raw)


def _refuse(array: PlannedArray, chunks: tuple[int, ...] | None, subject: str) -> None:
    form = array.form
    if form.storage in ("external", "virtual"):
        raise Refused(
            f"{subject} has {form.storage} storage, whose values lie in other files; "
            "copy it as it is, or write it contiguous"
        )
    lacking = plugins.missing(form.filters)
    if lacking:
        names = ", ".join(f"{f.name or 'unnamed'} ({f.id})" for f in lacking)
        raise Refused(
            f"{subject} has filters that HDF5 lacks here: {names}; pip install 'h5dask[filters]'"
        )
    if plugins.requests(form.filters, form.type, chunks or ()) is None:
        raise Refused(
            f"{subject} has filters whose settings can't be asked for anew: {form.filters!r}; "
            "carry it over as it is, or choose another compression"
        )
    if array.follows and not takes_bytes(form):
        raise LayoutError(
            f"{subject} is {form.dtype!r} in {form.storage} storage, which can't be written as "
            "bytes; give its values when it is made"
        )


def _index(
    dataset: Any, shape: tuple[int, ...], chunks: tuple[int, ...] | None, form: ArrayForm
) -> ChunkIndex:
    if chunks is None:
        # There may be many thousands of these: what is the same in all of them is shared.
        nbytes = np.array([math.prod(shape) * np.dtype(form.dtype).itemsize], np.int64)
        offset = np.array([dataset.get_offset()], np.int64)
        return ChunkIndex(shape, shape, _ZERO, _ONE, offset, nbytes, nbytes, _NO_MASK)
    found: list[Any] = []
    if not form.filters:
        dataset.chunk_iter(found.append)
    grid = [-(-n // chunk) for n, chunk in zip(shape, chunks, strict=True)]
    starts = np.array([c.chunk_offset for c in found], np.int64).reshape(-1, len(shape))
    numbers = np.zeros(len(found), np.int64)
    for axis, (chunk, n) in enumerate(zip(chunks, grid, strict=True)):
        numbers = numbers * n + starts[:, axis] // chunk
    columns = np.array([(c.byte_offset, c.size) for c in found], np.int64).reshape(-1, 2)
    masks = np.zeros(len(found), np.uint32)
    return ChunkIndex.from_chunks(shape, chunks, numbers, columns[:, 0], columns[:, 1], masks)
