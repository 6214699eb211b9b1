"""What declarations say of a file, all at once and in few lines."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from h5dask.check.attributes import is_true, json_of
from h5dask.check.structure import place_in, problems
from h5dask.check.summary import collapse
from h5dask.contents import Contents
from h5dask.grouping import arrange
from h5dask.groups import Groups
from h5dask.layout import ArraySpec, AttrSpec, Derived, Layout
from h5dask.problem import Problem
from tests.made import Arrays, contents


def example(rng: np.random.Generator) -> Any:
    raise AssertionError(rng)


def derive(groups: Groups, sizes: Mapping[str, int], lanes: Mapping[str, Any]) -> Derived:
    values = {("", "n", ""): sizes.get("row"), ("about", "told", "rows"): sizes.get("row")}
    values["about", "told", "layers"] = list(lanes.get("layer", ()))
    return {key: value for key, value in values.items() if value}


def limits(sizes: Mapping[str, int], nbytes: int) -> Iterator[Problem]:
    if nbytes > 9:
        yield Problem(where="", found=f"{nbytes} bytes", expected="at most 9")


LAYOUT = Layout(
    name="toy",
    title="groups of rows",
    arrays=(
        ArraySpec(
            name="x",
            paths=("g/{key}/x_{layer:d}",),
            dims=("row", "layer", "column"),
            dtypes=("float32",),
            ragged="row",
            doc="numbers",
        ),
        ArraySpec(
            name="t", paths=("g/{key}/t",), dims=("row",), dtypes=("str",), ragged="row",
            required=False,
        ),
    ),
    attrs=(
        AttrSpec(path="", name="n", kind="int", doc="rows"),
        AttrSpec(path="", name="kind", allowed=("a", "b"), required=False),
        AttrSpec(path="about", name="told", kind="json", required=False),
        AttrSpec(path="g/{key}", name="flag", kind="bool", required=False),
        AttrSpec(path="g/{key}", name="weight", kind="float", required=False),
        AttrSpec(path="g/{key}", name="id", kind="int", at_opening=True),
    ),
    marks=("g",),
    derive=derive,
    limits=limits,
    example=example,
)  # fmt: skip
GOOD: Arrays = {"g/a/x_3": ((2, 4), "<f4"), "g/a/t": ((2,), "str")}
ATTRS: dict[str, dict[str, Any]] = {"": {"n": 2}, "g/a": {"id": 7}}


def said(
    arrays: Arrays = GOOD,
    attrs: Mapping[str, Mapping[str, Any]] = ATTRS,
    layout: Layout = LAYOUT,
    **more: Any,
) -> list[str]:
    """Return level, place and fact of each finding."""
    told = problems(layout, contents(arrays, attrs, **more))
    return [f"{problem.level[0]} {problem.where} {problem.found}" for problem in told]


def test_a_good_file_has_no_finding() -> None:
    assert said() == []


@pytest.mark.parametrize(
    ("root", "finding"),
    [
        ({}, "p f.h5 no attribute 'n'"),
        ({"n": "two"}, "p f.h5 attribute 'n' is 'two'"),
        ({"n": True}, "p f.h5 attribute 'n' is True"),
        ({"n": np.array([2])}, "p f.h5 attribute 'n' is array([2])"),
        ({"n": 3}, "p f.h5 attribute 'n' is 3"),
        ({"n": 2, "kind": "c"}, "p f.h5 attribute 'kind' is 'c'"),
        ({"n": 2, "kind": "A"}, "p f.h5 attribute 'kind' is 'A'"),
        ({"n": 2, "kind": None}, "p f.h5 attribute 'kind' is None"),
        ({"n": 2, "kind": b"a"}, "n f.h5 attribute 'kind' is text of fixed length"),
        ({"n": 2, "other": 1}, "n f.h5 unknown attribute 'other'"),
    ],
)
def test_attributes_are_judged(root: dict[str, Any], finding: str) -> None:
    assert said(attrs={**ATTRS, "": root}) == [finding]


@pytest.mark.parametrize("value", [np.int32(2), 2, np.uint8(2)])
def test_whole_numbers_of_any_width_are_good(value: Any) -> None:
    assert said(attrs={**ATTRS, "": {"n": value}}) == []


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ('{"rows": 2, "layers": [3]}', []),
        ('{"rows": 5}', ["p f.h5: /about attribute 'told', 'rows' in it is 5"]),
        ('{"layers": [3, 4]}', ["p f.h5: /about attribute 'told', 'layers' in it is [3, 4]"]),
        ('{"rows": "two"}', []),
        ("[1]", ["p f.h5: /about attribute 'told' is '[1]'"]),
        ('{"rows":', ["p f.h5: /about attribute 'told' is '{\"rows\":'"]),
    ],
)
def test_json_is_parsed_and_its_numbers_compared(text: str, finding: list[str]) -> None:
    assert said(attrs={**ATTRS, "about": {"told": text}}) == finding


def test_long_values_are_cut() -> None:
    (line,) = said(attrs={**ATTRS, "about": {"told": "x" * 500}})
    assert len(line) < 130


@pytest.mark.parametrize(
    ("group", "finding"),
    [
        ({"flag": 1}, ["p f.h5: /g/a attribute 'flag' is 1"]),
        ({"flag": np.True_, "weight": 0.5}, []),
        ({"weight": "heavy"}, ["p f.h5: /g/a attribute 'weight' is 'heavy'"]),
    ],
)
def test_attributes_of_groups_are_judged(group: dict[str, Any], finding: list[str]) -> None:
    assert said(attrs={**ATTRS, "g/a": {"id": 7, **group}}) == finding


def test_what_was_left_out_is_not_missed() -> None:
    arrays = {f"g/{key}/x_3": ((2, 4), "<f4") for key in "ab"}
    layout = replace(LAYOUT, attrs=(*LAYOUT.attrs, AttrSpec(path="g/{key}", name="late")))
    attrs = {"": {"n": 4}, "g/a": {"id": 7}}
    assert said(arrays, attrs, layout, complete=False) == ["p f.h5: /g/b no attribute 'id'"]
    assert "p f.h5: /g/a, /g/b no attribute 'late'" in said(arrays, attrs, layout)


def test_missing_datasets_are_named_by_group() -> None:
    assert said({}, {"": {"n": 2}}) == ["p f.h5 no dataset 'g/{key}/x_{layer}'"]
    groups = said(GOOD, {**ATTRS, "g/b": {"id": 1}}, groups=["g/b"])
    assert groups == ["p f.h5: /g/b no dataset 'x_{layer}'"]


def test_no_rows_are_a_problem() -> None:
    arrays: Arrays = {"g/a/x_3": ((0, 4), "<f4"), "g/a/t": ((0,), "str")}
    assert said(arrays, {**ATTRS, "": {"n": 0}}) == ["p f.h5: /g/a/x_3 no rows: 0 along row"]


def test_dtypes_and_text_of_fixed_length() -> None:
    arrays: Arrays = {"g/a/x_3": ((2, 4), ">f8"), "g/a/t": ((2,), "S5")}
    assert said(arrays) == [
        "p f.h5: /g/a/x_3 dtype 'float64'",
        "n f.h5: /g/a/t text of fixed length (S5)",
    ]
    assert said({"g/a/x_3": ((2, 4), ">f4")}) == []


def test_unknown_datasets_and_links_are_notes() -> None:
    arrays = {**GOOD, "g/a/seen": ((1,), "<f4")}
    assert said(arrays, links={"g/b": "soft:/g/a"}) == [
        "n f.h5: /g/a/seen unknown dataset 'seen'",
        "n f.h5: /g/b a link or reference that isn't followed (soft:/g/a)",
    ]


def test_limits_name_the_file() -> None:
    (problem,) = problems(LAYOUT, contents(GOOD, ATTRS), nbytes=10)
    assert str(problem) == "f.h5: 10 bytes; expected at most 9"


def test_everything_is_told_at_once() -> None:
    arrays: Arrays = {"g/a/x_3": ((2, 4), "<f8"), "g/b/x_3": ((2, 5), "<f4")}
    told = said(arrays, {"": {"kind": "c"}})
    assert len(told) == 5
    assert min(told) == "p f.h5 attribute 'kind' is 'c'"


def test_a_rule_replaces_what_declarations_say_of_the_same_fact() -> None:
    def rules(found: Contents, groups: Groups) -> Iterable[Problem]:
        yield Problem(where=found.subject, found="no attribute 'n'", expected="better words")

    (problem,) = problems(replace(LAYOUT, rules=rules), contents(GOOD, {"g/a": {"id": 7}}))
    assert problem.expected == "better words"


def test_a_refusal_is_told_alone() -> None:
    refusal = Problem(where="f.h5", found="sets", expected="vectors")
    layout = replace(LAYOUT, refuse=lambda found: refusal)
    assert problems(layout, contents({"odd": ((1,), "str")})) == (refusal,)


def test_what_many_groups_share_is_one_line() -> None:
    arrays = {f"g/{i}/x_3": ((2, 4 + (i > 0) * i), "<f8") for i in range(500)}
    told = said(arrays, {"": {"n": 1000}, **{f"g/{i}": {f"a{i}": 0} for i in range(500)}})
    assert len(told) == 4
    assert told[0].startswith(
        "p f.h5: /g/1/x_3, /g/2/x_3, /g/3/x_3 and 496 more shape (2, 5) (and 498 oth"
    )
    assert "p f.h5: /g/0, /g/1, /g/2 and 497 more no attribute 'id'" in told


def test_few_findings_stay_lines_of_their_own() -> None:
    told = [Problem(where="a: /x", found=f"{i} rows", expected="9") for i in range(20)]
    assert collapse(told, "a") == tuple(told)
    root = [Problem(where=where, found="bad", expected="good") for where in ("a", "a: /x", "a")]
    assert [str(problem) for problem in collapse(root, "a")] == ["a: /, /x: bad; expected good"]


def test_positions_are_found_in_the_file() -> None:
    arrays = {
        f"g/{key}/x_{layer}": ((n, 4), "<f4")
        for key, n in (("a", 2), ("b", 3))
        for layer in (9, 10)
    }
    found = contents(arrays)
    place = place_in(found, arrange(LAYOUT, found), "x")
    assert place((0, 0, 3)) == ("g/a/x_9", (0, 3))
    assert place((4, 1, 0)) == ("g/b/x_10", (2, 0))
    assert place((2,)) == ("g/b/x_9", (0,))


@pytest.mark.parametrize(("value", "truth"), [(True, True), (np.int8(0), False), ("yes", False)])
def test_yes_is_a_bool_or_number(value: Any, truth: bool) -> None:
    assert is_true(value) is truth


def test_json_of_what_is_no_text() -> None:
    assert json_of(3) is None
    assert json_of(b'{"a": 1}') == {"a": 1}
