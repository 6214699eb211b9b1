"""big-ann's ground truth in and out, its squared distances and inner products converted; bare ids.

Ours: euclidean not squared; ip 1 - a.b, for integer vectors -a.b; ascending. Theirs: squared
euclidean ascending, plain a.b descending. How neighbors are computed isn't known here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from numpy.typing import NDArray

from h5dask.errors import LayoutError, Refused
from h5dask.indexes import RaggedIndex
from h5dask.storage import bigann
from h5dask.storage.region import Region
from h5dask.storage.remote import Source, UrlPath, absolute, expand
from h5dask.storage.vectors import IVECS, NPY_OF_IDS
from h5dask.vectors import counted_blocks, ending_of
from h5dask.vectors.conventions import METRICS, ours, stored_ids, theirs
from h5dask.vectors.raw import Chunks, Placed, block_lengths, lazily, write_raw

ENDINGS = (".bin", ".ivecs")
"""Files of ground truth that are written: ids and distances, or ids alone."""
_BARE = {".ivecs": IVECS, ".npy": NPY_OF_IDS}
"""Files of ids alone."""
READ = (".bin", *_BARE)
"""Files of ground truth that are read."""
_QUERY, _PAIR = ("query", "neighbor"), ("pair",)


def read_truth(
    urlpath: UrlPath,
    metric: str | None = None,
    *,
    integers: bool | None = None,
    chunks: Chunks = "auto",
    storage_options: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Open big-ann's ground truth (.bin), or ids alone, lazily and in our convention.

    Parameters
    ----------
    urlpath : str or path
        Local path or fsspec URL, ending in .bin, or in .ivecs or .npy for ids alone. A .bin holds
        the nearest of each query or all pairs within a radius; its size tells which.
    metric : "euclidean" or "ip"
        What the distances of a .bin are: the file doesn't say. Not needed for ids.
    integers : bool
        Whether the vectors are integers, which "ip" needs to know: -a.b then, else 1 - a.b.
    chunks : "auto", int or str
        As in `vectors.open_vectors`.
    storage_options : mapping, optional
        Options of the fsspec filesystem.

    Returns
    -------
    Dataset
        `neighbors` (query, neighbor) int64 and, of a .bin, `distances` (query, neighbor) float64,
        with `distance` among the attributes. Of pairs within a radius both are (pair,), in the
        file's order, and the coord `row_size` (query), a `RaggedIndex`, says how many are whose.
        Ids are as stored. Memory per task: a block, twice.

    Raises
    ------
    CorruptInput
        Size and header disagree (both are named).
    Refused
        The metric isn't given, or isn't one of big-ann's.
    LayoutError
        A .npy holds other values than ids, a row a query.
        When computed: the values contradict the metric. Squared distances are never negative,
        and don't descend from neighbor to neighbor; inner products don't ascend.

    Notes
    -----
    The root is taken in float64, so that `write_truth` gives the file's own float32 back bit for
    bit. Where distances were rounded to float32 in between, as in a file of vectors with their
    ground truth, root and square differ by up to two units in the last place. 1 - a.b is exact
    in float64 but for products below 2**-29, whose last bits are lost.

    Examples
    --------
    >>> import tempfile
    >>> rows = {"neighbors": [[4, 2]], "distances": [[0.5, 3.0]]}
    >>> ds = xr.Dataset({name: (("query", "neighbor"), row) for name, row in rows.items()})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_truth(ds, f"{folder}/gt.bin", "euclidean")
    ...     np.fromfile(f"{folder}/gt.bin", "<f4")[4:], read_truth(
    ...         f"{folder}/gt.bin", "euclidean"
    ...     ).distances.values
    (array([0.25, 9.  ], dtype=float32), array([[0.5, 3. ]]))
    """
    ending = _known_ending(urlpath, READ)
    sources = expand(urlpath, storage_options)
    if len(sources) > 1:
        raise Refused(f"{sources[0].url}: one of {len(sources)} files, where one is read; name one")
    source = sources[0]
    _refuse_metric(source.url, ending, metric, integers)
    if ending in _BARE:
        with source.open() as file:
            region = _BARE[ending].find(source, file)
        ids = _read(source, region, "neighbors", chunks).astype(np.int64)
        return xr.Dataset({"neighbors": (_QUERY, ids)})
    found = bigann.find_truth(source)
    dims = _QUERY if found.counts is None else _PAIR
    convert = partial(ours, metric=str(metric), integers=bool(integers), subject=source.url)
    ids = _read(source, found.ids, "neighbors", chunks).astype(np.int64)
    stored = _read(source, found.distances, "distances", chunks)
    distances = _converted(stored, convert, np.dtype(np.float64))
    ds = xr.Dataset(
        {"neighbors": (dims, ids), "distances": (dims, distances)}, attrs={"distance": metric}
    )
    if found.counts is None:
        return ds
    counts = bigann.read_counts(source, found.counts)
    index = RaggedIndex(_QUERY[0], _PAIR[0], ds.sizes[_PAIR[0]], {"row_size": counts})
    return ds.assign_coords(xr.Coordinates.from_xindex(index))


def write_truth(
    ds: xr.Dataset,
    urlpath: str | os.PathLike[str],
    metric: str | None = None,
    *,
    integers: bool | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write neighbors as big-ann's ground truth (.bin), or their ids alone (.ivecs).

    Parameters
    ----------
    ds : Dataset
        `neighbors` and, for a .bin, `distances`, both (query, neighbor); or both (pair,) with
        `row_size` (query). Distances are in our convention: euclidean not squared, ip 1 - a.b, for
        integer vectors -a.b.
    urlpath : str or path
        Local path or fsspec URL, ending in .bin or .ivecs. It appears whole or not at all.
    metric : "euclidean" or "ip"
        What the distances are. Not needed for .ivecs.
    integers : bool
        Whether the vectors are integers, which "ip" needs to know.
    overwrite : bool, default False
        Whether an existing file is replaced.
    storage_options : mapping, optional
        Options of the fsspec filesystem.

    Raises
    ------
    Refused
        The metric isn't given, isn't one of big-ann's (angular isn't) or isn't the Dataset's own,
        or an id or a distance doesn't fit int32 or float32.
    LayoutError
        A variable is missing or has other dims, or the distances contradict the metric: negative
        or descending ones, NaN.
    Conflict
        The target is there already.

    Notes
    -----
    Memory per task: a block, twice. Squares are rounded to float32 once; see `read_truth`.
    """
    url = absolute(urlpath)
    ending = _known_ending(url, ENDINGS)
    said = ds.attrs.get("distance")
    if None not in (said, metric) and said != metric:
        raise Refused(
            f"{url}: found metric={metric!r}, expected {said!r} as the Dataset's attribute "
            "'distance' says; correct one of the two"
        )
    _refuse_metric(url, ending, metric, integers)
    named = ("neighbors",) if ending == ".ivecs" else ("neighbors", "distances")
    _refuse_dims(ds, url, named, ranged=ending == ".bin" and "row_size" in ds.variables)
    ids = _converted(
        _blocks(ds, "neighbors"),
        partial(stored_ids, subject=url),
        np.dtype(bigann.ID),
        name="neighbors",
    )
    if ending == ".ivecs":
        region = Region(offset=0, shape=ids.shape, dtype=bigann.ID.str, counted=True)
        head = IVECS.header(ids.shape, bigann.ID)
        arrays = [Placed(name="neighbors", values=counted_blocks(ids, region), region=region)]
    else:
        convert = partial(theirs, metric=str(metric), integers=bool(integers), subject=url)
        stored = _converted(_blocks(ds, "distances"), convert, bigann.DISTANCE)
        head, arrays = _bin(ds, url, ids, stored)
    write_raw(url, head, arrays, overwrite=overwrite, storage_options=storage_options)


def _bin(ds: xr.Dataset, url: str, ids: da.Array, stored: da.Array) -> tuple[bytes, list[Placed]]:
    """Return header and arrays of a .bin of either form."""
    arrays = []
    second = int(ids.shape[-1])
    if "row_size" in ds.variables:
        counts = np.asarray(ds["row_size"].values)
        total = ids.shape[0]
        if int(counts.sum()) != total or (counts < 0).any():
            raise LayoutError(
                f"{url}: found a row_size that adds up to {int(counts.sum()):,}, expected "
                f"{total:,}, the number of pairs; select rows and pairs together"
            )
        n = len(counts)
        found = bigann.within(n, total)
        assert found.counts is not None
        values = da.from_array(counts.astype(bigann.ID))
        arrays.append(Placed(name="row_size", values=values, region=found.counts))
    else:
        n = int(ids.shape[0])
        found = bigann.nearest(n, second)
    arrays.append(Placed(name="neighbors", values=ids, region=found.ids))
    arrays.append(Placed(name="distances", values=stored, region=found.distances))
    return bigann.header(n, second), arrays


def _read(source: Source, region: Region, name: str, chunks: Chunks) -> da.Array:
    array = region.array(source, name)
    stored = array.shape[::-1] if region.by_columns else array.shape
    lengths = block_lengths(source.url, stored, array.dtype.itemsize, chunks)
    if not region.by_columns:
        return lazily(source, array, lengths)
    turned: da.Array = lazily(source, array, lengths[::-1]).T
    return turned


def _converted(
    values: da.Array, convert: Any, dtype: np.dtype[Any], name: str = "distances"
) -> da.Array:
    """Return what a function of a block and its first row makes of an array, whole rows a block."""
    whole = values.rechunk(dict.fromkeys(range(1, values.ndim), -1))
    starts = np.cumsum([0, *whole.chunks[0][:-1]]).reshape(-1, *(1,) * (values.ndim - 1))
    at = da.from_array(starts, chunks=1, name=f"start-{name}-{tokenize(whole.name)}")
    token = tokenize(whole.name, convert)
    made: da.Array = da.map_blocks(
        _with_start, whole, at, convert=convert, dtype=dtype, chunks=whole.chunks,
        name=f"convert-{name}-{token}", meta=np.empty((0,) * values.ndim, dtype),
    )  # fmt: skip
    return made


def _with_start(block: NDArray[Any], start: NDArray[np.int64], convert: Any) -> Any:
    return convert(block, int(start.ravel()[0]))


def _known_ending(urlpath: Any, known: Sequence[str]) -> str:
    ending = ending_of(urlpath)
    if ending not in known:
        raise Refused(
            f"{urlpath}: found the ending {ending!r}, expected one of {', '.join(known)}, which "
            "hold ground truth"
        )
    return ending


def _refuse_metric(url: str, ending: str, metric: str | None, integers: bool | None) -> None:
    """Raise where nobody could say what distances mean."""
    if ending != ".bin":
        return
    if metric not in METRICS:
        told = "no metric" if metric is None else f"metric={metric!r}"
        raise Refused(
            f"{url}: found {told}, expected one of {', '.join(map(repr, METRICS))}, which are all "
            "that big-ann's distances can be; name it, or take ids alone as .ivecs"
        )
    if metric == "ip" and integers is None:
        raise Refused(
            f"{url}: found metric='ip' alone, expected integers=True where vectors are integers "
            "(distances are -a.b) or integers=False where not (1 - a.b); say which"
        )


def _refuse_dims(ds: xr.Dataset, url: str, named: tuple[str, ...], *, ranged: bool) -> None:
    dims = _PAIR if ranged else _QUERY
    wrong = {name: ds[name].dims if name in ds.variables else "nothing" for name in named}
    wrong = {name: found for name, found in wrong.items() if found != dims}
    if wrong:
        told = ", ".join(f"{name}: {found}" for name, found in wrong.items())
        raise LayoutError(
            f"{url}: found {told}; expected the dims {dims!r} of {' and '.join(named)}; "
            "transpose or rename them"
        )


def _blocks(ds: xr.Dataset, name: str) -> da.Array:
    x = ds[name].data
    if isinstance(x, da.Array):
        return x
    x = np.asarray(x)
    values: da.Array = da.from_array(x, block_lengths(name, x.shape, x.dtype.itemsize, "auto"))
    return values
