"""Logits averaged and scored, against numpy in float64, at every seam and far from zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from h5dask.kernels.probabilities import weigh
from h5dask.kernels.profiles import LETTERS, UNKNOWN, samples_of

DTYPES = ("f2", "f4", "f8")
LENGTHS = (1, 2, 7, 63, 64, 65, 128, 150)
"""Around the end of a tile."""
EQUAL = np.full(UNKNOWN, 1 / UNKNOWN)
NAN, INF = np.nan, np.inf


def logs(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return the logarithms of the probabilities."""
    x = logits.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def check(logits: NDArray[Any], background: NDArray[np.float64] = EQUAL) -> None:
    """Compare a profile of samples (sample, position, letter) with numpy."""
    n, length, _ = logits.shape
    letters = (np.arange(n * length) % LETTERS).astype(np.int8)
    samples = samples_of(np.full(n, length), np.zeros(n, np.int64))
    found = weigh(logits.reshape(-1, LETTERS), letters, samples, background)
    log_p = logs(logits)
    p = np.where(log_p >= -700, np.exp(log_p), 0).mean(0)  # what is less counts as 0
    known = p[:, :UNKNOWN] / p[:, :UNKNOWN].sum(1, keepdims=True)
    log2_p = np.log2(np.where(p > 0, p, 1))
    np.testing.assert_allclose(found.pssm, p, rtol=1e-7, atol=1e-38)
    np.testing.assert_allclose(found.entropy, -(p * log2_p).sum(1), rtol=1e-12, atol=1e-13)
    with np.errstate(divide="ignore"):
        odds = np.log2(known / background)
    np.testing.assert_allclose(found.log_odds[:, :UNKNOWN], odds, rtol=1e-6, atol=1e-6)
    assert np.isnan(found.log_odds[:, UNKNOWN]).all()
    chosen = np.take_along_axis(log_p, letters.reshape(n, length, 1).astype(int), 2)
    np.testing.assert_allclose(found.score, -chosen.mean((1, 2)), rtol=1e-12, atol=1e-13)
    assert not found.n_bad.any()


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_lengths(dtype: str, length: int) -> None:
    rng = np.random.default_rng(length)
    shares = rng.random(UNKNOWN)
    check(rng.normal(0, 4, (3, length, LETTERS)).astype(dtype), shares / shares.sum())


@pytest.mark.parametrize("scale", [1e-3, 100, 299, 301, 650, 5e3, 1e30])
@pytest.mark.parametrize("offset", [0, 290, -290, 310, -310, 1e4, -1e4])
def test_far_from_zero(scale: float, offset: float) -> None:
    rng = np.random.default_rng(0)
    check(rng.uniform(offset - scale, offset + scale, (2, 70, LETTERS)))


@pytest.mark.parametrize("limit", [300.0, -300.0, 700.0, 60_000.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_letter_far_from_the_others(dtype: str, limit: float) -> None:
    x = np.zeros((1, 2 * LETTERS, LETTERS), dtype)
    x[0, np.arange(2 * LETTERS), np.arange(2 * LETTERS) % LETTERS] = limit
    with np.errstate(divide="ignore", invalid="ignore"):
        found = weigh(
            x[0],
            np.zeros(2 * LETTERS, np.int8),
            samples_of(np.array([2 * LETTERS]), np.zeros(1, np.int64)),
            EQUAL,
        )
    p = np.exp(logs(x[0]))
    np.testing.assert_allclose(found.pssm, p, rtol=1e-7, atol=1e-38)
    np.testing.assert_allclose(found.score, -logs(x[0])[:, 0].mean(), rtol=1e-12)


def test_probabilities_over_all_exponents() -> None:
    """Log-odds and entropy of probabilities from 1 to 1e-290, one at each position."""
    x = np.zeros((1, 3000, LETTERS))
    x[0, :, 0] = -np.linspace(0, 667, 3000)
    check(x)


@pytest.mark.parametrize("place", [0, 63, 64, 69])
@pytest.mark.parametrize("bad", ["nan", "inf", "all minus infinity"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_residues_without_probabilities(dtype: str, bad: str, place: int) -> None:
    x = np.random.default_rng(0).normal(0, 3, (2 * 70, LETTERS)).astype(dtype)
    one = samples_of(np.array([70, 70]), np.zeros(2, np.int64))
    letters = np.zeros(140, np.int8)
    fine = weigh(x, letters, one, EQUAL)
    x[70 + place, 4 if bad != "all minus infinity" else slice(None)] = (
        float(bad) if bad != "all minus infinity" else -INF
    )
    found = weigh(x, letters, one, EQUAL)
    assert found.n_bad.tolist() == [0, 1]
    assert found.score[0] == fine.score[0]
    assert np.isnan(found.score[1])
    others = np.arange(70) != place
    for mine, before in zip(found[:3], fine[:3], strict=True):
        assert np.isnan(mine[place]).all()
        rest = {"rtol": 1e-12} if mine.ndim == 1 else {"rtol": 1e-6, "atol": 1e-6}
        np.testing.assert_allclose(mine[others], before[others], **rest)


def test_minus_infinity_is_probability_zero() -> None:
    x = np.zeros((2, LETTERS), np.float32)
    x[0, 1:], x[1, 2:] = -INF, -INF
    one = samples_of(np.array([2]), np.zeros(1, np.int64))
    found = weigh(x, np.array([0, 2], np.int8), one, EQUAL)
    assert found.pssm[:, :3].tolist() == [[1, 0, 0], [0.5, 0.5, 0]]
    assert found.entropy.tolist() == [0, 1]
    assert found.log_odds[1, 2] == -INF
    assert found.score.tolist() == [INF]
    assert found.n_bad.tolist() == [0]


def test_nothing_but_what_is_unknown() -> None:
    x = np.full((1, LETTERS), -INF)
    x[0, UNKNOWN] = 5
    one = samples_of(np.array([1]), np.zeros(1, np.int64))
    found = weigh(x, np.array([UNKNOWN], np.int8), one, EQUAL)
    assert found.score.tolist() == [0]
    assert found.entropy.tolist() == [0]
    assert np.isnan(found.log_odds).all()


def test_profiles_one_after_the_other() -> None:
    """A long profile leaves nothing behind for a short one, whatever their order."""
    rng = np.random.default_rng(0)
    lengths = np.array([150, 3, 0, 150, 70, 3])
    profiles = np.array([0, 1, 2, 0, 3, 1])
    x = rng.normal(0, 3, (lengths.sum(), LETTERS))
    letters = rng.integers(0, LETTERS, lengths.sum()).astype(np.int8)
    samples = samples_of(lengths, profiles)
    found = weigh(x, letters, samples, EQUAL)
    parts = np.split(x, samples.starts[1:-1])
    for p in range(4):
        own = slice(samples.places[p], samples.places[p + 1])
        mean = np.mean([np.exp(logs(parts[s])) for s in np.flatnonzero(profiles == p)], axis=0)
        np.testing.assert_allclose(found.pssm[own], mean, rtol=1e-7)
    assert np.isnan(found.score).tolist() == (lengths == 0).tolist()
