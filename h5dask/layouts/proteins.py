"""Sampled protein sequences and their logits, one group a structure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from h5dask.check import Check, faults
from h5dask.groups import Groups
from h5dask.layout import ArraySpec, AttrSpec, Derived, Labels, Layout
from h5dask.layouts import _doubts, _grids, _rows, _structures
from h5dask.layouts._structures import AXES, GROUP

if TYPE_CHECKING:
    import xarray as xr

ALPHABET = "ACDEFGHIKLMNPQRSTVWYX"
"""The letters of the indices 0 to 20."""


def derive(groups: Groups, sizes: Mapping[str, int], lanes: Mapping[str, Any]) -> Derived:
    """Return what the attributes of each structure count."""
    values: dict[tuple[str, str, str], Any] = {}
    default = {2: AXES[:1], 3: AXES[:2], 4: AXES}
    for i, ((key,), shape) in enumerate(
        zip(groups.keys, groups.shapes.get("sequences", ()), strict=False)
    ):
        if not key or shape is None:
            continue
        path = _structures.path_of(key)
        axes = groups.axes[i] if groups.axes else default[len(shape)]
        counts = dict(zip(axes, shape, strict=False))
        if groups.numbers:
            values[path, "structure_index", ""] = groups.numbers[i]
        values[path, "num_samples", ""] = counts.get("sample", 1)
        values[path, "num_noise_levels", ""] = counts.get("noise", 1)
        values[path, "num_temperatures", ""] = counts.get("temperature", 1)
        values[path, "sequence_length", ""] = shape[-1]
    return values


def count(groups: Groups) -> Mapping[str, np.ndarray[Any, Any]]:
    """Return how many sequences each structure has: only perplexities, which may lack, say so."""
    shapes = groups.shapes.get("sequences")
    if shapes is None:
        return {}
    counted = (0 if shape is None else min(math.prod(shape[:-1]), 1 << 62) for shape in shapes)
    return {"sequence": np.fromiter(counted, np.int64, len(shapes))}


def index(labels: Labels, sizes: Mapping[str, int]) -> Any:
    """Return the index that cuts sequences and their residues together."""
    from h5dask.indexes import RaggedIndex

    return RaggedIndex("sequence", "residue", sizes["residue"], dict(labels))


def example(rng: np.random.Generator) -> xr.Dataset:
    """Return structures 3 and 7 of 5 and 6 residues, 2 samples at 2 noise levels, with logits."""
    import xarray as xr

    rows = {
        "structure": np.repeat(np.array([3, 7], np.int32), 4),
        "sample": np.tile(np.array([0, 0, 1, 1], np.int32), 2),
        "noise": np.tile(np.array([0, 1], np.int32), 4),
        "temperature": np.zeros(8, np.int32),
        "row_size": np.repeat(np.array([5, 6], np.int32), 4),
    }
    n = int(rows["row_size"].sum())
    return xr.Dataset(
        {
            "sequences": ("residue", rng.integers(0, 21, n).astype(np.int32)),
            "logits": (("residue", "aa"), rng.normal(0, 3, (n, 21)).astype(np.float32)),
        },
        coords=xr.Coordinates.from_xindex(index(rows, {"residue": n})),
    ).assign_coords(aa=_rows.column(list(ALPHABET)))


_NUMBERS = ("logits", "pseudo_perplexity")
_CHECKS = (
    Check(
        variables=("sequences",),
        find=faults.outside(0, 20),
        found="{count} values, from {lowest} to {highest}, that are no amino acid",
        expected=f"indices 0 to 20 of {ALPHABET}",
        way_out="drop those samples, or write 20 (X) for what is unknown",
    ),
    Check(
        variables=_NUMBERS,
        find=faults.find_nan,
        found="{count} NaN in {name}",
        expected="finite numbers",
        way_out="drop those samples, or compute them again",
    ),
    Check(
        variables=_NUMBERS,
        find=faults.find_infinite,
        found="{count} infinite values in {name}",
        expected="finite numbers",
        way_out="drop those samples, or compute them again",
    ),
)


def _array(
    name: str, dims: tuple[str, ...], dtype: str, doc: str, *, required: bool = False
) -> ArraySpec:
    """Declare an array of each structure, whose leading axes lie end to end."""
    paths = (f"{GROUP}/{name}", *((name,) if name != "pseudo_perplexity" else ()))
    trailing = len(dims) - (dims[0] == "sequence")
    return ArraySpec(
        name=name,
        paths=paths,
        dims=dims,
        dtypes=(dtype,),
        ragged=dims[0],
        ranks=(1 + trailing, 2 + trailing, 3 + trailing),
        required=required,
        doc=doc,
    )


def _attr(
    name: str,
    kind: Literal["int", "bool", "str"],
    doc: str,
    *,
    required: bool = True,
    early: bool = False,
) -> AttrSpec:
    """Declare an attribute of each structure."""
    return AttrSpec(path=GROUP, name=name, kind=kind, required=required, at_opening=early, doc=doc)


LAYOUT = Layout(
    name="proteins",
    title="sampled protein sequences and logits, by structure",
    arrays=(
        _array("sequences", ("residue",), "int32", "amino-acid index, 0 to 20", required=True),
        _array("logits", ("residue", "aa"), "float32", "logits over the amino acids"),
        _array("pseudo_perplexity", ("sequence",), "float32", "pseudo-perplexity of a sequence"),
    ),
    attrs=(
        _attr("structure_index", "int", "global index of the structure", early=True),
        _attr("num_samples", "int", "number of samples"),
        _attr("num_noise_levels", "int", "number of noise levels, 1 where they were averaged"),
        _attr("sequence_length", "int", "width of the array"),
        _attr(
            "averaged_encodings",
            "bool",
            "whether encodings were averaged over noise levels",
            required=False,
            early=True,
        ),
        _attr("num_temperatures", "int", "number of temperatures", required=False, early=True),
        _attr("structure_id", "str", "name of the structure", required=False, early=True),
        AttrSpec(
            path="",
            name="schema_version",
            # The later tells the axes of arrays apart that the earlier never have.
            allowed=("sampling_v1", "grid_v1", "sampling_averaged_v1"),
            required=False,
            at_opening=True,
            varies=True,
            doc="generation of the file",
        ),
    ),
    marks=(GROUP, _structures.FLAT),
    along="sequence",
    sizes={"aa": len(ALPHABET)},
    dim_labels={"aa": tuple(ALPHABET)},
    index=index,
    count=count,
    labels=_structures.labels,
    groups=_grids.groups,
    join=_structures.join,
    identity=("structure_id", "source_structure"),
    numbered="structure",
    renumber=_structures.renumber,
    derive=derive,
    rules=_doubts.rules,
    checks=_CHECKS,
    example=example,
)
