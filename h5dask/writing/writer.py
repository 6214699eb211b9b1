"""Write a Dataset as a file of its layout: a skeleton, then bytes, then one rename."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import xarray as xr
from dask.delayed import delayed

from h5dask.check.structure import problems
from h5dask.contents import Contents
from h5dask.errors import NotFound, OutOfSpace, Refused, exists_already
from h5dask.garbage import unsearched
from h5dask.layout import Layout
from h5dask.losses import compute as compute_all
from h5dask.storage.parts import end_placing, new_part, remove_abandoned
from h5dask.storage.publishing import publish, refuse_existing, sync
from h5dask.storage.remote import fingerprint, resolved
from h5dask.storage.skeleton import create
from h5dask.storage.stores.uploads import Part, abort_abandoned, aborted_on_error, offered
from h5dask.writing.delivery import contents_of, deliver, given_all, named_as, refuse_missing
from h5dask.writing.forming import Compression
from h5dask.writing.placing import Written
from h5dask.writing.preparing import Like, Prepared, carried, prepare
from h5dask.writing.uploading import Uploading, begin_upload, finish_upload


def write_dataset(
    ds: xr.Dataset,
    urlpath: str | os.PathLike[str],
    *,
    layout: str | None = None,
    like: Like = None,
    overwrite: bool = False,
    compression: Compression = None,
    allow_large: bool = False,
    compute: bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> Any:
    """Write a Dataset as a file of its layout, whole or not at all.

    What was opened and is written back is the same file: paths, stored types, shapes, chunks,
    filters, attributes and values. Blocks are written in parallel under dask's current
    scheduler; the target's old file stays until the new one is complete, so it may be among the
    inputs. What breaks a rule of the layout, or is worth saying, in the written file and not in
    the one it is like, is a warning.

    Parameters
    ----------
    ds : Dataset
        In the layout's analysis form, lazy or in memory.
    urlpath : str or path
        Local path, or fsspec URL. To S3 uncompressed values go straight from where they are
        computed; all else goes to a store by way of a local temporary file.
    layout : str, optional
        Name of the layout; the one the Dataset was opened as, or recognised by its variables.
    like : Dataset, path or Contents, optional
        Whose form the file gets (chunks, filters, types of attributes, unknown datasets) and
        whose attributes it gets where the Dataset has none. Without it the form the Dataset was
        opened in, else the document's.
    overwrite : bool, default False
        Whether an existing file is replaced.
    compression : "gzip", int, ("gzip", int) or "none", optional
        For all numeric datasets; as in the form without it.
    allow_large : bool, default False
        Whether a file may exceed what its consumer takes.
    compute : bool, default True
        False returns a `dask.delayed.Delayed` that does the work; its temporary file, or its
        unfinished upload, exists until it has run.
    storage_options : mapping, optional
        Options of the fsspec filesystem.

    Returns
    -------
    None or Delayed

    Raises
    ------
    Conflict
        The target exists and `overwrite` is False.
    NotFound
        The target's folder, or the file whose form is kept, isn't there.
    LayoutError
        The Dataset can't be written as the layout; everything that stands in the way is named.
    Refused
        The file would exceed a limit of its consumer, and `allow_large` is False.
    OutOfSpace
        The disk is full; nothing is left behind.
    StoreUnavailable
        A store gave no answer to use before the deadline; nothing is left behind.

    Notes
    -----
    Memory per task: the source block, and for compressed datasets its encoded bytes; to S3 the
    parts that it sends, up to 32 MiB.

    An object in a store appears whole or not at all. Where the store keeps conditions, which is
    tried out once per process under a name beside the target, none is lost unless `overwrite`
    says so; else it is looked up before, and another writer's at the same moment may be.

    Examples
    --------
    >>> import h5dask, tempfile, os
    >>> from h5dask.testing import example
    >>> path = os.path.join(tempfile.mkdtemp(), "queries.h5")
    >>> h5dask.write_dataset(example("ann"), path)
    >>> h5dask.validate(path)
    ()
    """
    if os.fspath(urlpath).endswith("/"):
        raise Refused(f"{os.fspath(urlpath)}: ends in '/', as a folder does; name a file")
    url = resolved(urlpath)
    _refuse_target(url, overwrite, storage_options)
    made = prepare(
        ds, url, layout=layout, like=like, compression=compression, allow_large=allow_large
    )
    if offered(url):
        abort_abandoned(url, storage_options)
    remove_abandoned(url)
    uploading = begin_upload(made, url, storage_options, later=not compute)
    if uploading is not None:
        return _send(made, uploading, overwrite=overwrite, compute=compute)
    target = _Target(new_part(url), url, made.planned.expected, overwrite, storage_options)
    return _write(made, target, compute=compute)


@dataclass(frozen=True, slots=True, eq=False)
class _Target:
    """A file that is made under another name first."""

    temporary: str
    url: str
    expected: Mapping[str, int]
    """Values that must arrive, by path."""
    overwrite: bool
    options: Mapping[str, Any] | None = field(repr=False)


def _write(made: Prepared, target: _Target, *, compute: bool) -> Any:
    """Write a local file, and publish it."""
    temporary, url = target.temporary, target.url
    with _removed_on_error(temporary), named_as(url, temporary):
        with carried(made.planned.plan, made.form) as plan:
            indexes = create(temporary, plan)
        tasks = deliver(made.ds, made.planned, indexes, temporary, later=not compute).tasks()
        if not compute:
            return given_all(_finish, tasks, target)
        written = compute_all(*tasks)
        with _flushed(temporary, url):
            contents = arrived(written, target.expected, temporary, url)
            said = findings(made.layout, contents, made.form)
        publish(temporary, url, target.options, overwrite=target.overwrite)
        _warn(said, stacklevel=4)
        return None


def _send(made: Prepared, uploading: Uploading, *, overwrite: bool, compute: bool) -> Any:
    """Let the tasks send what they compute, and commit it."""
    with aborted_on_error(uploading.upload):
        if not compute:
            rest = replace(uploading, tasks=[])
            return delayed(_finish_upload, pure=False)(uploading.tasks, rest, overwrite)
        said = findings(made.layout, uploading.contents, made.form)
        finish_upload(compute_all(*uploading.tasks), uploading, overwrite=overwrite)
        _warn(said, stacklevel=4)
        return None


@contextmanager
def _removed_on_error(temporary: str) -> Iterator[None]:
    """Leave nothing behind where writing fails or is interrupted."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        end_placing(temporary)
        raise


@contextmanager
def _flushed(temporary: str, url: str) -> Iterator[None]:
    """Bring a file to disk while something else is done, so that publishing it hardly waits.

    An error of the disk is raised here: the system tells it once.
    """
    if "://" in url:
        yield
        return
    with ThreadPoolExecutor(1) as thread:
        flushed = thread.submit(sync, temporary)
        yield
    try:
        flushed.result()
    except OSError as error:
        raise OutOfSpace(f"{url}: could not be written to disk ({error.strerror})") from None


@unsearched()
def findings(layout: Layout, contents: Contents, form: Contents | None) -> tuple[str, ...]:
    """Return the findings in the written file's structure that the file it is like had not."""
    found = problems(layout, contents)
    known = {one.found for one in problems(layout, form)} if found and form is not None else set()
    return tuple(str(one) for one in found if one.found not in known)


def say_findings(layout: Layout, contents: Contents, form: Contents | None) -> None:
    """Warn of what `findings` tells."""
    _warn(findings(layout, contents, form), stacklevel=4)


def _warn(said: Sequence[str], stacklevel: int = 3) -> None:
    if said:
        warnings.warn("\n".join(said), UserWarning, stacklevel=stacklevel)


def _refuse_target(url: str, overwrite: bool, options: Mapping[str, Any] | None) -> None:
    if "://" in url:
        refuse_existing(url, options, overwrite=overwrite)
        return
    if not os.path.isdir(os.path.dirname(url)):
        raise NotFound(f"{url}: no folder {os.path.dirname(url)!r}; make it first")
    if os.path.isdir(url):
        raise NotFound(f"{url}: is a folder; name a file in it")
    with suppress(NotFound):
        fingerprint(url, options)
        if not overwrite:
            raise exists_already(url)


def arrived(
    written: Sequence[Sequence[Written]], expected: Mapping[str, int], temporary: str, url: str
) -> Contents:
    """Return what a finished temporary file holds, after making sure that everything arrived.

    Raises
    ------
    CorruptInput
        A dataset lacks values, or isn't in the file.
    """
    refuse_missing((one for some in written for one in some), expected, url)
    return contents_of(temporary, expected, url)


def _finish(written: Sequence[Sequence[Written]], target: _Target) -> None:
    """Make a complete file appear under its name."""
    with _flushed(target.temporary, target.url):
        arrived(written, target.expected, target.temporary, target.url)
    publish(target.temporary, target.url, target.options, overwrite=target.overwrite)


def _finish_upload(
    results: Sequence[Sequence[Written | Part]], uploading: Uploading, overwrite: bool
) -> None:
    finish_upload(results, uploading, overwrite=overwrite)
