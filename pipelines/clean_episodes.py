"""Landing folder -> episodes that their consumer takes: chosen, cleaned, of length 1, in its sizes.

python -m pipelines.clean_episodes CONFIG
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

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
    pipeline,
    reads,
    writes,
)


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What becomes of the episodes of each input."""

    where: str = ""
    """Which are taken, by metadata: success and dataset == "droid" and episode_length > 50."""
    sample: float = 1.0
    """Part of those that is taken, from 0 to 1, at random."""
    sample_by: str = ""
    """Metadata field of whose every value that part is taken; of all together without it."""
    seed: int = 0
    """The same seed takes the same episodes."""
    bad: Literal["drop", "repair"] = "drop"
    """What has NaN, infinity or a former episode's id: left out, or given zeros and a new id. Rows
    of zeros, which have no direction, are left out in any case."""
    drop: list[str] = field(default_factory=list)
    """Metadata fields and pictures that are left out, such as "gifs"."""
    normalize: bool = True
    """Give each embedding the length 1."""
    dtype: Literal["as stored", "float32", "float64"] = "as stored"
    """Of the embeddings that are written."""
    merge: str = ""
    """Name of one file for all inputs, with ids that begin with their data set."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Episodes of a landing folder, made ready for their consumer."""

    landing: Input
    """Folder or pattern of files in the layout episodes."""
    output: Output
    """Folder of the results and of report.html."""
    clean: Cleaning = field(default_factory=Cleaning)
    storage_options: StoreOptions = None
    """How stores are reached, as fsspec takes it; credentials as "${NAME}", if at all."""
    policy: Policy = field(default_factory=Policy)


def clean(job: Job) -> None:
    """Write the episodes of one file that are chosen and sound."""
    how, url = Cleaning(**job.parameters), job.urls[0]
    reached, left_out = job.storage_options, [*how.drop, *(f"metadata_{n}" for n in how.drop)]
    job.notes += [str(problem) for problem in h5dask.validate(url, storage_options=reached)]
    ds = h5dask.open_dataset(url, drop_variables=left_out, storage_options=reached)
    ds = ds.isel(episode=_chosen(ds, how))
    mended = ds.assign(embeddings=ds.embeddings.where(np.isfinite(ds.embeddings), 0))
    with job.stage("scan", nbytes=ds.embeddings.nbytes):
        asked = [h5dask.scan(ds[["embeddings"]])]
        if how.bad == "repair":
            asked.append(h5dask.scan(mended[["embeddings"]], ignore=["duplicates"]))
        found = h5dask.compute(*asked)
    if how.bad == "repair":
        ds = mended.assign(episode_ids=("episode", _distinct(ds.episode_ids.values)))
    n_read = ds.sizes["episode"]
    ds = h5dask.drop_bad_rows(ds, found[-1])
    job.counts.update(read=n_read, lost=n_read - ds.sizes["episode"])
    kinds = ("nan", "posinf", "neginf", "zero_rows", "duplicates")
    job.counts.update({kind: int(found[0][kind].sum()) for kind in kinds})
    if not ds.sizes["episode"]:
        return job.make_nothing("no episode is left")
    made = ds.embeddings if how.dtype == "as stored" else ds.embeddings.astype(how.dtype)
    if how.normalize:
        made = h5dask.normalize(made, dim="feature")
    ds = ds.assign(embeddings=made)
    return job.write(_named(ds, Path(url).stem) if how.merge else ds, within_limits=True)


def _chosen(ds: xr.Dataset, how: Cleaning) -> NDArray[Any]:
    """Return which episodes are taken, in their order."""
    fields = [name for name in ds.data_vars if str(name).startswith("metadata_")]
    table = pd.DataFrame({str(n).removeprefix("metadata_"): ds[n].values for n in fields})
    table = table.reindex(range(ds.sizes["episode"]))
    try:
        table = table.query(how.where) if how.where else table
        groups = table.groupby(how.sample_by) if how.sample_by else table
        return np.sort(groups.sample(frac=how.sample, random_state=how.seed).index.to_numpy())
    except (ValueError, KeyError, NameError, SyntaxError, TypeError) as error:
        raise Refused(
            f"clean.where, clean.sample_by: {error}; the fields are {', '.join(table)}"
        ) from None


def _distinct(ids: NDArray[Any]) -> NDArray[Any]:
    """Return ids of which those that were there before have something added."""
    ids = ids.astype(object)
    while (twice := pd.Index(ids).duplicated()).any():
        ids[twice] = ids[twice] + "#2"
    return ids


def _named(ds: xr.Dataset, stem: str) -> xr.Dataset:
    """Fill in the data set of each episode, and begin its id with it."""
    told = ds.get("metadata_dataset", xr.full_like(ds.episode_ids, "", dtype=object)).values
    names = np.where(told.astype(bool), told, stem).astype(object)
    ids = names + "/" + ds.episode_ids.values.astype(object)
    return ds.assign(metadata_dataset=("episode", names), episode_ids=("episode", ids))


def merged(job: Job) -> None:
    """Write the cleaned files end to end."""
    ds = h5dask.open_dataset(job.urls, storage_options=job.storage_options)
    job.write(ds.drop_vars("source", errors="ignore"), within_limits=True)


def drawn(job: Job) -> None:
    """Draw what the results hold."""
    with job.stage("report"):
        ds = h5dask.open_dataset(job.urls, storage_options=job.storage_options)
        h5dask.write_report(ds, job.part(), compute=h5dask.compute)


def expected(given: Config) -> Iterator[tuple[xr.Dataset, list[Any]]]:
    """Yield what cleaning would cost."""
    ds = h5dask.open_dataset(files_in(given.landing), storage_options=given.storage_options)
    yield ds, [reads(ds[["embeddings"]], "scan"), writes(ds, "write")]


@pipeline(Config, expected=expected)
def main(given: Config, steps: Steps) -> None:
    """Clean the episodes of CONFIG's landing folder: choose, drop or repair, normalise, report.

    Only new or changed files are worked on. A bad one is set aside, and the exit code is 1.
    """
    merge, told = given.clean.merge, asdict(given.clean)
    parts = os.path.join(given.output, "parts") if merge else given.output
    files = steps.each(clean, files_in(given.landing), parts, **told)
    if merge and files:
        files = steps.one(merged, files, os.path.join(given.output, merge))
    if files:
        steps.one(drawn, files, os.path.join(given.output, "report.html"))


if __name__ == "__main__":
    sys.exit(main())
