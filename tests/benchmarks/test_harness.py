"""The harness sets runs side by side as it says; the programs run, whatever their figures are."""

import itertools
import json
from pathlib import Path

import pytest

from tests.benchmarks import bench_open, bench_read, bench_write, harness
from tests.benchmarks.harness import Measure, Options, options, race, report, speeds, workplace

BRIEFLY = ("--size", "4MB", "--repeat", "1", "--seconds", "0")


def small(folder: Path, *more: str) -> Options:
    return options(None, [*BRIEFLY, "--folder", str(folder), *more])


TWICE = options(None, ["--repeat", "2", "--seconds", "0"])


def test_runs_are_interleaved() -> None:
    ran: list[str] = []
    peers = {name: lambda name=name: ran.append(name) for name in ("a", "b")}
    assert [name for name, *_ in race(lambda: ran.append("ours"), peers, TWICE)] == ["a", "b"]
    assert ran == ["ours", "a", "b", *["ours", "a", "ours", "b"] * 2]


def test_peer_that_reads_other_values_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"theirs: read \[1, 3\], expected \[1, 2\]"):
        list(race(lambda: [1, 2], {"theirs": lambda: [1, 3]}, TWICE))


def test_each_side_counts_with_its_best_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.chain([2.0, 8.0], [4.0, 6.0])
    monkeypatch.setattr(harness, "timed", lambda way: next(seconds))
    raced = list(race(lambda: None, {"theirs": lambda: None}, TWICE))
    assert raced == [("theirs", 2.0, 6.0)]
    [measure] = speeds("a case", 12 * 10**9, raced, {"theirs": 4.0})
    assert (measure.value, measure.missed, measure.notes) == (3.0, True, "6.00 and 2.00 GB/s")


def test_programs_share_a_file_of_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = small(tmp_path, "--json", str(tmp_path / "all.json"))
    one = Measure(case="a case", against="a peer", value=1.5, unit="x its time", at_most=1.0)
    report("First", [one], asked)
    report("Second", [], asked)
    printed = capsys.readouterr().out
    assert "a case\n  a peer" in printed
    assert "≤ 1 MISSED" in printed
    kept = json.loads((tmp_path / "all.json").read_text())
    assert list(kept) == ["First", "Second"]
    assert kept["First"]["measures"][0]["value"] == 1.5


def test_workplace_is_gone_afterwards(tmp_path: Path) -> None:
    with workplace(tmp_path) as place:
        (place / "made.h5").touch()
    assert not list(tmp_path.iterdir())


def test_reading(tmp_path: Path) -> None:
    found = list(bench_read.measures(small(tmp_path, "--only", "chunked", "--only", "logits")))
    assert {one.case.split(",")[0] for one in found} == {"float32 chunked", "float16 logits"}
    assert all(one.value > 0 for one in found)


def test_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_write, "MEMORY", tmp_path)
    monkeypatch.setattr(bench_write, "BLOCK_NBYTES", 2**21)
    monkeypatch.setattr(bench_write, "BLOCK_ROWS", 2**12)
    found = list(bench_write.measures(small(tmp_path, "--only", "memory")))
    assert {one.case.split(",")[0] for one in found} == {case.name for case in bench_write.CASES}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("h5dask-benchmark")]


def test_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, n in {"N_GROUPS": 40, "N_DATASETS": 80, "N_MANY": 200}.items():
        monkeypatch.setattr(bench_open, name, n)
    *_, sequences, logits, tasks = bench_open.measures(small(tmp_path))
    assert {one.unit for one in (sequences, logits)} == {"bytes a dataset"}
    assert tasks.value == 2
