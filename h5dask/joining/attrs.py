"""The one set of attributes of files end to end: what may differ between them, and what can't."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from h5dask.contents import Contents
from h5dask.errors import LayoutError
from h5dask.layout import AttrSpec, Layout
from h5dask.pattern import placeholders


def joined_attrs(layout: Layout, files: Sequence[Contents]) -> dict[str, Any]:
    """Return the Dataset's attributes: those of the root and of the declared objects."""
    found = []
    for contents in files:
        attrs = {attr.name: attr.value for attr in contents.attrs.get("", ())}
        for spec in layout.attrs:
            if spec.path and not placeholders(spec.path):
                value = contents.attr(spec.path, spec.name)
                if value is not None:
                    attrs[spec.name] = value
        found.append({n: as_text(value) for n, value in attrs.items() if value is not None})
    return one_attrs(layout, found, [contents.subject for contents in files])


def equal(one: Any, other: Any) -> bool:
    """Say whether two attributes have the same value."""
    return np.array_equal(np.asarray(one), np.asarray(other))


def as_text(value: Any) -> Any:
    """Return an attribute's value as the Dataset has it: text of fixed length as str."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, np.ndarray) and value.dtype.kind == "S":
        return np.array([as_text(one) for one in value.ravel()], object).reshape(value.shape)
    return value


def one_attrs(
    layout: Layout, parts: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> dict[str, Any]:
    """Return one set of attributes; those that disagree are refused, all by name at once.

    Those that the layout doesn't know go where they differ, or aren't in all parts: they say
    something of some files, and what stands in a joined one is read as said of all of it.
    """
    specs = {spec.name: spec for spec in layout.attrs}
    joined: dict[str, Any] = {}
    origin: dict[str, str] = {}
    said = []
    in_all = set(parts[0]).intersection(*parts[1:])
    own = {key for attrs in parts for key in attrs if key not in in_all and key not in specs}
    varied: dict[str, dict[Any, str]] = {}
    for attrs, name in zip(parts, names, strict=True):
        for key, value in attrs.items():
            if key not in joined:
                joined[key], origin[key] = value, name
                continue
            spec = specs.get(key)
            if spec is not None and spec.kind == "json":
                joined[key], clash = _merged_json(spec, joined[key], value)
            else:
                same = equal(joined[key], value)
                clash = [] if same or spec is None or spec.varies else [key]
                if spec is None and not same:
                    own.add(key)
                if spec is not None and spec.allowed and {joined[key], value} <= {*spec.allowed}:
                    if not same:
                        varied.setdefault(key, {joined[key]: origin[key]}).setdefault(value, name)
                    joined[key] = max(joined[key], value, key=spec.allowed.index)
            said += [
                f"attribute {what} differs between {origin[key]} and {name}; "
                "make them equal before laying the files end to end"
                for what in clash
            ]
    if said:
        raise LayoutError("\n".join(said))
    for key, found in varied.items():
        told = " and ".join(f"{value!r} in {name}" for value, name in found.items())
        warnings.warn(
            f"{key}: found {told}; the joined Dataset has {joined[key]!r}, which describes all",
            UserWarning,
            stacklevel=3,
        )
    if own:
        warnings.warn(
            f"{', '.join(sorted(own))}: left out of the joined Dataset; these attributes, which "
            f"{layout.name} doesn't know, aren't the same in {names[0]} and all others",
            UserWarning,
            stacklevel=3,
        )
    return {key: value for key, value in joined.items() if key not in own}


def _merged_json(spec: AttrSpec, mine: Any, other: Any) -> tuple[Any, list[str]]:
    """Merge two JSON objects key by key; keys that disagree are named."""
    if mine == other or spec.varies:
        return mine, []
    try:
        left, right = json.loads(mine), json.loads(other)
    except (TypeError, ValueError):
        return mine, [spec.name]
    if not (isinstance(left, dict) and isinstance(right, dict)):
        return mine, [spec.name]
    clash = [
        f"{spec.name}[{key!r}]"
        for key in left.keys() & right.keys()
        if left[key] != right[key] and key not in spec.derived
    ]
    return json.dumps({**right, **left}), sorted(clash)
