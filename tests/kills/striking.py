"""A moment at which somebody is killed or frozen, and what must be so after the next run."""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.files.same import differences
from tests.kills.cluster import SECONDS, Cluster, wait_until
from tests.kills.work import BLOCK_SECONDS, N_BLOCKS, Task

N_QUICK, N_SOAK = 3, 50
_LONG = [pytest.param(N_QUICK + i, marks=pytest.mark.soak) for i in range(N_SOAK)]
SEEDS = [*range(N_QUICK), *_LONG]
"""Of moments: three in every run of the tests, and fifty more in a long one."""
ONE_SEED = [0, *_LONG]
"""Where one will do in every run."""
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.kills.work"])


@dataclass(frozen=True)
class Moment:
    """When something is struck: so many blocks were computed, and then a little later."""

    n_blocks: int
    rest: float

    @classmethod
    def of(cls, seed: int) -> Moment:
        """Return one of many, always the same."""
        dice = random.Random(seed)
        return cls(dice.randrange(1, N_BLOCKS), dice.uniform(0, 2 * BLOCK_SECONDS))

    def wait(self, task: Task, before: int) -> None:
        """Wait for it; `before` blocks were computed by earlier runs."""
        wait_until(lambda: len(task.blocks) - before >= self.n_blocks, f"{self}")
        time.sleep(self.rest)


@dataclass(slots=True)
class Struck:
    """How far a run had come when it was struck."""

    panels: list[range]
    n_blocks: int


@contextmanager
def struck(task: Task, moment: Moment, strike: Callable[[], Any]) -> Iterator[Struck]:
    """Strike at a moment of what runs inside."""
    before, found, errors = len(task.blocks), Struck([], 0), []

    def wait() -> None:
        try:
            moment.wait(task, before)
            strike()
            found.panels, found.n_blocks = task.panels(), len(task.blocks)
        except BaseException as error:  # noqa: BLE001 - told where it can be heard
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield found
    finally:
        thread.join()
    assert errors == []


def nothing_on_record_was_redone(task: Task, at: Struck) -> None:
    """Refuse a block of a recorded panel that was computed again."""
    on_record = {block for panel in at.panels for block in panel}
    assert {*task.blocks} == {*range(N_BLOCKS)}
    assert not on_record & {*task.blocks[at.n_blocks :]}


def complete(task: Task, expected: Path) -> None:
    """Look at all that is there: the right output, its record, and nothing else."""
    output = Path(task.output)
    assert differences(expected, output) == []
    assert sorted(os.listdir(output.parent)) == ["b.h5", "b.h5.run.json"]
    before = len(task.blocks)
    assert task.run().what == "current"
    assert len(task.blocks) == before


def a_worker(cluster: Cluster, seed: int) -> psutil.Process:
    """Return one of the workers."""
    nanny = cluster.nannies[seed % 2]
    wait_until(lambda: cluster.worker(nanny) is not None, "a worker")
    found = cluster.worker(nanny)
    assert found is not None
    return found


@contextmanager
def client_of(cluster: Cluster, task: Task) -> Iterator[Any]:
    """Run a task in a process of its own, which can be killed alone."""
    cluster.heal()
    wait_until(lambda: os.path.exists(cluster.file), "the scheduler's file")
    with child(task.run_at, cluster.file) as client:
        yield client


@contextmanager
def child(function: Callable[..., Any], *args: Any) -> Iterator[Any]:
    """Call a function in a process of its own."""
    client = FORKS.Process(target=function, args=args, daemon=True)
    client.start()
    try:
        yield client
    finally:
        client.kill()
        client.join(SECONDS)
