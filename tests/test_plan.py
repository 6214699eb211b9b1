"""What would run: against counts by hand, and against measured peaks of memory."""

import io
import json
import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr
from rich.console import Console

import h5dask
from h5dask.errors import NotFound, Refused
from h5dask.ops.cost import Cost, reading, writing
from h5dask.plan import (
    Figures,
    Known,
    Rates,
    estimate,
    parse_figures,
    plan_of,
    stored_forms,
    table,
    this_machine,
)
from h5dask.testing import example, example_file, refuse_to_compute
from h5dask.workers import ENVIRONMENT
from tests.architecture import ROOT
from tests.files import LAYOUTS

RATES = Rates(
    read=1e9, write=5e8, decode=1e8, encode=5e7, scan=1e10, flops=1e10, kernel=5e9, network=1e8
)
COST = Cost(stage="read", n_blocks=1000, n_tasks=1000, read=0, written=0, flops=0, memory=10**8)


@pytest.mark.parametrize(
    "nbytes",
    [
        pytest.param(16 * 2**20, id="16", marks=pytest.mark.soak),
        pytest.param(64 * 2**20, id="64"),
        pytest.param(256 * 2**20, id="256", marks=pytest.mark.soak),
    ],
)
def test_projected_memory_is_what_is_taken(nbytes: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.peaks", str(tmp_path), str(nbytes)]
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    ratios = {name: p / peak for name, (p, peak) in json.loads(done.stdout).items()}
    assert len(ratios) == 12
    assert {name: ratio for name, ratio in ratios.items() if not 1 <= ratio <= 2} == {}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_computed(layout: str) -> None:
    path = example_file(layout)
    with dask.config.set(scheduler=refuse_to_compute):
        ds = h5dask.open_dataset(path)
        stored = stored_forms(path)
        plan = plan_of(ds, [reading(ds, stored=stored), writing(ds, stored=stored)], rates=RATES)
    assert [(one.name, one.nbytes) for one in plan.inputs] == [(path, os.path.getsize(path))]
    assert plan.layout == layout
    lazy = {str(name): v for name, v in ds.variables.items() if v.chunks is not None}
    assert {one.name: one.n_blocks for one in plan.blocks} == {
        name: tuple(map(len, v.chunks)) for name, v in lazy.items()
    }
    assert json.loads(json.dumps(plan.as_json()))["stages"][0]["n_blocks"] == sum(
        v.data.npartitions for v in lazy.values()
    )


def test_how_variables_are_stored(tmp_path: Path) -> None:
    ds = example("episodes")
    path = tmp_path / "a.h5"
    h5dask.write_dataset(ds, path, compression="gzip")
    with h5py.File(path) as file:
        stored = file["embeddings"]
        ratio = stored.id.get_storage_size() / (stored.size * stored.dtype.itemsize)
        chunk = int(np.prod(stored.chunks)) * stored.dtype.itemsize
        letters = np.mean([len(one) for one in file["episode_ids"][:]])
    found = stored_forms(path)
    assert found["embeddings"].ratio == ratio
    assert found["embeddings"].chunk == chunk
    assert found["episode_ids"].value == pytest.approx(letters, rel=0.5)
    assert stored_forms(h5dask.open_dataset(path)) == found
    both = stored_forms([path, example_file("episodes")])
    assert both["embeddings"].chunk == chunk
    assert both["embeddings"].ratio > ratio / 2


def test_in_memory_there_are_no_inputs() -> None:
    ds = example("ann")
    plan = plan_of(ds, [reading(ds), writing(ds)], rates=RATES)
    assert (plan.inputs, plan.layout, plan.blocks) == ((), "", ())
    assert stored_forms(ds) == {}
    assert plan.stages[1].cost.written == ds.nbytes
    assert "0 files" in printed(plan)


def test_inputs_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nowhere\.h5: no such file"):
        plan_of(example("ann"), [], sources=tmp_path / "nowhere.h5", rates=RATES)


@pytest.mark.parametrize(
    ("changed", "figures", "seconds", "bound"),
    [
        ({"read": 10**10}, {"cores": 4}, 10 + 0.1, "reading"),
        ({"read": 10**10}, {"workers": 4, "processes": True}, 10 + 2, "reading"),
        ({"read": 10**10}, {"workers": 4, "machines": 4, "processes": True}, 2.5 + 2, "reading"),
        ({"written": 10**10}, {"cores": 4}, 20 + 0.1, "writing"),
        ({"decoded": 10**9}, {"cores": 4}, 2.5 + 0.1, "computing"),
        ({"encoded": 10**9}, {"workers": 2, "cores": 2}, 5 + 0.1, "computing"),
        ({"flops": 1e12}, {"cores": 4}, 50 + 0.1, "computing"),
        ({"products": 1e12}, {"cores": 4}, 25 + 0.1, "computing"),
        ({"products": 1e12, "n_blocks": 1}, {"cores": 4}, 100 + 0.1, "computing"),
        ({"products": 1e12, "n_runs": 5}, {"cores": 4}, 40 + 0.1, "computing"),  # two rounds
        ({"moved": 10**9}, {"workers": 2, "machines": 2, "processes": True}, 5 + 2, "moving"),
        ({"moved": 10**9}, {"cores": 4}, 0.1, "tasks"),
        ({"n_tasks": 10**5}, {"cores": 4}, 10, "tasks"),
        ({"n_blocks": 0, "n_tasks": 0}, {"cores": 4}, 0, "reading"),
    ],
)
def test_time(changed: Any, figures: Any, seconds: float, bound: str) -> None:
    stage = estimate(replace(COST, **changed), RATES, Figures(**figures))
    assert stage.seconds == pytest.approx(seconds)
    assert stage.bound == bound


def test_memory_a_worker() -> None:
    idle = estimate(replace(COST, memory=0), RATES, Figures()).worker_memory
    assert estimate(COST, RATES, Figures(cores=8)).worker_memory == idle + 8 * 10**8


def test_too_little_memory_is_told() -> None:
    ds = xr.Dataset()
    costs = [COST, replace(COST, stage="small", memory=10**6)]
    plan = plan_of(ds, costs, figures=Figures(cores=8, memory=10**9), rates=RATES)
    [line] = plan.warnings
    assert line.startswith("read: a worker would take 1.05 GB with 8 threads, and has 1.00 GB; ")
    assert f"Warning: {line}" in printed(plan)
    assert plan.as_json()["warnings"] == [line]
    assert plan_of(ds, costs, figures=Figures(cores=8), rates=RATES).warnings == ()


def test_too_many_blocks_are_told(no_compute: None) -> None:
    ds = xr.Dataset({"x": ("row", da.zeros(100_001, chunks=1))})
    [line] = plan_of(ds, [reading(ds)], rates=RATES).warnings
    assert line.startswith("x: 100,001 blocks along row, more than 100,000 make dask slow")


def test_figures() -> None:
    figures = parse_figures(" workers=100, cores=8,memory=32GB,read=1GB/s,flops=50G,scan=2e9 ")
    assert (figures.workers, figures.cores, figures.threads) == (100, 8, 800)
    assert (figures.memory, figures.machines, figures.processes) == (32 * 10**9, 100, True)
    assert figures.rates == {"read": 1e9, "flops": 5e10, "scan": 2e9}
    assert parse_figures("workers=8,machines=2").machines == 2
    assert parse_figures("cores=3") == Figures(cores=3)
    assert parse_figures("") == this_machine()
    assert parse_figures("memory=1GiB").memory == 2**30
    assert parse_figures("rates=new,workers=2") == Figures(
        workers=2, processes=True, anew=True, machines=2
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("worker=3", "'worker' is unknown, did you mean 'workers'"),
        ("quux=3", "'quux' is unknown, expected one of workers, cores, machines, memory, read"),
        ("workers", "workers='' is no whole number of at least 1"),
        ("workers=0", "workers='0' is no whole number of at least 1"),
        ("workers=1.5", "workers='1.5' is no whole number"),
        ("memory=lots", "memory='lots' is no size such as 32GB"),
        ("memory=32", "memory='32' is no size such as 32GB"),
        ("memory=-1GB", "memory='-1GB' is no size"),
        ("memory=GB", "memory='GB' is no size"),
        ("rates=old", "rates='old' is unknown, expected rates=new"),
        ("read=nan", "read='nan' is no rate such as 1GB/s or 50G"),
        ("cores=2,cores=3", "cores is given twice"),
        ("cores=x,write=,", "cores='x' is no .*; write='' is no .*; '' is unknown"),
    ],
)
def test_wrong_figures(text: str, said: str) -> None:
    with pytest.raises(Refused, match=f"^--plan {re.escape(text)}: .*{said}"):
        parse_figures(text)


def test_given_rates_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("h5dask.plan.known_rates", lambda anew: Known(rates=RATES))
    ds = example("ann")
    plan = plan_of(ds, [], figures=parse_figures("cores=1,read=7e9"))
    assert plan.rates == replace(RATES, read=7e9)
    monkeypatch.setattr("h5dask.plan.known_rates", None)
    every = ",".join(f"{one.name}=1GB/s" for one in fields(Rates))
    assert plan_of(ds, [], figures=parse_figures(every)).rates.flops == 1e9


def test_what_a_person_sees(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{i or '[red]'}.h5") for i in range(12)]
    for seed, path in enumerate(paths):
        h5dask.write_dataset(example("episodes", seed), path)
    ds = h5dask.open_dataset(paths)
    figures = parse_figures("workers=100,cores=8,memory=32GB,read=2GB/s")
    text = printed(plan_of(ds, [reading(ds, stage="scan")], figures=figures, rates=RATES))
    assert f"{paths[0]}" in text  # rich would take [red] for a color
    assert "and 2 more" in text
    assert re.search(r"12 files, episodes +[\d.]+ kB", text)
    assert re.search(r"embeddings +float32 +episode \d+ x feature \d+ +1 x 1", text)
    assert re.search(r"scan +\d+ +\d+ +[\d.]+ kB +0 B +0 +4\.\d+ MB +28\d MB", text)
    assert "On 100 workers of 8 threads and 32.0 GB each, on 100 machines." in text
    assert "read 2.00 GB/s as given, write 500 MB/s," in text


def printed(plan: Any) -> str:
    stream = io.StringIO()
    Console(file=stream, width=10_000, highlight=False).print(table(plan))
    return stream.getvalue()
