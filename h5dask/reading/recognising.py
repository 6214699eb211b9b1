"""Files, what they hold, and which layout each has; how they make up a Dataset lies elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from h5dask import layouts
from h5dask.contents import Contents
from h5dask.errors import LayoutError, NotFound
from h5dask.layout import Layout
from h5dask.storage.families import families
from h5dask.storage.fetching import several
from h5dask.storage.indexcache import described
from h5dask.storage.remote import Source


def all_described(
    sources: Sequence[Source], layout: str | None
) -> Iterator[tuple[Source, tuple[Layout, Contents, Any]]]:
    """Describe files one after the other, and objects in stores at once."""
    if len(sources) > 1 and not any(source.is_local for source in sources):
        yield from zip(
            sources, several(lambda one: described_as(one, layout), sources), strict=True
        )
    else:
        yield from ((source, described_as(source, layout)) for source in sources)


def described_as(source: Source, layout: str | None) -> tuple[Layout, Contents, Any]:
    """Describe one file as far as opening needs it, and choose its layout."""
    contents, index = described(source, families(layouts.all_layouts()))
    chosen = choose(contents, layout)
    return chosen, replace(contents, layout=chosen.name), index


def choose(contents: Contents, layout: str | None) -> Layout:
    """Return the layout of a name, or the one that a file has."""
    if layout is not None:
        return layouts.get(layout)
    fitting = layouts.fitting(contents)
    if len(fitting) == 1:
        return fitting[0]
    held = held_in(contents)
    if not fitting:
        way_out = "name it with layout= if it is one of them"
        if contents.subject.endswith(".nc"):
            way_out = "a result is opened with xr.open_dataset"
        raise LayoutError(
            f"{contents.subject}: no layout is recognised (the file holds {held}); expected one "
            f"of {', '.join(layouts.names())}; {way_out}"
        )
    names = " and ".join(one.name for one in fitting)
    raise LayoutError(
        f"{contents.subject}: fits {names} (the file holds {held}); name one with layout="
    )


def held_in(contents: Contents) -> str:
    """Return the first of what a file holds, for messages."""
    return ", ".join([*contents.paths, *(g for g in contents.groups if g)][:8]) or "nothing"


def in_group(source: Source, contents: Contents, index: Any, group: str) -> tuple[Contents, Any]:
    """Return only what lies in one group, with the index to match."""
    name = group.strip("/")
    inside = contents.positions_in(name)
    if not inside:
        names = [*islice((g for g in contents.groups if contents.positions_in(g)), 20)] or ["none"]
        there = name in contents.groups
        found = f"group {group!r} holds no dataset" if there else f"no group {group!r}"
        raise NotFound(f"{source.url}: {found}; groups with datasets: {', '.join(names)}")
    return contents.within(name), index.only(inside)
