"""Activation files -> episodes for their viewer -> a benchmark with true neighbors, and reports.

python -m pipelines.embed_activations CONFIG
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

import h5dask
from h5dask.errors import Refused
from h5dask.pipeline import (
    Input,
    Job,
    Output,
    Policy,
    Steps,
    StoreOptions,
    files_in,
    openable,
    pipeline,
    reads,
    refuse_wrong,
    searches,
)

_UNUSED = ("logits", "matching_answers", "non_matching_answers")
"""What an embedding isn't made of."""


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """What of each record becomes its embedding."""

    layers: list[int] | Literal["last", "all"] = "last"
    """Layers whose mean is taken: [13], or [3, 13]."""
    take: list[str] = field(default_factory=list)
    """Scenarios, or "scenario/branch", whose records are taken; all without any."""
    normalize: bool = True
    """Give each embedding the length 1."""
    dtype: Literal["float32", "float64"] = "float32"
    """Of the embeddings, and of the mean."""
    allow_large: bool = False
    """Write one file an input, also where the episodes' viewer finds it too wide or too large."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """The benchmark that is made of all embeddings."""

    k: int = 10
    """Neighbors of each query."""
    metric: Literal["euclidean", "ip", "angular"] = "euclidean"
    """What near means."""
    test_size: int | float = 0.1
    """How many embeddings, or what share of them, become queries."""
    seed: int = 0
    """Chooses them."""
    labels: Literal["scenario", "branch", "none"] = "scenario"
    """What neighbors have in common with their query. Names are numbered in their order."""
    clip_k: bool = False
    """Keep fewer neighbors where the rarest label of a query has fewer embeddings."""
    sample: int = 100
    """Queries whose neighbors are verified, chosen at random; none with 0."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Activations as embeddings to look at and to search in."""

    landing: Input
    """Folder or pattern of files in the layout activations."""
    output: Output
    """Folder of episodes/, benchmark.h5, and their reports episodes.html and benchmark.html."""
    embed: Embedding = field(default_factory=Embedding)
    search: Search = field(default_factory=Search)
    storage_options: StoreOptions = None
    """How stores are reached, as fsspec takes it; credentials as "${NAME}", if at all."""
    policy: Policy = field(default_factory=Policy)


def embedded(job: Job) -> None:
    """Write the records of one file that are chosen and sound as episodes."""
    how, (url,) = Embedding(**job.parameters), job.urls
    reached = job.storage_options
    problems = h5dask.validate(url, layout="activations", storage_options=reached)
    job.notes += [str(problem) for problem in problems]
    ds = _chosen(_opened(url, reached), how)
    if not ds.sizes["record"]:
        return job.make_nothing(f"no record is of {', '.join(how.take) or 'any scenario'}")
    ds = _episodes(ds, how.dtype, Path(url).stem)
    with job.stage("scan", nbytes=ds.embeddings.nbytes):
        (found,) = h5dask.compute(h5dask.scan(ds[["embeddings"]]))
    kept = h5dask.drop_bad_rows(ds, found)
    n_read, n_left = ds.sizes["episode"], kept.sizes["episode"]
    job.counts.update(read=n_read, lost=n_read - n_left)
    kinds = ("nan", "posinf", "neginf", "zero_rows")
    job.counts.update({kind: int(found[kind].sum()) for kind in kinds})
    if not n_left:
        return job.make_nothing("no record is left")
    if how.normalize:
        kept = kept.assign(embeddings=h5dask.normalize(kept.embeddings, dim="feature"))
    return job.write(kept, within_limits=True, allow_large=how.allow_large)


def _opened(urls: str | list[str], reached: Mapping[str, Any] | None) -> xr.Dataset:
    return h5dask.open_dataset(
        urls, layout="activations", drop_variables=_UNUSED, storage_options=reached
    )


def _chosen(ds: xr.Dataset, how: Embedding) -> xr.Dataset:
    """Return the records of the named scenarios, or branches of one, and the named layers."""
    scenario = ds.scenario.values.astype(str)
    both = np.char.add(np.char.add(scenario, "/"), ds.branch.values.astype(str))
    named = np.isin(scenario, how.take) | np.isin(both, how.take)
    there = ds.layer.values.tolist()
    known = {"last": there[-1:], "all": there}
    layers = known[how.layers] if isinstance(how.layers, str) else how.layers
    unfit = [layer for layer in layers if layer not in there]
    if unfit or not layers:
        raise Refused(f"embed.layers: found {unfit}; expected of {there}")
    return ds.isel(record=np.flatnonzero(named | (not how.take))).sel(layer=layers)


def _embeddings(ds: xr.Dataset, dtype: str) -> xr.DataArray:
    """Return a vector a record (record, hidden), NaN where one of its layers has NaN."""
    values: xr.DataArray = ds.activations.astype(dtype)  # float16 overflows in sums
    return values.mean("layer", skipna=False)


def _episodes(ds: xr.Dataset, dtype: str, source: str) -> xr.Dataset:
    """Return records as episodes, whose ids and metadata tell where each came from."""
    labels = {name: ds[name].values for name in ("scenario", "branch", "sample")}
    ids = ["/".join(filter(None, map(str, one))) for one in zip(*labels.values(), strict=True)]
    told = {**labels, "prompt": ds.prompts.data, "source": np.full(len(ids), source, object)}
    return xr.Dataset(
        {
            "embeddings": (("episode", "feature"), _embeddings(ds, dtype).data),
            **{f"metadata_{name}": ("episode", values) for name, values in told.items()},
        },
        coords={"episode_ids": ("episode", np.array(ids, object))},
    )


def found(job: Job) -> None:
    """Write a benchmark of all embeddings, of which a sample is verified before it is published."""
    told, reached = dict(job.parameters), job.storage_options
    kind, sample = told.pop("labels"), told.pop("sample")
    base, labels = h5dask.open_vectors(job.urls, storage_options=reached), None
    if kind != "none":
        ds = h5dask.open_dataset(job.urls, layout="episodes", storage_options=reached)
        names, labels = np.unique(ds[f"metadata_{kind}"].values.astype(str), return_inverse=True)
        job.notes += [f"label {number} is {name}" for number, name in enumerate(names)]
    job.write(h5dask.ground_truth(base, base_labels=labels, compute=job.keep, **told))
    made = h5dask.open_dataset(job.part())
    with job.stage("verify", nbytes=2 * made.train.nbytes):
        if sample:
            refuse_wrong(h5dask.verify(made, sample=sample, compute=h5dask.compute), job.output)
    counted = {"vectors": "vector", "queries": "query", "neighbors": "neighbor"}
    job.counts.update({name: made.sizes[dim] for name, dim in counted.items()})


def drawn(job: Job) -> None:
    """Draw what the results hold."""
    with job.stage("report"):
        ds = h5dask.open_dataset(job.urls, storage_options=job.storage_options)
        h5dask.write_report(ds, job.part(), compute=h5dask.compute)


def expected(given: Config) -> Iterator[tuple[xr.Dataset, list[Any]]]:
    """Yield what embedding and searching would cost."""
    reached, search = given.storage_options, given.search

    def opened(urls: list[str]) -> xr.Dataset:
        return _chosen(_opened(urls, reached), given.embed)

    for ds in openable(files_in(given.landing), opened, reached):
        values = ds[["activations"]]
        base = _embeddings(ds, given.embed.dtype).rename(record="vector", hidden="feature")
        n = search.test_size if isinstance(search.test_size, int) else search.test_size * len(base)
        query = base[: round(n)].rename(vector="query")
        costs = [reads(values, "scan"), reads(values, "write")]
        yield values, [*costs, searches(base, query, "search", k=search.k)]


@pipeline(Config, expected=expected)
def main(given: Config, steps: Steps) -> None:
    """Embed the records of CONFIG's activation files: episodes to look at, a benchmark of them all.

    Only new or changed files are worked on. A bad one is set aside, and the exit code is 1.
    """
    at = {name: os.path.join(given.output, name)
          for name in ("episodes", "episodes.html", "benchmark.h5", "benchmark.html")}  # fmt: skip
    files = steps.each(embedded, files_in(given.landing), at["episodes"], **asdict(given.embed))
    if not files:
        steps.progress.say("no record is left to embed")
        return
    steps.page(drawn, files, at["episodes.html"])
    benchmark = steps.one(found, files, at["benchmark.h5"], **asdict(given.search))
    steps.one(drawn, benchmark, at["benchmark.html"])


if __name__ == "__main__":
    sys.exit(main())
