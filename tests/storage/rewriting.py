"""A file described, planned, created and written again: what a test of the writer compares."""

from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5s

from h5dask.chunkindex import ChunkIndex
from h5dask.contents import ArrayForm, Contents
from h5dask.storage import codec
from h5dask.storage.chunkwriter import ChunkWriter, encode_chunks
from h5dask.storage.describe import describe
from h5dask.storage.forms import takes_bytes
from h5dask.storage.skeleton import Plan, PlannedArray, create
from h5dask.storage.write import write_block
from tests.files.variant import Array


def planned(
    form: ArrayForm, shape: tuple[int, ...], values: Array | None = None, path: str = "x"
) -> Plan:
    """Plan a file of one dataset."""
    given = None if values is None else lambda: iter([values])
    array = PlannedArray(path=path, shape=shape, form=form, values=given)
    return Plan(groups={}, arrays=(array,), attrs={})


def rewrite(source: Path, target: Path) -> None:
    """Write a file anew: numbers as bytes or encoded chunks, text while its skeleton is made."""
    contents, _ = describe(str(source), subject=str(source), fingerprint="")
    verbatim = [p for p in contents.paths if is_verbatim(contents.form(p))]
    links = [path for path in contents.links if "@" not in path]
    own = [path for path in contents.paths if path not in verbatim]
    values = {path: raw_values(source, path) for path in own}
    arrays = tuple(one_array(contents, path, values[path]) for path in own)
    plan = Plan(
        groups=contents.groups,
        arrays=arrays,
        attrs={path: attrs for path, attrs in contents.attrs.items() if path in contents.groups},
        copies=tuple((str(source), path) for path in [*verbatim, *links]),
    )
    indexes = create(str(target), plan)
    for array in arrays:
        if array.allocated:
            start, form = (0,) * len(array.shape), array.form
            write_block(
                str(target), indexes[array.path], start, values[array.path], form.dtype, form.fill
            )
    encoded = [array for array in arrays if array.follows and array.form.filters]
    if encoded:
        with ChunkWriter(str(target), 64) as writer:
            for array in encoded:
                place_all(writer, array, indexes[array.path], values[array.path])


def is_verbatim(form: ArrayForm) -> bool:
    rare = not (form.is_numeric or form.is_text or form.is_ragged_bytes)
    return rare or form.storage in ("external", "virtual")


def one_array(contents: Contents, path: str, values: Array) -> PlannedArray:
    form = contents.form(path)
    given = None if takes_bytes(form) else lambda: iter([values])
    return PlannedArray(
        path=path,
        shape=contents.shape(path),
        form=form,
        attrs=contents.attrs.get(path, ()),
        values=given,
    )


def raw_values(source: Path, path: str) -> Array:
    """Read values as they are stored, by h5py's lowest level."""
    with h5py.File(source, "r") as f:
        dataset = h5d.open(f.id, f"/{path}".encode())
        if dataset.get_space().get_simple_extent_type() == h5s.NULL:
            return np.empty(0)
        values = np.empty(dataset.shape, dataset.dtype)
        if values.size:
            dataset.read(h5s.ALL, h5s.ALL, values)
        return values


def place_all(writer: ChunkWriter, array: PlannedArray, index: ChunkIndex, values: Array) -> None:
    form, start = array.form, (0,) * len(array.shape)
    if not codec.decodable(form.filters):
        writer.write_values(array.path, start, values)
        return
    chunks = encode_chunks(
        values, start, array.shape, index.chunks, form.filters, form.dtype, form.fill
    )
    for origin, mask, raw in chunks:
        writer.place(array.path, origin, mask, raw)
