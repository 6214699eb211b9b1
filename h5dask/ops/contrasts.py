"""What tells two sets of records apart: difference vectors, layer by layer, and how good they are.

Which records are compared lies in `pairing`, what becomes of their blocks in `differences`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.ops.choosing import is_lazy, kept_coords, name_of, refuse_other_than_numbers
from h5dask.ops.components import variables_of
from h5dask.ops.cost import Cost, Forms, folding
from h5dask.ops.differences import (
    compared,
    halves_of,
    judged,
    merge,
    projected,
    seen,
    seen_paired,
)
from h5dask.ops.folding import Index, blocked, edges_of, fold
from h5dask.ops.pairing import Pair, Told, pairs_of, rows_of
from h5dask.ops.panels import own, panels

SIDES = ("first", "second")
"""Labels of the sides of a pair."""
_TASKS = 4
"""Tasks of one pair and layer before one takes several panels: there are many of both."""


def contrast(
    x: xr.Dataset | xr.DataArray,
    *,
    pairs: Told | None = None,
    paired: bool = True,
    layers: Sequence[Any] | None = None,
    seed: int = 0,
    dim: str = "record",
) -> xr.Dataset:
    """Return the vectors that lead from one set of records to another, and how good they are.

    Parameters
    ----------
    x : DataArray or Dataset
        (dim, layer, hidden), or (dim, hidden), of numbers, with coords `scenario`, `branch` and
        `sample` along `dim`. Of a Dataset, its one such variable of three dims.
    pairs : sequence of two names each, or mapping of str to two names, optional
        Sets of records that are compared, "scenario" or "scenario/branch"; found by their names
        without it, see `pairing.pairs_of`.
    paired : bool, default True
        Whether records of the same sample are compared with each other. Both sides must have the
        same samples then, and a sample counts where both of its records are finite.
    layers : sequence of labels, optional
        Layers to look at; all of them without it.
    seed : int, default 0
        Divides the samples of each pair into halves at random.
    dim : str, default "record"
        The dim of records.

    Returns
    -------
    Dataset
        Lazy where x is, float64 except for counts:

        - `vector` (pair, layer, hidden): mean of the first side less that of the second;
        - `principal` (pair, layer, hidden), if paired: the direction of length 1 along which the
          differences of samples are largest in the sum of squares, not centred, oriented as
          `vector` is;
        - `norm` (pair, layer) of `vector`; `cosine` (layer, pair, other_pair) between vectors;
        - `reliability` (pair, layer): cosine of the vectors of both halves;
        - `count`, `skipped` (pair, layer, side): records that counted, or weren't finite;
        - `projection` (pair, layer, side, row): records along the other half's vector of length
          1, NaN for those that don't count and where a pair has fewer rows; `dprime` and `auc`
          (pair, layer) of them: the difference of both sides' means over their root mean
          variance, NaN where a half has fewer than two records of a side, and the part of all
          couples in which the first side lies ahead (ties count half), the mean of both halves.

        Coords: `pair`, `first`, `second` (pair), `layer`, `side`, `half` (pair, side, row: 0 or 1,
        -1 where a pair has fewer rows), and those of x along layers and hidden. All but
        `projection`, `dprime` and `auc` read x once; those read it a second time. Memory per task:
        16 MiB of each side, and for `principal` 8 bytes for each value of the differences, at most
        24 bytes a pair of hidden values.

    Raises
    ------
    Refused
        No pairs, other samples on both sides, a layer that isn't there, not numbers.

    References
    ----------
    .. [1] Rimsky et al., "Steering Llama 2 via Contrastive Activation Addition" (2024).
    .. [2] Zou et al., "Representation Engineering" (2023), for the principal direction.

    Examples
    --------
    >>> import h5dask
    >>> from h5dask.testing import example_file
    >>> ds = h5dask.open_dataset(example_file("activations"))
    >>> found = h5dask.contrast(ds)
    >>> found.pair.values.tolist(), found.vector.dims, found.norm.shape
    (['matching_few_shot_prefilled'], ('pair', 'layer', 'hidden'), (1, 2))
    """
    x = variable_of(x, dim=dim).transpose(dim, ...)
    coords, lanes = _lanes(x, layers)
    labels = x.coords.to_dataset()
    told = pairs_of(labels, pairs, dim=dim)
    couples = [_couple(labels, pair, dim=dim, paired=paired, seed=seed) for pair in told]
    longest = max(side.rows.size for couple in couples for side in couple)
    compare = partial(
        _compared, blocked(x.variable), name=name_of(x), vector=x.dims[-1], longest=longest,
        paired=paired,
    )  # fmt: skip
    along = x.dims[1] if x.ndim == 3 else "layer"
    grid = [_end_to_end([compare(lane, one) for lane in lanes], along) for one in couples]
    made = _end_to_end(grid, "pair")
    made = made.chunk(dict.fromkeys(made.dims, -1)).assign_coords(
        pair=[pair.name for pair in told],
        first=("pair", [str(pair.first) for pair in told]),
        second=("pair", [str(pair.second) for pair in told]),
        side=list(SIDES),
        half=(("pair", "side", "row"), [[side.flags(longest) for side in one] for one in couples]),
    )
    if paired:
        made["projection"] = made.projection.where(made.projection.notnull().all("side"))
    made = _judged(made, along, x.dims[-1])
    if x.ndim == 2:
        made = made.squeeze(along)
    made = made.assign_coords(coords.drop_vars(list(made.variables), errors="ignore").coords)
    return made if is_lazy(x) else made.compute()


def variable_of(
    x: xr.Dataset | xr.DataArray, name: str | None = None, *, dim: str = "record"
) -> xr.DataArray:
    """Return the values that can be compared, of a Dataset those named, or the only ones."""
    if isinstance(x, xr.Dataset):
        fit = [
            str(one)
            for one, variable in x.data_vars.items()
            if variable.dtype.kind == "f" and variable.ndim == 3 and dim in variable.dims
        ]
        if name is None and len(fit) != 1:
            raise Refused(
                f"contrast: found {len(fit)} variables of numbers along {dim}, layers and one dim "
                f"more ({', '.join(fit) or 'none'}); {_way_out(x, fit)}"
            )
        if name is not None and name not in x.data_vars:
            raise Refused(f"contrast: found {name!r}; expected of {', '.join(map(str, x))}")
        x = x[fit[0] if name is None else name]
    refuse_other_than_numbers(x)
    if dim not in x.dims or x.ndim not in (2, 3):
        raise Refused(
            f"{name_of(x)}: found dims {x.dims!r}; expected {dim!r}, layers where there are any, "
            "and one more"
        )
    return x


def _way_out(x: xr.Dataset, fit: Sequence[str]) -> str:
    """Return how a Dataset comes to have one variable to compare."""
    whole = [one for one in x.coords.values() if one.ndim == 0 and one.dtype.kind in "iu"]
    if fit or not whole:
        return "name the one that is meant" if fit else "pass the values that are meant"
    return f"keep the dim: sel({whole[0].name}=[{whole[0].item()!r}])"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Side:
    """One side of a pair."""

    rows: NDArray[np.int64]
    """Where its records are."""
    half: NDArray[np.int8]
    """Which half each of them is in, 0 or 1."""

    def flags(self, n: int) -> NDArray[np.int8]:
        """Return the halves of n rows, -1 beyond the records."""
        return np.pad(self.half, (0, n - self.half.size), constant_values=-1)


Couple: TypeAlias = tuple[_Side, _Side]
"""Both sides of a pair."""


def _couple(labels: xr.Dataset, pair: Pair, *, dim: str, paired: bool, seed: int) -> Couple:
    """Return both sides of a pair; two records of one sample are in the same half."""
    random = np.random.default_rng(seed)
    first, second = rows_of(labels, pair, dim=dim, paired=paired)
    half = halves_of(first.size, random)
    other = half if paired else halves_of(second.size, random)
    return _Side(rows=first, half=half), _Side(rows=second, half=other)


def _lanes(x: xr.DataArray, layers: Sequence[Any] | None) -> tuple[xr.Dataset, list[Index]]:
    """Return the coords of layers and columns, and how each layer is indexed behind a record."""
    coords = kept_coords(x, x.dims[1:])
    if x.ndim == 2:
        if layers is not None:
            raise Refused(f"layers: found {layers!r}, but {name_of(x)} has none; leave them out")
        return coords, [()]
    layer = x.dims[1]
    if layer not in coords:
        coords = coords.assign_coords({layer: np.arange(x.sizes[layer])})
    there = coords[layer].values.tolist()
    asked = there if layers is None else list(layers)
    missing = [one for one in asked if one not in there]
    if missing or not asked:
        raise Refused(
            f"layers: found {', '.join(map(repr, missing)) or 'none'}; expected of "
            f"{', '.join(map(repr, there)) or 'none'}"
        )
    places = [there.index(one) for one in asked]
    return coords.isel({layer: places}), [(at,) for at in places]


def _compared(
    values: da.Array,
    lane: Index,
    couple: Couple,
    *,
    name: str,
    vector: Hashable,
    longest: int,
    paired: bool,
) -> xr.Dataset:
    """Return what both sides of a pair are compared by in one layer, lazily."""
    found = [panels(values, side.rows, lane) for side in couple]
    first_pass, second_pass = zip(*(own(one, "see", "judge") for one in found), strict=True)
    see = partial(fold, axes=(0, 1), merge=merge, name=f"contrast-{name}", tasks=_TASKS)
    flags = [
        partial(_cut, side.half, edges_of(one, 0)) for side, one in zip(couple, found, strict=True)
    ]
    if paired:
        record = see(first_pass, look=seen_paired, extras=flags[0], fan_in=2)
    else:
        one, other = (
            see(rows, look=partial(seen, side=side), extras=flags[side])
            for side, rows in enumerate(first_pass)
        )
        record = one.joined(other, merge)
    width = values.shape[-1]
    sizes: dict[str, dict[Hashable, int]] = {
        "vector": {vector: width},
        **({"principal": {vector: width}} if paired else {}),
        "halves": {"part": 2, vector: width},
        "count": {"side": 2},
        "skipped": {"side": 2},
    }
    made = xr.Dataset(variables_of(record.then("compared", compared), sizes))
    # Nothing is read a second time before the vectors are there.
    project = partial(
        fold, axes=(0, 1), look=projected, merge=np.concatenate, name=f"project-{name}",
        given=made["halves"].data, tasks=_TASKS,
    )  # fmt: skip
    padded = partial(_padded, n=longest), ((longest,),), np.dtype(np.float64)
    along = [
        project(rows, extras=flag).array("projection", *padded, new=1)
        for rows, flag in zip(second_pass, flags, strict=True)
    ]
    return made.assign(projection=(("side", "row"), da.stack(along)))


def contrast_cost(ds: xr.Dataset, *, stored: Forms | None = None) -> Cost:
    """Return what `contrast` takes of a Dataset of one variable, whose records all have a pair.

    The principal directions take most of it: products of all differences with those of their
    record, in float64, of which half as many are done in a second as of float32.
    """
    (x,) = ds.data_vars.values()
    cost = folding(ds, stage="contrast", stored=stored, passes=2)
    return replace(cost, products=2.0 * x.size * x.shape[-1])


def _padded(values: NDArray[np.float64], *, n: int) -> NDArray[np.float64]:
    return np.pad(values, (0, n - values.size), constant_values=np.nan)


def _cut(flags: NDArray[np.int8], edges: Sequence[int], at: Index) -> NDArray[np.int8]:
    """Return the flags of a block's rows."""
    return flags[edges[at[0]] : edges[at[0] + 1]]


def _end_to_end(parts: Sequence[xr.Dataset], dim: Hashable) -> xr.Dataset:
    """Return Datasets along a new dim."""
    return xr.concat(parts, dim, data_vars="all", coords="minimal", compat="override", join="exact")


def _judged(made: xr.Dataset, layer: Hashable, vector: Hashable) -> xr.Dataset:
    """Return what follows from vectors and projections along with them."""
    first, second = (made.halves.isel(part=half) for half in (0, 1))
    cosine = _cosine(made.vector, made.vector.rename(pair="other_pair"), vector)
    quality = xr.apply_ufunc(
        judged,
        made.projection,
        made.half,
        input_core_dims=[["side", "row"], ["side", "row"]],
        output_core_dims=[["quality"]],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"quality": 2}},
    )
    return made.drop_vars("halves").assign(
        norm=_length(made.vector, vector),
        cosine=cosine.transpose(layer, "pair", "other_pair"),
        reliability=_cosine(first, second, vector),
        dprime=quality.isel(quality=0),
        auc=quality.isel(quality=1),
    )


def _length(x: xr.DataArray, dim: Hashable) -> xr.DataArray:
    squared: xr.DataArray = xr.dot(x, x, dim=[dim])
    return squared**0.5


def _cosine(one: xr.DataArray, other: xr.DataArray, dim: Hashable) -> xr.DataArray:
    """Return the cosines between vectors, NaN where one has no length."""
    products: xr.DataArray = xr.dot(one, other, dim=[dim])
    lengths = _length(one, dim) * _length(other, dim)
    return products / lengths.where(lengths > 0)
