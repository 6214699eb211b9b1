"""Every type of element that a dataset holds, numbers and text, with values at its ends."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5s, h5t

from tests.files.variant import DEFAULT, TEXT, Array, decoded, text

Write = Callable[[Path, str], Array]
"""Writes a file with one dataset at a path; gives what is read, variable-length text as `str`."""

ASCII = h5py.string_dtype("ascii")
LINES = ["", "a", "naïve 漢字 🧬", "two\nlines", "x" * 300, "", "tail "]


def extremes(dtype: str) -> Array:
    """Give a type's ends, and of floating-point numbers every special kind with its payload."""
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return np.array([True, False, True])
    if kind.kind in "iu":
        ends = np.iinfo(kind)
        return np.array([ends.min, ends.max, 0, 1, 100], dtype=kind)
    ends = np.finfo(kind)
    specials = [ends.min, ends.max, ends.tiny, ends.smallest_subnormal, -0.0, np.inf, -np.inf]
    values = np.array([*specials, np.nan, 1.5, np.nan], dtype=kind)
    values.view(values.dtype.str.replace("f", "u"))[-1] ^= 1
    return values


def plain(
    path: Path,
    name: str,
    *,
    values: Array,
    options: Mapping[str, Any] = DEFAULT,
    **storage: Any,
) -> Array:
    """Store values by h5py's keywords."""
    with h5py.File(path, "w", **options) as f:
        f.create_dataset(name, data=values, **storage)
        return decoded(f[name])


def typed(path: Path, name: str, *, values: Array, kind: Callable[[], h5t.TypeID]) -> Array:
    """Store values under a type that numpy doesn't have; HDF5 converts them."""
    with h5py.File(path, "w") as f:
        f.require_group(name.rpartition("/")[0] or "/")
        made = h5d.create(f.id, name.encode(), kind(), h5s.create_simple(values.shape))
        made.write(h5s.ALL, h5s.ALL, values)
        return np.asarray(f[name][...])


def padded(padding: int, size: int = 6) -> h5t.TypeID:
    """Make a type of fixed-length strings with one of HDF5's three paddings."""
    kind = h5t.C_S1.copy()
    kind.set_size(size)
    kind.set_strpad(padding)
    return kind


def twelve_bits() -> h5t.TypeID:
    """Make integers of 12 bits in 16, which isn't numpy's int16 though as large."""
    kind = h5t.STD_I16LE.copy()
    kind.set_precision(12)
    kind.set_offset(2)
    return kind


def brain_float() -> h5t.TypeID:
    """Make bfloat16: two bytes, and not numpy's float16."""
    kind = h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_precision(16)
    kind.set_size(2)
    kind.set_ebias(127)
    return kind


def nothing_written(path: Path, name: str, *, dtype: Any, **storage: Any) -> Array:
    """Declare variable-length values and write only one, so that the others point nowhere."""
    with h5py.File(path, "w") as f:
        made = f.create_dataset(name, (9,), dtype, **storage)
        made[4] = "written" if h5py.check_string_dtype(dtype) else np.arange(5, dtype="u1")
        return decoded(made)


def overwritten(path: Path, name: str) -> Array:
    """Write text again and again, so that the heap has holes and objects out of order."""
    values = text([f"line {i} {'y' * (i * 37 % 400)}" for i in range(200)])
    with h5py.File(path, "w") as f:
        made = f.create_dataset(name, data=text(["first"] * 200), dtype=TEXT)
        for step in (7, 3, 1):
            for i in range(0, 200, step):
                made[i] = values[i]
    return values


def ragged(lengths: list[int], dtype: str = "u1") -> Array:
    """Give rows of numbers of these lengths."""
    rows = np.empty(len(lengths), dtype=object)
    draw = np.random.default_rng(5)
    rows[:] = [draw.integers(0, 100, n).astype(dtype) for n in lengths]
    return rows


NUMBERS = ("i1", "<i2", ">i2", "<i4", ">i4", "<i8", ">i8", "u1", "<u2", ">u2", "<u4", ">u4")
NUMBERS += ("<u8", ">u8", "<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "?")
PICTURES = h5py.vlen_dtype(np.uint8)
PICTURE_ROWS = ragged([3, 0, 70_000, 1, 2000, 16])
lines = partial(plain, values=text(LINES), dtype=TEXT)
fixed = np.array([b"", b"a", b"bcd", b"sixsix", b"e f "], dtype="S6")

TYPES: dict[str, Write] = {
    **{f"number_{dtype}": partial(plain, values=extremes(dtype)) for dtype in NUMBERS},
    "fixed_nullpad": partial(plain, values=fixed),
    "fixed_nullterm": partial(typed, values=fixed, kind=partial(padded, h5t.STR_NULLTERM, 7)),
    "fixed_spacepad": partial(typed, values=fixed, kind=partial(padded, h5t.STR_SPACEPAD)),
    "fixed_utf8": partial(
        plain,
        values=np.array([s.encode() for s in ("é", "漢", "")], dtype=h5py.string_dtype("utf-8", 3)),
    ),
    "fixed_gzip": partial(plain, values=fixed, chunks=(2,), compression="gzip", shuffle=True),
    "text_utf8": lines,
    "text_ascii": partial(plain, values=text(["", "a", "b" * 99]), dtype=ASCII),
    "text_long": partial(
        plain, values=text(["s", "é" * 40_000, "", "z" * 65_536, "q" * 200_001]), dtype=TEXT
    ),
    "text_many": partial(plain, values=text([f"{i} " * (i % 90) for i in range(3000)]), dtype=TEXT),
    "text_all_empty": partial(plain, values=text([""] * 5), dtype=TEXT),
    "text_no_rows": partial(plain, values=text([]), dtype=TEXT, maxshape=(None,), chunks=(8,)),
    "text_null": partial(nothing_written, dtype=TEXT),
    "text_null_chunked": partial(nothing_written, dtype=TEXT, chunks=(4,), maxshape=(None,)),
    # In chunks HDF5 writes such a file and then can't read it.
    "text_fill": partial(nothing_written, dtype=TEXT, fillvalue="absent é"),
    "text_chunked": partial(lines, chunks=(3,), maxshape=(None,)),
    "text_gzip": partial(lines, chunks=(3,), compression="gzip", shuffle=True),
    "text_latest": partial(lines, options={"libver": "latest"}),
    "text_user_block": partial(lines, options={"userblock_size": 1024}),
    "text_rank_two": partial(plain, values=text(LINES[:6]).reshape(2, 3), dtype=TEXT),
    "text_scalar": partial(plain, values=np.array("one line", dtype=object), dtype=TEXT),
    "text_overwritten": overwritten,
    "pictures": partial(plain, values=PICTURE_ROWS, dtype=PICTURES),
    "pictures_gzip": partial(
        plain, values=PICTURE_ROWS, dtype=PICTURES, chunks=(4,), compression="gzip"
    ),
    "pictures_null": partial(nothing_written, dtype=PICTURES),
    "scalar": partial(plain, values=np.float32(1.5)),
    "no_rows": partial(plain, values=np.zeros((0, 4), "f4"), maxshape=(None, 4), chunks=(8, 4)),
    "no_columns": partial(plain, values=np.zeros((3, 0), "<f2")),
}
"""By name, the types that layouts have."""

RARE: dict[str, Write] = {
    "twelve_bits": partial(typed, values=np.array([-2048, 2047, 0, 5], "<i2"), kind=twelve_bits),
    "brain_float": partial(typed, values=np.array([1.5, -2, 0, 3e38], "<f4"), kind=brain_float),
    "complex": partial(plain, values=np.array([1 + 2j, -3j], "<c8")),
    "enumeration": partial(
        plain,
        values=np.array([1, 2, 1], "<i2"),
        dtype=h5py.enum_dtype({"left": 1, "right": 2}, basetype="<i2"),
    ),
    "opaque": partial(plain, values=np.array([b"\x00\xff\x07", b"abc"]).view("V3")),
    "vlen_int32": partial(
        plain, values=ragged([2, 0, 5], "<i4"), dtype=h5py.vlen_dtype(np.dtype("<i4"))
    ),
    "compound": partial(
        plain, values=np.array([(1, 2.5), (3, np.nan)], dtype=[("a", "<i4"), ("b", ">f8")])
    ),
    "array": partial(plain, values=np.ones(3, dtype=[("a", "<i4", (2,))])),
}
"""By name, the types that only unknown members have, or fields of a user's own."""
