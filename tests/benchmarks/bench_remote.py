"""Files in a real S3 server, near and far: opening, scanning, columns, rows, writing.

python -m tests.benchmarks.bench_remote --repeat 2 --seconds 0 --only scan

Needs Ceph's gateway and HAProxy, as `make test-servers` installs them; moto's server stands in for
the gateway where that isn't there, and is much slower than any client. Latency is HAProxy's: each
request waits by itself. What else would cache is opened anew in each run.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import dask
import dask.array as da
import fsspec
import h5py
import numpy as np
import s3fs
import xarray as xr
from obstore.store import S3Store

import h5dask
from h5dask.storage.fetching import CONNECTIONS
from h5dask.storage.stores.finding import object_at
from tests.benchmarks.harness import (
    N_THREADS,
    Measure,
    Options,
    Way,
    options,
    race,
    report,
    timed,
    workplace,
)
from tests.servers import Endpoint, haproxy, moto, rgw, s3
from tests.servers.programs import found

LATENCIES = 0, 10, 50
"""Milliseconds of each request."""
SIZE = "256MB"
N_FEATURES = 128
N_ROWS = 1_000
"""Rows that are drawn at random."""
PANEL = 256
"""Columns of a panel."""
CACHES = ("readahead", "blockcache", "background")
"""Caches of fsspec that h5py may read through."""
_BLOCK = 4 * 2**20
_ROUNDS = 12
"""Times that each layer of the activations is appended to."""


@dataclass(frozen=True, slots=True)
class Place:
    """The bucket as it is reached at one latency."""

    milliseconds: int
    endpoint: Endpoint

    def url(self, name: str) -> str:
        return f"{self.endpoint.url}/{name}"

    def files(self) -> Any:
        """Return s3fs, with nothing remembered of the runs before."""
        s3fs.S3FileSystem.clear_instance_cache()
        return fsspec.filesystem("s3", **self.endpoint.options)

    def open(self, name: str, **how: Any) -> xr.Dataset:
        return h5dask.open_dataset(self.url(name), storage_options=self.endpoint.options, **how)


def measures(asked: Options) -> Iterator[Measure]:
    """Yield the figures, the nearest store first."""
    with workplace(asked.folder) as folder, dask.config.set(num_workers=N_THREADS):
        files = _made(folder, asked.nbytes)
        with _places(folder) as places:
            for name, path in files.items():
                fsspec.filesystem("s3", **places[0].endpoint.options).put_file(
                    str(path), places[0].url(name)
                )
            for place in places:
                for measured in (_opened, _scanned, _panel, _rows, _written):
                    yield from measured(place, files, asked)


@contextmanager
def _places(folder: Path) -> Iterator[list[Place]]:
    server = rgw if all(found(name) for name in rgw.PROGRAMS) else moto
    with ExitStack() as stack:
        (folder / "server").mkdir()
        endpoint = stack.enter_context(server.start(folder / "server"))
        places = []
        for milliseconds in LATENCIES:
            reached = endpoint
            if milliseconds:
                (at := folder / f"late{milliseconds}").mkdir()
                late = haproxy.before(endpoint.port, at, milliseconds=milliseconds)
                reached = s3.through(endpoint, stack.enter_context(late))
            places.append(Place(milliseconds, reached))
        yield places


def _made(folder: Path, nbytes: int) -> dict[str, Path]:
    """Return the files: vectors in one piece, in 4 MiB chunks, by us; activations appended to."""
    rng = np.random.default_rng(11)
    n = nbytes // (4 * N_FEATURES)
    train = rng.normal(size=(n, N_FEATURES)).astype(np.float32)
    made = {name: folder / name for name in ("plain.h5", "chunked.h5", "ours.h5", "appended.h5")}
    for name, chunks in (("plain.h5", None), ("chunked.h5", (_BLOCK // (4 * N_FEATURES), 128))):
        with h5py.File(made[name], "w") as file:
            file.create_dataset("train", data=train, chunks=chunks)
            file["test"] = train[:100]
            file.attrs["distance"] = "euclidean"
    h5dask.write_dataset(h5dask.open_dataset(made["plain.h5"]), made["ours.h5"])
    width, layers, scenarios = 2048, (3, 13, 23), ("base", "long", "short")
    rows = nbytes // (2 * width * len(layers) * len(scenarios) * _ROUNDS)
    block = rng.normal(size=(rows, width)).astype(np.float16)
    with h5py.File(made["appended.h5"], "w") as file:
        held = [
            file.create_dataset(
                f"scenarios/{scenario}/data/activations_layer_{layer}", (0, width), np.float16,
                maxshape=(None, width), chunks=True,
            )
            for scenario in scenarios for layer in layers
        ]  # fmt: skip
        for _ in range(_ROUNDS):
            for dataset in held:
                dataset.resize(len(dataset) + rows, axis=0)
                dataset[-rows:] = block
    return made


def _visited(file: h5py.File) -> int:
    """Look at all that is in a file, as whoever opens it must."""
    seen: list[Any] = []

    def visit(name: str, one: Any) -> None:
        where = one.id.get_storage_size() if isinstance(one, h5py.Dataset) else 0
        seen.append((name, getattr(one, "shape", None), dict(one.attrs), where))

    file.visititems(visit)
    return len(seen)


def _through(place: Place, name: str, cache: str, use: Callable[[h5py.File], Any]) -> Any:
    """Give h5py a file object of s3fs, and use what it opens."""
    remote = place.files().open(place.url(name), cache_type=cache, block_size=_BLOCK)
    with remote, h5py.File(remote, "r") as file:
        return use(file)


def _best_cache(place: Place, name: str, use: Callable[[h5py.File], Any]) -> Way:
    """Return the way through the cache that is quickest at this."""
    ways = {cache: partial(_through, place, name, cache, use) for cache in CACHES}
    return min(ways.values(), key=timed)


def _virtual(place: Place, name: str) -> xr.Dataset:
    """Open by VirtualiZarr over obstore; without test, whose nameless dims it can't tell apart."""
    from obspec_utils.registry import ObjectStoreRegistry
    from virtualizarr.parsers import HDFParser

    given = place.endpoint.options
    bucket = place.endpoint.url.removeprefix("s3://").split("/")[0]
    store = S3Store(
        bucket,
        config={"access_key_id": given["key"], "secret_access_key": given["secret"],
                "endpoint": given["endpoint_url"], "region": "us-east-1"},
        client_options={"allow_http": True},
    )  # fmt: skip
    registry = ObjectStoreRegistry({f"s3://{bucket}": store})
    found = HDFParser(drop_variables=["test"])(url=place.url(name), registry=registry)
    return xr.open_zarr(found, consolidated=False, zarr_format=3, chunks={})


def _netcdf(place: Place, name: str) -> xr.Dataset:
    remote = place.files().open(place.url(name), cache_type="readahead", block_size=_BLOCK)
    return xr.open_dataset(remote, engine="h5netcdf", phony_dims="access", chunks={})


class _Counted:
    """Requests to objects and the bytes they brought, while it is watched."""

    def __init__(self, place: Place) -> None:
        self.kind = type(object_at(place.url("plain.h5"), place.endpoint.options))
        self.n_requests = self.nbytes = 0
        self.spans: list[tuple[int, int]] = []
        self._lock = threading.Lock()
        self._real: dict[str, Any] = {}

    def __enter__(self) -> Self:
        for name in ("head", "get", "whole"):
            self._real[name] = getattr(self.kind, name)
            setattr(self.kind, name, self._counting(self._real[name]))
        return self

    def _counting(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def asked(mine: Any, *given: Any) -> Any:
            answer = real(mine, *given)
            with self._lock:
                self.n_requests += 1
                self.nbytes += getattr(answer, "nbytes", 0) if given else 0
                self.spans += [given[:2]] if len(given) > 1 else []
            return answer

        return asked

    def __exit__(self, *error: object) -> None:
        for name, real in self._real.items():
            setattr(self.kind, name, real)


def _opened(place: Place, files: dict[str, Path], asked: Options) -> Iterator[Measure]:
    """Yield how many requests opening takes, and how much faster it is than by others."""
    for name in files:
        case = f"open {name}, {place.milliseconds} ms"
        if not asked.wants(case):
            continue
        limit = None if name == "appended.h5" else 4.0
        for what, most in (("first time", limit), ("again", 1.0)):
            with _Counted(place) as counted:
                place.open(name)
            yield Measure(
                case=case, against=f"requests, {what}", value=counted.n_requests, unit="",
                at_most=most, notes=f"{counted.nbytes / 1e6:.1f} MB",
            )  # fmt: skip

        def ours(name: str = name) -> None:
            shutil.rmtree(os.environ["H5DASK_CACHE"], ignore_errors=True)
            place.open(name)

        ways = {"h5py over s3fs": _best_cache(place, name, _visited)}
        if name != "appended.h5":
            ways["xarray and h5netcdf over s3fs"] = lambda name=name: _netcdf(place, name).close()
            ways["VirtualiZarr and obstore"] = lambda name=name: _virtual(place, name).close()
        least = {"h5py over s3fs": 3.0} if (name, place.milliseconds) == ("appended.h5", 50) else {}
        for peer, mine, theirs in _raced(ours, ways, asked):
            yield Measure(
                case=case, against=peer, value=theirs / mine, unit="x its speed",
                at_least=least.get(peer), notes=f"{mine:.2f} and {theirs:.2f} s",
            )  # fmt: skip


def _raced(ours: Way, ways: dict[str, Way], asked: Options) -> Iterator[tuple[str, float, float]]:
    """Race ways that give nothing to compare."""
    quiet = {name: (lambda way=way: (way(), None)[1]) for name, way in ways.items()}
    yield from race(lambda: (ours(), None)[1], quiet, asked)


def _blocks_of(dataset: h5py.Dataset) -> float:
    """Add all values up, some rows at a time."""
    step = max(1, 16 * 2**20 // (dataset.dtype.itemsize * dataset.shape[1]))
    return float(sum(dataset[at : at + step].sum() for at in range(0, len(dataset), step)))


def _fetched(place: Place, name: str, spans: Sequence[tuple[int, int]], n_threads: int) -> None:
    """Fetch some ranges and do nothing with them: what the quickest client takes."""
    one = object_at(place.url(name), place.endpoint.options)
    mark = one.head().mark
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in pool.map(lambda span: one.get(*span, mark), spans):
            pass


def _scanned(place: Place, files: dict[str, Path], asked: Options) -> Iterator[Measure]:
    """Yield how fast all values are added up."""
    case = f"full scan in 4 MiB chunks, {place.milliseconds} ms"
    if not asked.wants(case):
        return
    name = "chunked.h5"
    ds = place.open(name)
    nbytes = files[name].stat().st_size
    spans = list(pairwise([*range(0, nbytes, _BLOCK), nbytes]))

    def ours() -> None:
        ds.train.sum(skipna=False).compute(scheduler="threads")

    def virtual() -> None:
        with _virtual(place, name) as opened:
            opened.train.sum(skipna=False).compute(scheduler="threads")

    def netcdf() -> None:
        with _netcdf(place, name) as opened:
            opened.train.sum(skipna=False).compute(scheduler="synchronous")

    ways = {
        "h5py over s3fs": _best_cache(place, name, lambda file: _blocks_of(file["train"])),
        "VirtualiZarr and obstore": virtual,
        "xarray and h5netcdf over s3fs": netcdf,
        "fetching the bytes alone": partial(_fetched, place, name, spans, 16),
    }
    far = place.milliseconds == LATENCIES[-1]
    near = place.milliseconds == 0
    least = {"h5py over s3fs": 1.3, "VirtualiZarr and obstore": 3.0} if far else {}
    least |= {"fetching the bytes alone": 0.85} if near else {}
    for peer, mine, theirs in _raced(ours, ways, asked):
        yield Measure(
            case=case, against=peer, value=theirs / mine, unit="x its speed",
            at_least=least.get(peer),
            notes=f"{nbytes / mine / 1e6:.0f} and {nbytes / theirs / 1e6:.0f} MB/s",
        )  # fmt: skip


def _panel(place: Place, files: dict[str, Path], asked: Options) -> Iterator[Measure]:
    """Yield how fast some columns are read through narrow chunks."""
    case = f"{PANEL} columns through narrow chunks, {place.milliseconds} ms"
    if not asked.wants(case):
        return
    del files
    ds = place.open("appended.h5", chunks=None, group="scenarios/base")
    lazy = ds.activations.isel(hidden=slice(0, PANEL))

    def theirs(file: h5py.File) -> None:
        for layer in (3, 13, 23):
            file[f"scenarios/base/data/activations_layer_{layer}"][:, :PANEL]

    yield from _against_h5py(place, case, lazy.compute, "appended.h5", theirs, asked)


def _rows(place: Place, files: dict[str, Path], asked: Options) -> Iterator[Measure]:
    """Yield how fast rows are read that lie far apart."""
    case = f"{N_ROWS:,} random rows, {place.milliseconds} ms"
    if not asked.wants(case):
        return
    n = files["plain.h5"].stat().st_size // (4 * N_FEATURES) - 1_000
    rows = np.sort(np.random.default_rng(5).choice(n, N_ROWS, replace=False))
    lazy = place.open("plain.h5", chunks=None).train.isel(vector=rows)
    with _Counted(place) as counted:
        lazy.compute()
    yield Measure(
        case=case, against="bytes that are needed", unit="of them fetched", at_most=1.1,
        value=counted.nbytes / lazy.nbytes, notes=f"{counted.n_requests:,} requests",
    )  # fmt: skip

    def theirs(file: h5py.File) -> None:
        file["train"][rows]

    yield from _against_h5py(place, case, lazy.compute, "plain.h5", theirs, asked)


def _against_h5py(
    place: Place, case: str, ours: Way, name: str, use: Callable[[h5py.File], Any], asked: Options
) -> Iterator[Measure]:
    """Yield how much faster a read is than h5py's, and beside its own requests without a reader.

    What the latter take is the server's, and no reader's to save.
    """
    with _Counted(place) as counted:
        ours()
    alone = "the same requests alone"
    ways = {
        "h5py over s3fs": _best_cache(place, name, use),
        alone: partial(_fetched, place, name, counted.spans, CONNECTIONS),
    }
    far = place.milliseconds == LATENCIES[-1]
    for peer, mine, theirs in _raced(ours, ways, asked):
        yield Measure(
            case=case, against=peer, value=theirs / mine, unit="x its speed",
            at_least=8.0 if far and peer != alone else None,
            notes=f"{mine:.2f} and {theirs:.2f} s",
        )  # fmt: skip


def _written(place: Place, files: dict[str, Path], asked: Options) -> Iterator[Measure]:
    """Yield how fast a file is written to the store, against uploading one that is there."""
    case = f"write, {place.milliseconds} ms"
    if not asked.wants(case):
        return
    with h5py.File(files["plain.h5"]) as file:
        values = file["train"][...]
    ds = xr.Dataset(
        {
            "train": (("vector", "feature"), da.from_array(values, chunks=(32_768, -1))),
            "test": (("query", "feature"), values[:100]),
            "neighbors": (("query", "neighbor"), np.zeros((100, 10), np.int64)),
            "distances": (("query", "neighbor"), np.zeros((100, 10), np.float32)),
        },
        attrs={"distance": "euclidean"},
    )

    def ours() -> None:
        h5dask.write_dataset(
            ds, place.url("written.h5"), layout="ann", overwrite=True,
            storage_options=place.endpoint.options,
        )  # fmt: skip

    def upload() -> None:
        place.files().put_file(str(files["ours.h5"]), place.url("uploaded.h5"))

    nbytes = files["ours.h5"].stat().st_size
    for peer, mine, theirs in _raced(ours, {"uploading the finished file": upload}, asked):
        yield Measure(
            case=case, against=peer, value=theirs / mine, unit="x its speed", at_least=0.7,
            notes=f"{nbytes / mine / 1e6:.0f} and {nbytes / theirs / 1e6:.0f} MB/s",
        )  # fmt: skip


if __name__ == "__main__":
    given = options(__doc__, size=SIZE)
    report("Object storage", measures(given), given)
