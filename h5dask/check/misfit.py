"""What keeps a file from opening as one Dataset, as finished findings. No file is touched here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from h5dask.contents import Contents
from h5dask.layout import ArraySpec
from h5dask.pattern import fill, placeholders
from h5dask.problem import Problem

_APART = "open one group at a time with group=... or all of them with open_datatree"


@lru_cache(maxsize=1024)
def family(pattern: str) -> str:
    """Return the part of a path's pattern up to its first group with a placeholder, "" for none."""
    parts = pattern.split("/")
    first = next((i for i, part in enumerate(parts[:-1]) if "{" in part), None)
    return "" if first is None else "/".join(parts[: first + 1])


def hole(found: Contents, spec: ArraySpec, keys: Mapping[str, str], model: str) -> Problem:
    """Return that a group has rows but not the dataset that others hold."""
    named = {name for name, value in keys.items() if value}
    pattern = next((p for p in spec.paths if set(placeholders(p)) == named), spec.paths[0])
    path, group = fill(pattern, keys), fill(family(pattern), keys)
    return Problem(
        where=f"{found.subject}: /{group}" if group else found.subject,
        found=f"no dataset {path.removeprefix(f'{group}/')!r}",
        expected=f"what other groups have, such as /{model}",
        way_out=_APART,
    )


def twice(found: Contents, path: str, other: str) -> Problem:
    """Return that two datasets stand for the same rows."""
    return Problem(
        where=f"{found.subject}: /{path}",
        found=f"a second form of /{other}",
        expected="one of the two",
        way_out="remove the one that is out of date",
    )


def wrong_rank(found: Contents, path: str, spec: ArraySpec) -> Problem:
    """Return that a dataset has another rank than its layout gives it."""
    ranks = " or ".join(str(rank) for rank in spec.accepted_ranks)
    return Problem(
        where=f"{found.subject}: /{path}",
        found=f"rank {len(found.shape(path))}, shape {found.shape(path)}",
        expected=f"rank {ranks} ({', '.join(spec.stored_dims)})",
        way_out="rewrite it with that shape",
    )


def wrong_kind(found: Contents, path: str, spec: ArraySpec) -> Problem:
    """Return that a dataset's values can't stand in its variable."""
    return Problem(
        where=f"{found.subject}: /{path}",
        found=f"dtype {found.form(path).dtype!r}",
        expected=" or ".join(spec.dtypes) or "numbers or text",
        way_out="rewrite it with that dtype",
    )


def unequal(found: Contents, path: str, model: str, what: str, mine: Any, other: Any) -> Problem:
    """Return that a dataset differs from the others of its variable."""
    return Problem(
        where=f"{found.subject}: /{path}",
        found=f"{what} {mine!r}",
        expected=f"that of /{model}, {other!r}",
        way_out=_APART,
    )


def wrong_width(found: Contents, path: str, dim: str, mine: int, fixed: int) -> Problem:
    """Return that a dataset has another length along a dim than its layout gives it."""
    return Problem(
        where=f"{found.subject}: /{path}",
        found=f"{mine} along {dim}, shape {found.shape(path)}",
        expected=f"{fixed} along this axis, in every file",
        way_out="write it again, or leave it out (drop_variables)",
    )


def is_of(shape: tuple[int, ...], wanted: Sequence[int | None]) -> bool:
    """Whether the last axes of a shape are as long as they must be; None for any length."""
    last = shape[len(shape) - len(wanted) :]
    return all(size in (n, None) for n, size in zip(last, wanted, strict=True))


def too_wide(
    found: Contents, path: str, spec: ArraySpec, shape: tuple[int, ...], fixed: Mapping[str, int]
) -> Iterator[Problem]:
    """Yield each last axis of a dataset that isn't as long as its layout has it."""
    dims = spec.stored_dims[1:]
    for dim, size in zip(dims, shape[len(shape) - len(dims) :], strict=True):
        if size != fixed.get(dim, size):
            yield wrong_width(found, path, dim, size, fixed[dim])


def unlike_rows(found: Contents, path: str, dim: str, rows: int, model: str | None) -> Problem:
    """Return that a dataset's leading axes hold other rows than its group, as a model of it has."""
    of = f"/{model} has them, of shape {found.shape(model)!r}" if model else "its group has them"
    return Problem(
        where=f"{found.subject}: /{path}",
        found=f"shape {found.shape(path)!r}",
        expected=f"{rows} along {dim}, as {of}",
        way_out="rewrite it with the same leading axes",
    )


def wrong_length(
    found: Contents, path: str, dim: str, mine: int, other: int, model: str | None = None
) -> Problem:
    """Return that a dataset has another length along a dim than those it shares the dim with."""
    return Problem(
        where=f"{found.subject}: /{path}",
        found=f"{mine} along {dim}",
        expected=f"{other}" + (f" as in /{model}" if model else ""),
        way_out="arrays that share a dim must have equal length",
    )
