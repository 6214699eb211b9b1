"""What was measured in one run: kept as JSON, told as one table, and as README's section.

Nothing is measured here; the same figures as a picture are made in `picture`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks.harness import Measure
from tests.benchmarks.parts import HEADLINES, Headline
from tests.benchmarks.running import Outcome

BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
"""Between these, README's section is made from what was measured."""
SHORT = "short of the mark"
"""The group of figures that no headline names and that miss what is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All parts of one run, and where it ran."""

    date: str
    command: str
    """What it was started by: a trial names what it makes smaller."""
    around: dict[str, str]
    """The machine, its load before, versions, threads."""
    seconds: float
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the picture and of README's table."""

    layout: str
    what: str
    against: str
    times: float
    """How many times as fast ours is; below 1 it is slower."""
    wanted: float | None
    missed: bool


def keep(run: Run, path: Path) -> None:
    """Write a run as JSON."""
    path.write_text(json.dumps(asdict(run), indent=1) + "\n", encoding="utf-8")


def kept(path: Path) -> Run:
    """Return a run that was written."""
    found = json.loads(path.read_text(encoding="utf-8"))
    outcomes = (
        {**one, "measures": tuple(Measure(**each) for each in one["measures"])}
        for one in found["outcomes"]
    )
    return Run(**{**found, "outcomes": tuple(Outcome(**one) for one in outcomes)})


def is_ratio(measure: Measure) -> bool:
    """Return whether a measure says how fast ours is beside something else."""
    return measure.unit.startswith("x ")


def times(measure: Measure) -> float:
    """Return how many times as fast ours is."""
    return 1.0 / measure.value if measure.unit == "x its time" else measure.value


def _wanted(measure: Measure) -> float | None:
    if measure.unit == "x its time":
        return None if measure.at_most is None else 1.0 / measure.at_most
    return measure.at_least


def figures(run: Run) -> list[Figure]:
    """Return the headlines in their order, layout by layout, and then every ratio that misses."""
    measured = {outcome.title: outcome.measures for outcome in run.outcomes}
    found: list[Figure] = []
    named: list[Measure] = []
    for headline in HEADLINES:
        for measure in measured.get(headline.part, ()):
            if is_named(measure, headline):
                named.append(measure)
                found.append(_figure(measure, headline.layout, headline.what, headline.against))
                break
    found += [
        _figure(measure, SHORT, _brief(measure.case), measure.against)
        for measure in missed(run)
        if is_ratio(measure) and measure not in named
    ]
    order = {name: n for n, name in enumerate(dict.fromkeys(one.layout for one in HEADLINES))}
    return sorted(found, key=lambda one: order.get(one.layout, len(order)))


def is_named(measure: Measure, headline: Headline) -> bool:
    """Return whether a headline means this measure of its part."""
    return measure.case.startswith(headline.case) and measure.against.startswith(headline.peer)


def missed(run: Run) -> list[Measure]:
    """Return every measure that is short of what is wanted."""
    return [one for outcome in run.outcomes for one in outcome.measures if one.missed]


def _figure(measure: Measure, layout: str, what: str, against: str) -> Figure:
    return Figure(
        layout=layout,
        what=what,
        against=against,
        times=times(measure),
        wanted=_wanted(measure),
        missed=measure.missed,
    )


def _brief(case: str) -> str:
    """Return a case without the sizes that follow its name."""
    return ", ".join(part for part in case.split(", ")[:2] if "MiB" not in part)


def number(value: float) -> str:
    """Return a ratio with the digits that mean something."""
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def table(run: Run) -> Iterator[str]:
    """Yield the lines of one table of all that was measured, and then what wasn't."""
    for outcome in run.outcomes:
        yield f"\n{outcome.title}  ({outcome.seconds:.0f} s)"
        case = ""
        for measure in outcome.measures:
            if measure.case != case:
                case = measure.case
                yield f"  {case}"
            wanted = measure.wanted
            if wanted:
                wanted += ", MISSED" if measure.missed else ", reached"
            yield (
                f"    {measure.against:<44} {number(measure.value):>8} {measure.unit:<18} "
                f"{wanted:<20} {measure.notes}"
            ).rstrip()
    yield ""
    yield from headlines(run)


def headlines(run: Run) -> Iterator[str]:
    """Yield the lines of the figures that README shows."""
    yield f"{'layout':<18} {'what':<42} {'against':<34} {'times as fast':>13}  wanted"
    for one in figures(run):
        wanted = "" if one.wanted is None else f"{number(one.wanted)}"
        wanted += " MISSED" if one.missed else ""
        shown = f"{one.layout:<18} {one.what:<42} {one.against:<34} {number(one.times):>13}"
        yield f"{shown}  {wanted}".rstrip()
    yield ""
    yield f"{verdict(run)}; {run.seconds / 60:.0f} minutes."
    for outcome in run.outcomes:
        if outcome.told:
            yield f"{outcome.title}: {outcome.told}."


def verdict(run: Run) -> str:
    """Return how many figures there are, and how many of them reach what is wanted."""
    measures = [one for outcome in run.outcomes for one in outcome.measures]
    asked = sum(bool(one.wanted) for one in measures)
    return f"{len(measures)} figures; {asked - len(missed(run))} of {asked} marks reached"


def section(run: Run) -> str:
    """Return README's section: the figures as a table, and what they were taken on."""
    return "\n".join(
        [
            BEGIN,
            "| layout | what | against | times as fast | wanted |",
            "|---|---|---|---|---|",
            *(_row(one) for one in figures(run)),
            "",
            *_around(run),
            END,
        ]
    )


def _row(one: Figure) -> str:
    wanted = "" if one.wanted is None else f"≥ {number(one.wanted)}"
    wanted += ", missed" if one.missed else ""
    cells = (one.layout, one.what, f"`{one.against}`", number(one.times), wanted)
    return f"| {' | '.join(cells)} |"


def _around(run: Run) -> Iterator[str]:
    """Yield the lines below the table: machine and versions, and then what else was missed."""
    yield f"{verdict(run)}. Measured {run.date} in {run.seconds / 60:.0f} minutes by"
    yield f"`{run.command}` on {run.around['machine']}, {run.around['threads']} threads a side."
    yield f"{run.around['versions']}."
    yield ""
    for measure in missed(run):
        if not is_ratio(measure):
            found = f"{number(measure.value)} {measure.unit}".strip()
            what = ", ".join(filter(None, [measure.case, measure.against]))
            yield f"- Missed too: {what}: {found}, wanted {measure.wanted}."
    for outcome in run.outcomes:
        if outcome.told:
            yield f"- {outcome.title}: {outcome.told}."


def with_section(text: str, made: str) -> str:
    """Return a text with what lies between its two marks made anew."""
    parts: Sequence[str] = text.split(BEGIN)
    if len(parts) != 2 or END not in parts[1]:
        raise ValueError(f"found no {BEGIN} ... {END}; expected both once; put them back")
    return parts[0] + made + parts[1].partition(END)[2]
