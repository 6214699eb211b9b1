"""Sums, extremes and what isn't finite of a block's rows, in one pass over its values.

Sums are float64 of differences from a shift, so that an offset costs no digits. float16 comes as
its bits, which are widened here: numpy does that in software, ten times more slowly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.kernels.compile import inlined, kernel

TILE = 256
"""Columns whose sums stay in the processor's nearest cache while all rows pass."""

# All that an innermost loop touches lies in one buffer at constant distances, counted without a
# sign: only then does the processor add several columns at once.
_U = np.uint64
_ONE = _U(1)
_TILE = _U(TILE)
_ROWS = _U(4)
"""Rows that are added at once; their values begin the buffer."""
_SHIFT = _ROWS * _TILE
_SUM = _SHIFT + _TILE
_SQUARES = _SUM + _TILE
_LOW = _SQUARES + _TILE
_HIGH = _LOW + _TILE
_NAN = _HIGH + _TILE
_POSINF = _NAN + _TILE
_NEGINF = _POSINF + _TILE
_COUNT = _NEGINF + _TILE
_END = _COUNT + _TILE

_REST, _SIGN, _EXPONENT = np.uint32(0x7FFF), np.uint32(0x8000), np.uint32(0x7C00)
_SIXTEEN, _THIRTEEN = np.uint32(16), np.uint32(13)
_REBASE = np.float32(2.0**112)
"""A float16's exponent counts from 15, a float32's from 127."""
_BEYOND = 65536.0
"""What infinity becomes when a float16's bits are widened like those of a number."""
_FAR = 1024.0
"""A shift that is off the mean by the root of so many deviations costs digits: sums are redone."""


@inlined
def _load(values: Any, row: Any, start: Any, n: Any, buffer: Any, at: Any) -> Any:
    """Put some of a row's values into the buffer and return how many aren't finite."""
    lost = 0
    for c in range(n):
        x = np.float64(values[row, start + c])
        lost += x - x != 0.0
        buffer[at + c] = x
    return lost


@inlined
def _load_half(
    bits: Any, row: Any, start: Any, n: Any, buffer: Any, at: Any, words: Any, wide: Any
) -> Any:
    """Do so with float16, given as bits; return 0 if all are finite."""
    largest = np.uint32(0)
    for c in range(n):
        half = np.uint32(bits[row, start + c])
        rest = half & _REST
        largest = max(largest, rest)
        words[c] = ((half & _SIGN) << _SIXTEEN) | (rest << _THIRTEEN)
    for c in range(n):
        buffer[at + c] = np.float64(wide[c] * _REBASE)
    if largest < _EXPONENT:
        return 0
    for c in range(n):
        x = buffer[at + c]
        size = abs(x)
        infinite = np.inf if x > 0.0 else -np.inf
        buffer[at + c] = x if size < _BEYOND else (infinite if size == _BEYOND else np.nan)
    return 1


@inlined
def _begin(buffer: Any, n: Any) -> Any:
    """Set the shift to the first row's values, and all sums to nothing."""
    for c in range(n):
        x = buffer[c]
        buffer[_SHIFT + c] = x if x - x == 0.0 else 0.0
        buffer[_SUM + c], buffer[_SQUARES + c] = 0.0, 0.0
        buffer[_LOW + c], buffer[_HIGH + c] = np.inf, -np.inf
        buffer[_NAN + c], buffer[_POSINF + c], buffer[_NEGINF + c] = 0.0, 0.0, 0.0


@inlined
def _lost(rounded: Any, large: Any, small: Any) -> Any:
    """Return what the sum of two numbers lost when it was rounded (Knuth)."""
    kept = rounded - large
    return (large - (rounded - kept)) + (small - kept)


@inlined
def _count(buffer: Any, n: Any, n_rows: Any) -> Any:
    """Count each column's finite values, of as many rows."""
    for c in range(n):
        lost = buffer[_NAN + c] + buffer[_POSINF + c] + buffer[_NEGINF + c]
        buffer[_COUNT + c] = np.float64(n_rows) - lost


@inlined
def _shift_again(buffer: Any, n: Any) -> Any:
    """Set the shift to the mean where it was far off in any column; return in how many it was."""
    far = 0
    for c in range(n):
        off = buffer[_SUM + c] * buffer[_SUM + c]
        far += off > _FAR * (buffer[_COUNT + c] * buffer[_SQUARES + c] - off)
    for c in range(n if far else _U(0)):
        count = buffer[_COUNT + c]
        buffer[_SHIFT + c] += buffer[_SUM + c] / count if count > 0.0 else 0.0
        buffer[_SUM + c], buffer[_SQUARES + c] = 0.0, 0.0
        buffer[_NAN + c], buffer[_POSINF + c], buffer[_NEGINF + c] = 0.0, 0.0, 0.0
    return far


@inlined
def _add_rows(buffer: Any, n: Any) -> Any:
    """Add the four rows in the buffer, which are finite."""
    for c in range(n):
        a, b = buffer[c], buffer[_TILE + c]
        d, e = buffer[_U(2) * _TILE + c], buffer[_U(3) * _TILE + c]
        low, low_ = (min(b, a)), (min(e, d))
        high, high_ = (max(b, a)), (max(e, d))
        low, high = (min(low_, low)), (max(high_, high))
        lowest, highest = buffer[_LOW + c], buffer[_HIGH + c]
        buffer[_LOW + c] = min(lowest, low)
        buffer[_HIGH + c] = max(highest, high)
        shift = buffer[_SHIFT + c]
        a, b, d, e = a - shift, b - shift, d - shift, e - shift
        buffer[_SUM + c] += (a + b) + (d + e)
        buffer[_SQUARES + c] += (a * a + b * b) + (d * d + e * e)


@inlined
def _add_row(buffer: Any, at: Any, n: Any) -> Any:
    """Add one row in the buffer, which is finite."""
    for c in range(n):
        x = buffer[at + c]
        buffer[_LOW + c] = min(x, buffer[_LOW + c])
        buffer[_HIGH + c] = max(x, buffer[_HIGH + c])
        d = x - buffer[_SHIFT + c]
        buffer[_SUM + c] += d
        buffer[_SQUARES + c] += d * d


@inlined
def _add_any_row(buffer: Any, at: Any, n: Any) -> Any:
    """Add one row in the buffer, and count what of it isn't finite."""
    for c in range(n):
        x = buffer[at + c]
        finite = x - x == 0.0
        d = x - buffer[_SHIFT + c] if finite else 0.0
        buffer[_SUM + c] += d
        buffer[_SQUARES + c] += d * d
        lowest, highest = buffer[_LOW + c], buffer[_HIGH + c]
        buffer[_LOW + c] = x if finite and x < lowest else lowest
        buffer[_HIGH + c] = x if finite and x > highest else highest
        buffer[_NAN + c] += 1.0 if np.isnan(x) else 0.0
        buffer[_POSINF + c] += 1.0 if x == np.inf else 0.0
        buffer[_NEGINF + c] += 1.0 if x == -np.inf else 0.0


@inlined
def _add_loaded(buffer: Any, n_rows: Any, n: Any, lost: Any) -> Any:
    """Add the rows in the buffer by the quickest way that suits them."""
    if n_rows == _ROWS and not lost:
        _add_rows(buffer, n)
        return
    for k in range(n_rows):
        if lost:
            _add_any_row(buffer, k * _TILE, n)
        else:
            _add_row(buffer, k * _TILE, n)


@kernel
def add_columns(
    values: Any,
    half: bool,
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    counts: NDArray[np.int64],
    sums: NDArray[np.float64],
) -> None:
    """Add rows to their targets, each column by itself.

    Parameters
    ----------
    values : (row, column) number
        C-contiguous; uint16 if and only if it is the bits of float16.
    half : bool
        Whether it is.
    order : (row,) int64
        Rows, those of a target together.
    starts : (target + 1,) int64
        Where each target's rows begin in `order`, and their number at the end; none is empty.
    counts : (4 * target * column,) int64
        Zeros; filled with how many are finite, NaN, infinity, minus infinity.
    sums : (5 * target * column,) float64
        Filled with the mean, what it lost in rounding, the squared deviations from it, the least,
        the largest.
    """
    n_columns = _U(values.shape[1])
    n_all = _U(len(starts) - 1) * n_columns
    buffer = np.empty(_END)
    words = np.empty(TILE, np.uint32)
    wide = words.view(np.float32)
    for tile in range((n_columns + _TILE - _ONE) // _TILE):
        start = tile * _TILE
        n = min(_TILE, n_columns - start)
        for t in range(len(starts) - 1):
            begin, end = _U(starts[t]), _U(starts[t + 1])
            lost = 0
            for sweep in range(2):
                at = begin
                while at < end:
                    n_rows = _ROWS if at + _ROWS <= end else _ONE
                    before = lost
                    for k in range(n_rows):
                        row = _U(order[at + k])
                        if half:
                            lost += _load_half(
                                values, row, start, n, buffer, k * _TILE, words, wide
                            )
                        else:
                            lost += _load(values, row, start, n, buffer, k * _TILE)
                    if at == begin and sweep == 0:
                        _begin(buffer, n)
                    _add_loaded(buffer, n_rows, n, lost - before)
                    at += n_rows
                _count(buffer, n, end - begin)
                if sweep or not _shift_again(buffer, n):
                    break
            first = _U(t) * n_columns + start
            for c in range(n):
                count = buffer[_COUNT + c]
                off = buffer[_SUM + c] / (count if count > 0.0 else 1.0)
                squares = buffer[_SQUARES + c] - off * buffer[_SUM + c]
                mean = buffer[_SHIFT + c] + off
                sums[first + c] = mean
                sums[n_all + first + c] = _lost(mean, buffer[_SHIFT + c], off)
                sums[_U(2) * n_all + first + c] = max(0.0, squares)
                sums[_U(3) * n_all + first + c] = buffer[_LOW + c]
                sums[_U(4) * n_all + first + c] = buffer[_HIGH + c]
            for c in range(n):
                counts[first + c] = np.int64(buffer[_COUNT + c])
            for c in range(n if lost else _U(0)):
                counts[n_all + first + c] = np.int64(buffer[_NAN + c])
                counts[_U(2) * n_all + first + c] = np.int64(buffer[_POSINF + c])
                counts[_U(3) * n_all + first + c] = np.int64(buffer[_NEGINF + c])


@kernel
def add_whole_rows(
    values: Any,
    half: bool,
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    width: int,
    counts: NDArray[np.int64],
    sums: NDArray[np.float64],
) -> None:
    """Add all values of rows to the rows' targets.

    Parameters
    ----------
    values, half, order, starts, counts, sums
        As for `add_columns`, with one column.
    width : int
        Sums that are kept side by side, at most `TILE` and at most a row; the more, the quicker
        long rows are, and the slower many targets.
    """
    n_columns, n = _U(values.shape[1]), _U(width)
    n_pieces, more = n_columns // n, n_columns % n
    buffer = np.empty(_END)
    words = np.empty(TILE, np.uint32)
    wide = words.view(np.float32)
    for t in range(len(starts) - 1):
        begin, end = _U(starts[t]), _U(starts[t + 1])
        for sweep in range(2):
            for at in range(begin, end):
                row = _U(order[at])
                piece = _U(0)
                while piece * n < n_columns:
                    n_rows = _ROWS if piece + _ROWS <= n_pieces else _ONE
                    n_here = n if piece < n_pieces else more
                    lost = 0
                    for k in range(n_rows):
                        start = (piece + k) * n
                        if half:
                            lost += _load_half(
                                values, row, start, n_here, buffer, k * _TILE, words, wide
                            )
                        else:
                            lost += _load(values, row, start, n_here, buffer, k * _TILE)
                    if at == begin and piece == _U(0) and sweep == 0:
                        _begin(buffer, n)
                    _add_loaded(buffer, n_rows, n_here, lost)
                    piece += n_rows
            n_rows = end - begin
            _count(buffer, n, n_rows * n_pieces)
            for c in range(more):
                buffer[_COUNT + c] += np.float64(n_rows)
            if sweep or not _shift_again(buffer, n):
                break
        _gather(buffer, n, _U(t), _U(len(starts) - 1), counts, sums)


@inlined
def _gather(buffer: Any, n: Any, t: Any, n_all: Any, counts: Any, sums: Any) -> Any:
    """Put all columns of the buffer together as one, after Chan, Golub and LeVeque (1979)."""
    total, nans, posinfs, neginfs = 0.0, 0.0, 0.0, 0.0
    lowest, highest = np.inf, -np.inf
    near, shifted = buffer[_SHIFT], 0.0
    for c in range(n):
        total += buffer[_COUNT + c]
        nans += buffer[_NAN + c]
        posinfs += buffer[_POSINF + c]
        neginfs += buffer[_NEGINF + c]
        lowest = min(lowest, buffer[_LOW + c])
        highest = max(highest, buffer[_HIGH + c])
        shifted += buffer[_SUM + c] + buffer[_COUNT + c] * (buffer[_SHIFT + c] - near)
    rest = shifted / (total if total > 0.0 else 1.0)
    squares = 0.0
    for c in range(n):
        count = buffer[_COUNT + c]
        off = buffer[_SUM + c] / (count if count > 0.0 else 1.0)
        gap = (buffer[_SHIFT + c] - near) + (off - rest)
        squares += max(buffer[_SQUARES + c] - off * buffer[_SUM + c], 0.0) + count * gap * gap
    counts[t], counts[n_all + t] = np.int64(total), np.int64(nans)
    counts[_U(2) * n_all + t], counts[_U(3) * n_all + t] = np.int64(posinfs), np.int64(neginfs)
    sums[t], sums[n_all + t] = near + rest, _lost(near + rest, near, rest)
    sums[_U(2) * n_all + t] = squares
    sums[_U(3) * n_all + t], sums[_U(4) * n_all + t] = lowest, highest


def call_each() -> None:
    """Call every kernel of this file once, for the dtypes that are met most."""
    order, starts = np.zeros(1, np.int64), np.array([0, 1])
    for dtype in (np.uint16, np.float32, np.float64):
        given = np.zeros((1, 1), dtype), dtype is np.uint16, order, starts
        filled = np.zeros(4, np.int64), np.zeros(5)
        add_columns(*given, *filled)
        add_whole_rows(*given, 1, *filled)
