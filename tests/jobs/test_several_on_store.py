"""One run for each of many inputs, with inputs and outputs in a store."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest

import h5dask
from h5dask.errors import NotFound, Refused
from h5dask.jobs import Job, Policy
from h5dask.jobs.several import run_each
from h5dask.testing import example
from tests.bucket import Bucket


def copied(job: Job) -> None:
    """Write the input as it is."""
    job.write(h5dask.open_dataset(job.urls, storage_options=job.storage_options))


@pytest.fixture
def landing(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A prefix with three inputs."""
    monkeypatch.setenv("H5DASK_CACHE", str(tmp_path / "cache"))
    for number in range(3):
        place(bucket, number, example("episodes", number), tmp_path)
    return bucket


def place(bucket: Bucket, number: int, ds: Any, folder: Path) -> None:
    h5dask.write_dataset(ds, folder / "made.h5", overwrite=True)
    bucket.place(f"in/{number}.h5", (folder / "made.h5").read_bytes())


def whats(landing: Bucket, **policy: Any) -> dict[str, str]:
    found = run_each(
        copied, f"{landing.url}/in/*.h5", f"{landing.url}/out/", policy=Policy(**policy),
        storage_options=landing.options,
    )  # fmt: skip
    return {one.output.rpartition("/")[2]: one.what for one in found}


def test_only_what_is_new_or_changed_is_done(landing: Bucket, tmp_path: Path) -> None:
    assert whats(landing) == {"0.h5": "done", "1.h5": "done", "2.h5": "done"}
    assert set(whats(landing).values()) == {"current"}
    place(landing, 1, example("episodes", 7), tmp_path)
    landing.place("in/2.h5", b"no HDF5")
    place(landing, 3, example("episodes", 3), tmp_path)
    expected = {"0.h5": "current", "1.h5": "done", "2.h5": "set aside", "3.h5": "done"}
    assert whats(landing) == expected
    summary = json.loads(landing.content("out/h5dask.run.json"))
    assert [one["what"] for one in summary["inputs"]] == list(expected.values())
    assert summary["inputs"][0]["input"] == f"{landing.url}/in/0.h5"


@pytest.mark.parametrize("policy", ["keep", "remove"])
def test_inputs_that_vanished(policy: str, landing: Bucket) -> None:
    whats(landing)
    landing.filesystem.rm_file(f"{landing.url}/in/1.h5")
    assert whats(landing, vanished=policy)["1.h5"] == "vanished"
    kept = [one for one in landing.names() if one.startswith("out/1.h5")]
    assert kept == (["out/1.h5", "out/1.h5.run.json"] if policy == "keep" else [])


def test_only_what_was_changed_since(landing: Bucket) -> None:
    info = landing.filesystem.info(f"{landing.url}/in/0.h5")
    changed = info["LastModified"]
    assert set(whats(landing, since=changed + timedelta(days=1)).values()) == {"current"}
    assert [one for one in landing.names() if one.startswith("out/") and one.endswith(".h5")] == []
    assert set(whats(landing, since=changed - timedelta(days=1)).values()) == {"done"}


def test_a_store_that_tells_no_times(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def untold(*_: Any) -> Any:
        raise NotImplementedError

    memory = fsspec.filesystem("memory")
    memory.pipe_file("/untold/a.h5", b"no HDF5")
    monkeypatch.setattr(type(memory), "modified", untold)
    policy = Policy(since=datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(Refused, match=r"--since: memory://untold/a.h5: its store doesn't tell"):
        run_each(copied, "memory://untold/a.h5", tmp_path, policy=policy)


def test_a_folder_that_is_not_there(landing: Bucket) -> None:
    with pytest.raises(NotFound, match=r"wrong: no \*\.h5 in s3://.*/wrong; check the folder"):
        run_each(
            copied, f"{landing.url}/wrong/*.h5", f"{landing.url}/out",
            storage_options=landing.options,
        )  # fmt: skip


def test_outputs_in_the_folder_of_the_inputs(landing: Bucket) -> None:
    with pytest.raises(Refused, match=r"in/0.h5: is in the folder of the outputs"):
        run_each(
            copied, f"{landing.url}/in/0.h5", f"{landing.url}/in", storage_options=landing.options
        )
