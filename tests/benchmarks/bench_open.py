"""Opening a file of 20,000 protein structures, and what stays of it: index, array, tasks.

Every opening is a process of its own, timed without its imports. The bare walk is the least that
HDF5's library can do: the names of all groups, then `h5d.open` and `get_offset` of each dataset.

    python -m tests.benchmarks.bench_open --repeat 5
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import xarray as xr

import h5dask
from tests.benchmarks import files, peers
from tests.benchmarks.harness import Measure, Options, options, report, workplace

N_GROUPS = 20_000
N_MANY = 100_000
N_DATASETS = 2 * N_GROUPS
FEW = "few.h5"
WALK = "bare walk of HDF5's library"


def measures(asked: Options) -> Iterator[Measure]:
    """Yield how long opening takes, and how large what stays of it is."""
    with workplace(asked.folder) as folder:
        path = folder / "proteins.h5"
        if asked.wants("opening") or asked.wants("sizes"):
            files.proteins(path, N_GROUPS)
            files.proteins(path.with_name(FEW), 3)
        if asked.wants("opening"):
            yield from _openings(path, asked.repeat)
        if asked.wants("sizes"):
            yield from _sizes(path)
        if asked.wants("tasks"):
            files.proteins(folder / "many.h5", N_MANY)
            yield _tasks(folder / "many.h5")


def _openings(path: Path, repeat: int) -> Iterator[Measure]:
    case = f"opening {N_GROUPS:,} structures, {N_DATASETS:,} datasets, each in a process of its own"
    cache = Path(os.environ["H5DASK_CACHE"])

    def first() -> float:
        shutil.rmtree(cache, ignore_errors=True)
        return _in_a_process(_opening, path)

    def again() -> float:
        return _in_a_process(_opening, path)

    def walk() -> float:
        return _in_a_process(_walking, path)

    walk()  # so that the metadata lies in the page cache
    best: dict[Callable[[], float], float] = {}
    for _ in range(repeat):
        for way in (first, again, walk):
            best[way] = min(best.get(way, float("inf")), way())
    yield Measure(
        case=case,
        against=f"the first time, against a {WALK}",
        value=best[first] / best[walk],
        unit="x its time",
        at_most=1.5,
    )
    yield Measure(
        case=case,
        against="again, against the first time",
        value=best[again] / best[first],
        unit="x its time",
        at_most=0.2,
    )


def _in_a_process(way: Callable[[str], None], path: Path) -> float:
    """Return the seconds that a function takes in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, way.__name__, str(path)]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root}
    )
    return float(json.loads(done.stdout))


def _opening(path: str) -> None:
    h5dask.open_dataset(path)


def _walking(path: str) -> None:
    """Find where each dataset lies, by the library's own calls and nothing else."""
    from h5py import h5d, h5f, h5g

    file = h5f.open(path.encode(), h5f.ACC_RDONLY)
    root = h5g.open(file, b"/")
    names: list[bytes] = []
    root.links.iterate(names.append)
    for name in names:
        for member in (b"/sequences", b"/logits"):
            h5d.open(file, name + member).get_offset()


def _sizes(path: Path) -> Iterator[Measure]:
    cache = Path(os.environ["H5DASK_CACHE"])
    shutil.rmtree(cache, ignore_errors=True)
    ds = h5dask.open_dataset(path)
    kept = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    case = f"what stays of {N_DATASETS:,} datasets"
    yield Measure(
        case=case,
        against="index kept on disk",
        value=kept / N_DATASETS,
        unit="bytes a dataset",
        at_most=200,
    )
    for name in ("sequences", "logits"):
        stored = pickle.dumps(ds[name].data)
        yield Measure(
            case=case,
            against=f"pickled dask array of {name}",
            value=len(stored) / N_GROUPS,
            unit="bytes a dataset",
            at_most=200,
        )


def _tasks(path: Path) -> Measure:
    ds = h5dask.open_dataset(path)
    return Measure(
        case=f"a full scan of {N_MANY:,} structures",
        against="every block of every variable read",
        value=sum(n_tasks(values) for values in ds.variables.values()),
        unit="tasks",
        at_most=2_000,
        notes=f"{ds.nbytes / 1e9:.1f} GB",
    )


def n_tasks(values: xr.Variable) -> int:
    """Return the tasks that reading each block of a variable takes."""
    if not dask.is_dask_collection(values.data):
        return 0
    (kept,) = dask.optimize(peers.kept_of(values.data))
    return len(kept.__dask_graph__()) - 1  # the array itself, which every task names


def _timed_alone(name: str, path: str) -> None:
    """Run one way in this process and print its seconds; a small file comes first, for imports."""
    way = {way.__name__: way for way in (_opening, _walking)}[name]
    way(str(Path(path).with_name(FEW)))
    start = time.perf_counter()
    way(path)
    print(json.dumps(time.perf_counter() - start))


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1].startswith("_"):
        _timed_alone(sys.argv[1], sys.argv[2])
    else:
        given = options(__doc__)
        report("Opening", measures(given), given)
