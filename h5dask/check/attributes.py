"""What a file's attributes say, and whether they say what its layout wants and its sizes are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from h5dask.contents import Contents
from h5dask.errors import LayoutError
from h5dask.grouping import Arrangement
from h5dask.layout import AttrSpec, Derived, Layout
from h5dask.pattern import compiled, kinds, placeholders
from h5dask.problem import Problem


def text_of(value: Any) -> str | None:
    """Return a text attribute's value, whatever string type stores it; None for others."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value) if isinstance(value, str) else None


def json_of(value: Any) -> dict[str, Any] | None:
    """Return the JSON object that a text attribute holds, None where it holds none."""
    try:
        parsed = json.loads(text_of(value) or "")
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def int_of(value: Any) -> int | None:
    """Return a whole number's value, None for anything else, bools too."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return int(value) if whole else None


def is_true(value: Any) -> bool:
    """Whether an attribute says yes."""
    return isinstance(value, bool | np.bool_ | int | np.integer) and bool(value)


_IS_KIND: Mapping[str, Callable[[Any], bool]] = {
    "str": lambda value: text_of(value) is not None,
    "json": lambda value: json_of(value) is not None,
    "int": lambda value: int_of(value) is not None,
    "bool": lambda value: isinstance(value, bool | np.bool_),
    "float": lambda value: isinstance(value, float | np.floating) or int_of(value) is not None,
}
_KIND = {
    "str": "text",
    "json": "text that holds a JSON object",
    "int": "a whole number",
    "bool": "true or false",
    "float": "a number",
}


def place(found: Contents, path: str) -> str:
    """Return how a finding names an object of the file; "" is the root."""
    return f"{found.subject}: /{path}" if path else found.subject


def missing_attr(found: Contents, path: str, spec: AttrSpec) -> Problem:
    """Return that a required attribute isn't there."""
    return Problem(
        where=place(found, path),
        found=f"no attribute {spec.name!r}",
        expected=_wanted(spec),
        way_out=f"add it: {spec.doc}" if spec.doc else "add it",
    )


def wrong_attr(found: Contents, path: str, spec: AttrSpec, value: Any) -> Problem:
    """Return that an attribute isn't of its kind, or none of the allowed values."""
    shown = repr(text_of(value) or value)
    return Problem(
        where=place(found, path),
        found=f"attribute {spec.name!r} is {shown if len(shown) < 80 else shown[:77] + '...'}",
        expected=_wanted(spec),
        way_out="rewrite the attribute",
    )


def contradiction(found: Contents, path: str, name: str, key: str, values: Any) -> Problem:
    """Return that an attribute says another size than the datasets have; `values` are both."""
    declared, actual = values
    inside = f", {key!r} in it" if key else ""
    return Problem(
        where=place(found, path),
        found=f"attribute {name!r}{inside} is {declared!r}",
        expected=f"{actual!r}, as the datasets have it",
        way_out="rewrite the attribute",
    )


def declared(layout: Layout, found: Contents) -> Iterator[Problem]:
    """Yield which of a layout's attributes are missing, of another kind, or not allowed."""
    holders: dict[str, list[str]] = {}
    for spec in layout.attrs:
        if placeholders(spec.path) and not (found.complete or spec.at_opening):
            continue
        if spec.path not in holders:
            holders[spec.path] = _objects(spec.path, found)
        values = found.attr_column(spec.name)
        for path in holders[spec.path]:
            if path in values:
                yield from _judged(found, path, spec, values[path])
            elif spec.required:
                yield missing_attr(found, path, spec)


def _judged(found: Contents, path: str, spec: AttrSpec, held: Any) -> Iterator[Problem]:
    """Yield that an attribute is of another kind, not allowed, or stored in another way."""
    value = text_of(held) if spec.kind == "str" else held
    if not _IS_KIND[spec.kind](value) or (spec.allowed and value not in spec.allowed):
        yield wrong_attr(found, path, spec, held)
    elif isinstance(held, bytes):
        yield Problem(
            where=place(found, path),
            found=f"attribute {spec.name!r} is text of fixed length",
            expected="variable length",
            way_out="it is read all the same",
            level="note",
        )


def contradictions(layout: Layout, found: Contents, arrangement: Arrangement) -> Iterator[Problem]:
    """Yield each attribute that says another size than the datasets have."""
    if arrangement.misfits:
        return  # sizes that don't fit each other can't judge an attribute
    columns: dict[str, Mapping[str, Any]] = {}
    for (path, name, key), actual in derived(layout, found, arrangement).items():
        if name not in columns:
            columns[name] = found.attr_column(name)
        value = columns[name].get(path)
        if value is None:
            continue
        if key:
            value = (json_of(value) or {}).get(key)
        if int_of(value) is None and not isinstance(value, list | np.ndarray):
            continue  # absent, or of another kind, which is told as such
        if _plain(value) != _plain(actual):
            yield contradiction(found, path, name, key, (value, actual))


def unknown(layout: Layout, found: Contents) -> Iterator[Problem]:
    """Yield a note on each attribute that the layout doesn't name."""
    named = {(spec.path, spec.name) for spec in layout.attrs}
    carriers = {path: compiled(path).fullmatch for path, _ in named}
    for name, values in found.attr_columns():
        fitting = [carriers[path] for path, other in named if other == name]
        for path in values:
            if not any(fits(path) for fits in fitting):
                yield Problem(
                    where=place(found, path),
                    found=f"unknown attribute {name!r}",
                    expected=f"names that the layout {layout.name!r} has",
                    way_out="a rewrite carries it over unchanged",
                    level="note",
                )


def derived(layout: Layout, found: Contents, arrangement: Arrangement) -> Derived:
    """Return the attribute values that follow from the sizes of a file's datasets.

    Parameters
    ----------
    layout : Layout
        The layout of the file.
    found, arrangement : Contents, Arrangement
        The file, and how it makes up the layout's variables.

    Returns
    -------
    mapping
        By path, attribute and key inside its JSON; empty where the groups don't fit together.
    """
    groups = arrangement.groups
    if layout.labels is not None and layout.groups is not None:
        try:
            groups = layout.groups(layout.labels(groups, found), found)
        except LayoutError:
            return {}
    return layout.derive(groups, arrangement.sizes, lane_labels(arrangement))


def lane_labels(arrangement: Arrangement) -> dict[str, tuple[Any, ...]]:
    """Return the labels of stacked dims: numbers where the placeholder takes digits."""
    labels: dict[str, tuple[Any, ...]] = {}
    for variable in arrangement.variables:
        kind = kinds(variable.spec.paths)
        for i, dim in enumerate(variable.spec.stacked):
            values = (lane[i] for lane in variable.lanes)
            labels[dim] = tuple(int(v) if kind[dim] == "d" else v for v in values)
    return labels


def _wanted(spec: AttrSpec) -> str:
    return " or ".join(map(repr, spec.allowed)) if spec.allowed else _KIND[spec.kind]


def _objects(pattern: str, found: Contents) -> list[str]:
    """Return the objects that should carry what is declared at a path."""
    if not placeholders(pattern):
        return [pattern]
    fits = compiled(pattern).fullmatch
    return [path for path in found.groups if fits(path)]


def _plain(value: Any) -> Any:
    """Return a number, or a list's members in their order, fit to compare."""
    if isinstance(value, list | tuple | np.ndarray):
        return sorted(str(x if int_of(x) is None else int_of(x)) for x in value)
    return value
