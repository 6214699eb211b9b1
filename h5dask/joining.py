"""Datasets end to end: what several files of one layout share, and where they may not differ."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr

from h5dask import layouts
from h5dask.blocks import BLOCK_SIZE
from h5dask.commonattrs import one_attrs
from h5dask.commonform import joined_contents, new_numbers
from h5dask.contents import Contents
from h5dask.errors import LayoutError, Refused
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
        What becomes of rows that several parts have: structures of one name (`structure_id`, or
        the number where some have no name), episodes of one id. Kept structures get new numbers.

    Returns
    -------
    Dataset
        Lazy where its parts are. Each row keeps the file it came from in the coordinate `source`,
        labels that would repeat are renumbered as the layout says (`source_structure` keeps a
        structure's old number). Attributes that the layout doesn't know and that differ are left
        out, with a warning.

    Raises
    ------
    LayoutError
        The parts differ in layout, variables, widths or attributes; all differences are named.
    Refused
        Several parts have the same rows, and `duplicates` is "refuse".

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
        return parts[0]
    refuse_different(layout, _names(parts), [_measures(part, layout) for part in parts])
    labels = [_row_coords(part, layout) for part in parts]
    distinct = layout.join(labels) if layout.labels is not None else labels
    joined = _joined_rows(layout, parts, labels, distinct)
    joined.attrs = one_attrs(layout, [dict(p.attrs) for p in parts], _names(parts))
    forms = [part.encoding.get("h5dask") for part in parts]
    numbers = new_numbers(layout, labels, distinct)
    known = [pair for pair in zip(forms, numbers, strict=True) if isinstance(pair[0], Contents)]
    if known:
        joined.encoding["h5dask"] = joined_contents(*zip(*known, strict=True))
    if duplicates == "refuse":
        refuse_repeated(joined)
    return joined


def refuse_repeated(ds: xr.Dataset) -> None:
    """Refuse rows that several of a Dataset's sources have, by the layout's names for them.

    Parameters
    ----------
    ds : Dataset
        Of several files, as `concat` or `open_dataset` make it.

    Raises
    ------
    Refused
        Some are there twice, or the layout has no name by which rows of several files are told
        apart.
    """
    layout = layout_of(ds)
    there = {name: ds[name].values for name in layout.identity if name in ds.variables}
    named = [name for name, column in there.items() if not (column == "").any()]
    if not named:
        raise Refused(
            f"duplicates: {layout.name} has no label by which rows of several files are the same; "
            'leave duplicates="keep"'
        )
    # Rows of one group count once.
    groups = ds[layout.numbered].values if layout.numbered else np.arange(ds.sizes[layout.along])
    columns = {"row": there[named[0]], "group": groups, "file": ds["source"].values}
    found = pd.DataFrame(columns).drop_duplicates(["row", "group"])
    files = found.groupby("row", sort=False)["file"].agg(list)
    repeated = files[files.map(len) > 1]
    if len(repeated):
        told = [
            f"{named[0]} {row!r}: found in {' and '.join(map(str, of))}; expected in one; leave "
            'all but one out, or keep them with duplicates="keep"'
            for row, of in repeated.head(_NAMED).items()
        ]
        more = [f"and so {len(repeated) - _NAMED} more"] if len(repeated) > _NAMED else []
        raise Refused("\n".join(told + more))


def _measures(part: xr.Dataset, layout: Layout) -> dict[str, dict[str, Any]]:
    """Return what parts must share: the dims of their variables, by labels where they have any."""
    labels = {"source", *_row_coords(part, layout), *layout.dim_labels}
    extents: dict[str, Any] = {str(dim): n for dim, n in part.sizes.items()}
    for dim in {dim for spec in layout.arrays for dim in spec.stacked if dim in part.coords}:
        extents[dim] = ", ".join(map(str, part[dim].values))
    return {
        str(name): {str(dim): extents[str(dim)] for dim in variable.dims}
        for name, variable in part.variables.items()
        if name not in labels
    }


def _names(parts: Sequence[xr.Dataset]) -> list[str]:
    return [str(part.encoding.get("source", f"Dataset {i}")) for i, part in enumerate(parts)]


def _row_coords(part: xr.Dataset, layout: Layout) -> dict[str, Any]:
    """Return the in-memory labels of a Dataset's rows, without `source`."""
    return {
        str(name): coord.values
        for name, coord in part.coords.items()
        if coord.dims == (layout.along,) and name != "source" and layout.labels is not None
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
    """Whether some parts may lack a variable: optional numbers, whose absence reads as NaN."""
    spec = next((s for s in layout.arrays if s.name == variable), None)
    return spec is not None and spec.ragged is not None and not spec.required and spec.is_numeric


def _joined_rows(
    layout: Layout,
    parts: Sequence[xr.Dataset],
    labels: Sequence[Mapping[str, Any]],
    distinct: Sequence[Mapping[str, Any]],
) -> xr.Dataset:
    along = str(layout.along)
    coords: dict[str, Any] = {}
    sizes = [dict(part.sizes) for part in parts]
    names = list(dict.fromkeys(str(n) for part in parts for n in part.variables))
    row_labels = {str(name) for part in labels for name in part}
    variables = {}
    for name in names:
        if name in row_labels or name == "source":
            continue
        model = next(part.variables[name] for part in parts if name in part.variables)
        rows = next((dim for dim in model.dims if dim in {*layout.ragged_dims, along}), None)
        if rows is None:
            variables[name] = model
            continue
        model = model.transpose(rows, ...)
        pieces = [
            part.variables[name].transpose(*model.dims).data
            if name in part.variables
            else _nan(model, size)
            for part, size in zip(parts, sizes, strict=True)
        ]
        lazy = any(isinstance(piece, da.Array) for piece in pieces)
        values = da.concatenate([*map(_lazy, pieces)]) if lazy else np.concatenate(pieces)
        variables[name] = xr.Variable(model.dims, values, model.attrs)
    kept = {str(name) for part in parts for name in part.coords}
    result = xr.Dataset(
        {n: v for n, v in variables.items() if n not in kept},
        coords={n: v for n, v in variables.items() if n in kept},
    )
    if layout.labels is not None and layout.index is not None:
        keys = [key for key in distinct[0] if all(key in part for part in distinct)]
        joined = {key: np.concatenate([part[key] for part in distinct]) for key in keys}
        index = layout.index(joined, {str(d): n for d, n in result.sizes.items()})
        result = result.assign_coords(xr.Coordinates.from_xindex(index))
    coords["source"] = (along, np.concatenate(_sources(parts, along)))
    return result.assign_coords(coords)


def _lazy(values: Any) -> da.Array:
    """Return values as a dask array; in memory in blocks: dask has none for text."""
    if isinstance(values, da.Array):
        return values
    rows = max(1, BLOCK_SIZE // max(1, values[:1].nbytes))
    cut: da.Array = da.from_array(values, chunks=(rows, *values.shape[1:]))
    return cut


def _sources(parts: Sequence[xr.Dataset], along: str) -> list[Any]:
    found = []
    for part, name in zip(parts, _names(parts), strict=True):
        if "source" in part.coords and part["source"].dims == (along,):
            found.append(part["source"].values.astype(object))
        else:
            found.append(np.full(part.sizes[along], name, object))
    return found


def _nan(model: xr.Variable, sizes: Mapping[Any, int]) -> da.Array:
    shape = tuple(sizes.get(d, n) for d, n in zip(model.dims, model.shape, strict=True))
    absent: da.Array = da.full(shape, np.nan, dtype=model.dtype)
    return absent


def warn_left_out(name: str, unknown: Sequence[str]) -> None:
    """Say that datasets which the layout doesn't know stay behind when files are joined."""
    if unknown:
        warnings.warn(
            f"{name}: left out of the joined Dataset: {', '.join(unknown)}; the layout doesn't "
            "know how they lie end to end",
            UserWarning,
            stacklevel=3,
        )
