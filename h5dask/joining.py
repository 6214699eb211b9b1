"""Datasets end to end: what several files of one layout share, and where they may not differ."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from h5dask import layouts
from h5dask.blocks import BLOCK_SIZE
from h5dask.commonform import joined_contents, new_numbers
from h5dask.contents import Contents
from h5dask.errors import LayoutError
from h5dask.layout import AttrSpec, Layout
from h5dask.pattern import placeholders


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


def concat(datasets: Sequence[xr.Dataset]) -> xr.Dataset:
    """Lay Datasets of one layout end to end.

    Parameters
    ----------
    datasets : sequence of Dataset
        Opened or made by hand, of one layout. The layout names the dim: record (activations),
        sequence (proteins), episode (episodes); `ann` files can't lie end to end.

    Returns
    -------
    Dataset
        Lazy where its parts are. Each row keeps the file it came from in the coordinate `source`,
        labels that would repeat are renumbered as the layout says.

    Raises
    ------
    LayoutError
        The parts differ in layout, variables, widths or attributes; all differences are named.

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
    joined.attrs = _one_attrs(layout, [dict(p.attrs) for p in parts], _names(parts))
    forms = [part.encoding.get("h5dask") for part in parts]
    numbers = new_numbers(layout, labels, distinct)
    known = [pair for pair in zip(forms, numbers, strict=True) if isinstance(pair[0], Contents)]
    if known:
        joined.encoding["h5dask"] = joined_contents(*zip(*known, strict=True))
    return joined


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


def joined_attrs(layout: Layout, files: Sequence[Contents]) -> dict[str, Any]:
    """Return the Dataset's attributes: those of the root and of the declared objects."""
    found = []
    for contents in files:
        attrs = {attr.name: attr.value for attr in contents.attrs.get("", ())}
        for spec in layout.attrs:
            if spec.path and not placeholders(spec.path):
                value = contents.attr(spec.path, spec.name)
                if value is not None:
                    attrs[spec.name] = value
        found.append({n: as_text(value) for n, value in attrs.items() if value is not None})
    return _one_attrs(layout, found, [contents.subject for contents in files])


def as_text(value: Any) -> Any:
    """Return an attribute's value as the Dataset has it: text of fixed length as str."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, np.ndarray) and value.dtype.kind == "S":
        return np.array([as_text(one) for one in value.ravel()], object).reshape(value.shape)
    return value


def _one_attrs(
    layout: Layout, parts: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> dict[str, Any]:
    """Return one set of attributes; those that disagree are refused, all by name at once."""
    specs = {spec.name: spec for spec in layout.attrs}
    joined: dict[str, Any] = {}
    origin: dict[str, str] = {}
    said = []
    for attrs, name in zip(parts, names, strict=True):
        for key, value in attrs.items():
            if key not in joined:
                joined[key], origin[key] = value, name
                continue
            spec = specs.get(key)
            if spec is not None and spec.kind == "json":
                joined[key], clash = _merged_json(spec, joined[key], value)
            else:
                same = np.array_equal(np.asarray(joined[key]), np.asarray(value))
                clash = [] if same or (spec is not None and spec.varies) else [key]
            said += [
                f"attribute {what} differs between {origin[key]} and {name}; "
                "make them equal before laying the files end to end"
                for what in clash
            ]
    if said:
        raise LayoutError("\n".join(said))
    return joined


def _merged_json(spec: AttrSpec, mine: Any, other: Any) -> tuple[Any, list[str]]:
    """Merge two JSON objects key by key; keys that disagree are named."""
    if mine == other or spec.varies:
        return mine, []
    try:
        left, right = json.loads(mine), json.loads(other)
    except (TypeError, ValueError):
        return mine, [spec.name]
    if not (isinstance(left, dict) and isinstance(right, dict)):
        return mine, [spec.name]
    clash = [
        f"{spec.name}[{key!r}]"
        for key in left.keys() & right.keys()
        if left[key] != right[key] and key not in spec.derived
    ]
    return json.dumps({**right, **left}), sorted(clash)


def warn_left_out(name: str, unknown: Sequence[str]) -> None:
    """Say that datasets which the layout doesn't know stay behind when files are joined."""
    if unknown:
        warnings.warn(
            f"{name}: left out of the joined Dataset: {', '.join(unknown)}; the layout doesn't "
            "know how they lie end to end",
            UserWarning,
            stacklevel=3,
        )
