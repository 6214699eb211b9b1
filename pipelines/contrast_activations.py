"""Activation files -> statistics, contrast vectors, logits compared, a normalised copy, reports.

python -m pipelines.contrast_activations CONFIG
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import xarray as xr

import h5dask
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
    writes,
)


@dataclass(frozen=True, kw_only=True)
class Comparing:
    """What is compared with what."""

    pairs: list[list[str]] = field(default_factory=list)
    """Pairs of "scenario" or "scenario/branch"; found by their names without any."""
    paired: bool = True
    """Compare records of the same sample, which both sides must have then."""
    layers: list[int] = field(default_factory=list)
    """Layers to look at; all of them without any."""
    seed: int = 0
    """Divides samples into halves, of which one judges the other's vector."""


@dataclass(frozen=True, kw_only=True)
class Logits:
    """What is told of each record's logits."""

    tokens: list[int] = field(default_factory=list)
    """Tokens whose probability and rank are told."""
    top: int = 5
    """Most probable tokens that are told."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Activations, and what tells their scenarios apart."""

    landing: Input
    """Folder or pattern of files in the layout activations."""
    output: Output
    """Folder of the results, a folder a kind."""
    compare: Comparing = field(default_factory=Comparing)
    logits: Logits = field(default_factory=Logits)
    normalize: Literal["l2", "zscore", "center", "minmax", "none"] = "zscore"
    """Scale of the copy: vectors of length 1, or by the statistics of each layer's values."""
    storage_options: StoreOptions = None
    """How stores are reached, as fsspec takes it; credentials as "${NAME}", if at all."""
    policy: Policy = field(default_factory=Policy)


def described(job: Job) -> None:
    """Write statistics of activations and logits by scenario."""
    ds = _opened(job)
    over = {"activations": ["record", "hidden"], "logits": ["record", "vocab"]}
    parts = [h5dask.summarize(ds[[name]], dims, by="scenario") for name, dims in over.items()]
    with job.stage("summarize", nbytes=ds.nbytes):
        job.write_result(xr.merge(h5dask.compute(*parts), compat="no_conflicts"))


def contrasted(job: Job) -> None:
    """Write the vectors between paired scenarios, labelled and as a plain array."""
    ds = _opened(job)
    if not _comparable(ds):
        return job.make_nothing("there is one set of records alone")
    given = dict(job.parameters)
    given |= {"pairs": given["pairs"] or None, "layers": given["layers"] or None}
    with job.stage("contrast", nbytes=2 * ds.activations.nbytes):
        (found,) = h5dask.compute(h5dask.contrast(ds.activations, **given))
    job.write_result(found)
    with open(job.part(ending=".npy"), "wb") as file:
        np.save(file, found.vector.values, allow_pickle=False)
    return None


def judged(job: Job) -> None:
    """Write what each record's logits say."""
    ds = _opened(job)
    with job.stage("logits", nbytes=ds.logits.nbytes):
        (found,) = h5dask.compute(h5dask.logit_statistics(ds.logits, **job.parameters))
    job.write_result(found)


def compared(job: Job) -> None:
    """Write how far the logits of paired records differ."""
    ds = _opened(job)
    if not _comparable(ds):
        return job.make_nothing("there is one set of records alone")
    with job.stage("compare", nbytes=ds.logits.nbytes):
        (found,) = h5dask.compute(h5dask.compare_logits(ds.logits, job.parameters["pairs"] or None))
    return job.write_result(found)


def normalized(job: Job) -> None:
    """Write the activations on a common scale, all else as it was."""
    ds, how = _opened(job), job.parameters["how"]
    dim = "hidden" if how == "l2" else "record"
    fitted = None
    with job.stage("fit", nbytes=ds.activations.nbytes):
        if how != "l2":
            fitted = h5dask.fit(ds.activations, how, dim=dim, compute=h5dask.compute)
    made = h5dask.normalize(ds.activations, how, dim=dim, fitted=fitted)
    job.write(ds.assign(activations=made))


def drawn(job: Job) -> None:
    """Draw what a file holds, and what its scenarios differ in."""
    with job.stage("report"):
        ds = _opened(job)
        h5dask.write_report(ds, job.part(), compute=h5dask.compute)


def _opened(job: Job) -> xr.Dataset:
    return h5dask.open_dataset(job.urls, layout="activations", storage_options=job.storage_options)


def _comparable(ds: xr.Dataset) -> bool:
    return len(set(zip(ds.scenario.values, ds.branch.values, strict=True))) > 1


def expected(given: Config) -> Iterator[tuple[xr.Dataset, list[Any]]]:
    """Yield what all steps would cost."""
    reached = given.storage_options

    def opened(urls: list[str]) -> xr.Dataset:
        return h5dask.open_dataset(urls, layout="activations", storage_options=reached)

    for ds in openable(files_in(given.landing), opened, reached):
        values = ds[["activations", "logits"]]
        stages = [reads(values, stage) for stage in ("summarize", "compare")]
        yield ds, [*stages, writes(ds, "write")]


@pipeline(Config, expected=expected)
def main(given: Config, steps: Steps) -> None:
    """Tell what the scenarios of CONFIG's activation files differ in, file by file.

    Only new or changed files are worked on. A bad one is set aside, and the exit code is 1.
    """
    files, told = files_in(given.landing), asdict(given.compare)
    folder = {name: os.path.join(given.output, name) for name in ("statistics", "contrasts",
              "logits", "comparisons", "normalized", "reports")}  # fmt: skip
    steps.each(described, files, folder["statistics"], ".nc")
    steps.each(contrasted, files, folder["contrasts"], ".nc", **told)
    steps.each(judged, files, folder["logits"], ".nc", **asdict(given.logits))
    steps.each(compared, files, folder["comparisons"], ".nc", pairs=given.compare.pairs)
    if given.normalize != "none":
        steps.each(normalized, files, folder["normalized"], how=given.normalize)
    steps.each(drawn, files, folder["reports"], ".html")


if __name__ == "__main__":
    sys.exit(main())
