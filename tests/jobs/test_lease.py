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

import pytest

from h5dask.errors import NotFound
from h5dask.jobs import lease as leases
from h5dask.jobs.lease import Held, Lease


def test_one_holds_it_and_it_is_gone_afterwards(tmp_path: Path) -> None:
    path = str(tmp_path / "lease.json")
    with Lease(path, "out.h5") as lease:
        assert lease.holds()
        with pytest.raises(Held, match=rf"out.h5: process {os.getpid()} on .* nothing was done"):
            Lease(path, "out.h5").__enter__()
        assert lease.holds()
    assert os.listdir(tmp_path) == []


def test_of_many_at_once_one_works(tmp_path: Path) -> None:
    path, together = str(tmp_path / "lease.json"), threading.Barrier(12)
    worked, refused = [], []

    def attempt(number: int) -> None:
        together.wait()
        try:
            with Lease(path, "out.h5"):
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
        with Lease(str(path), "out.h5") as lease:
            assert lease.holds()
        assert os.listdir(tmp_path) == []


def test_a_lease_from_elsewhere_must_expire(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    left_by(path, place="another machine", host="node7", process=1)
    with pytest.raises(Held, match="process 1 on node7"):
        Lease(str(path), "out.h5").__enter__()
    long_ago = time.time() - leases.EXPIRY - 5
    os.utime(path, (long_ago, long_ago))
    with Lease(str(path), "out.h5") as lease:
        assert lease.holds()
    assert os.listdir(tmp_path) == []


def test_a_lease_that_can_t_be_read_must_expire(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    path.write_text("{")
    with pytest.raises(Held, match="another run has just begun"):
        Lease(str(path), "out.h5").__enter__()
    os.utime(path, (1, 1))
    with Lease(str(path), "out.h5"):
        pass
    assert os.listdir(tmp_path) == []


def test_it_is_kept_fresh(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with Lease(str(path), "out.h5", beat=0.02) as lease:
        os.utime(path, (1, 1))
        until = time.monotonic() + 30
        while path.stat().st_mtime < 1e9 and time.monotonic() < until:
            time.sleep(0.01)
        assert path.stat().st_mtime > 1e9
        assert lease.holds()


def test_who_was_frozen_sees_that_it_is_lost_and_takes_nothing_away(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with Lease(str(path), "out.h5", beat=1000) as frozen:
        os.utime(path, (1, 1))
        with Lease(str(path), "out.h5") as second:
            assert second.holds()
            assert not frozen.holds()
            frozen.__exit__(None, None, None)
            assert second.holds()


def test_a_fresh_lease_survives_a_takeover_that_judged_its_predecessor(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    left_by(path, process=ended_number())
    judged = leases._read(str(path))
    with_delay = Lease(str(path), "out.h5")
    with Lease(str(path), "out.h5") as fresh:
        with_delay._take_away(judged)
        assert fresh.holds()


def test_no_folder_no_lease(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        Lease(str(tmp_path / "gone" / "lease.json"), "out.h5").__enter__()
