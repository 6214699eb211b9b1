"""All benchmarks in one run: one table of ratios, kept as JSON, drawn, and told in README.

python -m tests.benchmarks                 all parts; results/ and README's figures are made anew
python -m tests.benchmarks --only Reading  one part, as it is in the whole; nothing is kept
python -m tests.benchmarks --size 16MB     a trial, likewise; kept where --results names a folder
python -m tests.benchmarks --draw          README's figures and the picture from what is kept
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks import figures, harness, picture
from tests.benchmarks.parts import PARTS, Part
from tests.benchmarks.running import run_parts

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"
KEPT, DRAWN = "results.json", "results.svg"


def main(argv: Sequence[str] | None = None, parts: Sequence[Part] = PARTS) -> int:
    """Measure what is asked for, tell it, and return the exit code: 1 where a part failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--only", action="append", default=[], metavar="PART", help="this part; more may follow")
    add("--draw", action="store_true", help="measure nothing, draw what is kept")
    add("--results", type=Path, help="folder of what is kept; else tests/benchmarks/results")
    add("--readme", type=Path, default=README, help="file whose section of figures is made anew")
    add("--size", help="values a file, in all parts, for a trial")
    add("--repeat", help="pairs of runs, in all parts, for a trial")
    given = parser.parse_args(argv)
    unknown = set(given.only) - {part.title for part in parts}
    if unknown:
        names = ", ".join(repr(part.title) for part in parts)
        parser.error(f"--only: found {min(unknown)!r}; expected one of {names}")
    results = given.results or HERE / "results"
    if given.draw:
        draw(figures.kept(results / KEPT), results, given.readme)
        return 0
    trial = [f"--size={given.size}"] if given.size else []
    trial += [f"--repeat={given.repeat}"] if given.repeat else []
    chosen = [part for part in parts if not given.only or part.title in given.only]
    keeps = given.results or not (given.only or trial)
    if keeps:  # what can't be told at the end is better known before
        figures.with_section(given.readme.read_text(encoding="utf-8"), "")
    run = measured(chosen, trial)
    print(*figures.table(run), sep="\n")
    if keeps:
        results.mkdir(parents=True, exist_ok=True)
        figures.keep(run, results / KEPT)
        draw(run, results, given.readme)
    return int(any(outcome.failed for outcome in run.outcomes))


def measured(parts: Sequence[Part], more: Sequence[str]) -> figures.Run:
    """Run the parts and return what they gave, with the machine as it was before."""
    around = harness.surroundings()
    began = time.monotonic()
    outcomes = tuple(run_parts(parts, more))
    return figures.Run(
        command=_command(more),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        around=around,
        seconds=round(time.monotonic() - began, 1),
        outcomes=outcomes,
    )


def _command(more: Sequence[str]) -> str:
    """Return how a run is started; a trial's own arguments show that it is one."""
    return f'make bench BENCH_ARGS="{" ".join(more)}"' if more else "make bench"


def draw(run: figures.Run, results: Path, readme: Path) -> None:
    """Draw the picture, and make README's section anew."""
    drawn = results / DRAWN
    drawn.write_text(picture.svg(run), encoding="utf-8")
    text = readme.read_text(encoding="utf-8")
    readme.write_text(figures.with_section(text, figures.section(run)), encoding="utf-8")


def alone(argv: Sequence[str] | None = None, parts: Sequence[Part] = PARTS) -> int:
    """Do the same as this process's one task, which the keyboard and SIGTERM can end."""

    def ended(number: int, _: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ended)  # also where a shell in the background ignores them
    try:
        return main(argv, parts)
    except KeyboardInterrupt:
        print("\nended; nothing is kept and nothing is left", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(alone())
