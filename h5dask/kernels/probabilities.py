"""Logits of several samples: mean probabilities of amino acids, place by place, and scores.

What the figures mean for labelled arrays lies elsewhere.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from h5dask.kernels.compile import as_bytes, inlined, kernel
from h5dask.kernels.profiles import (
    LETTERS,
    UNKNOWN,
    Floats,
    Ints,
    Letters,
    Samples,
    Shares,
    samples_of,
)

_ROWS = 64  # residues whose logits are looked at together
_TILE = _ROWS * LETTERS
_FAR = 300.0  # no sum of exponentials of what lies nearer to zero overflows, or loses a digit
_LEAST = -700.0  # what lies below it, next to a largest logit of 0, has the probability 0
_SMALLEST = float(np.finfo(np.float64).tiny)
_FLOOR = -1100.0  # less than any binary logarithm, so that 0 * log2(0) is 0
_LOG2E = 1 / math.log(2)
_LN2 = math.log(2)
_ROUND = 1.5 * 2.0**52  # added to a number, it leaves the nearest whole one in the lowest bits
_TAYLOR = tuple(1 / math.factorial(n) for n in range(11, -1, -1))
"""exp(t), highest power first: to 2e-14 where |t| <= ln 2 / 2."""
_ATANH = tuple(2 * _LOG2E / (2 * n + 1) for n in range(8, -1, -1))
"""log2((1 + t) / (1 - t)) / t, highest power of t * t first: to 2e-15 where |t| <= 0.172."""
_HALF_ROOT = np.uint64(0x3FE6A09E667F3BCD)  # bits of sqrt(1 / 2)
_UP = np.uint64(0x3FF0000000000000) - _HALF_ROOT
_FRACTION = np.uint64(2**52 - 1)
_WHOLE = np.uint64(0x4330000000000000)  # bits of 2**52, whose lowest ones count
_WIDTH = np.uint64(52)
_BIAS = 2.0**52 + 1023


class Weighed(NamedTuple):
    """What logits say of profiles and their sequences."""

    pssm: Shares
    """Mean probability of each amino acid: (position, letter)."""
    log_odds: Shares
    """Binary logarithm of the known ones' shares over their background: (position, letter)."""
    entropy: Floats
    """Of the mean probabilities, in bits: (position,)."""
    score: Floats
    """Mean negative logarithm of the probability of the letters that a sequence has: (sequence,)"""
    n_bad: Ints
    """Residues without probabilities: (sequence,)."""


def weigh(logits: NDArray[Any], letters: Letters, samples: Samples, background: Floats) -> Weighed:
    """Return what logits say of profiles and their sequences.

    A residue with NaN or infinity, or with nothing but minus infinity, has no probabilities: its
    position, and its sequence's score, are NaN. Probabilities are right to 1e-12; those below
    1e-304 are 0. Memory: a float32 copy for float16, 168 bytes a position of the longest profile.

    Parameters
    ----------
    logits : (residue, letter) float16, float32 or float64
        Copied where it isn't C-contiguous.
    letters : (residue,) int8
        0 to 20, those that were chosen.
    samples : Samples
        Whose they are.
    background : (letter - 1,) float64
        Positive shares of the known letters.

    Examples
    --------
    >>> one = samples_of(np.array([1]), np.array([0]))
    >>> found = weigh(np.zeros((1, 21)), np.zeros(1, np.int8), one, np.full(20, 0.05))
    >>> found.entropy.round(3).tolist(), found.score.round(3).tolist()
    ([4.392], [3.045])
    """
    n_positions, n_sequences = samples.places[-1], len(samples.order)
    found = Weighed(
        np.empty((n_positions, LETTERS), np.float32),
        np.empty((n_positions, LETTERS), np.float32),
        np.empty(n_positions),
        np.empty(n_sequences),
        np.empty(n_sequences, np.int64),
    )
    _weigh(_flat(logits), letters, samples, np.append(np.log2(background), np.nan), found)
    return found


def _flat(logits: NDArray[Any]) -> NDArray[Any]:
    """Return logits end to end, as the kernels take them: copied only if need be."""
    dtype = np.float64 if logits.dtype.itemsize == 8 else np.float32
    values = np.require(logits, dtype, ["C", "A"])
    if not values.size:
        return np.empty(0, dtype)
    # A kernel would be compiled once more for what is read-only.
    return as_bytes(values).view(dtype)


@kernel
def _weigh(
    logits: NDArray[Any], letters: Letters, samples: Samples, background: Floats, found: Weighed
) -> None:
    """Describe profiles one after the other; the background is given as binary logarithms."""
    longest = 0
    for p in range(len(samples.places) - 1):
        longest = max(longest, samples.places[p + 1] - samples.places[p])
    sums = np.empty(longest * LETTERS)
    scratch = np.empty(_TILE + 2 * _ROWS)
    pssm, odds = found.pssm.reshape(-1), found.log_odds.reshape(-1)
    for p in range(len(samples.places) - 1):
        first, last = samples.places[p], samples.places[p + 1]
        mine = sums[: (last - first) * LETTERS]
        mine[:] = 0.0
        for k in range(samples.firsts[p], samples.firsts[p + 1]):
            s = samples.order[k]
            start, stop = samples.starts[s], samples.starts[s + 1]
            values = logits[start * LETTERS : stop * LETTERS]
            total, found.n_bad[s] = _add(values, letters[start:stop], scratch, mine)
            found.score[s] = np.divide(total, np.float64(stop - start))
        share = 1.0 / (samples.firsts[p + 1] - samples.firsts[p])
        whole = slice(first * LETTERS, last * LETTERS)
        bits = found.entropy[first:last]
        _describe(mine, share, background, scratch, pssm[whole], odds[whole], bits)


@kernel
def _add(
    logits: NDArray[Any], letters: Letters, scratch: Floats, sums: Floats
) -> tuple[float, int]:
    """Add a sequence's probabilities; return the sum of -log(those of its letters), and bad rows.

    Logits need no shift unless they are far from zero. What is done to each value is done to many
    of them end to end, whatever residue they are of.
    """
    total, n_bad = 0.0, 0
    for at in range(0, len(letters), _ROWS):
        n = min(_ROWS, len(letters) - at)
        first, size = at * LETTERS, n * LETTERS
        tile, raised = logits[first : first + size], scratch[:size]
        wholes, shifts = scratch[_TILE : _TILE + n], scratch[_TILE + _ROWS : _TILE + _ROWS + n]
        shifts[:] = 0.0
        n_far = 0
        for i in range(size):
            x = np.float64(tile[i])
            raised[i] = _exp(x)
            n_far += 0 if abs(x) <= _FAR else 1
        if n_far:
            n_bad += _shift(tile, raised, shifts)
        for r in range(n):
            a = r * LETTERS  # three sums at once: one waits for its last addition
            one, two, three = raised[a], raised[a + 1], raised[a + 2]
            for k in range(3, LETTERS, 3):
                one += raised[a + k]
                two += raised[a + k + 1]
                three += raised[a + k + 2]
            wholes[r] = one + two + three
        for r in range(n):
            shifts[r] += _LN2 * _log2(wholes[r])
            wholes[r] = np.divide(1.0, wholes[r])  # "/" would stop to look for zeros
        for r in range(n):
            total += shifts[r] - np.float64(tile[r * LETTERS + letters[at + r]])
        for r in range(n):
            inverse, a = wholes[r], r * LETTERS
            for k in range(LETTERS):
                sums[first + a + k] += raised[a + k] * inverse  # 0 * infinity in a bad row
    return total, n_bad


@kernel
def _shift(tile: NDArray[Any], raised: Floats, shifts: Floats) -> int:
    """Subtract the largest logit of each residue first; of those without softmax, leave no number.

    Returns how many those are.
    """
    n_bad = 0
    for r in range(len(shifts)):
        row = tile[r * LETTERS : (r + 1) * LETTERS]
        most, is_bad = -np.inf, False
        for a in range(LETTERS):
            x = np.float64(row[a])
            is_bad |= not x < np.inf
            most = max(most, x)
        if is_bad or most == -np.inf:
            n_bad += 1
            most = np.nan
        shifts[r] = most
        for a in range(LETTERS):
            raised[r * LETTERS + a] = _exp(np.float64(row[a]) - most)
    return n_bad


@kernel
def _describe(
    sums: Floats,
    share: float,
    background: Floats,
    scratch: Floats,
    pssm: Shares,
    odds: Shares,
    entropy: Floats,
) -> None:
    """Write what the mean probabilities of one profile say; a sum's share is its mean."""
    for at in range(0, len(entropy), _ROWS):
        n = min(_ROWS, len(entropy) - at)
        first, size = at * LETTERS, n * LETTERS
        mean, logs = sums[first : first + size], scratch[:size]
        known, goal = scratch[_TILE : _TILE + n], pssm[first : first + size]
        for i in range(size):
            p = mean[i] * share
            mean[i] = p
            logs[i] = _log2(p)
            goal[i] = p
        for r in range(n):
            a = r * LETTERS
            one, two, three = 0.0, 0.0, 0.0
            for k in range(0, LETTERS, 3):
                one -= mean[a + k] * max(_FLOOR, logs[a + k])  # probability 0 adds nothing
                two -= mean[a + k + 1] * max(_FLOOR, logs[a + k + 1])
                three -= mean[a + k + 2] * max(_FLOOR, logs[a + k + 2])
            bits = one + two + three
            entropy[at + r] = 0.0 if bits < 0 else bits
            one, two = 0.0, 0.0
            for k in range(0, UNKNOWN, 2):
                one += mean[a + k]
                two += mean[a + k + 1]
            known[r] = one + two
        for r in range(n):
            known[r] = _log2(known[r])
        for r in range(n):
            a = r * LETTERS
            for k in range(LETTERS):
                odds[first + a + k] = logs[a + k] - known[r] - background[k]


@inlined
def _exp(x: float) -> float:
    """Return exp(x) of x <= 700 to 1e-13; 0 of what lies below -700, and of NaN."""
    clipped = max(_LEAST, x)
    shifted = clipped * _LOG2E + _ROUND
    t = clipped - (shifted - _ROUND) * _LN2
    t2 = t * t
    power = _TAYLOR[0] * t + _TAYLOR[1]
    for i in range(2, 12, 2):  # by twos: the chain of dependent steps is half as long
        power = power * t2 + (_TAYLOR[i] * t + _TAYLOR[i + 1])
    exponent = (np.float64(shifted).view(np.int64) + 1023) << 52
    return power * np.int64(exponent).view(np.float64) if x >= _LEAST else 0.0


@inlined
def _log2(x: float) -> float:
    """Return the binary logarithm of x >= 0 to 1e-14; minus infinity of subnormal numbers too."""
    bits = np.float64(x).view(np.uint64) + _UP
    exponent = np.uint64((bits >> _WIDTH) | _WHOLE).view(np.float64) - _BIAS
    m = np.uint64((bits & _FRACTION) + _HALF_ROOT).view(np.float64)  # sqrt(1 / 2) to sqrt(2)
    t = np.divide(m - 1.0, m + 1.0)
    t2 = t * t
    series = _ATANH[0]
    for i in range(1, 9):
        series = series * t2 + _ATANH[i]
    found = exponent + t * series
    low = -np.inf if x < _SMALLEST else x  # x itself where it is NaN
    return found if x >= _SMALLEST else low


def call_each() -> None:
    """Call every kernel of this file once for each type."""
    one = samples_of(np.ones(1, np.int64), np.zeros(1, np.int64))
    letters = np.zeros(1, np.int8)
    for dtype in (np.float32, np.float64):
        weigh(np.full((1, LETTERS), 2 * _FAR, dtype), letters, one, np.ones(UNKNOWN))
