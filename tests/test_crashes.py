"""Writers that are killed or interrupted at any moment: the old file or the new one, never else."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask.storage.parts import new_part, remove_abandoned
from h5dask.testing import example, example_file
from tests import attempts
from tests.isolated import CAN_KILL, SHIM, Call, Server, server

SHIMS = [SHIM.name] if CAN_KILL else []
if not SHIMS:
    warnings.warn("no C compiler, or not Linux: writers killed at a call left out", stacklevel=1)

WRITES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("proteins", {}),
    "encoded": ("ann", {"compression": "gzip"}),
    "text": ("activations", {}),
}
"""Layout whose example is written, and how."""


@pytest.fixture(params=SHIMS)
def shimmed() -> Server:
    """A server of child processes that can be killed before any call that changes a file."""
    return server()


def killed_write(layout: str, target: str, options: dict[str, Any], at: int) -> int:
    """Write an example, to be killed at the `at`-th call; return how many calls there were."""
    shim = ctypes.CDLL(None)
    shim.h5dask_kill_at(ctypes.c_long(at))
    attempts.write_example(layout, target, options | {"overwrite": True})
    shim.h5dask_calls.restype = ctypes.c_long
    return int(shim.h5dask_calls())


def kill_everywhere(
    write: str, existing: bool, folder: Path, children: Server, n_points: int | None
) -> None:
    """Kill a writer at points spread over all of its calls, and look at what it leaves."""
    layout, options = WRITES[write]
    whole, old = folder / "whole.h5", b"not even HDF5"
    n_calls = children(killed_write, layout, str(whole), options, 0).value
    assert n_calls > 10
    points: Sequence[int] = range(1, n_calls + 1)
    if n_points is not None:
        points = np.unique(np.linspace(1, n_calls, n_points).astype(int)).tolist()
    targets = [folder / str(at) / "a.h5" for at in points]
    for target in targets:
        target.parent.mkdir()
        if existing:
            target.write_bytes(old)
    outcomes = children.run(
        Call(function=killed_write, args=(layout, str(target), options, at))
        for target, at in zip(targets, points, strict=True)
    )
    published = 0
    for target, at, outcome in zip(targets, points, outcomes, strict=True):
        assert outcome.signal == signal.SIGKILL, (at, outcome.said)
        names = {path.name for path in target.parent.iterdir()}
        known = re.compile(r"a\.h5|\.a\.h5\..*\.part(\.placing)?")
        assert all(known.fullmatch(name) for name in names), names
        found = target.read_bytes() if target.exists() else None
        published += found == whole.read_bytes()
        assert found in (whole.read_bytes(), old if existing else None), at
        again = children(attempts.write_example, layout, str(target), options | {"overwrite": True})
        assert again.error is None, (at, again.said)
        assert [path.name for path in target.parent.iterdir()] == ["a.h5"], at
        assert target.read_bytes() == whole.read_bytes()
    assert published < len(points) / 2


@pytest.mark.parametrize("existing", [True, False], ids=["over", "new"])
@pytest.mark.parametrize("write", WRITES)
def test_a_killed_writer_leaves_the_old_file_or_the_new_one(
    write: str, existing: bool, tmp_path: Path, shimmed: Server
) -> None:
    kill_everywhere(write, existing, tmp_path, shimmed, n_points=12)


@pytest.mark.soak
@pytest.mark.parametrize("write", WRITES)
def test_a_writer_killed_at_every_call(write: str, tmp_path: Path, shimmed: Server) -> None:
    kill_everywhere(write, True, tmp_path, shimmed, n_points=None)


def read_without_locks(path: str, copy: str) -> tuple[str, attempts.Digests]:
    """Read and rewrite a file where flock fails; tell what h5py says of it by itself."""
    os.environ["H5DASK_NO_LOCKS"] = "1"
    try:
        h5py.File(path)
        said = "opened"
    except OSError as error:
        said = str(error)
    attempts.rewrite(path, copy, {"compression": "gzip"})
    return said, attempts.everything(copy)


def test_a_filesystem_without_locks_is_no_hindrance(tmp_path: Path, shimmed: Server) -> None:
    path, copy = example_file("ann"), tmp_path / "copy.h5"
    outcome = shimmed(read_without_locks, path, str(copy))
    assert outcome.error is None, outcome.said
    by_h5py, found = outcome.value
    assert "lock" in by_h5py
    assert found == attempts.digests(h5dask.open_dataset(copy).compute())


def ended_number() -> int:
    """Return the number of a process that is no more."""
    program = subprocess.Popen([sys.executable, "-c", ""])
    program.wait()
    return program.pid


def test_only_parts_of_the_dead_are_removed(tmp_path: Path) -> None:
    target = tmp_path / "a.h5"
    host, dead = socket.gethostname().replace(".", "-")[:63], ended_number()
    own, beside = Path(new_part(str(target))), Path(new_part(str(tmp_path / "a.h5.h5")))
    kept = [
        own,  # another thread's
        beside,  # another target's
        tmp_path / f".a.h5.{host}.{os.getppid()}.0123456789-0.part",
        tmp_path / f".a.h5.elsewhere.{dead}.0123456789-0.part",
        tmp_path / f".a.h5.{host}.{dead}.part",
        tmp_path / f".a.h5.{host}.{dead}.0123456789-0.h5",
        tmp_path / ".a.h5.swp",
    ]
    abandoned = [
        tmp_path / f".a.h5.{host}.{dead}.0123456789-0.part",
        tmp_path / f".a.h5.{host}.{dead}.0123456789-0.part.probe",
        # What ran before under the number that is ours now, as in a container.
        tmp_path / f".a.h5.{host}.{os.getpid()}.0123456789-0.part",
        tmp_path / f".a.h5.{host}.99999999999999999999.0123456789-0.part",
    ]
    for path in [*kept, *abandoned]:
        path.write_text("x")
    remove_abandoned(str(target))
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_what_is_refused_removes_nothing(tmp_path: Path) -> None:
    host = socket.gethostname().replace(".", "-")[:63]
    left = tmp_path / f".a.h5.{host}.{ended_number()}.0123456789-0.part"
    left.write_text("x")
    with pytest.raises(h5dask.errors.LayoutError, match="no rows at all"):
        h5dask.write_dataset(example("ann").isel(vector=slice(0, 0)), tmp_path / "a.h5")
    assert left.exists()
    h5dask.write_dataset(example("ann"), tmp_path / "a.h5")
    assert os.listdir(tmp_path) == ["a.h5"]


def interrupting(scheduler: str, target: str, compression: str | None) -> None:
    """Write a file of many blocks, interrupted as by Ctrl-C while one of them is computed."""

    def interrupt(block: Any, block_info: Any = None) -> Any:
        if block_info[0]["chunk-location"][0] == 20:
            os.kill(os.getpid(), signal.SIGINT)
        return block

    wide = np.ones((400, 64), "f4")
    values = da.map_blocks(
        interrupt, da.from_array(wide, chunks=(8, -1)), dtype="f4", meta=wide[:0]
    )
    ids = np.array([f"episode {i}" for i in range(400)], object)
    ds = xr.Dataset({"embeddings": (("episode", "feature"), values)})
    ds = ds.assign_coords(episode_ids=("episode", ids))
    with dask.config.set(scheduler=scheduler):
        h5dask.write_dataset(ds, target, overwrite=True, compression=compression)


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_an_interrupted_writer_leaves_all_as_it_was(
    scheduler: str, compression: str | None, tmp_path: Path
) -> None:
    target = tmp_path / "a.h5"
    target.write_text("precious")
    outcome = server()(interrupting, scheduler, str(target), compression)
    assert isinstance(outcome.error, KeyboardInterrupt), outcome.said
    assert target.read_text() == "precious"
    assert os.listdir(tmp_path) == ["a.h5"]


@pytest.mark.parametrize("write", WRITES)
def test_processes_of_their_own_write_the_same_bytes(write: str, tmp_path: Path) -> None:
    layout, options = WRITES[write]
    with dask.config.set(scheduler="processes", num_workers=2):
        attempts.write_example(layout, str(tmp_path / "processes.h5"), options)
    attempts.write_example(layout, str(tmp_path / "threads.h5"), options)
    assert (tmp_path / "processes.h5").read_bytes() == (tmp_path / "threads.h5").read_bytes()
