"""Files of a design campaign -> one file, padded arrays, profiles, FASTA and a report.

python -m pipelines.merge_campaign CONFIG
"""

from __future__ import annotations

import glob
import io
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import xarray as xr

import h5dask
from h5dask.errors import LayoutError, NotFound
from h5dask.pipeline import (
    Input,
    Job,
    NothingToDo,
    Output,
    Policy,
    Steps,
    StoreOptions,
    content_of,
    files_in,
    names_of,
    openable,
    pipeline,
    reads,
    writes,
)

_NOTED = 20
"""Problems of a file that its record names."""
_ORIGIN = ("structure", "source", "source_structure", "structure_id")
"""Columns of merged.csv."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sampled sequences of a campaign, whose files come over days."""

    landing: Input
    """Folder or pattern of files in the layout proteins."""
    output: Output
    """Folder of merged.h5, merged.csv (where each structure came from), padded.zarr, profiles.zarr,
    sequences.fasta and report.html. Structures keep the numbers they were once given there."""
    settle: float = 300.0
    """Seconds after which a file counts that no longer changes; at once where its .done.json is
    there."""
    duplicates: Literal["keep", "refuse"] = "keep"
    """What becomes of structures that are there several times: of one name, or of one number among
    those without."""
    reference: Input | str = ""
    """FASTA, or file in the layout proteins, of one sequence a structure, by name or number."""
    storage_options: StoreOptions = None
    """How stores are reached, as fsspec takes it; credentials as "${NAME}", if at all."""
    policy: Policy = field(default_factory=Policy)


def looked_at(job: Job) -> None:
    """Write down what one file holds; one that can't be merged is set aside."""
    (url,) = job.urls
    with job.stage("validate"):
        found = h5dask.validate(
            url, layout="proteins", values=True, storage_options=job.storage_options
        )
    job.notes += [str(problem) for problem in found[:_NOTED]]
    wrong = [str(problem) for problem in found if problem.where.endswith("sequences")]
    if wrong:
        raise LayoutError("\n".join(wrong))
    ds = _opened(url, job)
    told = {"url": url, "structures": len(set(ds.structure.values)), "problems": len(found)}
    Path(job.part()).write_text(json.dumps(told), encoding="utf-8")


def merged(job: Job) -> None:
    """Write the structures of all files end to end; what is merged already isn't read from them.

    A structure keeps the number it was once given, also where its file comes again; those that
    are new are numbered on. Those of files that are gone stay, if vanished is "keep".
    """
    before, known = _before(job)
    former = {} if job.former is None else {x["url"]: x["fingerprint"] for x in job.former.inputs}
    there = set(known.source)
    same = {one.url for one in job.inputs if former.get(one.url) == one.fingerprint} & there
    new = [url for url in job.urls if url not in same]
    gone = ~known.source.isin(job.urls) & (job.parameters["vanished"] == "keep")
    staying = known[known.source.isin(same) | gone]
    if gone.any():
        job.notes.append(f"{gone.sum()} structures of files that aren't there any more stay")
    parts = [] if before is None or staying.empty else [_stayed(before, staying)]
    parts += [_numbered(_opened(new, job), known)] if new else []
    ds = h5dask.concat(parts, duplicates=job.parameters["duplicates"])
    origins = _origins(ds)
    origins.to_csv(job.part(ending=".csv"), index=False)
    job.counts.update(
        structures=len(origins), sequences=ds.sizes["sequence"], residues=ds.sizes["residue"]
    )
    job.write(ds.drop_vars("source", errors="ignore"))


def _opened(urls: str | list[str], job: Job) -> xr.Dataset:
    return h5dask.open_dataset(urls, layout="proteins", storage_options=job.storage_options)


def _before(job: Job) -> tuple[xr.Dataset | None, pd.DataFrame]:
    """Return what is merged, and where each structure of it came from."""
    table = os.path.splitext(job.output)[0] + ".csv"
    nothing = pd.DataFrame(columns=_ORIGIN)
    try:
        text = io.BytesIO(content_of(table, storage_options=job.storage_options))
        ds = _opened(job.output, job)
    except NotFound:
        return None, nothing
    known = pd.read_csv(text, keep_default_na=False, dtype={"source": str, "structure_id": str})
    if set(known.structure) != set(ds.structure.values.tolist()):
        job.notes.append(f"{job.output}: has other structures than {table}; all are numbered anew")
        return None, nothing
    return ds, known


def _stayed(ds: xr.Dataset, origins: pd.DataFrame) -> xr.Dataset:
    """Return some structures of the merged file, as of the files that they came from."""
    if len(origins) < len(set(ds.structure.values.tolist())):
        ds = ds.sel(structure=origins.structure.tolist())
    each = origins.set_index("structure").loc[ds.structure.values]
    return ds.assign_coords(
        source=("sequence", each.source.to_numpy(object)),
        source_structure=("sequence", each.source_structure.to_numpy("int64")),
    )


def _numbered(ds: xr.Dataset, known: pd.DataFrame) -> xr.Dataset:
    """Return structures by the numbers that they had, new ones behind all others."""
    if known.empty:
        return ds
    had = {(one.source, one.source_structure): one.structure for one in known.itertuples()}
    free = count(int(known.structure.max()) + 1)
    numbers = {}
    for one in _origins(ds).itertuples():
        number = had.get((one.source, one.source_structure))
        numbers[one.structure] = next(free) if number is None else number
    return h5dask.renumber(ds, numbers)


def _origins(ds: xr.Dataset) -> pd.DataFrame:
    """Return where each structure came from: its file, its number there, its name."""
    columns = {"structure": ds.structure.values}
    columns["source"] = ds.source.values if "source" in ds.coords else ds.encoding["source"]
    columns["source_structure"] = ds.get("source_structure", ds.structure).values
    columns["structure_id"] = ds.structure_id.values if "structure_id" in ds.coords else ""
    return pd.DataFrame(columns).drop_duplicates("structure")


def padded(job: Job) -> None:
    """Write all sequences as arrays of one length."""
    job.write_result(h5dask.pad(_opened(job.urls, job)))


def profiled(job: Job) -> None:
    """Write what the samples of each structure share, and how they score."""
    url, *natives = job.urls
    reference = _reference(natives[0], job.storage_options) if natives else None
    job.write_result(h5dask.profile(_opened(url, job), reference=reference))


def _reference(url: str, reached: Mapping[str, Any] | None) -> xr.Dataset:
    open_ = h5dask.open_dataset if url.endswith((".h5", ".hdf5")) else h5dask.read_fasta
    return open_(url, storage_options=reached)


def spelled(job: Job) -> None:
    """Write all sequences as letters, with their scores where there are logits."""
    profiles = _profiles(job)
    score = profiles.score.load() if "score" in profiles else None
    with job.stage("fasta"):
        h5dask.write_fasta(_opened(job.urls[0], job), job.part(), score=score, overwrite=True)


def _profiles(job: Job) -> xr.Dataset:
    url = job.parameters["profiles"]
    reached = job.storage_options if "://" in url else None
    found: xr.Dataset = xr.open_zarr(url, consolidated=False, storage_options=reached)
    return found


def drawn(job: Job) -> None:
    """Draw what the sequences are like, and how near a reference they are where there is one."""
    profiles = _profiles(job)
    names = [name for name in ("recovery", "consensus_recovery") if name in profiles]
    known = {name: (profiles[name].dims, profiles[name].values) for name in names}
    with job.stage("report"):
        ds = _opened(job.urls[0], job).assign(known)
        h5dask.write_report(ds, job.part(), compute=h5dask.compute)


def settled(
    landing: str, seconds: float, storage_options: StoreOptions = None
) -> tuple[list[str], list[str]]:
    """Return the files that count, and those that may still be written.

    A file is whole where `FILE.done.json`, or that of its stem, says so; else it counts once it
    hasn't changed for so many seconds and nobody has locked it. Partial files never count. An
    object in a store is whole as soon as it is there.
    """
    if "://" in landing:
        found = names_of(files_in(landing), storage_options=storage_options)
        return [url for url in found if ".partial." not in os.path.basename(url)], []
    whole: list[str] = []
    waiting: list[str] = []
    for path in sorted(glob.glob(files_in(landing))):
        stem = os.path.splitext(path)[0]
        if ".partial." in os.path.basename(path):
            continue
        is_done = any(os.path.exists(f"{one}.done.json") for one in (path, stem))
        is_locked = any(os.path.exists(f"{one}.lock") for one in (path, stem))
        is_still = time.time() - os.stat(path).st_mtime >= seconds and not is_locked
        (whole if is_done or is_still else waiting).append(path)
    return whole, waiting


def expected(given: Config) -> Iterator[tuple[xr.Dataset, list[Any]]]:
    """Yield what merging everything at once would cost."""
    reached = given.storage_options

    def opened(urls: list[str]) -> xr.Dataset:
        return h5dask.open_dataset(urls, layout="proteins", storage_options=reached)

    for ds in openable(_due(given)[0], opened, reached):
        costs = [reads(ds, "validate"), writes(ds, "merge"), reads(ds, "pad")]
        yield ds, [*costs, reads(ds, "profile")]


def _due(given: Config) -> tuple[list[str], str]:
    """Return the files that count, some at least, and what is to be said of the others."""
    whole, waiting = settled(given.landing, given.settle, given.storage_options)
    told = f"{len(waiting)} files may still be written; they count once they rest"
    if not whole:
        raise NothingToDo(told if waiting else f"no file in {given.landing}")
    return whole, told if waiting else ""


@pipeline(Config, expected=expected)
def main(given: Config, steps: Steps) -> None:
    """Merge the files of CONFIG's campaign; pad, profile and spell what they hold, and report.

    Run it again as files come: only those that are new are read. A bad one is set aside, and the
    exit code is 1.
    """
    reached = steps.storage_options
    if given.reference:
        _reference(given.reference, reached)  # one that can't be read is told before all else
    whole, told = _due(given)
    if told:
        steps.progress.say(told)
    at = {
        name: os.path.join(given.output, name)
        for name in ("checked", "merged.h5", "padded.zarr", "profiles.zarr", "sequences.fasta")
    }
    checked = steps.each(looked_at, whole, at["checked"], ".json")
    urls = [json.loads(content_of(path, storage_options=reached))["url"] for path in checked]
    if not urls:
        return
    if "://" not in given.output:
        os.makedirs(given.output, exist_ok=True)
    steps.one(
        merged, urls, at["merged.h5"],
        duplicates=given.duplicates, vanished=steps.policy.vanished,
    )  # fmt: skip
    natives = [given.reference] if given.reference else []
    steps.one(padded, at["merged.h5"], at["padded.zarr"])
    steps.one(profiled, [at["merged.h5"], *natives], at["profiles.zarr"])
    profiles = [at["merged.h5"], os.path.join(at["profiles.zarr"], "**")]
    steps.one(spelled, profiles, at["sequences.fasta"], profiles=at["profiles.zarr"])
    report = os.path.join(given.output, "report.html")
    steps.one(drawn, profiles, report, profiles=at["profiles.zarr"])


if __name__ == "__main__":
    sys.exit(main())
