"""A worker, its nanny, the scheduler or the client stands still, and goes on when all is over.

What comes late changes nothing that was published, and nothing of it is left.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from h5dask.errors import WorkersLost
from h5dask.storage.remote import fingerprint
from tests.kills.cluster import SECONDS, Cluster, connected, freeze, wait_until
from tests.kills.striking import (
    ONE_SEED,
    SEEDS,
    Moment,
    client_of,
    complete,
    nothing_on_record_was_redone,
    struck,
)
from tests.kills.work import Freezer, Task


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a run from which nothing is heard for a second for dead."""
    monkeypatch.setattr("h5dask.jobs.lease.BEAT", 0.2)
    monkeypatch.setattr("h5dask.jobs.lease.EXPIRY", 1.0)


@contextmanager
def unchanged(task: Task) -> Iterator[None]:
    """Refuse any change to what was published: of bytes, of times, of the record."""
    folder = Path(task.output).parent
    before = {path.name: (path.read_bytes(), fingerprint(str(path))) for path in folder.iterdir()}
    assert before.keys() == {"b.h5", "b.h5.run.json"}
    yield
    for path in folder.iterdir():
        assert (path.read_bytes(), fingerprint(str(path))) == before[path.name]


async def give_up(address: str, dask_scheduler: Any) -> None:
    """Let the scheduler do what it does once it has heard nothing of a worker for minutes."""
    await dask_scheduler.remove_worker(address, stimulus_id="frozen")


@contextmanager
def given_up(client: Any, freezer: Freezer) -> Iterator[None]:
    """Let the scheduler give up the worker that is frozen inside."""
    addresses = {pid: address for address, pid in client.run(os.getpid).items()}

    def wait() -> None:
        wait_until(freezer.is_done, "a worker that is frozen")
        client.run_on_scheduler(give_up, addresses[freezer.frozen])

    thread = threading.Thread(target=wait)
    thread.start()
    yield
    thread.join()


@contextmanager
def frozen(bare: Cluster, freezer: Freezer) -> Iterator[Callable[[], None]]:
    """Give what lets a frozen worker go on until it has ended what it was at."""
    worker = freezer.frozen

    def go_on() -> None:
        os.kill(worker, signal.SIGCONT)
        wait_until(lambda: os.path.exists(freezer.last_word), f"{worker} to end what it was at")

    try:
        yield go_on
    finally:
        for one in bare.nannies:
            if one.pid == worker:
                one.kill()
                one.wait()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_worker_that_is_frozen_in_the_middle_of_its_write(
    seed: int, bare: Cluster, task: Task, expected: Path, tmp_path: Path
) -> None:
    freezer = Freezer(Moment.of(seed).n_blocks, "write", str(tmp_path / "word"))
    with connected(bare) as client, given_up(client, freezer):
        assert task.run(freezer).what == "done"
    with frozen(bare, freezer) as go_on, unchanged(task):
        go_on()
    complete(task, expected)


def test_a_worker_that_is_frozen_while_it_places_compressed_values(
    bare: Cluster, task: Task, tmp_path: Path
) -> None:
    packed = replace(task, compression="gzip")
    freezer = Freezer(0, "close", str(tmp_path / "word"))
    with connected(bare) as client:
        with (
            given_up(client, freezer),
            pytest.raises(WorkersLost, match=r"b\.h5.* stands still, while it placed compressed"),
        ):
            packed.run(freezer)
        assert packed.run().what == "done"
    with frozen(bare, freezer) as go_on, unchanged(packed):
        go_on()
    again = replace(packed, output=str(tmp_path / "b.h5"), tally=tmp_path / "another")
    assert again.run().what == "done"
    complete(packed, Path(again.output))


@pytest.mark.parametrize("seed", ONE_SEED)
def test_the_scheduler_is_frozen_and_goes_on(
    seed: int, bare: Cluster, task: Task, expected: Path
) -> None:
    with connected(bare):
        assert bare.scheduler is not None
        pid = bare.scheduler.pid

        def pause() -> None:
            freeze(pid)
            os.kill(pid, signal.SIGCONT)

        with struck(task, Moment.of(seed), pause) as at:
            assert task.run().what == "done"
    nothing_on_record_was_redone(task, at)
    complete(task, expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_scheduler_is_frozen_and_its_client_killed(
    seed: int, bare: Cluster, task: Task, expected: Path
) -> None:
    assert bare.scheduler is not None
    pid = bare.scheduler.pid
    with client_of(bare, task) as client:
        with struck(task, Moment.of(seed), lambda: freeze(bare.scheduler.pid)) as at:
            pass
        client.kill()
        client.join(SECONDS)
    assert task.run().what == "done"
    nothing_on_record_was_redone(task, at)
    with unchanged(task):
        os.kill(pid, signal.SIGCONT)
        with connected(bare) as client:
            assert client.submit(sum, [1, 2]).result(SECONDS) == 3
    complete(task, expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_client_is_frozen_and_taken_over(
    seed: int, bare: Cluster, task: Task, expected: Path, soon: None
) -> None:
    with client_of(bare, task) as client:
        with struck(task, Moment.of(seed), lambda: freeze(client.pid)) as at:
            pass
        assert task.run().what == "done"
        nothing_on_record_was_redone(task, at)
        with unchanged(task):
            os.kill(client.pid, signal.SIGCONT)
            client.join(SECONDS)
            assert client.exitcode == 1
    complete(task, expected)
