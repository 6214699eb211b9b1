"""A worker, its nanny, the scheduler or the client is killed or frozen at any moment of a run.

After each, the next run gives the right and whole output, panels on record aren't computed again,
and nothing is left. What comes late changes nothing that was published.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from h5dask.errors import Unreachable
from tests.kills.cluster import SECONDS, Cluster, connected
from tests.kills.striking import (
    ONE_SEED,
    SEEDS,
    Moment,
    a_worker,
    client_of,
    complete,
    nothing_on_record_was_redone,
    struck,
)
from tests.kills.work import Task


@pytest.mark.parametrize("seed", SEEDS)
def test_a_worker_is_killed(seed: int, cluster: Cluster, task: Task, expected: Path) -> None:
    with connected(cluster):
        worker = a_worker(cluster, seed)
        with struck(task, Moment.of(seed), worker.kill) as at:
            assert task.run().what == "done"
    nothing_on_record_was_redone(task, at)
    complete(task, expected)


@pytest.mark.parametrize("seed", ONE_SEED)
def test_a_nanny_is_killed(seed: int, cluster: Cluster, task: Task, expected: Path) -> None:
    with connected(cluster):
        nanny = cluster.nannies[seed % 2]
        with struck(task, Moment.of(seed), nanny.kill) as at:
            assert task.run().what == "done"
    nothing_on_record_was_redone(task, at)
    complete(task, expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_client_is_killed(seed: int, cluster: Cluster, task: Task, expected: Path) -> None:
    with client_of(cluster, task) as client:
        with struck(task, Moment.of(seed), client.kill) as at:
            client.join(SECONDS)
        assert client.exitcode == -signal.SIGKILL
    with connected(cluster):
        assert task.run().what == "done"
    nothing_on_record_was_redone(task, at)
    complete(task, expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_scheduler_is_killed(seed: int, cluster: Cluster, task: Task, expected: Path) -> None:
    with connected(cluster):
        assert cluster.scheduler is not None
        with (
            struck(task, Moment.of(seed), cluster.scheduler.kill) as at,
            pytest.raises(Unreachable, match="the scheduler ended, or was cut off"),
        ):
            task.run()
    assert task.run().what == "done"
    nothing_on_record_was_redone(task, at)
    complete(task, expected)
