"""One self-contained HTML page about a Dataset, made of the sections that it has the needs of.

No layout is known here; what a section shows and computes is its own.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import xarray as xr
from dask.base import compute as dask_compute

from h5dask import __version__
from h5dask.errors import NotFound, Refused
from h5dask.report.section import Bars, Card, Cards, Piece, Section
from h5dask.report.sections import all_sections
from h5dask.storage.publishing import publish
from h5dask.storage.remote import absolute, local_folder, translated

PAGES = (".html", ".htm")
"""How the name of a page ends, so that no file of values is replaced by one."""

Compute = Callable[..., tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A section with all it shows, ready for the page."""

    section: Section
    """What it was drawn by."""
    pieces: Sequence[Piece]
    """From top to bottom."""

    @property
    def anchor(self) -> str:
        """What links on the page name it by."""
        return "-".join(self.section.title.lower().split())


def write_report(
    ds: xr.Dataset,
    urlpath: str | os.PathLike[str],
    *,
    title: str | None = None,
    sections: Sequence[Section] | None = None,
    compute: Compute = dask_compute,
    storage_options: Mapping[str, Any] | None = None,
) -> tuple[str, ...]:
    """Write one HTML page about a Dataset, which needs no network and no other file.

    Every block is read once, whatever sections there are, and once more by `scan`, which looks for
    bad values; where records are contrasted, as often more as `contrast` says, and once more where
    sequences are profiled. The page appears whole or not at all, in place of an older one.

    Parameters
    ----------
    ds : Dataset
        Of any layout or none; lazy variables are read block by block.
    urlpath : str or path
        Local path or fsspec URL, ending in .html.
    title : str, optional
        Heading; the name of the file that the Dataset was opened from without it.
    sections : sequence of Section, optional
        What may be shown; every section there is without it. Shown is what meets the Dataset.
    compute : callable, default dask.compute
        What computes dask collections.
    storage_options : mapping, optional
        What fsspec needs to reach the page's store.

    Returns
    -------
    tuple of str
        Titles of the sections shown. Memory: a block a thread and 6 MiB, or what `scan`,
        `contrast`, `logit_statistics` and `profile` take, and once 150 MiB at most for principal
        axes; in all, what the sections ask for, at most 0.5 MiB a variable, of logits a scenario.

    Raises
    ------
    Refused
        The page's name doesn't end in .html.
    NotFound, AccessDenied, OutOfSpace
        The page can't be written there.

    Examples
    --------
    >>> import h5dask, tempfile
    >>> from h5dask.testing import example_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(h5dask.open_dataset(example_file("ann")), f"{folder}/ann.html")
    ('Structure', 'Sizes', 'Value ranges', 'Labels', 'Bad values', ...)
    """
    target = _target(urlpath)
    meeting = [one for one in sections or all_sections() if one.meets(ds)]
    (values,) = compute([section.values(ds) for section in meeting])
    drawn = [
        Drawn(section=section, pieces=section.draw(ds, computed))
        for section, computed in zip(meeting, values, strict=True)
    ]
    shown = [one for one in drawn if one.pieces]
    _write(page(ds, shown, title=title), target, storage_options)
    return tuple(one.section.title for one in shown)


def page(ds: xr.Dataset, drawn: Sequence[Drawn], *, title: str | None = None) -> str:
    """Return the text of the page."""
    from bokeh.embed import components
    from bokeh.resources import Resources
    from jinja2 import Environment, StrictUndefined

    figures: dict[str, Any] = {
        str(card.content.id): card.content
        for card in _cards(drawn)
        if not isinstance(card.content, Bars)
    }
    script, places = components(figures) if figures else ("", {})
    bokeh = Resources(mode="inline", components=["bokeh"]).render() if figures else ""
    house = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    house.filters["number"] = in_words
    text = files("h5dask.report").joinpath("page.html").read_text(encoding="utf-8")
    return house.from_string(text).render(
        title=title or _name(ds),
        facts=_facts(ds),
        drawn=drawn,
        kind=lambda piece: type(piece).__name__,
        place=lambda content: places[content.id],
        bokeh=bokeh,
        script=script,
        version=__version__,
    )


def in_words(value: str | float | None) -> str:
    """Return a table's cell as it is read: thousands apart, five digits of a fraction.

    Examples
    --------
    >>> in_words(1234567), in_words(0.000123456), in_words("a")
    ('1,234,567', '0.00012346', 'a')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "\N{EN DASH}"
    if isinstance(value, str | bool):
        return str(value)
    told = f"{value:,}" if isinstance(value, int) and abs(value) < 10**16 else f"{value:.5g}"
    return told.replace("-", "\N{MINUS SIGN}")


def _cards(drawn: Sequence[Drawn]) -> Iterator[Card]:
    for piece in (piece for one in drawn for piece in one.pieces):
        if isinstance(piece, Cards):
            yield from piece.cards
        elif isinstance(piece, Card):
            yield piece


def _name(ds: xr.Dataset) -> str:
    source = str(ds.encoding.get("source", "")).rstrip("/")
    return source.rpartition("/")[2] or "Dataset"


def _facts(ds: xr.Dataset) -> Mapping[str, str]:
    """Return what stands below the heading, by what it is called."""
    from dask.utils import format_bytes

    form, source = ds.encoding.get("h5dask"), str(ds.encoding.get("source", ""))
    rows = [f"{length:,} along {dim}" for dim, length in ds.sizes.items()]
    facts = {
        "Layout": getattr(form, "layout", "") or "none",
        "Rows": ", ".join(rows[:1]) or "none",
        "Variables": f"{len(ds.data_vars):,}",
    }
    if os.path.isfile(source):
        facts["File"] = format_bytes(os.path.getsize(source))
    else:
        facts["Values"] = format_bytes(ds.nbytes)
    now = datetime.now(UTC)
    return facts | {"Created": f"{now:%Y-%m-%d %H:%M} UTC", "h5dask": __version__}


def _target(urlpath: str | os.PathLike[str]) -> str:
    """Return where the page goes, refused before anything is computed for it."""
    target = absolute(urlpath)
    if not target.lower().endswith(PAGES):
        raise Refused(f"{target}: a report's name ends in .html; name such a file")
    if "://" in target:
        return target
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise NotFound(f"{target}: found no folder {folder!r}; create it first")
    if os.path.isdir(target):
        raise Refused(f"{target}: found a folder, expected a file; choose another name")
    return target


def _write(text: str, target: str, options: Mapping[str, Any] | None) -> None:
    """Write a page beside its target, a store's into the temporary folder, and publish it."""
    folder, name = local_folder(target)
    temporary = None
    try:
        with translated(target):
            number, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
            with os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as file:
                os.fchmod(number, 0o644)
                file.write(text)
        publish(temporary, target, options)
    finally:
        if temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
