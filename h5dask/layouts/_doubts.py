"""What is wrong with structures, or worth saying, that no declaration says: shapes, numbers, names.

How structures become labels lies in `_structures`.
"""

from __future__ import annotations

from collections.abc import Iterator

from h5dask.check.attributes import int_of, is_true, place, text_of
from h5dask.contents import Contents
from h5dask.groups import Groups
from h5dask.layouts import _structures
from h5dask.layouts._structures import GROUP
from h5dask.pattern import compiled, parse
from h5dask.problem import Problem


def rules(found: Contents, groups: Groups) -> Iterator[Problem]:
    """Yield what shapes, numbers, names and averaging don't go together, and what is empty."""
    for key, name, shape, wanted in _structures.unlike_shapes(groups):
        yield Problem(
            where=place(found, f"{_structures.path_of(key)}/{name}".strip("/")),
            found=f"shape {shape!r}",
            expected=f"{wanted!r}, as the group's sequences have it",
            way_out="rewrite it with the axes of the sequences",
        )
    held = [key for (key,) in groups.keys]
    if "" in held and len(held) > 1:
        yield Problem(
            where=place(found, _structures.FLAT),
            found="the flat form beside groups of structures",
            expected="one of the two",
            way_out="remove the one that is out of date",
        )
    levels = found.attr_column("num_noise_levels")
    for path, value in found.attr_column("averaged_encodings").items():
        number = int_of(levels.get(path))
        if is_true(value) and number not in (None, 1) and parse(GROUP, path) is not None:
            yield Problem(
                where=place(found, path),
                found=f"attribute 'averaged_encodings' is true with num_noise_levels {number!r}",
                expected="num_noise_levels 1, since the levels were averaged",
                way_out="correct one of the two attributes",
            )
    yield from _empty(found, groups)
    yield from _numbers(found)
    yield from _names(found)
    yield from _others(found)


def _empty(found: Contents, groups: Groups) -> Iterator[Problem]:
    """Yield each structure without samples, which isn't read, or without residues."""
    for (key,), shape in zip(groups.keys, groups.shapes.get("sequences", ()), strict=False):
        if key and shape and 0 in shape:
            what = "residues" if 0 not in shape[:-1] else "samples"
            yield Problem(
                where=place(found, _structures.path_of(key)),
                found=f"no {what}: sequences of shape {shape!r}",
                expected="one or more",
                way_out="remove the group, or sample the structure again",
            )


def _numbers(found: Contents) -> Iterator[Problem]:
    """Yield each structure's number that is negative, another's, or not that of its name."""
    owners: dict[int, str] = {}
    is_structure = compiled(GROUP).fullmatch
    for path, value in found.attr_column("structure_index").items():
        number = int_of(value)
        if number is None or not is_structure(path):
            continue
        said = f"attribute 'structure_index' is {number!r}"
        other = owners.setdefault(number, path)
        if number < 0 or other != path:
            yield Problem(
                where=place(found, path),
                found=said,
                expected="a number from 0 that no other structure has"
                + (f", as /{other} has it" if other != path else ""),
                way_out="number the structures anew; they are read by the names of their groups",
            )
        elif number != (named := int(path.rpartition("_")[2])):
            yield Problem(
                where=place(found, path),
                found=said,
                expected=f"{named!r}, as the group is named",
                way_out="it is read by the attribute; rename the group where that is wrong",
                level="note",
            )


def _names(found: Contents) -> Iterator[Problem]:
    """Yield each structure whose group or `structure_id` is named as another one's."""
    owners: dict[int, str] = {}
    is_structure = compiled(GROUP).fullmatch
    for path in filter(is_structure, found.groups):
        other = owners.setdefault(int(path.rpartition("_")[2]), path)
        if other != path:
            yield Problem(
                where=place(found, path),
                found=f"a name of the same number as /{other}",
                expected="one group a number",
                way_out="rename one of the two",
            )
    ids: dict[str, str] = {}
    for path, value in found.attr_column("structure_id").items():
        name = text_of(value)
        if name and is_structure(path) and (other := ids.setdefault(name, path)) != path:
            yield Problem(
                where=place(found, path),
                found=f"attribute 'structure_id' is {name!r}",
                expected=f"a name of its own, which /{other} has",
                way_out='both are read; concat(..., duplicates="refuse") refuses them',
                level="note",
            )


def _others(found: Contents) -> Iterator[Problem]:
    """Yield each group that is named like a structure and is none."""
    is_structure = compiled(GROUP).fullmatch
    for path in found.groups:
        if path.startswith(_structures.STEM) and "/" not in path and not is_structure(path):
            yield Problem(
                where=place(found, path),
                found="a group that is not a structure",
                expected=f"{_structures.STEM} and a number",
                way_out="what it holds isn't read; a rewrite carries it over unchanged",
                level="note",
            )
