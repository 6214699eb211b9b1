"""Paths with placeholders: `{x}` any name, `{x:d}` a number, `{x:a|b}` one of the words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

_PLACEHOLDER = re.compile(r"\{(\w+)(?::([^}]*))?\}")


@lru_cache(maxsize=1024)
def compiled(path: str) -> re.Pattern[str]:
    """Compile a path; `{x}` takes a name, `{x:d}` up to 18 digits, `{x:a|b}` one of the words."""
    parts, at = [], 0
    for found in _PLACEHOLDER.finditer(path):
        name, kind = found.groups()
        inside = {None: "[^/]+", "d": "[0-9]{1,18}"}.get(kind, kind)
        parts += [re.escape(path[at : found.start()]), f"(?P<{name}>{inside})"]
        at = found.end()
    return re.compile("".join(parts) + re.escape(path[at:]))


@lru_cache(maxsize=1024)
def placeholders(path: str) -> tuple[str, ...]:
    """Return the names of a path's placeholders, in order."""
    return tuple(found.group(1) for found in _PLACEHOLDER.finditer(path))


def parse(pattern: str, path: str) -> dict[str, str] | None:
    """Return the placeholders' values where `path` matches `pattern`, else None."""
    found = compiled(pattern).fullmatch(path)
    return None if found is None else found.groupdict()


def fill(pattern: str, keys: Mapping[str, str]) -> str:
    """Return the path that `pattern` names for the given placeholder values."""
    return _template(pattern).format_map(keys)


@lru_cache(maxsize=1024)
def _template(pattern: str) -> str:
    """Return a pattern as a format string: placeholders without kinds, other braces doubled."""
    fixed = [
        part.replace("{", "{{").replace("}", "}}") for part in _PLACEHOLDER.split(pattern)[::3]
    ]
    names = [f"{{{name}}}" for name in placeholders(pattern)]
    return "".join(text + name for text, name in zip(fixed, [*names, ""], strict=True))


def kinds(patterns: Iterable[str]) -> dict[str, str]:
    """Return each placeholder's kind: "" any, "d" a number, "a|b" one of the words."""
    found = (match for path in patterns for match in _PLACEHOLDER.finditer(path))
    return {match.group(1): match.group(2) or "" for match in found}
