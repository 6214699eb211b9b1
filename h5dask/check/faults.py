"""What checks look for in a block of numbers or text. Numpy in, findings out.

Whatever the blocks are, the merged findings are those of the whole variable.
"""

from __future__ import annotations

from functools import partial
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.check import MARK, SHOWN, Array, Find, Findings, Setting, sorted_marks

Mask = NDArray[np.bool_]
_INFINITY, _SIGN, _MAGNITUDE = 0x7C00, 0x8000, 0x7FFF
"""Bits of float16."""


def flagged(block: Array, mask: Mask, start: int) -> Findings:
    """Return the findings that a mask of a block stands for.

    Parameters
    ----------
    block : array
        The values.
    mask : array of bool
        Which are at fault: of the block's shape, or of its first dim for whole rows.
    start : int
        The row that the block starts at.
    """
    hits = np.flatnonzero(mask)
    if not hits.size:
        return Findings()
    at = zip(*(axis.tolist() for axis in np.unravel_index(hits[:SHOWN], mask.shape)), strict=True)
    values = block.reshape(-1)[hits] if mask.shape == block.shape else block[:0]
    if values.dtype.kind == "f":
        values = values[~np.isnan(values)]
    numbers = values.size > 0 and values.dtype.kind in "iuf"
    return Findings(
        count=int(hits.size),
        first=tuple((row + start, *rest) for row, *rest in at),
        lowest=values.min().item() if numbers else None,
        highest=values.max().item() if numbers else None,
    )


def _native(block: Array) -> Array:
    """Return the block in this machine's byte order, as comparing by bits needs."""
    return block.astype(block.dtype.newbyteorder("="), copy=False)


def _bits(bound: float) -> int:
    """Return the bits of the largest float16 that isn't above a bound of 0 or more."""
    with np.errstate(over="ignore"):
        nearest = np.float16(bound)
    nearest = nearest if float(nearest) <= bound else np.nextafter(nearest, np.float16(0))
    return int(nearest.view(np.uint16))


def _extremes(block: Array) -> tuple[Any, Any]:
    """Return the lowest and highest value, NaN where there is one; of float16 as bits.

    One pass without a temporary array tells that a block has no fault, as most have none. numpy
    computes float16 in software, several times slower than it compares integers: its bits are
    sign and magnitude, so that negative numbers descend and positive ones ascend with them.
    """
    if _is_half(block):
        bits = _native(block).view(np.uint16)
        return int(bits.max(initial=0)), int(bits.view(np.int16).max(initial=0))
    return block.min(initial=0), block.max(initial=0)


def _is_half(block: Array) -> bool:
    return block.dtype.kind == "f" and block.dtype.itemsize == 2


def find_nan(block: Array, start: int, setting: Setting) -> Findings:
    """Find what is not a number."""
    if block.dtype.kind != "f":
        return Findings()
    lowest, highest = _extremes(block)
    if _is_half(block):
        if lowest <= _INFINITY | _SIGN and highest <= _INFINITY:
            return Findings()
        return flagged(block, (_native(block).view(np.uint16) & _MAGNITUDE) > _INFINITY, start)
    return flagged(block, np.isnan(block), start) if np.isnan(highest) else Findings()


def find_infinite(block: Array, start: int, setting: Setting) -> Findings:
    """Find infinities of either sign."""
    if block.dtype.kind != "f":
        return Findings()
    lowest, highest = _extremes(block)
    if _is_half(block):
        if lowest < _INFINITY | _SIGN and highest < _INFINITY:
            return Findings()
        return flagged(block, (_native(block).view(np.uint16) & _MAGNITUDE) == _INFINITY, start)
    finite = np.isfinite(lowest) and np.isfinite(highest)
    return Findings() if finite else flagged(block, np.isinf(block), start)


def _find_outside(low: float, high: float, block: Array, start: int, setting: Setting) -> Findings:
    """Find finite numbers below `low` or above `high`."""
    lowest, highest = _extremes(block)
    if _is_half(block) and low <= 0 <= high:
        below, above = _bits(-low) | _SIGN, _bits(high)
        if lowest <= below and highest <= above:
            return Findings()
        bits = _native(block).view(np.uint16)
        mask = ((bits > above) & (bits < _INFINITY)) | ((bits > below) & (bits < _INFINITY | _SIGN))
        return flagged(block, mask, start)
    if not _is_half(block) and lowest >= low and highest <= high:
        return Findings()
    return flagged(block, ((block < low) | (block > high)) & np.isfinite(block), start)


def outside(low: float, high: float) -> Find:
    """Return what finds finite numbers outside [low, high], the bounds allowed."""
    return partial(_find_outside, low, high)


def _find_beyond(dim: str, block: Array, start: int, setting: Setting) -> Findings:
    """Find positions along a dim that it doesn't have."""
    if dim not in setting.sizes:
        return Findings()
    return _find_outside(0, setting.sizes[dim] - 1, block, start, setting)


def beyond(dim: str) -> Find:
    """Return what finds ids outside [0, size of the dim)."""
    return partial(_find_beyond, dim)


def find_descending(block: Array, start: int, setting: Setting) -> Findings:
    """Find values less than the one before them in their row."""
    mask = np.zeros(block.shape, np.bool_)
    np.less(block[:, 1:], block[:, :-1], out=mask[:, 1:])
    return flagged(block, mask, start)


def _texts(block: Array) -> list[str]:
    return [x.decode("utf-8", "replace") if isinstance(x, bytes) else str(x) for x in block.flat]


def find_nul(block: Array, start: int, setting: Setting) -> Findings:
    """Find text that holds a NUL, where HDF5's variable-length text would end."""
    mask = np.fromiter(("\0" in text for text in _texts(block)), np.bool_, block.size)
    return flagged(block, mask.reshape(block.shape), start)


def find_no_text(block: Array, start: int, setting: Setting) -> Findings:
    """Find bytes that aren't UTF-8, which therefore aren't read as text."""
    if block.dtype.kind != "O":
        return Findings()
    mask = np.fromiter(map(_is_no_text, block.flat), np.bool_, block.size)
    return flagged(block, mask.reshape(block.shape), start)


def _is_no_text(value: Any) -> bool:
    try:
        if isinstance(value, bytes):
            value.decode()
    except UnicodeDecodeError:
        return True
    return False


def find_empty(block: Array, start: int, setting: Setting) -> Findings:
    """Find text without a letter."""
    mask = np.fromiter((not text for text in _texts(block)), np.bool_, block.size)
    return flagged(block, mask.reshape(block.shape), start)


def find_marks(block: Array, start: int, setting: Setting) -> Findings:
    """Mark each text with 24 bytes, by which `settle_equal` knows those that occur twice."""
    table = np.empty(block.size, MARK)
    encoded = (x if isinstance(x, bytes) else str(x).encode("utf-8", "surrogatepass")
               for x in block.flat)  # fmt: skip
    table["digest"] = [blake2b(text, digest_size=16).digest() for text in encoded]
    table["row"] = np.arange(start, start + block.size)
    return Findings(marks=sorted_marks(table.tobytes()))


def settle_equal(findings: Findings) -> Findings:
    """Return the rows whose text an earlier row has too."""
    table = np.frombuffer(findings.marks, MARK)
    equal = np.flatnonzero(table["digest"][1:] == table["digest"][:-1]) + 1
    rows = np.sort(table["row"][equal])
    return Findings(count=int(rows.size), first=tuple((int(row),) for row in rows[:SHOWN]))


def _find_above(high: int, block: Array, start: int, setting: Setting) -> Findings:
    """Find unsigned numbers above `high`."""
    if block.dtype.kind != "u":
        return Findings()
    return _find_outside(0, high, block, start, setting)


def outside_unsigned(high: int) -> Find:
    """Return what finds unsigned numbers that a signed type of their size can't hold."""
    return partial(_find_above, high)
