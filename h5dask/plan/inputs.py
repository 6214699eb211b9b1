"""What a plan says of its inputs: files, their bytes, and how the variables in them are stored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from h5dask import layouts
from h5dask.chunkindex import ChunkIndex
from h5dask.contents import ArrayForm, Contents
from h5dask.ops.cost import Stored
from h5dask.pattern import fill
from h5dask.storage.families import families
from h5dask.storage.indexcache import described
from h5dask.storage.remote import FILE_OBJECT, Source, UrlPath, expand

_LOOKED_INTO = 20
"""Files whose chunks are looked at; many files of one job are alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """One file that is read."""

    name: str
    """Path or URL."""
    nbytes: int
    """Its size."""


def sources_of(ds: xr.Dataset) -> list[Source]:
    """Return the files that a Dataset was opened from, as they were then."""
    form = ds.encoding.get("h5dask")
    if not isinstance(form, Contents):
        return []
    parts = (part for part in form.parts if not part.subject.startswith(FILE_OBJECT))
    return [Source(part.subject, part.fingerprint) for part in parts]


def input_files(sources: Iterable[Source]) -> tuple[InputFile, ...]:
    """Return the files behind sources, each with its size."""
    return tuple(InputFile(name=source.url, nbytes=source.nbytes) for source in sources)


def stored_forms(inputs: xr.Dataset | UrlPath | Iterable[UrlPath]) -> dict[str, Stored]:
    """Return how variables are stored, for the functions of `h5dask.ops.cost`.

    Parameters
    ----------
    inputs : Dataset, str, path, or list of them
        A Dataset that was opened from files, or the files; no value of theirs is read. Of many,
        the first 20 are taken to be like the others.

    Examples
    --------
    >>> from h5dask.testing import example_file
    >>> stored_forms(example_file("ann"))["train"]
    Stored(ratio=1.0, chunk=0, value=0.0)
    """
    sources = sources_of(inputs) if isinstance(inputs, xr.Dataset) else expand(inputs)
    found: dict[str, list[tuple[int, int, Stored]]] = {}
    for source in sources[:_LOOKED_INTO]:
        contents, index = described(source, families(layouts.all_layouts()))
        for layout in layouts.fitting(contents):
            for at, path in enumerate(contents.paths):
                known = layout.spec_of(path)
                if known is not None:
                    name = fill(known[0].name, known[2])
                    held = _held(contents, at, index.chunked.get(at))
                    found.setdefault(name, []).append(held)
    return {name: _together(held) for name, held in found.items()}


def _held(contents: Contents, at: int, index: ChunkIndex | None) -> tuple[int, int, Stored]:
    """Return the stored bytes of one dataset, those of its values, and how it is stored."""
    form, shape = contents.forms[contents.form_of[at]], contents.shapes[at]
    itemsize = _itemsize(form)
    nbytes = math.prod(shape) * itemsize
    chunk = math.prod(form.chunks) * itemsize if form.filters and form.chunks else 0
    stored = index.stored_nbytes if index is not None and chunk else nbytes
    value = contents.mean_nbytes.get(contents.paths[at], 0.0)
    return stored, nbytes, Stored(chunk=chunk, value=value)


def _itemsize(form: ArrayForm) -> int:
    return np.dtype(form.dtype).itemsize if form.is_numeric or form.dtype.startswith("S") else 16


def _together(held: Sequence[tuple[int, int, Stored]]) -> Stored:
    """Return how a variable is stored that many datasets make up: the largest of each figure."""
    stored, nbytes = (sum(column) for column in list(zip(*held, strict=True))[:2])
    forms = [form for *_, form in held]
    return Stored(
        ratio=stored / nbytes if nbytes else 1.0,
        chunk=max(form.chunk for form in forms),
        value=max(form.value for form in forms),
    )
