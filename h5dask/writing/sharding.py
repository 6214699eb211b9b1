"""Files of one layout that hold so many numbered groups each, and together one Dataset.

How one file is written isn't known here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from dask.utils import parse_bytes
from numpy.typing import NDArray

from h5dask.contents import Contents
from h5dask.errors import Conflict, H5daskError, NotFound, Refused
from h5dask.joining import layout_of
from h5dask.joining.form import joined_contents
from h5dask.layout import Layout
from h5dask.losses import compute
from h5dask.ops.ragged import ragged_of
from h5dask.results import refuse_existing
from h5dask.storage.parts import new_part, remove_abandoned
from h5dask.storage.publishing import publish
from h5dask.storage.remote import filesystem_of, resolved, translated
from h5dask.storage.skeleton import create
from h5dask.writing.delivery import deliver
from h5dask.writing.forming import Compression
from h5dask.writing.preparing import Like, Prepared, carried, complete_form, prepare
from h5dask.writing.writer import arrived, say_findings

DIGITS = 5
"""Digits of a shard's number; more where there are more shards, so that names sort by number."""


def write_shards(
    ds: xr.Dataset,
    urlpath: str | os.PathLike[str],
    *,
    structures: int | None = None,
    nbytes: int | str | None = None,
    layout: str | None = None,
    like: Like = None,
    overwrite: bool = False,
    compression: Compression = None,
    allow_large: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> list[str]:
    """Write a Dataset as several files of its layout, so many structures in each.

    `merged.h5` becomes `merged-00000.h5`, `merged-00001.h5` and so on, structures in the order of
    their numbers. ``open_dataset("merged-*.h5")`` gives the Dataset that was written. A file
    appears whole or not at all, and none before all are complete; so inputs may be among them.

    Parameters
    ----------
    ds : Dataset
        In the layout's analysis form, lazy or in memory; of a layout whose groups are numbered,
        with the `RaggedIndex` that says which owns what.
    urlpath : str or path
        Local path, or fsspec URL, from which the names are made.
    structures : int, optional
        Structures of each file but the last.
    nbytes : int or str, optional
        Bytes of uncompressed values that a file holds at most, such as "2GB"; one structure in any
        case. One of the two must be given.
    layout, like, compression, allow_large, storage_options
        As for `write_dataset`.
    overwrite : bool, default False
        Whether files of such names are replaced; those with higher numbers go.

    Returns
    -------
    list of str
        The files, in order.

    Raises
    ------
    Conflict
        A file of such a name exists, whatever its number, and `overwrite` is False.
    Refused
        The layout's groups have no numbers, there are none, or sizes don't fit.
    NotFound, LayoutError, OutOfSpace
        As for `write_dataset`.

    Notes
    -----
    Files are written one after the other, blocks in parallel. Memory per task as in
    `write_dataset`. Files for a store are made in the local temporary folder first, all of them.

    Examples
    --------
    >>> import h5dask, os, tempfile
    >>> from h5dask.testing import example
    >>> folder = tempfile.mkdtemp()
    >>> made = write_shards(example("proteins"), f"{folder}/merged.h5", structures=1)
    >>> [os.path.basename(path) for path in made]
    ['merged-00000.h5', 'merged-00001.h5']
    >>> h5dask.open_dataset(f"{folder}/merged-*.h5").structure.values
    array([3, 3, 3, 3, 7, 7, 7, 7], dtype=int32)
    """
    url = resolved(urlpath)
    chosen = layout_of(ds, layout)
    shards = _shards(ds, chosen, url, structures=structures, nbytes=nbytes)
    targets = _names(url, len(shards))
    former = _former(url, storage_options)
    if former and not overwrite:
        raise Conflict(
            f"{former[0]}: exists already, one of {len(former):,} such files; choose another name, "
            "or allow them to be overwritten"
        )
    forms = _forms(complete_form(ds.encoding.get("h5dask")), shards)
    remove_abandoned(url)
    parts = {target: new_part(url) for target in targets}
    try:
        for (target, part), numbers, form in zip(parts.items(), shards, forms, strict=True):
            shard = ds.sel({chosen.numbered: numbers})
            shard.encoding["h5dask"] = form
            made = prepare(
                shard, target,
                layout=layout, like=like, compression=compression, allow_large=allow_large,
            )  # fmt: skip
            with _named(part, target):
                _write(made, part, target)
        for target, part in parts.items():
            publish(part, target, storage_options, overwrite=overwrite)
        _remove(set(former) - set(targets), storage_options)
    finally:
        for part in parts.values():
            with suppress(OSError):
                os.unlink(part)
    return targets


def _forms(form: Contents | None, shards: Sequence[NDArray[np.int64]]) -> Iterator[Contents | None]:
    """Yield the form of each file's groups alone, found by halving: planning looks at all of it."""
    if form is None or len(shards) == 1:
        yield from [form] * len(shards)
        return
    half = len(shards) // 2
    for some in (shards[:half], shards[half:]):
        numbers = np.concatenate(some).tolist()
        same = dict(zip(numbers, numbers, strict=True))
        yield from _forms(joined_contents([form], [same]), some)


def _write(made: Prepared, part: str, url: str) -> None:
    """Write one complete file under the name of a part."""
    with carried(made.planned.plan, made.form) as plan:
        indexes = create(part, plan)
    written = compute(*deliver(made.ds, made.planned, indexes, part).tasks())
    contents = arrived(written, made.planned.expected, part, url)
    say_findings(made.layout, contents, made.form)


@contextmanager
def _named(part: str, url: str) -> Iterator[None]:
    """Name the target in errors that name its part."""
    try:
        yield
    except H5daskError as error:
        if part not in str(error):
            raise
        raise type(error)(str(error).replace(part, url)) from None


def _shards(
    ds: xr.Dataset, layout: Layout, url: str, *, structures: int | None, nbytes: int | str | None
) -> list[NDArray[np.int64]]:
    """Return the numbers of the groups of each file."""
    if not layout.numbered:
        raise Refused(
            f"{url}: the layout {layout.name} has no numbered groups by which to divide it; write "
            "one file with write_dataset"
        )
    if (structures is None) == (nbytes is None):
        raise Refused(
            f"{url}: found structures={structures!r} and nbytes={nbytes!r}; expected one of the two"
        )
    index = ragged_of(ds)
    found, of = np.unique(index.table[layout.numbered].values, return_inverse=True)
    if not len(found):
        raise Refused(f"{url}: found no {layout.numbered}; expected one or more; select others")
    if nbytes is None:
        step = _at_least_one("structures", structures)
        borders = [*range(0, len(found), step), len(found)]
    else:
        owned = np.diff(index.offsets) * _width(ds, index.ragged_dim) + _width(ds, index.dim)
        sizes = np.zeros(len(found), np.int64)
        np.add.at(sizes, of, owned)
        borders = _borders(np.cumsum(sizes), _at_least_one("nbytes", nbytes))
    return [found[a:b] for a, b in pairwise(borders)]


def _at_least_one(name: str, given: int | str | None) -> int:
    try:
        number = int(parse_bytes(given)) if isinstance(given, str) else int(given or 0)
    except ValueError:
        number = 0
    if number < 1:
        raise Refused(f"{name}: found {given!r}; expected 1 or more, of bytes as in '2GB' too")
    return number


def _width(ds: xr.Dataset, dim: Any) -> int:
    """Return the bytes that all variables along a dim have for one of it."""
    along = [one for one in ds.data_vars.values() if dim in one.dims]
    return sum(one.nbytes // max(1, one.sizes[dim]) for one in along)


def _borders(ends: NDArray[np.int64], most: int) -> list[int]:
    """Return where runs of groups begin, and the last one ends, of so many bytes at most each."""
    borders, before = [0], 0
    while borders[-1] < len(ends):
        stop = int(np.searchsorted(ends, before + most, side="right"))
        borders.append(max(stop, borders[-1] + 1))
        before = int(ends[borders[-1] - 1])
    return borders


def _names(url: str, n: int) -> list[str]:
    stem, ending = os.path.splitext(url)
    digits = max(DIGITS, len(str(n - 1)))
    return [f"{stem}-{number:0{digits}}{ending}" for number in range(n)]


def _former(url: str, options: Mapping[str, Any] | None) -> list[str]:
    """Return the shards of that name that are there already."""
    refuse_existing(_names(url, 1)[0], overwrite=True)  # where there is no such folder
    folder, slash, name = url.rpartition("/")
    stem, ending = os.path.splitext(name)
    shard = re.compile(rf"{re.escape(stem)}-[0-9]{{{DIGITS},}}{re.escape(ending)}")
    filesystem, path = filesystem_of(folder + slash, options)
    held: Sequence[str] = ()
    with suppress(NotFound), translated(url):
        held = filesystem.ls(path, detail=False)
    names = (one.rpartition("/")[2] for one in held)
    return sorted(f"{folder}{slash}{one}" for one in names if shard.fullmatch(one))


def _remove(urls: set[str], options: Mapping[str, Any] | None) -> None:
    for url in urls:
        filesystem, path = filesystem_of(url, options)
        with suppress(NotFound), translated(url):
            filesystem.rm_file(path)
