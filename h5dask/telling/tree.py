"""An outline drawn as a tree for people: groups of one pattern as one, no link followed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from rich.text import Text
from rich.tree import Tree

from h5dask.chunkindex import Filter
from h5dask.contents import UNLIMITED, ArrayForm, Attr, Contents
from h5dask.telling.outline import REFERENCE, Outline, by_number

ALIKE = 8
"""Siblings whose names differ in numbers only: more are drawn as one."""
SHOWN = 60
"""Lines below one group."""
LONGEST = 72
"""Characters of an attribute's value."""

TIMES = "\N{MULTIPLICATION SIGN}"

_NUMBER = re.compile(r"\d+")
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}


def draw(told: Outline) -> Tree:
    """Return a tree to print with rich: attributes, groups, datasets and links by name.

    Parameters
    ----------
    told : Outline
        What the file holds. However much it is, the tree stays short: siblings that differ in
        numbers only are one line with the ranges they span.
    """
    tree = Tree(_title(told.contents.subject, f"  {size_text(told.nbytes)}"))
    tree.add(Text(f"layout: {' or '.join(told.layouts) or 'none recognised'}", "green"))
    _grow(tree, told, [""])
    return tree


def _grow(tree: Tree, told: Outline, paths: Sequence[str]) -> None:
    """Add what lies in a group to its tree, or what lies in several groups that are told as one."""
    for line in _attr_lines(told.contents, paths):
        tree.add(line)
    names: dict[str, list[str]] = {}
    for path in paths:
        for name in told.members.get(path, ()):
            names.setdefault(name, []).append(f"{path}/{name}" if path else name)
    entries = list(_entries(told, dict(sorted(names.items(), key=lambda item: by_number(item[0])))))
    for label, inside in entries[:SHOWN]:
        first = inside[0]
        many = f" {TIMES} {len(inside):,}" if len(inside) > 1 else ""
        if first in told.contents.groups:
            _grow(tree.add(_title(label, f"/{many}")), told, inside)
        elif first in told.contents:
            branch = tree.add(_title(label, many).append_text(_dataset_line(told, inside)))
            for line in _attr_lines(told.contents, inside):
                branch.add(line)
        else:
            says = _link_text(told.contents.links[first])
            tree.add(_title(label, many).append(says, "yellow"))
    if len(entries) > SHOWN:
        tree.add(f"and {len(entries) - SHOWN:,} more")


def _entries(told: Outline, names: dict[str, list[str]]) -> Iterator[tuple[str, list[str]]]:
    """Yield label and paths of each line: names that differ in numbers only share one."""
    alike: dict[tuple[str, bool, bool], list[str]] = {}
    for name, paths in names.items():
        kind = paths[0] in told.contents.groups, paths[0] in told.contents
        alike.setdefault((_NUMBER.sub("{}", name), *kind), []).append(name)
    for (pattern, *_), members in alike.items():
        if len(members) > ALIKE:
            yield _pattern(pattern, members), [path for name in members for path in names[name]]
        else:
            yield from ((name, names[name]) for name in members)


def _pattern(pattern: str, names: Sequence[str]) -> str:
    """Return the name that many share, each number as the range it spans.

    >>> _pattern("structure_{}", ["structure_0", "structure_17"])
    'structure_{0…17}'
    """
    columns = zip(*(map(int, _NUMBER.findall(name)) for name in names), strict=True)
    parts = iter([_span(column) for column in columns])
    return re.sub(re.escape("{}"), lambda _: next(parts), pattern)


def _span(numbers: Iterable[int]) -> str:
    found = set(numbers)
    return str(min(found)) if len(found) == 1 else f"{{{min(found)}…{max(found)}}}"


def _dataset_line(told: Outline, paths: Sequence[str]) -> Text:
    contents = told.contents
    forms = list(dict.fromkeys(contents.form(path) for path in paths))
    shapes = dict.fromkeys(contents.shape(path) for path in paths)
    line = Text("  ").append(_shape_text(list(shapes)), "cyan")
    line.append(" " + " or ".join(dict.fromkeys(_dtype_text(form) for form in forms)), "magenta")
    kept = list(dict.fromkeys(_storage_text(form) for form in forms))
    more = f" and {len(kept) - 2} more" if len(kept) > 2 else ""
    line.append(f"  {' or '.join(kept[:2])}{more}")
    sizes = [told.sizes(path) for path in paths]
    stored = [n for _, n in sizes if n is not None]
    every = sum(stored) if len(stored) == len(sizes) else None
    is_exact = all(not form.dtype.startswith(("str", "vlen")) for form in forms)
    return line.append(f"  {_sizes_text(sum(n for n, _ in sizes), every, is_exact)}", "dim")


def _shape_text(shapes: Sequence[tuple[int, ...]]) -> str:
    """Return a shape, or the range of each axis.

    >>> _shape_text([(8, 2, 68), (8, 2, 106)])
    '(8, 2, 68…106)'
    """
    ranks = {len(shape) for shape in shapes}
    if len(ranks) > 1:
        return f"(rank {min(ranks)}…{max(ranks)})"
    axes = [
        f"{min(axis)}…{max(axis)}" if len(set(axis)) > 1 else str(axis[0])
        for axis in zip(*shapes, strict=True)
    ]
    return f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"


def _dtype_text(form: ArrayForm) -> str:
    if form.null:
        return "null"
    if form.dtype == "str":
        return "text"
    if form.dtype.startswith("S"):
        return f"text of {form.dtype[1:]} bytes"
    if form.is_ragged_bytes:
        return f"runs of {np.dtype(form.dtype.removeprefix('vlen ')).name}"
    if not form.is_numeric:
        return form.dtype
    order = " big-endian" if form.dtype.startswith(">") else ""
    return np.dtype(form.dtype).name + order


def _storage_text(form: ArrayForm) -> str:
    if form.storage in ("external", "virtual"):
        return f"{form.storage}, in other files that are not followed"
    parts = [form.storage if form.chunks is None else f"chunks {_shape_text([form.chunks])}"]
    parts += [_filter_text(step) for step in form.filters]
    parts += ["resizable"] if UNLIMITED in form.maxshape else []
    return ", ".join(parts)


def _filter_text(step: Filter) -> str:
    name = _FILTERS.get(step.id) or clean(step.name) or f"filter {step.id}"
    return f"{name} {step.values[0]}" if step.id == 1 and step.values else name


def _sizes_text(nbytes: int, stored: int | None, is_exact: bool) -> str:
    if not is_exact:
        return f"about {size_text(nbytes)}"
    if stored is None or stored == nbytes:
        return size_text(nbytes)
    return f"{size_text(nbytes)}, {size_text(stored) if stored else 'nothing'} stored"


def _link_text(link: str) -> str:
    kind, _, target = link.partition(":")
    if kind == "type":
        return "  committed type"
    if kind == "hard":
        return f"  the same as {clean(target)}"
    return f"  {kind} link{f' to {clean(target)}' if target else ''}, not followed"


def _attr_lines(contents: Contents, paths: Sequence[str]) -> Iterator[Text]:
    """Yield a line for each attribute of an object, or of several that are told as one."""
    values: dict[str, list[Any]] = {}
    for path in paths:
        for attr in contents.attrs.get(path, ()):
            values.setdefault(attr.name, []).append(attr)
    for name, attrs in values.items():
        some = f"  (in {len(attrs):,} of {len(paths):,})" if len(attrs) < len(paths) else ""
        yield Text().append(f"@{clean(name)} = ", "blue").append(_values_text(attrs) + some)
    for link, says in contents.links.items():
        if says == REFERENCE and link.rpartition("@")[0] in paths:
            yield Text(f"@{clean(link.rpartition('@')[2])} = object reference", "blue")


def _values_text(attrs: Sequence[Attr]) -> str:
    shown = list(dict.fromkeys(value_text(attr.value) for attr in attrs))
    if len(shown) == 1:
        return shown[0]
    if all(type(attr.value) is int for attr in attrs):
        return f"{min(attr.value for attr in attrs)}…{max(attr.value for attr in attrs)}"
    return f"{', '.join(shown[:2])}, … ({len(shown):,} values)"


def value_text(value: Any) -> str:
    """Return an attribute's value on one short line.

    >>> value_text("euclidean"), value_text(np.arange(1000))
    ("'euclidean'", '[0, 1, 2, 3, … ] (1000,) int64')
    """
    if value is None:
        return "empty"
    if isinstance(value, np.ndarray):
        first = [_short(_scalar_text(one)) for one in value.flat[:4]]
        more = ", … " if value.size > 4 else ""
        dtype = "text" if value.dtype == object else value.dtype.name
        return f"[{', '.join(first)}{more}] {_shape_text([value.shape])} {dtype}"
    return _short(_scalar_text(value))


def _scalar_text(value: Any) -> str:
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
        return repr(bytes(value) if "\ufffd" in text else text)
    return repr(value) if isinstance(value, str) else str(value)


def _short(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST - 20]}… ({len(text) - 2:,} characters)"


def _title(label: str, more: str) -> Text:
    return Text().append(clean(label), "bold").append(more)


def clean(text: str) -> str:
    r"""Return text with what no terminal should be sent as escapes.

    >>> print(clean("a\x1b[31mb"))
    a\x1b[31mb
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def size_text(nbytes: int) -> str:
    """Return a number of bytes in decimal units.

    >>> size_text(999), size_text(157_520), size_text(2**60)
    ('999 B', '157.5 kB', '1.2 EB')
    """
    if nbytes < 1000:
        return f"{nbytes} B"
    size, units = float(nbytes), iter(("kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"))
    unit = ""
    while size >= 999.95 and (following := next(units, "")):
        size, unit = size / 1000, following
    return f"{size:,.1f} {unit}"
