"""Workers that are processes of this machine."""

from __future__ import annotations

import logging
from contextlib import ExitStack

import dask
from dask.utils import parse_bytes
from distributed import Client, LocalCluster
from distributed.system import MEMORY_LIMIT

from h5dask.errors import Refused, Unreachable
from h5dask.kernels.warming import warm
from h5dask.workers.children import (
    ENVIRONMENT,
    environment_kept,
    interrupts_held,
    quiet,
    without_script,
)
from h5dask.workers.connection import Connection, prepare_all
from h5dask.workers.scratch import scratch_folder
from h5dask.workers.settings import SETTINGS, START_SECONDS, unset
from h5dask.workers.tls import refuse_absent


def start_local(n_workers: int, memory_limit: int | None, scratch: str | None) -> Client:
    """Start processes of this machine."""
    refuse_absent()
    warm()  # here, so that the workers find what is compiled and don't all do it at once
    parent = scratch or dask.config.get("temporary-directory", None)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder(parent))
        settings = {**unset(SETTINGS), "temporary-directory": folder}
        stack.enter_context(dask.config.set(settings))
        stack.enter_context(without_script())
        stack.enter_context(environment_kept(ENVIRONMENT))
        stack.enter_context(quiet("asyncio"))  # of what was under way when the cluster was closed
        with interrupts_held():
            cluster = LocalCluster(
                n_workers=0,
                threads_per_worker=1,
                memory_limit=memory_limit,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
            )
        stack.enter_context(cluster)
        client = Connection(cluster)
        stack.callback(client.close)
        cluster.scale(n_workers)
        try:
            client.wait_for_workers(n_workers, timeout=START_SECONDS)
        except TimeoutError:
            n = len(client.scheduler_info(n_workers=-1)["workers"])
            raise Unreachable(
                f"workers: found {n} of {n_workers} after {START_SECONDS:.0f} s; "
                "ask for fewer of them"
            ) from None
        prepare_all(client)
        client.rest = stack.pop_all()
    return client


def limit(wanted: str | int | None, n_workers: int) -> int | None:
    """Return the bytes that each worker may take; None: as many as there are."""
    if wanted is None or wanted == "auto":
        return wanted if wanted is None else MEMORY_LIMIT // n_workers
    try:
        nbytes = int(parse_bytes(wanted))
    except ValueError:
        nbytes = 0
    if nbytes < 1:
        raise Refused(f"memory_limit: found {wanted!r}, expected a size such as '4GB', or 'auto'")
    return nbytes
