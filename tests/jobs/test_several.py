"""One run for each of many inputs."""

from __future__ import annotations

import io
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import pytest

import h5dask
from h5dask.errors import CorruptInput, NotFound, OutOfSpace, Refused
from h5dask.jobs import Job, Policy
from h5dask.jobs.several import exit_code, run_each
from h5dask.progress import watch
from h5dask.testing import example


def copied(job: Job) -> None:
    """Write the input as it is."""
    job.write(h5dask.open_dataset(job.urls))


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    """A folder with three inputs."""
    folder = tmp_path / "landing"
    folder.mkdir()
    for number in range(3):
        h5dask.write_dataset(example("episodes", number), folder / f"{number}.h5")
    return folder


def whats(landing: Path, out: Path, **policy: Any) -> dict[str, str]:
    found = run_each(copied, f"{landing}/*.h5", out, policy=Policy(**policy))
    return {os.path.basename(one.output): one.what for one in found}


def test_only_what_is_new_or_changed_is_done(landing: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert set(whats(landing, out).values()) == {"done"}
    assert set(whats(landing, out).values()) == {"current"}
    with h5py.File(landing / "1.h5", "a") as file:
        file["embeddings"][0, 0] = 7
    h5dask.write_dataset(example("episodes", 3), landing / "3.h5")
    assert whats(landing, out) == {
        "0.h5": "current", "1.h5": "done", "2.h5": "current", "3.h5": "done"
    }  # fmt: skip
    assert set(whats(landing, out, force=True).values()) == {"done"}


def test_a_bad_input_is_set_aside_and_the_others_go_on(landing: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (landing / "1.h5").write_text("no HDF5")
    found = run_each(copied, f"{landing}/*.h5", out)
    assert [one.what for one in found] == ["done", "set aside", "done"]
    assert exit_code(found) == 1
    assert "not an HDF5 file" in found[1].why
    summary = json.loads((out / "h5dask.run.json").read_text())
    assert [one["what"] for one in summary["inputs"]] == ["done", "set aside", "done"]
    assert str(landing / "1.h5") in summary["inputs"][1]["why"]
    assert whats(landing, out) == {"0.h5": "current", "1.h5": "set aside", "2.h5": "current"}
    h5dask.write_dataset(example("episodes", 1), landing / "1.h5", overwrite=True)
    assert whats(landing, out) == {"0.h5": "current", "1.h5": "done", "2.h5": "current"}
    assert exit_code(run_each(copied, f"{landing}/*.h5", out)) == 0


def test_an_input_that_no_code_foresaw_is_set_aside_by_its_name(
    landing: Path, tmp_path: Path
) -> None:
    def peculiar(job: Job) -> None:
        if job.urls[0].endswith("1.h5"):
            raise KeyError("episode")
        copied(job)

    found = run_each(peculiar, f"{landing}/*.h5", tmp_path / "out")
    assert [one.what for one in found] == ["done", "set aside", "done"]
    assert found[1].why.startswith(f"{landing}/1.h5: KeyError: 'episode'; --strict")
    with pytest.raises(KeyError, match="episode"):
        run_each(peculiar, f"{landing}/*.h5", tmp_path / "o", policy=Policy(strict=True))


def test_a_reason_without_a_name_has_the_input_s_in_front(landing: Path, tmp_path: Path) -> None:
    def refused(job: Job) -> None:
        raise Refused("clean.where: no")

    found = run_each(refused, f"{landing}/*.h5", tmp_path / "out")
    assert [one.why for one in found] == [f"{landing}/{n}.h5: clean.where: no" for n in range(3)]


def test_a_folder_without_files_gives_nothing(tmp_path: Path) -> None:
    (tmp_path / "landing").mkdir()
    assert run_each(copied, f"{tmp_path}/landing/*.h5", tmp_path / "out") == ()
    with pytest.raises(NotFound, match="gone: no such folder; check the path"):
        run_each(copied, f"{tmp_path}/gone/*.h5", tmp_path / "out")
    with pytest.raises(NotFound, match=r"a\.h5: no such file"):
        run_each(copied, f"{tmp_path}/landing/a.h5", tmp_path / "out")


def test_strict_stops_at_a_bad_input(landing: Path, tmp_path: Path) -> None:
    (landing / "1.h5").write_text("no HDF5")
    with pytest.raises(CorruptInput, match="not an HDF5 file"):
        whats(landing, tmp_path / "out", strict=True)
    assert not (tmp_path / "out" / "2.h5").exists()


def test_what_is_no_input_s_fault_stops_all(landing: Path, tmp_path: Path) -> None:
    def full(job: Job) -> None:
        raise OutOfSpace("the disk is full")

    with pytest.raises(OutOfSpace, match="full"):
        run_each(full, f"{landing}/*.h5", tmp_path / "out")


@pytest.mark.parametrize("policy", ["keep", "remove"])
def test_inputs_that_vanished(policy: str, landing: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    whats(landing, out)
    (landing / "1.h5").unlink()
    assert whats(landing, out, vanished=policy)["1.h5"] == "vanished"
    names = sorted(path.name for path in out.iterdir())
    kept = ["1.h5", "1.h5.run.json"] if policy == "keep" else []
    assert names == sorted(
        ["0.h5", "0.h5.run.json", "2.h5", "2.h5.run.json", "h5dask.run.json", *kept]
    )


def test_of_an_input_that_vanished_before_it_had_an_output(landing: Path, tmp_path: Path) -> None:
    (landing / "1.h5").write_text("no HDF5")
    whats(landing, tmp_path / "out")
    (landing / "1.h5").unlink()
    found = run_each(copied, f"{landing}/*.h5", tmp_path / "out")
    assert found[-1].why == f"{landing}/1.h5: is gone; it had no output"


def test_only_what_was_changed_since(landing: Path, tmp_path: Path) -> None:
    os.utime(landing / "0.h5", (1e9, 1e9))
    found = whats(landing, tmp_path / "out", since=datetime(2020, 1, 1, tzinfo=UTC))
    assert found == {"0.h5": "current", "1.h5": "done", "2.h5": "done"}


def test_two_inputs_of_one_output(landing: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    h5dask.write_dataset(example("episodes", 1), other / "1.h5")
    with pytest.raises(Refused, match=r"1.h5: would be made of .* and of .*1.h5"):
        run_each(copied, [landing / "1.h5", other / "1.h5"], tmp_path / "out")
    with pytest.raises(Refused, match=r"1.h5: is in the folder of the outputs"):
        run_each(copied, landing / "1.h5", landing)


def test_a_summary_that_can_t_be_read_is_none(landing: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    whats(landing, out)
    (out / "h5dask.run.json").write_text("{")
    assert set(whats(landing, out).values()) == {"current"}


def test_a_person_is_told_of_what_is_set_aside(
    landing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (landing / "1.h5").write_text("no HDF5")
    for quiet in (False, True):
        with watch(quiet=quiet) as progress:
            run_each(copied, f"{landing}/*.h5", tmp_path / "out", progress=progress)
        (told,) = capsys.readouterr().err.splitlines()
        assert told.startswith(f"set aside: {landing}/1.h5: ")


def test_a_program_is_told_of_which_file_each_line_is(landing: Path, tmp_path: Path) -> None:
    def counting(job: Job) -> None:
        job.counts.update(read=6, lost=0, zero_rows=1)
        copied(job)

    (landing / "1.h5").write_text("no HDF5")
    stream, out = io.StringIO(), tmp_path / "out"
    with watch(log_json=True, stream=stream) as progress:
        run_each(counting, f"{landing}/*.h5", out, progress=progress)
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {one["input"] for one in told} == {f"{landing}/{n}.h5" for n in range(3)}
    assert {one["output"] for one in told if one["event"] == "end"} == {
        f"{out}/0.h5",
        f"{out}/2.h5",
    }
    first, second, _ = (one for one in told if one["event"] == "outcome")
    assert (first["what"], first["text"]) == ("done", "0.h5: 6 read, 1 zero rows")
    assert first["counts"] == {"read": 6, "lost": 0, "zero_rows": 1}
    assert (second["what"], second["output"]) == ("set aside", f"{out}/1.h5")
    assert second["why"].startswith(f"{landing}/1.h5: ")


def test_why_there_is_no_output_is_told(
    landing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with watch() as progress:
        run_each(
            lambda job: job.make_nothing("no episode is left"), landing / "0.h5", tmp_path / "out",
            name="nothing", progress=progress,
        )  # fmt: skip
    assert capsys.readouterr().err == "0.h5: no episode is left\n"
