"""Scenarios and branches as labels, and back: orders, zero rows, unequal branches, joined files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5dask import layouts
from h5dask.check.structure import problems
from h5dask.contents import Contents
from h5dask.errors import LayoutError
from h5dask.grouping import arrange
from h5dask.layout import Labels
from tests.files import LAYOUTS
from tests.layouts.reading import contents
from tests.layouts.reading import taken as taken_by
from tests.made import contents as made
from tests.made import text

LAYOUT = layouts.get("activations")
FORMS = {
    "": "data",
    "matching": "data/prefilled/matching",
    "nonmatching": "data/prefilled/nonmatching",
}
Scenarios = dict[str, dict[str, int]]


def file(scenarios: Scenarios, layer: int = 3, **root: Any) -> Contents:
    """Return a file of scenarios with these samples by branch."""
    arrays: dict[str, tuple[tuple[int, ...], str]] = {}
    for name, branches in scenarios.items():
        for branch, n in branches.items():
            arrays[f"scenarios/{name}/{FORMS[branch]}/activations_layer_{layer}"] = (n, 8), "<f2"
            arrays[f"scenarios/{name}/{FORMS[branch]}/logits"] = (n, 9), "<f2"
        for kind in ("prompts", "matching_answers", "non_matching_answers"):
            arrays[f"scenarios/{name}/text/{kind}"] = (max(branches.values()),), "str"
    total = sum(max(branches.values()) for branches in scenarios.values())
    named = dict.fromkeys(("model_name", "dataset_name", "dataset_type", "creation_date"), "x")
    about = {
        "dataset_info": json.dumps(
            {"num_samples": max(max(b.values()) for b in scenarios.values())}
        ),
        "model_info": json.dumps({"layer_nums": [layer]}),
        "scenarios": json.dumps({name: {} for name in scenarios}),
    }
    return made(arrays, {"": {**named, "num_samples": total, **root}, "metadata": about})


def labels_of(found: Contents) -> Labels:
    return LAYOUT.labels(arrange(LAYOUT, found).groups, found)


def rows(scenario: str, branch: str, samples: list[int]) -> list[tuple[str, str, int]]:
    return [(scenario, branch, sample) for sample in samples]


def labels(*parts: list[tuple[str, str, int]]) -> Labels:
    scenario, branch, sample = zip(*(row for part in parts for row in part), strict=True)
    return {
        "scenario": text(scenario),
        "branch": text(branch),
        "sample": np.array(sample, np.int32),
    }


def grouped(given: Labels, found: Contents | None = None) -> dict[tuple[str, ...], list[int]]:
    groups = LAYOUT.groups(given, found)
    return dict(zip(groups.keys, taken_by(groups, "record"), strict=True))


PLAIN = {"": 3}
PREFILLED = {"": 0, "matching": 2, "nonmatching": 2}
DISK = {"base": {"": 3, "matching": 0, "nonmatching": 0}, "few_prefilled": PREFILLED}


def test_records_come_by_scenario_branch_and_sample() -> None:
    found = labels_of(file(DISK))
    assert found["scenario"].tolist() == ["base"] * 3 + ["few_prefilled"] * 4
    assert found["branch"].tolist() == [""] * 3 + ["matching"] * 2 + ["nonmatching"] * 2
    assert found["sample"].tolist() == [0, 1, 2, 0, 1, 0, 1]
    assert found["sample"].dtype == np.int32


COUNTS = st.integers(0, 4)
SCENARIOS = st.dictionaries(
    st.sampled_from(["base", "b", "a", "few"]),
    st.one_of(
        st.builds(lambda n: {"": n}, COUNTS),
        st.builds(lambda n: {"": n, "matching": 0, "nonmatching": 0}, COUNTS),
        st.builds(lambda n: {"matching": n, "nonmatching": n}, COUNTS),
    ),
    min_size=1,
)


@given(SCENARIOS, st.randoms(use_true_random=False))
def test_shuffled_records_go_to_their_group_in_their_order(
    scenarios: Scenarios, random: Any
) -> None:
    found = file(scenarios)
    whole = labels_of(found)
    order = list(range(len(whole["sample"])))
    random.shuffle(order)
    kept = order[: random.randint(0, len(order))]
    taken = {name: column[kept] for name, column in whole.items()}
    held: dict[tuple[str, str], list[int]] = {}
    for scenario, branch, sample in zip(*(taken[k].tolist() for k in taken), strict=True):
        held.setdefault((scenario, branch), []).append(sample)
    unequal = {
        s for s, branches in scenarios.items()
        if len({tuple(sorted(held[s, b])) for b in branches if (s, b) in held}) > 1
    }  # fmt: skip
    if unequal:
        with pytest.raises(LayoutError, match="branches of a scenario share its text"):
            LAYOUT.groups(taken, found)
        return
    groups = LAYOUT.groups(taken, found)
    assert groups.keys == arrange(LAYOUT, found).groups.keys
    for (scenario, branch), rows_taken in zip(groups.keys, taken_by(groups, "record"), strict=True):
        assert {(taken["scenario"][i], taken["branch"][i]) for i in rows_taken} <= {
            (scenario, branch)
        }
        first = next((b for b in FORMS if (scenario, b) in held), None)
        if (scenario, branch) in held:
            assert taken["sample"][rows_taken].tolist() == held[scenario, str(first)]
    every = sorted(i for rows in taken_by(groups, "record") for i in rows)
    assert every == list(range(len(kept)))


def test_branches_that_hold_different_samples_are_named() -> None:
    unequal = labels(rows("a", "matching", [0, 1, 2]), rows("a", "nonmatching", [0, 1, 5]))
    said = r"scenario 'a': 'nonmatching' alone has \[5\], 'matching' alone has \[2\]; drop"
    with pytest.raises(LayoutError, match=said):
        LAYOUT.groups(unequal, None)
    twice = labels(rows("a", "matching", [0, 0, 1]), rows("a", "nonmatching", [0, 1, 1]))
    with pytest.raises(LayoutError, match="'nonmatching' and 'matching' repeat samples unequally"):
        LAYOUT.groups(twice, None)


def test_one_branch_alone_may_stay() -> None:
    only = labels(rows("few_prefilled", "matching", [1]))
    assert grouped(only, file(DISK)) == {
        ("base", ""): [], ("base", "matching"): [], ("base", "nonmatching"): [],
        ("few_prefilled", ""): [], ("few_prefilled", "matching"): [0],
        ("few_prefilled", "nonmatching"): [],
    }  # fmt: skip


def test_repeated_samples_stay_paired() -> None:
    drawn = labels(rows("a", "matching", [4, 2, 4]), rows("a", "nonmatching", [4, 4, 2]))
    assert grouped(drawn) == {
        ("a", ""): [],
        ("a", "matching"): [0, 1, 2],
        ("a", "nonmatching"): [3, 5, 4],
    }


@pytest.mark.parametrize(
    ("form", "branches"),
    [
        (None, ["", "matching"]),
        ({"base": PLAIN}, ["", "matching"]),
        (DISK, ["", "matching", "nonmatching"]),
        ({"base": PLAIN, "few": {"matching": 1, "nonmatching": 1}}, ["matching"]),
    ],
)
def test_new_scenarios_have_the_branches_that_all_of_the_form_have(
    form: Scenarios | None, branches: list[str]
) -> None:
    groups = LAYOUT.groups(labels(rows("new", "matching", [0])), file(form) if form else None)
    assert [key[1] for key in groups.keys if key[0] == "new"] == branches
    assert groups.keys[-1][0] == "new"


def test_labels_may_lack_branch_and_sample() -> None:
    groups = LAYOUT.groups({"scenario": text(["b", "a", "b"])}, None)
    assert groups.keys == (("b", ""), ("a", ""))
    assert taken_by(groups, "record") == [[0, 2], [1]]
    assert groups.shapes["logits"] == ((2,), (1,))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sample": np.arange(2)}, r"Dataset: found labels \['sample'\], without \['scenario'\]"),
        (labels(rows("a/b", "", [0])), "scenario 'a/b' .expected a name without '/'"),
        (labels(rows("", "", [0])), "scenario ''"),
        (labels(rows("a", "left", [0])), "branch 'left' .expected one of"),
        ({"scenario": text(["a"]), "sample": np.zeros(1)}, "sample: found dtype 'float64'"),
    ],
)
def test_labels_that_no_group_can_have_are_refused(given: Labels, said: str) -> None:
    with pytest.raises(LayoutError, match=said):
        LAYOUT.groups(given, None)


def test_samples_continue_where_files_number_them_alike() -> None:
    first = labels(rows("a", "", [0, 1, 4]), rows("b", "matching", [0]))
    second = labels(rows("a", "", [0, 1]), rows("c", "", [0]), rows("b", "matching", [7]))
    a, b = LAYOUT.join([first, second])
    assert a["sample"].tolist() == [0, 1, 4, 0]
    assert b["sample"].tolist() == [5, 6, 0, 7]
    assert b["sample"].dtype == np.int32


def test_parts_that_do_not_collide_stay_as_they_are() -> None:
    whole = labels_of(file({"few": {"matching": 3, "nonmatching": 3}}))
    cut = [{k: v[part] for k, v in whole.items()} for part in (slice(3), slice(3, 6))]
    joined = LAYOUT.join(cut)
    assert [part["sample"].tolist() for part in joined] == [[0, 1, 2], [0, 1, 2]]


@given(st.lists(SCENARIOS, min_size=1, max_size=3))
def test_joined_labels_are_distinct_and_write_as_one(files: list[Scenarios]) -> None:
    parts = LAYOUT.join([labels_of(file(scenarios)) for scenarios in files])
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    every = list(zip(*(joined[name].tolist() for name in joined), strict=True))
    assert len(set(every)) == len(every)
    branches = [{name: set(b) for name, b in scenarios.items()} for scenarios in files]
    if all(a.get(n, x) == x for a in branches for b in branches for n, x in b.items()):
        LAYOUT.groups(joined, None)


def test_sizes_say_what_attributes_count() -> None:
    found = file(DISK)
    groups = arrange(LAYOUT, found).groups
    assert LAYOUT.derive(groups, {}, {"layer": (3, 13)}) == {
        ("", "num_samples", ""): 5,
        ("metadata", "dataset_info", "num_samples"): 3,
        ("metadata", "model_info", "layer_nums"): [3, 13],
        ("metadata", "model_info", "layer_num"): [3, 13],
    }
    assert LAYOUT.derive(groups, {}, {"layer": (13,)})["metadata", "model_info", "layer_num"] == 13


@pytest.mark.parametrize(
    ("scenarios", "says", "expected", "level"),
    [
        ({"a": PLAIN, "b": PLAIN}, 7, "6, 3 samples of each of 2 scenarios", "problem"),
        ({"a": PLAIN, "b": PLAIN}, 3, "6, 3 samples of each of 2 scenarios", "note"),
        ({"a": {"": 4}, "b": PLAIN}, 9, "7, the samples of all 2 scenarios", "problem"),
        ({"a": {"": 4}, "b": PLAIN}, 4, "7, the samples of all 2 scenarios", "note"),
    ],
)
def test_the_total_is_of_all_scenarios(
    scenarios: Scenarios, says: int, expected: str, level: str
) -> None:
    (problem,) = problems(LAYOUT, file(scenarios, num_samples=says))
    assert (problem.found, problem.expected) == (f"attribute 'num_samples' is {says}", expected)
    assert problem.level == level


def test_layers_must_be_those_of_the_names() -> None:
    found = file({"base": PLAIN})
    wrong = {**found.attrs, "metadata": file({"base": PLAIN}, layer=4).attrs["metadata"]}
    (problem,) = problems(LAYOUT, Contents(**{**vars(found), "attrs": wrong}))
    assert problem.found == "attribute 'model_info', 'layer_nums' in it is [4]"
    assert problem.expected == "[3], as the datasets have it"


def test_configurations_and_groups_of_scenarios_are_compared() -> None:
    found, other = file({"base": PLAIN, "a": PLAIN}), file({"base": PLAIN, "b": PLAIN})
    attrs = {**found.attrs, "metadata": other.attrs["metadata"]}
    told = problems(LAYOUT, Contents(**{**vars(found), "attrs": attrs}))
    assert {problem.found for problem in told} == {
        "scenario 'b' has no group",
        "scenario 'a' has no configuration in attribute 'scenarios'",
    }
    assert all(problem.level == "note" for problem in told)


def test_both_forms_of_one_branch_are_a_problem() -> None:
    found = file(DISK)
    arrays = {path: (found.shape(path), found.form(path).dtype) for path in found}
    arrays["scenarios/few_prefilled/data/prefilled_matching/logits"] = (2, 9), "<f2"
    (misfit,) = arrange(LAYOUT, made(arrays)).misfits
    assert (
        misfit.found == "a second form of /scenarios/few_prefilled/data/prefilled/matching/logits"
    )


def test_more_records_than_labels_are_held_for_are_refused() -> None:
    found = file({"base": {"": 2**40}})
    with pytest.raises(LayoutError, match=r"f.h5: found 1099511627776 rows along record.*group="):
        labels_of(found)


@pytest.mark.parametrize("key", LAYOUTS["activations"].UNEQUAL)
def test_scenarios_of_other_shapes_name_the_ways_out(key: str, tmp_path: Path) -> None:
    LAYOUTS["activations"].UNEQUAL[key].write(tmp_path / "f.h5")
    misfits = arrange(LAYOUT, contents(tmp_path / "f.h5")).misfits
    assert misfits
    assert all("group=... or all of them with open_datatree" in str(m) for m in misfits)


def test_the_index_selects_by_all_labels() -> None:
    ds = LAYOUT.example(np.random.default_rng(0))
    assert ds.sel(scenario="base", layer=13).activations.shape == (3, 16)
    assert ds.sel(branch="nonmatching", sample=1).prompts.values.tolist() == [
        "prompts matching_few_shot_prefilled 1"
    ]
