"""Both filters against rational numbers: never below the true ones, above by no more than said."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from h5dask.ops.metrics import Metric, metric_of
from h5dask.ops.products import FLOAT32, FLOAT64, Filter, Space, space_of
from tests.ops.oracles import KINDS, NARROW, drawn

FILTERS = {which.name: which for which in (FLOAT32, FLOAT64)}
seeds = st.integers(0, 2**32 - 1)
Vector = list[Fraction]


def spaced(
    base: NDArray[Any], query: NDArray[np.float64], metric: Metric, *, is_whole: bool
) -> Space:
    """Return the space of all vectors."""
    most = float(np.abs(base).max()), float(np.abs(query).max())
    return space_of(base, np.arange(len(base)), query, most, metric, is_whole=is_whole)


def exact(vector: NDArray[np.float64], centre: NDArray[np.float64] | None = None) -> Vector:
    """Return a vector, less a centre if there is one, with no digit lost."""
    less = [0.0] * len(vector) if centre is None else centre.tolist()
    return [Fraction(x) - Fraction(c) for x, c in zip(vector.tolist(), less, strict=True)]


def dot(one: Vector, other: Vector) -> Fraction:
    return sum((a * b for a, b in zip(one, other, strict=True)), Fraction(0))


def true_number(x: NDArray[np.float64], q: NDArray[np.float64], space: Space) -> Fraction:
    """Return what a filter's number stands for."""
    moved = exact(x, space.centre)
    if not space.metric.is_moved:
        return dot(exact(q), moved) * Fraction(space.factor)
    found = dot(exact(q, space.centre), moved) - dot(moved, moved) / 2
    return found * Fraction(space.factor)


def multiplied(
    which: Filter, base: NDArray[np.float64], query: NDArray[np.float64], space: Space
) -> tuple[NDArray[np.float64], list[list[Fraction]]]:
    """Return a filter's numbers (base vector, query), and how far they may be off."""
    x = which.base(base, np.arange(len(base)), space)
    q = which.queries(query, np.arange(len(query)), space)
    tile = np.empty((len(base), len(query)), which.dtype)
    which.multiply(x.values, q.values, tile)
    assert np.isfinite(tile).all()
    slack = [
        [dot(exact(a), exact(b)) for b in q.slack.astype(float)] for a in x.slack.astype(float)
    ]
    return tile.astype(np.float64), slack


@pytest.mark.parametrize("name", FILTERS)
@given(
    st.tuples(st.sampled_from([*KINDS]), st.sampled_from([*KINDS])),
    st.sampled_from(["euclidean", "ip"]),
    seeds,
    st.integers(1, 9),
)
@example(("large", "near nothing"), "ip", 0, 1)
def test_numbers_and_their_slack(
    name: str, kinds: tuple[str, str], metric: str, seed: int, width: int
) -> None:
    rng = np.random.default_rng(seed)
    base, query = drawn(kinds[0], "f8", rng, (5, width)), drawn(kinds[1], "f8", rng, (4, width))
    space = spaced(base, query, metric_of(metric), is_whole=False)
    which = FILTERS[name]
    if not which.suits(space):
        return
    numbers, slack = multiplied(which, base, query, space)
    for i, x in enumerate(base):
        for j, q in enumerate(query):
            above = Fraction(numbers[i, j]) - true_number(x, q, space)
            assert 0 <= above <= slack[i][j]


@pytest.mark.parametrize("name", FILTERS)
@given(seeds, st.integers(1, 600))
def test_directions(name: str, seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    base, query = rng.standard_normal((6, width)), rng.standard_normal((4, width))
    space = spaced(base, query, metric_of("angular"), is_whole=False)
    numbers, slack = multiplied(FILTERS[name], base, query, space)
    x, q = (np.longdouble(one) for one in (base, query))
    x, q = (one / np.sqrt((one**2).sum(1))[:, None] for one in (x, q))
    above = numbers - ((x - space.centre) @ q.T) * space.factor
    assert (above >= -1e-18).all()
    assert (above <= np.array(slack, float) + 1e-18).all()


@pytest.mark.parametrize("metric", ["euclidean", "ip"])
@given(seeds, st.integers(1, 40), st.integers(0, 9), st.integers(0, 62), st.integers(0, 62))
def test_whole_numbers_are_exact_where_it_is_said(
    metric: str, seed: int, width: int, low: int, shift: int, own: int
) -> None:
    rng = np.random.default_rng(seed)
    base = (2**shift + rng.integers(0, 2**low, (6, width))).astype(float)
    query = rng.integers(-(2**own), 2**own, (4, width)).astype(float)
    space = spaced(base, query, metric_of(metric), is_whole=True)
    if not space.is_exact:
        return
    numbers, slack = multiplied(FLOAT32, base, query, space)
    assert all(not one for row in slack for one in row)
    keys = metric_of(metric).keys
    for i, x in enumerate(base):
        for j, q in enumerate(query):
            assert Fraction(numbers[i, j]) == true_number(x, q, space)
            (key,) = keys(base, np.array([i]), query, np.array([j]))
            off = [a - b for a, b in zip(exact(q), exact(x), strict=True)]
            told = dot(off, off) if metric == "euclidean" else -dot(exact(q), exact(x))
            assert Fraction(float(key)) == told


@pytest.mark.parametrize("dtype", ["i1", "u1"])
@pytest.mark.parametrize("metric", ["euclidean", "ip"])
def test_bytes_are_exact(dtype: str, metric: str) -> None:
    ends = np.iinfo(dtype)
    values = np.random.default_rng(0).integers(ends.min, ends.max + 1, (50, 128), dtype)
    base = values.astype(np.float32)
    found = spaced(base, base.astype(float), metric_of(metric), is_whole=True)
    assert found.is_exact
    assert not spaced(base, base.astype(float), metric_of(metric), is_whole=False).is_exact


@given(
    st.tuples(st.sampled_from([*KINDS]), st.sampled_from([*KINDS])),
    st.sampled_from(["euclidean", "ip"]),
    seeds,
)
def test_no_value_is_above_one(kinds: tuple[str, str], metric: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    base, query = drawn(kinds[0], "f8", rng, (5, 3)), drawn(kinds[1], "f8", rng, (4, 3))
    space = spaced(base, query, metric_of(metric), is_whole=False)
    if not FLOAT64.suits(space):
        return
    assert np.frexp([space.scale, space.query_scale])[0].tolist() == [0.5, 0.5]
    packed = FLOAT64.base(base, np.arange(5), space).values
    assert np.abs(packed[:, :-2]).max() <= 1.0
    assert np.isfinite(FLOAT64.queries(query, np.arange(4), space).values).all()


def test_only_those_that_are_asked_for_in_their_order() -> None:
    rng = np.random.default_rng(1)
    base, query = rng.standard_normal((9, 4)), rng.standard_normal((9, 4))
    space = spaced(base, query, metric_of("euclidean"), is_whole=False)
    order = np.array([5, 5, 0, 8])
    for pack in (FLOAT32.base, FLOAT32.queries):
        every, some = pack(base, np.arange(9), space), pack(base, order, space)
        assert np.array_equal(some.values, every.values[order])
        assert np.array_equal(some.slack, every.slack[order])


@pytest.mark.parametrize("kind", NARROW)
def test_float32_suits_data_as_it_comes(kind: str) -> None:
    values = drawn(kind, "f4", np.random.default_rng(2), (20, 8))
    space = spaced(values, values.astype(float), metric_of("euclidean"), is_whole=False)
    assert FLOAT32.suits(space)
    assert FLOAT64.suits(space)


def test_too_many_features_for_a_bound() -> None:
    base = np.zeros((1, 2**21), np.float32)
    space = spaced(base, base.astype(float), metric_of("ip"), is_whole=False)
    assert not FLOAT32.suits(space)
    assert FLOAT64.suits(space)
