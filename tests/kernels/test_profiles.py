"""Amino acids counted and compared, against numpy profile by profile."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from h5dask.kernels.profiles import (
    LETTERS,
    UNKNOWN,
    Samples,
    agreement,
    consensus,
    count,
    samples_of,
    shares,
)

Block = tuple[NDArray[np.int8], Samples, list[NDArray[np.int8]]]


@st.composite
def blocks(draw: st.DrawFn, *, letters: int = LETTERS) -> Block:
    """Return letters, whose they are, and the samples of each profile: (sample, position)."""
    lengths = draw(st.lists(st.integers(0, 8), min_size=1, max_size=4))
    profiles = [p for p in range(len(lengths)) for _ in range(draw(st.integers(1, 5)))]
    profiles = np.array(draw(st.permutations(profiles)))
    own = np.array(lengths)[profiles]
    size = int(own.sum())
    values = draw(st.lists(st.integers(0, letters - 1), min_size=size, max_size=size))
    ends = np.cumsum(own)
    parts = np.split(np.array(values, np.int8), ends[:-1])
    rows = [
        np.array([part for part, p in zip(parts, profiles, strict=True) if p == mine], np.int8)
        for mine in range(len(lengths))
    ]
    return np.concatenate(parts), samples_of(own, profiles), rows


def counted(rows: NDArray[np.int8]) -> NDArray[np.int64]:
    return (rows[..., None] == np.arange(LETTERS)).sum(0)


@given(blocks())
def test_counts(block: Block) -> None:
    letters, samples, rows = block
    expected = np.concatenate([counted(one) for one in rows])
    found = count(letters, samples)
    assert found.dtype == np.int32
    assert np.array_equal(found, expected)


@given(blocks(letters=4))
def test_shares(block: Block) -> None:
    letters, samples, rows = block
    frequency, entropy, diversity = shares(count(letters, samples), samples)
    p = np.concatenate([counted(one) / len(one) for one in rows])
    assert np.array_equal(frequency, p.astype(np.float32))
    bits = -(p * np.log2(np.where(p > 0, p, 1))).sum(1)
    np.testing.assert_allclose(entropy, bits, rtol=1e-14, atol=1e-15)
    assert (entropy >= 0).all()
    for mine, one in zip(diversity, rows, strict=True):
        pairs = [a != b for i, a in enumerate(one) for b in one[:i]]
        if pairs and one.shape[1]:
            np.testing.assert_allclose(mine, np.mean(pairs), rtol=1e-14, atol=1e-15)
        else:
            assert np.isnan(mine)


def test_entropy_of_many_samples_is_no_more_than_that_of_all_letters() -> None:
    n = 21 * 50
    samples = samples_of(np.ones(n, np.int64), np.zeros(n, np.int64))
    _, entropy, _ = shares(count((np.arange(n) % 21).astype(np.int8), samples), samples)
    np.testing.assert_allclose(entropy, np.log2(21), rtol=1e-14)


@given(
    st.lists(st.integers(0, 2), min_size=LETTERS, max_size=LETTERS),
    st.lists(st.sampled_from([0, 1e-30, 0.25, 0.5]), min_size=LETTERS, max_size=LETTERS),
)
def test_consensus(counts: list[int], weights: list[float]) -> None:
    found = consensus(np.array([counts], np.int32), np.array([weights], np.float32))
    expected = max(range(LETTERS), key=lambda a: (counts[a], weights[a], -a))
    assert found.tolist() == [expected]


def test_consensus_without_weights() -> None:
    counts = np.zeros((2, LETTERS), np.int32)
    counts[:, [4, 9]] = 2**26
    for sign in (1, -1):  # as processors make NaN, and as numpy does
        weights = np.full(counts.shape, np.copysign(np.nan, sign), np.float32)
        assert consensus(counts, weights).tolist() == [4, 4]


@given(blocks(), st.data())
def test_agreement(block: Block, data: Any) -> None:
    letters, samples, _ = block
    n = len(samples.order)
    lengths = np.diff(samples.starts)
    size = int(lengths.max()) + 3
    values = st.sampled_from([0, 1, UNKNOWN])
    reference = np.array(data.draw(st.lists(values, min_size=size, max_size=size)), np.int8)
    places = np.array([data.draw(st.integers(-1, size - k)) for k in lengths.tolist()])
    found = agreement(letters, samples.starts, reference, places)
    for s in range(n):
        row = letters[samples.starts[s] : samples.starts[s + 1]]
        own = reference[places[s] : places[s] + len(row)] if places[s] >= 0 else row[:0]
        same = [a == b for a, b in zip(row, own, strict=False) if b != UNKNOWN]
        assert np.isnan(found[s]) if not same else found[s] == sum(same) / len(same)


def test_samples_in_any_order() -> None:
    found = samples_of(np.array([3, 2, 3, 0, 2]), np.array([1, 0, 1, 2, 0]))
    assert found.starts.tolist() == [0, 3, 5, 8, 8, 10]
    assert found.order.tolist() == [1, 4, 0, 2, 3]
    assert found.firsts.tolist() == [0, 2, 4, 5]
    assert found.places.tolist() == [0, 2, 5, 5]


def test_nothing() -> None:
    none = samples_of(np.zeros(0, np.int64), np.zeros(0, np.int64))
    counts = count(np.zeros(0, np.int8), none)
    assert counts.shape == (0, LETTERS)
    assert [one.shape for one in shares(counts, none)] == [(0, LETTERS), (0,), (0,)]
