"""One array through every filter that stored chunks pass: HDF5's own, their orders, plug-ins."""

import zlib
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from h5py import h5p, h5z

from tests.files.storage import Write, create, low_level, tiles
from tests.files.variant import Array

filtered = partial(create, chunks=tiles)


def deflate_then_shuffle(properties: h5p.PropDCID, shape: tuple[int, ...]) -> None:
    """Set the two filters in the order that nobody means."""
    properties.set_chunk(tiles(shape))
    properties.set_deflate(6)
    properties.set_shuffle()


def checked_first(properties: h5p.PropDCID, shape: tuple[int, ...]) -> None:
    """Add up the values before they are compressed."""
    properties.set_chunk(tiles(shape))
    properties.set_fletcher32()
    properties.set_shuffle()
    properties.set_deflate(4)


def deflate_twice(properties: h5p.PropDCID, shape: tuple[int, ...]) -> None:
    """Set one filter two times."""
    properties.set_chunk(tiles(shape))
    properties.set_deflate(1)
    properties.set_deflate(9)


def nbit(properties: h5p.PropDCID, shape: tuple[int, ...]) -> None:
    """Pack the bits that a number has."""
    properties.set_chunk(tiles(shape))
    properties.set_filter(h5z.FILTER_NBIT, h5z.FLAG_OPTIONAL, ())


def masked(path: Path, name: str, values: Array) -> Array:
    """Store chunks directly, each with another set of filters left out."""
    tile = tiles(values.shape)
    with h5py.File(path, "w") as f:
        made = f.create_dataset(
            name, values.shape, values.dtype, chunks=tile, shuffle=True, compression="gzip"
        )
        for number, corner in enumerate(
            np.ndindex(*(-(-n // t) for n, t in zip(values.shape, tile, strict=True)))
        ):
            offset = tuple(i * t for i, t in zip(corner, tile, strict=True))
            part = values[tuple(slice(o, o + t) for o, t in zip(offset, tile, strict=True))]
            whole = np.zeros(tile, values.dtype)
            whole[tuple(slice(0, n) for n in part.shape)] = part
            made.id.write_direct_chunk(offset, encoded(whole, number % 4), number % 4)
    return values


def encoded(chunk: Array, mask: int) -> bytes:
    """Shuffle and deflate a chunk, but for the filters in the mask: 1 shuffle, 2 deflate."""
    raw = chunk.tobytes()
    if not mask & 1:
        raw = np.frombuffer(raw, "u1").reshape(-1, chunk.itemsize).T.tobytes()
    return raw if mask & 2 else zlib.compress(raw)


def noise(path: Path, name: str, values: Array) -> Array:
    """Store random bits in the form of `values`, which LZF leaves as they are, and says so."""
    bits = np.random.default_rng(0).integers(0, 256, values.nbytes).astype("u1")
    return filtered(path, name, bits.view(values.dtype).reshape(values.shape), compression="lzf")


def keywords(**filters: Any) -> Write:
    """Store in chunks with the filters that h5py's keywords name."""
    return partial(filtered, **filters)


FILTERS: dict[str, Write] = {
    "gzip": keywords(compression="gzip"),
    "gzip_0": keywords(compression="gzip", compression_opts=0),
    "gzip_9": keywords(compression="gzip", compression_opts=9),
    "shuffle": keywords(shuffle=True),
    "fletcher32": keywords(fletcher32=True),
    "lzf": keywords(compression="lzf"),
    "shuffle_gzip": keywords(shuffle=True, compression="gzip"),
    "shuffle_lzf": keywords(shuffle=True, compression="lzf"),
    "shuffle_fletcher32": keywords(shuffle=True, fletcher32=True),
    "gzip_fletcher32": keywords(compression="gzip", fletcher32=True),
    "lzf_fletcher32": keywords(compression="lzf", fletcher32=True),
    "shuffle_gzip_fletcher32": keywords(shuffle=True, compression="gzip", fletcher32=True),
    "shuffle_lzf_fletcher32": keywords(shuffle=True, compression="lzf", fletcher32=True),
    "deflate_then_shuffle": partial(low_level, settings=deflate_then_shuffle),
    "fletcher32_first": partial(low_level, settings=checked_first),
    "deflate_twice": partial(low_level, settings=deflate_twice),
    "lzf_incompressible": noise,
    "masked": masked,
}
"""By name, the filters of which `h5dask` decodes each by itself; values of any type."""

OTHERS: dict[str, Write] = {
    "szip": keywords(compression="szip", compression_opts=("nn", 4)),
    "nbit": partial(low_level, settings=nbit),
    "zstd": keywords(**hdf5plugin.Zstd()),
    "blosc": keywords(**hdf5plugin.Blosc(cname="lz4", shuffle=hdf5plugin.Blosc.SHUFFLE)),
    "blosc2": keywords(**hdf5plugin.Blosc2()),
    "lz4": keywords(**hdf5plugin.LZ4()),
    "bitshuffle": keywords(**hdf5plugin.Bitshuffle()),
    "zstd_shuffle_fletcher32": keywords(shuffle=True, fletcher32=True, **hdf5plugin.Zstd()),
}
"""By name, filters that only HDF5 decodes; values of rank 1 or more of any number type."""

INTEGER_ONLY: dict[str, Write] = {"scaleoffset": keywords(scaleoffset=0)}
"""By name, filters that keep integers and no other numbers bit for bit."""
