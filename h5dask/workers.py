"""Where computations run: processes of this machine, with a dashboard. No layout is known here."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING

import dask

if TYPE_CHECKING:
    from distributed import Client

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Blocks are freed and allocated all the time: at its usual 64 KiB glibc gives every one of
    # them back to the system, and each page of the next one is zeroed again.
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
}
"""Environment of a worker process."""


@contextmanager
def local_processes(n_workers: int, scratch: str) -> Iterator[Client]:
    """Run every computation inside on processes of this machine, gone when it is left.

    Parameters
    ----------
    n_workers : int
        Processes, of one thread each.
    scratch : str
        Folder for what workers put on disk.

    Yields
    ------
    Client
        Connected to a scheduler in this process; its `dashboard_link` is on a free port of
        127.0.0.1.
    """
    from distributed import Client, LocalCluster

    settings = {
        "distributed.nanny.pre-spawn-environ": ENVIRONMENT,
        "temporary-directory": scratch,
    }
    with ExitStack() as stack:
        stack.enter_context(_without_script())
        stack.enter_context(dask.config.set(settings))
        stack.enter_context(_quiet())
        with _interrupts_held():
            cluster = LocalCluster(
                n_workers=0,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
            )
        stack.enter_context(cluster)
        client = stack.enter_context(Client(cluster))
        cluster.scale(n_workers)
        client.wait_for_workers(n_workers)
        yield client


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back from the threads started inside, and the processes which those start.

    It then reaches this process alone, which ends the others in order and without noise.
    """
    resource_tracker.ensure_running()  # where it starts later, it lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep asyncio from telling of tasks that were under way when a cluster was closed."""
    logger = logging.getLogger("asyncio")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        gc.collect()  # such a task speaks up when it is collected
        logger.setLevel(before)


@contextmanager
def _without_script() -> Iterator[None]:
    """Keep new processes from importing the running script, which need not be guarded for it."""
    script = sys.modules["__main__"]
    names = [name for name in ("__file__", "__spec__") if hasattr(script, name)]
    hidden = {name: getattr(script, name) for name in names}
    for name in hidden:
        setattr(script, name, None)
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(script, name, value)
