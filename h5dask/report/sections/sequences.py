"""Sampled sequences: how many there are, how long, and which amino acids they are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from h5dask.fasta.spelling import ALPHABET, LETTER
from h5dask.kernels.profiles import LETTERS, UNKNOWN
from h5dask.ops.ragged import ROW_SIZE
from h5dask.report.section import Card, Cards, Cell, Piece, Section, Sentence, Swatch, Table
from h5dask.report.sections import _spread, _tally
from h5dask.report.sections._blocks import over_blocks
from h5dask.report.sections._histogram import histogram
from h5dask.report.sections._owners import SEQUENCES, STRUCTURE, is_profiled, labels_of, sampled
from h5dask.report.sections._plots import ACCENT, INK, LIT, draw_histogram, plain_figure, tooltip

if TYPE_CHECKING:
    from bokeh.plotting import figure

_APART = ("noise", "temperature")
_HEIGHT = 200


def values(ds: xr.Dataset) -> dict[str, Any]:
    """Ask how often each amino acid is there; a profile doesn't say."""
    if sampled(ds) is None:
        return {}
    tallied = over_blocks("count", SEQUENCES, ds[SEQUENCES].variable, _tally.tally, _tally.merge)
    return {SEQUENCES: tallied}


def draw(ds: xr.Dataset, values: Any) -> list[Piece]:
    """Return a table of counts, and pictures of lengths and amino acids."""
    labels = labels_of(ds)
    structures = labels.drop_duplicates([STRUCTURE, ROW_SIZE])
    pieces = [*_lengths(structures), *_letters(ds, values)]
    cards = tuple(piece for piece in pieces if isinstance(piece, Card))
    sentences = (piece for piece in pieces if isinstance(piece, Sentence))
    return [
        _counts(labels, structures),
        *([Cards(cards=cards)] if cards else []),
        *sentences,
    ]


def _counts(labels: pd.DataFrame, structures: pd.DataFrame) -> Table:
    """Return what there is of each kind, in one row."""
    if "n_samples" in labels:
        samples = labels["n_samples"]
    else:
        apart = [name for name in (STRUCTURE, *_APART) if name in labels]
        samples = labels.groupby(apart, sort=False).size()
    sizes = structures[ROW_SIZE]
    row: list[tuple[str, Cell]] = [
        ("Structures", int(structures[STRUCTURE].nunique())),
        ("Sequences", int(samples.sum())),
        ("Samples", _range(samples)),
        *(
            (head, int(labels[name].nunique()))
            for name, head in zip(_APART, ("Noise levels", "Temperatures"), strict=True)
            if name in labels
        ),
        ("Shortest", _named(structures.loc[sizes.idxmin()])),
        ("Longest", _named(structures.loc[sizes.idxmax()])),
    ]
    heads, cells = zip(*row, strict=True)
    return Table(
        heads=heads,
        rows=[cells],
        right=frozenset(heads[:-2]),
        caption="Samples are those of a structure at one noise level and temperature; of equally "
        "short or long structures the first is named",
    )


def _range(numbers: pd.Series[Any]) -> Cell:
    least, most = int(numbers.min()), int(numbers.max())
    return least if least == most else f"{least:,} to {most:,}"


def _named(structure: pd.Series[Any]) -> str:
    name = structure.get("structure_id") or f"structure {structure[STRUCTURE]}"
    return f"{name}, {structure[ROW_SIZE]:,} residues"


def _lengths(structures: pd.DataFrame) -> list[Card]:
    """Return a histogram of lengths; none where all are equal."""
    sizes = structures[ROW_SIZE].to_numpy(np.int64)
    found = histogram(_spread.spread(sizes, _spread.origin_of(sizes)), whole=True)
    if found is None:
        return []
    n_outside = found.n_below + found.n_above
    return [
        Card(
            title="Lengths",
            aside=f"residues of {len(sizes):,} structures",
            content=draw_histogram(found, whole=True, height=_HEIGHT),
            note=f"{n_outside:,} lie outside the picture" if n_outside else "",
        )
    ]


def _letters(ds: xr.Dataset, values: Mapping[str, Any]) -> Iterator[Piece]:
    """Yield the share of each known amino acid beside an equal one; the others in words."""
    if SEQUENCES not in values:
        return
    found = values[SEQUENCES]
    if found is None:
        yield Sentence(f"Sequences hold more than {_tally.MOST} different numbers.")
        return
    counts = np.array([found[letter] for letter in range(UNKNOWN)])
    n_known, total = int(counts.sum()), found.total()
    if not n_known:
        yield Sentence(f"None of {total:,} residues is a known amino acid.")
        return
    names = _names(ds)
    n_outside = total - n_known - found[UNKNOWN]
    notes = [f"{names[UNKNOWN]} apart: {found[UNKNOWN]:,} of {total:,} residues"]
    notes += [f"{n_outside:,} outside 0 to {UNKNOWN}"] if n_outside else []
    yield Card(
        title="Amino acids",
        aside=f"share of {n_known:,} known residues of all samples",
        content=_bars(counts / n_known, counts.tolist(), names),
        legend=(Swatch("share", ACCENT), Swatch(f"uniform background, {1 / UNKNOWN:.0%}", INK)),
        note="; ".join(notes),
    )


def _names(ds: xr.Dataset) -> list[str]:
    """Return the letter of each index."""
    labels = ds.coords.get(LETTER)
    return (
        list(ALPHABET) if labels is None or len(labels) != LETTERS else [*map(str, labels.values)]
    )


def _bars(shares: NDArray[np.float64], counts: list[int], names: list[str]) -> figure:
    """Return a bar a letter, and a line where all of them would end if they were equal."""
    from bokeh.models import ColumnDataSource, FixedTicker, NumeralTickFormatter, PlainText

    places, equal = list(range(len(shares))), 1 / len(shares)
    made = plain_figure(
        height=_HEIGHT,
        y_range=(0, max(float(shares.max()), equal) * 1.06),
        min_border_left=40,
        min_border_right=10,
    )
    made.xaxis.ticker = FixedTicker(ticks=places)
    made.xaxis.major_label_overrides = {at: PlainText(text=names[at]) for at in places}
    made.yaxis.formatter = NumeralTickFormatter(format="0%")
    source = ColumnDataSource(
        {
            "letter": names[: len(places)],
            "x": places,
            "share": shares,
            "says": [
                f"{share:.2%}, {n:,} residues" for share, n in zip(shares, counts, strict=True)
            ],
        }
    )
    bars = made.vbar(
        x="x",
        top="share",
        width=0.84,
        source=source,
        fill_color=ACCENT,
        line_color=None,
        hover_fill_color=LIT,
        hover_line_color=None,
    )
    made.hspan(y=[equal], line_color=INK, line_dash="dashed")
    made.add_tools(tooltip(bars, [("amino acid", "@letter"), ("share", "@says")], mode="vline"))
    return made


SECTION = Section(
    title="Sequences",
    place=55,
    draw=draw,
    values=values,
    suits=lambda ds: sampled(ds) is not None or is_profiled(ds),
    about="How many sequences there are of how many structures, and what they are made of.",
)
