"""What the samples of structures have in common: entropy along positions, and figures of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.kernels.profiles import LETTERS, UNKNOWN
from h5dask.ops.folding import blocked
from h5dask.ops.ragged import ROW_SIZE
from h5dask.ops.residues import profile
from h5dask.report.section import Card, Cards, Cell, Piece, Section, Sentence, Swatch, Table
from h5dask.report.sections import _spread
from h5dask.report.sections._blocks import over_blocks
from h5dask.report.sections._histogram import histogram
from h5dask.report.sections._owners import ENTROPIES, LOGITS, SEQUENCES, is_profiled, sampled
from h5dask.report.sections._plots import ACCENT, FAINT, draw_histogram, plain_figure, tooltip
from h5dask.report.sections._spread import Spread

if TYPE_CHECKING:
    from bokeh.plotting import figure

FIGURES = {
    "perplexity": ("Perplexity", "sequences"),
    "pseudo_perplexity": ("Pseudo-perplexity", "sequences"),
    "recovery": ("Recovery", "sequences"),
    "consensus_recovery": ("Recovery of the consensus", "profiles"),
    "diversity": ("Diversity", "profiles"),
}
"""Figures, what they are called, and what each of them has one of."""
N_PLACES = 20
"""Parts of equal length into which each sequence is divided."""
LEVEL = 0.01
"""Bits to which quartiles are told."""
_N_LEVELS = 1 + int(np.ceil(np.log2(LETTERS) / LEVEL))
_QUARTILES = (0.25, 0.75)
_PALE = "rgba(76, 130, 216, 0.28)"
_BAD = "n_bad"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Along:
    """Entropies of positions, by how far along their sequence these lie."""

    counts: NDArray[np.int64]
    """Positions of each level, a multiple of `LEVEL` bits: (place, level)."""
    sums: NDArray[np.float64]
    """Bits of all positions: (place,)."""
    n_lost: int
    """Positions without an entropy."""


def values(ds: xr.Dataset) -> dict[str, Any] | str:
    """Ask for entropies by place and for the spread of each figure, or say why there are none."""
    try:
        found = ds if is_profiled(ds) else profile(_clean(ds))
    except Refused as error:
        return str(error)
    name = next(name for name in ENTROPIES if name in found)
    places = places_of(found[ROW_SIZE].values)
    asked = {name: over_blocks("along", name, _array(found[name], ds), along, merge, rows=places)}
    looks = _spread.spread, _spread.merge
    for key in FIGURES:
        x = ds.get(key, found.get(key))
        if x is not None and x.ndim == 1 and x.dtype.kind == "f":
            array = _array(x, ds)
            asked[key] = over_blocks("figure", key, array, *looks, first=_spread.origin_of)
    if _BAD in found:
        asked[_BAD] = over_blocks("sum", _BAD, _array(found[_BAD], ds), np.sum, sum)
    return asked


def draw(ds: xr.Dataset, values: Any) -> list[Piece]:
    """Return entropy along positions, then a table and histograms of figures."""
    if isinstance(values, str):
        return [Sentence(f"No profiles: {line}") for line in values.splitlines()]
    made: list[Piece] = [
        _drawn(values[name], of) for name, of in ENTROPIES.items() if name in values
    ]
    if n_bad := values.get(_BAD):
        made.append(
            Sentence(f"{n_bad:,} residues have logits without a softmax: NaN, infinite, or none.")
        )
    spreads = {key: values[key] for key in FIGURES if key in values}
    cards = [card for key, spread in spreads.items() for card in _card(key, spread)]
    made += [_table(spreads)] if spreads else []
    return [*made, Cards(cards=tuple(cards))] if cards else made


def places_of(lengths: npt.ArrayLike) -> NDArray[np.uint8]:
    """Return which part of its sequence the middle of each position lies in: (position,).

    Parameters
    ----------
    lengths : (profile,) int
        Positions of each.

    Examples
    --------
    >>> places_of([2, 4]).tolist()
    [5, 15, 2, 7, 12, 17]
    """
    sizes = np.asarray(lengths, np.int64)
    at = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return (N_PLACES * (2 * at + 1) // np.repeat(2 * sizes, sizes)).astype(np.uint8)


def along(bits: NDArray[Any], places: NDArray[np.uint8]) -> Along:
    """Return a block of entropies (position,) by place; NaN is counted.

    Examples
    --------
    >>> found = along(np.array([0.0, 1.5, 1.0, np.nan]), places_of([2, 2]))
    >>> found.sums[[5, 15]], int(found.counts.sum()), found.n_lost
    (array([1. , 1.5]), 3, 1)
    """
    there = ~np.isnan(bits)
    kept, at = bits[there], places[there].astype(np.int64)
    levels = np.clip(np.rint(kept / LEVEL), 0, _N_LEVELS - 1).astype(np.int64)
    counts = np.bincount(at * _N_LEVELS + levels, minlength=N_PLACES * _N_LEVELS)
    return Along(
        counts=counts.reshape(N_PLACES, _N_LEVELS),
        sums=np.bincount(at, weights=kept, minlength=N_PLACES).astype(np.float64),
        n_lost=int(bits.size - kept.size),
    )


def merge(parts: list[Along]) -> Along:
    """Return all that several were made of."""
    return Along(
        counts=np.sum([part.counts for part in parts], axis=0),
        sums=np.sum([part.sums for part in parts], axis=0, dtype=np.float64),
        n_lost=sum(part.n_lost for part in parts),
    )


def _clean(ds: xr.Dataset) -> xr.Dataset:
    """Return what a profile is made of, lazy; what is no amino acid becomes X.

    A profile of it would be refused, but a report tells of a file whatever is in it.
    """
    inputs: dict[str, da.Array] = {
        name: blocked(ds[name].variable) for name in (SEQUENCES, LOGITS) if name in ds
    }
    letters = inputs[SEQUENCES]
    inputs[SEQUENCES] = da.map_blocks(_known, letters, dtype=letters.dtype)
    return ds.assign({name: (ds[name].dims, array) for name, array in inputs.items()})


def _known(letters: NDArray[Any]) -> NDArray[Any]:
    known = np.where((letters >= 0) & (letters < LETTERS), letters, UNKNOWN)
    return known.astype(letters.dtype, copy=False)


def _array(x: xr.DataArray, ds: xr.Dataset) -> xr.Variable | da.Array:
    """Return values whose blocks are shared with other sections, or among those of a profile."""
    return x.variable if x.name in ds or x.chunks is None else x.data


def _drawn(found: Along, of: str) -> Piece:
    """Return a picture of entropies; a line where all are 0, or none is there."""
    n = int(found.counts.sum())
    lost = f"; {found.n_lost:,} positions have none" if found.n_lost else ""
    if not found.sums.any():
        told = "0 bits everywhere: samples agree, or there is one of each" if n else "nowhere known"
        return Sentence(f"Entropy of {of}: {told}{lost}.")
    return Card(
        title="Entropy along positions",
        aside=f"of {of}, mean {found.sums.sum() / n:.3g} bits of {n:,} positions",
        content=_band(found),
        legend=(Swatch("mean", ACCENT), Swatch("middle half of the positions", _PALE)),
        note=f"0 is where a sequence begins, 1 where it ends{lost}",
    )


def quantile(counts: NDArray[np.int64], share: float) -> NDArray[np.float64]:
    """Return the first level below or at which a share of the positions lies: (place,) bits.

    Examples
    --------
    >>> quantile(np.array([[1, 0, 3], [3, 1, 0]]), 0.5)
    array([0.02, 0.  ])
    """
    passed = counts.cumsum(axis=1)
    levels = (passed >= share * passed[:, -1:]).argmax(axis=1)
    bits: NDArray[np.float64] = LEVEL * levels
    return bits


def _band(found: Along) -> figure:
    """Return a line of means, and a band from quartile to quartile."""
    from bokeh.models import ColumnDataSource

    n = found.counts.sum(axis=1)
    held = np.flatnonzero(n)
    low, high = (quantile(found.counts, share)[held] for share in _QUARTILES)
    means = found.sums[held] / n[held]
    source = ColumnDataSource(
        {
            "x": (held + 0.5) / N_PLACES,
            "mean": means,
            "low": low,
            "high": high,
            "within": [f"{at / N_PLACES:.2f} to {(at + 1) / N_PLACES:.2f}" for at in held],
            "says": [
                f"{mean:.3g}, half from {first:.2f} to {last:.2f}"
                for mean, first, last in zip(means, low, high, strict=True)
            ],
            "n": [f"{count:,}" for count in n[held].tolist()],
        }
    )
    top = max(float(high.max()), float(means.max()), LEVEL)
    made = plain_figure(
        height=280, x_range=(0, 1), y_range=(0, 1.06 * top), min_border_left=40, min_border_right=10
    )
    made.ygrid.grid_line_color = FAINT
    made.varea("x", "low", "high", source=source, fill_color=_PALE)
    made.line("x", "mean", source=source, line_color=ACCENT, line_width=2)
    points = made.scatter("x", "mean", source=source, size=6, color=ACCENT)
    tips = [("place", "@within"), ("bits", "@says"), ("positions", "@n")]
    made.add_tools(tooltip(points, tips, mode="vline"))
    return made


def _table(spreads: Mapping[str, Spread]) -> Table:
    heads = ("Figure", "Of", "Values", "Not finite", "Min", "Mean", "Max", "Std")
    rows: list[tuple[Cell, ...]] = []
    for key, one in spreads.items():
        told = (one.least, one.mean, one.most, one.std) if one.n_finite else (None,) * 4
        rows.append((*FIGURES[key], one.n, one.n - one.n_finite, *told))
    caption = "A profile is of all samples of a structure at one noise level and temperature"
    return Table(heads=heads, rows=rows, right=frozenset(heads[2:]), caption=caption)


def _card(key: str, spread: Spread) -> list[Card]:
    """Return a histogram of a figure; none where all values are equal."""
    found = histogram(spread, whole=False)
    if found is None:
        return []
    title, owners = FIGURES[key]
    n_outside = found.n_below + found.n_above
    notes = ["logarithmic axis"] if found.log else []
    notes += [f"{n_outside:,} lie outside the picture"] if n_outside else []
    picture = draw_histogram(found, whole=False)
    aside = f"of {spread.n_finite:,} {owners}"
    return [Card(title=title, aside=aside, content=picture, note="; ".join(notes))]


SECTION = Section(
    title="Profiles",
    place=57,
    draw=draw,
    values=values,
    suits=lambda ds: sampled(ds) is not None or is_profiled(ds),
    about="What the samples of each structure have in common. Perplexity is 1 where every residue "
    "was certain; diversity is the share of pairs of samples that differ at a position.",
)
