"""Robot-episode embeddings with ids, metadata of any field, and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from h5dask.check import Check, faults
from h5dask.check.attributes import place
from h5dask.check.structure import missing_dataset, wrong_dtype
from h5dask.contents import Contents
from h5dask.groups import Groups
from h5dask.layout import ArraySpec, Layout
from h5dask.layouts import _rows
from h5dask.problem import Problem

if TYPE_CHECKING:
    import xarray as xr

MAX_EPISODES = 200_000
MAX_DIMENSION = 2_048
MAX_NBYTES = 100 * 1024 * 1024
"""What the consumer takes, the limits themselves allowed."""

_EMBEDDINGS = ArraySpec(
    name="embeddings",
    paths=("embeddings",),
    dims=("episode", "feature"),
    dtypes=("float32", "float64"),
    doc="embedding of each episode",
)
_PICTURES = ("thumbnails", "gifs")
_STANDARD = tuple(
    ArraySpec(name=name, paths=(f"metadata/{name}",), dims=("episode",), dtypes=dtypes)
    for name, dtypes in (
        ("success", ("bool",)),
        ("episode_length", ("int32", "int64")),
        ("task", ("str",)),
        ("dataset", ("str",)),
    )
)
"""Fields that the consumer knows; like any other they are read whatever their type."""


def rules(found: Contents, groups: Groups) -> Iterator[Problem]:
    """Yield what is missing or unusual, in the consumer's words."""
    if "embeddings" not in found:
        yield replace(
            missing_dataset(found, "embeddings", _EMBEDDINGS.doc),
            way_out="add it; newer consumers take such a file as metadata only",
        )
    for spec in _STANDARD:
        path = spec.paths[0]
        if path in found and not spec.accepts(found.form(path).dtype):
            finding = wrong_dtype(found, path, spec)
            yield replace(
                finding, level="note", way_out="it is read as it is; the consumer colors by it"
            )
    for name in _PICTURES:
        if name in found.groups:
            yield Problem(
                where=place(found, name),
                found=f"a group {name!r}",
                expected="one dataset of variable-length bytes, a picture an episode",
                way_out="a rewrite carries it over unchanged",
                level="note",
            )
    if "embeddings" in found and "thumbnails" in found:
        yield Problem(
            where=place(found, "thumbnails"),
            found="thumbnails beside embeddings",
            expected="the document's datasets",
            way_out="newer consumers show them, older ones leave them out",
            level="note",
        )


def limits(sizes: Mapping[str, int], nbytes: int) -> Iterator[Problem]:
    """Yield what the consumer finds too large, in its words; the caller says of which file."""
    fewer = "write a part of the episodes"
    episodes, dimension = sizes.get("episode", 0), sizes.get("feature", 0)
    if episodes > MAX_EPISODES:
        yield Problem(
            where="",
            found=f"Too many episodes: {episodes} > {MAX_EPISODES}",
            expected=f"at most {MAX_EPISODES}",
            way_out=fewer,
        )
    if dimension > MAX_DIMENSION:
        yield Problem(
            where="",
            found=f"Embedding dimension too large: {dimension} > {MAX_DIMENSION}",
            expected=f"at most {MAX_DIMENSION}",
            way_out="reduce the dimension",
        )
    if nbytes > MAX_NBYTES:
        yield Problem(
            where="",
            found=f"File too large. Maximum size is 100MB, this one has {nbytes} bytes",
            expected=f"at most {MAX_NBYTES}",
            way_out=f"{fewer}, or float64 as float32",
        )


def example(rng: np.random.Generator) -> xr.Dataset:
    """Return 6 episodes of 8 features with metadata of four types."""
    import xarray as xr

    values = rng.standard_normal((6, 8))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return xr.Dataset(
        {
            "embeddings": (("episode", "feature"), values.astype(np.float32)),
            "metadata_success": ("episode", np.arange(6) % 3 > 0),
            "metadata_episode_length": ("episode", np.arange(50, 56, dtype=np.int32)),
            "metadata_task": ("episode", _rows.column(["pick", "place", "stack"] * 2)),
            "metadata_gripper_state": ("episode", np.linspace(0, 1, 6)),
        },
        coords={"episode_ids": ("episode", _rows.column([f"ep_{i:05d}" for i in range(6)]))},
    )


_CHECKS = (
    Check(
        variables=("embeddings",),
        find=faults.find_nan,
        found="Embeddings contain NaN values: {count}",
        expected="finite numbers",
        way_out="drop those episodes, or encode them again",
    ),
    Check(
        variables=("embeddings",),
        find=faults.find_infinite,
        found="Embeddings contain Inf values: {count}",
        expected="finite numbers",
        way_out="drop those episodes, or encode them again",
    ),
    Check(
        variables=("episode_ids",),
        find=faults.find_marks,
        settle=faults.settle_equal,
        found="{count} ids that an earlier episode has",
        expected="unique ids",
        way_out="rename the episodes, or drop those that are there twice",
    ),
    Check(
        variables=("episode_ids",),
        find=faults.find_empty,
        found="{count} empty ids",
        expected="an id for each episode",
        way_out="name the episodes",
    ),
    Check(
        variables=("episode_ids",),
        find=faults.find_nul,
        found="{count} ids with a NUL",
        expected="text without NUL, where HDF5's variable-length text ends",
        way_out="strip the NULs",
    ),
    Check(
        variables=("episode_ids", "metadata_{field}"),
        find=faults.find_no_text,
        found="{count} texts of {name} that aren't UTF-8",
        expected="UTF-8, as the file says",
        way_out="decode them by the encoding they have, and write them again",
    ),
)

LAYOUT = Layout(
    name="episodes",
    title="embeddings and metadata of robot episodes",
    arrays=(
        _EMBEDDINGS,
        ArraySpec(
            name="episode_ids",
            paths=("episode_ids",),
            dims=("episode",),
            dtypes=("str",),
            coordinate=True,
            doc="unique id of each episode",
        ),
        ArraySpec(
            name="metadata_{field}",
            paths=("metadata/{field}",),
            dims=("episode",),
            dtypes=(),
            required=False,
            doc="a field of the episodes' metadata",
        ),
        *(
            ArraySpec(
                name=name,
                paths=(name,),
                dims=("episode",),
                dtypes=("bytes",),
                required=False,
                doc=doc,
            )
            for name, doc in zip(_PICTURES, ("encoded picture", "encoded animation"), strict=True)
        ),
    ),
    marks=("embeddings", "episode_ids"),
    along="episode",
    identity=("episode_ids",),
    rules=rules,
    limits=limits,
    checks=_CHECKS,
    vectors="embeddings",
    example=example,
)
