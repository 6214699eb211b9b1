"""One array in every way that HDF5 stores numbers: contiguous, compact, each chunk index, holes."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

from tests.files.variant import DEFAULT, Array

Write = Callable[[Path, str, Array], Array]
"""Writes a file with one dataset, of a path and of values of rank 1 or more; gives what is read."""

LATEST: Mapping[str, Any] = {"libver": "latest"}


def tiles(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Cut each axis into three chunks at most, the last of them partial where that can be."""
    return tuple(n // 3 + 1 for n in shape)


def ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Give a chunk to each value."""
    return (1,) * len(shape)


def whole(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Give one chunk to all values."""
    return shape


def beyond(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Make one chunk larger than all values."""
    return tuple(n + 5 for n in shape)


def rows(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Give one chunk to each row."""
    return (1, *shape[1:])


def unlimited(shape: tuple[int, ...], growing: int) -> tuple[int | None, ...]:
    """Leave the first axes without a limit."""
    return tuple(None if axis < growing else n for axis, n in enumerate(shape))


def smooth(dtype: str, shape: tuple[int, ...] = (47, 31)) -> Array:
    """Give numbers that differ along every axis, fit any type and can be compressed."""
    return (np.arange(np.prod(shape)) // 3 % 120).astype(dtype).reshape(shape)


def create(
    path: Path,
    name: str,
    values: Array,
    *,
    options: Mapping[str, Any] = DEFAULT,
    growing: int = 0,
    chunks: Callable[[tuple[int, ...]], tuple[int, ...]] | None = None,
    **storage: Any,
) -> Array:
    """Store by h5py's keywords, with the first `growing` axes unlimited."""
    if chunks:
        storage["chunks"] = chunks(values.shape)
    if growing:
        storage["maxshape"] = unlimited(values.shape, growing)
    with h5py.File(path, "w", **options) as f:
        f.create_dataset(name, data=values, **storage)
    return values


def low_level(
    path: Path,
    name: str,
    values: Array,
    *,
    settings: Callable[[h5p.PropDCID, tuple[int, ...]], None],
    options: Mapping[str, Any] = DEFAULT,
    written: bool = True,
) -> Array:
    """Store with creation properties that h5py has no keyword for; not written, zeros are read."""
    properties = h5p.create(h5p.DATASET_CREATE)
    settings(properties, values.shape)
    with h5py.File(path, "w", **options) as f:
        f.require_group(name.rpartition("/")[0] or "/")
        space = h5s.create_simple(values.shape)
        kind = h5t.py_create(values.dtype, logical=True)
        dataset = h5d.create(f.id, name.encode(), kind, space, properties)
        if written:
            dataset.write(h5s.ALL, h5s.ALL, np.ascontiguousarray(values))
        return np.asarray(f[name][...])


def compact(properties: h5p.PropDCID, shape: tuple[int, ...]) -> None:
    """Keep the values in the object's header."""
    properties.set_layout(h5d.COMPACT)


def early(properties: h5p.PropDCID, shape: tuple[int, ...]) -> None:
    """Allocate at creation."""
    properties.set_alloc_time(h5d.ALLOC_TIME_EARLY)


def late(properties: h5p.PropDCID, shape: tuple[int, ...]) -> None:
    """Allocate at the first write; h5py's own default for contiguous storage."""
    properties.set_alloc_time(h5d.ALLOC_TIME_LATE)


def late_never_filled(properties: h5p.PropDCID, shape: tuple[int, ...]) -> None:
    """Allocate at the first write and write no fill value."""
    late(properties, shape)
    properties.set_fill_time(h5d.FILL_TIME_NEVER)


def implicit(properties: h5p.PropDCID, shape: tuple[int, ...]) -> None:
    """Allocate all chunks at creation, so that their places follow from their numbers."""
    early(properties, shape)
    properties.set_chunk(tiles(shape))


def holes(
    path: Path,
    name: str,
    values: Array,
    *,
    fill: Any = None,
    options: Mapping[str, Any] = DEFAULT,
    growing: int = 0,
    chunks: Callable[[tuple[int, ...]], tuple[int, ...]] = tiles,
    **storage: Any,
) -> Array:
    """Write only a first and a last chunk; all others are left to the fill value."""
    tile = chunks(values.shape)
    if growing:
        storage["maxshape"] = unlimited(values.shape, growing)
    fills = {} if fill is None else {"fillvalue": np.array(fill).astype(values.dtype)[()]}
    with h5py.File(path, "w", **options) as f:
        made = f.create_dataset(name, values.shape, values.dtype, chunks=tile, **fills, **storage)
        for corner in (
            tuple(slice(0, n) for n in tile),
            tuple(slice((m - 1) // n * n, m) for m, n in zip(values.shape, tile, strict=True)),
        ):
            made[corner] = values[corner]
        return np.asarray(made[...])


def unwritten(path: Path, name: str, values: Array, *, fill: Any, **storage: Any) -> Array:
    """Declare a dataset and write no value."""
    number = np.array(fill).astype(values.dtype)[()]
    with h5py.File(path, "w") as f:
        f.create_dataset(name, values.shape, values.dtype, fillvalue=number, **storage)
        return np.asarray(f[name][...])


def shrunk_and_grown(path: Path, name: str, values: Array) -> Array:
    """Cut the first axis within a chunk and grow it again: what was cut off is fill value."""
    create(path, name, values, growing=1, chunks=tiles, fillvalue=np.ones((), values.dtype)[()])
    with h5py.File(path, "r+") as f:
        f[name].resize(values.shape[0] // 2 + 1, axis=0)
        f[name].resize(values.shape[0], axis=0)
        return np.asarray(f[name][...])


def grown(path: Path, name: str, values: Array) -> Array:
    """Begin with a part and extend it, so that chunks lie in the file in another order."""
    half = tuple(n // 2 + 1 for n in values.shape)
    with h5py.File(path, "w") as f:
        part = values[tuple(slice(0, n) for n in half)]
        made = f.create_dataset(
            name, data=part, chunks=tiles(values.shape), maxshape=(None,) * values.ndim
        )
        made.resize(values.shape)
        made[...] = values
    return values


def user_block(path: Path, name: str, values: Array, *, size: int, **storage: Any) -> Array:
    """Store behind a user block, whose bytes are text of the user's own."""
    create(path, name, values, options={"userblock_size": size}, **storage)
    with path.open("r+b") as raw:
        raw.write(b"#!/bin/sh\necho a program of the user's own\n".ljust(size, b"\n"))
    return values


def tracked(path: Path, name: str, values: Array) -> Array:
    """Track creation order of links and attributes, the dataset coming after a later name."""
    with h5py.File(path, "w", track_order=True) as f:
        f["zzz"] = np.arange(3)
        f.create_dataset(name, data=values, track_order=True)
        f[name].attrs["z"], f[name].attrs["a"] = 1, 2
    return values


chunked = partial(create, chunks=tiles)
latest = partial(chunked, options=LATEST)
gzip: Mapping[str, Any] = {"compression": "gzip", "shuffle": True}

FORMS: dict[str, Write] = {
    "contiguous": create,
    "contiguous_early": partial(low_level, settings=early),
    "contiguous_late_never_filled": partial(low_level, settings=late_never_filled),
    "contiguous_unwritten": partial(low_level, settings=late, written=False),
    "contiguous_unwritten_fill": partial(unwritten, fill=7),
    "compact": partial(low_level, settings=compact),
    "btree_v1": chunked,
    "btree_v1_rows": partial(create, chunks=rows),
    "btree_v1_deep": partial(create, chunks=ones),
    "btree_v1_growing": partial(chunked, growing=1),
    "chunk_beyond_shape": partial(create, chunks=beyond, growing=9),
    "single_chunk": partial(create, chunks=whole, options=LATEST),
    "single_chunk_filtered": partial(create, chunks=whole, options=LATEST, **gzip),
    "implicit": partial(low_level, settings=implicit, options=LATEST),
    "fixed_array": latest,
    "fixed_array_filtered": partial(latest, **gzip),
    "fixed_array_paged": partial(create, chunks=ones, options=LATEST),
    "extensible_array": partial(latest, growing=1),
    "extensible_array_filtered": partial(latest, growing=1, **gzip),
    "extensible_array_deep": partial(create, chunks=ones, growing=1, options=LATEST),
    "btree_v2": partial(latest, growing=2),
    "btree_v2_filtered": partial(latest, growing=2, **gzip),
    "btree_v2_deep": partial(create, chunks=ones, growing=2, options=LATEST),
    "holes": holes,
    "holes_fill": partial(holes, fill=7),
    "holes_filtered": partial(holes, fill=7, **gzip),
    "holes_fixed_array": partial(holes, fill=7, options=LATEST),
    "holes_extensible_array": partial(holes, fill=7, growing=1, options=LATEST),
    "holes_btree_v2": partial(holes, fill=7, growing=2, options=LATEST, **gzip),
    "holes_paged": partial(holes, fill=7, chunks=ones, options=LATEST),
    "holes_deep": partial(holes, fill=7, chunks=ones, growing=1, options=LATEST),
    "chunks_unwritten": partial(unwritten, fill=0, chunks=True),
    "chunks_unwritten_fill": partial(unwritten, fill=7, chunks=True, compression="gzip"),
    "shrunk_and_grown": shrunk_and_grown,
    "grown": grown,
    "user_block_512": partial(user_block, size=512),
    "user_block_4096": partial(user_block, size=4096, chunks=tiles, **gzip),
    "tracked_order": tracked,
    **{
        f"libver_{version}": partial(chunked, options={"libver": (version, version)})
        for version in ("v108", "v110", "v112", "v114", "v200")
    },
}
"""By name. Those with two unlimited axes (`btree_v2`) need values of rank 2 or more."""

SIGNATURES: dict[str, bytes] = {
    "fixed_array": b"FAHD",
    "extensible_array": b"EAHD",
    "btree_v2": b"BTHD",
}
"""By the beginning of a form's name, the bytes by which its chunk index is known in the file."""
