"""Statistics, scans and logits against xarray, numpy and scipy, and against reading alone.

python -m tests.benchmarks.bench_statistics --size 1GB --repeat 3
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import scipy.special
import xarray as xr
from numpy.typing import NDArray

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
    timed,
    workplace,
)

PLAIN = "xarray on dask, its best blocks"
IN_NUMPY = "numpy in memory, one thread"
SUM = "a bare sum of the same bytes"
BARE = "preadv loop, two threads, same blocks"
SCIPY = "scipy and numpy, same blocks"
WIDTH = 4_096
VOCABULARY = 128_256
N_GROUPS = 20
_CANDIDATES = (16, 64, 128)
"""MiB of the blocks among which xarray has its best."""


def measures(asked: Options) -> Iterator[Measure]:
    """Yield the figures of each operation."""
    for dtype, times, least in (("float16", 20.0, 5.0), ("float32", 3.0, None)):
        if asked.wants(f"{dtype} memory"):
            yield from _in_memory(np.dtype(dtype), times, least, asked)
    for dtype, chunked, times, least in (
        ("float16", False, 20.0, 3.0),
        ("float16", True, 20.0, None),
        ("float32", False, 3.0, None),
    ):
        name = f"{dtype} {'in narrow chunks' if chunked else 'contiguous'}"
        if asked.wants(name):
            with workplace(asked.folder) as folder:
                yield from _from_file(folder, name, chunked, times, least, asked)
    if asked.wants("logits"):
        yield from _logits(asked)


def in_threads(way: Callable[[], Any]) -> Way:
    """Return a run on so many threads, whose result isn't compared: digits differ."""

    def run() -> None:
        with dask.config.set(scheduler="threads", num_workers=N_THREADS):
            way()

    return run


def plainly(x: xr.DataArray) -> Way:
    """Return xarray's way to most of the figures of `summarize`, in one compute."""
    wide = {"dtype": "float64"}
    figures = [x.count("record"), x.mean("record", **wide), x.std("record", **wide)]
    figures += [x.min("record"), x.max("record")]
    return in_threads(lambda: dask.compute(*figures))


def best_plain(make: Callable[[int], xr.DataArray], row: int) -> Way:
    """Return xarray's way with the blocks it is quickest with."""
    ways = [plainly(make(max(1, size * 2**20 // row))) for size in _CANDIDATES]
    return min(ways, key=timed)


def numpy_way(values: NDArray[Any]) -> Way:
    """Return numpy's way to the same figures, on a tenth of the values."""
    some = values[: max(1, len(values) // 10)]

    def run() -> None:
        np.isfinite(some).sum(0)
        some.mean(0, dtype="f8")
        some.std(0, dtype="f8")
        some.min(0)
        some.max(0)

    return run


def _in_memory(
    dtype: np.dtype[Any], times: float, least: float | None, asked: Options
) -> Iterator[Measure]:
    values = made(dtype, asked.nbytes)
    row = values.nbytes // len(values)

    def blocked(n_rows: int) -> xr.DataArray:
        array = da.from_array(values, (n_rows, -1), name=False)
        return xr.DataArray(array, dims=("record", "hidden"))

    x = blocked(16 * 2**20 // row)
    ours = in_threads(lambda: dask.compute(h5dask.summarize(x, "record")))
    case = f"summarize {dtype} in memory, {sized(values.nbytes)}"
    ways = {PLAIN: best_plain(blocked, row), SUM: _sum(x)}
    yield from _raced(case, values.nbytes, ours, ways, {PLAIN: times}, least, asked)
    for name, mine, theirs in race(ours, {IN_NUMPY: numpy_way(values)}, asked):
        yield from speeds(case, values.nbytes, [(name, mine, 10 * theirs)], {})


def _from_file(
    folder: Path, name: str, chunked: bool, times: float, least: float | None, asked: Options
) -> Iterator[Measure]:
    path = folder / "made.h5"
    if name.startswith("float32"):
        written = files.ann(path, asked.nbytes)
    else:
        written = files.activations(path, asked.nbytes, "activations", WIDTH, chunked=chunked)
    peers.resident(path)
    with h5dask.open_dataset(path) as ds, _bare(written, ds) as bare:
        x = _plain(ds, written)
        row = x.nbytes // len(x)

        def blocked(n_rows: int) -> xr.DataArray:
            rows = {ds[written.variable].dims[0]: n_rows}
            return _plain(h5dask.open_dataset(path, chunks=rows), written)

        ours = in_threads(lambda: dask.compute(h5dask.summarize(x, "record")))
        case = f"summarize {name} from the page cache, {sized(x.nbytes)}"
        ways = {PLAIN: best_plain(blocked, row), SUM: _sum(x)}
        yield from _raced(case, x.nbytes, ours, ways, {PLAIN: times}, least, asked)
        labels = xr.DataArray(
            np.repeat(np.arange(N_GROUPS), -(-len(x) // N_GROUPS))[: len(x)],
            dims="record", name="scenario",
        )  # fmt: skip
        grouped = in_threads(lambda: dask.compute(h5dask.summarize(x, "record", by=labels)))
        for _, mine, theirs in race(grouped, {"all of them together": ours}, asked):
            yield Measure(
                case=f"summarize {name} by {N_GROUPS} groups", against="all of them together",
                value=mine / theirs, unit="x its time", at_most=1.3,
            )  # fmt: skip
        scanned = in_threads(lambda: dask.compute(h5dask.scan(x.to_dataset(name="x"))))
        raced = race(scanned, {BARE: bare}, asked)
        yield from speeds(f"scan {name}", x.nbytes, raced, {BARE: 0.5})


def _plain(ds: xr.Dataset, written: files.Made) -> xr.DataArray:
    """Return the values (record, hidden) that were written, without labels."""
    values = ds[written.variable].isel(written.keep).data
    return xr.DataArray(values, dims=("record", "hidden"))


def _bare(written: files.Made, ds: xr.Dataset) -> Any:
    return peers.bare_loop(written, ds[written.variable].chunks[0])


def _raced(
    case: str,
    nbytes: int,
    ours: Way,
    ways: dict[str, Way],
    wanted: dict[str, float],
    least: float | None,
    asked: Options,
) -> Iterator[Measure]:
    fastest = float("inf")
    for raced in race(ours, ways, asked):
        fastest = min(fastest, raced[1])
        yield from speeds(case, nbytes, [raced], wanted)
    yield Measure(case=case, against="", value=nbytes / fastest / 1e9, unit="GB/s", at_least=least)


def _sum(x: xr.DataArray) -> Way:
    total = da.map_blocks(_sum_of, x.data, dtype="u8", chunks=((1,) * x.data.numblocks[0], (1,)))
    return in_threads(total.compute)


def _sum_of(block: NDArray[Any]) -> NDArray[np.uint64]:
    words = np.ascontiguousarray(block).reshape(-1)
    even = words[: words.size // 8 * 8].view(np.uint64)
    return np.array([[even.sum()]])


def _logits(asked: Options) -> Iterator[Measure]:
    n_rows = max(128, asked.nbytes // 8 // (2 * VOCABULARY))
    values = (np.random.default_rng(0).standard_normal((64, VOCABULARY)) * 4).astype("f2")
    array = da.from_array(np.tile(values, (n_rows // 64, 1)), (64, -1), name=False)
    x = xr.DataArray(array, dims=("record", "vocab"))
    plain = da.map_blocks(_scipy_way, array, dtype="f8", chunks=(array.chunks[0], (6,)))
    ours = in_threads(lambda: dask.compute(h5dask.logit_statistics(x, top=5)))
    ways = {SCIPY: in_threads(plain.compute)}
    case = f"entropy and top 5 of {array.shape} float16"
    yield from speeds(case, array.nbytes, race(ours, ways, asked), {SCIPY: 5.0})


def _scipy_way(block: NDArray[Any]) -> NDArray[np.float64]:
    """Return entropy and the five largest logits of each record."""
    wide = block.astype("f8")
    entropy = scipy.special.entr(scipy.special.softmax(wide, axis=1)).sum(1)
    top = np.argpartition(wide, -5, axis=1)[:, -5:]
    return np.column_stack([entropy, np.take_along_axis(wide, top, axis=1)])


def made(dtype: np.dtype[Any], nbytes: int) -> NDArray[Any]:
    """Return normally distributed values (row, WIDTH) of so many bytes, over and over."""
    some = (np.random.default_rng(7).standard_normal((4_096, WIDTH), np.float32) * 3).astype(dtype)
    return np.tile(some, (max(1, nbytes // some.nbytes), 1))


if __name__ == "__main__":
    given = options(__doc__)
    report("Statistics", measures(given), given)
