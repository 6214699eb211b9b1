"""Results that have no layout: labelled Datasets in .nc and .zarr, whole or not at all."""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr
from dask.utils import format_bytes

from h5dask.errors import Conflict, H5daskError, NotFound, Refused, exists_already
from h5dask.losses import compute
from h5dask.reading.checking import refuse_boundless
from h5dask.reading.reader import open_dataset
from h5dask.storage import folders
from h5dask.storage.parts import new_part, remove_abandoned
from h5dask.storage.publishing import publish
from h5dask.storage.publishing import refuse_existing as refuse_object
from h5dask.storage.reaching import reached
from h5dask.storage.remote import expand, resolved, translated
from h5dask.storage.stores.finding import object_at
from h5dask.storage.stores.trying import persistently

FORMATS = (".nc", ".h5", ".zarr")
"""How the name of a result ends: netCDF-4 under the first two names, Zarr."""
_HALF = np.dtype(np.float16)
_TRIES, _PAUSE = 40, 0.05
"""How often, and after how many seconds, an unfinished folder is removed again."""
MOST_IN_MEMORY = 4 * 2**30
"""Bytes of a result that goes into one file of netCDF, by way of memory."""


def write_result(
    ds: xr.Dataset,
    urlpath: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write a result as netCDF-4 or Zarr, by the ending of its name.

    Parameters
    ----------
    ds : Dataset
        Labelled values, lazy ones computed under dask's current scheduler.
    urlpath : str or path
        Ending in .nc or .h5 for netCDF-4, through h5netcdf; in .zarr for Zarr. A file, or a local
        folder, appears whole or not at all. A folder in a store is filled from wherever blocks
        are computed; what was there goes first, and where writing fails nothing stays.
    overwrite : bool, default False
        Whether what is there is replaced.
    storage_options : mapping, optional
        What fsspec needs to reach a store.

    Raises
    ------
    Refused
        Another ending, more values than one file of netCDF takes by way of memory, or values and
        attributes that are neither numbers nor text.
    Conflict
        The target is there already.

    Notes
    -----
    netCDF-4 knows no float16: such values are written as float32, none of them changed.

    Examples
    --------
    >>> import tempfile
    >>> ds = xr.Dataset({"mean": ("layer", [0.5, 2.0])}, coords={"layer": [3, 13]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_result(ds, f"{folder}/mean.nc")
    ...     open_any(f"{folder}/mean.nc")["mean"].values
    array([0.5, 2. ])
    """
    url = resolved(urlpath).rstrip("/")
    refuse_target(url, overwrite=overwrite)
    if "://" in url and not url.endswith(".zarr"):
        refuse_object(url, storage_options, overwrite=overwrite)
    plain = _plain(ds)
    if url.endswith(".zarr"):
        _write_zarr(plain, url, storage_options, overwrite=overwrite)
        return
    if ds.nbytes > MOST_IN_MEMORY:
        raise Refused(
            f"{url}: found {format_bytes(ds.nbytes)} of values; netCDF takes at most "
            f"{format_bytes(MOST_IN_MEMORY)} here; write it as .zarr"
        )
    (whole,) = compute(plain)
    wide = {name: v.astype(np.float32) for name, v in whole.variables.items() if v.dtype == _HALF}
    remove_abandoned(url)
    part = new_part(url)
    try:
        with translated(url), _in_one_line(url):
            whole.assign(wide).to_netcdf(part, engine="h5netcdf", format="NETCDF4")
        publish(part, url, storage_options, overwrite=overwrite)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(part)


def refuse_target(urlpath: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Refuse before anything is computed what no result can be written to; see `write_result`."""
    url = resolved(urlpath).rstrip("/")
    if not url.endswith(FORMATS):
        raise Refused(f"{url}: a result is written as {', '.join(FORMATS)}; name such a file")
    refuse_existing(url, overwrite=overwrite)


def refuse_existing(urlpath: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Refuse before anything is computed what can't be written then.

    Raises
    ------
    NotFound
        There is no such folder.
    Refused
        There is a file where a folder is to be, or a folder where a file is.
    Conflict
        The target is there already.
    """
    url = resolved(urlpath).rstrip("/")
    if "://" in url:
        return  # only the store itself can say so
    if not os.path.isdir(os.path.dirname(url)):
        raise NotFound(f"{url}: found no folder {os.path.dirname(url)!r}; create it first")
    if os.path.isdir(url) != url.endswith(".zarr") and os.path.exists(url):
        raise Refused(f"{url}: found a {'folder' if os.path.isdir(url) else 'file'}; rename it")
    if os.path.exists(url) and not overwrite:
        raise exists_already(url)


def refuse_existing_file(
    url: str, *, overwrite: bool, storage_options: Mapping[str, Any] | None
) -> None:
    """Refuse the same of one file, and ask a store too; see `refuse_existing`."""
    refuse_existing(url, overwrite=overwrite)
    if "://" in url:
        refuse_object(url, storage_options, overwrite=overwrite)


def _plain(ds: xr.Dataset) -> xr.Dataset:
    """Return what files hold: text of any length, in memory, and no index but those of dims."""
    plain = ds.drop_encoding().drop_indexes(list(ds.xindexes))
    text = _text(plain)
    return plain.assign(dict(zip(text, compute(*text.values()), strict=True)))


def _text(ds: xr.Dataset) -> dict[Hashable, xr.Variable]:
    """Return the variables of text as objects, the one kind of it that any length fits into."""
    return {
        name: one.astype(object) for name, one in ds.variables.items() if one.dtype.kind in "OTU"
    }


def _write_zarr(
    ds: xr.Dataset, url: str, options: Mapping[str, Any] | None, *, overwrite: bool
) -> None:
    """Write a Zarr group from wherever its blocks are computed, and put it in its place."""
    if "://" in url:
        _write_zarr_to_store(ds, url, options, overwrite=overwrite)
        return
    remove_abandoned(url)
    part, old = new_part(url), new_part(url)
    try:
        with translated(url):
            with _in_one_line(url):
                writing = _zarr(ds, part)
            compute(writing)
            if os.path.exists(url):
                if not overwrite:
                    raise exists_already(url)
                os.rename(url, old)
            os.rename(part, url)
    finally:
        if os.path.exists(old) and not os.path.exists(url):
            os.rename(old, url)
        shutil.rmtree(old, ignore_errors=True)
        _remove_unfinished(part)


def _write_zarr_to_store(
    ds: xr.Dataset, url: str, options: Mapping[str, Any] | None, *, overwrite: bool
) -> None:
    """Write a Zarr group to a store; its objects appear one by one, and go where one fails."""
    told = _zarr_options(url, options)
    if not overwrite and persistently(url, object_at(f"{url}/*", options).names):
        raise exists_already(url)
    try:
        with reached(url):
            with _in_one_line(url):
                writing = _zarr(ds, url, overwrite=overwrite, storage_options=told)
            compute(writing)
    except Conflict:  # another writer's, which appeared meanwhile
        raise
    except BaseException:
        with suppress(H5daskError):
            for _ in range(_TRIES):
                folders.remove(url, options)
                time.sleep(_PAUSE)
                folders.state_of(url, options)
        raise


def _remove_unfinished(folder: str) -> None:
    """Remove a folder, also where tasks that outlive the one that failed still write into it."""
    for _ in range(_TRIES):
        if not os.path.exists(folder):
            return
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(_PAUSE)


def _zarr(ds: xr.Dataset, url: str, *, overwrite: bool = False, **options: Any) -> Any:
    """Return what writes a group without consolidated metadata, which Zarr 3 doesn't know."""
    mode: Literal["w", "w-"] = "w" if overwrite else "w-"
    return _even(ds).to_zarr(url, mode=mode, compute=False, consolidated=False, **options)


def _zarr_options(url: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what fsspec is told for Zarr: a listing from before wouldn't show what is new."""
    if url.startswith(("sftp://", "ssh://")):
        raise Refused(
            f"{url}: Zarr isn't read or written by SFTP here; copy the folder, or use .nc"
        )
    return {"use_listings_cache": False, **(options or {})}


def _even(ds: xr.Dataset) -> xr.Dataset:
    """Return a Dataset whose blocks are of one length along each dim, as Zarr's chunks are."""
    made: dict[Hashable, xr.Variable] = {}
    for name, one in ds.variables.items():
        longest = {dim: max(1, *lengths) for dim, lengths in one.chunksizes.items()}
        if any(set(lengths[:-1]) - {longest[dim]} for dim, lengths in one.chunksizes.items()):
            made[name] = one.chunk(longest)
    coords = {name: one for name, one in made.items() if name in ds.coords}
    return ds.assign({n: o for n, o in made.items() if n not in coords}).assign_coords(coords)


@contextmanager
def _in_one_line(url: str) -> Iterator[None]:
    """Turn what xarray says of values and attributes that it can't write into one line."""
    try:
        yield
    except H5daskError:
        raise
    except (TypeError, ValueError) as error:
        why = " ".join(str(error).split())
        raise Refused(f"{url}: xarray can't write it ({why}); change or drop that") from None


def open_any(urlpath: str, *, storage_options: Mapping[str, Any] | None = None) -> xr.Dataset:
    """Open a file of any layout, or a result in .nc or .zarr, in blocks.

    Parameters
    ----------
    urlpath : str
        Local path or fsspec URL. A .nc file in a store is read into memory as a whole.
    storage_options : mapping, optional
        What fsspec needs to reach a store.

    Raises
    ------
    Refused
        A small file declares so many values that reading them would never end, or a .nc file in
        a store has more bytes than are read into memory.
    """
    name = urlpath.rstrip("/")
    options = dict(storage_options or {}) if "://" in name else None
    if name.endswith(".zarr"):
        with reached(name):
            told = _zarr_options(name, options) if "://" in name else None
            opening = partial(xr.open_zarr, name, consolidated=False, storage_options=told)
            return _result(name, opening)
    if name.endswith(".nc"):
        if "://" in name:
            return _result(name, partial(_netcdf_in_store, name, options))
        return _result(name, lambda: xr.open_dataset(name, engine="h5netcdf", chunks={}))
    ds = open_dataset(urlpath, storage_options=options)
    sources = expand(urlpath, options)
    refuse_boundless(ds, urlpath, sum(source.nbytes for source in sources))
    return ds


def _netcdf_in_store(url: str, options: Mapping[str, Any] | None) -> xr.Dataset:
    """Read a file by few, large requests: netCDF's library would ask a store for each piece."""
    (source,) = expand([url], options)
    if source.nbytes > MOST_IN_MEMORY:
        raise Refused(
            f"{url}: found {format_bytes(source.nbytes)}; a .nc file in a store is read into "
            f"memory up to {format_bytes(MOST_IN_MEMORY)}; copy it here first"
        )
    with xr.open_dataset(io.BytesIO(source.read()), engine="h5netcdf") as ds:
        return ds.load()


def _result(name: str, opening: Callable[[], xr.Dataset]) -> xr.Dataset:
    """Open what xarray wrote, with its errors as one line."""
    try:
        ds = opening()
        return ds.assign(_text(ds))
    except H5daskError:
        raise
    except FileNotFoundError:
        raise NotFound(f"{name}: not found; check the path") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = " ".join(str(error).split())
        raise Refused(f"{name}: xarray can't open it ({why}); check what wrote it") from None
