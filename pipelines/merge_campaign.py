"""Files of a design campaign -> one file, padded arrays, profiles, FASTA and a report.

python -m pipelines.merge_campaign CONFIG
"""

from __future__ import annotations

import glob
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import xarray as xr

import h5dask
from h5dask.errors import LayoutError, Refused
from h5dask.pipeline import Input, Job, Output, Policy, Steps, pipeline, reads, writes

_NOTED = 20
"""Problems of a file that its record names."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sampled sequences of a campaign, whose files come over days."""

    landing: Input
    """Folder or pattern of files in the layout proteins."""
    output: Output
    """Folder of merged.h5, merged.csv (where each structure came from), padded.zarr, profiles.zarr,
    sequences.fasta and report.html."""
    settle: float = 300.0
    """Seconds after which a file counts that no longer changes; at once where its .done.json is
    there."""
    duplicates: Literal["keep", "refuse"] = "keep"
    """What becomes of structures of one name, or without names of one number, in several files."""
    reference: Input | str = ""
    """FASTA, or file in the layout proteins, of one sequence a structure, by name or number."""
    policy: Policy = field(default_factory=Policy)


def looked_at(job: Job) -> None:
    """Write down what one file holds; one that can't be merged is set aside."""
    (url,) = job.urls
    with job.stage("validate"):
        found = h5dask.validate(url, layout="proteins", values=True)
    job.notes += [str(problem) for problem in found[:_NOTED]]
    wrong = [str(problem) for problem in found if problem.where.endswith("sequences")]
    if wrong:
        raise LayoutError("\n".join(wrong))
    ds = h5dask.open_dataset(url, layout="proteins")
    told = {"url": url, "structures": len(set(ds.structure.values)), "problems": len(found)}
    Path(job.part()).write_text(json.dumps(told), encoding="utf-8")


def merged(job: Job) -> None:
    """Write the structures of all files end to end; what is merged already isn't read from them."""
    table = os.path.splitext(job.output)[0] + ".csv"
    new = job.added if os.path.exists(table) else None
    ds = h5dask.open_dataset(job.urls if new is None else [job.output, *new], layout="proteins")
    known = pd.read_csv(table, keep_default_na=False) if new is not None else None
    origins = _origins(ds, known, job.output, job.urls)
    if job.parameters["duplicates"] == "refuse":
        _refuse_repeated(origins)
    origins.to_csv(job.part(ending=".csv"), index=False)
    job.counts.update(
        structures=len(origins), sequences=ds.sizes["sequence"], residues=ds.sizes["residue"]
    )
    job.write(ds.drop_vars("source", errors="ignore"))


def _origins(
    ds: xr.Dataset, known: pd.DataFrame | None, output: str, urls: list[str]
) -> pd.DataFrame:
    """Return where each structure came from: its file, its number there, its name."""
    columns = {"structure": ds.structure.values}
    columns["source"] = ds.source.values if "source" in ds.coords else urls[0]
    columns["source_structure"] = ds.get("source_structure", ds.structure).values
    columns["structure_id"] = ds.structure_id.values if "structure_id" in ds.coords else ""
    found = pd.DataFrame(columns).drop_duplicates("structure")
    if known is None:
        return found
    former = found[found.source == output].merge(
        known, left_on="source_structure", right_on="structure", suffixes=("", "_known")
    )
    for name in ("source", "source_structure"):
        former[name] = former[f"{name}_known"]
    return pd.concat([former[found.columns], found[found.source != output]])


def _refuse_repeated(origins: pd.DataFrame) -> None:
    by = "source_structure" if (origins.structure_id == "").any() else "structure_id"
    for label, rows in origins.groupby(by):
        if len(rows) > 1:
            files = " and ".join(rows.source.astype(str).unique())
            raise Refused(
                f'{by} {label!r}: found in {files}; leave one out, or say duplicates = "keep"'
            )


def padded(job: Job) -> None:
    """Write all sequences as arrays of one length."""
    job.write_result(h5dask.pad(h5dask.open_dataset(job.urls)))


def profiled(job: Job) -> None:
    """Write what the samples of each structure share, and how they score."""
    url, *natives = job.urls
    reference = _reference(natives[0]) if natives else None
    job.write_result(h5dask.profile(h5dask.open_dataset(url), reference=reference))


def _reference(url: str) -> xr.Dataset:
    is_hdf5 = url.endswith((".h5", ".hdf5"))
    return h5dask.open_dataset(url) if is_hdf5 else h5dask.read_fasta(url)


def spelled(job: Job) -> None:
    """Write all sequences as letters, with their scores where there are logits."""
    profiles = xr.open_zarr(job.parameters["profiles"], consolidated=False)
    score = profiles.score.load() if "score" in profiles else None
    with job.stage("fasta"):
        h5dask.write_fasta(
            h5dask.open_dataset(job.urls[0]), job.part(), score=score, overwrite=True
        )


def drawn(job: Job) -> None:
    """Draw what the sequences are like."""
    with job.stage("report"):
        h5dask.write_report(h5dask.open_dataset(job.urls), job.part(), compute=h5dask.compute)


def _pattern(landing: str) -> str:
    return os.path.join(landing, "*.h5") if os.path.isdir(landing) else landing


def settled(landing: str, seconds: float) -> tuple[list[str], list[str]]:
    """Return the files that count, and those that may still be written.

    A file is whole where `FILE.done.json`, or that of its stem, says so; else it counts once it
    hasn't changed for so many seconds and nobody has locked it. Partial files never count.
    """
    whole: list[str] = []
    waiting: list[str] = []
    for path in sorted(glob.glob(_pattern(landing))):
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
    whole, _ = settled(given.landing, given.settle)
    if not whole:
        return
    ds = h5dask.open_dataset(whole)
    yield ds, [reads(ds, "validate"), writes(ds, "merge"), reads(ds, "pad"), reads(ds, "profile")]


@pipeline(Config, expected=expected)
def main(given: Config, steps: Steps) -> None:
    """Merge the files of CONFIG's campaign; pad, profile and spell what they hold, and report.

    Run it again as files come: only those that are new are read. A bad one is set aside, and the
    exit code is 1.
    """
    whole, waiting = settled(given.landing, given.settle)
    if waiting:
        steps.progress.say(f"{len(waiting)} files may still be written; they count once they rest")
    if not whole:
        return
    at = {
        name: os.path.join(given.output, name)
        for name in ("checked", "merged.h5", "padded.zarr", "profiles.zarr", "sequences.fasta")
    }
    checked = steps.each(looked_at, whole, at["checked"], ".json")
    urls = [json.loads(Path(path).read_text(encoding="utf-8"))["url"] for path in checked]
    if not urls:
        return
    os.makedirs(given.output, exist_ok=True)
    steps.one(merged, urls, at["merged.h5"], duplicates=given.duplicates)
    natives = [given.reference] if given.reference else []
    steps.one(padded, at["merged.h5"], at["padded.zarr"])
    steps.one(profiled, [at["merged.h5"], *natives], at["profiles.zarr"])
    profiles = [at["merged.h5"], os.path.join(at["profiles.zarr"], "**")]
    steps.one(spelled, profiles, at["sequences.fasta"], profiles=at["profiles.zarr"])
    steps.one(drawn, at["merged.h5"], os.path.join(given.output, "report.html"))


if __name__ == "__main__":
    sys.exit(main())
