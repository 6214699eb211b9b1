"""Datasets end to end: what several files of one layout share, and where they may not differ."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from h5dask import layouts
from h5dask.contents import Contents
from h5dask.errors import LayoutError, Refused
from h5dask.joining.attrs import one_attrs
from h5dask.joining.form import joined_contents, new_numbers
from h5dask.joining.rows import beside_labels, joined_rows, names_of, row_coords
from h5dask.layout import Layout

_NAMED = 5
"""Rows that a message names."""


def layout_of(ds: xr.Dataset, layout: str | None = None) -> Layout:
    """Return the layout that a Dataset has: the named one, the one it was opened as, or by names.

    Raises
    ------
    LayoutError
        No layout has the Dataset's variables, or several have.
    """
    if layout is not None:
        return layouts.get(layout)
    form = ds.encoding.get("h5dask")
    if isinstance(form, Contents) and form.layout:
        return layouts.get(form.layout)
    names = {str(name) for name in ds.variables}
    fitting = []
    for candidate in layouts.all_layouts():
        wanted = {spec.name for spec in candidate.arrays if spec.required and "{" not in spec.name}
        if wanted and wanted <= names:
            fitting.append(candidate)
    if len(fitting) == 1:
        return fitting[0]
    found = " and ".join(one.name for one in fitting) or "none"
    raise LayoutError(
        f"the Dataset has variables {sorted(names)}: layouts that fit: {found}; "
        f"name one with layout= ({', '.join(layouts.names())})"
        + ("" if fitting else '; a result is written with to_netcdf("result.nc")')
    )


def concat(
    datasets: Sequence[xr.Dataset], *, duplicates: Literal["keep", "refuse"] = "keep"
) -> xr.Dataset:
    """Lay Datasets of one layout end to end.

    Parameters
    ----------
    datasets : sequence of Dataset
        Opened or made by hand, of one layout. The layout names the dim: record (activations),
        sequence (proteins), episode (episodes); `ann` files can't lie end to end.
    duplicates : "keep" or "refuse", default "keep"
        What becomes of rows that are there several times: structures of one name
        (`structure_id`; among those without, of one number), episodes of one id. Kept structures
        get new numbers.

    Returns
    -------
    Dataset
        Lazy where its parts are. Each row keeps the file it came from in the coordinate `source`,
        labels that would repeat are renumbered as the layout says (`source_structure` keeps a
        structure's old number). Optional numbers that some parts lack, such as logits, are NaN
        there, and `has_logits` says which rows have them. Attributes that the layout doesn't know
        and that differ are left out, with a warning.

    Raises
    ------
    LayoutError
        The parts differ in layout, variables, widths or attributes; all differences are named.
    Refused
        Rows are there several times, and `duplicates` is "refuse".

    Examples
    --------
    >>> import h5dask
    >>> from h5dask.testing import example
    >>> both = h5dask.concat([example("episodes"), example("episodes")])
    >>> both.sizes["episode"] == 2 * example("episodes").sizes["episode"]
    True
    """
    parts = list(datasets)
    if not parts:
        raise LayoutError("concat: no Datasets were given; give at least one")
    layout = layout_of(parts[0])
    others = {layout_of(part).name for part in parts} - {layout.name}
    if others:
        raise LayoutError(
            f"concat: Datasets of {layout.name} and {', '.join(sorted(others))}; "
            "only Datasets of one layout lie end to end"
        )
    if layout.along is None:
        raise LayoutError(f"concat: {layout.name} can't lie end to end: {layout.apart}")
    if len(parts) == 1:
        if duplicates == "refuse":
            refuse_repeated(parts[0])
        return parts[0]
    refuse_different(layout, names_of(parts), [_measures(part, layout) for part in parts])
    labels = [row_coords(part, layout) for part in parts]
    distinct = layout.join(labels) if layout.labels is not None else labels
    joined = joined_rows(layout, parts, labels, distinct)
    joined.attrs = one_attrs(layout, [dict(p.attrs) for p in parts], names_of(parts))
    forms = [part.encoding.get("h5dask") for part in parts]
    numbers = new_numbers(layout, labels, distinct)
    known = [pair for pair in zip(forms, numbers, strict=True) if isinstance(pair[0], Contents)]
    if known:
        joined.encoding["h5dask"] = joined_contents(*zip(*known, strict=True), say=True)
    if duplicates == "refuse":
        refuse_repeated(joined)
    return joined


def renumber(ds: xr.Dataset, numbers: Mapping[int, int]) -> xr.Dataset:
    """Return a Dataset whose groups go by other numbers.

    Parameters
    ----------
    ds : Dataset
        Opened or made by hand, of a layout whose groups have numbers: structures (proteins).
    numbers : mapping of int to int
        New numbers by old ones; others stay as they are.

    Returns
    -------
    Dataset
        As lazy as ds. The former number stays as `source_structure`, where there is none yet.

    Raises
    ------
    Refused
        The layout has no numbers, a new one is negative, or two groups would have the same.

    Examples
    --------
    >>> from h5dask.testing import example
    >>> moved = renumber(example("proteins"), {3: 17})
    >>> moved.sel(structure=17).source_structure.values
    array([3, 3, 3, 3], dtype=int32)
    """
    layout = layout_of(ds)
    if layout.renumber is None or layout.index is None:
        raise Refused(f"renumber: {layout.name} has no groups that go by numbers")
    before = row_coords(ds, layout)
    old, of = np.unique(before[layout.numbered], return_inverse=True)
    new = np.array([numbers.get(number, number) for number in old.tolist()], np.int64)
    taken, times = np.unique(new, return_counts=True)
    if (wrong := taken[(times > 1) | (taken < 0)]).size:
        raise Refused(
            f"numbers: found {wrong[:_NAMED].tolist()!r} for several, or negative; expected one "
            f"from 0 on for each {layout.numbered}"
        )
    wide = before[layout.numbered].dtype if new.max(initial=0) < 2**31 else np.int64
    after = {**before, layout.numbered: new[of].astype(wide)}
    after.setdefault(f"source_{layout.numbered}", before[layout.numbered])
    index = layout.index(after, {str(dim): n for dim, n in ds.sizes.items()})
    held = ds.drop_vars([name for name in before if name in ds.coords])
    moved = held.assign_coords(xr.Coordinates.from_xindex(index))
    form = ds.encoding.get("h5dask")
    moved.encoding = dict(ds.encoding)
    if isinstance(form, Contents):
        moved.encoding["h5dask"] = joined_contents([form], new_numbers(layout, [before], [after]))
    return moved


def refuse_repeated(ds: xr.Dataset) -> None:
    """Refuse rows that are in a Dataset several times, by the layout's names for them.

    Parameters
    ----------
    ds : Dataset
        Of one or several files, as `concat` or `open_dataset` make it.

    Raises
    ------
    Refused
        Some are there twice, or the layout has no name by which rows of several files are told
        apart.
    """
    layout = layout_of(ds)
    there = {name: ds[name].values for name in layout.identity if name in ds.variables}
    if not there and "source" in ds.coords:
        raise Refused(
            f"duplicates: {layout.name} has no label by which rows of several files are the same; "
            'leave duplicates="keep"'
        )
    # Rows of one group count once.
    groups = ds[layout.numbered].values if layout.numbered else np.arange(ds.sizes[layout.along])
    files = ds["source"].values if "source" in ds.coords else names_of([ds])[0]
    table = pd.DataFrame({**there, "source": files, "group": groups})
    refuse_repeated_rows(table.drop_duplicates("group"), layout.identity)


def refuse_repeated_rows(table: pd.DataFrame, identity: Sequence[str]) -> None:
    """Refuse rows of one name: each row's is the first of some labels that isn't empty there.

    Parameters
    ----------
    table : DataFrame
        The labels, those that there are, and `source`: the file that a row is from.
    identity : sequence of str
        Names of the labels. Rows that have the first are compared among themselves, and so on.

    Raises
    ------
    Refused
        Several rows have one name; says in which files they are.

    Examples
    --------
    >>> names = {"name": ["1O91", "", "1O91"], "number": [0, 0, 1], "source": ["a", "b", "c"]}
    >>> try:
    ...     refuse_repeated_rows(pd.DataFrame(names), ["name", "number"])
    ... except Refused as error:
    ...     print(error)
    name '1O91': found in a and c; expected once; leave all but one out, or keep them with \
duplicates="keep"
    """
    rest, told = table, []
    for name in [name for name in identity if name in table]:
        here = rest[rest[name] != ""]
        rest = rest[rest[name] == ""]
        files = here.groupby(name, sort=False)["source"].agg(list)
        told += [
            f"{name} {row!r}: found {_in_files(of)}; expected once; leave all but one out, or keep "
            'them with duplicates="keep"'
            for row, of in files[files.map(len) > 1].items()
        ]
    if told:
        more = [f"and so {len(told) - _NAMED} more"] if len(told) > _NAMED else []
        raise Refused("\n".join(told[:_NAMED] + more))


def _in_files(files: Sequence[Any]) -> str:
    """Return in which files something is, and how many times where that is one."""
    each = list(dict.fromkeys(map(str, files)))
    times = f"{len(files)} times " if len(each) == 1 else ""
    return f"{times}in {' and '.join(each)}"


def _measures(part: xr.Dataset, layout: Layout) -> dict[str, dict[str, Any]]:
    """Return what parts must share: the dims of their variables, by labels where they have any."""
    labels = {*beside_labels(layout), *row_coords(part, layout), *layout.dim_labels}
    extents: dict[str, Any] = {str(dim): n for dim, n in part.sizes.items()}
    for dim in {dim for spec in layout.arrays for dim in spec.stacked if dim in part.coords}:
        extents[dim] = ", ".join(map(str, part[dim].values))
    return {
        str(name): {str(dim): extents[str(dim)] for dim in variable.dims}
        for name, variable in part.variables.items()
        if name not in labels
    }


def refuse_different(
    layout: Layout, names: Sequence[str], held: Sequence[Mapping[str, Mapping[str, Any]]]
) -> None:
    """Raise once with every difference that keeps parts from lying end to end.

    Parameters
    ----------
    layout : Layout
        What they are read as.
    names : sequence of str
        A name for each part.
    held : sequence of mapping
        For each part: variable -> the sizes of its dims, or the labels where they have any.
    """
    dims = {*layout.ragged_dims, layout.along}
    first = held[0]
    sizes = {dim: n for found in first.values() for dim, n in found.items()}
    said = []
    for part, name in zip(held[1:], names[1:], strict=True):
        for variable in sorted(set(first) ^ set(part)):
            if variable == "source" or _may_be_absent(layout, variable):
                continue
            has, lacks = (names[0], name) if variable in first else (name, names[0])
            said.append(f"{variable} is in {has} and not in {lacks}; leave it out (drop_variables)")
        for dim, size in {dim: n for found in part.values() for dim, n in found.items()}.items():
            if dim not in dims and sizes.get(dim, size) != size:
                said.append(
                    f"{dim} is {sizes[dim]} in {names[0]} and {size} in {name}; "
                    "files that lie end to end must share it"
                )
    if said:
        raise LayoutError("\n".join(dict.fromkeys(said)))


def _may_be_absent(layout: Layout, variable: str) -> bool:
    """Whether some parts may lack a variable."""
    return any(spec.may_be_absent for spec in layout.arrays if spec.name == variable)


def warn_left_out(name: str, unknown: Sequence[str]) -> None:
    """Say that datasets which the layout doesn't know stay behind when files are joined."""
    if unknown:
        warnings.warn(
            f"{name}: left out of the joined Dataset: {', '.join(unknown)}; the layout doesn't "
            "know how they lie end to end",
            UserWarning,
            stacklevel=3,
        )
