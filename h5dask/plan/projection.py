"""What would run: inputs, blocks, costs, and the time and memory that they lead to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from h5dask.blocks import MOST_BLOCKS
from h5dask.ops.cost import Cost
from h5dask.plan.figures import Figures
from h5dask.plan.inputs import InputFile
from h5dask.plan.rates import Rates
from h5dask.words import nbytes_in_words, seconds_in_words

IDLE = 250_000_000
"""Bytes that a worker takes before it does anything: Python, and all that is imported."""
SECONDS_A_TASK = {True: 2e-3, False: 1e-4}
"""What a task costs beside its work, by whether it is sent to a process."""

Bound = Literal["reading", "computing", "writing", "moving", "tasks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """One variable, and the blocks that it is made of."""

    name: str
    dtype: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    n_blocks: tuple[int, ...]
    """Blocks along each dim."""
    block: tuple[int, ...]
    """Shape of the largest block."""
    nbytes: int
    """Bytes of all values; of text, without its letters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage with the time and memory that it is expected to take."""

    cost: Cost
    seconds: float
    """Time that it takes."""
    bound: Bound
    """What takes that time; everything else is done meanwhile."""
    worker_memory: int
    """Bytes that one worker takes, the idle worker's included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would run, and on what."""

    inputs: tuple[InputFile, ...]
    layout: str
    """Name of the inputs' layout, "" where it isn't known."""
    blocks: tuple[Blocks, ...]
    """The variables made of blocks."""
    stages: tuple[Stage, ...]
    figures: Figures
    rates: Rates
    measured: datetime | None = None
    """When the rates were measured; None where they were given."""
    sampled: str = ""
    """The URL whose store gave the rate of reading, "" where it is this machine's."""

    @property
    def seconds(self) -> float:
        """Time of all stages, one after the other."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What stands in the way of such a run, a line each."""
        return (
            *_too_much_memory(self.stages, self.figures),
            *_too_many_blocks(self.blocks),
            *_too_long(self.seconds, self.figures.walltime),
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as values that JSON can hold."""
        total = {"seconds": self.seconds, "nbytes_in": sum(one.nbytes for one in self.inputs)}
        figures = {**asdict(self.figures), "rates": dict(self.figures.rates)}
        return {
            "inputs": [asdict(one) for one in self.inputs],
            "layout": self.layout or None,
            "blocks": [asdict(one) for one in self.blocks],
            "stages": [
                {**asdict(one.cost), **{k: v for k, v in asdict(one).items() if k != "cost"}}
                for one in self.stages
            ],
            "total": total,
            "figures": figures,
            "rates": asdict(self.rates),
            "rates_measured": None if self.measured is None else self.measured.isoformat(),
            "read_sampled_from": self.sampled or None,
            "warnings": list(self.warnings),
        }


def estimate(cost: Cost, rates: Rates, figures: Figures) -> Stage:
    """Return how long a stage takes on some machines, and in how much memory.

    Parameters
    ----------
    cost : Cost
        What the stage takes.
    rates : Rates
        Of one machine (read, write, network) and of one thread (all others).
    figures : Figures
        The machines.

    Returns
    -------
    Stage
        Reading, computing, writing and moving go on at once, so the slowest of them is the
        stage's time: reading and writing at the rate of each machine's disk, computing in rounds
        of as many tasks as there are threads. For each task a fixed time is added.

    Examples
    --------
    >>> rates = Rates(read=1e9, write=1e9, decode=1e8, encode=1e8, scan=1e10, flops=1e10,
    ...               kernel=1e10, network=1e9)
    >>> cost = Cost(stage="read", n_blocks=80, n_tasks=80, read=10**9, written=0, flops=0,
    ...             memory=10**8, decoded=4 * 10**9)
    >>> stage = estimate(cost, rates, Figures(cores=8))
    >>> round(stage.seconds, 2), stage.bound, stage.worker_memory
    (5.02, 'computing', 1050000000)
    """
    n_runs = max(1, cost.side_by_side)
    threads = min(figures.threads, n_runs)
    machines = min(figures.machines, threads)
    thread_seconds = (
        cost.decoded / rates.decode
        + cost.encoded / rates.encode
        + cost.flops / rates.kernel
        + cost.products / rates.flops
        + (cost.read + cost.written) / rates.scan
    )
    taken: dict[Bound, float] = {
        "reading": cost.read / (rates.read * machines),
        "computing": thread_seconds * -(-n_runs // threads) / n_runs,
        "writing": cost.written / (rates.write * machines),
        "moving": cost.moved / (rates.network * machines) if figures.processes else 0.0,
        "tasks": cost.n_tasks * SECONDS_A_TASK[figures.processes],
    }
    slowest = max(seconds for what, seconds in taken.items() if what != "tasks")
    return Stage(
        cost=cost,
        seconds=slowest + taken["tasks"],
        bound=max(taken, key=lambda what: taken[what]),
        worker_memory=IDLE + figures.cores * cost.memory,
    )


def _too_much_memory(stages: Sequence[Stage], figures: Figures) -> list[str]:
    if figures.memory is None:
        return []
    return [
        f"{stage.cost.stage}: a worker would take {nbytes_in_words(stage.worker_memory)} with "
        f"{figures.cores} threads, and has {nbytes_in_words(figures.memory)}; give it fewer "
        "threads or more memory, or make blocks smaller with h5dask.block-size"
        for stage in stages
        if stage.worker_memory > figures.memory
    ]


def _too_many_blocks(blocks: Sequence[Blocks]) -> list[str]:
    return [
        f"{one.name}: {n:,} blocks along {dim}, more than {MOST_BLOCKS:,} make dask slow; make "
        "them larger with h5dask.block-size, or chunks="
        for one in blocks
        for dim, n in zip(one.dims, one.n_blocks, strict=True)
        if n > MOST_BLOCKS
    ]


def _too_long(seconds: float, walltime: float | None) -> list[str]:
    if walltime is None or seconds <= walltime:
        return []
    return [
        f"a job ends after {seconds_in_words(walltime)}, {seconds_in_words(seconds)} are planned: "
        "workers are asked for anew meanwhile; one job of --sbatch needs a longer walltime"
    ]
