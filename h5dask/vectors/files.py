"""Each kind of file that holds vectors, opened as rows and features; which it is, others tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from dask.base import tokenize

from h5dask import layouts
from h5dask.errors import CorruptInput, H5daskError, LayoutError, NotFound, Refused
from h5dask.pattern import parse
from h5dask.reading.checking import refuse_boundless
from h5dask.reading.reader import identify, open_dataset
from h5dask.storage.parquet import parquet_column
from h5dask.storage.remote import Source, expand
from h5dask.storage.vectors import FORMATS, refuse_dtype
from h5dask.vectors.raw import Chunks, block_lengths, block_size, lazily

DIMS = ("vector", "feature")
"""Dims of opened vectors."""
NAME = "vectors"
"""Name of the variable where a file names none, and in a .zarr that is written."""
_EMB, _ID = "emb", "id"
"""Columns of parquet, as public benchmarks of vectors name them."""
_GROUPS = 8
"""A row group of parquet stays one block up to this many block sizes, which blocks then have."""


def of_rows(source: Source, ending: str, chunks: Chunks) -> xr.DataArray:
    """Return the rows of a file that has a header at most."""
    with source.open() as file:
        region = FORMATS[ending].find(source, file)
    array = region.array(source, NAME)
    if region.by_columns:
        lengths = block_lengths(source.url, array.shape[::-1], array.dtype.itemsize, chunks)
        return _vectors(lazily(source, array, lengths[::-1]).T)
    lengths = block_lengths(source.url, array.shape, array.dtype.itemsize, chunks)
    return _vectors(lazily(source, array, lengths))


def of_parquet(source: Source, variable: str | None, chunks: Chunks) -> xr.DataArray:
    """Return a column of lists, with the ids beside it where there are some."""
    name = variable or _EMB
    column = parquet_column(source, name)
    if column.ndim != 2:
        raise LayoutError(
            f"{source.url}: {name}: found one value a row, expected lists of numbers; "
            "name the column of vectors with variable="
        )
    refuse_dtype(f"{source.url}: {name}", column.dtype)
    largest = int(np.diff([0, *column.ends]).max(initial=1))
    size = block_size(chunks if isinstance(chunks, str) else "auto")
    if chunks == "auto" and largest * column.row_nbytes > size * _GROUPS:
        chunks, largest = f"{size * _GROUPS} B", 1
    shape, itemsize = column.shape, column.dtype.itemsize
    lengths = block_lengths(source.url, shape, itemsize, chunks, ends=column.ends, chunk=largest)
    coords = {}
    if _ID in column.beside:
        ids = parquet_column(source, _ID)
        coords[_ID] = (DIMS[0], lazily(source, ids, lengths[:1]))
    found = _vectors(lazily(source, column, lengths), coords)
    refuse_boundless(found.to_dataset(), source.url, source.nbytes)
    return found


def _vectors(values: da.Array, coords: Mapping[str, Any] | None = None) -> xr.DataArray:
    return xr.DataArray(values, dims=DIMS, coords=coords, name=NAME)


def of_zarr(
    url: str,
    variable: str | None,
    select: Mapping[str, Any],
    chunks: Chunks,
    options: Mapping[str, Any] | None,
) -> xr.DataArray:
    """Return a variable of a group, or an array that is by itself."""
    given = dict(options or {}) or None
    try:
        node = zarr.open(url, mode="r", storage_options=given)
        if isinstance(node, zarr.Array):
            refuse_dtype(url, node.dtype)
            lengths = block_lengths(
                url, node.shape, node.dtype.itemsize, chunks, chunk=max(node.chunks[:1], default=1)
            )
            name = f"read-{NAME}-{tokenize(node, lengths)}"
            values = da.from_array(node, lengths, name=name)
            return _as_vectors(xr.DataArray(values, name=NAME), url)
        ds = xr.open_zarr(url, chunks=None, consolidated=False, storage_options=given)
    except FileNotFoundError:
        raise NotFound(f"{url}: not found; check the path") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, H5daskError):
            raise
        why = " ".join(str(error).split())
        raise CorruptInput(f"{url}: zarr can't open it ({why}); check what wrote it") from None
    found = _as_vectors(_chosen(ds, variable or _of_two_dims(ds, url), select, url), url)
    stored = found.encoding.get("chunks") or (1,)
    lengths = block_lengths(url, found.shape, found.dtype.itemsize, chunks, chunk=stored[0])
    blocked = found.to_dataset(name=NAME).chunk(
        dict(zip(DIMS, lengths, strict=True)), name_prefix="read-"
    )
    return blocked[NAME]


def _of_two_dims(ds: xr.Dataset, url: str) -> str:
    """Return the variable that is meant where none is named."""
    names = sorted(str(name) for name, x in ds.data_vars.items() if x.ndim == 2)
    if NAME in names or len(names) == 1:
        return NAME if NAME in names else names[0]
    raise Refused(
        f"{url}: found {len(names)} variables of two dims ({', '.join(names[:20]) or 'none'}), "
        f"expected one, or {NAME!r}; name one with variable="
    )


def of_layout(
    urlpath: Any,
    variable: str | None,
    select: Mapping[str, Any],
    chunks: Chunks,
    options: Mapping[str, Any] | None,
) -> xr.DataArray:
    """Return the vectors of a file of a layout, or of several that lie end to end."""
    first = urlpath if hasattr(urlpath, "read") else expand(urlpath, options)[0].url
    layout = layouts.get(identify(first, storage_options=options))
    subject = first if isinstance(first, str) else str(urlpath)
    name = variable or layout.vectors
    if name is None:
        raise Refused(
            f"{subject}: found a file of {layout.name}, which holds no vectors; expected one of "
            f"{', '.join(_with_vectors())}, or variable= with a variable of two dims"
        )
    spec = next((one for one in layout.arrays if parse(one.name, name) is not None), None)
    if spec is None:
        raise NotFound(
            f"{subject}: no variable {name!r} in {layout.name}; there are "
            f"{', '.join(one.name for one in layout.arrays)}"
        )
    # What shares the rows would cut them to blocks of its own width.
    others = [one.name for one in layout.arrays if one is not spec and not one.coordinate]
    wanted: Any = {spec.dims[0]: chunks} if isinstance(chunks, int) else chunks
    ds = open_dataset(
        urlpath, layout=layout.name, chunks=wanted, drop_variables=others, storage_options=options
    )
    return _as_vectors(_chosen(ds, name, select, subject), subject)


def _with_vectors() -> list[str]:
    return [layout.name for layout in layouts.all_layouts() if layout.vectors]


def _chosen(ds: xr.Dataset, variable: str, select: Mapping[str, Any], subject: str) -> xr.DataArray:
    """Return a variable of the rows with these labels, all coords without an index."""
    if variable not in ds.variables:
        raise NotFound(
            f"{subject}: no variable {variable!r}; there are "
            f"{', '.join(str(name) for name in ds.data_vars) or 'none'}"
        )
    try:
        part = ds.sel(select) if select else ds
    except (LookupError, ValueError, TypeError) as error:
        why = " ".join(str(error).split()).strip("\"'")
        raise NotFound(
            f"{subject}: select={dict(select)!r} finds nothing ({why}); labels are those of "
            f"{', '.join(str(name) for name in ds.coords) or 'no coords'}"
        ) from None
    return part.drop_indexes(list(part.xindexes))[variable]


def _as_vectors(x: xr.DataArray, subject: str) -> xr.DataArray:
    """Return an array of rows and features with those dims, dims of one label between them gone."""
    several = [dim for dim in x.dims[1:-1] if x.sizes[dim] != 1]
    if several:
        dim = several[0]
        labels = ", ".join(str(label) for label in x[dim].values[:20])
        raise Refused(
            f"{subject}: {x.name} has {x.sizes[dim]} of {dim!r} ({labels}), expected one; choose "
            f"it with select={{{str(dim)!r}: ...}}"
        )
    flat = x.isel(dict.fromkeys(x.dims[1:-1], 0))
    if flat.ndim != len(DIMS):
        raise LayoutError(
            f"{subject}: {x.name} has the dims {x.dims!r}, expected rows and features; name "
            "another variable with variable="
        )
    refuse_dtype(f"{subject}: {x.name}", flat.dtype)
    return flat.rename(dict(zip(flat.dims, DIMS, strict=True)))
