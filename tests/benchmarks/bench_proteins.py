"""Proteins: opening, laying end to end and padding; profiles; writing; against loops over groups.

python -m tests.benchmarks.bench_proteins --repeat 3 --only "pad"

A loop is what a user of the format writes today: h5py group by group, numpy for what is computed.
Memory that a machine gives for the first time costs both sides much: it is touched before.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import h5py
import numpy as np
import xarray as xr
from h5py import h5d, h5f, h5g, h5p, h5s, h5t
from numpy.typing import NDArray

import h5dask
from h5dask.indexes import RaggedIndex
from h5dask.results import write_result
from tests.benchmarks.harness import (
    N_THREADS,
    Measure,
    Options,
    Way,
    options,
    report,
    timed,
    workplace,
)

N_STRUCTURES = 20_000
LENGTHS = 40, 400
N_SAMPLES = 4
N_LETTERS = 21
GROWTH = 1_000, 10_000, 100_000
"""Structures of one sample."""
WORKER = 1_000_000_000
LOOP = "a loop with h5py and numpy"
_TOUCHED = 4 * 10**9


def measures(asked: Options) -> Iterator[Measure]:
    """Yield the figures, one capability after the other."""
    rng = np.random.default_rng(7)
    with workplace(asked.folder) as folder:
        if any(asked.wants(word) for word in ("pad", "Zarr", "profile", "entropy", "write")):
            path = folder / "samples.h5"
            n = max(100, round(N_STRUCTURES * min(1.0, asked.nbytes / 1e9)))
            with _threads():
                h5dask.write_dataset(_drawn(rng, n, N_SAMPLES), path)
            yield from _padded(path, n, asked, folder)
            yield from _zarr(path, n, asked, folder)
            yield from _profiled(path, n, asked)
            yield from _written(path, n, asked, folder)
        if asked.wants("growth"):
            yield from _growth(rng, asked, folder)


def _threads() -> Any:
    return dask.config.set(scheduler="threads", num_workers=N_THREADS)


def _drawn(rng: np.random.Generator, n: int, n_samples: int) -> xr.Dataset:
    """Return structures of any length, lazily; their logits repeat after a while."""
    lengths = rng.integers(LENGTHS[0], LENGTHS[1] + 1, n)
    labels = {
        "structure": np.repeat(np.arange(n, dtype=np.int32), n_samples),
        "sample": np.tile(np.arange(n_samples, dtype=np.int32), n),
        "noise": np.zeros(n * n_samples, np.int32),
        "temperature": np.zeros(n * n_samples, np.int32),
        "row_size": np.repeat(lengths, n_samples).astype(np.int32),
    }
    total = int(labels["row_size"].sum())
    table = rng.normal(0, 3, (2**16, N_LETTERS)).astype(np.float32)
    indices = rng.integers(0, N_LETTERS - 1, total).astype(np.int32)
    rows = 200_000
    chunks = (rows,) * (total // rows) + ((total % rows,) if total % rows else ())
    logits = da.map_blocks(
        lambda block: np.resize(table, (len(block), N_LETTERS)),
        da.zeros((total, 1), chunks=(chunks, (1,)), dtype=np.int8),
        chunks=(chunks, (N_LETTERS,)),
        dtype=np.float32,
    )
    index = RaggedIndex("sequence", "residue", total, labels)
    return xr.Dataset(
        {
            "sequences": ("residue", da.from_array(indices, chunks=rows)),
            "logits": (("residue", "aa"), logits),
        },
        xr.Coordinates.from_xindex(index),
    )


def _touch() -> None:
    """Let the machine give its memory before a run that needs much of it."""
    np.empty(_TOUCHED, np.uint8)[:] = 1


def _in_turns(ours: Way, peer: Way, asked: Options) -> tuple[float, float]:
    """Return the best seconds of both, with memory touched before each run."""
    ours()
    pairs = []
    for _ in range(asked.repeat):
        _touch()
        mine = timed(ours)
        _touch()
        pairs.append((mine, timed(peer)))
    mine, theirs = zip(*pairs, strict=True)
    return min(mine), min(theirs)


def _names(file: h5py.File) -> list[str]:
    return sorted((name for name in file if name.startswith("structure_")), key=_number)


def _number(name: str) -> int:
    return int(name.removeprefix("structure_"))


def _loop_padded(path: Path) -> tuple[NDArray[Any], ...]:
    with h5py.File(path) as file:
        names = _names(file)
        lengths = [file[name]["sequences"].shape[-1] for name in names]
        shape = len(names), N_SAMPLES, 1, max(lengths)
        sequences, mask = np.zeros(shape, np.int32), np.zeros(shape, bool)
        logits = np.zeros((*shape, N_LETTERS), np.float32)
        for at, (name, length) in enumerate(zip(names, lengths, strict=True)):
            sequences[at, ..., :length] = file[name]["sequences"][:]
            logits[at, ..., :length, :] = file[name]["logits"][:]
            mask[at, ..., :length] = True
    return sequences, logits, mask, np.array(lengths)


def _padded(path: Path, n: int, asked: Options, folder: Path) -> Iterator[Measure]:
    """Yield how much faster padded arrays are in memory, with and without a known index."""
    case = f"open, lay end to end and pad {n:,} structures, {path.stat().st_size / 1e9:.1f} GB"
    if not asked.wants(case):
        return

    def known() -> None:
        with _threads():
            h5dask.compute(h5dask.pad(h5dask.open_dataset(path)))

    def cold() -> None:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        known()

    with _threads():
        (found,) = h5dask.compute(h5dask.pad(h5dask.open_dataset(path)))
    expected = _loop_padded(path)
    for name, values in zip(("sequences", "logits", "mask", "lengths"), expected, strict=True):
        np.testing.assert_array_equal(found[name].values, values)
    del found, expected
    for how, way, least in (("cold", cold, 4.5), ("known index", known, 8.0)):
        mine, theirs = _in_turns(way, lambda: _loop_padded(path), asked)
        yield Measure(
            case=case,
            against=f"{LOOP}; ours {how}",
            value=theirs / mine,
            unit="x its speed",
            at_least=least,
            notes=f"{mine:.2f} and {theirs:.2f} s",
        )


def _zarr(path: Path, n: int, asked: Options, folder: Path) -> Iterator[Measure]:
    """Yield how much memory padding to Zarr takes on two workers."""
    case = f"pad {n:,} structures to Zarr, two workers of 1 GB"
    if not asked.wants(case):
        return
    target = folder / "padded.zarr"
    ds = h5dask.pad(h5dask.open_dataset(path))
    seconds, peak = _on_workers(lambda: write_result(ds, target, overwrite=True))
    with _threads():
        alone = timed(lambda: write_result(ds, folder / "threads.zarr", overwrite=True))
    yield Measure(
        case=case, against="a worker's limit", value=peak / WORKER, unit="of it at the peak",
        at_most=1.0, notes=f"{ds.nbytes / seconds / 1e9:.2f} GB/s",
    )  # fmt: skip
    yield Measure(
        case=case, against="two threads of one process", value=alone / seconds, unit="x its speed",
    )  # fmt: skip
    shutil.rmtree(target)
    shutil.rmtree(folder / "threads.zarr")


def _on_workers(way: Way) -> tuple[float, int]:
    """Return the seconds that something takes on two workers of 1 GB, and the most bytes of one."""
    client = h5dask.connect(workers=N_THREADS, memory_limit=WORKER)
    if client is None:
        raise RuntimeError("no workers")
    with client:
        return timed(way), max(client.run(_peak).values())


def _peak() -> int:
    """Return the most bytes that this process has held."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (one for one in status.splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _softmax(logits: NDArray[Any]) -> NDArray[Any]:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def _loop_profiles(path: Path) -> float:
    """Profile one structure after the other; return the mean entropy in bits."""
    total, count = 0.0, 0
    with h5py.File(path) as file:
        for name in _names(file):
            sequences, logits = file[name]["sequences"][:], file[name]["logits"][:]
            for level in range(sequences.shape[1]):
                rows, own = sequences[:, level], logits[:, level].astype(np.float64)
                each = np.eye(N_LETTERS)[rows]
                frequency = each.mean(axis=0)
                chances = _softmax(own)
                pssm = chances.mean(axis=0)
                with np.errstate(divide="ignore"):
                    np.log2(pssm[:, :20] / pssm[:, :20].sum(axis=1, keepdims=True) * 20)
                entropy = -(pssm * np.log2(np.maximum(pssm, 1e-300))).sum(axis=1)
                -(frequency * np.log2(np.maximum(frequency, 1e-300))).sum(axis=1)
                frequency.argmax(axis=1)
                chosen = np.take_along_axis(chances, rows[..., np.newaxis], axis=-1)
                score = -np.log(chosen).mean(axis=(1, 2))
                np.exp(score).argsort()
                counts = each.sum(axis=0)
                pairs = len(rows) * (len(rows) - 1)
                1.0 - ((counts * (counts - 1)).sum(axis=1) / pairs).mean()
                total, count = total + entropy.sum(), count + len(entropy)
    return float(total / count)


def _loop_entropy(path: Path) -> float:
    """Return the mean entropy of the positions, in bits."""
    total, count = 0.0, 0
    with h5py.File(path) as file:
        for name in _names(file):
            chances = _softmax(file[name]["logits"][:].astype(np.float64)).mean(axis=0)
            entropy = -(chances * np.log2(np.maximum(chances, 1e-300))).sum(axis=-1)
            total, count = total + entropy.sum(), count + entropy.size
    return float(total / count)


def _profiled(path: Path, n: int, asked: Options) -> Iterator[Measure]:
    """Yield how much faster profiles and entropies are."""

    def ours() -> float:
        with _threads():
            (found,) = h5dask.compute(h5dask.profile(h5dask.open_dataset(path)))
        return float(found.entropy.mean())

    def entropies() -> float:
        with _threads():
            (found,) = h5dask.compute(h5dask.profile(h5dask.open_dataset(path)).entropy)
        return float(found.mean())

    for what, way, peer, least in (
        ("profile", ours, _loop_profiles, 20.0),
        ("per-position entropy of", entropies, _loop_entropy, None),
    ):
        case = f"{what} {n:,} structures"
        if asked.wants(case):
            np.testing.assert_allclose(way(), peer(path), rtol=1e-6)
            mine, theirs = _in_turns(way, lambda peer=peer: peer(path), asked)
            yield Measure(
                case=case,
                against=LOOP,
                value=theirs / mine,
                unit="x its speed",
                at_least=least,
                notes=f"{mine:.2f} and {theirs:.2f} s",
            )


def _loop_written(sequences: list[Any], logits: list[Any], path: Path) -> None:
    with h5py.File(path, "w") as file:
        for number, (one, own) in enumerate(zip(sequences, logits, strict=True)):
            group = file.create_group(f"structure_{number}")
            group["sequences"], group["logits"] = one, own
            group.attrs["structure_index"] = number
            group.attrs["num_samples"], group.attrs["num_noise_levels"] = one.shape[:2]
            group.attrs["sequence_length"] = one.shape[-1]


def _created(shapes: list[tuple[int, ...]], path: Path) -> None:
    """Create the same groups, attributes and datasets by HDF5's own functions, without values."""
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_libver_bounds(h5f.LIBVER_EARLIEST, h5f.LIBVER_LATEST)
    access.set_meta_block_size(8 * 2**20)
    file = h5f.create(str(path).encode(), h5f.ACC_TRUNC, fapl=access)
    early = h5p.create(h5p.DATASET_CREATE)
    early.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    early.set_fill_time(h5d.FILL_TIME_NEVER)
    scalar = h5s.create(h5s.SCALAR)
    for number, shape in enumerate(shapes):
        group = h5g.create(file, f"structure_{number}".encode())
        for name, kind, sizes in (
            (b"sequences", h5t.STD_I32LE, shape),
            (b"logits", h5t.IEEE_F32LE, (*shape, N_LETTERS)),
        ):
            h5d.create(group, name, kind, h5s.create_simple(sizes), dcpl=early)
        for name, value in (
            (b"structure_index", number),
            (b"num_samples", shape[0]),
            (b"num_noise_levels", shape[1]),
            (b"sequence_length", shape[2]),
        ):
            held = h5py.h5a.create(group, name, h5t.STD_I64LE, scalar)
            held.write(np.array(value))
    file.close()


def _written(path: Path, n: int, asked: Options, folder: Path) -> Iterator[Measure]:
    """Yield how much faster a file of so many groups is written."""
    case = f"write {n:,} structures"
    if not asked.wants(case):
        return
    with _threads():
        (ds,) = h5dask.compute(h5dask.open_dataset(path))
    ds.encoding.pop("h5dask", None)
    ends = np.cumsum(ds.row_size.values[::N_SAMPLES].astype(np.int64) * N_SAMPLES)
    lengths = ds.row_size.values[::N_SAMPLES].tolist()
    shapes = [(N_SAMPLES, 1, length) for length in lengths]
    sequences = [
        part.reshape(shape)
        for part, shape in zip(np.split(ds.sequences.values, ends[:-1]), shapes, strict=True)
    ]
    logits = [
        part.reshape(*shape, N_LETTERS)
        for part, shape in zip(np.split(ds.logits.values, ends[:-1]), shapes, strict=True)
    ]
    target = folder / "written.h5"

    def ours() -> None:
        with _threads():
            h5dask.write_dataset(ds, target, layout="proteins", overwrite=True)

    ways = {
        LOOP: lambda: _loop_written(sequences, logits, folder / "loop.h5"),
        "creating groups and datasets alone": lambda: _created(shapes, folder / "bare.h5"),
    }
    wanted = {LOOP: 3.0, "creating groups and datasets alone": 0.8}
    for name, peer in ways.items():
        mine, theirs = _in_turns(ours, peer, asked)
        yield Measure(
            case=case,
            against=name,
            value=theirs / mine,
            unit="x its speed",
            at_least=wanted[name],
            notes=f"{mine:.2f} and {theirs:.2f} s",
        )
    for name in ("written.h5", "loop.h5", "bare.h5"):
        (folder / name).unlink(missing_ok=True)


def _growth(rng: np.random.Generator, asked: Options, folder: Path) -> Iterator[Measure]:
    """Yield what each step of a campaign takes a structure, as there are more of them."""
    case = "growth: microseconds a structure"
    before: dict[str, float] = {}
    for n in GROWTH:
        path = folder / f"{n}.h5"
        ds = _drawn(rng, n, 1).load()

        def write(ds: xr.Dataset = ds, path: Path = path) -> None:
            h5dask.write_dataset(ds, path, layout="proteins", overwrite=True)

        def opened(path: Path = path) -> None:
            shutil.rmtree(folder / "cache", ignore_errors=True)
            h5dask.open_dataset(path)

        def padded(path: Path = path) -> None:
            h5dask.compute(h5dask.pad(h5dask.open_dataset(path)))

        def profiled(path: Path = path) -> None:
            h5dask.compute(h5dask.profile(h5dask.open_dataset(path)))

        for name, way in (
            ("write", write), ("open, cold", opened), ("open and pad", padded),
            ("open and profile", profiled),
        ):  # fmt: skip
            with _threads():
                _touch()
                runs = 1 if n == GROWTH[-1] else 3  # the last one is long enough to count alone
                each = min(timed(way) for _ in range(runs)) / n * 1e6
            yield Measure(
                case=case,
                against=f"{name}, {n:,} structures",
                value=each,
                unit="us",
                at_most=1.5 * before[name] if name in before and n == GROWTH[-1] else None,
            )
            before[name] = each
        if n == GROWTH[-1]:
            yield from _held(path, n, folder)
        path.unlink()


def _held(path: Path, n: int, folder: Path) -> Iterator[Measure]:
    """Yield what workers hold at most while all structures pass through them."""
    opened = h5dask.open_dataset(path)
    ways: dict[str, Way] = {
        "padding to Zarr": lambda: write_result(h5dask.pad(opened), folder / "padded.zarr"),
        "writing anew": lambda: h5dask.write_dataset(opened, folder / "anew.h5"),
        "profiles to Zarr": lambda: write_result(h5dask.profile(opened), folder / "profiles.zarr"),
    }
    for name, way in ways.items():
        yield Measure(
            case=f"{n:,} structures on two workers of 1 GB",
            against=f"a worker's limit, {name}",
            value=_on_workers(way)[1] / WORKER,
            unit="of it at the peak",
            at_most=1.0,
        )


if __name__ == "__main__":
    given = options(__doc__)
    report("Proteins", measures(given), given)
