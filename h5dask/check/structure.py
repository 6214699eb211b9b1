"""What a file's structure says about it, without reading a value: all findings, never the first.

The declarations of a layout are judged here, its own rules are asked, and findings that many
groups share become one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from h5dask.check import Place, Position, attributes
from h5dask.check.attributes import place
from h5dask.check.misfit import family
from h5dask.check.summary import collapse
from h5dask.contents import ArrayForm, Contents
from h5dask.grouping import Arranged, Arrangement, arrange
from h5dask.layout import ArraySpec, Layout
from h5dask.pattern import parse
from h5dask.problem import Problem


def problems(layout: Layout, found: Contents, *, nbytes: int = 0) -> tuple[Problem, ...]:
    """Return every finding about a file's structure, problems first.

    Parameters
    ----------
    layout : Layout
        The layout to judge the file by.
    found : Contents
        What the file holds. Where it isn't `complete`, what was left out isn't missed.
    nbytes : int, default 0
        Size of the file, for limits on it.

    Returns
    -------
    tuple of Problem
        Empty where all is as the layout says. What a rule of the layout says about a place
        replaces what the declarations say of the same fact (equal `where` and `found`).
    """
    arrangement = arrange(layout, found)
    if layout.refuse(found) is not None:
        return arrangement.misfits
    every = [
        *layout.rules(found, arrangement.groups),
        *arrangement.misfits,
        *_missing(layout, found),
        *_empty(layout, found, arrangement),
        *_dtypes(found, arrangement),
        *_elsewhere(found, arrangement),
        *attributes.declared(layout, found),
        *attributes.contradictions(layout, found, arrangement),
        *_limits(layout, found, arrangement, nbytes),
        *_unknown(layout, found, arrangement),
        *attributes.unknown(layout, found),
    ]
    first: dict[tuple[str, str], Problem] = {}
    for problem in every:
        first.setdefault((problem.where, problem.found), problem)
    return collapse(first.values(), found.subject)


def place_in(found: Contents, arrangement: Arrangement, name: str) -> Place:
    """Return what finds the dataset, and the position there, of a position in a variable.

    Parameters
    ----------
    found, arrangement : Contents, Arrangement
        The file, and how it makes up the layout's variables.
    name : str
        The variable.
    """
    variable = next(v for v in arrangement.variables if v.name == name)
    spec = variable.spec
    ends = np.cumsum(arrangement.groups.counts[spec.ragged]) if spec.ragged else None

    def find(position: Position) -> tuple[str, Position]:
        at = dict(zip(spec.dims, position, strict=False))
        lane = at.get(spec.stacked[0], 0) if spec.stacked else 0
        rest = tuple(at[dim] for dim in spec.stored_dims[1:] if dim in at)
        row, group = at[spec.stored_dims[0]], 0
        if ends is not None:
            group = int(np.searchsorted(ends, row, "right"))
            row -= int(ends[group - 1]) if group else 0
        path = variable.paths[lane][group]
        if path is None:  # rows of a group that lacks the dataset read as NaN
            return name, position
        shape = found.shape(path)
        leading = shape[: len(shape) - len(spec.stored_dims) + 1]
        return path, (*(int(i) for i in np.unravel_index(row, leading)), *rest)

    return find


def missing_dataset(found: Contents, path: str, doc: str) -> Problem:
    """Return that a required dataset isn't there."""
    return Problem(
        where=found.subject,
        found=f"no dataset {path!r}",
        expected=doc,
        way_out="write it, or name the layout that the file has",
    )


def wrong_dtype(found: Contents, path: str, spec: ArraySpec) -> Problem:
    """Return that a dataset has a dtype that is read but isn't the layout's."""
    form = found.form(path)
    return Problem(
        where=place(found, path),
        found=f"dtype {np.dtype(form.dtype).name if form.is_numeric else form.dtype!r}",
        expected=" or ".join(spec.dtypes),
        way_out="it is read as it is; convert it where the layout's type is needed",
    )


def _missing(layout: Layout, found: Contents) -> Iterator[Problem]:
    """Yield each required dataset that no path has, or that one of the groups lacks."""
    required = [spec for spec in layout.arrays if spec.required]
    present: dict[str, set[str]] = {spec.name: set() for spec in required}
    for path in found:
        match = layout.spec_of(path)
        if match is not None and match[0].name in present:
            depth = family(match[1]).count("/") + 1
            present[match[0].name].add("/".join(path.split("/")[:depth]))
    for spec in required:
        pattern, has = family(spec.paths[0]), present[spec.name]
        if not has:
            # A placeholder's kind is for matching, not for reading.
            yield missing_dataset(found, re.sub(r":[^}]*}", "}", spec.paths[0]), spec.doc)
        elif pattern:
            tail = re.sub(r":[^}]*}", "}", spec.paths[0].removeprefix(f"{pattern}/"))
            for group in found.groups:
                if group not in has and parse(pattern, group) is not None:
                    finding = missing_dataset(found, tail, spec.doc)
                    yield replace(finding, where=place(found, group))


def _empty(layout: Layout, found: Contents, arrangement: Arrangement) -> Iterator[Problem]:
    """Yield the first required variable that has a dim without a row."""
    for variable in arrangement.variables:
        for dim in variable.spec.dims if variable.spec.required else ():
            if arrangement.sizes.get(dim) == 0:
                yield Problem(
                    where=place(found, next(variable.held())),
                    found=f"no rows: 0 along {dim}",
                    expected="at least one",
                    way_out=f"{layout.name} without values can't be used",
                )
                return


def _dtypes(found: Contents, arrangement: Arrangement) -> Iterator[Problem]:
    """Yield each dataset of another dtype than declared, and a note on text of fixed length."""
    for variable in arrangement.variables:
        spec = variable.spec
        told = {
            form: form.dtype.startswith("S")
            or (spec.reads(form.dtype) and not spec.accepts(form.dtype))
            for form in found.forms
        }
        for path, form in _held_in(found, variable, told.__getitem__):
            if form.dtype.startswith("S"):
                yield Problem(
                    where=place(found, path),
                    found=f"text of fixed length ({form.dtype})",
                    expected="variable length",
                    way_out="it is read all the same",
                    level="note",
                )
            else:
                yield wrong_dtype(found, path, spec)


def _elsewhere(found: Contents, arrangement: Arrangement) -> Iterator[Problem]:
    """Yield each dataset whose values lie in other files, which are never followed."""
    for variable in arrangement.variables:
        for path, form in _held_in(found, variable, lambda form: form.storage in _ELSEWHERE):
            yield Problem(
                where=place(found, path),
                found=f"{form.storage} storage, whose values lie in other files",
                expected="values in this file",
                way_out="copy them into it, as with h5repack",
            )


_ELSEWHERE = ("external", "virtual")


def _held_in(
    found: Contents, variable: Arranged, form_is: Callable[[ArrayForm], bool]
) -> Iterator[tuple[str, ArrayForm]]:
    """Yield a variable's datasets whose form is such, and their forms: each form is asked once."""
    such = {of: form for of, form in enumerate(found.forms) if form_is(form)}
    if such:
        paths = [*dict.fromkeys(variable.held())]
        for path, at in zip(paths, found.positions(paths), strict=True):
            if found.form_of[at] in such:
                yield path, such[found.form_of[at]]


def _limits(
    layout: Layout, found: Contents, arrangement: Arrangement, nbytes: int
) -> Iterable[Problem]:
    """Return what the file's consumer finds too large."""
    if layout.limits is None:
        return []
    told = layout.limits(arrangement.sizes, nbytes)
    return [replace(problem, where=found.subject) for problem in told]


def _unknown(layout: Layout, found: Contents, arrangement: Arrangement) -> Iterator[Problem]:
    """Yield a note on each dataset and link that isn't read."""
    for path in arrangement.unknown:
        yield Problem(
            where=place(found, path),
            found=f"unknown dataset {path.rpartition('/')[2]!r}",
            expected=f"names that the layout {layout.name!r} has, of types that arrays hold",
            way_out="a rewrite carries it over unchanged",
            level="note",
        )
    for path, target in found.links.items():
        yield Problem(
            where=place(found, path),
            found=f"a link or reference that isn't followed ({target})",
            expected="groups and datasets",
            way_out="copy in what it names to have it read",
            level="note",
        )
