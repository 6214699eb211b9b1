"""Outputs that are folders, and those to which what is new is added."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask.errors import Conflict, NotFound
from h5dask.jobs import Job, Policy, record, run
from h5dask.results import open_any
from h5dask.testing import example


def stored(job: Job) -> None:
    """Write a Zarr folder of what the inputs hold."""
    job.write_result(h5dask.open_dataset(job.urls)[["embeddings"]].drop_encoding())


def grown(job: Job) -> None:
    """Add to what is there what the new inputs hold, or write all anew."""
    job.notes.append(repr(job.added and [Path(one).name for one in job.added]))
    new = job.urls if job.added is None else [job.output, *job.added]
    ds = h5dask.open_dataset(new)
    job.write(ds.drop_vars("source", errors="ignore"))


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    folder = tmp_path / "landing"
    folder.mkdir()
    for i in range(3):
        h5dask.write_dataset(example("episodes", i), folder / f"{i}.h5")
    return folder


def values(path: Path) -> np.ndarray:
    return open_any(str(path)).embeddings.values


def test_a_folder_is_made_once_and_replaced_whole(landing: Path, tmp_path: Path) -> None:
    output = tmp_path / "all.zarr"
    first = run(stored, landing / "0.h5", output)
    assert first.what == "done"
    assert first.files == (str(output),)
    assert sorted(os.listdir(tmp_path)) == ["all.zarr", "all.zarr.run.json", "landing"]
    assert run(stored, landing / "0.h5", output).what == "current"
    (told,) = first.record.outputs
    assert told["nbytes"] == sum(one.stat().st_size for one in output.rglob("*") if one.is_file())
    before = values(output)
    assert run(stored, str(landing / "*.h5"), output).what == "done"
    assert len(values(output)) > len(before)
    assert sorted(os.listdir(tmp_path)) == ["all.zarr", "all.zarr.run.json", "landing"]


def test_a_folder_that_was_touched_is_made_anew(landing: Path, tmp_path: Path) -> None:
    output = tmp_path / "all.zarr"
    run(stored, landing / "0.h5", output)
    chunk = next(one for one in output.rglob("*") if one.is_file() and "c" in one.parts)
    chunk.write_bytes(b"")
    assert run(stored, landing / "0.h5", output).what == "done"
    next(one for one in output.rglob("*") if one.is_file()).unlink()
    assert run(stored, landing / "0.h5", output).what == "done"


def test_former_folders_stay_by_count(landing: Path, tmp_path: Path) -> None:
    output = tmp_path / "all.zarr"
    for i in range(3):
        run(stored, landing / f"{i}.h5", output, policy=Policy(keep=1))
        time.sleep(1.1)  # their names tell seconds
    old = [one for one in os.listdir(tmp_path) if one.endswith(".old")]
    assert len(old) == 1
    np.testing.assert_array_equal(values(output), h5dask.open_dataset(landing / "2.h5").embeddings)


def test_folders_of_somebody_else(landing: Path, tmp_path: Path) -> None:
    (tmp_path / "all.zarr").mkdir()
    (tmp_path / "other").mkdir()
    with pytest.raises(Conflict, match=r"all.zarr: exists, and isn't what a run has made"):
        run(stored, landing / "0.h5", tmp_path / "all.zarr")
    with pytest.raises(NotFound, match="other: is a folder; name a file in it"):
        run(stored, landing / "0.h5", tmp_path / "other")


def test_a_run_that_makes_a_file_instead_removes_the_folder(landing: Path, tmp_path: Path) -> None:
    def both(job: Job) -> None:
        job.part(ending=".txt")
        Path(job.part(ending=".txt")).write_text("x")
        if job.parameters["folder"]:
            xr.Dataset({"x": ("i", [1])}).to_zarr(job.part(ending=".more.zarr"), consolidated=False)

    run(both, landing / "0.h5", tmp_path / "a.txt", parameters={"folder": True})
    assert (tmp_path / "a.more.zarr").is_dir()
    run(both, landing / "0.h5", tmp_path / "a.txt", parameters={"folder": False})
    assert not (tmp_path / "a.more.zarr").exists()


def notes(output: Path) -> list[str]:
    found = record.read(str(output))
    assert found is not None
    return list(found.notes)


def test_what_is_new_is_added(landing: Path, tmp_path: Path) -> None:
    output = tmp_path / "all.h5"
    files = [landing / f"{i}.h5" for i in range(3)]
    run(grown, files[:1], output)
    assert notes(output) == ["None"]
    run(grown, files, output)
    assert notes(output) == ["['1.h5', '2.h5']"]
    expected = np.concatenate([h5dask.open_dataset(one).embeddings for one in files])
    np.testing.assert_array_equal(h5dask.open_dataset(output).embeddings, expected)
    assert run(grown, files, output).what == "current"


@pytest.mark.parametrize(
    "change", ["input changed", "input gone", "output touched", "parameters", "forced"]
)
def test_what_can_t_be_gone_on_with(change: str, landing: Path, tmp_path: Path) -> None:
    output = tmp_path / "all.h5"
    files = [landing / f"{i}.h5" for i in range(3)]
    run(grown, files[:2], output)
    options = {}
    if change == "input changed":
        os.utime(files[0], (1, 1))
    elif change == "input gone":
        files.remove(files[0])
    elif change == "output touched":
        os.utime(output, (1, 1))
    elif change == "parameters":
        options = {"parameters": {"a": 1}}
    else:
        options = {"policy": Policy(force=True)}
    run(grown, files, output, **options)
    assert notes(output) == ["None"]
    expected = np.concatenate([h5dask.open_dataset(one).embeddings for one in files])
    np.testing.assert_array_equal(h5dask.open_dataset(output).embeddings, expected)
