"""Vectors -> a benchmark whose neighbors are true and verified, and its report.

python -m pipelines.ground_truth CONFIG
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import xarray as xr

import h5dask
from h5dask.errors import LayoutError
from h5dask.pipeline import (
    Input,
    Job,
    Output,
    Policy,
    Steps,
    StoreOptions,
    open_labels,
    pipeline,
    reads,
    refuse_wrong,
    searches,
    writes,
)


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """The vectors of one side, and their labels."""

    file: Input
    """A .npy, .fbin, .u8bin, .i8bin, .fvecs, .bvecs, .parquet or .zarr, or a file of a layout."""
    variable: str = ""
    """Which variable, or column of parquet, they are; what the layout names without it."""
    select: list[tuple[str, str | int]] = field(default_factory=list)
    """Which of them, by coords: [["layer", 13], ["scenario", "base"]]."""
    labels: Input | str = ""
    """What labels each, so that neighbors have the query's label: a .npy of whole numbers or text,
    or a variable of the file, such as "metadata_task". Text is numbered in its order."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched for, and among which vectors."""

    k: int = 100
    """Neighbors of each query."""
    metric: Literal["euclidean", "ip", "angular"] = "euclidean"
    """What near means."""
    test_size: int | float | None = None
    """Without queries of their own: how many of the base, or what share of it, become queries."""
    seed: int = 0
    """Chooses them."""
    base_rows: int | None = None
    """Take the first so many of the base only."""
    quantize: Literal["int8"] | None = None
    """Round all values to whole numbers from -127 to 127."""
    relabel: bool = False
    """Number the labels from 0 in their order."""
    clip_k: bool = False
    """Keep fewer neighbors where the rarest label of a query has fewer vectors."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """A benchmark of vectors and their true neighbors."""

    output: Output
    """The benchmark, an .h5; its report lies beside it, in .html."""
    sample: int = 100
    """Queries whose neighbors are verified, chosen at random; none with 0."""
    base: Vectors
    """What is searched."""
    query: Vectors | None = None
    """What is searched for; without it, some of the base."""
    search: Search = field(default_factory=Search)
    storage_options: StoreOptions = None
    """How stores are reached, as fsspec takes it; credentials as "${NAME}", if at all."""
    policy: Policy = field(default_factory=Policy)


def found(job: Job) -> None:
    """Write vectors, labels and true neighbors, and verify a sample before it is published."""
    told, reached = job.parameters, job.storage_options
    base, labels = _opened(Vectors(**told["base"]), reached)
    query, own = _opened(told["query"] and Vectors(**told["query"]), reached)
    search, sample = dict(told["search"]), told["sample"]
    search["relabel"] |= labels is not None and labels.dtype.kind not in "iu"
    ds = h5dask.ground_truth(
        base, query, base_labels=labels, query_labels=own, compute=job.keep, **search
    )
    job.write(ds)
    made = h5dask.open_dataset(part := job.part())
    with job.stage("verify", nbytes=2 * made.train.nbytes):
        if sample:
            verified = h5dask.verify(made, sample=sample, compute=h5dask.compute)
            refuse_wrong(verified, job.output)
        if problems := h5dask.validate(part, values=True):
            raise LayoutError("\n".join(map(str, problems)))
    counted = {"vectors": "vector", "queries": "query", "neighbors": "neighbor"}
    job.counts.update({name: made.sizes[dim] for name, dim in counted.items()})
    job.counts.update(certified=int(made.attrs["certified"]))


def drawn(job: Job) -> None:
    """Draw what the benchmark holds."""
    with job.stage("report"):
        ds = h5dask.open_dataset(job.urls, storage_options=job.storage_options)
        h5dask.write_report(ds, job.part(), compute=h5dask.compute)


def _opened(side: Vectors | None, reached: Mapping[str, Any] | None) -> tuple[Any, Any]:
    """Return vectors and their labels, None for what there isn't."""
    if side is None:
        return None, None
    select, variable = dict(side.select), side.variable or None
    vectors = h5dask.open_vectors(
        side.file, variable=variable, select=select, storage_options=reached
    )
    if not side.labels:
        return vectors, None
    return vectors, open_labels(side.labels, side.file, select, storage_options=reached)


def expected(given: Config) -> Iterator[tuple[xr.Dataset, list[Any]]]:
    """Yield what searching, writing and verifying would cost."""
    search, reached = given.search, given.storage_options
    (base, _), (query, _) = _opened(given.base, reached), _opened(given.query, reached)
    base = base[: search.base_rows]
    if query is None:  # which ones are taken is all one to the cost
        size = search.test_size or 0
        query = base[: size if isinstance(size, int) else round(size * len(base))]
    ds = xr.Dataset({"train": base.variable, "test": (("query", "feature"), query.data)})
    costs = [searches(base, query, "search", k=search.k), writes(ds, "write")]
    if given.sample:
        costs += [searches(base, query[: given.sample], "verify", k=search.k)]
        costs += [reads(ds[["train"]], "verify")]
    yield ds, costs


def _files(path: str) -> str:
    """Return the pattern of all files of a folder such as .zarr, and a file as it is."""
    is_folder = path.endswith(".zarr") if "://" in path else os.path.isdir(path)
    return os.path.join(path, "**") if is_folder else path


@pipeline(Config, expected=expected)
def main(given: Config, steps: Steps) -> None:
    """Find the true neighbors among CONFIG's vectors; write a benchmark of them, and its report.

    A run that was killed goes on where it was. What a sample shows to be wrong isn't published.
    """
    sides = [side for side in (given.base, given.query) if side is not None]
    read = [
        *(one.file for one in sides),
        *(one.labels for one in sides if one.labels.endswith(".npy")),
    ]
    told = {name: asdict(given)[name] for name in ("base", "query", "search", "sample")}
    files = steps.one(found, map(_files, read), given.output, **told)
    if files:
        steps.one(drawn, files, os.path.splitext(given.output)[0] + ".html")


if __name__ == "__main__":
    sys.exit(main())
