"""Rows of logits against numpy in float64, at every seam, at every value, and two by two."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from h5dask.kernels.softmax import SHORT, compare, describe

DTYPES = ("f2", "f4", "f8")
LENGTHS = (1, 2, 255, 256, 257, 515, SHORT - 1, SHORT, SHORT + 5, 3 * 4096 + 2)
"""Lengths of rows around a tile's end, a run's, and where float16 begins to take a table."""
NONE = np.zeros(0, np.int64)
NAN, INF = np.nan, np.inf


def logs(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return the logarithms of the probabilities."""
    x = logits.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def times(weights: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of products, in which a weight of 0 counts for nothing."""
    return np.where(weights > 0, weights * np.where(weights > 0, values, 0), 0).sum(-1)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


def check(logits: NDArray[Any], n_top: int = 7) -> None:
    """Compare what is found of every row, and of every token in it, with numpy."""
    n = logits.shape[1]
    tokens = np.unique(np.linspace(0, n - 1, 40).astype(np.int64))
    top, ranks, figures = describe(logits, tokens, n_top)
    order = np.argsort(-logits.astype(np.float64), axis=1, kind="stable")
    assert np.array_equal(top[:, :n], order[:, :n_top])
    assert (top[:, n:] == -1).all()
    assert np.array_equal(ranks, np.argsort(order, axis=1)[:, tokens])
    expected = logs(logits)
    close(figures[:, 0], -expected.max(1))
    close(figures[:, 1], -times(np.exp(expected), expected))


def blocks(dtype: str, *, widest: int = 40) -> st.SearchStrategy[NDArray[Any]]:
    """Return blocks of rows that have a softmax: any finite values, few values, minus infinity."""
    width = 8 * np.dtype(dtype).itemsize
    limit = 60_000.0
    values = st.one_of(
        st.floats(-limit, limit, width=width),
        st.floats(-4, 4, width=width),
        st.sampled_from([0.0, -0.0, 1.0, -limit, limit, -INF, 2.0**-24, -(2.0**-24)]),
    )
    shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=widest)
    return hnp.arrays(dtype, shapes, elements=values).map(settled)


def settled(block: NDArray[Any]) -> NDArray[Any]:
    block[np.isneginf(block).all(1), 0] = 0
    return block


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.data())
def test_any_rows(dtype: str, data: st.DataObject) -> None:
    check(data.draw(blocks(dtype)))


@pytest.mark.parametrize("offset", [0, 63, -6e4, 6e4])
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_any_length(dtype: str, n: int, offset: float) -> None:
    random = np.random.default_rng(n)
    check((random.standard_normal((5, n)) * 3 + offset).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_rows_of_equal_values(dtype: str, n: int) -> None:
    rows = np.array([[0], [-0.0], [5], [6e4], [-6e4], [2**-24]], dtype)
    check(np.repeat(rows, n, axis=1))
    top, ranks, figures = describe(np.zeros((1, n), dtype), np.array([n - 1]), 1)
    assert (top[0, 0], ranks[0, 0]) == (0, n - 1)
    close(figures[0], np.log(n))


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_in_order(dtype: str, order: int) -> None:
    check(np.linspace(-20, 20, 9000, dtype=dtype)[np.newaxis, ::order], n_top=300)


def test_every_float16() -> None:
    every = np.arange(2**16).astype(np.uint16).view(np.float16)
    every = np.random.default_rng(0).permutation(every[np.isfinite(every) | np.isneginf(every)])
    check(every[np.newaxis])
    for limit in (0, 2**-14, 1, 600):  # the largest logit lies elsewhere, so the table does too
        check(every[every <= limit][np.newaxis])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [2, SHORT])
def test_exponentials_of_all_sizes(dtype: str, n: int) -> None:
    gaps = np.linspace(-30, 0, 997).astype(dtype)
    rows = np.full((len(gaps), n), -INF, dtype)
    rows[:, 0], rows[:, 1] = 0, gaps
    found = describe(rows, NONE, 1)[2][:, 0]
    np.testing.assert_allclose(
        found, np.log1p(np.exp(gaps.astype("f8"))), rtol=1e-14, atol=5e-15 if n > 2 else 3e-16
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [600, SHORT])
def test_rows_without_softmax(dtype: str, n: int) -> None:
    rows = np.random.default_rng(1).standard_normal((8, n)).astype(dtype)
    rows[1, 0], rows[2, 255], rows[3, -1] = NAN, -np.float64(NAN), INF
    rows[4, 256], rows[4, 3], rows[5] = NAN, INF, -INF
    rows[6, :-1] = -INF  # one finite value is enough
    top, ranks, figures = describe(rows, np.array([0, n - 1]), 3)
    bad = [1, 2, 3, 4, 5]
    assert (top[bad] == -1).all()
    assert (ranks[bad] == -1).all()
    assert np.isnan(figures[bad]).all()
    check(rows[[0, 6, 7]])
    assert np.array_equal(describe(rows[[0, 6, 7]], NONE, 3)[0], top[[0, 6, 7]])
    compared = compare(rows, np.roll(rows, 1, axis=0))
    assert np.array_equal(np.isnan(compared).any(1), [False] + [True] * 6 + [False])
    assert np.isnan(compared[1:7]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.lists(st.integers(-600, 600), min_size=1, max_size=6), st.integers(0, 2**32))
def test_a_row_is_the_same_in_any_block(dtype: str, offsets: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = (random.standard_normal((len(offsets), SHORT)) + np.c_[offsets]).astype(dtype)
    together = describe(rows, NONE, 2)
    for r, row in enumerate(rows):
        for part, alone in zip(together, describe(row[np.newaxis], NONE, 2), strict=True):
            assert np.array_equal(part[r], alone[0])


@given(hnp.arrays("i8", (3, 30), elements=st.integers(-500, 500)), st.integers(-(2**40), 2**40))
def test_a_shift_changes_nothing(whole: NDArray[np.int64], shift: int) -> None:
    tokens = np.arange(30)
    plain, shifted = (describe(x.astype("f8"), tokens, 4) for x in (whole, whole + shift))
    assert all(np.array_equal(one, other) for one, other in zip(plain, shifted, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [30, SHORT])
def test_any_memory_order(dtype: str, n: int) -> None:
    rows = np.random.default_rng(2).standard_normal((4, n)).astype(dtype)
    expected = describe(rows, NONE, 2)
    frozen = rows.copy()
    frozen.flags.writeable = False
    shifted = np.frombuffer(b"x" + rows.tobytes(), np.uint8)[1:].view(dtype).reshape(rows.shape)
    swapped = rows.astype(rows.dtype.newbyteorder(">"))
    for other in (frozen, shifted, swapped, np.asfortranarray(rows), rows[::-1][::-1]):
        for one, same in zip(describe(other, NONE, 2), expected, strict=True):
            assert np.array_equal(one, same)
        assert np.array_equal(compare(other, other[::-1]), compare(rows, rows[::-1]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_rows(dtype: str) -> None:
    top, ranks, figures = describe(np.zeros((0, 9), dtype), np.array([1, 2]), 3)
    assert (top.shape, ranks.shape, figures.shape) == ((0, 3), (0, 2), (0, 2))
    assert compare(np.zeros((0, 9), dtype), np.zeros((0, 9), dtype)).shape == (0, 4)


def divergences(first: NDArray[Any], second: NDArray[Any]) -> list[NDArray[np.float64]]:
    lp, lq = logs(first), logs(second)
    p, q = np.exp(lp), np.exp(lq)
    with np.errstate(divide="ignore", invalid="ignore"):
        lm = np.log((p + q) / 2)
        both = (times(p, lp - lm) + times(q, lq - lm)) / 2
        # A probability too small for a float isn't 0, so infinity is infinity all the same.
        one, other = (
            np.where(
                np.isneginf(a) | (a == b), 0, np.where(np.isneginf(b), INF, np.exp(a) * (a - b))
            ).sum(-1)
            for a, b in ((lp, lq), (lq, lp))
        )
    return [one, other, both]


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.data())
def test_comparing_any_rows(dtype: str, data: st.DataObject) -> None:
    first = data.draw(blocks(dtype))
    second = data.draw(
        st.sampled_from([first, settled(np.roll(first, 1, axis=1)), settled(first[:, ::-1].copy())])
    )
    found = compare(first, second)
    for part, expected in zip(found.T, divergences(first, second), strict=False):
        np.testing.assert_allclose(part, expected, rtol=1e-12, atol=1e-12)
    assert np.array_equal(found[:, 3], np.argmax(first, 1) == np.argmax(second, 1))


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_comparing_rows_of_any_length(dtype: str, n: int) -> None:
    random = np.random.default_rng(n)
    first = (random.standard_normal((4, n)) * 3 + 20).astype(dtype)
    second = (first + random.standard_normal((4, n))).astype(dtype)
    found = compare(first, second)
    for part, expected in zip(found.T, divergences(first, second), strict=False):
        close(part, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.data())
def test_comparing_is_symmetric_bounded_and_zero_for_equals(
    dtype: str, data: st.DataObject
) -> None:
    rows = data.draw(blocks(dtype))
    found, turned = compare(rows, rows[::-1]), compare(rows[::-1], rows)
    assert np.array_equal(found, turned[:, [1, 0, 2, 3]])
    assert (found >= 0).all()
    assert (found[:, 2] <= np.log(2) * (1 + 1e-12)).all()
    assert np.array_equal(compare(rows, rows), np.tile([0.0, 0, 0, 1], (len(rows), 1)))
