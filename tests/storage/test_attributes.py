"""Attributes of every type come back with that type and those values, and bad ones are named."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5a, h5s, h5t

from h5dask.contents import Attr
from h5dask.errors import LayoutError, Refused
from h5dask.storage.forms import attr
from h5dask.storage.skeleton import Plan, create
from tests.files.elements import brain_float, padded, twelve_bits


def kept(tmp_path: Path, given: Attr) -> h5py.File:
    path = tmp_path / "x.h5"
    create(str(path), Plan(groups={}, arrays=(), attrs={"g": (given,)}))
    return h5py.File(path, "r")


def enum(base: h5t.TypeID) -> h5t.TypeID:
    kind = h5t.enum_create(base)
    kind.enum_insert(b"FALSE", 0)
    kind.enum_insert(b"TRUE", 1)
    return kind


def opaque() -> h5t.TypeID:
    kind = h5t.create(h5t.OPAQUE, 5)
    kind.set_tag(b"five")
    return kind


def variable(charset: int) -> h5t.TypeID:
    kind = h5t.C_S1.copy()
    kind.set_size(h5t.VARIABLE)
    kind.set_cset(charset)
    return kind


ROWS = np.empty(2, object)
ROWS[:] = [np.array([1, 2], "<i2"), np.array([], "<i2")]
PAIR = np.dtype([("a", "<i4"), ("b", ">f8", (2,))])
STORED: dict[str, tuple[h5t.TypeID, Any, tuple[int, ...]]] = {
    "utf8": (variable(h5t.CSET_UTF8), "naïve 漢字", ()),
    "ascii": (variable(h5t.CSET_ASCII), "plain", ()),
    "ascii_with_more": (variable(h5t.CSET_ASCII), "naïve", ()),
    "invalid_utf8": (variable(h5t.CSET_UTF8), b"a\xff".decode("utf-8", "surrogateescape"), ()),
    "many_texts": (
        variable(h5t.CSET_UTF8),
        np.array([["a", ""], ["ü", "x" * 999]], object),
        (2, 2),
    ),
    "fixed_nullpad": (padded(h5t.STR_NULLPAD), np.array([b"a", b"sixsix"]), (2,)),
    "fixed_nullterm": (padded(h5t.STR_NULLTERM), b"a", ()),
    "fixed_spacepad": (padded(h5t.STR_SPACEPAD), "abc", ()),
    "bool": (enum(h5t.STD_I8LE), True, ()),
    "wide_bool": (enum(h5t.STD_I32BE), np.array([True, False]), (2,)),
    "big_endian": (h5t.STD_I32BE, 7, ()),
    "unsigned": (h5t.STD_U64LE, 2**64 - 1, ()),
    "half": (h5t.IEEE_F16LE, np.float16(1.5), ()),
    "nan_with_payload": (h5t.IEEE_F32LE, np.uint32(0x7FC00001).view("f4"), ()),
    "twelve_bits": (twelve_bits(), np.array([-2048, 2047], "i2"), (2,)),
    "brain_float": (brain_float(), np.array([1.5, -2], "f4"), (2,)),
    "opaque": (opaque(), b"12345", ()),
    "array": (h5t.array_create(h5t.STD_I16BE, (2, 3)), np.arange(6).reshape(2, 3), ()),
    "arrays": (h5t.array_create(h5t.STD_I16BE, (3,)), np.arange(6).reshape(2, 3), (2,)),
    "compound": (h5t.py_create(PAIR), np.array((1, [2, 3]), PAIR), ()),
    "ragged": (h5t.vlen_create(h5t.STD_I16LE), ROWS, (2,)),
    "ragged_scalar": (h5t.vlen_create(h5t.STD_I16LE), np.array([1, 2, 3], "<i2"), ()),
    "no_elements": (h5t.IEEE_F64LE, np.empty((0, 3)), (0, 3)),
}


@pytest.mark.parametrize(("kind", "value", "shape"), STORED.values(), ids=STORED)
def test_type_and_value_are_kept(
    kind: h5t.TypeID, value: Any, shape: tuple[int, ...], tmp_path: Path
) -> None:
    with kept(tmp_path, Attr(name="ü", value=value, type=kind.encode(), shape=shape)) as f:
        found = h5a.open(f["g"].id, "ü".encode())
        assert found.get_type().encode() == kind.encode()
        assert found.get_type() == kind
        assert found.get_space().get_simple_extent_dims() == shape
        if kind.get_class() != h5t.OPAQUE:
            same(f["g"].attrs["ü"], value)


def test_opaque_values_keep_their_tag(tmp_path: Path) -> None:
    stored = opaque()
    with kept(tmp_path, Attr(name="a", value=b"12345", type=stored.encode())) as f:
        raw = np.empty((), "V5")
        h5a.open(f["g"].id, b"a").read(raw, stored)
        assert raw.tobytes() == b"12345"


def same(found: Any, value: Any) -> None:
    if isinstance(value, np.ndarray) and value.dtype == object:
        assert all(np.array_equal(a, b) for a, b in zip(found.flat, value.flat, strict=True))
    elif isinstance(value, np.floating):
        assert found.tobytes() == value.tobytes()
    elif isinstance(found, np.void):
        assert found.tobytes() == (value if isinstance(value, bytes) else value.tobytes())
    elif isinstance(found, bytes):
        assert found.decode() == (value.decode() if isinstance(value, bytes) else value)
    else:
        assert np.array_equal(found, value)


def test_spaces_pad_what_spaces_padded(tmp_path: Path) -> None:
    stored = padded(h5t.STR_SPACEPAD)
    with kept(tmp_path, Attr(name="a", value="abc", type=stored.encode())) as f:
        raw = np.empty((), "S6")
        h5a.open(f["g"].id, b"a").read(raw, stored)
        assert raw.tobytes() == b"abc   "


def test_an_attribute_without_a_value(tmp_path: Path) -> None:
    with kept(tmp_path, attr("nothing", None)) as f:
        found = h5a.open(f["g"].id, b"nothing")
        assert found.get_space().get_simple_extent_type() == h5s.NULL
        assert isinstance(f["g"].attrs["nothing"], h5py.Empty)


ONE = attr("n", 1)
BAD: dict[str, tuple[Attr, str]] = {
    "too_large": (replace(ONE, value=2**63), r"attribute 'n' of '/g' is 9223372036854775808, "),
    "fraction": (replace(ONE, value=1.5), r"is 1\.5, .* \(as '<i8' it would be 1\); give it a"),
    "not_a_number": (replace(ONE, value="many"), r"is 'many', which its stored type of shape \(\)"),
    "two_for_one": (
        replace(ONE, value=np.array([1, 2])),
        r"of shape \(\) can't hold \(cannot resh",
    ),
    "nul": (attr("n", "a\0b"), r"attribute 'n' of '/g' holds a NUL character at byte 1"),
    "too_long": (
        Attr(name="n", value="sevenseven", type=padded(h5t.STR_NULLPAD).encode()),
        r"holds 10 bytes of text, its type holds 6; shorten it",
    ),
}


@pytest.mark.parametrize(("given", "match"), BAD.values(), ids=BAD)
def test_a_value_that_does_not_fit_is_named(given: Attr, match: str, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=match):
        kept(tmp_path, given)
    assert list(tmp_path.iterdir()) == []


def test_references_are_refused(tmp_path: Path) -> None:
    kind = h5t.vlen_create(h5t.STD_REF_OBJ)
    with pytest.raises(Refused, match=r"attribute 'n' of '/g' holds HDF5 references.* drop it"):
        kept(tmp_path, Attr(name="n", value=None, type=kind.encode()))
