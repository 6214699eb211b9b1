"""What checks find is what numpy finds in the whole variable, whatever the blocks are."""

import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from h5dask import check
from h5dask.check import Check, Find, Findings, Setting, faults
from tests.made import text

Array = np.ndarray[Any, Any]
POSITIONS = st.tuples(st.integers(0, 9), st.integers(0, 9))
NUMBERS = st.none() | st.integers(-5, 5) | st.floats(-5, 5).filter(bool)
FINDINGS = st.builds(
    Findings,
    count=st.integers(0, 100),
    first=st.sets(POSITIONS, max_size=5).map(lambda at: tuple(sorted(at))),
    lowest=NUMBERS,
    highest=NUMBERS,
    marks=st.lists(st.text(max_size=2), max_size=4).map(
        lambda values: faults.find_marks(text(values), 0, Setting()).marks
    ),
)
FLOATS = st.sampled_from(["<f2", ">f2", "<f4", ">f4", "<f8"])
SETTING = Setting(sizes={"vector": 7})


def blocks(values: Array, cuts: list[int], find: Find, setting: Setting = SETTING) -> Findings:
    """Merge what a check finds in blocks cut at some rows, the last block first."""
    ends = sorted({0, len(values), *(cut % (len(values) + 1) for cut in cuts)})
    parts = [[find(values[a:b], a, setting)] for a, b in pairwise(ends)]
    return check.merge(parts[::-1])[0] if parts else find(values, 0, setting)


def expected(values: Array, mask: Array) -> tuple[int, list[tuple[int, ...]]]:
    """Return the count and the first positions, by numpy alone."""
    return int(mask.sum()), [tuple(at) for at in np.argwhere(mask)[:5].tolist()]


def told(findings: Findings) -> tuple[int, list[tuple[int, ...]]]:
    return findings.count, list(findings.first)


@given(FINDINGS, FINDINGS, FINDINGS)
def test_merging_is_associative_and_commutative(a: Findings, b: Findings, c: Findings) -> None:
    assert a.merge(b).merge(c) == a.merge(b.merge(c))
    assert a.merge(b) == b.merge(a)
    assert a.merge(Findings()) == a
    assert pickle.loads(pickle.dumps(a)) == a


def arrays(draw: st.DrawFn, elements: st.SearchStrategy[float]) -> Array:
    dtype = draw(FLOATS)
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6))
    return draw(hnp.arrays("<f8", shape, elements=elements)).astype(dtype)


@st.composite
def wild(draw: st.DrawFn) -> Array:
    """Arrays of any precision and byte order, with everything a float can be."""
    special = [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 3.0, -3.0, 3.0021, 24, -8.01, 6e-8]
    return arrays(draw, st.sampled_from(special))


@given(wild(), st.lists(st.integers(0, 9)))
def test_nan_is_found_as_numpy_finds_it(values: Array, cuts: list[int]) -> None:
    assert told(blocks(values, cuts, faults.find_nan)) == expected(values, np.isnan(values))


@given(wild(), st.lists(st.integers(0, 9)))
def test_infinities_are_found_as_numpy_finds_them(values: Array, cuts: list[int]) -> None:
    assert told(blocks(values, cuts, faults.find_infinite)) == expected(values, np.isinf(values))


@given(wild(), st.lists(st.integers(0, 9)), st.sampled_from([(-3, 3), (-8, 24), (0, 0)]))
def test_ranges_hold_their_bounds(values: Array, cuts: list[int], bounds: tuple[int, int]) -> None:
    found = blocks(values, cuts, faults.outside(*bounds))
    wide = values.astype("f8")
    mask = np.isfinite(wide) & ((wide < bounds[0]) | (wide > bounds[1]))
    assert told(found) == expected(values, mask)
    extremes = (wide[mask].min(), wide[mask].max()) if mask.any() else (None, None)
    assert (found.lowest, found.highest) == extremes


@pytest.mark.parametrize("bound", [0.1, 65504, 1e30])
def test_bounds_that_float16_lacks_are_exact(bound: float) -> None:
    every = np.arange(65536, dtype="u2").view("f2")
    mask = np.isfinite(every) & (np.abs(every.astype("f8")) > bound)
    assert faults.outside(-bound, bound)(every, 0, SETTING).count == mask.sum()


@given(
    hnp.arrays("<i8", st.tuples(st.integers(1, 9), st.integers(1, 4)), elements=st.integers(-2, 9))
)
def test_ids_are_rows_of_the_base(ids: Array) -> None:
    found = blocks(ids, [2, 5], faults.beyond("vector"))
    assert told(found) == expected(ids, (ids < 0) | (ids >= 7))
    assert faults.beyond("unknown")(ids, 0, SETTING) == Findings()


@given(hnp.arrays("<f4", (6, 4), elements=st.integers(0, 3)))
def test_descending_values_are_found_in_their_row(values: Array) -> None:
    mask = np.zeros(values.shape, bool)
    mask[:, 1:] = values[:, 1:] < values[:, :-1]
    assert told(blocks(values, [1, 4], faults.find_descending)) == expected(values, mask)


def test_unsigned_values_must_fit_the_signed_type() -> None:
    values = np.array([[1, 127], [128, 255]], "u1")
    found = faults.outside_unsigned(127)(values, 10, SETTING)
    assert found == Findings(count=2, first=((11, 0), (11, 1)), lowest=128, highest=255)
    assert faults.outside_unsigned(127)(values.astype("i2"), 0, SETTING) == Findings()


@given(st.lists(st.sampled_from(["a", "b", "", "ä", "a\0", "\ud800"])), st.lists(st.integers(0, 9)))
def test_equal_ids_are_found_across_blocks(ids: list[str], cuts: list[int]) -> None:
    again = [i for i, name in enumerate(ids) if name in ids[:i]]
    found = faults.settle_equal(blocks(text(ids), cuts, faults.find_marks))
    assert told(found) == (len(again), [(i,) for i in again[:5]])


@pytest.mark.parametrize("kind", [object, "U", "S"])
def test_text_without_letters_or_with_nul(kind: Any) -> None:
    ids = text(["a", "", "b\0c", ""]).astype(kind)
    assert told(faults.find_empty(ids, 4, SETTING)) == (2, [(5,), (7,)])
    assert told(faults.find_nul(ids, 4, SETTING)) == (1, [(6,)])


def test_marks_of_many_ids_stay_small() -> None:
    ids = text(f"pusht/ep_{i:05d}" for i in range(2_000))
    assert len(faults.find_marks(ids, 0, SETTING).marks) == 24 * 2_000


def test_integers_and_text_are_no_floats() -> None:
    for values in (np.zeros((2, 2), "i4"), text(["a"]), np.zeros((2, 2), "?")):
        assert faults.find_nan(values, 0, SETTING) == Findings()
        assert faults.find_infinite(values, 0, SETTING) == Findings()


CHECK = Check(
    variables=("logits", "metadata_{field}"),
    find=faults.outside(0, 5),
    found="{count} odd values in {name}, from {lowest} to {highest}",
    expected="0 to 5",
    way_out="clip them",
    level="note",
)


def test_a_check_says_what_where_and_the_way_out() -> None:
    values = np.array([[1, 9], [2, -3]])
    (findings,) = check.find([CHECK], "logits", values, 4, SETTING)
    (problem,) = check.tell([CHECK], "f.h5", "logits", [findings])
    assert problem.level == "note"
    assert str(problem) == (
        "f.h5: /logits: 2 odd values in logits, from -3 to 9, at /logits[4, 1], /logits[5, 1]; "
        "expected 0 to 5; clip them"
    )


def test_a_check_names_the_datasets_that_positions_lie_in() -> None:
    findings = Findings(count=9, first=((3, 1), (4, 0)), lowest=8, highest=9)
    problem = CHECK.tell("f.h5", "logits", findings, lambda at: (f"g{at[0]}/logits", at[1:]))
    assert problem is not None
    assert problem.where == "f.h5: /g3/logits"
    assert problem.found.endswith("at /g3/logits[1], /g4/logits[0], ...")


def test_a_check_applies_by_pattern_and_says_nothing_of_nothing() -> None:
    assert CHECK.applies("metadata_success")
    assert not CHECK.applies("embeddings")
    block = np.full((1, 1), 99)
    assert check.find([CHECK], "embeddings", block, 0, SETTING) == (Findings(),)
    assert check.tell([CHECK], "f.h5", "embeddings", [Findings()]) == ()


def test_checks_pickle() -> None:
    block = np.array([[7, 1]])
    carried = pickle.loads(pickle.dumps(CHECK))
    assert carried.find(block, 0, SETTING) == CHECK.find(block, 0, SETTING)
