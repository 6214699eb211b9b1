"""Write a Dataset as a file of its layout: a skeleton, then bytes, then one rename."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr
from dask.base import compute as compute_all
from dask.delayed import delayed

from h5dask import layouts
from h5dask.check.structure import problems
from h5dask.commonform import joined_contents
from h5dask.contents import Contents
from h5dask.delivery import deliver
from h5dask.errors import (
    Conflict,
    CorruptInput,
    H5daskError,
    InputChanged,
    LayoutError,
    NotFound,
    Refused,
)
from h5dask.forming import Compression
from h5dask.joining import layout_of
from h5dask.layout import Layout
from h5dask.placing import Written
from h5dask.planning import FilePlan, in_order, plan_file
from h5dask.storage.describe import describe
from h5dask.storage.families import families
from h5dask.storage.indexcache import described
from h5dask.storage.parts import new_part, remove_abandoned
from h5dask.storage.remote import (
    FILE_OBJECT,
    Source,
    absolute,
    filesystem_of,
    fingerprint,
    publish,
    resolved,
)
from h5dask.storage.skeleton import Plan, create

Like = xr.Dataset | Contents | str | os.PathLike[str] | None


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
        Local path, or fsspec URL (written by way of a local temporary file).
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
        False returns a `dask.delayed.Delayed` that does the work; its temporary file exists
        until it has run.
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

    Notes
    -----
    Memory per task: the source block, and for compressed datasets its encoded bytes.

    Examples
    --------
    >>> import h5dask, tempfile, os
    >>> from h5dask.testing import example
    >>> path = os.path.join(tempfile.mkdtemp(), "queries.h5")
    >>> h5dask.write_dataset(example("ann"), path)
    >>> h5dask.validate(path)
    ()
    """
    url = resolved(urlpath)
    _refuse_target(url, overwrite, storage_options)
    chosen = layout_of(ds, layout)
    form = complete_form(_of_layout(chosen, _form_of(ds, like), like))
    ds = in_order(chosen, ds)
    planned = plan_file(chosen, ds, form, compression=compression, keep_attrs=like is not None)
    if not allow_large:
        _refuse_large(chosen, planned, url)
    _say_left_out(form)
    remove_abandoned(url)
    temporary = new_part(url)
    rest = planned.expected, temporary, url, overwrite, storage_options
    with _removed_on_error(temporary, url):
        with _carried(planned.plan, form) as plan:
            indexes = create(temporary, plan)
        tasks = deliver(ds, planned, indexes, temporary).tasks()
        if compute:
            contents = _finish(compute_all(*tasks), *rest)
            _say_findings(chosen, contents, form)
            return None
        return delayed(_finish_later, pure=False)(tasks, *rest)


@contextmanager
def _removed_on_error(temporary: str, url: str) -> Iterator[None]:
    """Leave nothing behind where writing fails or is interrupted, and name the target in errors."""
    try:
        yield
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, H5daskError) and temporary in str(error):
            raise type(error)(str(error).replace(temporary, url)) from None
        raise


def _say_left_out(form: Contents | None) -> None:
    """Warn of attributes that only the old file can hold, since they point into it."""
    lost = [link for link in (form.links if form is not None else ()) if "@" in link]
    if lost:
        warnings.warn(
            f"{form.subject if form else ''}: attributes that hold references or unknown types "
            f"are left out: {', '.join(lost[:5])}",
            UserWarning,
            stacklevel=3,
        )


def _say_findings(layout: Layout, contents: Contents, form: Contents | None) -> None:
    """Warn of findings in the written file's structure that the file it is like had not."""
    found = problems(layout, contents)
    known = {one.found for one in problems(layout, form)} if found and form is not None else set()
    said = [str(one) for one in found if one.found not in known]
    if said:
        warnings.warn("\n".join(said), UserWarning, stacklevel=3)


def _refuse_target(url: str, overwrite: bool, options: Mapping[str, Any] | None) -> None:
    if "://" not in url and not os.path.isdir(os.path.dirname(url)):
        raise NotFound(f"{url}: no folder {os.path.dirname(url)!r}; make it first")
    if "://" not in url and os.path.isdir(url):
        raise NotFound(f"{url}: is a folder; name a file in it")
    if "://" in url:
        filesystem_of(url, options)
    with suppress(NotFound):
        fingerprint(url, options)
        if not overwrite:
            raise Conflict(f"{url}: exists already; choose another name, or pass overwrite=True")


def _form_of(ds: xr.Dataset, like: Like) -> Contents | None:
    if like is None or isinstance(like, xr.Dataset):
        form = (ds if like is None else like).encoding.get("h5dask")
        if like is not None and form is None:
            raise LayoutError("like: the Dataset was not opened from a file; name a path instead")
        return form if isinstance(form, Contents) else None
    if isinstance(like, Contents):
        return like
    url = absolute(like)
    return described(Source(url, fingerprint(url)))[0]


def _of_layout(layout: Layout, form: Contents | None, like: Like) -> Contents | None:
    """Return the form if it is one of the layout; of another it says nothing of what is written."""
    if form is None:
        return None
    known = (layouts.get(form.layout),) if form.layout else layouts.fitting(form)
    if layout in known:
        return form
    if like is None:
        return None
    has = " or ".join(one.name for one in known) or "none known"
    raise LayoutError(
        f"{form.subject}: like: its layout is {has}, the Dataset is written as {layout.name}; "
        "name a file of that layout"
    )


def complete_form(form: Contents | None) -> Contents | None:
    """Return a form with all that opening left out, read from the files it describes.

    Raises
    ------
    InputChanged
        A file is no longer the one that was opened, so what was left out can't be known.
    """
    if form is None or form.complete:
        return form
    wholes = []
    for part in form.parts:
        source = Source(part.subject, part.fingerprint)
        _refuse_changed(source)
        whole = described(source)[0]
        wholes.append(replace(whole.within(part.group), layout=form.layout))
    if not form.others:
        return wholes[0]
    return joined_contents(wholes, [part.numbers for part in form.parts])


def _refuse_changed(source: Source) -> None:
    if source.url.startswith(FILE_OBJECT):
        raise Refused(
            f"{source.url}: holds what the layout doesn't know, which is carried over from files "
            "with a path only; open it by its path, or name another form with like="
        )
    if source.changed():
        raise InputChanged(
            f"{source.url}: changed since it was opened, so its form is no longer known; "
            "open it again, or name another form with like="
        )


@contextmanager
def _carried(plan: Plan, form: Contents | None) -> Iterator[Plan]:
    """Give the plan with local files to carry objects over from: those that were opened."""
    marks = {form.subject: form.fingerprint} if form is not None else {}
    marks.update({part.subject: part.fingerprint for part in (form.others if form else ())})
    sources = [Source(subject, marks[subject]) for subject in {source for source, _ in plan.copies}]
    for source in sources:
        _refuse_changed(source)
    with tempfile.TemporaryDirectory() as folder:
        local = {source.url: source.url for source in sources}
        for number, source in enumerate(one for one in sources if not one.is_local):
            local[source.url] = os.path.join(folder, str(number))
            Path(local[source.url]).write_bytes(source.whole())
        yield replace(plan, copies=tuple((local[source], path) for source, path in plan.copies))
    for source in sources:
        _refuse_changed(source)


def _refuse_large(layout: Layout, planned: FilePlan, url: str) -> None:
    if layout.limits is None:
        return
    said = [str(problem) for problem in layout.limits(planned.sizes, planned.nbytes)]
    if said:
        raise Refused(f"{url}: " + "; ".join(said) + "; pass allow_large=True to write it anyway")


def _finish(
    written: Sequence[Sequence[Written]],
    expected: Mapping[str, int],
    temporary: str,
    url: str,
    overwrite: bool,
    options: Mapping[str, Any] | None,
) -> Contents:
    """Check that everything arrived, make the file appear under its name, and tell what it has."""
    counted: Counter[str] = Counter()
    for one in (one for some in written for one in some):
        counted.update(one.counts)
    missing = [path for path, n in expected.items() if counted[path] != n]
    if missing:
        raise CorruptInput(
            f"{url}: /{missing[0]} got {counted[missing[0]]:,} of {expected[missing[0]]:,} "
            "values; nothing was published"
        )
    known = families(layouts.all_layouts())
    contents, _ = describe(temporary, subject=url, fingerprint="", families=known)
    lost = [path for path in expected if path not in contents]
    if lost:
        raise CorruptInput(f"{url}: /{lost[0]} is not in the written file; nothing was published")
    publish(temporary, url, options, overwrite=overwrite)
    return contents


def _finish_later(*given: Any) -> None:
    """Do the same as a task, whose result is nothing."""
    _finish(*given)
