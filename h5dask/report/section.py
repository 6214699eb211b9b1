"""What a section of a report is, and the pieces that one is made of. No section lives here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr
    from bokeh.model import Model

Cell = str | int | float | None
"""What a table shows; numbers are written for people, None and NaN as a dash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text and numbers under heads."""

    heads: tuple[str, ...]
    """What the columns are called."""
    rows: Sequence[tuple[Cell, ...]]
    """A cell for each head."""
    right: frozenset[str] = frozenset()
    """Heads of the columns that line up at the right."""
    caption: str = ""
    """A line above it."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of text with a bar."""

    label: str
    """What is measured."""
    n: int
    """How long its bar is, compared with the others."""
    said: str
    """The same in words, at the end of the line."""
    more: str = ""
    """What the pointer is told beside the label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Lines of text with bars: counts of labels, sizes of variables."""

    bars: Sequence[Bar]
    """From top to bottom; at least one."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A line of text, where there is nothing to draw."""

    text: str
    """What it says."""


@dataclass(frozen=True, slots=True)
class Swatch:
    """What a colour of a picture stands for."""

    label: str
    """A scenario, a class, a side."""
    colour: str
    """As CSS has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One of several small pictures that stand side by side."""

    title: str
    """What it shows: the name of a variable."""
    content: Model | Bars
    """A bokeh figure, or bars."""
    aside: str = ""
    """A few words beside the title."""
    legend: tuple[Swatch, ...] = ()
    """What its colours stand for, in words above it."""
    note: str = ""
    """A line below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """Cards side by side, as many as fit a line."""

    cards: tuple[Card, ...]
    """In the order in which they are read."""
    caption: str = ""
    """A line above them."""


Piece = Table | Bars | Cards | Card | Sentence
"""What a section is made of, from top to bottom."""


def nothing(ds: xr.Dataset) -> Any:
    """Ask for no values: the default of `Section.values`."""
    return ()


def always(ds: xr.Dataset) -> bool:
    """Suit every Dataset: the default of `Section.suits`."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One part of a report: which Datasets it suits, what it computes, and how that is drawn."""

    title: str
    """Its heading, unique in a report."""
    place: int
    """Sections are read in the order of their places."""
    draw: Callable[[xr.Dataset, Any], Sequence[Piece]]
    """Dataset and what `values` became when it was computed -> pieces; none: it is left out."""
    values: Callable[[xr.Dataset], Any] = nothing
    """Dataset -> delayed values in any nest of lists and dicts, all small when computed.

    Those of all sections are computed at once, so that a block which several want is read once.
    No lazy arrays are among them: dask mixes up their results with those of delayed values.
    """
    variables: tuple[str, ...] = ()
    """Patterns such as `metadata_*`; a variable or coordinate must match each."""
    dims: tuple[str, ...] = ()
    """Patterns; a dim must match each."""
    suits: Callable[[xr.Dataset], bool] = always
    """What else the Dataset must be."""
    about: str = ""
    """One line below the heading."""

    def meets(self, ds: xr.Dataset) -> bool:
        """Return whether a Dataset has what this section needs.

        Examples
        --------
        >>> import xarray as xr
        >>> labels = Section(title="Labels", place=1, draw=nothing, variables=("*_labels",))
        >>> labels.meets(xr.Dataset({"train_labels": ("vector", [1, 2])}))
        True
        >>> labels.meets(xr.Dataset({"train": ("vector", [1, 2])}))
        False
        """
        held = ((self.variables, ds.variables), (self.dims, ds.dims))
        return all(
            any(fnmatchcase(str(name), pattern) for name in names)
            for patterns, names in held
            for pattern in patterns
        ) and self.suits(ds)
