"""One typed TOML file a pipeline: read and checked at once, or written as an example.

What its keys are is said by a frozen dataclass; what they mean to a job is not known here.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from h5dask.config.environment import Filling, Where, short
from h5dask.config.fields import in_words, inside, keys
from h5dask.config.paths import Input, Output, Unfit
from h5dask.config.template import example
from h5dask.errors import AccessDenied, NotFound, Refused

__all__ = ["Input", "Output", "example", "load"]

Kind = TypeVar("Kind")
_WORDS = {
    "int_type": "an integer",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dataclass_type": "a table",
}
"""What is expected, by pydantic's name of the error, where its own words aren't TOML's."""


def load(path: str | os.PathLike[str], kind: type[Kind]) -> Kind:
    """Read a TOML file into a dataclass, or tell everything that is wrong with it.

    Parameters
    ----------
    path : str or path
        The TOML file.
    kind : type
        A frozen dataclass: its fields are the keys, those that are dataclasses are tables, and
        those without a default must be set. Their types: str, int, float, bool, Path, list, tuple,
        Literal, dataclasses, `Input`, `Output`, and unions of them.

    Returns
    -------
    kind
        Text has `${NAME}` and `${NAME:-default}` replaced by environment variables, and `$$` by a
        dollar. Text that is one such name alone is a number or bool where the field is one.

    Raises
    ------
    NotFound, AccessDenied
        The file isn't there, or can't be read.
    Refused
        The TOML is broken; or a line for each unknown or missing key, wrong type, choice that
        isn't allowed, missing input and unset environment variable. The values of environment
        variables are no part of it.

    Examples
    --------
    >>> import tempfile
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Scan:
    ...     threads: int = 4
    >>> path = Path(tempfile.mkdtemp(), "scan.toml")
    >>> _ = path.write_text("threads = 8")
    >>> load(path, Scan)
    Scan(threads=8)
    >>> _ = path.write_text("thread = 8")
    >>> load(path, Scan)
    Traceback (most recent call last):
        ...
    h5dask.errors.Refused: ...scan.toml: thread: unknown key; did you mean 'threads'?
    """
    file = str(Path(path).expanduser().absolute())
    written = _parsed(file)
    filling = Filling()
    filled = filling.fill(written, kind, ())
    value, found = _checked(filled, kind, os.path.dirname(file))
    told = dict(filling.problems)
    for where, errors in _by_place(found, kind).items():
        told.setdefault(where, _line(errors, where, written, kind, filling))
    if told or value is None:
        raise Refused("\n".join(f"{file}: {_shown(where)}{said}" for where, said in told.items()))
    return value


def _parsed(file: str) -> dict[str, Any]:
    """Return the file's tables as they are written."""
    try:
        text = Path(file).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"{file}: no such file; check the path") from None
    except OSError as error:
        raise AccessDenied(f"{file}: can't be read ({error.strerror}); name a file") from None
    except UnicodeDecodeError as error:
        raise Refused(f"{file}: byte {error.start:,} is no UTF-8; save it as UTF-8") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        lines = text.split("\n")
        end = f"at line {len(lines)}, column {len(lines[-1]) + 1}"
        said = str(error).replace("at end of document", end)
        raise Refused(f"{file}: is no TOML: {said}") from None


def _checked(
    table: Mapping[str, Any], kind: type[Kind], folder: str
) -> tuple[Kind | None, list[Any]]:
    """Return the dataclass, or every error that pydantic finds."""
    from pydantic import ConfigDict, ValidationError, create_model

    strict = ConfigDict(strict=True, extra="forbid")
    model: Any = create_model("Config", __config__=strict, table=(kind, ...))
    # What comes as JSON may be strict in its types and yet be a dataclass or tuple in the end.
    given = json.dumps({"table": table})
    try:
        return model.model_validate_json(given, context={"folder": folder}).table, []
    except ValidationError as error:
        return None, list(error.errors(include_url=False, include_input=False))


Errors = Sequence[Mapping[str, Any]]
"""What pydantic says of one place."""


def _by_place(found: Errors, kind: Any) -> dict[Where, Errors]:
    """Return errors by where they are; of a union's types, the one that gets furthest counts."""
    places: dict[Where, list[Mapping[str, Any]]] = {}
    for one in found:
        places.setdefault(_place(one["loc"][1:], kind, one["type"]), []).append(one)
    return {
        where: errors
        for where, errors in places.items()
        if not any(len(o) > len(where) and o[: len(where)] == where for o in places)
    }


def _place(parts: Where, kind: Any, error: str) -> Where:
    """Return keys and positions only: pydantic names the types of a union between them."""
    where: Where = ()
    for left, part in zip(reversed(range(len(parts))), parts, strict=True):
        within = inside(kind, part)
        is_key = isinstance(part, int) or (error == "unexpected_keyword_argument" and not left)
        if within is not None or is_key:
            where, kind = (*where, part), within
    return where


def _line(errors: Errors, where: Where, written: Any, kind: Any, filling: Filling) -> str:
    """Return what is found at a place, and what is expected there."""
    error, message = errors[0]["type"], errors[0]["msg"]
    table, value, is_written = kind, written, True
    for part in where:
        table, kind = kind, inside(kind, part)
        is_written = part in value if isinstance(value, dict) else isinstance(value, list)
        value = value[part] if is_written and error != "missing" else None
    if error == "missing":
        return f"missing; set it to {in_words(kind)}"
    if error == "unexpected_keyword_argument":
        return _unknown(str(where[-1]), list(keys(table)))
    unfit = isinstance(errors[0].get("ctx", {}).get("error"), Unfit)
    if error in ("value_error", "assertion_error") and not unfit:
        return filling.without_values(message.partition(", ")[2])
    wanted = [_expected(one) for one in errors]
    found = short(value) if is_written else "its default"
    if is_written and isinstance(value, str) and "${" in value:
        found = f"the value of {found}"
    return f"found {found}, expected {' or '.join(dict.fromkeys(wanted))}"


def _expected(error: Mapping[str, Any]) -> str:
    text = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    return _WORDS.get(error["type"], text)


def _unknown(key: str, known: Sequence[str]) -> str:
    if near := difflib.get_close_matches(key, known, 1):
        return f"unknown key; did you mean {near[0]!r}?"
    return f"unknown key; those here are {', '.join(known)}"


def _shown(where: Where) -> str:
    """Return a place as a person writes it, with a colon behind: "steps[0].name: "."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    return "".join(parts).removeprefix(".") + (": " if where else "")
