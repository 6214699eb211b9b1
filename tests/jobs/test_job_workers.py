"""Runs on processes of which some are killed, and runs whose own process is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import xarray as xr

import h5dask
from h5dask.jobs import Job, run
from tests.files.same import differences

SECONDS = 120
"""What any one step may take before it counts as a hang."""
N_ROWS, N_BLOCKS = 1_600, 40


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episodes enough for 40 blocks."""
    values = np.random.default_rng(0).standard_normal((N_ROWS, 16)).astype("f4")
    ids = np.array([f"ep{i}" for i in range(N_ROWS)], object)
    ds = xr.Dataset({"embeddings": (("episode", "feature"), values)})
    path = tmp_path_factory.mktemp("source") / "a.h5"
    h5dask.write_dataset(ds.assign_coords(episode_ids=("episode", ids)), path)
    return path


def slowly(block: Any) -> Any:
    """Return a block after a while."""
    time.sleep(0.05)
    return block


def copied(job: Job) -> None:
    """Write the input as it is, block by block, each taking a while."""
    ds = h5dask.open_dataset(job.urls, chunks={"episode": N_ROWS // N_BLOCKS})
    values = ds.embeddings.data.map_blocks(slowly, dtype="f4")
    job.write(ds.assign(embeddings=(ds.embeddings.dims, values)))


def killed_worker(source: Path, output: Path, after: float) -> None:
    """Kill a worker while the run works, and look at what it makes."""
    with h5dask.connect(workers=2) as client:
        assert client is not None
        pids = [*client.run(os.getpid).values()]
        timer = threading.Timer(after, os.kill, (random.Random(after).choice(pids), signal.SIGKILL))
        timer.start()
        try:
            assert run(copied, source, output).what == "done"
        finally:
            timer.cancel()
    assert differences(source, output) == []
    assert sorted(os.listdir(output.parent)) == [output.name, f"{output.name}.run.json"]


@pytest.mark.soak  # tests/kills kills workers at three moments in every run
@pytest.mark.parametrize("after", [0.9])
def test_a_killed_worker_costs_only_time(after: float, source: Path, tmp_path: Path) -> None:
    killed_worker(source, tmp_path / "b.h5", after)


CLIENT = """
import sys
import h5dask
from h5dask.jobs import run
from tests.jobs.test_job_workers import copied
if __name__ == "__main__":
    with h5dask.connect(workers=2) as client:
        print("ready", flush=True)
        run(copied, sys.argv[1], sys.argv[2])
"""


def killed_client(source: Path, output: Path, after: float, scratch: Path) -> None:
    """Kill the process that runs, and let the next one complete the run."""
    scratch.mkdir()
    program = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(source), str(output)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    try:
        assert program.stdout.readline() == "ready\n"
        children = psutil.Process(program.pid).children(recursive=True)
        time.sleep(after)
    finally:
        program.kill()
        program.communicate(timeout=SECONDS)
    gone, alive = psutil.wait_procs(children, timeout=SECONDS)
    assert alive == []
    assert len(gone) >= 2
    if output.exists():
        assert differences(source, output) == []
    assert run(copied, source, output).what in ("done", "current")
    assert differences(source, output) == []
    assert sorted(os.listdir(output.parent)) == [output.name, f"{output.name}.run.json"]
    assert run(copied, source, output).what == "current"


@pytest.mark.parametrize("after", [0.4])
def test_a_killed_client_s_run_is_completed_by_the_next(
    after: float, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    killed_client(source, tmp_path / "out" / "b.h5", after, tmp_path / "scratch")


def test_of_three_schedulers_at_once_one_works(source: Path, tmp_path: Path) -> None:
    code = """
import json, sys
from h5dask.jobs import run
from tests.jobs.test_job_workers import copied
sys.stdin.readline()
found = run(copied, sys.argv[1], sys.argv[2])
print(json.dumps([found.what, found.why]))
"""
    output = tmp_path / "b.h5"
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(source), str(output)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()
    found = [json.loads(program.communicate(timeout=SECONDS)[0]) for program in programs]
    assert [program.returncode for program in programs] == [0] * 3
    whats = [what for what, _ in found]
    assert whats.count("done") == 1
    assert set(whats) <= {"done", "busy", "current"}
    assert all("nothing was done" in why for what, why in found if what == "busy")
    assert differences(source, output) == []
    assert sorted(os.listdir(tmp_path)) == ["b.h5", "b.h5.run.json"]
