"""How every figure of a report looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from h5dask.report.section import Swatch
from h5dask.report.sections._histogram import Histogram

if TYPE_CHECKING:
    from bokeh.models import HoverTool
    from bokeh.plotting import figure

ACCENT = "#4c82d8"
LIT = "#e8853d"
"""Of what the pointer is on."""
COLOURS = (
    *(ACCENT, LIT, "#35a07a", "#c2569a", "#c9a227", "#7a69d4", "#38a9bf", "#cd4f4a"),
    *("#8a9a3c", "#a3764c", "#5e7fa8", "#df8fb0"),
)
"""Told apart on a light and on a dark page; beyond the last one nothing has a colour."""
INK = "#7b8493"
"""Of labels and axes: legible on a light and on a dark page, as canvases follow no theme."""
FAINT = "rgba(128, 138, 155, 0.22)"
MINUS = "\N{MINUS SIGN}"
FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
_APART = 16
"""Up to so many bars stand apart from each other."""


def plain_figure(**options: Any) -> figure:
    """Return an empty figure in the report's style: no toolbar, no frame, no background."""
    from bokeh.plotting import figure

    made = figure(
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        # Without a background bokeh leaves what it drew before in the outermost pixels.
        styles={"clip-path": "inset(0 2px)"},
        **options,
    )
    made.grid.grid_line_color = None
    for axis in made.axis:
        axis.axis_line_color = FAINT
        axis.major_tick_line_color = FAINT
        axis.minor_tick_line_color = None
        axis.major_label_text_color = INK
        axis.major_label_text_font = FONT
        axis.major_label_text_font_size = "11px"
    return made


def tooltip(
    renderer: Any, tips: list[tuple[str, str]], *, mode: Literal["mouse", "vline"] = "mouse"
) -> HoverTool:
    """Return the tool that tells what the pointer is on."""
    from bokeh.models import HoverTool

    return HoverTool(renderers=[renderer], tooltips=tips, mode=mode, point_policy="follow_mouse")


def draw_histogram(found: Histogram, *, whole: bool, height: int = 150) -> figure:
    """Return a small picture of a histogram; `whole` says that it is of integers."""
    from bokeh.models import BasicTicker, ColumnDataSource

    low, high = found.edges[0], found.edges[-1]
    made = plain_figure(
        height=height,
        x_axis_type="log" if found.log else "linear",
        x_range=(low, high),
        y_range=(0, float(found.counts.max(initial=1.0)) * 1.06),
        min_border_left=4,
        min_border_right=10,
    )
    made.yaxis.visible = False
    n_ticks = 5 if max(abs(low), abs(high)) < 1e5 else 3
    if not found.log:
        made.xaxis.ticker = BasicTicker(desired_num_ticks=n_ticks, min_interval=1 if whole else 0)
    gap = 0.08 * float(found.edges[1] - found.edges[0]) if len(found.counts) <= _APART else 0.0
    source = ColumnDataSource(
        {
            "left": found.edges[:-1] + gap,
            "right": found.edges[1:] - gap,
            "top": found.counts,
            "within": _within(found, whole=whole),
            "says": [f"about {round(count):,}" for count in found.counts],
        }
    )
    bars = made.quad(
        left="left",
        right="right",
        top="top",
        bottom=0,
        source=source,
        fill_color=ACCENT,
        line_color=None,
        hover_fill_color=LIT,
        hover_line_color=None,
    )
    made.add_tools(tooltip(bars, [("values", "@within"), ("count", "@says")], mode="vline"))
    return made


def draw_overlaid(
    found: Sequence[Histogram], labels: Sequence[str], *, height: int = 150
) -> figure:
    """Return a small picture of histograms that have the same edges, in the legend's colours."""
    from bokeh.models import BasicTicker, ColumnDataSource

    first = found[0]
    most = max(float(one.counts.max(initial=0.0)) for one in found)
    made = plain_figure(
        height=height,
        x_axis_type="log" if first.log else "linear",
        x_range=(first.edges[0], first.edges[-1]),
        y_range=(0, (most or 1.0) * 1.06),
        min_border_left=4,
        min_border_right=10,
    )
    made.yaxis.visible = False
    if not first.log:
        made.xaxis.ticker = BasicTicker(desired_num_ticks=5)
    columns: dict[str, Any] = {"left": first.edges[:-1], "right": first.edges[1:]}
    columns["within"] = _within(first, whole=False)
    for i, (one, label) in enumerate(zip(found, labels, strict=True)):
        columns[f"n{i}"] = one.counts
        columns[f"says{i}"] = [f"{label}: about {round(n):,}" for n in one.counts]
    source = ColumnDataSource(columns)
    bars = [
        made.quad(
            left="left",
            right="right",
            top=f"n{i}",
            bottom=0,
            source=source,
            fill_color=colour,
            fill_alpha=0.55,
            line_color=None,
        )
        for i, colour in zip(range(len(found)), COLOURS, strict=False)
    ]
    tips = [("count", f"@says{i}") for i in range(len(bars))]
    made.add_tools(tooltip(bars[0], [("values", "@within"), *tips], mode="vline"))
    return made


def legend(labels: Sequence[str]) -> tuple[Swatch, ...]:
    """Return which label has which colour, in the order of the colours."""
    return tuple(Swatch(label, colour) for label, colour in zip(labels, COLOURS, strict=False))


def _within(found: Histogram, *, whole: bool) -> list[str]:
    """Return what each bar stands for, in words."""
    pairs = zip(found.edges[:-1], found.edges[1:], strict=True)
    if not whole:
        return [f"{low:.4g} to {high:.4g}" for low, high in pairs]
    ends = [(math.ceil(low), math.floor(high)) for low, high in pairs]
    return [f"{low:,}" if low == high else f"{low:,} to {high:,}" for low, high in ends]
