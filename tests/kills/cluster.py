"""A scheduler and two workers under nannies, each a process of its own that can be killed alone."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

from tests.servers.programs import program

ROOT = Path(__file__).parents[2]
SECONDS = 120
"""What any one step may take before it counts as a hang."""
SETTINGS = {
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "20",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false",
}
"""A task isn't blamed for what is done here."""
LEFT_ALONE = {"scheduler": ("--idle-timeout", "5 minutes"), "worker": ("--death-timeout", "60")}
"""What ends each of them where the tests are killed that started them."""
N_WORKERS = 2


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Wait for something that must come."""
    until = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < until, f"waited in vain: {what}"
        time.sleep(0.01)


@dataclass(slots=True)
class Cluster:
    """Started in full by `heal`, before each use."""

    folder: Path
    nanny: bool = True
    """Whether workers are under nannies; else each is one of `nannies` itself."""
    scheduler: subprocess.Popen[bytes] | None = None
    nannies: list[subprocess.Popen[bytes]] = field(default_factory=list)
    n_schedulers: int = 0
    known: set[psutil.Process] = field(default_factory=set)
    """All workers and their helpers that there ever were."""

    @property
    def file(self) -> str:
        """Path in which the scheduler leaves its address."""
        return str(self.folder / f"scheduler-{self.n_schedulers}.json")

    def heal(self) -> None:
        """Start what isn't there; it may take a moment until it answers."""
        if self.scheduler is None or self.scheduler.poll() is not None:
            self._end_workers()
            self.n_schedulers += 1
            self.scheduler = self._start("scheduler", "--port", "0")
        self.nannies = [one for one in self.nannies if one.poll() is None]
        while len(self.nannies) < N_WORKERS:
            wait_until(lambda: os.path.exists(self.file), "the scheduler's file")
            own = ("--nworkers", "1", "--nthreads", "1", "--local-directory", str(self.folder))
            under = "--nanny" if self.nanny else "--no-nanny"
            self.nannies.append(self._start("worker", under, *own))

    def worker(self, nanny: subprocess.Popen[bytes]) -> psutil.Process | None:
        """Return the process that a nanny watches; None where there is none just now."""
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(nanny.pid).children()
            self.known.update(found)
            # The other child, if any, looks after multiprocessing's resources.
            mine = [one for one in found if "spawn_main" in " ".join(one.cmdline())]
            return mine[-1] if mine else None
        return None

    def end(self) -> None:
        """End them all, and make sure that nothing is left of them."""
        self._end_workers()
        if self.scheduler is not None:
            self.scheduler.kill()
            self.scheduler.wait()
        _, alive = psutil.wait_procs(self.known, timeout=SECONDS)
        assert alive == []

    def _end_workers(self) -> None:
        for nanny in self.nannies:
            self.worker(nanny)
            nanny.kill()
            nanny.wait()
        for one in self.known:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self.nannies = []

    def _start(self, verb: str, *arguments: str) -> subprocess.Popen[bytes]:
        own = ("--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", self.file)
        own += LEFT_ALONE[verb]
        with (self.folder / f"{verb}.log").open("ab") as log:
            return subprocess.Popen(
                [program("dask"), verb, *own, *arguments],
                cwd=ROOT,
                env={**os.environ, **SETTINGS, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )


@contextmanager
def cluster_in(folder: Path, *, nanny: bool = True) -> Iterator[Cluster]:
    """Give a cluster, and end it whatever happens."""
    made = Cluster(folder, nanny)
    try:
        made.heal()
        yield made
    finally:
        made.end()


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """Let all computations run on it, once it is complete."""
    import h5dask

    cluster.heal()
    with (
        patch.dict(os.environ, SETTINGS),
        h5dask.connect(scheduler_file=cluster.file, timeout=SECONDS) as client,
    ):
        assert client is not None
        client.wait_for_workers(N_WORKERS, timeout=SECONDS)
        yield client


def freeze(pid: int) -> None:
    """Stop a process, and wait until it stands still."""
    os.kill(pid, signal.SIGSTOP)
    with suppress(psutil.NoSuchProcess):
        found = psutil.Process(pid)
        wait_until(lambda: found.status() in {"stopped", "zombie"}, f"{pid} to stop")
