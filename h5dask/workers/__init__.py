"""Where computations run: processes of this machine, or a scheduler's. No layout is known here."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

import dask
from dask.utils import parse_bytes
from distributed import Client, LocalCluster, Security, WorkerPlugin, rpc
from distributed.system import MEMORY_LIMIT

from h5dask.deadlines import within
from h5dask.errors import AccessDenied, NotFound, Refused, Unreachable
from h5dask.kernels.warming import warm
from h5dask.workers.children import (
    ENVIRONMENT,
    environment_kept,
    interrupts_held,
    prepare,
    quiet,
    without_script,
)
from h5dask.workers.scratch import scratch_folder
from h5dask.workers.versions import MUST_AGREE, Mismatch, compare, finder

Result = TypeVar("Result")

SETTINGS = {
    # A worker whose machine is gone is given up, and its blocks go to others.
    "distributed.scheduler.worker-ttl": "2 minutes",
    # Machines that are taken away end workers through no fault of the block they were at.
    "distributed.scheduler.allowed-failures": 5,
    # So long after a worker is lost a local cluster looks once whether it is back, and otherwise
    # gives it up for good, even if its nanny is just starting it again after another loss.
    "distributed.deploy.lost-worker-timeout": "30 days",
    # With nobody left to compute, an error is better than silence.
    "distributed.scheduler.no-workers-timeout": "10 minutes",
    # Busy networks and full queues answer late.
    "distributed.comm.timeouts.connect": "60s",
    "distributed.comm.timeouts.tcp": "60s",
    **{f"distributed.nanny.pre-spawn-environ.{name}": ENVIRONMENT[name] for name in ENVIRONMENT},
}
"""What dask is set to where its user hasn't set it."""

START_SECONDS = 60.0
"""What workers may take to start, and to get ready."""


def connect(
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    scheduler_file: str | None = None,
    memory_limit: str | int | None = "auto",
    scratch: str | None = None,
    timeout: float = 10.0,
) -> Client | None:
    """Say where every computation runs from now on, until what is returned is closed.

    Parameters
    ----------
    workers : int, optional
        Processes of this machine, of one thread each.
    scheduler : str, optional
        Address of a running scheduler, such as "tcp://10.0.0.5:8786".
    scheduler_file : str, optional
        File in which a running scheduler has left its address.
    memory_limit : str, int or None, default "auto"
        Bytes that each of `workers` may take, such as "4GB"; "auto" shares out the machine's
        memory, None sets no limit.
    scratch : str, optional
        Folder in which `workers` put what they have on disk, in a folder of their own that goes
        when they go. Without it dask's `temporary-directory`, else the system's.
    timeout : float, default 10
        Seconds within which a scheduler must answer.

    Returns
    -------
    Client or None
        None where nothing was named: computations run on threads. A client is a context manager;
        closing it ends what was started for it. The `dashboard_link` of `workers` is on a free
        port of 127.0.0.1. Each worker has one BLAS thread, malloc thresholds that suit blocks,
        and compiled kernels; so have those that join later. What the user has set in dask's
        configuration stays as it is.

    Raises
    ------
    Unreachable
        No scheduler answers in time, or workers don't come up.
    NotFound
        `scheduler_file` isn't there in time.
    Refused
        More than one of them is named, the memory limit is no size, or the versions of client,
        scheduler and workers don't fit together: each that differs is named.

    Warns
    -----
    UserWarning
        Client and workers have other versions of numpy, xarray or h5py.

    Examples
    --------
    >>> connect() is None
    True
    >>> with connect(workers=1) as client:
    ...     client.submit(sum, [1, 2]).result()
    3
    """
    places = {"workers": workers, "scheduler": scheduler, "scheduler_file": scheduler_file}
    named = [name for name, place in places.items() if place is not None]
    if len(named) > 1:
        raise Refused(f"{' and '.join(named)}: say the same thing differently; name one of them")
    if workers is not None:
        return _local(workers, _limit(memory_limit, workers), scratch)
    if scheduler_file is not None:
        scheduler = _address_in(scheduler_file, timeout)
    return _remote(scheduler, timeout) if scheduler is not None else None


class _Connection(Client):
    """A client which, once closed, leaves nothing of what was started or set for it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.rest = ExitStack()
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]

    def close(self, *args: Any, **options: Any) -> None:
        """Close the client, then end all the rest."""
        try:
            super().close(*args, **options)  # type: ignore[no-untyped-call]
        finally:
            self.rest.close()


def _local(n_workers: int, memory_limit: int | None, scratch: str | None) -> Client:
    """Start processes of this machine."""
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
        client = _Connection(cluster)
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
        _prepare(client)
        client.rest = stack.pop_all()
    return client


def _remote(address: str, timeout: float) -> Client:
    """Connect to a scheduler that runs already, and refuse one that doesn't fit."""
    _refuse_silent(address, timeout)
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(unset(SETTINGS)))
        client = _Connection(address, timeout=timeout)
        stack.callback(client.close)
        _refuse_misfits(client, address)
        _prepare(client)
        client.rest = stack.pop_all()
    return client


def _refuse_silent(address: str, timeout: float) -> None:
    """Ask who is there; a client itself would wait without end for one who says nothing."""

    async def ask() -> str:
        security = Security().get_connection_args("client")
        async with rpc(address, connection_args=security) as there:
            return str((await there.identity())["type"])

    try:
        with quiet("distributed"):
            answer = asyncio.wait_for(ask(), timeout)
            found = within(timeout + 1, partial(asyncio.run, answer), address)
    except (OSError, RuntimeError, TypeError, ValueError, KeyError) as error:
        # what dask says of a failed connection is how it tried; of a wrong address, what it is
        told = "" if isinstance(error, OSError) else f" ({error})"
        raise Unreachable(
            f"{address}: no scheduler answered within {timeout:g} s{told}; check that it runs, "
            "its address, and what lies between"
        ) from None
    if found != "Scheduler":
        raise Unreachable(f"{address}: found a {found.lower()}, expected a scheduler; name that")


def _address_in(file: str, timeout: float) -> str:
    """Return the address in a scheduler's file, which it may be about to write."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            with open(file, encoding="utf-8") as stream:
                return str(json.load(stream)["address"])
        except FileNotFoundError:
            found = NotFound(f"{file}: no such file after {timeout:g} s; start the scheduler first")
        except (ValueError, KeyError, TypeError):  # it may be half written
            found = NotFound(
                f"{file}: found no scheduler's address; expected the file that "
                "`dask scheduler --scheduler-file` writes"
            )
        except OSError as error:
            raise AccessDenied(f"{file}: {error.strerror}; name a file that can be read") from None
        if time.monotonic() > deadline:
            raise found
        time.sleep(0.1)


def _refuse_misfits(client: Client, address: str) -> None:
    """Compare versions; what can't work is refused, what may give other results is told."""

    def found() -> Mismatch:
        scheduler = client.run_on_scheduler(finder(MUST_AGREE))
        workers = client.run(finder(), on_error="ignore")
        return compare(finder()(), scheduler, workers)

    mismatch = within(START_SECONDS, found, address)
    if mismatch.errors:
        raise Refused(
            f"{address}: versions don't fit together:\n"
            + "\n".join(f"  {line}" for line in mismatch.errors)
            + "\ninstall the same ones on all sides"
        )
    if mismatch.warnings:
        warnings.warn(f"{address}: {'; '.join(mismatch.warnings)}", UserWarning, stacklevel=4)


def _prepare(client: Client) -> None:
    """Get every worker ready, and those that join later."""

    class Prepared(WorkerPlugin):
        name = "h5dask"
        idempotent = True

        def setup(self, worker: Any) -> None:  # noqa: ARG002
            prepare()

    within(START_SECONDS, partial(client.register_plugin, Prepared()), "workers")


def _limit(limit: str | int | None, n_workers: int) -> int | None:
    """Return the bytes that each worker may take; None: as many as there are."""
    if limit is None or limit == "auto":
        return limit if limit is None else MEMORY_LIMIT // n_workers
    try:
        nbytes = int(parse_bytes(limit))
    except ValueError:
        nbytes = 0
    if nbytes < 1:
        raise Refused(f"memory_limit: found {limit!r}, expected a size such as '4GB', or 'auto'")
    return nbytes


def unset(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those settings that dask's user has left as dask ships them.

    Examples
    --------
    >>> with dask.config.set({"distributed.comm.timeouts.tcp": "5s"}):
    ...     unset({"distributed.comm.timeouts.tcp": "60s"})
    {}
    """
    chosen = dask.config.collect()  # files and environment, without dask's own values
    shipped: dict[str, Any] = {}
    dask.config.refresh(config=shipped, paths=[], env={})

    def at(config: dict[str, Any] | None, name: str) -> Any:
        return dask.config.get(name, None, config=config)

    return {
        name: value
        for name, value in settings.items()
        if at(chosen, name) is None and at(None, name) == at(shipped, name)
    }
