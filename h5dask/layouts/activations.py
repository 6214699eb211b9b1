"""Model activations and logits of steering-vector experiments, by scenario."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from h5dask.check import Check, faults
from h5dask.check.attributes import contradictions, json_of, place
from h5dask.contents import Contents
from h5dask.grouping import arrange
from h5dask.groups import Groups, spans
from h5dask.layout import ArraySpec, AttrSpec, Derived, Labels, Layout
from h5dask.layouts import _rows, _scenarios
from h5dask.pattern import parse
from h5dask.problem import Problem

if TYPE_CHECKING:
    import xarray as xr

TEXTS = ("prompts", "matching_answers", "non_matching_answers")
_BRANCH = "{branch:matching|nonmatching}"
_FORMS = ("data", f"data/prefilled/{_BRANCH}", f"data/prefilled_{_BRANCH}")
"""Where a branch lies: a plain one; a prefilled one on disk, and in the tree of the document."""


def _numbers(name: str, last: str, dims: tuple[str, ...], doc: str) -> ArraySpec:
    """Declare an array that each branch has."""
    return ArraySpec(
        name=name,
        paths=tuple(f"scenarios/{{scenario}}/{form}/{last}" for form in _FORMS),
        dims=dims,
        dtypes=("float16", "float32"),
        ragged="record",
        resizable=True,
        doc=doc,
    )


def _text(name: str, doc: str) -> ArraySpec:
    """Declare a text that the branches of a scenario share."""
    return ArraySpec(
        name=name,
        paths=(f"scenarios/{{scenario}}/text/{name}",),
        dims=("record",),
        dtypes=("str",),
        ragged="record",
        resizable=True,
        doc=doc,
    )


def labels(groups: Groups, found: Contents) -> Labels:
    """Return scenario, branch and sample of each record."""
    counts = groups.counts.get("record", np.zeros(len(groups.keys), np.int64))
    _rows.total(counts, found, "record")
    return {
        "scenario": np.repeat(_rows.column(groups.key_column("scenario")), counts),
        "branch": np.repeat(_rows.column(groups.key_column("branch")), counts),
        "sample": _rows.within(counts).astype(np.int32),
    }


def groups(labels: Labels, found: Contents | None) -> Groups:
    """Return which records each branch of each scenario takes, in the Dataset's order.

    Branches of one scenario take the same samples in the same order, since they share its text.
    """
    n = _rows.length(labels, ("scenario",), found)
    keys = list(
        zip(_rows.texts(labels, "scenario", n), _rows.texts(labels, "branch", n), strict=True)
    )
    present = tuple(dict.fromkeys(keys))
    _scenarios.refuse_names(present, found)
    form = arrange(LAYOUT, found).groups.keys if found is not None else ()
    ordered = _scenarios.ordered(form, present)
    code = _rows.codes(keys, {key: i for i, key in enumerate(ordered)}, n)
    sample = _rows.numbers(labels, "sample", n) if "sample" in labels else _rows.occurrence(code)
    rows = _scenarios.aligned(ordered, _rows.split(code, len(ordered)), sample, found)
    counts = np.array([len(taken) for taken in rows], np.int64)
    shapes = tuple((int(count),) for count in counts)
    return Groups(
        names=("scenario", "branch"),
        keys=ordered,
        counts={"record": counts},
        shapes={spec.name: shapes for spec in LAYOUT.arrays},
        rows={"record": spans(rows)},
        axes=(("sample",),) * len(ordered),
    )


def _samples(groups: Groups) -> dict[str, int]:
    """Return how many samples each scenario has, which its branches share."""
    samples: dict[str, int] = {}
    for key, count in zip(groups.keys, groups.counts.get("record", ()), strict=False):
        samples[key[0]] = max(samples.get(key[0], 0), int(count))
    return samples


def derive(groups: Groups, sizes: Mapping[str, int], lanes: Mapping[str, Any]) -> Derived:
    """Return the numbers of samples and the layers, as real files count them."""
    samples = _samples(groups)
    values: dict[tuple[str, str, str], Any] = {
        ("", "num_samples", ""): sum(samples.values()),
        ("metadata", "dataset_info", "num_samples"): max(samples.values(), default=0),
    }
    layers = [int(layer) for layer in lanes.get("layer", ())]
    if layers:
        values["metadata", "model_info", "layer_nums"] = layers
        values["metadata", "model_info", "layer_num"] = layers[0] if len(layers) == 1 else layers
    return values


def rules(found: Contents, groups: Groups) -> Iterator[Problem]:
    """Yield what branches disagree, and where `/metadata` tells of other scenarios or samples."""
    for problem in contradictions(LAYOUT, found, arrange(LAYOUT, found)):
        if problem.found.startswith("attribute 'dataset_info'"):
            says = "files combined from parts keep the first part's"
            yield replace(problem, level="note", way_out=says)
        if problem.found.startswith("attribute 'num_samples'"):
            yield _other_total(problem, found, groups)
    counts: dict[str, dict[str, int]] = {}
    records = groups.counts.get("record", ())
    for (scenario, branch), count in zip(groups.keys, records, strict=False):
        if count:
            counts.setdefault(scenario, {})[branch] = int(count)
    for scenario, branches in counts.items():
        if len(set(branches.values())) > 1:
            yield Problem(
                where=place(found, f"scenarios/{scenario}"),
                found=", ".join(f"{n} samples in branch {b!r}" for b, n in branches.items()),
                expected="the same samples in each branch, which share the scenario's text",
                way_out="drop a sample from all branches or from none",
            )
    yield from _unlike_configurations(found)


def _other_total(problem: Problem, found: Contents, groups: Groups) -> Problem:
    """Return what is told of a total that isn't one; a note where it counts one scenario's.

    The document's "samples processed" can be read so; whole files count those of all scenarios.
    """
    samples = [n for n in _samples(groups).values() if n]
    told = f"{sum(samples)}, the samples of all {len(samples)} scenarios"
    if len(set(samples)) == 1:
        told = f"{sum(samples)}, {samples[0]} samples of each of {len(samples)} scenarios"
    problem = replace(problem, expected=told)
    if found.attr("", "num_samples") != max(samples, default=0):
        return problem
    return replace(problem, level="note", way_out="real files count those of all scenarios")


def _unlike_configurations(found: Contents) -> Iterator[Problem]:
    """Yield a note on each scenario that `/metadata` or the groups alone know."""
    told = json_of(found.attr("metadata", "scenarios"))
    if told is None:
        return
    there = [
        keys["scenario"] for path in found.groups if (keys := parse("scenarios/{scenario}", path))
    ]
    for name in dict.fromkeys([*told, *there]):
        if (name in told) != (name in there):
            missing = "group" if name in told else "configuration in attribute 'scenarios'"
            yield Problem(
                where=place(found, "metadata"),
                found=f"scenario {name!r} has no {missing}",
                expected="a configuration and a group for each scenario",
                way_out="add it to the attribute, or take it out",
                level="note",
            )


def index(labels: Labels, sizes: Mapping[str, int]) -> Any:
    """Return the index that labels records by scenario, branch and sample together."""
    from h5dask.indexes import Labels as RecordLabels

    return RecordLabels("record", dict(labels))


def example(rng: np.random.Generator) -> xr.Dataset:
    """Return a plain and a prefilled scenario of 3 and 2 samples, two layers, float16."""
    import xarray as xr

    scenarios = ("base",) * 3 + ("matching_few_shot_prefilled",) * 4
    rows = {
        "scenario": _rows.column(scenarios),
        "branch": _rows.column(("",) * 3 + ("matching",) * 2 + ("nonmatching",) * 2),
        "sample": np.array([0, 1, 2, 0, 1, 0, 1], np.int32),
    }
    settings = {
        name: {"matching": True, "prefilled": name != "base", "instruction": False}
        for name in dict.fromkeys(scenarios)
    }
    text = {
        name: (
            "record",
            _rows.column(
                [f"{name} {s} {i}" for s, i in zip(scenarios, rows["sample"], strict=True)]
            ),
        )
        for name in TEXTS
    }
    return xr.Dataset(
        {
            "activations": (
                ("record", "layer", "hidden"),
                rng.uniform(-3, 3, (7, 2, 16)).astype(np.float16),
            ),
            "logits": (("record", "vocab"), rng.uniform(-8, 24, (7, 40)).astype(np.float16)),
            **text,
        },
        coords=xr.Coordinates.from_xindex(index(rows, {})),
        attrs={
            "model_name": "example",
            "dataset_name": "example",
            "dataset_type": "example",
            "creation_date": "2025-01-31 12:00:00.000000",
            "num_samples": 5,
            "dataset_info": json.dumps({"name": "example", "type": "example", "num_samples": 3}),
            "model_info": json.dumps({"name": "example", "layer_nums": [3, 13]}),
            "scenarios": json.dumps(settings),
        },
    ).assign_coords(layer=[3, 13])


_FINITE = "finite numbers"
_CHECKS = (
    Check(
        variables=("activations", "logits"),
        find=faults.find_nan,
        found="{count} NaN in {name}",
        expected=_FINITE,
        way_out="drop those samples, or compute them again",
    ),
    Check(
        variables=("activations", "logits"),
        find=faults.find_infinite,
        found="{count} infinite values in {name}",
        expected=_FINITE,
        way_out="float16 holds nothing above 65504: compute them again and keep float32",
    ),
    Check(
        variables=("activations",),
        find=faults.outside(-3, 3),
        found="{count} {name} outside the typical range, from {lowest} to {highest}",
        expected="-3 to 3, generally",
        level="note",
    ),
    Check(
        variables=("logits",),
        find=faults.outside(-8, 24),
        found="{count} {name} outside the typical range, from {lowest} to {highest}",
        expected="-8 to 24, typically",
        level="note",
    ),
    Check(
        variables=TEXTS,
        find=faults.find_nul,
        found="{count} texts with a NUL in {name}",
        expected="text without NUL, where HDF5's variable-length text ends",
        way_out="strip the NULs",
    ),
    Check(
        variables=TEXTS,
        find=faults.find_no_text,
        found="{count} texts of {name} that aren't UTF-8",
        expected="UTF-8, as the file says",
        way_out="decode them by the encoding they have, and write them again",
    ),
)

LAYOUT = Layout(
    name="activations",
    title="activations and logits of a language model, by scenario",
    arrays=(
        _numbers(
            "activations",
            "activations_layer_{layer:d}",
            ("record", "layer", "hidden"),
            "activations of a layer at the answer's token",
        ),
        _numbers("logits", "logits", ("record", "vocab"), "logits over the vocabulary"),
        _text("prompts", "prompt given to the model"),
        _text("matching_answers", "answer that shows the behaviour"),
        _text("non_matching_answers", "answer that doesn't show the behaviour"),
    ),
    attrs=(
        AttrSpec(path="", name="model_name", doc="name of the model"),
        AttrSpec(path="", name="dataset_name", doc="name of the dataset"),
        AttrSpec(path="", name="dataset_type", doc="type of the dataset"),
        AttrSpec(path="", name="creation_date", varies=True, doc="when the file was made"),
        AttrSpec(
            path="",
            name="num_samples",
            kind="int",
            varies=True,
            doc="samples of all scenarios together",
        ),
        AttrSpec(
            path="metadata",
            name="dataset_info",
            kind="json",
            derived=("num_samples",),
            doc="name, type and num_samples",
        ),
        AttrSpec(path="metadata", name="model_info", kind="json", doc="name and layer_nums"),
        AttrSpec(
            path="metadata",
            name="scenarios",
            kind="json",
            keyed_by="scenarios/{scenario}",
            doc="each scenario's settings",
        ),
    ),
    marks=("scenarios",),
    along="record",
    keep_empty=True,
    index=index,
    labels=labels,
    groups=groups,
    join=_scenarios.join,
    derive=derive,
    rules=rules,
    checks=_CHECKS,
    vectors="activations",
    example=example,
)
