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
    """Describe profiles one after the other; the background is given as binary logarithms.

    Residues are looked at in tiles of columns, one a letter: all that is summed of a residue lies
    beside what is summed of the next one.
    """
    longest = 0
    for p in range(len(samples.places) - 1):
        longest = max(longest, samples.places[p + 1] - samples.places[p])
    sums = np.empty((longest // _ROWS + 1) * _TILE)
    scratch = np.empty(_TILE + 2 * _ROWS)
    pssm, odds = found.pssm.reshape(-1), found.log_odds.reshape(-1)
    for p in range(len(samples.places) - 1):
        first, last = samples.places[p], samples.places[p + 1]
        sums[: ((last - first) // _ROWS + 1) * _TILE] = 0.0
        for k in range(samples.firsts[p], samples.firsts[p + 1]):
            s = samples.order[k]
            start, stop = samples.starts[s], samples.starts[s + 1]
            values = logits[start * LETTERS : stop * LETTERS]
            total, found.n_bad[s] = _add(values, letters[start:stop], scratch, sums)
            found.score[s] = np.divide(total, np.float64(stop - start))
        share = 1.0 / (samples.firsts[p + 1] - samples.firsts[p])
        whole = slice(first * LETTERS, last * LETTERS)
        bits = found.entropy[first:last]
        _describe(sums, share, background, scratch, pssm[whole], odds[whole], bits)


@kernel
def _add(
    logits: NDArray[Any], letters: Letters, scratch: Floats, sums: Floats
) -> tuple[float, int]:
    """Add a sequence's probabilities; return the sum of -log(those of its letters), and bad rows.

    Logits need no shift unless they are far from zero.
    """
    total, n_bad = 0.0, 0
    for at in range(0, len(letters), _ROWS):
        chosen = letters[at : at + _ROWS]
        n = len(chosen)
        tile = logits[at * LETTERS : (at + n) * LETTERS]
        wholes, shifts = scratch[_TILE : _TILE + n], scratch[_TILE + _ROWS : _TILE + _ROWS + n]
        n_far = 0
        for a in range(LETTERS):
            column, source = scratch[a * _ROWS : a * _ROWS + n], tile[a::LETTERS]
            for r in range(n):
                x = np.float64(source[r])
                column[r] = x
                n_far += 0 if abs(x) <= _FAR else 1
        shifts[:] = 0.0
        if n_far:
            n_bad += _shift(scratch, shifts)
        wholes[:] = 0.0
        for a in range(LETTERS):
            column = scratch[a * _ROWS : a * _ROWS + n]
            for r in range(n):
                e = _exp(column[r])
                column[r] = e
                wholes[r] += e
        for r in range(n):
            shifts[r] += _LN2 * _log2(wholes[r])
            wholes[r] = np.divide(1.0, wholes[r])  # "/" would stop to look for zeros
        for r in range(n):
            total += shifts[r] - np.float64(tile[r * LETTERS + chosen[r]])
        for a in range(LETTERS):
            column, start = scratch[a * _ROWS : a * _ROWS + n], at * LETTERS + a * _ROWS
            goal = sums[start : start + n]
            for r in range(n):
                goal[r] += column[r] * wholes[r]  # 0 * infinity in a bad row
    return total, n_bad


@kernel
def _shift(scratch: Floats, shifts: Floats) -> int:
    """Subtract the largest logit of each residue; of those without softmax, leave no number."""
    n_bad = 0
    for r in range(len(shifts)):
        row = scratch[r:_TILE:_ROWS]
        most, is_bad = -np.inf, False
        for a in range(LETTERS):
            is_bad |= not row[a] < np.inf
            most = max(most, row[a])
        if is_bad or most == -np.inf:
            n_bad += 1
            most = np.nan
        shifts[r] = most
        for a in range(LETTERS):
            row[a] -= most
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
        bits = entropy[at : at + _ROWS]
        n = len(bits)
        known = scratch[_TILE : _TILE + n]
        known[:], bits[:] = 0.0, 0.0
        for a in range(LETTERS):
            start, first = at * LETTERS + a * _ROWS, at * LETTERS + a
            mean, logs = sums[start : start + n], scratch[a * _ROWS : a * _ROWS + n]
            goal = pssm[first : first + n * LETTERS : LETTERS]
            for r in range(n):
                p = mean[r] * share
                mean[r] = p
                logs[r] = _log2(p)
            for r in range(n):
                goal[r] = mean[r]
                bits[r] -= mean[r] * max(_FLOOR, logs[r])  # probability 0 adds nothing
            for r in range(n if a < UNKNOWN else 0):
                known[r] += mean[r]
        for r in range(n):
            known[r] = _log2(known[r])
            bits[r] = 0.0 if bits[r] < 0 else bits[r]
        for a in range(LETTERS):
            first, logs = at * LETTERS + a, scratch[a * _ROWS : a * _ROWS + n]
            goal = odds[first : first + n * LETTERS : LETTERS]
            for r in range(n):
                goal[r] = logs[r] - known[r] - background[a]


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
