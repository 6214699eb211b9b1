"""A search that sleeps runs every task once, and the programs on scale run on small work."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from dask._task_spec import Task

from h5dask.plan import Figures, Rates
from tests.architecture import ROOT
from tests.benchmarks.simulate import Search, rest, simulate, sleeping

RATES = Rates(
    read=1e9, write=1e9, decode=1e9, encode=1e9, scan=1e10, flops=1e11, kernel=1e10, network=1e9
)
SEARCH = Search(vectors=20_000_000, queries=1_000)


def test_blocks_are_those_of_a_file_so_large() -> None:
    cost = SEARCH.cost()
    graph, keys = SEARCH.graph()
    begin = [key[0] for key in graph if isinstance(key, tuple)]
    n_runs = sum(name.startswith("run-search") for name in begin)
    assert n_runs == cost.side_by_side
    assert cost.products == 2.0 * SEARCH.vectors * SEARCH.queries * SEARCH.features
    assert abs(cost.n_tasks - sum(isinstance(task, Task) for task in graph.values())) <= 10
    assert set(keys) <= graph.keys()


def test_sleeping_tasks_depend_on_the_same_ones() -> None:
    graph, _ = SEARCH.graph()
    asleep = sleeping(graph, "run-search", 0.5)
    assert asleep.keys() == graph.keys()
    for key, task in asleep.items():
        if isinstance(task, Task):
            assert task.func is rest
            assert task.dependencies == graph[key].dependencies
            assert task.args[0] == 0.5 * key[0].startswith("run-search")


def test_all_tasks_run_once() -> None:
    figures = Figures(workers=6, machines=6, cores=2, processes=True)
    seen = asyncio.run(simulate(SEARCH, figures, RATES, wanted=0.5))
    assert seen.n_ran == seen.n_tasks > SEARCH.cost().side_by_side
    assert 0 < seen.waited < 1
    assert seen.scheduler_seconds > 0


@pytest.mark.parametrize("kind", ["scan", "write"])
def test_a_graph_is_measured_in_a_process_of_its_own(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.growing", kind, "40"]
    done = subprocess.run(
        [*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found.keys() == {"open", "build", "run", "idle", "peak"}
    assert found["peak"] >= found["idle"] > 0
