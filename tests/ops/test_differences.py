"""Records of two sides against numpy: merged in any way, no matrix where rows are fewer."""

from __future__ import annotations

import pickle
import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from h5dask.ops.differences import (
    Sides,
    compared,
    halves_of,
    judged,
    merge,
    projected,
    seen,
    seen_paired,
)

Sets = tuple[NDArray[Any], NDArray[Any], NDArray[np.int8]]


def drawn(n: int, width: int, dtype: str = "f8", offset: float = 0.0, seed: int = 0) -> Sets:
    """Return vectors of two sides, and which half each pair of them is in."""
    rng = np.random.default_rng(seed)
    first, second = rng.standard_normal((2, n, width)) * np.arange(1, width + 1)
    return (
        (first + 1 + offset).astype(dtype),
        (second + offset).astype(dtype),
        halves_of(n, rng),
    )


def principal(differences: NDArray[np.float64]) -> Any:
    """Return the first right singular vector, oriented along the mean."""
    top = np.linalg.svd(differences, full_matrices=False)[2][0]
    return top * np.sign(top @ differences.mean(0))


def check(found: dict[str, Any], first: Any, second: Any, half: Any, offset: float = 0.0) -> None:
    """Compare with numpy's means of numbers from which an offset is taken first."""
    a, b = (one.astype(np.float64) - offset for one in (first, second))
    scale = max(np.abs(a).max(), np.abs(b).max())
    np.testing.assert_allclose(found["vector"], a.mean(0) - b.mean(0), rtol=0, atol=1e-14 * scale)
    for one in (0, 1):
        told = a[half == one].mean(0) - b[half == one].mean(0)
        np.testing.assert_allclose(found["halves"][one], told, rtol=0, atol=1e-14 * scale)
    assert found["count"].tolist() == [len(a), len(b)]


def cut(given: Sets, at: list[int]) -> list[Sets]:
    """Return pieces of vectors."""
    edges = [0, *at, len(given[0])]
    return [
        (given[0][low:high], given[1][low:high], given[2][low:high])
        for low, high in pairwise(edges)
    ]


# Sums and differences


@pytest.mark.parametrize(("dtype", "offset"), [("f8", 1e4), ("f4", 1e4), ("f2", 1e3)])
@pytest.mark.parametrize(("n", "width"), [(40, 5), (40, 100), (200, 130), (90, 130)])
def test_an_offset_costs_no_digits(n: int, width: int, dtype: str, offset: float) -> None:
    given = drawn(n, width, dtype, offset)
    parts = [seen_paired(*piece) for piece in cut(given, [7, n // 2])]
    found = compared(merge(parts))
    check(found, *given, offset)
    differences = given[0].astype("f8") - given[1].astype("f8")
    np.testing.assert_allclose(found["principal"], principal(differences), atol=1e-12)
    apart = [seen(one, given[2], side=side) for side, one in enumerate(given[:2])]
    unpaired = compared(merge(apart))
    check(unpaired, *given, offset)
    assert "principal" not in unpaired


def test_sides_of_unequal_length() -> None:
    first, second, half = drawn(30, 4)
    parts = [seen(first, half, side=0), seen(second[:11], half[:11], side=1)]
    found = compared(merge(parts))
    np.testing.assert_allclose(found["vector"], first.mean(0) - second[:11].mean(0), rtol=1e-12)
    assert found["count"].tolist() == [30, 11]


@pytest.mark.parametrize("what", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_skipped_on_both_sides_of_a_pair(what: float) -> None:
    first, second, half = drawn(20, 3)
    first[4, 1] = what
    second[9, 0] = what
    second[4, 2] = what
    good = np.delete(np.arange(20), [4, 9])
    found = compared(seen_paired(first, second, half))
    check(found, first[good], second[good], half[good])
    assert found["skipped"].tolist() == [2, 2]
    np.testing.assert_allclose(
        found["principal"], principal(first[good] - second[good]), atol=1e-12
    )
    apart = compared(merge([seen(first, half, side=0), seen(second, half, side=1)]))
    assert apart["count"].tolist() == [19, 18]
    assert apart["skipped"].tolist() == [1, 2]


def test_nothing_finite_is_nan() -> None:
    first, second, half = drawn(4, 3)
    found = compared(seen_paired(first * np.nan, second, half))
    for name in ("vector", "halves", "principal"):
        assert np.isnan(found[name]).all()
    assert (found["count"].tolist(), found["skipped"].tolist()) == ([0, 0], [4, 4])
    one_sided = compared(seen(first, half, side=0))
    assert np.isnan(one_sided["vector"]).all()


def test_no_rows_are_no_record_of_any() -> None:
    empty = np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0, np.int8)
    given = drawn(9, 3)
    for parts in ([empty, given], [given, empty], [empty, given, empty]):
        found = compared(merge([seen_paired(*one) for one in parts]))
        check(found, *given)
    assert np.isnan(compared(seen_paired(*empty))["principal"]).all()


def test_a_half_without_vectors_is_nan() -> None:
    first, second, half = drawn(6, 3)
    found = compared(seen_paired(first, second, np.zeros_like(half)))
    assert np.isfinite(found["halves"][0]).all()
    assert np.isnan(found["halves"][1]).all()
    assert np.isfinite(found["vector"]).all()


@settings(max_examples=60)
@given(
    st.integers(0, 14), st.integers(0, 14), st.integers(0, 14),
    st.sampled_from([2, 3, 12, 30]), st.booleans(), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_merging_is_associative(
    a: int, b: int, c: int, width: int, paired: bool, seed: int
) -> None:
    given = drawn(a + b + c, width, offset=1e4, seed=seed)
    given[0][np.random.default_rng(seed).random(a + b + c) < 0.1] = np.nan
    pieces = cut(given, [a, a + b])

    def looked(piece: Sets, at: int) -> Sides:
        return seen_paired(*piece) if paired else seen(piece[0], piece[2], side=at % 2)

    x, y, z = parts = [looked(piece, at) for at, piece in enumerate(pieces)]
    before = pickle.dumps(parts)
    told = compared(merge([x, y, z]))
    for found in (merge([merge([x, y]), z]), merge([x, merge([y, z])]), merge([merge([x, y, z])])):
        made = compared(found)
        assert made.keys() == told.keys()
        for name in ("vector", "halves", "count", "skipped"):
            np.testing.assert_allclose(made[name], told[name], rtol=0, atol=1e-11)
        if paired:
            assert (found.rows is None) == (told["count"][0] >= width)
            n = np.isfinite(given[0]).all(1).sum()
            if n > 1:
                differences = (given[0] - given[1])[np.isfinite(given[0]).all(1)]
                np.testing.assert_allclose(
                    np.abs(made["principal"] @ principal(differences)), 1, rtol=1e-6
                )
    assert pickle.dumps(parts) == before


# The principal direction


@pytest.mark.parametrize(("n", "width"), [(3, 200), (199, 200), (200, 200), (500, 70), (500, 64)])
def test_rows_are_kept_while_they_are_fewer_than_columns(n: int, width: int) -> None:
    given = drawn(n, width)
    record = merge([seen_paired(*piece) for piece in cut(given, [n // 3])])
    if n < width:
        assert record.products is None
        assert record.rows is not None
        assert record.rows.shape == (n, width)
    else:
        assert record.rows is None
        assert record.products is not None
        assert record.products.shape == (width, width)
    found = compared(record)["principal"]
    np.testing.assert_allclose(found, principal(given[0] - given[1]), atol=1e-12)
    assert np.linalg.norm(found) == pytest.approx(1, rel=1e-14)


@pytest.mark.parametrize("n", [3, 50, 100])
def test_a_direction_that_cancels_in_every_sum_is_found(n: int) -> None:
    rng = np.random.default_rng(0)
    differences = rng.standard_normal((2 * n, 150)) * 1e-3
    differences[0, 0], differences[1, 0] = 5, -5
    differences[:2, 1:] = 0
    half = halves_of(2 * n, rng)
    found = compared(seen_paired(differences, np.zeros_like(differences), half))["principal"]
    np.testing.assert_allclose(np.abs(found), np.eye(150)[0], atol=1e-6)


def test_differences_of_nothing_have_no_direction() -> None:
    first, _, half = drawn(6, 3)
    found = compared(seen_paired(first, first, half))
    assert not found["vector"].any()
    assert np.isnan(found["principal"]).all()


def test_few_wide_differences_need_no_matrix() -> None:
    n, width = 300, 4096
    rng = np.random.default_rng(0)
    pieces = [
        (*(rng.standard_normal((2, n // 3, width), np.float32) + 1), halves_of(n // 3, rng))
        for _ in range(3)
    ]
    tracemalloc.start()
    record = merge([merge([seen_paired(*piece) for piece in pieces[:2]]), seen_paired(*pieces[2])])
    found = compared(record)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert record.products is None
    assert record.rows is not None
    assert record.rows.shape == (n, width)
    assert peak < 8 * width**2 / 2
    assert np.linalg.norm(found["principal"]) == pytest.approx(1)


# Projections, and how good they are


def test_each_half_is_projected_on_the_other_ones_vector() -> None:
    first, _, half = drawn(12, 3)
    vectors = np.array([[3.0, 4, 0], [0, 0, 2]])
    told = np.where(half == 0, first[:, 2], (first @ [0.6, 0.8, 0]))
    np.testing.assert_allclose(projected(first, half, vectors), told, rtol=1e-14)


def test_what_is_not_finite_has_no_projection() -> None:
    first, _, half = drawn(12, 3)
    first[1, 0], first[5, 2], first[7] = np.nan, np.inf, -np.inf
    found = projected(first, half, np.eye(3)[:2])
    assert np.flatnonzero(np.isnan(found)).tolist() == [1, 5, 7]
    vectors = np.array([[1.0, 0, 0], [0, 0, 0]])
    assert np.array_equal(np.isnan(projected(first[8:], half[8:], vectors)), half[8:] == 0)


def quality(first: Any, second: Any, half: Any, other: Any) -> tuple[float, float]:
    """Return d' and AUC by numpy and scipy, the mean of both halves."""
    found = []
    for one in (0, 1):
        a, b = first[half == one], second[other == one]
        gap = a.mean() - b.mean()
        auc = mannwhitneyu(a, b).statistic / len(a) / len(b)
        found.append((gap / np.sqrt((a.var() + b.var()) / 2), auc))
    return tuple(np.mean(found, axis=0))


@pytest.mark.parametrize("rounded", [False, True])
def test_quality_is_that_of_scipy(rounded: bool) -> None:
    rng = np.random.default_rng(0)
    n, m = 31, 20
    half = np.full((2, n), -1, np.int8)
    half[0], half[1, :m] = halves_of(n, rng), halves_of(m, rng)
    values = rng.standard_normal((2, n)) + np.array([[0.7], [0]])
    values[1, m:] = np.nan
    values = np.round(values) if rounded else values
    told = quality(values[0], values[1, :m], half[0], half[1, :m])
    np.testing.assert_allclose(judged(values, half), told, rtol=1e-13)
    several = np.stack([values, values + 5])[:, np.newaxis]
    made = judged(several, half)
    assert made.shape == (2, 1, 2)
    np.testing.assert_allclose(made[:, 0], [told, told], rtol=1e-12)
    values[0, 3] = np.nan
    rest = np.delete(np.arange(n), 3)
    told = quality(values[0, rest], values[1, :m], half[0, rest], half[1, :m])
    np.testing.assert_allclose(judged(values, half), told, rtol=1e-13)


HALF = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.int8)
JUDGED: dict[str, tuple[list[list[float]], list[float]]] = {
    "apart": ([[3, 4, 3, 4], [0, 1, 0, 1]], [6, 1]),
    "the other way round": ([[0, 1, 0, 1], [3, 4, 3, 4]], [-6, 0]),
    "all alike": ([[1, 1, 1, 1], [1, 1, 1, 1]], [0, 0.5]),
    "constant": ([[2, 2, 2, 2], [1, 1, 1, 1]], [np.inf, 1]),
    "constant, and against each other": ([[2, 2, 0, 0], [1, 1, 1, 1]], [np.nan, 0.5]),
    "one half unknown": ([[3, 4, np.nan, np.nan], [0, 1, 0, 1]], [6, 1]),
    "one value a half": ([[3, np.nan, 3, np.nan], [0, 1, 0, 1]], [np.nan, 1]),
    "nothing": ([[np.nan] * 4, [0, 1, 0, 1]], [np.nan, np.nan]),
}


@pytest.mark.parametrize(("values", "told"), JUDGED.values(), ids=JUDGED)
def test_quality_of_few(values: list[list[float]], told: list[float]) -> None:
    assert np.array_equal(judged(np.array(values, float), HALF), told, equal_nan=True)


@given(st.integers(0, 50), st.integers(0, 2**32 - 1))
def test_halves_are_as_large_as_each_other(n: int, seed: int) -> None:
    half, again = (halves_of(n, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(half, again)
    assert sorted(np.bincount(half, minlength=2).tolist()) == [n // 2, n - n // 2]
