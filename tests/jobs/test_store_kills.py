"""Runs to a store that are killed, frozen, or begun twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask.jobs import Job, run
from h5dask.jobs.lease import Lease
from tests.bucket import Bucket
from tests.files.same import differences

N_ROWS, N_BLOCKS = 1_600, 40
SECONDS = 120
"""What any one step may take before it counts as a hang."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episodes enough for 40 blocks."""
    values = np.random.default_rng(0).standard_normal((N_ROWS, 16)).astype("f4")
    ids = np.array([f"ep{i}" for i in range(N_ROWS)], object)
    ds = xr.Dataset({"embeddings": (("episode", "feature"), values)})
    path = tmp_path_factory.mktemp("source") / "a.h5"
    h5dask.write_dataset(ds.assign_coords(episode_ids=("episode", ids)), path)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which this machine's runs keep their state."""
    monkeypatch.setenv("H5DASK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


GATE, N_BEFORE = "GATE_OF_A_TEST", 10
"""Names a file without which a child waits once it has come so many blocks far."""
_passed: list[int] = []


def slowly(block: Any) -> Any:
    """Return a block after a while; in a child, late ones once its gate is open."""
    time.sleep(0.02)
    _passed.append(1)
    until, gate = time.monotonic() + SECONDS, os.environ.get(GATE)
    while gate and len(_passed) > N_BEFORE and not os.path.exists(gate):
        assert time.monotonic() < until, "nobody has opened the gate"
        time.sleep(0.02)
    return block


def copied(job: Job) -> None:
    """Write the input as it is, block by block, each taking a while."""
    ds = h5dask.open_dataset(job.urls, chunks={"episode": N_ROWS // N_BLOCKS})
    values = ds.embeddings.data.map_blocks(slowly, dtype="f4")
    job.write(ds.assign(embeddings=(ds.embeddings.dims, values)))


RUN = """
import json, sys
import dask
from h5dask.jobs import run
from tests.jobs.test_store_kills import copied
with dask.config.set(scheduler="sync"):
    options = json.loads(sys.argv[3])
    print(run(copied, sys.argv[1], sys.argv[2], storage_options=options).what, flush=True)
"""


def gate(cache: Path) -> Path:
    """Return the file that lets a child go on."""
    return cache.with_name("gate")


@contextmanager
def begun(source: Path, output: str, bucket: Bucket, cache: Path) -> Iterator[Any]:
    """Run it in a process of its own; go on once it has written some blocks."""
    environment = {**os.environ, "H5DASK_CACHE": str(cache), GATE: str(gate(cache))}
    command = [sys.executable, "-c", RUN, str(source), output, json.dumps(bucket.options)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        until = time.monotonic() + SECONDS
        while not any(b"write" in log.read_bytes() for log in cache.glob("runs/*/*/done.log")):
            assert time.monotonic() < until, "the run wrote nothing"
            assert child.poll() is None, "the run ended at once"
            time.sleep(0.02)
        yield child
    finally:
        child.kill()
        child.wait()


def same(source: Path, bucket: Bucket, folder: Path) -> None:
    """Compare the output with the input."""
    (folder / "fetched.h5").write_bytes(bucket.content("b.h5"))
    assert differences(source, folder / "fetched.h5") == []
    assert bucket.names() == ["b.h5", "b.h5.run.json"]


def test_a_killed_run_goes_on_on_its_machine(
    source: Path, bucket: Bucket, cache: Path, tmp_path: Path
) -> None:
    output = f"{bucket.url}/b.h5"
    with begun(source, output, bucket, cache) as child:
        child.send_signal(signal.SIGKILL)
        child.wait(SECONDS)
    assert bucket.names() == ["b.h5.h5dask.lease"]
    (log,) = cache.glob("runs/*/*/done.log")
    done = log.read_text().count('"write')
    again: list[int] = []

    def counted(job: Job) -> None:
        panels = job.state.panels

        def noted(name: str, n: int, do: Any) -> list[Any]:
            def once(start: int, stop: int) -> Any:
                again.append(stop - start)
                return do(start, stop)

            return panels(name, n, once)

        job.state.panels = noted  # type: ignore[method-assign]
        copied(job)

    found = run(counted, source, output, name="copied", storage_options=bucket.options)
    assert found.what == "done"
    assert done >= 1
    assert 0 < sum(again) < N_BLOCKS
    same(source, bucket, tmp_path)
    assert list((cache / "runs").iterdir()) == []


def test_another_machine_begins_anew_once_the_lease_has_expired(
    source: Path, bucket: Bucket, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, told = f"{bucket.url}/b.h5", []
    with begun(source, output, bucket, cache) as child:
        child.send_signal(signal.SIGKILL)
        child.wait(SECONDS)
    elsewhere(tmp_path, monkeypatch)
    monkeypatch.setattr("h5dask.jobs.in_store.Lease", quick(told))
    assert run(copied, source, output, storage_options=bucket.options).what == "done"
    assert any("waiting for a sign of life, at most 1.0 s" in line for line in told)
    same(source, bucket, tmp_path)


def elsewhere(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Be another machine, whose clock is wrong."""
    patch.setenv("H5DASK_CACHE", str(folder / "another cache"))
    patch.setattr("h5dask.jobs.lease._place", lambda: "another machine")
    patch.setattr("h5dask.jobs.lease.time.time", lambda: 0.0)


def quick(told: list[str]) -> Any:
    """Return leases that expire soon, and tell why they wait."""

    def lease(place: Any, output: str, say: Any) -> Lease:
        return Lease(place, output, told.append, beat=0.1, expiry=1.0)

    return lease


@pytest.mark.parametrize("same_machine", [True, False])
def test_of_two_runs_at_once_one_is_busy(
    same_machine: bool, source: Path, bucket: Bucket, cache: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    output = f"{bucket.url}/b.h5"
    with begun(source, output, bucket, cache) as child:
        with monkeypatch.context() as patch:
            if not same_machine:
                elsewhere(tmp_path, patch)
            found = run(copied, source, output, storage_options=bucket.options)
            assert found.what == "busy"
            assert f"b.h5: process {child.pid} on " in found.why
        gate(cache).touch()
        assert child.communicate(timeout=SECONDS)[0].split() == ["done"]
    same(source, bucket, tmp_path)


def test_a_frozen_run_that_was_taken_over_publishes_nothing(
    source: Path, bucket: Bucket, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = f"{bucket.url}/b.h5"
    with begun(source, output, bucket, cache) as child:
        child.send_signal(signal.SIGSTOP)
        with monkeypatch.context() as patch:
            elsewhere(tmp_path, patch)
            patch.setattr("h5dask.jobs.in_store.Lease", quick([]))
            second = run(copied, source, output, storage_options=bucket.options)
            assert second.what == "done"
        record = bucket.content("b.h5.run.json")
        gate(cache).touch()
        child.send_signal(signal.SIGCONT)
        assert child.communicate(timeout=SECONDS)[0] == ""
        assert child.returncode == 1
    assert bucket.content("b.h5.run.json") == record
    same(source, bucket, tmp_path)
