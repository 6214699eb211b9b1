"""Stored elements -> values: native numbers, str, uint8 arrays; by byte ranges or by HDF5."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.errors import CorruptInput, Refused
from h5dask.storage import heap, library, plugins
from h5dask.storage.fetching import Passes, ask_ahead
from h5dask.storage.place import Place
from h5dask.storage.ranges import Ranges
from h5dask.storage.read import read_box
from h5dask.storage.remote import Source


class Files:
    """The sources that one read needs, each opened once and closed with the read."""

    def __init__(self, sources: Sequence[Source], stack: ExitStack) -> None:
        self._sources, self._stack = sources, stack
        self._open: dict[int, Ranges] = {}

    def ranges(self, source: int) -> Ranges:
        """Return a source's open bytes; those of a store come all together, see `fetch`."""
        if source not in self._open:
            opening = self._sources[source].open(gathering=True)
            self._open[source] = self._stack.enter_context(opening)
        return self._open[source]

    def fetch(self, meanwhile: Callable[[], None] | None = None) -> bool:
        """Bring what stores were asked for since the last time; False where that is nothing."""
        n_fetched = 0
        for file in self._open.values():
            n_fetched += isinstance(file, Passes) and file.fetch(meanwhile)
        return n_fetched > 0

    def ask_ahead(self, reader: Hashable) -> bool:
        """Ask stores for the same without waiting; False where there is no room for more."""
        several = (file for file in self._open.values() if isinstance(file, Passes))
        return all(ask_ahead(reader, file) for file in several)

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
        plugins.missing(place.form.filters)
        n_lead = len(place.shape) - len(boxes)
        lead = place.shape[:n_lead]
        slab, flat = slab_of(rows, lead)
        box = (slab, *(slice(0, n) for n in lead[1:]), *boxes)
        try:
            with (
                self._sources[source].at_hand() as file,
                library.opened(file) as opened,
            ):
                values = opened[place.path][box]
        except OSError as error:
            names = ", ".join(f.name or str(f.id) for f in place.form.filters)
            raise CorruptInput(
                f"{url}: /{place.path}: HDF5 can't read it ({error})"
                + (f"; its filters are {names}: pip install 'h5dask[filters]'" if names else "")
            ) from None
        out[...] = decoded(values.reshape(-1, *values.shape[n_lead:]), out.dtype)[flat]


def read_values(file: Ranges, place: Place, box: tuple[slice, ...], out: NDArray[Any]) -> None:
    """Read a box and turn stored elements into values: native numbers, str, uint8 arrays."""
    stored = place.stored
    if out.dtype != object:
        if stored == out.dtype:
            read_box(file, place, box, out)
        elif stored.newbyteorder("=") == out.dtype:
            read_box(file, place, box, out.view(stored))
            out.byteswap(inplace=True)
        else:
            part = np.zeros(out.shape, stored)
            read_box(file, place, box, part)
            out[...] = part
        return
    part = np.zeros(out.shape, stored)  # of what is fetched later nothing is believed
    read_box(file, place, box, part)
    if stored.kind == "S":
        out[...] = decoded(part, out.dtype, place.form.padding)
        return
    flat = np.ascontiguousarray(part).reshape(-1)
    as_text = place.form.dtype == "str"
    try:
        values = heap.resolve(file, place.path, place.heap_base, flat, as_text)
    except CorruptInput as error:
        url, _, rest = str(error).partition(": ")
        if place.path in str(error):
            raise
        raise CorruptInput(f"{url}: /{place.path}, in the heap of its values: {rest}") from None
    if as_text:
        values = _without_surrogates(values)
    out[...] = values.reshape(out.shape)


def _without_surrogates(values: NDArray[Any]) -> NDArray[Any]:
    """Return text that isn't UTF-8 as bytes: pandas, and so xarray, fails on lone surrogates."""
    for i, text in enumerate(values.tolist()):
        if not text.isascii():
            values[i] = _as_str(text.encode("utf-8", "surrogateescape"))
    return values


def _as_str(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def decoded(values: NDArray[Any], dtype: np.dtype[Any], padding: int = 1) -> NDArray[Any]:
    """Return text as str, bytes that aren't UTF-8 as they are; other values as they are."""
    if dtype.kind != "O" or values.dtype.kind not in "SO":
        return values
    out = np.empty(values.size, object)
    for i, value in enumerate(values.reshape(-1).tolist()):
        raw = value.split(b"\0")[0] if padding == 0 and isinstance(value, bytes) else value
        raw = raw.rstrip(b" ") if padding == 2 and isinstance(raw, bytes) else raw
        out[i] = _as_str(raw) if isinstance(raw, bytes) else raw
    return out.reshape(values.shape)


def slab_of(rows: slice, lead: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the run of the first axis that covers flat rows, and where they lie within it."""
    inner = math.prod(lead[1:])
    first, last = rows.start // inner, -(-rows.stop // inner)
    return slice(first, last), slice(rows.start - first * inner, rows.stop - first * inner)
