"""Vector-search benchmarks: base and query vectors with their true nearest neighbors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from h5dask.check import Check, Findings, Setting, faults
from h5dask.check.attributes import missing_attr, place, text_of, wrong_attr
from h5dask.check.structure import wrong_dtype
from h5dask.contents import Contents
from h5dask.groups import Groups
from h5dask.layout import ArraySpec, AttrSpec, Derived, Layout
from h5dask.layouts import _distances
from h5dask.problem import Problem

if TYPE_CHECKING:
    import xarray as xr

METRICS = ("euclidean", "ip", "angular")
VECTORS = ("train", "test")


def _array(
    name: str, dims: tuple[str, ...], dtypes: tuple[str, ...], doc: str, *, required: bool = True
) -> ArraySpec:
    return ArraySpec(name=name, paths=(name,), dims=dims, dtypes=dtypes, required=required, doc=doc)


def refuse(found: Contents) -> Problem | None:
    """Return why vectors that aren't dense, and sets, can't be read."""
    kind, distance = text_of(found.attr("", "type")), text_of(found.attr("", "distance"))
    if kind not in (None, "dense"):
        return Problem(
            where=found.subject,
            found=f"attribute 'type' is {kind!r}",
            expected="'dense' vectors, one a row",
            way_out="convert them to dense vectors",
        )
    if distance == "jaccard":
        return Problem(
            where=found.subject,
            found="attribute 'distance' is 'jaccard', a metric of sets",
            expected=f"vectors and one of {METRICS!r}",
            way_out="convert the sets to vectors",
        )
    return None


def rules(found: Contents, groups: Groups) -> Iterator[Problem]:
    """Yield what types, labels and metric don't go together, in the consumer's words."""
    yield from _metric(found)
    types = {name: found.form(name).dtype for name in VECTORS if name in found}
    numeric = {name: np.dtype(t) for name, t in types.items() if found.form(name).is_numeric}
    for name, dtype in numeric.items():
        if dtype == np.uint8:
            finding = wrong_dtype(found, name, _SPECS[name])
            yield replace(finding, level="note", way_out="fine up to 127, which int8 holds too")
        elif dtype.name not in _SPECS[name].dtypes:
            finding = wrong_dtype(found, name, _SPECS[name])
            yield replace(finding, expected="float32 or int8 (VSAG: wrong data type)")
    if len(numeric) == 2 and numeric["train"].name != numeric["test"].name:
        yield Problem(
            where=place(found, "test"),
            found=f"dtype {numeric['test'].name} beside {numeric['train'].name} of /train",
            expected="the same dtype in both (VSAG: wrong data type)",
            way_out="convert one of them",
        )
    for name, other in (("train_labels", "test_labels"), ("test_labels", "train_labels")):
        if name in found and other not in found:
            yield Problem(
                where=place(found, other),
                found=f"missing beside /{name}",
                expected="both or none (train_labels and test_labels must be provided together)",
                way_out=f"add /{other}, or remove /{name}",
            )


def _metric(found: Contents) -> Iterator[Problem]:
    """Yield what is wrong with the attribute `distance`, or what it means for integers."""
    distance = text_of(found.attr("", "distance"))
    if not any(attr.name == "distance" for attr in found.attrs.get("", ())):
        finding = missing_attr(found, "", _DISTANCE)
        yield replace(finding, way_out="add it (VSAG: there is no 'distance' in the dataset)")
    elif distance == "hamming":
        yield replace(
            wrong_attr(found, "", _DISTANCE, distance),
            way_out="it opens; a new file can't have this metric",
        )
    elif distance is not None and distance not in METRICS:
        from h5dask.ops.metrics import ALSO_CALLED  # compiled code, which files seldom need

        plain = distance.strip().lower()
        right = ALSO_CALLED.get(plain, plain)
        finding = wrong_attr(found, "", _DISTANCE, distance)
        if right in METRICS:
            says = "the consumer compares letter by letter"
            says = says if right == plain else f"{plain} is {right!r} here"
            yield replace(finding, way_out=f"{says}: write {right!r}")
    integers = "train" in found and found.form("train").dtype in ("|i1", "|u1")
    if integers and distance in ("euclidean", "angular"):
        yield Problem(
            where=place(found, "train"),
            found=f"dtype {np.dtype(found.form('train').dtype).name} with {distance!r}",
            expected="float32 for this metric, or 'ip'",
            way_out="VSAG reads such bytes as float32; h5dask computes them as integers",
            level="note",
        )


def derive(groups: Groups, sizes: Mapping[str, int], lanes: Mapping[str, Any]) -> Derived:
    """Return the dimension, which some files name."""
    return {("", "dimension", ""): sizes["feature"]} if "feature" in sizes else {}


def find_zero_rows(block: NDArray[Any], start: int, setting: Setting) -> Findings:
    """Find vectors without direction, to which angular distances are NaN."""
    if text_of(setting.attrs.get("distance")) != "angular":
        return Findings()
    return faults.flagged(block, np.logical_not(np.any(block, axis=1)), start)


def example(rng: np.random.Generator) -> xr.Dataset:
    """Return 30 vectors and 5 queries of 2 labels, 4 features and 3 neighbors, float32."""
    import xarray as xr

    train, test = (rng.standard_normal((n, 4)).astype(np.float32) for n in (30, 5))
    train_labels, test_labels = (np.arange(n, dtype=np.int64) % 2 for n in (30, 5))
    apart = np.sqrt(np.square(test[:, None].astype(np.float64) - train[None]).sum(-1))
    apart = np.where(test_labels[:, None] == train_labels, apart, np.inf)
    neighbors = np.argsort(apart, axis=1, kind="stable")[:, :3]
    return xr.Dataset(
        {
            "train": (("vector", "feature"), train),
            "test": (("query", "feature"), test),
            "neighbors": (("query", "neighbor"), neighbors.astype(np.int64)),
            "distances": (
                ("query", "neighbor"),
                np.take_along_axis(apart, neighbors, axis=1).astype(np.float32),
            ),
            "train_labels": ("vector", train_labels),
            "test_labels": ("query", test_labels),
            "valid_ratios": ("label", np.full(2, 0.5, np.float32)),
        },
        attrs={"distance": "euclidean"},
    )


_CHECKS = (
    Check(
        variables=(*VECTORS, "distances", "valid_ratios"),
        find=faults.find_nan,
        found="{count} NaN in {name}",
        expected="finite numbers",
        way_out="drop those rows, or compute them again",
    ),
    Check(
        variables=(*VECTORS, "distances", "valid_ratios"),
        find=faults.find_infinite,
        found="{count} infinite values in {name}",
        expected="finite numbers",
        way_out="drop those rows, or compute them again",
    ),
    Check(
        variables=VECTORS,
        find=find_zero_rows,
        found="{count} zero vectors in {name}, whose angular distances are NaN",
        expected="vectors that have a direction",
        way_out="drop those rows, or use another metric",
    ),
    Check(
        variables=VECTORS,
        find=faults.outside_unsigned(127),
        found="{count} values above 127, up to {highest}, in {name}",
        expected="what int8 holds",
        way_out="convert the vectors to float32",
    ),
    Check(
        variables=("neighbors",),
        find=faults.beyond("vector"),
        found="{count} ids, from {lowest} to {highest}, name no row of /train",
        expected="ids from 0 (VSAG: neighbors contains an id outside the base dataset)",
        way_out="-1 can't stand for a missing neighbor: keep fewer neighbors a query",
    ),
    Check(
        variables=("distances",),
        find=faults.find_descending,
        found="{count} distances less than the one before them",
        expected="ascending distances in each row",
        way_out="sort each query's neighbors by distance",
        level="note",
    ),
    Check(
        variables=("train_labels", "test_labels"),
        find=faults.outside(0, np.iinfo(np.int64).max),
        found="{count} negative labels in {name}, down to {lowest}",
        expected="labels from 0, by which /valid_ratios is indexed",
        way_out="number the labels from 0",
    ),
)

_DISTANCE = AttrSpec(
    path="",
    name="distance",
    encoding="ascii",
    allowed=METRICS,
    at_opening=True,
    doc="the metric of /distances",
)
_ARRAYS = (
    _array("train", ("vector", "feature"), ("float32", "int8"), "base vectors"),
    _array("test", ("query", "feature"), ("float32", "int8"), "query vectors"),
    _array("neighbors", ("query", "neighbor"), ("int64",), "rows of train nearest to each query"),
    _array("distances", ("query", "neighbor"), ("float32",), "distances to the neighbors"),
    _array("train_labels", ("vector",), ("int64",), "label of each base vector", required=False),
    _array("test_labels", ("query",), ("int64",), "label of each query", required=False),
    _array(
        "valid_ratios", ("label",), ("float32",), "share of the base of each label", required=False
    ),
)
_SPECS = {spec.name: spec for spec in _ARRAYS}

LAYOUT = Layout(
    name="ann",
    title="vector-search benchmark with true nearest neighbors",
    arrays=_ARRAYS,
    attrs=(
        _DISTANCE,
        AttrSpec(path="", name="type", allowed=("dense",), required=False, doc="kind of vectors"),
        AttrSpec(path="", name="dimension", kind="int", required=False, doc="number of features"),
        AttrSpec(path="", name="point_type", required=False, doc="ann-benchmarks' word for dtype"),
        AttrSpec(
            path="",
            name="certified",
            kind="int",
            required=False,
            doc="queries whose neighbors a float32 bound told apart; float64 did so for the others",
        ),
        AttrSpec(
            path="",
            name="scale",
            kind="float",
            required=False,
            doc="what vectors were multiplied by before they were rounded to whole numbers",
        ),
    ),
    marks=("train", "neighbors"),
    apart="neighbors are the nearest of one base only; compute the ground truth of the joined "
    "vectors instead",
    refuse=refuse,
    derive=derive,
    rules=rules,
    checks=_CHECKS,
    relations=(_distances.distances_agree, _distances.labels_agree, _distances.ratios_agree),
    vectors="train",
    example=example,
)
