"""What a user writes today, `[:]` and numpy in float64, against one call of ours, from files.

python -m tests.benchmarks.bench_today --size 512MB --only "activations"

Both sides open the file, read it from the page cache and give the same figures; the user's way has
one thread where numpy has, and all values in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import h5py
import numpy as np
import scipy.special
import xarray as xr
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import h5dask
from tests.benchmarks import files, peers
from tests.benchmarks.harness import (
    N_THREADS,
    Measure,
    Options,
    Way,
    options,
    race,
    report,
    sized,
    speeds,
    workplace,
)

TODAY = "h5py's [:] and numpy in float64"
HIDDEN, VOCABULARY, FEATURES = 4_096, 32_000, 512
N_TASKS = 20
N_QUERIES, K = 200, 10

Figures = tuple[NDArray[Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One piece of work: the file it needs, and both ways to do it."""

    name: str
    make: Callable[[Path, int], None]
    ours: Callable[[Path], Figures]
    today: Callable[[Path], Figures]
    part: float = 1.0
    """Of the size that is asked for, where today's way takes long."""


def measures(asked: Options) -> Iterator[Measure]:
    """Yield how many times faster each call is than what it replaces."""
    for case in CASES:
        if asked.wants(case.name):
            with workplace(asked.folder) as folder:
                path = folder / "made.h5"
                case.make(path, round(asked.nbytes * case.part))
                peers.resident(path)
                nbytes = path.stat().st_size
                ours, today = _way(case.ours, path), _way(case.today, path)
                with dask.config.set(scheduler="threads", num_workers=N_THREADS):
                    for found, expected in zip(case.ours(path), case.today(path), strict=True):
                        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
                    raced = race(ours, {TODAY: today}, asked)
                    yield from speeds(f"{case.name}, {sized(nbytes)}", nbytes, raced, {})


def _way(compute: Callable[[Path], Figures], path: Path) -> Way:
    """Return a run whose figures aren't compared again."""

    def way() -> None:
        compute(path)

    return way


def _activations(path: Path, nbytes: int) -> None:
    files.activations(path, nbytes, "activations", HIDDEN)


def _two_scenarios(path: Path, nbytes: int) -> None:
    files.activations(path, nbytes // 2, "activations", HIDDEN)
    files.with_another_scenario(path)


def _logits(path: Path, nbytes: int) -> None:
    files.activations(path, nbytes, "logits", VOCABULARY)


_LAYER = "data/activations_layer_13"


def _summarized(path: Path) -> Figures:
    ds = h5dask.open_dataset(path)
    (found,) = dask.compute(h5dask.summarize(ds.activations, "record"))
    return tuple(found[name].values[0] for name in ("mean", "std", "min", "max"))


def _summarized_today(path: Path) -> Figures:
    with h5py.File(path) as file:
        values = file[f"scenarios/base/{_LAYER}"][:].astype("f8")
    return values.mean(0), values.std(0), values.min(0), values.max(0)


def _contrasted(path: Path) -> Figures:
    found = h5dask.contrast(h5dask.open_dataset(path), pairs=[("base", "other")], paired=False)
    vector, norm = dask.compute(found.vector, found.norm)
    return vector.values[0, 0], norm.values[0]


def _contrasted_today(path: Path) -> Figures:
    with h5py.File(path) as file:
        base, other = (
            file[f"scenarios/{name}/{_LAYER}"][:].astype("f8") for name in ("base", "other")
        )
    vector = base.mean(0) - other.mean(0)
    return vector, np.array([np.linalg.norm(vector)])


def _normalized(path: Path) -> Figures:
    ds = h5dask.open_dataset(path)
    scaled = h5dask.normalize(ds.activations, "l2", dim="hidden")
    written = path.with_name("ours.h5")
    h5dask.write_dataset(ds.assign(activations=scaled), written, overwrite=True)
    return _first_rows(written)


def _normalized_today(path: Path) -> Figures:
    written = path.with_name("today.h5")
    shutil.copyfile(path, written)
    with h5py.File(written, "r+") as file:
        stored = file[f"scenarios/base/{_LAYER}"]
        values = stored[:].astype("f8")
        stored[:] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return _first_rows(written)


def _first_rows(path: Path) -> Figures:
    with h5py.File(path) as file:
        return (file[f"scenarios/base/{_LAYER}"][:10],)


def _judged(path: Path) -> Figures:
    ds = h5dask.open_dataset(path)
    (found,) = dask.compute(h5dask.logit_statistics(ds, top=5).entropy)
    return (found.values,)


def _judged_today(path: Path) -> Figures:
    with h5py.File(path) as file:
        values = file["scenarios/base/data/logits"][:].astype("f8")
    np.argpartition(values, -5, axis=1)[:, -5:]
    return (scipy.special.entr(scipy.special.softmax(values, axis=1)).sum(1),)


def _episodes(path: Path, nbytes: int) -> None:
    n = max(N_TASKS, nbytes // (4 * FEATURES))
    rng = np.random.default_rng(3)
    tasks = np.array([f"task {number:02}" for number in range(N_TASKS)], dtype=object)
    ds = xr.Dataset(
        {
            "embeddings": (
                ("episode", "feature"),
                np.resize(rng.standard_normal((4_096, FEATURES), np.float32), (n, FEATURES)),
            ),
            "metadata_task": ("episode", tasks[np.arange(n) % N_TASKS]),
        },
        coords={"episode_ids": ("episode", [f"ep_{number:06}" for number in range(n)])},
    )
    h5dask.write_dataset(ds, path, allow_large=True)


def _by_task(path: Path) -> Figures:
    ds = h5dask.open_dataset(path)
    (found,) = dask.compute(h5dask.summarize(ds, "episode", by="metadata_task"))
    order = np.argsort(found.metadata_task.values.astype(str))
    return found.embeddings_mean.values[order], found.embeddings_std.values[order]


def _by_task_today(path: Path) -> Figures:
    with h5py.File(path) as file:
        values = file["embeddings"][:].astype("f8")
        tasks = file["metadata/task"].asstr()[:].astype(str)
    each = [values[tasks == task] for task in np.unique(tasks)]
    return np.stack([rows.mean(0) for rows in each]), np.stack([rows.std(0) for rows in each])


def _scanned(path: Path) -> Figures:
    ds = h5dask.open_dataset(path)
    (found,) = dask.compute(h5dask.scan(ds).nonfinite.sum())
    return (np.asarray(found),)


def _scanned_today(path: Path) -> Figures:
    with h5py.File(path) as file:
        values = file["embeddings"][:].astype("f8")
        ids = file["episode_ids"].asstr()[:]
        tasks = file["metadata/task"].asstr()[:]
    n_zero = (np.linalg.norm(values, axis=1) == 0.0).sum()
    n_double, n_empty = len(ids) - len(set(ids)), sum(not task for task in tasks)
    return (np.asarray((~np.isfinite(values)).sum() + n_zero + n_double + n_empty),)


def _vectors(path: Path, nbytes: int) -> None:
    files.ann(path, nbytes)


def _nearest(path: Path) -> Figures:
    ds = h5dask.open_dataset(path)
    (found,) = h5dask.compute(h5dask.knn(ds.train, _queries(), k=K))
    return (found.distances.values,)


def _nearest_today(path: Path) -> Figures:
    """Find neighbors by one product in float64."""
    with h5py.File(path) as file:
        base = file["train"][:].astype("f8")
    query = _queries().values.astype("f8")
    with threadpool_limits(N_THREADS):
        distances = (base**2).sum(1) - 2.0 * (query @ base.T) + (query**2).sum(1)[:, np.newaxis]
        ids = np.argpartition(distances, K, axis=1)[:, :K]
    best = np.sort(np.take_along_axis(distances, ids, axis=1), axis=1)
    return (np.sqrt(np.maximum(best, 0.0)),)


def _queries() -> xr.DataArray:
    values = np.random.default_rng(9).standard_normal((N_QUERIES, files.N_FEATURES), np.float32)
    return xr.DataArray(values, dims=("query", "feature"))


CASES = (
    Case(
        name="activations: mean, std, least and largest of each hidden value",
        make=_activations,
        ours=_summarized,
        today=_summarized_today,
    ),
    Case(
        name="activations: mean difference of two scenarios",
        make=_two_scenarios,
        ours=_contrasted,
        today=_contrasted_today,
    ),
    Case(
        name="activations: all vectors to length 1, written",
        make=_activations,
        ours=_normalized,
        today=_normalized_today,
    ),
    Case(
        name="activations: entropy and top 5 of logits",
        make=_logits,
        ours=_judged,
        today=_judged_today,
        part=0.5,
    ),
    Case(
        name="ann: 10 nearest of 200 queries",
        make=_vectors,
        ours=_nearest,
        today=_nearest_today,
        part=0.25,
    ),
    Case(
        name="episodes: mean and std of each task",
        make=_episodes,
        ours=_by_task,
        today=_by_task_today,
        part=0.5,
    ),
    Case(
        name="episodes: NaN, zero vectors and double ids",
        make=_episodes,
        ours=_scanned,
        today=_scanned_today,
        part=0.5,
    ),
)


if __name__ == "__main__":
    given = options(__doc__, size="512MB")
    report("Today", measures(given), given)
