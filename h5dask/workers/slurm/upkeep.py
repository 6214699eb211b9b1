"""Jobs that ended before their time, and are asked for anew; dask-jobqueue does not look."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from h5dask.errors import H5daskError
from h5dask.workers.slurm import queue

LOOK_SECONDS = 15.0
"""How often SLURM is asked which jobs there are; it serves all users of a cluster."""
_MOST_FAILED = 3
"""Looks in a row that found jobs ended; then what starts there doesn't last, and no more are asked
for. With no worker left, dask gives up by its `no-workers-timeout`."""


@contextmanager
def kept_up(cluster: Any, name: str) -> Iterator[None]:
    """Look after a cluster's jobs as long as the block lasts.

    Parameters
    ----------
    cluster : SLURMCluster
        Whose workers are to be as many as were asked for.
    name : str
        Of its jobs.
    """
    ended = threading.Event()
    watching = threading.Thread(
        target=_watch, args=(cluster, name, ended), name="h5dask-slurm", daemon=True
    )
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join(queue.ANSWER_SECONDS)


def _watch(cluster: Any, name: str, ended: threading.Event) -> None:
    n_failed = 0
    while n_failed < _MOST_FAILED and not ended.wait(LOOK_SECONDS):
        submitted = {key: job.job_id for key, job in list(cluster.workers.items())}
        try:
            there = {job.number for job in queue.listed(name)}
        except H5daskError:
            continue  # SLURM doesn't answer; nothing is known
        gone = [key for key, number in submitted.items() if number not in there]
        if ended.is_set() or (not gone and len(submitted) >= len(cluster.worker_spec)):
            n_failed = 0
            continue
        n_failed += 1
        with suppress(RuntimeError, ValueError):  # sbatch refuses; it is asked again
            cluster.sync(_renew, cluster, gone)


async def _renew(cluster: Any, gone: list[str]) -> None:
    """Forget jobs that ended; what was asked for and isn't there is submitted again."""
    for key in gone:
        cluster.workers.pop(key, None)
    await cluster
