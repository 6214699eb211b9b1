"""A dataclass -> a commented TOML file of all its keys, to begin a config with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

from h5dask.config.fields import alternatives, default, docs, in_words, keys


def example(kind: type) -> str:
    """Return a commented TOML file of all the keys that a dataclass has, with their defaults.

    Keys that must be set, and those that are left out by default, stand there as comments. What
    is said of a field is its metadata's "doc", or the string below it in the source.

    Examples
    --------
    >>> from dataclasses import dataclass, field
    >>> @dataclass(frozen=True)
    ... class Scan:
    ...     landing: str = field(metadata={"doc": "Folder of new files."})
    ...     threads: int = field(default=4, metadata={"doc": "Threads that compute."})
    >>> print(example(Scan), end="")
    # Folder of new files.
    # landing = (required: text)
    <BLANKLINE>
    # Threads that compute.
    threads = 4
    """
    title = (kind.__doc__ or "").partition("\n")[0]
    head = [] if not title or title.startswith(f"{kind.__name__}(") else [f"# {title}", ""]
    return "\n".join([*head, *_table(kind, "", {})]).rstrip("\n") + "\n"


def _table(kind: type, name: str, given: Mapping[str, Any], sign: str = "") -> Iterator[str]:
    """Yield the lines of a table, the tables in it last; `sign` makes comments of them."""
    assert is_dataclass(kind)
    said, types = docs(kind), keys(kind)
    every = [one for one in fields(kind) if one.init]
    tables = {one.name: _tables(types[one.name]) for one in every}
    for one in every:
        if tables[one.name] is None:
            if one.name in said:
                yield f"# {said[one.name]}"
            value = given.get(one.name, default(one))
            words = in_words(types[one.name])
            if value is MISSING:
                yield f"# {one.name} = (required: {words})"
            elif value is None:
                yield f"# {one.name} = ({words})"
            else:
                yield f"{sign}{one.name} = {_toml(value)}"
            yield ""
    for one in every:
        held = tables[one.name]
        if held is not None:
            yield from _inner(one, held, f"{name}{one.name}", said.get(one.name, ""), sign)


def _inner(one: Field[Any], held: type, name: str, said: str, sign: str) -> Iterator[str]:
    """Yield the lines of a table inside another, or of one in a list of tables."""
    value = default(one)
    if said:
        yield f"# {said}"
    listed = isinstance(value, list | tuple)
    sign = "# " if sign or listed or value in (None, MISSING) else ""
    yield f"{sign}[[{name}]]" if listed else f"{sign}[{name}]"
    given = {k: getattr(value, k) for k in keys(held)} if isinstance(value, held) else {}
    yield from _table(held, f"{name}.", given, sign)


def _tables(kind: Any) -> type | None:
    """Return the dataclass that a field holds, by itself or in a list; None where it is none."""
    for one in alternatives(kind):
        parts = (one, *(part for inner in get_args(one) for part in alternatives(inner)))
        for part in parts:
            if is_dataclass(part) and isinstance(part, type):
                return part
    return None


def _toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(map(_toml, value))}]"
        case str() | Path():
            text = str(value).replace("$", "$$")
            return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
    raise TypeError(f"{value!r}: has no place in TOML; leave it out by default")
