"""A search too large for this machine: what it would take, and whether one scheduler carries it.

The graph is the real one, of a base that isn't there; its tasks sleep for the time that they are
planned to take. The scheduler has a process of its own; all workers share another one.

python -m tests.benchmarks.simulate --vectors 1e9 --queries 1e4 --workers 10,100,1000 --cores 2
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import psutil
import xarray as xr
from dask._task_spec import Alias, DataNode, GraphNode, Task, TaskRef
from dask.base import optimize
from dask.core import flatten
from distributed import Client, Worker, WorkerPlugin

import h5dask
from h5dask.blocks import BLOCK_SIZE, Rows, cut
from h5dask.ops.cost import Cost
from h5dask.ops.neighbors import knn_cost
from h5dask.plan import Figures, Rates, estimate, known_rates
from h5dask.words import count_in_words, nbytes_in_words, seconds_in_words
from tests.benchmarks.harness import surroundings

N_NEIGHBORS = 100
_SEARCHES = "run-search"
"""What the keys begin with of the tasks that read and multiply; all others take next to nothing."""
_IDLE_SECONDS = 3.0
_AT_ONCE = 50
"""Workers that are started at once."""
_QUIET = {
    "distributed.admin.system-monitor.interval": "60s",
    "distributed.admin.tick.interval": "10s",
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
    "distributed.comm.timeouts.connect": "600s",
}
"""What a thousand workers of one process must not each do all the time."""


class Nowhere:
    """An array that has a shape and no values."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.ndim, self.dtype = shape, len(shape), np.dtype("f4")

    def __getitem__(self, key: Any) -> Any:
        if all(isinstance(one, slice) and one == slice(0, 0) for one in key):
            return np.empty((0,) * self.ndim, self.dtype)  # dask asks for its type
        raise AssertionError(f"read {key!r} of an array that isn't there")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How large a search is."""

    vectors: int
    queries: int
    features: int = 128

    def sides(self) -> tuple[xr.DataArray, xr.DataArray]:
        """Return base and queries, in the blocks in which a file of them would be opened."""
        shape = self.vectors, self.features
        rows = Rows(size=shape[0], nbytes=4.0 * shape[1], ends=np.array(shape[:1]), chunk=1)
        lengths = cut(rows, BLOCK_SIZE), (shape[1],)
        array = da.from_array(Nowhere(shape), lengths, name=f"read-train-{shape}")
        query = np.zeros((self.queries, self.features), np.float32)
        return (
            xr.DataArray(array, dims=("vector", "feature"), name="train"),
            xr.DataArray(query, dims=("query", "feature"), name="test"),
        )

    def cost(self) -> Cost:
        """Return what it takes."""
        return knn_cost(*self.sides(), k=N_NEIGHBORS)

    def graph(self) -> tuple[dict[Any, Any], list[Any]]:
        """Return the tasks that would find neighbors, and the keys of what is asked for."""
        found = h5dask.knn(*self.sides(), k=N_NEIGHBORS)[["neighbors", "distances"]]
        (made,) = optimize(found)
        keys = [key for one in made.values() for key in flatten(one.data.__dask_keys__())]
        return dict(made.__dask_graph__()), keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What was seen of a search that slept."""

    n_tasks: int
    n_ran: int
    """How often one of them ran: as many, unless some were lost or ran twice."""
    planned: float
    """What it would have taken if all of it went as planned, in the simulation's time."""
    seconds: float
    """From sending the graph to the last result, in the simulation's time."""
    speed: float
    """How many times faster than planned the simulation's time went."""
    waited: float
    """Share of all threads' time in which none of the planned work was done."""
    scheduler_seconds: float
    """CPU time that the scheduler took."""
    heartbeats: float
    """CPU seconds a second that it takes to hear from so many workers who do nothing."""

    @property
    def a_task(self) -> float:
        """Seconds of the scheduler for a task, heartbeats left out."""
        return (self.scheduler_seconds - self.heartbeats * self.seconds) / max(1, self.n_tasks)


async def rest(seconds: float, *_: object) -> None:
    """Do nothing for as long as work would take, once all that it needs is there."""
    await asyncio.sleep(seconds)


def sleeping(graph: Mapping[Any, Any], begins: str, seconds: float) -> dict[Any, GraphNode]:
    """Return the same tasks without work; those whose keys begin so sleep for so long."""
    made: dict[Any, GraphNode] = {}
    for key, task in graph.items():
        name = key if isinstance(key, str) else key[0]
        if isinstance(task, Alias):
            made[key] = task
        elif isinstance(task, Task):
            needed = (TaskRef(one) for one in sorted(task.dependencies, key=str))
            made[key] = Task(key, rest, seconds if name.startswith(begins) else 0.0, *needed)
        else:
            made[key] = DataNode(key, None)
    return made


class Ran(WorkerPlugin):
    """Counts the tasks that ended well on any worker."""

    def __init__(self) -> None:
        self.keys: Counter[Any] = Counter()

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        if start == "executing" and finish == "memory":
            self.keys[key] += 1


@asynccontextmanager
async def scheduler(folder: str) -> AsyncIterator[tuple[str, psutil.Process]]:
    """Start a scheduler as people do, in a process of its own; give its address and the process."""
    told = Path(folder, "scheduler.json")
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1"]
    command += ["--port", "0", "--no-dashboard", "--scheduler-file", str(told)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while not told.exists() or not told.read_text():
            if process.poll() is not None:
                raise RuntimeError(f"the scheduler ended with {process.returncode}")
            await asyncio.sleep(0.05)
        yield json.loads(told.read_text())["address"], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


async def simulate(search: Search, figures: Figures, rates: Rates, *, wanted: float) -> Simulated:
    """Run a search's graph on so many workers, each task asleep for its time.

    Parameters
    ----------
    search, figures, rates
        What would be searched, with what, and how fast that is.
    wanted : float
        Seconds that all this work should take in the simulation, whose time goes faster or slower
        than planned: workers that share one process need their time too.
    """
    cost = search.cost()
    rounds = -(-cost.side_by_side // figures.threads)
    planned = estimate(replace(cost, n_tasks=0), rates, figures).seconds
    speed = planned / wanted
    each = planned / speed / rounds
    graph, keys = search.graph()
    asleep = sleeping(graph, _SEARCHES, each)
    ran = Ran()
    with dask.config.set(_QUIET), tempfile.TemporaryDirectory() as folder:
        async with (
            scheduler(folder) as (address, process),
            workers(address, folder, figures, ran),
            Client(address, asynchronous=True) as client,
        ):
            await client.submit(rest, 0.0)  # whoever sees it first imports this module
            idle = await _taken(process, asyncio.sleep(_IDLE_SECONDS))
            busy = await _taken(process, client.gather(client.get(asleep, keys, sync=False)))
    tasks = {key for key, task in asleep.items() if isinstance(task, Task)}
    return Simulated(
        n_tasks=len(tasks),
        n_ran=sum(key in tasks for key in ran.keys.elements()),
        planned=wanted,
        seconds=busy.wall,
        speed=speed,
        waited=1 - each * cost.side_by_side / (busy.wall * figures.threads),
        scheduler_seconds=busy.cpu,
        heartbeats=idle.cpu / idle.wall,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What passed while something was done."""

    wall: float
    cpu: float
    """Seconds that a process computed meanwhile."""


async def _taken(process: psutil.Process, doing: Awaitable[object]) -> Taken:
    before, started = sum(process.cpu_times()[:2]), time.perf_counter()
    await doing
    wall = time.perf_counter() - started
    return Taken(wall=wall, cpu=sum(process.cpu_times()[:2]) - before)


@asynccontextmanager
async def workers(
    address: str, folder: str, figures: Figures, ran: Ran
) -> AsyncIterator[list[Worker]]:
    """Start all workers in this process, some at a time."""
    made: list[Worker] = []
    logging.disable(logging.INFO)  # each worker would keep the lines of all of them
    try:
        for first in range(0, figures.workers, _AT_ONCE):
            some = [
                Worker(
                    address, nthreads=figures.cores, memory_limit=0, dashboard=False,
                    local_directory=folder, plugins=[ran],
                )
                for _ in range(min(_AT_ONCE, figures.workers - first))
            ]  # fmt: skip
            made += await asyncio.gather(*some)
        yield made
    finally:
        await asyncio.gather(*(worker.close(nanny=False) for worker in made))
        logging.disable(logging.NOTSET)


def table(search: Search, plans: Sequence[Figures], rates: Rates, wanted: float) -> None:
    """Print a line for each number of workers: what is planned, and what was simulated."""
    cost = search.cost()
    print(
        f"{search.vectors:,} x {search.features} float32, {search.queries:,} queries, "
        f"{N_NEIGHBORS} neighbors: {nbytes_in_words(cost.read)} read, "
        f"{count_in_words(cost.products)}FLOP, {cost.n_blocks:,} blocks in {cost.n_tasks:,} tasks"
    )
    for figures in plans:
        stage = estimate(cost, rates, figures)
        print(
            f"{figures.workers:>6,} workers of {figures.cores} threads: "
            f"{seconds_in_words(stage.seconds):>12}, most of it {stage.bound}, "
            f"{nbytes_in_words(stage.worker_memory)} a worker",
            flush=True,
        )
        if wanted:
            seen = asyncio.run(simulate(search, figures, rates, wanted=wanted))
            print(
                f"       asleep, time {seen.speed:.3g} times as fast: {seen.seconds:.1f} s for "
                f"{seen.planned:.1f} s of work, {seen.n_ran:,} of {seen.n_tasks:,} tasks ran, "
                f"scheduler {1e6 * seen.a_task:.0f} us a task and {seen.heartbeats:.0%} of a core "
                f"for heartbeats, threads waited {seen.waited:.0%}",
                flush=True,
            )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--vectors", type=float, default=1e9, help="base vectors (1e9)")
    add("--queries", type=float, default=1e4, help="queries (1e4)")
    add("--features", type=int, default=128, help="features of each (128)")
    add("--workers", default="10,100,1000", help="numbers of workers (10,100,1000)")
    add("--cores", type=int, default=2, help="threads a worker (2)")
    add("--seconds", type=float, default=30, help="of each simulation, 0 for none (30)")
    given = parser.parse_args(argv)
    search = Search(vectors=int(given.vectors), queries=int(given.queries), features=given.features)
    known = known_rates()
    for name, text in surroundings().items():
        print(f"  {name}: {text}")
    print("  rates:", ", ".join(f"{k} {v:.3g}" for k, v in asdict(known.rates).items()))
    numbers = [int(text) for text in given.workers.split(",")]
    plans = [Figures(workers=n, machines=n, cores=given.cores, processes=True) for n in numbers]
    table(search, plans, known.rates, given.seconds)


if __name__ == "__main__":
    main()
