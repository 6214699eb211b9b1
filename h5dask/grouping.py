"""How a file's datasets make up the variables of a layout: groups end to end, layers stacked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from h5dask.check import misfit
from h5dask.contents import Contents
from h5dask.groups import Groups, Shape
from h5dask.layout import ArraySpec, Layout
from h5dask.pattern import fill, kinds
from h5dask.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Arranged:
    """One variable: which dataset holds which group of it, lane by lane."""

    name: str
    """Name in the Dataset."""
    spec: ArraySpec
    """The declaration it follows."""
    lanes: tuple[tuple[str, ...], ...]
    """Values of the stacked placeholders, one lane each; ((),) where nothing is stacked."""
    paths: tuple[tuple[str | None, ...], ...]
    """Path of the dataset of each group, lane by lane; None where the group has none."""
    trailing: Shape
    """Sizes of the stored dims after the first."""
    dtype: str
    """The stored dtype, as `ArrayForm.dtype` names it."""

    def held(self) -> Iterator[str]:
        """Yield the paths of all its datasets."""
        return (path for lane in self.paths for path in lane if path is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """A file read as one Dataset: its groups, its variables, and what stands in the way."""

    groups: Groups
    variables: tuple[Arranged, ...]
    sizes: Mapping[str, int]
    """Size of each dim."""
    misfits: tuple[Problem, ...]
    """What keeps the file from opening as one Dataset."""
    unknown: tuple[str, ...]
    """Datasets that the layout doesn't know."""


@dataclass(slots=True)
class _Bundle:
    """Datasets of one variable, while they are collected."""

    spec: ArraySpec
    at: dict[tuple[str, ...], dict[tuple[str, ...], str]] = field(default_factory=dict)


def arrange(layout: Layout, found: Contents) -> Arrangement:
    """Return how the datasets of a file make up the layout's variables.

    Parameters
    ----------
    layout : Layout
        The layout to read the file as.
    found : Contents
        What the file holds.

    Returns
    -------
    Arrangement
        Variables in the order of the layout's declarations. Nothing is raised: what doesn't fit
        is in `misfits`. A file that `Layout.refuse` names has that one misfit and no variables.
    """
    refusal = layout.refuse(found)
    if refusal is not None:
        return Arrangement(
            groups=Groups(keys=()), variables=(), sizes={}, misfits=(refusal,), unknown=()
        )
    misfits: list[Problem] = []
    bundles, unknown = _collect(layout, found, misfits)
    keys = _ordered_keys(layout, bundles)
    variables = tuple(
        _arranged(name, bundle, layout, keys, found, misfits) for name, bundle in bundles.items()
    )
    groups = _counted(layout, keys, variables, found, misfits)
    sizes = _sizes(layout, groups, variables, found, misfits)
    return Arrangement(
        groups=groups,
        variables=variables,
        sizes=sizes,
        misfits=tuple(dict.fromkeys(misfits)),
        unknown=tuple(unknown),
    )


def arrange_without(layout: Layout, found: Contents, dropped: Collection[str]) -> Arrangement:
    """Arrange a file; what doesn't fit of variables that are left out anyway stands in no way."""
    arrangement = arrange(layout, found)
    if not (arrangement.misfits and dropped):
        return arrangement
    kept = []
    for at, path in enumerate(found.paths):
        match = layout.spec_of(path)
        if match is None or fill(match[0].name, match[2]) not in dropped:
            kept.append(at)
    return arrange(layout, found.only(kept))


def _collect(
    layout: Layout, found: Contents, misfits: list[Problem]
) -> tuple[dict[str, _Bundle], list[str]]:
    """Sort the file's datasets by variable, lane and group."""
    bundles: dict[str, _Bundle] = {}
    unknown = []
    for path in found:
        match = layout.spec_of(path)
        # A variable of any type still needs one that values can be read as: the rest is carried.
        if match is None or not (match[0].dtypes or match[0].reads(found.form(path).dtype)):
            unknown.append(path)
            continue
        spec, _, keys = match
        name = fill(spec.name, keys) if "{" in spec.name else spec.name
        bundle = bundles.get(name)
        if bundle is None:
            bundle = bundles[name] = _Bundle(spec)
        lane = tuple([keys[key] for key in spec.stacked]) if spec.stacked else ()
        group = tuple([keys.get(key, "") for key in spec.group_keys])
        held = bundle.at.get(lane)
        if held is None:
            held = bundle.at[lane] = {}
        other = held.setdefault(group, path)
        if other != path:
            misfits.append(misfit.twice(found, path, other))
    rank = {spec.name: i for i, spec in enumerate(layout.arrays)}
    return dict(sorted(bundles.items(), key=lambda item: rank[item[1].spec.name])), unknown


def _ordered_keys(layout: Layout, bundles: Mapping[str, _Bundle]) -> tuple[tuple[str, ...], ...]:
    """Return every group's keys: numbers by value, choices as declared, the rest as listed."""
    names = layout.group_keys
    if not names:
        return ((),)
    seen: dict[tuple[str, ...], None] = {}
    for bundle in bundles.values():
        if bundle.spec.group_keys == names:
            for lane in bundle.at.values():
                seen.update(dict.fromkeys(lane))
    by_kind = kinds(path for spec in layout.arrays for path in spec.paths)
    listed: list[dict[str, int]] = [{} for _ in names]
    for key in seen:
        for ranks, value in zip(listed, key, strict=True):
            ranks.setdefault(value, len(ranks))

    def order(key: tuple[str, ...]) -> tuple[int, ...]:
        ranks = []
        for name, value, place in zip(names, key, listed, strict=True):
            kind = by_kind[name]
            if value == "":
                ranks.append(-1)
            elif kind == "d":
                ranks.append(int(value))
            else:
                ranks.append(kind.split("|").index(value) if kind else place[value])
        return tuple(ranks)

    return tuple(sorted(seen, key=order))


def _arranged(
    name: str,
    bundle: _Bundle,
    layout: Layout,
    keys: Sequence[tuple[str, ...]],
    found: Contents,
    misfits: list[Problem],
) -> Arranged:
    """Lay one variable's datasets out by lane and group, and say which do not fit."""
    spec = bundle.spec
    numeric = kinds(spec.paths)
    lanes = sorted(
        bundle.at,
        key=lambda lane: tuple(
            (int(v), "") if numeric[k] == "d" else (0, v)
            for k, v in zip(spec.stacked, lane, strict=True)
        ),
    )
    pick = [layout.group_keys.index(key) for key in spec.group_keys]
    groups = [tuple(key[i] for i in pick) for key in keys] if spec.ragged else [()]
    paths = tuple(tuple(bundle.at[lane].get(group) for group in groups) for lane in lanes)
    arranged = Arranged(
        name=name,
        spec=spec,
        lanes=tuple(lanes),
        paths=paths,
        trailing=(),
        dtype="",
    )
    return _measured(arranged, layout.sizes, found, misfits)


def _measured(
    arranged: Arranged, fixed: Mapping[str, int], found: Contents, misfits: list[Problem]
) -> Arranged:
    """Fill in trailing sizes and dtype, which all datasets of a variable must share."""
    spec = arranged.spec
    n_trailing = len(spec.stored_dims) - 1
    fits: dict[tuple[int, int], bool] = {}
    fitting: list[tuple[str, Shape, int]] = []
    paths = list(dict.fromkeys(arranged.held()))
    for path, at in zip(paths, found.positions(paths), strict=True):
        shape, of = found.shapes[at], found.form_of[at]
        key = (len(shape), of)
        if key not in fits:
            form = found.forms[of]
            fits[key] = not form.null and key[0] in spec.accepted_ranks and spec.reads(form.dtype)
        if fits[key]:
            fitting.append((path, shape, of))
        elif found.forms[of].null or key[0] not in spec.accepted_ranks:
            misfits.append(misfit.wrong_rank(found, path, spec))
        else:
            misfits.append(misfit.wrong_kind(found, path, spec))
    if not fitting:
        return arranged
    wanted = [fixed.get(dim) for dim in spec.stored_dims[1:]]
    wide = {path for path, shape, _ in fitting if 0 not in shape and misfit.is_of(shape, wanted)}
    model, whole, kind = next(
        (one for one in fitting if one[0] in wide),
        next((one for one in fitting if 0 not in one[1]), fitting[0]),
    )
    trailing, dtype = whole[len(whole) - n_trailing :], found.forms[kind].dtype
    # Byte orders may differ: values are read in the machine's own.
    alike = {of for of, form in enumerate(found.forms) if form.dtype[1:] == dtype[1:]}
    for path, shape, of in fitting:
        if path not in wide and 0 not in shape:
            misfits += misfit.too_wide(found, path, spec, shape, fixed)
        elif shape[len(shape) - n_trailing :] != trailing and 0 not in shape:
            misfits.append(misfit.unequal(found, path, model, "shape", shape, whole))
        elif of not in alike and spec.is_numeric and 0 not in shape:
            types = found.forms[of].dtype, dtype
            misfits.append(misfit.unequal(found, path, model, "dtype", *types))
    return replace(arranged, trailing=trailing, dtype=dtype)


def _counted(
    layout: Layout,
    keys: tuple[tuple[str, ...], ...],
    variables: Sequence[Arranged],
    found: Contents,
    misfits: list[Problem],
) -> Groups:
    """Count each group's rows along each ragged dim; variables that disagree are misfits."""
    counts: dict[str, NDArray[np.int64]] = {}
    shapes: dict[str, tuple[Shape | None, ...]] = {}
    by_detail = sorted(variables, key=lambda v: -len(v.spec.group_keys))
    ragged = [variable for variable in by_detail if variable.spec.ragged]
    rows_of: dict[str, list[NDArray[np.int64]]] = {}
    for variable in ragged:
        dim, whole = str(variable.spec.ragged), variable.spec.group_keys == layout.group_keys
        expected = counts.setdefault(dim, np.zeros(len(keys), np.int64))
        for lane in variable.paths:
            lane_shapes = tuple(
                None if at < 0 else found.shapes[at] for at in found.positions(lane)
            )
            shapes.setdefault(variable.name, lane_shapes)
            rows = variable.spec.rows(lane_shapes)
            rows_of.setdefault(variable.name, []).append(rows)
            if whole:
                np.maximum(expected, rows, out=expected)
    groups = Groups(names=layout.group_keys, keys=keys, counts=counts, shapes=shapes)
    counts.update(layout.count(groups))
    for variable in ragged:
        dim = str(variable.spec.ragged)
        for lane, rows in zip(variable.paths, rows_of[variable.name], strict=True):
            # A dataset without rows and a missing one stand for the same: a hole where others
            # have rows. Rows that a coarser variable repeats may belong to another group.
            unlike = (rows != counts[dim]) & (rows >= 0)
            if variable.spec.group_keys != layout.group_keys:
                unlike &= counts[dim] > 0
            for group in np.flatnonzero(unlike).tolist():
                path, expected_rows = lane[group], int(counts[dim][group])
                if path is None:
                    continue
                if len(found.shape(path)) == len(variable.spec.stored_dims):
                    misfits.append(
                        misfit.wrong_length(found, path, dim, int(rows[group]), expected_rows)
                    )
                    continue
                alike = (
                    other[group]
                    for one in ragged
                    for other, n in zip(one.paths, rows_of[one.name], strict=True)
                    if one.spec.ragged == dim and n[group] == expected_rows
                )
                model = next(filter(None, alike), None)
                misfits.append(misfit.unlike_rows(found, path, dim, expected_rows, model))
    return groups


def _sizes(
    layout: Layout,
    groups: Groups,
    variables: Sequence[Arranged],
    found: Contents,
    misfits: list[Problem],
) -> dict[str, int]:
    """Return the size of each dim; variables of one file that disagree are misfits."""
    sizes = {dim: sum(counts.tolist()) for dim, counts in groups.counts.items()}
    said: dict[str, str] = {}
    for variable in variables:
        misfits.extend(dict.fromkeys(_holes(groups, variable, found)))
        spec = variable.spec
        path = next(variable.held())
        if len(spec.stored_dims) != len(variable.trailing) + 1 or not found.shape(path):
            continue
        pairs = list(zip(spec.stored_dims[1:], variable.trailing, strict=True))
        if spec.ragged is None:
            pairs.insert(0, (spec.stored_dims[0], found.shape(path)[0]))
        pairs += [(dim, len(variable.lanes)) for dim in spec.stacked]
        for dim, size in pairs:
            fixed = layout.sizes.get(dim)
            if fixed is not None and size != fixed:
                misfits.append(misfit.wrong_width(found, path, dim, size, fixed))
            elif sizes.setdefault(dim, size) != size:
                misfits.append(
                    misfit.wrong_length(found, path, dim, size, sizes[dim], said.get(dim))
                )
            said.setdefault(dim, path)
    return {**dict(layout.sizes), **sizes}


def _holes(groups: Groups, variable: Arranged, found: Contents) -> Iterator[Problem]:
    """Yield a misfit for each group that has rows and lacks a dataset that it must have."""
    if variable.spec.ragged is None or not variable.spec.required:
        return
    counts = groups.counts[variable.spec.ragged]
    has = next(variable.held())
    for lane, paths in zip(variable.lanes, variable.paths, strict=True):
        stacked = dict(zip(variable.spec.stacked, lane, strict=True))
        for group, path in enumerate(paths):
            if path is None and counts[group]:
                keys = {**groups.keyed(group), **stacked}
                yield misfit.hole(found, variable.spec, keys, has)
