"""What the benchmarks share: runs in interleaved pairs, ratios of the best ones, one table.

No library is measured and no file made here.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from dask.utils import parse_bytes

N_THREADS = 2
"""Threads of every side, however many cores there are."""
PACKAGES = ("h5dask", "dask", "xarray", "numpy", "h5py", "h5netcdf", "zarr", "virtualizarr")
PACKAGES += ("faiss-cpu", "scikit-learn", "scipy", "s3fs", "obstore")

MADE = "h5dask-benchmark-"
"""What names of folders that a program makes begin with; its process id comes next."""

Way = Callable[[], Any]
"""One way to do the work; what it returns must be the same for all ways."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asks for."""

    nbytes: int
    """Bytes of values in each file."""
    repeat: int
    """Pairs of runs at least, of which the best count."""
    seconds: float
    """What each pair gets beyond that: short runs differ most from each other."""
    folder: Path
    """Where files are made."""
    work: float
    """Seconds that a command should compute at least, where it can be given more to do."""
    only: tuple[str, ...]
    """Words one of which a case's name must hold; all cases where there are none."""
    results: Path | None
    """Where the measures are also written, as JSON."""

    def wants(self, case: str) -> bool:
        return not self.only or any(word in case for word in self.only)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One line of the table: a figure, and what is wanted of it."""

    case: str
    """What is done, and on which file: block and chunk sizes."""
    against: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    notes: str = ""
    """What the figure rests on, such as GB/s of both sides."""

    @property
    def wanted(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:,.6g}"
        return "" if self.at_most is None else f"≤ {self.at_most:,.6g}"

    @property
    def missed(self) -> bool:
        too_small = self.at_least is not None and self.value < self.at_least
        return too_small or (self.at_most is not None and self.value > self.at_most)


def options(about: str | None, argv: Sequence[str] | None = None, size: str = "1GB") -> Options:
    """Return what the command line asks for; every program takes the same arguments."""
    parser = argparse.ArgumentParser(description=about)
    add = parser.add_argument
    add("--size", type=parse_bytes, default=parse_bytes(size), help=f"values a file ({size})")
    add("--repeat", type=int, default=5, help="least pairs of runs, of which the best count (5)")
    add("--seconds", type=float, default=4.0, help="least time for each pair's runs (4)")
    add("--work", type=float, default=0.0, help="seconds of a command at least, of scaling (0)")
    add("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where files are made")
    add("--only", action="append", default=[], metavar="WORD", help="cases whose name holds it")
    add("--json", type=Path, dest="results", metavar="FILE", help="write the measures there too")
    given = parser.parse_args(argv)
    return Options(
        nbytes=given.size,
        repeat=max(1, given.repeat),
        seconds=given.seconds,
        work=given.work,
        folder=given.folder,
        only=tuple(given.only),
        results=given.results,
    )


@contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """Give an empty folder, with an empty index cache in it; both are gone afterwards."""
    place = Path(tempfile.mkdtemp(prefix=f"{MADE}{os.getpid()}-", dir=folder))
    before = os.environ.get("H5DASK_CACHE")
    os.environ["H5DASK_CACHE"] = str(place / "cache")
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if before is None:
            del os.environ["H5DASK_CACHE"]
        else:
            os.environ["H5DASK_CACHE"] = before


def timed(way: Way) -> float:
    """Return the seconds of one run, without the garbage of the runs before."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        way()
        return time.perf_counter() - start
    finally:
        gc.enable()


def race(ours: Way, peers: Mapping[str, Way], asked: Options) -> Iterator[tuple[str, float, float]]:
    """Run ours and each peer in turn; yield each peer's name, our best seconds, and its own.

    Each peer is set against the runs of ours next to its own, so that what else the machine does
    weighs on both. The first run of each is not timed; there its result is compared with ours.
    """
    expected = ours()
    for name, peer in peers.items():
        _compare(name, expected, peer())
    best = dict.fromkeys(peers, (float("inf"), float("inf")))
    spent = dict.fromkeys(peers, 0.0)
    for done in count(1):
        for name, peer in peers.items():
            if done <= asked.repeat or spent[name] < asked.seconds:
                began = time.perf_counter()
                pair = timed(ours), timed(peer)
                best[name] = min(best[name][0], pair[0]), min(best[name][1], pair[1])
                spent[name] += time.perf_counter() - began
        if done >= asked.repeat and min(spent.values()) >= asked.seconds:
            break
    for name, (mine, theirs) in best.items():
        yield name, mine, theirs


def _compare(name: str, expected: Any, found: Any) -> None:
    """Refuse a peer that did other work; one with blocks of its own keeps other elements."""
    if expected is None or found is None or np.shape(expected) != np.shape(found):
        return
    if not np.array_equal(expected, found):
        raise AssertionError(f"{name}: read {found!r}, expected {expected!r}")


def speeds(
    case: str,
    nbytes: int,
    raced: Iterable[tuple[str, float, float]],
    wanted: Mapping[str, float],
) -> Iterator[Measure]:
    """Yield a measure for each peer: how many times its speed ours is."""
    for name, mine, theirs in raced:
        yield Measure(
            case=case,
            against=name,
            value=theirs / mine,
            unit="x its speed",
            at_least=wanted.get(name),
            notes=f"{nbytes / mine / 1e9:.2f} and {nbytes / theirs / 1e9:.2f} GB/s",
        )


def report(title: str, measures: Iterable[Measure], asked: Options) -> None:
    """Print the machine, then every measure as it comes; keep what there is, where asked for."""
    around = surroundings()
    print(title)
    for name, text in around.items():
        print(f"  {name}: {text}")
    done: list[Measure] = []

    def keep() -> None:
        if asked.results is not None:
            _keep(asked.results, title, {**around, "measures": [asdict(one) for one in done]})

    keep()
    for measure in measures:
        if not done or done[-1].case != measure.case:
            print(f"\n{measure.case}")
        done.append(measure)
        print(_line(measure), flush=True)
        keep()


def _keep(results: Path, title: str, found: Mapping[str, Any]) -> None:
    """Write one program's measures beside those of others in the same file."""
    kept = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    results.write_text(json.dumps({**kept, title: found}, indent=1), encoding="utf-8")


def _line(measure: Measure) -> str:
    value = f"{measure.value:,.2f}" if measure.value < 100 else f"{measure.value:,.0f}"
    wanted = f"{measure.wanted} {'MISSED' if measure.missed else ''}"
    figure = f"{value:>8} {measure.unit}"
    return f"  {measure.against:<40} {figure:<26} {wanted:<15} {measure.notes}".rstrip()


def surroundings() -> dict[str, str]:
    """Return the machine, how busy it is, and the versions measured; absent peers are named."""
    import h5py

    found, absent = [], []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            absent.append(package)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = os.cpu_count() or 1
    return {
        "machine": f"{_processor()}, {cores} cores, {memory / 1e9:.0f} GB, {platform.platform()}",
        "load before": f"{os.getloadavg()[0]:.2f} (what else runs here disturbs the figures)",
        "versions": f"Python {platform.python_version()}, HDF5 {h5py.version.hdf5_version}, "
        + ", ".join(found),
        "not installed": ", ".join(absent) or "nothing that is measured",
        "threads": str(N_THREADS),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def sized(nbytes: float) -> str:
    """Return bytes in MiB."""
    return f"{nbytes / 2**20:.3g} MiB"
