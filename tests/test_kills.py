"""Writers that are killed, interrupted or out of space, and inputs that change underneath."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import pytest

import h5dask
from h5dask.errors import InputChanged, NotFound
from h5dask.testing import example, example_file

PRELUDE = """
import os, signal, sys
import dask
import h5dask
from h5dask.testing import example
target, limit = sys.argv[1], int(sys.argv[2])
dask.config.set(scheduler="sync")
ds = example("proteins", 1)
"""


def child(code: str, *args: object) -> subprocess.Popen[str]:
    """Start a Python that runs the prelude and then `code`."""
    text = PRELUDE + textwrap.dedent(code)
    command = [sys.executable, "-c", text, *map(str, args)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


KILLED = """
real, seen = os.pwrite, [0]
def pwrite(*args):
    seen[0] += 1
    if seen[0] == limit:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)
os.pwrite = pwrite
real_replace = os.replace
def replace(*args):
    if limit == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real_replace(*args)
os.replace = replace
h5dask.write_dataset(ds, target, overwrite=True)
"""


@pytest.mark.parametrize("at", [0, 1, 2, 5])
def test_a_killed_writer_leaves_the_old_file_whole(at: int, tmp_path: Path) -> None:
    target = tmp_path / "a.h5"
    h5dask.write_dataset(example("proteins"), target)
    before = target.read_bytes()
    writer = child(KILLED, target, at)
    writer.communicate(timeout=120)
    assert writer.returncode == -signal.SIGKILL
    assert target.read_bytes() == before
    h5dask.write_dataset(example("proteins", 1), target, overwrite=True)
    assert os.listdir(tmp_path) == ["a.h5"]
    assert h5dask.validate(target, values=True) == ()


INTERRUPTED = """
real = os.pwrite
def pwrite(*args):
    os.kill(os.getpid(), signal.SIGINT)
    return real(*args)
os.pwrite = pwrite
h5dask.write_dataset(ds, target)
"""


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path) -> None:
    writer = child(INTERRUPTED, tmp_path / "a.h5", 0)
    _, said = writer.communicate(timeout=120)
    assert writer.returncode != 0
    assert "KeyboardInterrupt" in said
    assert os.listdir(tmp_path) == []


FULL = """
import resource
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    h5dask.write_dataset(ds, target, overwrite=True)
except h5dask.errors.OutOfSpace as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("limit", [512, 4096, 8000])
def test_a_full_disk_leaves_the_old_file_whole(limit: int, tmp_path: Path) -> None:
    target = tmp_path / "a.h5"
    h5dask.write_dataset(example("proteins"), target)
    before = target.read_bytes()
    assert limit < len(before)
    writer = child("import h5dask.errors\n" + textwrap.dedent(FULL), target, limit)
    _, said = writer.communicate(timeout=120)
    assert writer.returncode == 1, said
    assert said.startswith(str(target))
    assert said.count("\n") == 1
    assert target.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.h5"]


def test_an_input_that_was_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    h5dask.write_dataset(example("activations"), path)
    ds = h5dask.open_dataset(path)
    with h5py.File(path, "a") as f:
        f["scenarios/base/data/logits"][0, 0] = 7
    with pytest.raises(InputChanged, match="changed since it was opened"):
        ds.logits.compute()


def test_an_input_that_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    h5dask.write_dataset(example("ann"), path)
    ds = h5dask.open_dataset(path)
    h5dask.write_dataset(example("ann", 1), path, overwrite=True)
    with pytest.raises(InputChanged, match="open it again"):
        ds.train.compute()


def test_an_input_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    h5dask.write_dataset(example("ann"), path)
    ds = h5dask.open_dataset(path)
    path.unlink()
    with pytest.raises(NotFound, match="no such file"):
        ds.train.compute()


def test_an_input_that_changes_while_its_form_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    h5dask.write_dataset(example("proteins"), path)
    ds = h5dask.open_dataset(path).load()
    h5dask.write_dataset(example("proteins", 1), path, overwrite=True)
    with pytest.raises(InputChanged, match="name another form with like="):
        h5dask.write_dataset(ds, tmp_path / "b.h5")
    h5dask.write_dataset(ds, tmp_path / "b.h5", like=path)
    assert sorted(os.listdir(tmp_path)) == ["a.h5", "b.h5"]


def test_an_open_file_of_h5py_is_no_hindrance() -> None:
    path = example_file("ann")
    with h5py.File(path, "r"):
        assert h5dask.open_dataset(path).train.shape == example("ann").train.shape
