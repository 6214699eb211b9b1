"""The figures of one run as a picture: bars from 1 on a scale of powers, one SVG file.

It needs nothing beside itself, and is readable on white and on black.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from itertools import groupby

from tests.benchmarks.figures import SHORT, Figure, Run, figures, number, verdict

WIDTH, MARGIN = 960, 28
ROW, BAR, GROUP, HEAD, FOOT = 24, 14, 40, 108, 66
"""Heights of a row, its bar, a layout's name, and of what is above and below all rows."""
_WHAT, _AGAINST, _AXIS = MARGIN, 206, 432
"""Where the names of the work, of its peers, and the scale begin."""
_AXIS_END = WIDTH - MARGIN - 96
"""Behind it there is room for the number of the longest bar."""
TIMES = "\N{MULTIPLICATION SIGN}"
_MARKS = (
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    20,
    50,
    100,
    200,
    500,
    1_000,
    10_000,
    100_000,
)

_ABOUT = (
    "h5dask beside what else there is. A bar to the right of 1 is faster, one to the left slower; "
    "red misses its mark."
)
_STYLE = """\
svg { color-scheme: light dark; --paper: #ffffff; --ink: #1c2430; --soft: #5d6876;
      --line: #e3e7ec; --fast: #2f7fd0; --slow: #c2762a; --miss: #c8353f; }
@media (prefers-color-scheme: dark) {
  svg { --paper: #0d1117; --ink: #e8edf3; --soft: #98a4b3;
        --line: #262e38; --fast: #58a6f0; --slow: #dc9a52; --miss: #ff6f74; } }
text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif;
       fill: var(--ink); }
.paper { fill: var(--paper); } .title { font-size: 21px; font-weight: 650; }
.layout { font-weight: 650; } .soft { fill: var(--soft); }
.small { font-size: 11.5px; font-weight: 400; }
.number { font-weight: 600; font-variant-numeric: tabular-nums; }
.grid { stroke: var(--line); } .one { stroke: var(--soft); stroke-width: 1.5; }
.fast { fill: var(--fast); } .slow { fill: var(--slow); } .missed { fill: var(--miss); }
.mark { stroke: var(--ink); stroke-width: 2; }"""


def svg(run: Run) -> str:
    """Return the picture of a run: every headline; what else misses its mark is counted."""
    shown = [one for one in figures(run) if one.layout != SHORT]
    groups = [(name, list(rows)) for name, rows in groupby(shown, key=lambda one: one.layout)]
    bottom = HEAD + GROUP * len(groups) + ROW * len(shown)
    low, high = _ends(shown)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + FOOT}" '
        f'width="{WIDTH}" height="{bottom + FOOT}" role="img">',
        f"<title>How many times as fast h5dask is: {escape(verdict(run))}</title>",
        f"<style>\n{_STYLE}\n</style>",
        f'<rect class="paper" width="{WIDTH}" height="{bottom + FOOT}" rx="10"/>',
        _text(MARGIN, 44, "How many times as fast", "title"),
        _text(MARGIN, 70, _ABOUT, "soft"),
        *_scale(low, high, bottom),
    ]
    top = float(HEAD)
    for name, rows in groups:
        lines.append(_text(_WHAT, top + GROUP - 10, name, "layout"))
        top += GROUP
        for one in rows:
            lines += _row(one, top, low, high)
            top += ROW
    lines += _foot(run, bottom)
    return "\n".join([*lines, "</svg>", ""])


def _ends(shown: list[Figure]) -> tuple[float, float]:
    """Return the marks between which all bars lie, 1 among them."""
    values = [1.0, 10.0, *(one.times for one in shown)]
    low = max((mark for mark in _MARKS if mark <= min(values)), default=_MARKS[0])
    high = min((mark for mark in _MARKS if mark >= max(values)), default=_MARKS[-1])
    return low, high


def _at(value: float, low: float, high: float) -> float:
    """Return where a value lies on the scale."""
    within = min(max(value, low), high)
    return _AXIS + (_AXIS_END - _AXIS) * math.log(within / low) / math.log(high / low)


def _scale(low: float, high: float, bottom: float) -> Iterator[str]:
    for mark in _MARKS:
        if low <= mark <= high:
            x, kind = _at(mark, low, high), "one" if mark == 1 else "grid"
            yield f'<path class="{kind}" d="M{x:.1f} {HEAD + 8}V{bottom + 4:.0f}"/>'
            yield _text(x, HEAD, f"{mark:,g}{TIMES}", "soft small", "middle")


def _row(one: Figure, top: float, low: float, high: float) -> Iterator[str]:
    base = top + ROW / 2 + 4.5
    start, end = _at(1.0, low, high), _at(one.times, low, high)
    kind = "missed" if one.missed else "fast" if one.times >= 1 else "slow"
    left, width = min(start, end), max(abs(end - start), 1.5)
    yield _text(_WHAT, base, _cut(one.what, 24))
    yield _text(_AGAINST, base, _cut(one.against, 31), "soft")
    yield (
        f'<rect class="{kind}" x="{left:.1f}" y="{top + (ROW - BAR) / 2:.1f}" '
        f'width="{width:.1f}" height="{BAR}" rx="2.5"/>'
    )
    if one.wanted is not None:
        x = _at(one.wanted, low, high)
        yield f'<path class="mark" d="M{x:.1f} {top + 2:.1f}v{ROW - 4}"/>'
    beside = max(start, end, 0.0 if one.wanted is None else _at(one.wanted, low, high)) + 7
    told = f"{number(one.times)}{TIMES}"
    if not one.missed or one.wanted is None:
        yield _text(beside, base, told, "number")
    else:
        short = f'<tspan class="small" dx="5">of {number(one.wanted)}{TIMES}</tspan>'
        yield _text(beside, base, told, "number missed", more=short)


def _foot(run: Run, bottom: float) -> Iterator[str]:
    machine, cores, memory = [*run.around["machine"].split(", "), "", ""][:3]
    where = ", ".join(part for part in (machine, cores, memory) if part)
    yield f'<path class="mark" d="M{MARGIN + 1} {bottom + 22}v14"/>'
    n_short = sum(one.layout == SHORT for one in figures(run))
    told = f"what is wanted. {verdict(run)}; {n_short} of the others are in README's table."
    yield _text(MARGIN + 10, bottom + 34, told, "soft small")
    yield _text(
        MARGIN, bottom + 52,
        f"{where}; {run.around['threads']} threads a side; {run.date}; one run of {run.command}.",
        "soft small",
    )  # fmt: skip


def _text(
    x: float, y: float, text: str, kind: str = "", anchor: str = "start", more: str = ""
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}"'
    return f"<text {place}>{escape(text)}{more}</text>"


def _cut(text: str, most: int) -> str:
    """Return a text that fits its column; README's table has it whole."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip(' ,')}\N{HORIZONTAL ELLIPSIS}"
