"""What writing needs before a byte is written: the form, the plan, and files to carry over from."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import xarray as xr

from h5dask import layouts
from h5dask.contents import Contents
from h5dask.errors import InputChanged, LayoutError, Refused
from h5dask.garbage import unsearched
from h5dask.joining import layout_of
from h5dask.joining.form import joined_contents
from h5dask.layout import Layout
from h5dask.storage.indexcache import described
from h5dask.storage.remote import FILE_OBJECT, Source, absolute, fingerprint
from h5dask.storage.skeleton import Plan
from h5dask.writing.forming import Compression
from h5dask.writing.planning import FilePlan, in_order, plan_file

Like = xr.Dataset | Contents | str | os.PathLike[str] | None


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A Dataset that can be written, and as what."""

    layout: Layout
    ds: xr.Dataset
    """Its variables with dims in the order of storage."""
    form: Contents | None
    """The complete form that the file is like."""
    planned: FilePlan


@unsearched()
def prepare(
    ds: xr.Dataset,
    url: str,
    *,
    layout: str | None = None,
    like: Like = None,
    compression: Compression = None,
    allow_large: bool = False,
) -> Prepared:
    """Plan the file that a Dataset becomes at a URL; the arguments are `write_dataset`'s."""
    chosen = layout_of(ds, layout)
    form = complete_form(_of_layout(chosen, _form_of(ds, like), like))
    ds = in_order(chosen, ds)
    planned = plan_file(chosen, ds, form, compression=compression, keep_attrs=like is not None)
    if not allow_large:
        _refuse_large(chosen, planned, url)
    _say_left_out(form)
    return Prepared(chosen, ds, form, planned)


def _say_left_out(form: Contents | None) -> None:
    """Warn of attributes that only the old file can hold, since they point into it."""
    lost = [link for link in (form.links if form is not None else ()) if "@" in link]
    if lost:
        warnings.warn(
            f"{form.subject if form else ''}: attributes that hold references or unknown types "
            f"are left out: {', '.join(lost[:5])}",
            UserWarning,
            stacklevel=4,
        )


def shares(ds: xr.Dataset, url: str, **options: Any) -> list[xr.Dataset]:
    """Return a Dataset in as few pieces of whole rows as its layout's consumer takes each.

    Parameters
    ----------
    ds : Dataset
        In the layout's analysis form.
    url : str
        What it is to be written as, for messages.
    options
        `write_dataset`'s layout, like and compression.

    Raises
    ------
    Refused
        Even one row would be too much.
    """
    chosen = layout_of(ds, options.get("layout"))
    along, n = chosen.along, 1
    if chosen.limits is None or along is None or chosen.ragged_dims:
        return [ds]
    size = ds.sizes[along]
    while True:
        ends = [size * i // n for i in range(n + 1)]
        parts = [ds.isel({along: slice(a, b)}) for a, b in pairwise(ends)]
        try:
            for part in parts:
                prepare(part, url, **options)
        except Refused:
            if n >= size:
                raise
            if n == 1:  # what one row has too much of, such as dims, no cut mends
                prepare(ds.isel({along: slice(1)}), url, **options)
            n = min(size, n + max(1, n // 4))
        else:
            return parts


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
    if not (form.others or form.numbers):
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
def carried(plan: Plan, form: Contents | None) -> Iterator[Plan]:
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
            Path(local[source.url]).write_bytes(source.read())
        yield replace(plan, copies=tuple((local[source], path) for source, path in plan.copies))
    for source in sources:
        _refuse_changed(source)


def refuse_large(ds: xr.Dataset, url: str) -> None:
    """Refuse what its layout's consumer would find too large, before values are made for it."""
    if layout_of(ds).limits is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the writer says it
            prepare(ds, url)


def _refuse_large(layout: Layout, planned: FilePlan, url: str) -> None:
    if layout.limits is None:
        return
    said = [
        str(replace(problem, where=url)) for problem in layout.limits(planned.sizes, planned.nbytes)
    ]
    if said:
        text = "; ".join([said[0], *(one.removeprefix(f"{url}: ") for one in said[1:])])
        raise Refused(
            f"{text}; pass allow_large=True to write it anyway, for others (--allow-large)"
        )
