"""The attributes of a written file: word for word where they still hold, else computed anew."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from h5dask.check.attributes import derived as derived_from
from h5dask.check.attributes import json_of
from h5dask.contents import Attr, Contents
from h5dask.errors import LayoutError
from h5dask.grouping import arrange
from h5dask.joining.attrs import as_text
from h5dask.layout import AttrSpec, Derived, Layout
from h5dask.pattern import parse, placeholders
from h5dask.storage.forms import attr as new_attr
from h5dask.writing.drafting import Draft


def file_attrs(draft: Draft, keep_attrs: bool) -> dict[str, tuple[Attr, ...]]:
    """Return the attributes of every group, those that follow from sizes computed anew."""
    layout, form = draft.layout, draft.form
    groups = draft.planned_groups()
    found: dict[str, dict[str, Attr]] = {}
    if form is not None:
        for path, attrs in form.attrs.items():
            if path in groups:
                found[path] = {attr.name: attr for attr in attrs}
    before, after = _derived(draft)
    _apply_dataset(draft, found, keep_attrs)
    _apply_derived(draft, found, before, after)
    _drop_gone(draft, found)
    _refuse_missing(layout, found, form)
    _refuse_other_values(layout, found, form)
    return {path: tuple(attrs.values()) for path, attrs in found.items()}


def _derived(draft: Draft) -> tuple[Derived, Derived]:
    """Return what followed from the form's sizes, and what follows from the Dataset's."""
    layout, ds = draft.layout, draft.ds
    before: Derived = {}
    # A group that was opened alone brings along what the whole file counts.
    if draft.form is not None and not draft.form.group:
        arrangement = arrange(layout, draft.form)
        if not arrangement.misfits:
            before = derived_from(layout, draft.form, arrangement)
    stacked = {dim for spec in layout.arrays for dim in spec.stacked if dim in ds.coords}
    lanes = {dim: tuple(ds[dim].values.tolist()) for dim in stacked}
    sizes = {str(dim): n for dim, n in ds.sizes.items()}
    return before, layout.derive(draft.groups, sizes, lanes)


def _apply_dataset(draft: Draft, found: dict[str, dict[str, Attr]], keep_attrs: bool) -> None:
    """Bring the attributes that stand in `ds.attrs` into the file's objects."""
    specs = {spec.name: spec for spec in draft.layout.attrs if not placeholders(spec.path)}
    carriers = {"", *(spec.path for spec in specs.values())}
    given = {str(name): value for name, value in draft.ds.attrs.items()}
    for path in carriers:
        for name in list(found.get(path, {})):
            known = path == "" or (name in specs and specs[name].path == path)
            held = found[path][name].value is None
            if known and name not in given and not keep_attrs and not held:
                del found[path][name]
    for name, value in given.items():
        spec = specs.get(name)
        path = spec.path if spec is not None else ""
        old = found.setdefault(path, {}).get(name)
        found[path][name] = _attr(name, value, spec, old)


def _attr(name: str, value: Any, spec: AttrSpec | None, old: Attr | None) -> Attr:
    """Return an attribute: word for word as it was where its value is what it was."""
    if old is not None and (_equal(old.value, value) or _equal(as_text(old.value), value)):
        return old
    if spec is not None and spec.kind == "json" and isinstance(value, Mapping):
        value = json.dumps(value)
    if old is not None and isinstance(old.value, str) and isinstance(value, str):
        return replace(old, value=value)
    return new_attr(name, value, spec.encoding if spec is not None else "utf8")


def _equal(a: Any, b: Any) -> bool:
    if type(a) is type(b) and not isinstance(a, np.ndarray):
        return bool(a == b) or repr(a) == repr(b)
    left, right = np.asarray(a), np.asarray(b)
    same_kind = left.dtype.kind == right.dtype.kind and left.shape == right.shape
    return same_kind and bool((left == right).all())


def _apply_derived(
    draft: Draft, found: dict[str, dict[str, Attr]], before: Derived, after: Derived
) -> None:
    """Renew attributes that follow from sizes, where the sizes are no longer what they were."""
    required: dict[str, set[str]] = {}
    for spec in draft.layout.attrs:
        if spec.required:
            required.setdefault(spec.path, set()).add(spec.name)
    at, needed = None, set()
    for (path, name, key), value in after.items():
        attrs = found.get(path)
        if attrs is None:
            attrs = found[path] = {}
        if path != at:
            fitting = (
                some for pattern, some in required.items() if parse(pattern, path) is not None
            )
            at, needed = path, set().union(*fitting)
        old = attrs.get(name)
        known = draft.form is not None and path in draft.form.groups
        if known and (old is None or _plain(before.get((path, name, key))) == _plain(value)):
            continue  # absent stays absent, and what sizes still say stays word for word
        if key:
            inside = json_of(old.value) if old is not None else None
            if inside is not None and key in inside and old is not None:
                attrs[name] = replace(old, value=json.dumps({**inside, key: value}))
        elif old is not None:
            attrs[name] = old if _equal(old.value, value) else _renewed(old, value)
        elif name in needed:
            attrs[name] = new_attr(name, value)
    for path in [path for path, attrs in found.items() if not attrs]:
        del found[path]


def _drop_gone(draft: Draft, found: dict[str, dict[str, Attr]]) -> None:
    """Drop from JSON what it tells of groups that the file doesn't hold.

    What a whole file tells of groups that it never had stays word for word.
    """
    form = draft.form if draft.form is not None and not draft.form.group else None
    paths = {*draft.planned_groups(), *(array.path for array in draft.arrays)}
    for spec in draft.layout.attrs:
        attr = found.get(spec.path, {}).get(spec.name)
        told = json_of(attr.value) if attr is not None and spec.keyed_by else None
        if attr is None or told is None:
            continue
        there = _named(spec.keyed_by, paths)
        if form is not None:
            there |= told.keys() - _named(spec.keyed_by, form.groups)
        if gone := told.keys() - there:
            kept = {name: one for name, one in told.items() if name not in gone}
            found[spec.path][spec.name] = replace(attr, value=json.dumps(kept))


def _named(pattern: str, paths: Iterable[str]) -> set[str]:
    """Return the names of groups of a pattern that are, or lie above, any of the paths."""
    depth = pattern.count("/") + 1
    tops = {"/".join(path.split("/")[:depth]) for path in paths}
    keys = (parse(pattern, top) for top in tops)
    return {name for one in keys if one is not None for name in one.values()}


def _renewed(old: Attr, value: Any) -> Attr:
    kept = isinstance(value, int) and isinstance(old.value, int) and not isinstance(value, bool)
    return replace(old, value=value) if kept and old.shape == () else new_attr(old.name, value)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _refuse_missing(
    layout: Layout, found: Mapping[str, Mapping[str, Attr]], form: Contents | None
) -> None:
    """Raise once with all required attributes that the Dataset lacks."""
    missing = []
    for spec in layout.attrs:
        if not spec.required or placeholders(spec.path) or spec.name in found.get(spec.path, {}):
            continue
        was_there = form is None or form.attr(spec.path, spec.name) is not None
        if was_there:
            allowed = f" (one of {', '.join(map(repr, spec.allowed))})" if spec.allowed else ""
            missing.append(f"{spec.name}{allowed}")
    if missing:
        raise LayoutError(
            f"the Dataset lacks attributes that {layout.name} needs: {', '.join(missing)}; "
            "set them in ds.attrs"
        )


def _refuse_other_values(
    layout: Layout, found: Mapping[str, Mapping[str, Attr]], form: Contents | None
) -> None:
    """Refuse values that a file may bring along, but a new one can't have."""
    said = []
    for spec in layout.attrs:
        attr = found.get(spec.path, {}).get(spec.name)
        if not spec.allowed or placeholders(spec.path) or attr is None or attr.value is None:
            continue
        value, old = as_text(attr.value), form.attr(spec.path, spec.name) if form else None
        if value not in spec.allowed and value != as_text(old):
            allowed = " or ".join(map(repr, spec.allowed))
            said.append(f"attribute {spec.name!r} is {value!r}, expected {allowed}")
    if said:
        raise LayoutError(
            f"the Dataset can't be written as {layout.name}: {'; '.join(said)}; change it"
        )
