"""The main job from end to end, over files of every layout, on a cluster of local processes."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.system import CPU_COUNT

from h5dask import layouts
from h5dask.errors import AccessDenied, Conflict
from h5dask.fasta import read_fasta, write_fasta
from h5dask.joining import concat
from h5dask.layout import Layout
from h5dask.losses import compute
from h5dask.ops.findings import KINDS
from h5dask.ops.residues import profile
from h5dask.ops.scanning import scan
from h5dask.progress import Progress
from h5dask.reading.reader import identify, open_dataset, validate
from h5dask.telling.summaries import summaries
from h5dask.telling.wrong_neighbors import sentence
from h5dask.testing import assert_same_form, example_file
from h5dask.truth import ground_truth
from h5dask.truth.verifying import is_right, verify
from h5dask.writing.writer import write_dataset

if TYPE_CHECKING:
    from rich.table import Table

FILES = Path(__file__).parent / "demo_files"
"""Real files that come with the package, a folder a layout."""

MOST_WORKERS = 4
"""Worker processes where none are asked for; a demo needs no more."""

MOST_QUERIES, MOST_NEIGHBORS = 100, 10
"""Vectors of a file that are searched for among the others, and what is found for each."""

FASTA = ".fasta"
"""How the name of a file of written sequences ends."""

MOST_COPIES = 32
"""Copies of a file that are laid end to end at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What happened to one file."""

    file: str
    """Its name."""
    layout: str
    """Name of its layout."""
    rows: int
    """Rows along the dim in which such files grow."""
    nbytes_in: int
    """Bytes of the file that was read."""
    nbytes_out: int
    """Bytes of the file that was written."""
    bad: int
    """Values, vectors and texts of the input that are bad: NaN, infinite, zero, empty, double."""
    searched: int
    """Vectors of the input whose true neighbors among the others were found and verified."""
    profiled: int
    """Sequences of the input that were profiled, and written as FASTA and read back."""
    problems: tuple[str, ...]
    """What is wrong with the input or the result, or differs between them."""
    seconds: float
    """From opening the one to comparing the other."""

    def as_json(self) -> dict[str, Any]:
        """Return it as values that JSON can hold."""
        return asdict(self)


def n_workers() -> int:
    """Return the worker processes that suit this machine where none are asked for."""
    return min(CPU_COUNT, MOST_WORKERS)


def run(*, scale: int, keep: str | None = None, progress: Progress) -> tuple[Stage, ...]:
    """Run the main job over the real files and one generated file of each layout.

    Parameters
    ----------
    scale : int
        Bytes up to which a file is generated.
    keep : str, optional
        New or empty folder where generated and written files stay; without it they go one by one.
    progress : Progress
        Shows what is going on.

    Raises
    ------
    Conflict, AccessDenied
        The folder to keep files in holds something already, or can't be made.
    """
    if keep is not None:
        _make_empty(keep)
    stages = []
    with ExitStack() as stack:
        scratch = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="h5dask-demo-", ignore_cleanup_errors=True)
        )
        stack.enter_context(_cache_in(os.path.join(scratch, "indexes")))
        files, real = Path(keep or scratch), _real_files()
        for layout in layouts.all_layouts():
            paths = real.get(layout.name) or [Path(example_file(layout.name))]
            for path in _inputs(layout, paths, files / "generated", scale):
                stage = _stage(layout, path, files / "written", progress)
                progress.say(
                    f"{stage.layout}: {stage.file}, {_outcome(stage)} in {stage.seconds:.1f} s"
                )
                stages.append(stage)
                if keep is None:
                    for written in (files / "written").iterdir():
                        written.unlink()
                    if path.is_relative_to(files):
                        path.unlink()
    return tuple(stages)


def _make_empty(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        held = os.listdir(folder)
    except OSError as error:
        raise AccessDenied(f"{folder}: {error.strerror}; name another folder") from None
    if held:
        raise Conflict(f"{folder}: is not empty, holds {held[0]!r}; name a new folder")


def _outcome(stage: Stage) -> str:
    return f"{len(stage.problems)} problems" if stage.problems else "no problems"


@contextmanager
def _cache_in(folder: str) -> Iterator[None]:
    """Remember indexes in a folder that goes with the run."""
    before = os.environ.get("H5DASK_CACHE")
    os.environ["H5DASK_CACHE"] = folder
    try:
        yield
    finally:
        del os.environ["H5DASK_CACHE"]
        if before is not None:
            os.environ["H5DASK_CACHE"] = before


def _real_files() -> dict[str, list[Path]]:
    """Return the files that come with the package by the name of their layout."""
    found: dict[str, list[Path]] = {}
    for path in sorted(FILES.glob("*/*.h*5")):
        found.setdefault(identify(path), []).append(path)
    return found


def _inputs(layout: Layout, paths: Sequence[Path], folder: Path, scale: int) -> Iterator[Path]:
    """Yield the files that there are of a layout, and a larger one that is made of them."""
    yield from paths
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{layout.name}_generated.h5"
    if layout.along is not None:
        _repeat(layout, max(paths, key=lambda path: path.stat().st_size), target, scale)
    elif grow := GROWN_BY.get(layout.name):
        grow(paths, target, scale)
    if target.exists():
        yield target


def _repeat(layout: Layout, path: Path, target: Path, scale: int) -> None:
    """Write a file many times end to end, by a few copies and then copies of those."""
    while (n := _copies(layout, path, scale)) > 1:
        write_dataset(_end_to_end(layout, path, n), target, overwrite=True)
        path = target


def _copies(layout: Layout, path: Path, scale: int) -> int:
    """Return how many copies are within the scale and within what the layout's consumer takes."""
    nbytes, along = path.stat().st_size, str(layout.along)
    n = min(scale // nbytes, MOST_COPIES)
    sizes = {str(dim): size for dim, size in open_dataset(path).sizes.items()}
    while n > 1 and layout.limits is not None:
        if not list(layout.limits({**sizes, along: sizes[along] * n}, nbytes * n)):
            break
        n -= 1
    return n


def _end_to_end(layout: Layout, path: Path, n: int) -> xr.Dataset:
    """Return a file several times end to end; texts that tell its rows apart stay distinct."""
    once, along = open_dataset(path), str(layout.along)
    ds = concat([once] * n)
    for name, coord in once.coords.items():
        if coord.dims == (along,) and coord.dtype == object:
            values = coord.values
            if len(set(values)) == len(values):
                copies = [f"{value}/{copy}" for copy in range(n) for value in values]
                ds = ds.assign_coords({name: (along, np.array(copies, object))})
    return ds


def _set_farther(paths: Iterable[Path], target: Path, scale: int) -> None:
    """Write a benchmark with many more vectors, too far off to be anyone's neighbors."""
    for path in paths:
        ds = open_dataset(path)
        row = ds.train[:1].nbytes
        n, d = scale // row - ds.sizes["vector"], ds.sizes["feature"]
        if ds.attrs["distance"] == "euclidean" and "train_labels" not in ds and n > 0:
            far = da.random.default_rng(0).standard_normal((n, d), chunks=("auto", -1)) + 1e4
            train = da.concatenate([ds.train.data, far.astype(ds.train.dtype)])
            grown = ds.drop_vars("train").assign(train=(ds.train.dims, train))
            write_dataset(grown, target)
            return


GROWN_BY = {"ann": _set_farther}
"""How layouts grow whose files can't lie end to end."""


def _stage(layout: Layout, path: Path, folder: Path, progress: Progress) -> Stage:
    """Open, validate, summarize, search and write one file, and compare the result with it."""
    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / path.name
    ds = open_dataset(path)
    step = partial(progress.stage, nbytes=path.stat().st_size)
    with step(f"check {path.name}", counted="check-"):
        problems = [str(problem) for problem in validate(path, values=True)]
    with step(f"summarize {path.name}"):
        figures, found = _figures(ds)
    with step(f"search {path.name}"):
        searched, wrong = _searched(layout, ds)
        problems += [f"{path}: {told}" for told in wrong]
    with step(f"profile {path.name}"):
        profiled, wrong = _profiled(ds, target.with_suffix(FASTA))
        problems += [f"{path}: {told}" for told in wrong]
    with step(f"write {path.name}", counted="write-"):
        write_dataset(ds, target)
    with step(f"check written {path.name}", counted="check-"):
        problems += [str(problem) for problem in validate(target, values=True)]
    with step(f"compare {path.name}"):
        again, _ = _figures(open_dataset(target))
        problems += _differences(path, target, figures, again)
    return Stage(
        file=path.name,
        layout=layout.name,
        rows=_rows(layout, ds),
        nbytes_in=path.stat().st_size,
        nbytes_out=target.stat().st_size,
        bad=found,
        searched=searched,
        profiled=profiled,
        problems=tuple(problems),
        seconds=time.perf_counter() - started,
    )


def _figures(ds: xr.Dataset) -> tuple[xr.Dataset, int]:
    """Return statistics of every number, and how many values, vectors or texts are bad."""
    figures, found = compute(summaries(ds), scan(ds))
    return figures, sum(int(found[kind].sum()) for kind in KINDS)


def _searched(layout: Layout, ds: xr.Dataset) -> tuple[int, list[str]]:
    """Return how many vectors were searched for among the others, and what is wrong with that."""
    if layout.vectors is None:
        return 0, []
    x = ds[layout.vectors]
    vectors = x.isel(dict.fromkeys(x.dims[1:-1], 0))
    n = min(MOST_QUERIES, len(vectors) // 2)
    k = min(MOST_NEIGHBORS, len(vectors) - n)
    found = verify(ground_truth(vectors, k=k, test_size=n, compute=compute), compute=compute)
    return n, [] if is_right(found) else [sentence(found)]


def _profiled(ds: xr.Dataset, target: Path) -> tuple[int, list[str]]:
    """Return how many sequences have profiles and records, and what is wrong with these."""
    if "sequences" not in ds:
        return 0, []
    found = profile(ds)
    weights = xr.DataArray(np.repeat(found.n_samples.values, found.row_size), dims="position")
    write_fasta(ds, target, score=found.get("score"))
    letters, counted = compute(ds.sequences, found.frequency.dot(weights))
    wrong = []
    if not np.allclose(counted, np.bincount(letters, minlength=len(counted)), rtol=1e-5):
        wrong.append(f"profiles count amino acids as {counted.values!r}, which they aren't")
    if not np.array_equal(read_fasta(target).sequences, letters):
        wrong.append(f"{target} holds other sequences")
    return ds.sizes["sequence"], wrong


def _differences(path: Path, target: Path, before: xr.Dataset, after: xr.Dataset) -> list[str]:
    """Return what the result has otherwise than its input; sums differ in their last digits."""
    found = [
        f"{target}: {name} is {after[name].values!r}, in {path} {before[name].values!r}"
        for name in before
        if not np.allclose(before[name], after[name], rtol=1e-12, atol=1e-12, equal_nan=True)
    ]
    try:
        assert_same_form(str(path), str(target))
    except AssertionError as error:
        found.append(f"{target}: has another form than {path} ({error})")
    return found


def _rows(layout: Layout, ds: xr.Dataset) -> int:
    """Return the rows along the dim in which such files grow: the longest one, if none is named."""
    return int(ds.sizes[layout.along] if layout.along else max(ds.sizes.values()))


def table(stages: Sequence[Stage]) -> Table:
    """Return the closing table, to print with rich: a row a file, and the sums."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, show_footer=True)
    made.add_column("file", footer=f"{len(stages)} files")
    made.add_column("layout")
    columns: dict[str, list[str]] = {"rows": [f"{stage.rows:,}" for stage in stages] + [""]}
    for name, numbers, said in (
        ("MB in", [stage.nbytes_in for stage in stages], _megabytes),
        ("MB out", [stage.nbytes_out for stage in stages], _megabytes),
        ("bad values", [stage.bad for stage in stages], "{:,}".format),
        ("searched", [stage.searched for stage in stages], "{:,}".format),
        ("profiled", [stage.profiled for stage in stages], "{:,}".format),
        ("problems", [len(stage.problems) for stage in stages], "{:,}".format),
        ("seconds", [stage.seconds for stage in stages], "{:.1f}".format),
    ):
        columns[name] = [said(number) for number in (*numbers, sum(numbers))]
    for name, cells in columns.items():
        made.add_column(name, footer=cells[-1], justify="right")
    for stage, *cells in zip(stages, *columns.values(), strict=False):
        made.add_row(stage.file, stage.layout, *cells)
    return made


def _megabytes(nbytes: int) -> str:
    return f"{nbytes / 1e6:,.2f}"
