"""Open, identify and validate files of any layout."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import xarray as xr

from h5dask.check.structure import place_in, problems
from h5dask.contents import Contents
from h5dask.errors import LayoutError, Refused
from h5dask.grouping import arrange, arrange_without
from h5dask.joining import warn_left_out
from h5dask.layout import Layout
from h5dask.problem import Problem
from h5dask.reading.assembly import Chunks, Opened, assemble
from h5dask.reading.checking import value_problems
from h5dask.reading.recognising import all_described, choose, described_as, held_in, in_group
from h5dask.storage.indexcache import described
from h5dask.storage.remote import Source, UrlPath, expand

Options = Mapping[str, Any] | None
MOST_NODES = 10_000
"""Nodes of a DataTree; a file with more groups opens as one Dataset."""


def open_dataset(
    urlpath: UrlPath | Iterable[UrlPath],
    *,
    layout: str | None = None,
    chunks: Chunks = "auto",
    group: str | None = None,
    drop_variables: str | Iterable[str] | None = None,
    storage_options: Options = None,
) -> xr.Dataset:
    """Open one or several files as one labelled, lazy Dataset.

    Parameters
    ----------
    urlpath : str, path, file object, or list of them
        Local path, fsspec URL, open binary file, list, or glob. Several files lie end to end
        along the layout's dim, and each row keeps the file it came from in `source`. One that is
        named twice is there twice, with a warning.
    layout : str, optional
        Name of the layout; recognised from the file without it.
    chunks : "auto", {}, None, int or mapping, default "auto"
        "auto": blocks of about `h5dask.block-size` (16 MiB); {}: stored chunks; None: lazily
        indexed, without dask; a number or mapping: yours.
    group : str, optional
        One group only, such as "scenarios/base" or "structure_3".
    drop_variables : str or iterable of str, optional
        Variables to leave out.
    storage_options : mapping, optional
        Options of the fsspec filesystem.

    Returns
    -------
    Dataset
        In the layout's analysis form. Nothing is read but metadata. A task that reads a block
        takes the block's bytes, and for compressed chunks 4 MiB more.

    Raises
    ------
    NotFound, AccessDenied, CorruptInput
        The file isn't there, can't be read, or isn't HDF5.
    LayoutError
        No layout fits, several do, or what the file holds can't be one Dataset: everything that
        stands in the way is named.

    Examples
    --------
    >>> import h5dask
    >>> from h5dask.testing import example_file
    >>> path = example_file("ann")
    >>> ds = h5dask.open_dataset(path)
    >>> ds.train.dims
    ('vector', 'feature')
    >>> ds.attrs["distance"]
    'euclidean'
    """
    sources = expand(urlpath, storage_options)
    dropped = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables or ())
    chosen, files = _opened(sources, layout, group, dropped)
    _warn_repeated(sources)
    for further in files[1:]:
        warn_left_out(further.source.url, further.arrangement.unknown)
    return assemble(chosen, files, chunks=chunks, drop=dropped)


def open_datatree(
    urlpath: UrlPath,
    *,
    layout: str | None = None,
    chunks: Chunks = "auto",
    drop_variables: str | Iterable[str] | None = None,
    storage_options: Options = None,
) -> xr.DataTree:
    """Open one file as a tree: a node per scenario and branch, or per structure.

    Parameters
    ----------
    urlpath, layout, chunks, drop_variables, storage_options
        As in `open_dataset`.

    Returns
    -------
    DataTree
        Nodes are siblings with the same dim names and may differ in length and width. A layout
        without groups has all its variables at the root.

    Raises
    ------
    Refused
        The file has more than 10,000 groups.
    LayoutError
        As in `open_dataset`.

    Examples
    --------
    >>> import h5dask
    >>> from h5dask.testing import example_file
    >>> tree = h5dask.open_datatree(example_file("proteins"))
    >>> all(name.startswith("structure_") for name in tree.children)
    True
    """
    nodes = open_groups(
        urlpath,
        layout=layout,
        chunks=chunks,
        drop_variables=drop_variables,
        storage_options=storage_options,
    )
    return xr.DataTree.from_dict(nodes)


def open_groups(
    urlpath: UrlPath,
    *,
    layout: str | None = None,
    chunks: Chunks = "auto",
    group: str | None = None,
    drop_variables: str | Iterable[str] | None = None,
    storage_options: Options = None,
) -> dict[str, xr.Dataset]:
    """Return the nodes of `open_datatree` by path, or only those that lie in one group."""
    source = _only(urlpath, storage_options)
    chosen, contents, index = described_as(source, layout)
    if group is not None and group.strip("/"):
        contents, index = in_group(source, contents, index, group)
    dropped = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables or ())
    whole = arrange_without(chosen, contents, dropped)
    if not (whole.variables or whole.misfits):
        raise _empty(source, contents, chosen)
    if not chosen.group_keys:
        _refuse(source, whole.misfits)
        opened = Opened(source=source, contents=contents, index=index, arrangement=whole)
        return {"/": assemble(chosen, [opened], chunks=chunks, drop=dropped)}
    keys = whole.groups.keys
    if len(keys) > MOST_NODES:
        raise Refused(
            f"{source.url}: {len(keys):,} groups, at most {MOST_NODES:,} become a tree; "
            "open_dataset opens them end to end"
        )
    nodes = {}
    for at in range(len(keys)):
        if not any(counts[at] for counts in whole.groups.counts.values()):
            continue
        held = {p for v in whole.variables for lane in v.paths for p in lane[at : at + 1]}
        inside = [contents.position(path) for path in held if path is not None]
        part, where = contents.only(sorted(inside)), index.only(sorted(inside))
        arrangement = arrange_without(chosen, part, dropped)
        _refuse(source, arrangement.misfits)
        mine = [i for i, key in enumerate(arrangement.groups.keys) if key == keys[at]]
        folder, node = _node(chosen, whole.groups.keyed(at))
        if source.content is None:  # what else lies in the folder is read when it is written
            part = replace(part, group=folder, complete=False)
        opened = Opened(source=source, contents=part, index=where, arrangement=arrangement)
        nodes[node] = assemble(chosen, [opened], chunks=chunks, drop=dropped, only=mine)
    return nodes


def _node(layout: Layout, keys: Mapping[str, str]) -> tuple[str, str]:
    """Return a group's folder, and the name of its node: the folder's name, and its other keys."""
    _, *rest = [value for value in keys.values() if value] or [""]
    folder = layout.folder_of(keys)
    return folder, ".".join([folder.rpartition("/")[2], *rest]) or "/"


def identify(urlpath: UrlPath, *, storage_options: Options = None) -> str:
    """Return the name of the layout that a file has.

    Parameters
    ----------
    urlpath, storage_options
        As in `open_dataset`; one file.

    Raises
    ------
    LayoutError
        No layout fits, or several do.

    Examples
    --------
    >>> import h5dask
    >>> from h5dask.testing import example_file
    >>> h5dask.identify(example_file("episodes"))
    'episodes'
    """
    return described_as(_only(urlpath, storage_options), None)[0].name


def validate(
    urlpath: UrlPath,
    *,
    layout: str | None = None,
    values: bool = False,
    notes: bool = False,
    storage_options: Options = None,
) -> tuple[Problem, ...]:
    """Return everything that breaks a rule of the layout's document or consumer.

    Parameters
    ----------
    urlpath, layout, storage_options
        As in `open_dataset`; one file.
    values : bool, default False
        Also read every value and judge it.
    notes : bool, default False
        Also return what is worth saying but no failure.

    Returns
    -------
    tuple of Problem
        Empty where the file is fine.

    Examples
    --------
    >>> import h5dask
    >>> from h5dask.testing import example_file
    >>> h5dask.validate(example_file("ann"), values=True)
    ()
    """
    source = _only(urlpath, storage_options)
    contents, index = described(source)
    chosen = choose(contents, layout)
    found = list(problems(chosen, contents, nbytes=source.nbytes))
    if values:
        arrangement = arrange(chosen, contents)
        if not arrangement.misfits:
            opened = Opened(source=source, contents=contents, index=index, arrangement=arrangement)
            dataset = assemble(chosen, [opened], chunks="auto")
            places = partial(place_in, contents, arrangement)
            found += value_problems(chosen, dataset, source.url, places, source.nbytes)
    return tuple(dict.fromkeys(p for p in found if notes or p.level == "problem"))


def _opened(
    sources: Iterable[Source], layout: str | None, group: str | None, dropped: Collection[str]
) -> tuple[Layout, list[Opened]]:
    """Describe every file; all must have one layout and fit it."""
    files: list[Opened] = []
    chosen: Layout | None = None
    for source, (mine, whole, at) in all_described(tuple(sources), layout):
        contents, index = whole, at
        if chosen is not None and mine.name != chosen.name:
            raise LayoutError(
                f"{source.url}: has the layout {mine.name}, {files[0].source.url} has "
                f"{chosen.name}; only files of one layout lie end to end"
            )
        chosen = mine
        if files and chosen.along is None:
            raise LayoutError(
                f"{source.url}: several {chosen.name} files can't open as one: {chosen.apart}"
            )
        if group is not None and group.strip("/"):
            contents, index = in_group(source, contents, index, group)
        arrangement = arrange_without(chosen, contents, dropped)
        _refuse(source, arrangement.misfits)
        if not arrangement.variables:
            raise _empty(source, contents, chosen)
        files.append(Opened(source=source, contents=contents, index=index, arrangement=arrangement))
    assert chosen is not None
    return chosen, files


def _warn_repeated(sources: Iterable[Source]) -> None:
    """Warn of files that are named several times: their rows will be there as often."""
    counts = Counter(source.url for source in sources if source.content is None)
    for url, n in counts.items():
        if n > 1:
            warnings.warn(
                f"{url}: named {n} times, so its rows are there {n} times; name each file once",
                UserWarning,
                stacklevel=3,
            )


def _only(urlpath: UrlPath, options: Options) -> Source:
    sources = expand(urlpath, options)
    if len(sources) > 1:
        raise Refused(
            f"{sources[0].url}: one of {len(sources)} files, where one is looked at; name one, or "
            "open them end to end with open_dataset"
        )
    return sources[0]


def _empty(source: Source, contents: Contents, layout: Layout) -> LayoutError:
    return LayoutError(
        f"{source.url}: holds none of the datasets of {layout.name} (it holds "
        f"{held_in(contents)}); name the layout that it has, or write the file again"
    )


def _refuse(source: Source, misfits: Iterable[Problem]) -> None:
    lines = [str(problem) for problem in dict.fromkeys(misfits)]
    if lines:
        raise LayoutError("\n".join(lines))
