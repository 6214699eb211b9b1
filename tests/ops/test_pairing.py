"""Pairs by rule and as told, the rows of their sides, and what is said where there are none."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from h5dask.errors import NotFound, Refused
from h5dask.indexes import Labels
from h5dask.ops.pairing import Pair, Side, pairs_of, rows_of
from tests.labelled import labelled

M, N = "matching", "nonmatching"
OLD = [("matching_x", ""), ("non_matching_x", "")]
BOTH = [("p", M), ("p", N)]


def records(sides: Sequence[tuple[str, str]], samples: Sequence[int] | None = None) -> xr.Dataset:
    """Return a Dataset of records with these labels."""
    scenario, branch = (np.array(one, object) for one in zip(*sides, strict=True))
    sample = np.zeros(len(sides), np.int32) if samples is None else np.array(samples)
    index = Labels("record", {"scenario": scenario, "branch": branch, "sample": sample})
    return xr.Dataset(coords=xr.Coordinates.from_xindex(index))


def found(ds: xr.Dataset, *told: object) -> list[tuple[str, str, str]]:
    return [(pair.name, str(pair.first), str(pair.second)) for pair in pairs_of(ds, *told)]


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        (OLD, [("matching_x", *("matching_x", "non_matching_x"))]),
        (OLD[::-1], [("matching_x", *("matching_x", "non_matching_x"))]),
        (BOTH, [("p", "p/matching", "p/nonmatching")]),
        (BOTH[::-1], [("p", "p/matching", "p/nonmatching")]),
        (
            [("matching_p_matching_q", ""), ("base", ""), ("non_matching_p_non_matching_q", "")],
            [("matching_p_matching_q", "matching_p_matching_q", "non_matching_p_non_matching_q")],
        ),
        (
            [("x_matching", M), *BOTH, ("x_non_matching", N)],
            [("x_matching", "x_matching/matching", "x_non_matching/nonmatching"),
             ("p", "p/matching", "p/nonmatching")],
        ),
        (
            [("matching_x", M), ("matching_x", N), ("non_matching_y", ""), ("matching_y", "")],
            [("matching_x", "matching_x/matching", "matching_x/nonmatching"),
             ("matching_y", "matching_y", "non_matching_y")],
        ),
    ],
)  # fmt: skip
def test_the_rule(sides: list[tuple[str, str]], expected: list[tuple[str, str, str]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found(records(sides)) == expected
        assert found(records([*sides, *sides])) == expected


def test_a_name_without_its_counterpart() -> None:
    text = (
        "scenario 'matching_y': found no counterpart, which differs in 'non_matching' alone; the "
        "scenarios are 'base', 'matching_y'"
    )
    with pytest.raises(Refused, match=text):
        pairs_of(records([("base", ""), ("matching_y", "")]))
    with pytest.warns(UserWarning, match="scenario 'non_matching_y': found no counterpart"):
        assert found(records([*BOTH, ("non_matching_y", "")])) == found(records(BOTH))


def test_names_that_are_alike_in_several_ways() -> None:
    names = ["matching_a_non_matching_b", "non_matching_a_matching_b"]
    text = "scenarios '{}', '{}': found 2 names that differ in 'non_matching' alone".format(*names)
    with pytest.raises(Refused, match=text):
        pairs_of(records([(name, "") for name in names]))
    names.append("matching_a_matching_b")
    with pytest.raises(Refused, match="found 3 names that differ") as refused:
        pairs_of(records([*((name, "") for name in names), ("matching", "")]))
    assert len(str(refused.value).splitlines()) == 2


def test_no_pairs() -> None:
    text = (
        r"found none by name \(matching_X with non_matching_X, or a scenario's branches "
        r"\('matching', 'nonmatching'\)\); the scenarios are 'a', 'b'; name them, pairs=\[\(name, "
    )
    with pytest.raises(Refused, match=text):
        pairs_of(records([("a", ""), ("b", M)]))
    with pytest.raises(Refused, match="found none; the scenarios are 'p'"):
        pairs_of(records(BOTH), [])


def test_pairs_as_told() -> None:
    ds = records([("a", ""), ("b", N), *BOTH])
    assert found(ds, [("a", "b"), ("p/nonmatching", "a")]) == [
        ("a - b", "a", "b/nonmatching"),
        ("p/nonmatching - a", "p/nonmatching", "a"),
    ]
    assert found(ds, {"one": ("b/nonmatching", "p/matching")}) == [
        ("one", "b/nonmatching", "p/matching")
    ]
    several = records([("a", ""), ("a", M), ("b", "")])
    assert found(several, [("a", "a/matching")]) == [("a - a/matching", "a", "a/matching")]


def test_everything_wrong_with_what_is_told() -> None:
    told = [
        ("a", "nowhere"),
        ("p", "a"),
        ("a/matching", "p/other"),
        "ab",
        ("a",),
        *[("a", "b")] * 2,
    ]
    with pytest.raises(Refused, match="pairs") as refused:
        pairs_of(records([("a", ""), ("b", M), *BOTH]), told)  # type: ignore[arg-type]
    assert str(refused.value).splitlines() == [
        "pairs: found 'nowhere'; the scenarios are 'a', 'b', 'p'",
        "pairs: found 'p', which has several branches; write 'p/matching' or 'p/nonmatching'",
        "pairs: found 'a/matching'; the branches of 'a' are ''",
        "pairs: found 'p/other'; the branches of 'p' are 'matching', 'nonmatching'",
        "pairs: found 'ab'; a pair is two names, such as ('a', 'b')",
        "pairs: found ('a',); a pair is two names, such as ('a', 'b')",
        "pairs: found 'a - b' 2 times",
    ]


@pytest.mark.parametrize(
    ("told", "meant"),
    [(("a", "b"), "'a', 'b'"), (["a", "b", "p"], "name, name"), ("ab", "name, name")],
)
def test_names_in_no_list(told: Any, meant: str) -> None:
    with pytest.raises(Refused, match="pairs") as refused:
        pairs_of(records([("a", ""), ("b", M)]), told)
    assert str(refused.value) == f"pairs: found {told!r}; expected a list: pairs=[({meant})]"


def test_missing_coords() -> None:
    ds = records(OLD)
    text = re.escape("branch: found coords ['scenario', 'sample'] along 'record'")
    bare = ds.drop_indexes(list(ds.coords))
    with pytest.raises(NotFound, match=text):
        pairs_of(bare.drop_vars("branch"))
    with pytest.raises(NotFound, match="scenario, branch: found coords"):
        pairs_of(ds, dim="row")
    (pair,) = pairs_of(bare)
    with pytest.raises(NotFound, match="sample: found coords"):
        rows_of(bare.drop_vars("sample"), pair)
    first, second = rows_of(bare.drop_vars("sample"), pair, paired=False)
    assert (first.tolist(), second.tolist()) == ([0], [1])


@given(st.permutations(range(8)))
def test_rows_meet_by_sample_in_the_order_of_the_first_side(order: list[int]) -> None:
    ds = records([*[OLD[0]] * 4, *[OLD[1]] * 4], [3, 1, 4, 5] * 2).isel(record=order)
    (pair,) = pairs_of(ds)
    first, second = rows_of(ds, pair)
    assert np.array_equal(ds["sample"].values[first], ds["sample"].values[second])
    assert (np.diff(first) > 0).all()
    assert set(ds["scenario"].values[second]) == {"non_matching_x"}
    apart = rows_of(ds, pair, paired=False)
    assert np.array_equal(apart[0], first)
    assert np.array_equal(apart[1], np.sort(second))


def test_samples_that_differ() -> None:
    ds = records([*[OLD[0]] * 3, *[OLD[1]] * 2], [0, 1, 2, 2, 7])
    (pair,) = pairs_of(ds)
    text = (
        "pair 'matching_x': found 3 samples of 'matching_x' and 2 of 'non_matching_x', which must "
        "be the same; only the first has 0, 1, only the second 7; .*paired=False"
    )
    with pytest.raises(Refused, match=text):
        rows_of(ds, pair)
    assert [one.tolist() for one in rows_of(ds, pair, paired=False)] == [[0, 1, 2], [3, 4]]


def test_samples_that_repeat() -> None:
    ds = records([*BOTH, *BOTH, BOTH[0]], [1, 1, 1, 2, 3])
    (pair,) = pairs_of(ds)
    with pytest.raises(Refused, match="found sample 1 of 'p/matching' more than once; a sample"):
        rows_of(ds, pair)


def test_a_side_without_records() -> None:
    side = Side(scenario="matching_x", branch="")
    gone = Pair(name="gone", first=side, second=Side(scenario="q", branch=M))
    with pytest.raises(Refused, match="found 1 records of 'matching_x' and 0 of 'q/matching'"):
        rows_of(records(OLD), gone, paired=False)


def test_coords_of_other_kinds() -> None:
    ds = labelled()
    told = {"x": ("x/m", "x/n")}
    (pair,) = pairs_of(ds.isel(record=[2, 4]), told)
    assert [one.tolist() for one in rows_of(ds.isel(record=[2, 4]), pair)] == [[0], [1]]
    fixed = ds.isel(record=[2, 4]).drop_indexes(["scenario", "branch", "sample"])
    fixed = fixed.assign_coords(
        scenario=fixed.scenario.astype("U3"), branch=fixed.branch.astype("U3")
    )
    assert pairs_of(fixed, told) == (pair,)
    assert [one.tolist() for one in rows_of(fixed.chunk(), pair)] == [[0], [1]]
