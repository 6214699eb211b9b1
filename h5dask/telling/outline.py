"""What a file holds, found in one metadata pass; how it is drawn for people is in `tree`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from h5dask import layouts
from h5dask.chunkindex import CHUNKED, INLINE, LIBRARY, NOTHING, FileIndex
from h5dask.contents import UNLIMITED, Contents
from h5dask.errors import Refused
from h5dask.storage.indexcache import described
from h5dask.storage.remote import UrlPath, expand

REFERENCE = "reference:"
"""In `Contents.links`, of a path and an attribute's name: it refers to objects."""

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, kw_only=True)
class Outline:
    """One file as it was described, ready to be told."""

    contents: Contents
    """Paths, shapes, forms, attributes, links."""
    index: FileIndex
    """Where its bytes lie."""
    nbytes: int
    """Size of the file."""

    @cached_property
    def layouts(self) -> tuple[str, ...]:
        """Names of the layouts that the file fits."""
        return tuple(layout.name for layout in layouts.fitting(self.contents))

    @cached_property
    def members(self) -> dict[str, list[str]]:
        """Names in each group, as HDF5 lists them."""
        names: dict[str, dict[str, None]] = {path: {} for path in self.contents.groups}
        links = (path for path, says in self.contents.links.items() if says != REFERENCE)
        for path in (*self.contents.groups, *self.contents.paths, *links):
            if path:
                parent, _, name = path.rpartition("/")
                names.setdefault(parent, {})[name] = None
        return {path: list(held) for path, held in names.items()}

    def sizes(self, path: str) -> tuple[int, int | None]:
        """Return the bytes of a dataset's values, and those stored; None where unknown."""
        position, form = self.contents.position(path), self.contents.form(path)
        n = 0 if form.null else math.prod(self.contents.shape(path))
        if form.dtype == "str" or form.is_ragged_bytes:
            return round(n * self.contents.mean_nbytes.get(path, 0.0)), None
        # Bytes 6 to 10 of HDF5's encoding of a type hold the size of a value.
        declared = n * int.from_bytes(form.type[6:10], "little")
        code = int(self.index.offsets[position])
        if code == CHUNKED:
            return declared, self.index.chunked[position].stored_nbytes
        if code == INLINE:
            return declared, len(self.index.inline[position])
        return declared, {NOTHING: 0, LIBRARY: None}.get(code, declared)

    def as_json(self) -> dict[str, Any]:
        """Return everything as values that JSON can hold, each dataset by its path."""
        contents = self.contents
        return {
            "file": contents.subject,
            "nbytes": self.nbytes,
            "layouts": list(self.layouts),
            "groups": {path: plain_attrs(contents, path) for path in contents.groups},
            "datasets": {path: self._dataset_as_json(path) for path in contents},
            "links": dict(contents.links),
        }

    def _dataset_as_json(self, path: str) -> dict[str, Any]:
        form = self.contents.form(path)
        nbytes, stored = self.sizes(path)
        return {
            "shape": None if form.null else list(self.contents.shape(path)),
            "dtype": form.dtype,
            "storage": form.storage,
            "chunks": None if form.chunks is None else list(form.chunks),
            "grows": [n == UNLIMITED for n in form.maxshape],
            "filters": [
                {"id": f.id, "name": f.name, "values": list(f.values)} for f in form.filters
            ],
            "nbytes": nbytes,
            "stored_nbytes": stored,
            "attrs": plain_attrs(self.contents, path),
        }


def outline(urlpath: UrlPath) -> Outline:
    """Return the outline of one file.

    Parameters
    ----------
    urlpath : str, path or file object
        Local path or fsspec URL.

    Raises
    ------
    NotFound, AccessDenied, CorruptInput
        The file isn't there, can't be read, or isn't HDF5.
    Refused
        The file exceeds a limit on objects, depth or chunks, or several files are named.

    Examples
    --------
    >>> from h5dask.testing import example_file
    >>> outline(example_file("ann")).layouts
    ('ann',)
    """
    sources = expand(urlpath)
    if len(sources) > 1:
        raise Refused(f"{urlpath}: {len(sources):,} files match; name one of them")
    contents, index = described(sources[0])
    return Outline(contents=contents, index=index, nbytes=sources[0].nbytes)


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it; numbers that JSON lacks become text."""
    if isinstance(value, np.ndarray):
        return [plain(one) for one in value.tolist()]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def plain_attrs(contents: Contents, path: str) -> dict[str, Any]:
    """Return the attributes of an object by name, as JSON can hold them."""
    return {attr.name: plain(attr.value) for attr in contents.attrs.get(path, ())}


def by_number(name: str) -> tuple[list[str], list[int]]:
    """Return what sorts names with numbers by value."""
    return _NUMBER.split(name), [int(number) for number in _NUMBER.findall(name)]
