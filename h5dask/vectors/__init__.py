"""Vectors to search among: rows of numbers of any kind of file, opened and written.

Ground truth, and what is computed of vectors, isn't known here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from h5dask import blocks
from h5dask.errors import LayoutError, Refused
from h5dask.results import write_result
from h5dask.storage.region import Region, counted
from h5dask.storage.remote import UrlPath, absolute, expand
from h5dask.storage.vectors import DTYPES, FORMATS, IDS
from h5dask.vectors.files import DIMS, NAME, of_layout, of_parquet, of_rows, of_zarr
from h5dask.vectors.raw import Chunks, Placed, block_lengths, block_size, write_raw


def open_vectors(
    urlpath: UrlPath | Sequence[UrlPath],
    *,
    variable: str | None = None,
    select: Mapping[str, Any] | None = None,
    chunks: Chunks = "auto",
    storage_options: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Open rows of numbers, whatever kind of file holds them, as lazy vectors.

    Parameters
    ----------
    urlpath : str, path, file object, or list of them
        By its ending: .npy, .fbin, .u8bin, .i8bin, .fvecs, .bvecs, .parquet, .zarr; anything else
        is a file of one of the layouts, several of which may lie end to end.
    variable : str, optional
        Which variable, or column of parquet: without it the one that a layout names as its
        vectors, "emb" in parquet, "vectors" or the only one of two dims in .zarr.
    select : mapping, optional
        Labels to select where there are coords: ``{"layer": 13}``, ``{"scenario": "base"}``. A
        dim between rows and features must have one label left.
    chunks : "auto", int or str, default "auto"
        "auto": blocks of about `h5dask.block-size` (16 MiB); a number: rows of a block; a size
        such as "64 MiB".
    storage_options : mapping, optional
        Options of the fsspec filesystem.

    Returns
    -------
    DataArray
        (vector, feature) of the stored dtype: float16, float32, float64, int8 or uint8. Ids and
        labels that the file has as coords stay coords of `vector`. Nothing is read but metadata.
        A task that reads a block takes the block's bytes and about 4 MiB more, 32 MiB with
        parquet. A row group of parquet is one block up to 128 MiB; a larger one is decoded from
        its beginning for every 128 MiB of it, so write smaller ones. Where the columns of a .npy
        lie end to end (Fortran order) a block may read up to 16 times its bytes. Values of .zarr
        that change underneath go unseen, as nothing tells that state of a folder.

    Raises
    ------
    NotFound
        The file, variable or label isn't there.
    CorruptInput
        Header and size of the file disagree (both are named), or what is read isn't rows of one
        width.
    LayoutError
        The variable isn't rows of features, or no vectors by its dtype.
    Refused
        The layout has no vectors, several layers remain, or pyarrow is missing.

    Examples
    --------
    >>> import h5dask
    >>> from h5dask.testing import example_file
    >>> x = h5dask.open_vectors(example_file("activations"), select={"layer": 13})
    >>> x.dims, x.dtype.name, list(x.coords)[:3]
    (('vector', 'feature'), 'float16', ['scenario', 'branch', 'sample'])
    """
    given = select or {}
    ending = ending_of(urlpath)
    if ending == ".zarr":
        return of_zarr(absolute(cast(str, urlpath)), variable, given, chunks, storage_options)
    if ending in FORMATS or ending == ".parquet":
        sources = expand(urlpath, storage_options)
        if len(sources) > 1:
            raise Refused(
                f"{sources[0].url}: one of {len(sources)} files, where one is opened; name one, or "
                "lay them end to end with xarray.concat"
            )
        if given or (variable and ending in FORMATS):
            raise Refused(
                f"{sources[0].url}: found select={given!r}, variable={variable!r}, but such a file "
                "has neither labels nor names; leave them out"
            )
        if ending == ".parquet":
            return of_parquet(sources[0], variable, chunks)
        return of_rows(sources[0], ending, chunks)
    return of_layout(urlpath, variable, given, chunks, storage_options)


def write_vectors(
    x: xr.DataArray,
    urlpath: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write vectors as .npy, .fbin, .u8bin, .i8bin, .fvecs, .bvecs or .zarr.

    Parameters
    ----------
    x : DataArray
        (vector, feature), whatever the dims' names; lazy or in memory. Blocks are written under
        dask's current scheduler, each by the task that computes it. Only .zarr keeps coords.
    urlpath : str or path
        Local path, or fsspec URL (written by way of a local temporary file). It appears whole or
        not at all, and may be what `x` was opened from.
    overwrite : bool, default False
        Whether an existing file is replaced.
    storage_options : mapping, optional
        Options of the fsspec filesystem.

    Raises
    ------
    Refused
        Another ending, or a dtype or shape that such a file can't hold: nothing is converted.
    LayoutError
        `x` hasn't two dims.
    Conflict
        The target is there already.
    OutOfSpace
        The disk is full; nothing is left behind.

    Notes
    -----
    Memory per task: the block; twice that for .fvecs and .bvecs.

    Examples
    --------
    >>> import h5dask, tempfile
    >>> x = xr.DataArray(np.eye(3, 4, dtype="f4"), dims=("vector", "feature"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     h5dask.write_vectors(x, f"{folder}/base.fbin")
    ...     h5dask.open_vectors(f"{folder}/base.fbin").values[1]
    array([0., 1., 0., 0.], dtype=float32)
    """
    url = absolute(urlpath)
    ending = ending_of(url)
    _refuse_unfit(x, url, ending)
    if ending == ".zarr":
        rows = max(1, block_size("auto") // max(1, x[:1].nbytes))
        even = x.chunk(dict(zip(x.dims, (rows, -1), strict=True)))
        result = even.rename(None).to_dataset(name=NAME)
        write_result(result, url, overwrite=overwrite, storage_options=storage_options)
        return
    form = FORMATS[ending]
    native = x.dtype.newbyteorder("=")
    values = _as_blocks(x).astype(native)
    header = form.header(x.shape, native)
    region = Region(offset=len(header), shape=x.shape, dtype=native.str, counted=form.counted)
    if form.counted:
        values = counted_blocks(values, region)
    placed = Placed(name=NAME, values=values, region=region)
    write_raw(url, header, [placed], overwrite=overwrite, storage_options=storage_options)


def counted_blocks(values: da.Array, region: Region) -> da.Array:
    """Return the bytes of counted rows, (row, byte)."""
    rows = blocks.Rows(
        size=values.shape[0],
        nbytes=region.row_nbytes,
        ends=np.cumsum(values.chunks[0]),
        chunk=1,
    )
    whole = values.rechunk((blocks.cut(rows, block_size("auto")), (values.shape[1],)))
    lines: da.Array = whole.map_blocks(
        counted,
        stored=region.dtype,
        dtype=np.uint8,
        chunks=(whole.chunks[0], (region.row_nbytes,)),
        name=f"count-{NAME}-{tokenize(whole.name, region)}",
        meta=np.empty((0, 0), np.uint8),
    )
    return lines


def _refuse_unfit(x: xr.DataArray, url: str, ending: str) -> None:
    """Raise before anything is computed where a kind of file can't hold these vectors."""
    known = (*FORMATS, ".zarr")
    if ending == ".ivecs":
        raise Refused(
            f"{url}: found the ending '.ivecs', which holds ids of neighbors, no vectors; expected "
            f"one of {', '.join(known)}; h5dask ground-truth -o {os.path.basename(url)} writes it"
        )
    if ending not in known:
        raise Refused(f"{url}: found the ending {ending!r}, expected one of {', '.join(known)}")
    if x.ndim != len(DIMS) or not x.shape[1]:
        raise LayoutError(
            f"{url}: found the shape {x.shape!r}, expected rows and 1 feature or more; "
            "select or reshape"
        )
    held = FORMATS[ending].dtypes if ending in FORMATS else DTYPES
    if x.dtype.name not in held:
        way_out = "convert them with x.astype(...), or write .npy or .zarr"
        if x.dtype.name in IDS:
            way_out = "are they ids of neighbors? np.save writes them; if not, x.astype(...)"
        raise Refused(
            f"{url}: found values of {x.dtype.name}, a {ending} holds {' or '.join(held)}; "
            f"{way_out}"
        )


def ending_of(urlpath: Any) -> str:
    """Return how the name of a file ends, "" where it is a list or has no name."""
    named = getattr(urlpath, "name", urlpath) if hasattr(urlpath, "read") else urlpath
    if not isinstance(named, (str, os.PathLike)):
        return ""
    name = os.fspath(named)
    if "://" in name:
        name = urlsplit(name).path or name
    return os.path.splitext(name.rstrip("/"))[1].lower()


def _as_blocks(x: xr.DataArray) -> da.Array:
    if isinstance(x.data, da.Array):
        return x.data
    lengths = block_lengths("x", x.shape, x.dtype.itemsize, "auto")
    values: da.Array = da.from_array(x.values, lengths)
    return values
