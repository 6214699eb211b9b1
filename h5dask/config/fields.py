"""What the fields of a dataclass are: the types inside them, in words, and what is said of them."""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from contextlib import suppress
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True, slots=True)
class Words:
    """What a type is called, where its own name wouldn't do; stands in `Annotated`."""

    text: str


_WORDS = {str: "text", int: "an integer", float: "a number", bool: "true or false", Path: "a path"}


def alternatives(kind: Any) -> list[Any]:
    """Return the types that a union joins, without what annotates them.

    Examples
    --------
    >>> alternatives(Annotated[int, "n"] | str)
    [<class 'int'>, <class 'str'>]
    """
    if get_origin(kind) is Annotated:
        return alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [one for part in get_args(kind) for one in alternatives(part)]
    return [kind]


def keys(kind: Any) -> dict[str, Any]:
    """Return the types of a table's keys; none where the type is no dataclass."""
    tables = [one for one in alternatives(kind) if is_dataclass(one)]
    return {k: v for one in tables for k, v in get_type_hints(one, include_extras=True).items()}


def inside(kind: Any, at: str | int) -> Any:
    """Return the type of a key of a table or a position in a list, None where there is none.

    Examples
    --------
    >>> inside(tuple[int, str] | None, 1), inside(list[int], 7), inside(int, "n")
    (<class 'str'>, <class 'int'>, None)
    """
    if isinstance(at, str) and at in keys(kind):
        return keys(kind)[at]
    for one in alternatives(kind):
        parts = get_args(one)
        if isinstance(at, str) and get_origin(one) is dict:
            return parts[1]
        if isinstance(at, int) and get_origin(one) in (list, tuple):
            alike = len(parts) == 1 or parts[1:] == (...,)
            return parts[0] if alike else parts[at] if at < len(parts) else None
    return None


def in_words(kind: Any) -> str:
    """Return what a type takes, as a person says it.

    Examples
    --------
    >>> in_words(Literal["gzip", "none"] | int | None)
    "'gzip', 'none' or an integer"
    """
    if get_origin(kind) is Annotated:
        told = [one.text for one in kind.__metadata__ if isinstance(one, Words)]
        return told[-1] if told else in_words(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        held = [one for one in get_args(kind) if one is not type(None)]
        parts = [word for one in held for word in in_words(one).split(" or ")]
    elif get_origin(kind) is Literal:
        parts = [repr(one) for one in get_args(kind)]
    elif get_origin(kind) in (list, tuple):
        within = dict.fromkeys(in_words(one) for one in get_args(kind) if one is not ...)
        return f"a list of {', '.join(within)}"
    else:
        return "a table" if is_dataclass(kind) else _WORDS.get(kind, "a value")
    last = parts.pop()
    return f"{', '.join(parts)} or {last}" if parts else last


def default(one: Field[Any]) -> Any:
    """Return a field's default, `MISSING` where it has none."""
    return one.default if one.default_factory is MISSING else one.default_factory()


def defaults(kind: Any) -> dict[str, Any]:
    """Return the defaults of a table's keys as they would be written, those that can be.

    Examples
    --------
    >>> @dataclass
    ... class Scan:
    ...     names: tuple[str, ...] = ("a",)
    ...     n: int | None = None
    >>> defaults(Scan)
    {'names': ['a'], 'n': None}
    """
    tables = [one for one in alternatives(kind) if is_dataclass(one)]
    found = {}
    for one in fields(tables[0]) if len(tables) == 1 else ():
        value = default(one)
        if one.init and value is not MISSING:
            with suppress(TypeError):
                found[one.name] = _as_written(value)
    return found


def _as_written(value: Any) -> Any:
    match value:
        case list() | tuple():
            return [_as_written(one) for one in value]
        case dict():
            return {key: _as_written(one) for key, one in value.items()}
        case Path():
            return str(value)
        case str() | int() | float() | None:
            return value
    if is_dataclass(value):
        return {one.name: _as_written(getattr(value, one.name)) for one in fields(value)}
    raise TypeError(value)


def docs(kind: type) -> dict[str, str]:
    """Return what is said of each field: in its metadata as "doc", or in the line below it."""
    assert is_dataclass(kind)
    told = {one.name: one.metadata["doc"] for one in fields(kind) if "doc" in one.metadata}
    return {**_below(kind), **told}


def _below(kind: type) -> dict[str, str]:
    """Return the string that stands below each field in a class's source, where there is one."""
    try:
        source = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError):
        return {}  # made by a function, or typed in
    # Of a class that was typed in, Python 3.13 gives all that was typed before, too.
    classes = [one for one in source if isinstance(one, ast.ClassDef) and one.name == kind.__name__]
    found = {}
    for above, below in pairwise(classes[-1].body if classes else []):
        match above, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(str(text))):
                found[name] = " ".join(text.split())
    return found
