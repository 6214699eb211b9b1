"""Landing folder -> episodes that their consumer takes: chosen, cleaned, of length 1, in its sizes.

python -m pipelines.clean_episodes CONFIG
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

import h5dask
from h5dask.errors import LayoutError, Refused
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

_NODES = (
    *(ast.Expression, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.keyword),
    *(ast.Attribute, ast.Name, ast.Constant, ast.List, ast.Tuple, ast.expr_context),
    *(ast.boolop, ast.operator, ast.unaryop, ast.cmpop),
)
_METHODS = (
    *("str", "contains", "startswith", "endswith", "fullmatch", "lower", "upper", "len"),
    *("isin", "isna", "notna", "between", "abs"),
)
"""What a condition is made of: whoever writes one chooses rows, and reaches nothing else."""


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What becomes of the episodes of each input."""

    where: str = ""
    """Which are taken, by metadata: success and dataset == "droid" and episode_length > 50. Text
    may be asked for a part: task.str.contains("cup")."""
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
    problems = h5dask.validate(url, layout="episodes", storage_options=reached)
    job.notes += [str(problem) for problem in problems]
    ds = _opened(url, reached, left_out)
    chosen = _chosen(ds, how)
    if n_others := ds.sizes["episode"] - len(chosen):
        job.counts["not_chosen"] = n_others
    ds = ds.isel(episode=chosen)
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


def _opened(
    urls: str | list[str], reached: Mapping[str, Any] | None, left_out: list[str] | None = None
) -> xr.Dataset:
    return h5dask.open_dataset(
        urls, layout="episodes", drop_variables=left_out, storage_options=reached
    )


def _chosen(ds: xr.Dataset, how: Cleaning) -> NDArray[Any]:
    """Return which episodes are taken, in their order."""
    fields = [name for name in ds.data_vars if str(name).startswith("metadata_")]
    table = pd.DataFrame({str(n).removeprefix("metadata_"): ds[n].values for n in fields})
    table = table.reindex(range(ds.sizes["episode"]))
    there = f"the fields are {', '.join(table)}"
    if how.where:
        table = table[_met(table, how.where.replace("\n", " ").strip())]
    if how.sample_by and how.sample_by not in table:
        raise Refused(f"clean.sample_by: no field {how.sample_by!r}; {there}")
    if not 0 <= how.sample <= 1:
        raise Refused(f"clean.sample: found {how.sample}, expected a part from 0 to 1")
    groups = table.groupby(how.sample_by) if how.sample_by else table
    return np.sort(groups.sample(frac=how.sample, random_state=how.seed).index.to_numpy())


def _met(table: pd.DataFrame, where: str) -> NDArray[np.bool_]:
    """Return of each row whether it meets a condition of the fields."""
    names = list(table.columns)
    try:
        _refuse_more_than_a_condition(where)
        found = table.eval(where, engine="python", local_dict={}, global_dict={})
    except SyntaxError as error:
        raise Refused(
            f"clean.where: {error.msg} in {where!r}; write it as 'success and episode_length > 50'"
        ) from None
    except (ValueError, KeyError, NameError, TypeError, AttributeError) as error:
        raise Refused(f"clean.where: {error}; the fields are {', '.join(names)}") from None
    if not isinstance(found, pd.Series) or found.dtype.kind != "b" or len(found) != len(table):
        kind = getattr(found, "dtype", type(found).__name__)
        named = next((name for name in names if name in where), "episode_length")
        raise Refused(
            f"clean.where: found {kind}, expected true or false for each episode, such as "
            f"{named} == 1"
        )
    return np.asarray(found)


def _refuse_more_than_a_condition(where: str) -> None:
    """Raise ValueError where a condition does more than to compare fields."""
    for node in ast.walk(ast.parse(re.sub(r"`[^`]*`", "quoted", where), mode="eval")):
        if isinstance(node, ast.Attribute) and node.attr not in _METHODS:
            raise ValueError(f"found .{node.attr}, expected one of .{', .'.join(_METHODS)}")
        if not isinstance(node, _NODES):
            raise ValueError(f"found {ast.unparse(node)!r}, expected fields that are compared")


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
    job.write(_joined(job).drop_vars("source", errors="ignore"), within_limits=True)


def drawn(job: Job) -> None:
    """Draw what the results hold."""
    with job.stage("report"):
        h5dask.write_report(_joined(job), job.part(), compute=h5dask.compute)


def _joined(job: Job) -> xr.Dataset:
    """Return the cleaned files end to end, or say by which key they would fit."""
    try:
        return _opened(job.urls, job.storage_options)
    except LayoutError as error:
        raise LayoutError(
            re.sub(
                r"metadata_(\w+)(.*); leave it out \(drop_variables\)",
                r'\1\2; leave it out: clean.drop = ["\1"]',
                str(error),
            )
        ) from None


def expected(given: Config) -> Iterator[tuple[xr.Dataset, list[Any]]]:
    """Yield what cleaning would cost."""
    reached = given.storage_options
    for ds in openable(files_in(given.landing), lambda urls: _opened(urls, reached), reached):
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
        name = merge if merge.endswith((".h5", ".hdf5")) else f"{merge}.h5"
        files = steps.one(merged, files, os.path.join(given.output, name))
    if files:
        steps.page(drawn, files, os.path.join(given.output, "report.html"))


if __name__ == "__main__":
    sys.exit(main())
