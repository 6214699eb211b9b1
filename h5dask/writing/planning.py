"""What a Dataset becomes in a file: groups, attributes, datasets, and which rows go where.

The inverse of `assembly`. Where the Dataset and the form it came in differ, the Dataset wins.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import xarray as xr

from h5dask.contents import Contents, GroupForm
from h5dask.errors import LayoutError
from h5dask.groups import Groups
from h5dask.layout import Layout
from h5dask.storage.planned import Plan
from h5dask.writing.drafting import Draft, Transfer, matched
from h5dask.writing.forming import Compression, gzip_level
from h5dask.writing.renewing import file_attrs


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePlan:
    """A file to write: the skeleton, and the transfers that fill it."""

    plan: Plan
    transfers: tuple[Transfer, ...]
    sizes: Mapping[str, int]
    """Size of each dim."""
    nbytes: int
    """Bytes of the uncompressed values."""

    @property
    def expected(self) -> dict[str, int]:
        """Number of values that must arrive, by path."""
        return {transfer.path: math.prod(transfer.shape) for transfer in self.transfers}


def plan_file(
    layout: Layout,
    ds: xr.Dataset,
    form: Contents | None,
    *,
    compression: Compression = None,
    keep_attrs: bool = False,
) -> FilePlan:
    """Return the file that a Dataset becomes.

    Parameters
    ----------
    layout : Layout
        The layout to write.
    ds : Dataset
        In the layout's analysis form.
    form : Contents, optional
        The complete form of a file to be like; the document's defaults without it.
    compression : str, int or tuple, optional
        "gzip", a gzip level, ("gzip", level), or "none"; the form's filters without it.
    keep_attrs : bool, default False
        Whether attributes that the Dataset lacks are taken from the form.

    Raises
    ------
    LayoutError
        The Dataset can't be written as the layout; everything that stands in the way is named.
    """
    _refuse_unfit(layout, ds, form)
    groups = _groups(layout, ds, form)
    draft = Draft(layout, ds, form, groups, gzip_level(compression))
    for name, spec in matched(layout, ds):
        draft.add_variable(name, spec)
    draft.add_empty()
    plan = Plan(
        groups=draft.planned_groups(),
        arrays=tuple(draft.arrays),
        attrs=file_attrs(draft, keep_attrs),
        copies=tuple(draft.copies()),
    )
    plan = replace(plan, groups=_with_parents(plan))
    sizes = {str(dim): n for dim, n in ds.sizes.items()}
    return FilePlan(plan=plan, transfers=tuple(draft.transfers), sizes=sizes, nbytes=draft.nbytes())


def in_order(layout: Layout, ds: xr.Dataset) -> xr.Dataset:
    """Return the Dataset with each variable's dims in the order in which they are stored."""
    turned = {
        name: ds[name].transpose(*spec.dims)
        for name, spec in matched(layout, ds)
        if ds[name].dims != spec.dims and set(ds[name].dims) == set(spec.dims)
    }
    return ds.assign(turned) if turned else ds


def _refuse_unfit(layout: Layout, ds: xr.Dataset, form: Contents | None) -> None:
    """Raise once with everything that keeps the Dataset from being written as the layout."""
    said = []
    there = dict(matched(layout, ds))
    for name, spec in there.items():
        if set(ds[name].dims) != set(spec.dims):
            way_out = _dims_mended(ds, ds[name].dims, spec.dims)
            said.append(f"{name} has dims {ds[name].dims!r}, expected {spec.dims!r}{way_out}")
        elif spec.is_numeric and ds[name].dtype.kind not in "iufb":
            said.append(f"{name} has dtype {ds[name].dtype!s}, expected {' or '.join(spec.dtypes)}")
        elif ds[name].dtype.kind not in "iufbcOUST":
            said.append(f"{name} has dtype {ds[name].dtype!s}; convert it to numbers or text")
    said += [
        f"{name} is no variable of {layout.name}; leave it out with ds.drop_vars({name!r})"
        for name in map(str, ds.data_vars)
        if name not in there
    ]
    held = {spec.name for spec in there.values()}
    for spec in layout.arrays:
        lacking = spec.required and spec.name not in held and "{" not in spec.name
        if lacking and (form is None or any(spec.match(path) for path in form)):
            said.append(f"{spec.name} {spec.dims!r} is missing")
    for dim, size in layout.sizes.items():
        if ds.sizes.get(dim, size) != size:
            said.append(f"{dim} is {ds.sizes[dim]}, expected {size}")
    rows = layout.along or next((s.dims[0] for s in layout.arrays if s.required), None)
    if rows is not None and ds.sizes.get(rows) == 0:
        said.append(f"no rows at all: {rows} is 0")
    if said:
        raise LayoutError(f"the Dataset can't be written as {layout.name}: " + "; ".join(said))


def _dims_mended(ds: xr.Dataset, dims: Sequence[Hashable], expected: Sequence[str]) -> str:
    """Return how other dims become the expected ones, "" where that isn't clear."""
    lost = [dim for dim in expected if dim not in dims]
    if len(dims) == len(expected):
        given = [dim for dim in dims if dim not in expected]
        names = ", ".join(f"{old}={new!r}" for old, new in zip(given, lost, strict=True))
        return f" (rename({names}))"
    if lost and all(dim in ds.coords and not ds[dim].ndim for dim in lost):
        labels = ", ".join(f"{dim}=[{ds[dim].item()!r}]" for dim in lost)
        return f" (keep the dim: sel({labels}))"
    return ""


def _groups(layout: Layout, ds: xr.Dataset, form: Contents | None) -> Groups:
    """Return which rows of the Dataset each group takes."""
    if layout.groups is None:
        return Groups()
    labels = {
        str(name): coord.values
        for name, coord in ds.coords.items()
        if coord.dims == (layout.along,)
    }
    groups = layout.groups(labels, form)
    for dim, counts in groups.counts.items():
        if dim in ds.sizes and int(counts.sum()) != ds.sizes[dim]:
            raise LayoutError(
                f"the Dataset's labels count {int(counts.sum())} rows along {dim}, which has "
                f"{ds.sizes[dim]}: rows were cut along one dim only; select by label, such as "
                f"ds.sel({layout.group_keys[0]}=...), which cuts all dims together"
            )
    return groups


def _with_parents(plan: Plan) -> dict[str, GroupForm]:
    groups, plain = dict(plan.groups), GroupForm()
    for path in (*plan.attrs, *(array.path.rpartition("/")[0] for array in plan.arrays)):
        missing = path
        while missing not in groups:
            groups[missing] = plain
            missing = missing.rpartition("/")[0]
    return groups
