"""All parts in one run: each is ended and cleared up after, what it measured is kept and shown."""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.architecture import ROOT
from tests.benchmarks import figures, picture
from tests.benchmarks.__main__ import DRAWN, HERE, KEPT, README, main
from tests.benchmarks.figures import BEGIN, END, SHORT, Run, is_named
from tests.benchmarks.harness import Measure
from tests.benchmarks.parts import HEADLINES, PARTS, SECONDS, Part
from tests.benchmarks.running import GRACE, Outcome, run_parts

BRIEF = """
import time
from tests.benchmarks.harness import Measure, options, report, workplace

def measures(asked):
    with workplace(asked.folder) as place:
        (place / "made.h5").touch()
        for word in asked.only:
            yield Measure(case=word, against="a peer", value=2.0, unit="x its speed")
            if word == "sleep":
                time.sleep(600)
            assert word != "fail", "a peer read other values"

given = options("")
report("Brief", measures(given), given)
"""
"""A program that measures each word it is given, until it fails or sleeps."""


@pytest.fixture
def brief(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let a part name a program `brief`; give the folder in which everything temporary lies."""
    (tmp_path / "brief.py").write_text(BRIEF)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (place := tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    return place


def part(title: str, *only: str, seconds: float = 60.0, needs: tuple[str, ...] = ()) -> Part:
    return Part(title=title, module="brief", seconds=seconds, only=only, needs=needs)


def measure(
    case: str, value: float, least: float | None = None, unit: str = "x its speed"
) -> Measure:
    return Measure(case=case, against="a peer", value=value, unit=unit, at_least=least)


def run_of(*measures: Measure, title: str = "Reading") -> Run:
    around = {"machine": "a machine, 2 cores, 8 GB", "threads": "2", "versions": "Python 3"}
    outcome = Outcome(title=title, seconds=1.0, measures=measures, told="ended after its 1 s")
    return Run(
        date="2026-01-01",
        command="make bench",
        around=around,
        seconds=90.0,
        outcomes=(outcome,),
    )


def test_a_part_that_fails_overruns_or_lacks_something_ends_alone(brief: Path) -> None:
    parts = [
        part("Whole", "a case"),
        part("Failing", "a case", "fail", "never"),
        part("Overrunning", "a case", seconds=0.0),
        part("Lacking", needs=("no-such-program",)),
    ]
    whole, failing, over, lacking = run_parts(parts)
    assert [one.case for one in whole.measures] == ["a case"]
    assert (whole.told, whole.failed) == ("", False)
    assert [one.case for one in failing.measures] == ["a case", "fail"]
    assert failing.failed
    assert failing.told == "failed with 1: AssertionError: a peer read other values"
    assert over.told == "ended after its 0 s, with 0 figures"
    assert lacking.told.startswith("left out: needs no-such-program")
    assert not list(brief.iterdir())


def test_one_part_keeps_nothing_and_a_failed_one_is_told(
    brief: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [part("One", "a case"), part("Other", "fail")]
    assert main(["--only", "One"], parts) == 0
    printed = capsys.readouterr()
    assert "a peer" in printed.out
    assert "[1/1] One, at most 60 s" in printed.err
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    given = ["--only", "Other", "--results", str(tmp_path / "kept"), "--readme", str(readme)]
    assert main(given, parts) == 1
    assert "Other: failed with 1: AssertionError" in readme.read_text()
    assert figures.kept(tmp_path / "kept" / KEPT).outcomes[0].failed
    with pytest.raises(SystemExit):
        main(["--only", "Nobody"], parts)
    assert "--only: found 'Nobody'; expected one of 'One', 'Other'" in capsys.readouterr().err


ALONE = """
import sys
from tests.benchmarks.__main__ import alone
from tests.benchmarks.parts import Part

part = Part(title="Asleep", module="brief", seconds=60, only=("sleep",))
sys.exit(alone([], [part]))
"""


def test_nothing_is_left_when_it_is_ended(brief: Path) -> None:
    environment = os.environ | {"TMPDIR": str(brief)}
    paths = os.pathsep.join([str(ROOT), environment["PYTHONPATH"]])
    running = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", ALONE],
        env={**environment, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while not list(brief.glob("*/*/made.h5")) and time.monotonic() < until:
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    _, told = running.communicate(timeout=2 * GRACE)
    assert running.returncode == 130
    assert "ended; nothing is kept and nothing is left" in told
    assert not list(brief.iterdir())


def test_what_is_kept_is_what_was_measured(tmp_path: Path) -> None:
    run = run_of(measure("float32 contiguous", 2.0, 3.0))
    figures.keep(run, tmp_path / KEPT)
    assert figures.kept(tmp_path / KEPT) == run


def test_every_ratio_that_misses_is_shown() -> None:
    headline = next(one for one in HEADLINES if one.part == "Reading")
    named = Measure(
        case=f"{headline.case} and so on", against=headline.peer, value=0.5, unit="x its speed",
        at_least=1.0,
    )  # fmt: skip
    slow = Measure(case="a walk", against="a peer", value=4.0, unit="x its time", at_most=2.0)
    large = measure("an index", 500.0, 600.0, unit="bytes")
    run = run_of(named, measure("reached", 2.0, 1.0), slow, large)
    first, last = figures.figures(run)
    assert (first.layout, first.times, first.missed) == (headline.layout, 0.5, True)
    assert (last.layout, last.times, last.wanted, last.missed) == (SHORT, 0.25, 0.5, True)
    told = figures.section(run)
    assert "| short of the mark | a walk | `a peer` | 0.25 | ≥ 0.50, missed |" in told
    assert "Missed too: an index, a peer: 500 bytes, wanted ≥ 600." in told
    assert "4 figures; 1 of 4 marks reached" in told
    assert "Reading: ended after its 1 s." in told
    assert "reached" in "\n".join(figures.table(run))


def test_picture_holds_every_headline_and_nothing_from_elsewhere() -> None:
    headlines = [one for one in HEADLINES if one.part == "Today"][:2]
    named = [
        Measure(case=one.case, against=one.peer, value=0.5, unit="x its speed", at_least=most)
        for one, most in zip(headlines, (1.0, 2_000_000.0), strict=True)
    ]
    run = run_of(*named, measure("further", 0.5, 1.0), title="Today")
    drawn = ET.fromstring(picture.svg(run))
    texts = {"".join(text.itertext()) for text in drawn.iter("{http://www.w3.org/2000/svg}text")}
    short = "0.50\N{MULTIPLICATION SIGN}of 1.00\N{MULTIPLICATION SIGN}"
    assert {*(one.what for one in headlines), short} <= texts
    assert any("1 of the others" in text for text in texts)
    bars = [one for one in drawn.iter() if one.get("class") == "missed"]
    assert len(bars) == 2
    assert all(float(bar.get("width", 0)) > 0 for bar in bars)
    assert not any("href" in name for one in drawn.iter() for name in one.attrib)


def test_text_without_marks_is_refused() -> None:
    assert figures.with_section(f"a {BEGIN} old {END} b", "new") == "a new b"
    for text in ("a", f"a {BEGIN} b", f"{BEGIN}{BEGIN}{END}"):
        with pytest.raises(ValueError, match="expected both once; put them back"):
            figures.with_section(text, "new")


def test_parts_fit_into_their_time_and_are_there() -> None:
    assert sum(one.seconds for one in PARTS) <= SECONDS < 40 * 60
    assert all(find_spec(one.module) for one in PARTS)
    assert {one.part for one in HEADLINES} <= {one.title for one in PARTS}


def test_readme_tells_what_is_kept() -> None:
    run = figures.kept(HERE / "results" / KEPT)
    text = README.read_text(encoding="utf-8")
    assert text == figures.with_section(text, figures.section(run))
    assert (HERE / "results" / DRAWN).read_text(encoding="utf-8") == picture.svg(run)


def test_every_headline_was_measured_or_its_part_says_why_not() -> None:
    run = figures.kept(HERE / "results" / KEPT)
    outcomes = {outcome.title: outcome for outcome in run.outcomes}
    assert list(outcomes) == [part.title for part in PARTS]
    for headline in HEADLINES:
        found = outcomes[headline.part]
        assert found.told or any(is_named(one, headline) for one in found.measures), headline
