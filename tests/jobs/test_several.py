"""One run for each of many inputs."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import pytest

import h5dask
from h5dask.errors import CorruptInput, OutOfSpace, Refused
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
    with watch() as progress:
        run_each(copied, f"{landing}/*.h5", tmp_path / "out", progress=progress)
    assert "set aside: " in capsys.readouterr().err
