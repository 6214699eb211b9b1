"""The one form that files end to end have together: whose groups go by which numbers."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from h5dask import layouts
from h5dask.contents import Contents
from h5dask.grouping import arrange
from h5dask.joining.attrs import equal
from h5dask.layout import Layout
from h5dask.pattern import parse, placeholders


def new_numbers(
    layout: Layout, labels: Sequence[Mapping[str, Any]], distinct: Sequence[Mapping[str, Any]]
) -> list[dict[int, int]]:
    """Return the new number of each part's groups by the old one, {} where none are numbered."""
    if layout.renumber is None:
        return [{} for _ in labels]
    pairs = (
        (before[layout.numbered], after[layout.numbered])
        for before, after in zip(labels, distinct, strict=True)
    )
    return [dict(zip(old.tolist(), new.tolist(), strict=True)) for old, new in pairs]


def joined_contents(
    files: Sequence[Contents], numbers: Sequence[Mapping[int, int]], *, say: bool = False
) -> Contents:
    """Return one form for files end to end: the first's, and what only later ones have of it.

    What the layout doesn't know is the first file's: nobody can say how that lies end to end. Of
    a dataset or group that several have, attributes go that aren't the same in all of these.

    Parameters
    ----------
    files : sequence of Contents
        In order.
    numbers : sequence of mapping
        New numbers of each file's groups by old ones, as `new_numbers` gives them.
    say : bool, default False
        Whether what goes is warned of.
    """
    layout = layouts.get(files[0].layout)
    forms = [_renumbered(layout, one, new) for one, new in zip(files, numbers, strict=True)]
    whole = forms[0].joined([_declared(layout, other) for other in forms[1:]])
    lost = _unshared(layout, forms)
    if not lost:
        return whole
    if say:
        told = ", ".join(f"{path} ({', '.join(sorted(names))})" for path, names in lost.items())
        warnings.warn(
            f"{told}: attributes left out of the joined Dataset; they aren't the same in "
            f"{files[0].subject} and all others",
            UserWarning,
            stacklevel=4,
        )
    attrs = dict(whole.attrs)
    for path, names in lost.items():
        attrs[path] = tuple(one for one in attrs.get(path, ()) if one.name not in names)
    return replace(whole, attrs=attrs)


def _unshared(layout: Layout, forms: Sequence[Contents]) -> dict[str, set[str]]:
    """Return by path the attributes of datasets and groups that not all files with these share.

    Neither those that the layout declares, nor the root's, which the Dataset has.
    """
    known = {(spec.path, spec.name) for spec in layout.attrs}
    patterns = [path for path, _ in known if placeholders(path)]
    there = [{*form.paths, *form.groups} for form in forms]
    times = Counter(path for paths in there for path in paths)
    found: dict[str, set[str]] = {}
    for path in {path for form in forms for path in form.attrs if times[path] > 1} - {""}:
        held = [
            {one.name: one.value for one in form.attrs.get(path, ())}
            for form, paths in zip(forms, there, strict=True)
            if path in paths
        ]
        fitting = {path, *(one for one in patterns if parse(one, path) is not None)}
        own = {
            name
            for name in set[str]().union(*held)
            if not any((one, name) in known for one in fitting)
            and not all(name in one and equal(one[name], held[0].get(name)) for one in held)
        }
        if own:
            found[path] = own
    return found


def _renumbered(layout: Layout, contents: Contents, numbers: Mapping[int, int]) -> Contents:
    """Return contents whose groups have new numbers, and remember these for each of its files."""
    if layout.renumber is None:
        return contents
    if not (contents.others or contents.numbers):
        return replace(layout.renumber(contents, numbers), numbers=numbers)
    known = [
        {old: numbers[new] for old, new in part.numbers.items() if new in numbers}
        for part in contents.parts
    ]
    others = zip(contents.others, known[1:], strict=True)
    return replace(
        layout.renumber(contents, numbers),
        numbers=known[0],
        others=tuple(replace(part, numbers=new) for part, new in others),
    )


def _declared(layout: Layout, contents: Contents) -> Contents:
    """Return contents without what the layout doesn't know, and without text of no rows."""
    groups = arrange(layout, contents).groups
    with_rows = set()
    for counts in groups.counts.values():
        with_rows |= {groups.keys[i][:1] for i in np.flatnonzero(counts).tolist()}
    kept = []
    for i, path in enumerate(contents.paths):
        match = layout.spec_of(path)
        if match is None:
            continue
        spec, _, keys = match
        shared = layout.keep_empty and spec.ragged and spec.group_keys != layout.group_keys
        if not shared or tuple(keys[key] for key in spec.group_keys) in with_rows:
            kept.append(i)
    known = contents.only(kept)
    above = {"/".join(path.split("/")[:n]) for path in known for n in range(path.count("/") + 1)}
    forms = {path: form for path, form in contents.groups.items() if path in above}
    return replace(known, groups=forms)
