"""Rows of logits: their most probable places, ranks, sums of exponentials, and two rows compared.

What the figures mean for labelled arrays lies elsewhere.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from h5dask.kernels.compile import as_bytes, inlined, kernel

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Described: TypeAlias = tuple[Ints, Ints, Floats]
Limits: TypeAlias = tuple[Any, Any]
"""All bits of a float but its sign's, and those of infinity, as its bits' type."""

_TILE = 256  # values looked at together, and sums that stay apart until a row's end
_RUN = 4096  # float16 values that are added up before their sum joins the row's
SHORT = 8192  # float16 rows shorter than this are widened: a table would cost more
_CELL = 64.0  # rows whose largest logits lie in the same such range share a table
_LEAST = -708.0  # its exp, 3e-308, is as small as all digits allow; it stands for what lies below
_LOG2E = 1 / math.log(2)
_ROUND = 1.5 * 2.0**52  # added to a number, it leaves the nearest whole one in the lowest bits
_LN2_HIGH = float.fromhex("0x1.62e42feep-1")  # 32 bits, so that whole multiples are exact
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")  # (both from fdlibm's e_exp.c)
_TAYLOR = tuple(1 / math.factorial(n) for n in range(13, -1, -1))
"""exp(t), highest power first: to 5e-18 where |t| <= ln 2 / 2."""
_ATANH = tuple(1 / (2 * n + 1) for n in range(15, -1, -1))
"""atanh(t) / t, highest power of t * t first: to 2e-17 where |t| <= 1/3."""


def describe(logits: NDArray[Any], tokens: Ints, n_top: int) -> Described:
    """Return each row's most probable places, the ranks of chosen ones, and two figures.

    A row with NaN or infinity, or with nothing but minus infinity, has no softmax: -1, -1, NaN.
    Each figure depends on its row alone. Memory: 2 MiB of tables for float16, or a float32 copy
    where rows have less than 8,192 values; nothing for the others.

    Parameters
    ----------
    logits : (row, vocab) float16, float32 or float64
        Copied where it isn't C-contiguous.
    tokens : (token,) int64
        Places in the vocabulary, none outside it.
    n_top : int
        How many of the most probable places, at least 1.

    Returns
    -------
    top : (row, n_top) int64
        The most probable place first, of equal ones the lower; -1 where there are no more.
    ranks : (row, token) int64
        How many places come before each token in that order.
    figures : (row, 2) float64
        The natural logarithm of the sum of exp(x - largest x), and the entropy in nats.

    Examples
    --------
    >>> top, ranks, figures = describe(np.array([[0.0, 1.0, 1.0]]), np.array([0]), 2)
    >>> top.tolist(), ranks.tolist(), figures.round(3).tolist()
    ([[1, 2]], [[2]], [[0.862, 1.017]])
    """
    if logits.dtype.itemsize == 2 and logits.shape[1] < SHORT:
        logits = logits.astype(np.float32)
    values, bits, limits = _prepared(logits)
    n = len(values)
    found = (np.full((n, n_top), -1), np.full((n, len(tokens)), -1), np.full((n, 2), np.nan))
    if values.itemsize == 2:
        _describe_halves(bits, limits, tokens, found)
    else:
        _describe(values, bits, limits, tokens, found)
    return found


def compare(first: NDArray[Any], second: NDArray[Any]) -> Floats:
    """Return how far apart the probabilities of two blocks of logits are, row by row.

    Memory: what `describe` takes, and two rows of float32 for float16.

    Parameters
    ----------
    first, second : (row, vocab) float16, float32 or float64
        Of one shape and dtype; copied where they aren't C-contiguous.

    Returns
    -------
    (row, 4) float64
        The Kullback-Leibler divergences of the first from the second and of the second from the
        first, the Jensen-Shannon divergence, all in nats, and 1 where both have the same most
        probable place, of equal ones the lower, else 0; NaN where either row has no softmax.

    Examples
    --------
    >>> compare(np.array([[0.0, 0.0]]), np.array([[0.0, -np.inf]])).round(3).tolist()
    [[inf, 0.693, 0.216, 1.0]]
    """
    tops, scales = [], []
    for side in (first, second):
        top, _, figures = describe(side, np.empty(0, np.int64), 1)
        tops.append(top[:, 0])
        scales += [np.take_along_axis(side, top, 1)[:, 0], figures[:, 0]]
    known = np.array(scales, np.float64).T.copy()
    found = np.empty((len(first), 4))
    p, p_bits, _ = _prepared(first)
    q, q_bits, _ = _prepared(second)
    if p.itemsize == 2:
        _compare_halves(p_bits, q_bits, known, found)
    else:
        _compare(p, q, known, found)
    found[:, 3] = tops[0] == tops[1]
    found[np.isnan(known).any(1)] = np.nan
    return found


def _prepared(logits: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], Limits]:
    """Return values as the kernels take them, copied only if need be, their bits, and limits."""
    native = np.require(logits, logits.dtype.newbyteorder("="), ["C", "A"])
    values = as_bytes(native).view(native.dtype).reshape(native.shape)
    whole = np.dtype(f"i{values.itemsize}")
    infinity = np.array(np.inf, values.dtype).view(whole)[()]
    return values, values.view(whole), (whole.type(np.iinfo(whole).max), infinity)


@inlined
def _key(bits: int, rest: int) -> int:
    """Return a whole number in the same order as floats of these bits are; -0.0 equals 0.0."""
    return -(bits & rest) if bits < 0 else bits


@kernel
def _find(row: NDArray[Any], limits: Limits, keys: NDArray[Any], top: Ints) -> bool:
    """Find the places of the largest values of a row, given as bits; False without softmax."""
    rest, infinity = limits
    of = row.dtype.type  # else numba would compute 64 bits wide
    keys[:] = ~rest
    last = len(keys) - 1
    for start in range(0, len(row), _TILE):
        tile = row[start : start + _TILE]  # of other indices it would ask if they are negative
        low, high = of(rest), of(~rest)
        for c in range(len(tile)):
            key = of(_key(tile[c], rest))
            low = of(min(low, key))
            high = of(max(high, key))
        if high >= infinity or low < -infinity:
            keys[0] = ~rest
            break
        for c in range(len(tile) if high > keys[last] else 0):
            key = of(_key(tile[c], rest))
            if key > keys[last]:
                at = last
                while at > 0 and keys[at - 1] < key:
                    keys[at], top[at] = keys[at - 1], top[at - 1]
                    at -= 1
                keys[at], top[at] = key, start + c
    if keys[0] <= -infinity:
        top[:] = -1
    return bool(keys[0] > -infinity)


@kernel
def _rank(row: NDArray[Any], limits: Limits, tokens: Ints, ranks: Ints) -> None:
    """Write how many places are more probable than each token, or as probable and lower."""
    of = row.dtype.type
    rest = limits[0]
    for t in range(len(tokens)):
        token = tokens[t]
        key = of(_key(row[token], rest))
        before, after = row[:token], row[token + 1 :]
        n = 0
        for c in range(len(before)):
            n += of(_key(before[c], rest)) >= key
        for c in range(len(after)):
            n += of(_key(after[c], rest)) > key
        ranks[t] = n


@inlined
def _exp(x: float) -> float:
    """Return exp(x) of x <= 700 to about 1e-15; of what lies below -708, 3e-308."""
    clipped = max(_LEAST, x)
    shifted = clipped * _LOG2E + _ROUND
    n = shifted - _ROUND
    t = clipped - n * _LN2_HIGH - n * _LN2_LOW
    t2 = t * t
    power = _TAYLOR[0] * t + _TAYLOR[1]
    for i in range(2, 14, 2):  # by twos: the chain of dependent steps is half as long
        power = power * t2 + (_TAYLOR[i] * t + _TAYLOR[i + 1])
    exponent = (np.float64(shifted).view(np.int64) + 1023) << 52
    return power * np.int64(exponent).view(np.float64)


@inlined
def _half(bits: int) -> np.float32:
    """Return the float32 of a float16's bits; of NaN, an infinity."""
    wide = (np.uint32(bits) & 0x8000) << 16 | (np.uint32(bits) & 0x7FFF) << 13
    # The factor moves the exponent to its new place, and makes subnormal values normal.
    value = np.uint32(wide).view(np.float32) * np.float32(2.0**112)
    return np.float32(value if bits & 0x7C00 < 0x7C00 else value * np.float32(np.inf))


@kernel
def _describe(
    values: NDArray[Any], bits: NDArray[Any], limits: Limits, tokens: Ints, found: Described
) -> None:
    """Describe rows of float32 or float64."""
    top, ranks, figures = found
    keys = np.empty(top.shape[1], bits.dtype)
    lanes = np.empty(2 * _TILE)
    for r in range(len(bits)):
        if _find(bits[r], limits, keys, top[r]):
            _rank(bits[r], limits, tokens, ranks[r])
            total, weighted = _sums(values[r], np.float64(values[r, top[r, 0]]), lanes)
            scale = np.log(total)
            figures[r] = scale, max(0.0, scale - weighted / total)


@kernel
def _sums(row: NDArray[Any], largest: float, lanes: Floats) -> tuple[float, float]:
    """Return the sums of e and of e * (x - largest), where e = exp(x - largest)."""
    width = min(_TILE, len(row))
    lanes[:width] = 0
    lanes[_TILE : _TILE + width] = 0
    for start in range(0, len(row), _TILE):
        tile = row[start : start + _TILE]
        for c in range(len(tile)):
            d = max(_LEAST, np.float64(tile[c]) - largest)
            e = _exp(d)
            lanes[c] += e
            lanes[c + _TILE] += e * d
    return lanes[:width].sum(), lanes[_TILE : _TILE + width].sum()


@kernel
def _describe_halves(
    bits: NDArray[np.int16], limits: Limits, tokens: Ints, found: Described
) -> None:
    """Describe rows of float16, whose exponentials come from a table of all there are.

    The table's anchor follows from the row alone, so no row changes another's last digit. There
    are two tables, for rows on either side of a border between cells.
    """
    top, ranks, figures = found
    keys = np.empty(top.shape[1], bits.dtype)
    tables = np.empty((2, 2**16), np.complex128)
    anchors = np.full(2, np.nan)
    for r in range(len(bits)):
        if _find(bits[r], limits, keys, top[r]):
            _rank(bits[r], limits, tokens, ranks[r])
            largest = np.float64(_half(bits[r, top[r, 0]]))
            cell = np.floor(largest / _CELL)
            anchor = (cell + 0.5) * _CELL
            turn = int(cell) % 2
            if anchors[turn] != anchor:
                anchors[turn] = anchor
                _fill(tables[turn], anchor)
            sums = _half_sums(bits[r].view(np.uint16), tables[turn])
            scale = np.log(sums.real)
            figures[r] = scale + (anchor - largest), max(0.0, scale - sums.imag / sums.real)


@kernel
def _fill(table: NDArray[np.complex128], anchor: float) -> None:
    """Write e + i * e * (x - anchor) of every float16 x, where e = exp(x - anchor)."""
    for i in range(len(table)):
        d = min(max(_LEAST, np.float64(_half(i)) - anchor), -_LEAST)
        e = _exp(d)
        table[i] = complex(e, e * d)


@kernel
def _half_sums(row: NDArray[np.uint16], table: NDArray[np.complex128]) -> complex:
    """Return the sum of the table's entries that a row names."""
    total = 0j
    for start in range(0, len(row), _RUN):
        run = row[start : start + _RUN]
        n = len(run) // 4
        fours = run[: 4 * n].reshape(n, 4)  # four sums, none of which waits for another
        a = b = c = d = 0j
        for j in range(n):
            a += table[fours[j, 0]]
            b += table[fours[j, 1]]
            c += table[fours[j, 2]]
            d += table[fours[j, 3]]
        for i in run[4 * n :]:
            a += table[i]
        total += (a + b) + (c + d)
    return total


@kernel
def _compare(first: NDArray[Any], second: NDArray[Any], known: Floats, found: Floats) -> None:
    """Compare rows of float32 or float64, of which the largest values and sums are known.

    Jensen and Shannon's divergence sums, of probabilities l <= h with t = l / h, half of h * (t *
    log(t) - (1 + t) * log((1 + t) / 2)), which is 0 where they are equal.
    """
    width = min(_TILE, first.shape[1])
    lanes = np.empty(3 * _TILE)
    for r in range(len(first)):
        largest_p, log_p, largest_q, log_q = known[r]
        for part in range(3):
            lanes[part * _TILE : part * _TILE + width] = 0
        for start in range(0, first.shape[1], _TILE):
            one = first[r, start : start + _TILE]
            other = second[r, start : start + _TILE]
            for c in range(len(one)):
                lp = np.float64(one[c]) - largest_p - log_p
                lq = np.float64(other[c]) - largest_q - log_q
                p, q = _exp(lp), _exp(lq)
                lanes[c] += p * (lp - lq) if lp > -np.inf else 0.0
                lanes[c + _TILE] += q * (lq - lp) if lq > -np.inf else 0.0
                low, high = min(p, q), max(p, q)
                t = np.divide(high - low, low + 3 * high)  # "/" would stop to look for zeros
                t2 = t * t
                t4 = t2 * t2
                series = _ATANH[0] * t2 + _ATANH[1]
                for i in range(2, 16, 2):
                    series = series * t4 + (_ATANH[i] * t2 + _ATANH[i + 1])
                apart = abs(max(_LEAST, lp) - max(_LEAST, lq))
                lanes[c + 2 * _TILE] += (low + high) * (t * series) - 0.5 * (low * apart)
        for part in range(3):
            found[r, part] = max(lanes[part * _TILE : part * _TILE + width].sum(), 0.0)


@kernel
def _compare_halves(
    first: NDArray[np.int16], second: NDArray[np.int16], known: Floats, found: Floats
) -> None:
    """Compare rows of float16, given as bits."""
    p = np.empty((1, first.shape[1]), np.float32)
    q = np.empty_like(p)
    for r in range(len(first)):
        for c in range(first.shape[1]):
            p[0, c] = _half(first[r, c])
            q[0, c] = _half(second[r, c])
        _compare(p, q, known[r : r + 1], found[r : r + 1])


def call_each() -> None:
    """Call every kernel of this file once for each type."""
    for dtype in (np.float16, np.float32, np.float64):
        row = np.zeros((1, SHORT), dtype)
        describe(row, np.zeros(1, np.int64), 1)
        compare(row, row)
