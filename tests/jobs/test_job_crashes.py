"""Runs that are killed before any call that changes a file: the next one completes them."""

from __future__ import annotations

import ctypes
import os
import signal
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest

import h5dask
from h5dask.jobs import Job, Policy, run
from h5dask.testing import example_file
from tests.files.same import differences
from tests.isolated import CAN_KILL, Call, Server, server

if not CAN_KILL:
    warnings.warn("no C compiler, or not Linux: runs killed at a call left out", stacklevel=1)


def made(source: str, output: str, at: int) -> tuple[str, int]:
    """Run a job of two files and many panels, killed at the `at`-th call; tell how it ended."""
    shim = ctypes.CDLL(None)
    shim.h5dask_kill_at(ctypes.c_long(at))

    def twice(job: Job) -> None:
        with dask.config.set({"h5dask.block-size": "16 kiB"}):
            ds = h5dask.open_dataset(job.urls)
            job.write(ds, 1)
            job.write(ds, 2)

    what = run(twice, source, output, name="two", policy=Policy(keep=1)).what
    shim.h5dask_calls.restype = ctypes.c_long
    return what, int(shim.h5dask_calls())


def killed_everywhere(folder: Path, children: Server, n_points: int | None) -> None:
    """Kill a run at points spread over all its calls, and let another one complete it."""
    source = example_file("proteins")
    whole = folder / "whole" / "a.h5"
    whole.parent.mkdir()
    what, n_calls = children(made, source, str(whole), 0).value
    assert what == "done"
    assert n_calls > 30
    points: Sequence[int] = range(1, n_calls + 1)
    if n_points is not None:
        points = np.unique(np.linspace(1, n_calls, n_points).astype(int)).tolist()
    targets = [folder / str(at) / "a.h5" for at in points]
    for target in targets:
        target.parent.mkdir()
    outcomes = children.run(
        Call(function=made, args=(source, str(target), at))
        for target, at in zip(targets, points, strict=True)
    )
    n_whole = 0
    for target, at, outcome in zip(targets, points, outcomes, strict=True):
        assert outcome.signal == signal.SIGKILL, (at, outcome.said)
        for number in (1, 2):
            half = target.with_name(f"a-000{number}.h5")
            assert not half.exists() or differences(Path(source), half) == [], at
        again = children(made, source, str(target), 0)
        assert again.error is None, (at, again.said)
        n_whole += again.value[0] == "current"
        names = sorted(os.listdir(target.parent))
        assert names in (
            ["a-0001.h5", "a-0002.h5", "a.h5.run.json"],
            # Published, but not recorded: made again, and the first kept as asked for.
            *_with_old(target.parent),
        ), (at, names)
        for number in (1, 2):
            assert differences(Path(source), target.with_name(f"a-000{number}.h5")) == [], at
        assert children(made, source, str(target), 0).value[0] == "current"
    assert n_whole < len(points) / 2


def _with_old(folder: Path) -> list[list[str]]:
    """Return the names that may be there, with what is really kept of former outputs."""
    old = sorted(path.name for path in folder.glob("*.old"))
    assert len(old) <= 2
    return [sorted(["a-0001.h5", "a-0002.h5", "a.h5.run.json", *old])]


needs_shim = pytest.mark.parametrize("children", [server] if CAN_KILL else [])


@needs_shim
def test_a_killed_run_is_completed_by_the_next(children: Any, tmp_path: Path) -> None:
    killed_everywhere(tmp_path, children(), n_points=24)


@pytest.mark.soak
@needs_shim
def test_a_run_killed_at_every_call(children: Any, tmp_path: Path) -> None:
    killed_everywhere(tmp_path, children(), n_points=None)
