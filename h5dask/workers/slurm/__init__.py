"""Workers in jobs of SLURM: asked for, waited for, kept up, and cancelled; by dask-jobqueue."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from glob import escape, glob
from importlib.util import find_spec
from typing import Any

import dask
import psutil
from distributed import Client

from h5dask.errors import H5daskError, NotFound, Refused, Unreachable
from h5dask.workers.children import quiet
from h5dask.workers.connection import Connection, prepare_all, refuse_misfits
from h5dask.workers.settings import SETTINGS, unset
from h5dask.workers.slurm import queue
from h5dask.workers.slurm.config import Slurm, load, make_log_folder, seconds_in
from h5dask.workers.slurm.upkeep import kept_up

_LOOK_SECONDS = 2.0
"""How often SLURM is asked how its jobs are, until there is a first worker."""
_LISTED = 3
"""Jobs named where none came up."""


def start_jobs(file: str) -> Client:
    """Ask SLURM for workers, as a config says, and wait for the first one.

    Parameters
    ----------
    file : str
        The TOML file of a `Slurm`.

    Returns
    -------
    Client
        Of a scheduler in this process. Workers that come up later join in; a job that ends before
        its time is asked for anew. Closed, it cancels all that it asked for.

    Raises
    ------
    NotFound, Refused, Unreachable
        As `connect`; what can be known before a job is submitted is told before.
    """
    asked = load(file)
    _refuse_without_library(file)
    queue.refuse_absent()
    queue.refuse_misfit(asked, file, queue.queues())
    _refuse_network(asked, file)
    make_log_folder(asked, file)
    name = f"h5dask-{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(unset(SETTINGS)))
        stack.enter_context(quiet("asyncio"))  # of what was under way when the cluster was closed
        cluster = _scheduler(asked, file, name)
        stack.callback(_cancel, name)
        stack.enter_context(cluster)
        client = Connection(cluster)
        stack.callback(client.close)
        _refuse_script(cluster, file)
        _submit(cluster, asked, file)
        _wait(client, asked, file, name)
        refuse_misfits(client, file)
        prepare_all(client)
        stack.enter_context(kept_up(cluster, name))
        client.rest = stack.pop_all()
    return client


def _refuse_network(asked: Slurm, file: str) -> None:
    """Refuse a network that this machine, where the scheduler is, isn't in."""
    networks = sorted(psutil.net_if_addrs())
    if asked.interface is not None and asked.interface not in networks:
        raise Refused(
            f"{file}: interface: found {asked.interface!r}, expected one of this machine's, "
            f"{', '.join(networks)}"
        )


def _refuse_without_library(file: str) -> None:
    if find_spec("dask_jobqueue") is None:
        raise NotFound(f"{file}: needs dask_jobqueue; pip install 'h5dask[slurm]'")


def _scheduler(asked: Slurm, file: str, name: str) -> Any:
    try:
        from h5dask.workers.slurm.cluster import scheduler_here
    except ValueError:  # it says what a signal does
        raise Refused(
            f"{file}: dask_jobqueue can be imported in a program's main thread alone; do it there "
            "before"
        ) from None
    try:
        return scheduler_here(asked, name)
    except (OSError, RuntimeError) as error:
        said = str(error).removeprefix("Cluster failed to start: ")
        raise Unreachable(f"{file}: no scheduler can be started here ({said})") from None


def _refuse_script(cluster: Any, file: str) -> None:
    """Let SLURM judge a job without taking it."""
    from dask.utils import tmpfile

    with tmpfile("sh") as path:
        with open(path, "w", encoding="utf-8") as script:
            script.write(cluster.job_script())
        try:
            queue.answer("sbatch", "--test-only", path)
        except Refused as error:
            raise Refused(f"{file}: SLURM takes no such job: {error}") from None


def _submit(cluster: Any, asked: Slurm, file: str) -> None:
    """Ask for all jobs, or as many as there are at least."""
    adapt = asked.adapt

    async def submit() -> None:
        for _ in range(adapt.minimum if adapt else asked.jobs):
            cluster.worker_spec.update(cluster.new_worker_spec())
        await cluster  # `scale` would leave what sbatch says to a log

    try:
        cluster.sync(submit)
    except (RuntimeError, ValueError) as error:
        said = str(error).rpartition("stderr:\n")[2].strip().removeprefix("sbatch: error: ")
        raise Refused(f"{file}: SLURM takes no such job: {' '.join(said.split())}") from None
    if adapt is not None:
        cluster.adapt(minimum_jobs=adapt.minimum, maximum_jobs=adapt.maximum)


def _wait(client: Client, asked: Slurm, file: str, name: str) -> None:
    """Wait for the first worker, as long as there may be one."""
    seconds = seconds_in(asked.start_deadline)
    deadline = time.monotonic() + seconds
    known: dict[str, queue.Listed] = {}
    while True:
        with suppress(TimeoutError):
            client.wait_for_workers(1, timeout=_LOOK_SECONDS)
            return
        late = time.monotonic() > deadline
        try:
            jobs = queue.listed(name)
        except H5daskError:
            if late:
                raise
            continue  # its controller may be starting again
        known.update({job.number: job for job in jobs})
        if known and not jobs:
            raise Unreachable(
                f"{file}: every job ended before a worker came up; {_last_words(asked, name)}"
            )
        if late:
            raise Unreachable(f"{file}: no worker after {asked.start_deadline}; {_states(jobs)}")


def _states(jobs: Sequence[queue.Listed]) -> str:
    """Return what SLURM says of jobs, and the way out."""
    if not jobs:
        return "SLURM has none of its jobs; see its log"
    told = ", ".join(
        f"job {job.number} is {job.state.lower()} ({job.reason})" for job in jobs[:_LISTED]
    )
    more = f" and {len(jobs) - _LISTED:,} more" if len(jobs) > _LISTED else ""
    running = any(job.state == "RUNNING" for job in jobs)
    out = (
        "its workers don't reach this machine: name an interface that nodes see"
        if running
        else "ask for less, or set a later start_deadline"
    )
    return f"{told}{more}; {out}"


def _last_words(asked: Slurm, name: str) -> str:
    """Return the last line that a job printed, where somebody may read it."""
    if asked.log_directory is None:
        return "set log_directory to read why"
    for path in sorted(glob(os.path.join(escape(asked.log_directory), f"{name}-*.err"))):
        with suppress(OSError), open(path, encoding="utf-8", errors="replace") as log:
            lines = [" ".join(line.split()) for line in log if line.strip()]
            if lines:
                return f"{path} ends in {lines[-1]!r}"
    return f"{asked.log_directory!r} has what they printed"


def _cancel(name: str) -> None:
    """End what is left; where SLURM doesn't answer, workers end by their death timeout."""
    with suppress(H5daskError):
        queue.cancel(name)
