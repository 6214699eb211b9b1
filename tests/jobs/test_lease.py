"""Who works on an output, and who may take over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from h5dask.errors import NotFound
from h5dask.jobs import lease as leases
from h5dask.jobs.file_lease import LeaseFile
from h5dask.jobs.lease import Held, Lease

QUICK: dict[str, Any] = {"beat": 0.05, "expiry": 0.4}


def said(line: str) -> None:
    """Take what a person would read."""


def lease(path: Path, **options: Any) -> Lease:
    """Return a lease that doesn't take long to expire."""
    return Lease(LeaseFile(str(path)), "out.h5", said, **{**QUICK, **options})


def test_one_holds_it_and_it_is_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with lease(path) as held:
        assert held.holds()
        for _ in range(3):
            with pytest.raises(Held, match=rf"out.h5: process {os.getpid()} on .* nothing was do"):
                lease(path).__enter__()
            time.sleep(0.1)
        assert held.holds()
    assert os.listdir(tmp_path) == []


def test_of_many_at_once_one_works(tmp_path: Path) -> None:
    path, together = tmp_path / "lease.json", threading.Barrier(12)
    worked, refused = [], []

    def attempt(number: int) -> None:
        together.wait()
        try:
            with lease(path, expiry=60.0):
                worked.append(number)
                while len(refused) < 11:
                    time.sleep(0.001)
        except Held:
            refused.append(number)

    threads = [threading.Thread(target=attempt, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(worked), len(refused)) == (1, 11)
    assert os.listdir(tmp_path) == []


def left_by(path: Path, **changes: object) -> None:
    """Leave the lease of another owner."""
    owner = replace(leases.myself(), **changes)  # type: ignore[arg-type]
    path.write_text(json.dumps({name: getattr(owner, name) for name in owner.__slots__}))


def ended_number() -> int:
    program = subprocess.Popen([sys.executable, "-c", ""])
    program.wait()
    return program.pid


def test_a_dead_owner_s_lease_is_taken_over_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    for changes in ({"process": ended_number()}, {"began": 1.0}):
        left_by(path, **changes)
        with lease(path, expiry=1e9) as held:
            assert held.holds()
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("ago", [3600, -3600])
def test_one_from_elsewhere_expires_by_the_clock_of_whoever_looks(
    ago: float, tmp_path: Path
) -> None:
    path = tmp_path / "lease.json"
    left_by(path, place="another machine", host="node7", process=1)
    with pytest.raises(Held, match="process 1 on node7"):
        lease(path, beat=30.0).__enter__()
    os.utime(path, (time.time() - ago,) * 2)
    with lease(path) as held:
        assert held.holds()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_set_clock_takes_no_lease_from_who_lives(
    jump: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lease.json"
    with lease(path, beat=0.2) as held:
        set_clock(jump, tmp_path / "proc", monkeypatch)
        assert not held.owner.is_gone()
        with pytest.raises(Held, match="works on it since"):
            lease(path, beat=0.2, expiry=60.0).__enter__()
        assert held.holds()


def set_clock(jump: float, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Be on a machine whose clock was set after it had booted: the boot then seems moved."""
    now, booted = time.time, int(psutil.boot_time())
    patch.setattr("h5dask.jobs.lease.time.time", lambda: now() + jump)
    folder.mkdir()
    for entry in Path("/proc").iterdir():
        if entry.name != "stat":
            (folder / entry.name).symlink_to(entry)
    told = Path("/proc/stat").read_text()
    moved = told.replace(f"btime {booted}", f"btime {booted + int(jump)}")
    (folder / "stat").write_text(moved)
    patch.setattr(psutil, "PROCFS_PATH", str(folder))
    assert psutil.boot_time() == booted + jump


def test_a_lease_that_can_t_be_read_must_expire(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    path.write_text("{")
    with pytest.raises(Held, match="another run works on it"):
        lease(path, beat=30.0).__enter__()
    os.utime(path, (1, 1))
    told: list[str] = []
    with Lease(LeaseFile(str(path)), "out.h5", told.append, **QUICK):
        pass
    assert told == [
        "out.h5: another run has left a lease; waiting for a sign of life, at most 0.4 s"
    ]
    assert os.listdir(tmp_path) == []


def test_it_is_kept_fresh(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with lease(path) as held:
        os.utime(path, (1, 1))
        until = time.monotonic() + 30
        while path.stat().st_mtime < 1e9 and time.monotonic() < until:
            time.sleep(0.01)
        assert path.stat().st_mtime > 1e9
        assert held.holds()


def test_who_was_frozen_sees_that_it_is_lost_and_takes_nothing_away(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with lease(path, beat=1000.0) as frozen:
        os.utime(path, (1, 1))
        with lease(path) as second:
            assert second.holds()
            assert not frozen.holds()
            frozen.__exit__(None, None, None)
            assert second.holds()


def test_a_fresh_lease_survives_a_takeover_that_judged_its_predecessor(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    left_by(path, process=ended_number())
    place, own = LeaseFile(str(path)), leases.myself()
    judged = place.read()
    with lease(path) as fresh:
        assert not place.take(own, judged)
        assert fresh.holds()


def test_no_folder_no_lease(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        lease(tmp_path / "gone" / "lease.json").__enter__()
