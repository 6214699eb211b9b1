"""Environment variables in a config's text: `${NAME}`, `${NAME:-default}`, `$$` for a dollar."""

from __future__ import annotations

import os
import re
import reprlib
import tomllib
from dataclasses import dataclass, field
from datetime import date, time
from functools import partial
from typing import Any

from h5dask.config.fields import alternatives, defaults, inside

Where = tuple[str | int, ...]
"""Keys and positions that lead to a value: ("steps", 0, "name")."""
_DOLLAR = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}|)")


@dataclass(slots=True)
class Filling:
    """Fills environment variables into text, and keeps what stands in the way."""

    problems: dict[Where, str] = field(default_factory=dict)
    """A line for each place."""
    used: dict[str, str] = field(default_factory=dict)
    """Values that were filled in, by name."""

    def fill(self, value: Any, kind: Any, where: Where) -> Any:
        """Return what is written for a type, with variables and defaults filled in."""
        match value:
            case dict():
                given = {k: self.fill(v, inside(kind, k), (*where, k)) for k, v in value.items()}
                return {**defaults(kind), **given}
            case list():
                return [self.fill(v, inside(kind, i), (*where, i)) for i, v in enumerate(value)]
            case str():
                filled = _DOLLAR.sub(partial(self._variable, where), value)
                alone = _DOLLAR.fullmatch(value)
                return _scalar(filled) if alone and alone["name"] and _is_number(kind) else filled
            case date() | time():
                self.problems[where] = f"found {value}, expected text; write it in quotes"
                return str(value)
        return value

    def _variable(self, where: Where, match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        name, default = match["name"], match["default"]
        if not name:
            self.problems[where] = (
                f"found {short(match.string)}, in which $ begins no ${{NAME}}; write $$ for a $"
            )
            return ""
        value = os.environ.get(name)
        if default is not None:
            value = value or default
        if value is None:
            self.problems[where] = (
                f"environment variable {name} is not set; set it, or write ${{{name}:-default}}"
            )
            return ""
        if not _is_unicode(value):
            self.problems[where] = f"environment variable {name} is no UTF-8; set it anew"
            return ""
        self.used[name] = value
        return value

    def without_values(self, text: str) -> str:
        """Return a text in which the variables stand for their values."""
        longest_first = sorted(self.used.items(), key=lambda item: -len(item[1]))
        for name, value in longest_first:
            text = text.replace(value, f"${{{name}}}") if value else text
        return text


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _is_number(kind: Any) -> bool:
    kinds = alternatives(kind)
    return any(one in kinds for one in (int, float, bool)) and str not in kinds


def _scalar(text: str) -> Any:
    """Return the number or bool that a text is in TOML, else the text."""
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    value = found["value"]
    return value if len(found) == 1 and isinstance(value, int | float) else text


def short(value: Any) -> str:
    """Return what is written, in at most a line."""
    shortened = reprlib.Repr()
    shortened.maxstring = 80
    return shortened.repr(value)
