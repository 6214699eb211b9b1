"""New forms and attributes are those that h5py would have made, chunk shapes included."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5t
from hypothesis import given, settings
from hypothesis import strategies as st

from h5dask.chunkindex import Filter
from h5dask.contents import AS_SHAPE, UNLIMITED, ArrayForm
from h5dask.errors import LayoutError
from h5dask.storage.describe import describe
from h5dask.storage.forms import (
    attr,
    automatic_chunks,
    form_of,
    gzip_filters,
    limits,
    stored_chunks,
    takes_bytes,
)
from h5dask.storage.skeleton import Plan, create
from tests.files.elements import brain_float, twelve_bits
from tests.storage.rewriting import planned


def described(path: Path) -> ArrayForm:
    contents, _ = describe(str(path), subject=str(path), fingerprint="")
    return contents.form("x")


CASES: dict[str, tuple[ArrayForm, dict[str, Any]]] = {
    "contiguous": (form_of("<f4"), {"dtype": "<f4"}),
    "big_endian": (form_of(np.dtype(">i8")), {"dtype": ">i8"}),
    "bool": (form_of("?"), {"dtype": "?"}),
    "text": (form_of("str"), {"dtype": h5py.string_dtype()}),
    "ascii": (form_of("str", encoding="ascii"), {"dtype": h5py.string_dtype("ascii")}),
    "fixed_text": (form_of("S5"), {"dtype": "S5"}),
    "pictures": (form_of("bytes"), {"dtype": h5py.vlen_dtype(np.uint8)}),
    "chunked": (form_of("<f4", chunks=(3, 4)), {"dtype": "<f4", "chunks": (3, 4)}),
    "automatic": (form_of("<f2", chunks=True), {"dtype": "<f2", "chunks": True}),
    "growing": (
        form_of("<f4", maxshape=(UNLIMITED, AS_SHAPE)),
        {"dtype": "<f4", "maxshape": (None, 6)},
    ),
    "gzip": (
        form_of("<f8", chunks=(3, 4), filters=gzip_filters(4, 8)),
        {"dtype": "<f8", "chunks": (3, 4), "compression": "gzip", "shuffle": True},
    ),
    "fill": (
        form_of("<i4", chunks=(3, 4), fill=b"\7\0\0\0"),
        {"dtype": "<i4", "chunks": (3, 4), "fillvalue": 7},
    ),
}


@pytest.mark.parametrize(("form", "keywords"), CASES.values(), ids=CASES)
def test_a_new_form_is_h5pys(form: ArrayForm, keywords: dict[str, Any], tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.h5", tmp_path / "theirs.h5"
    with h5py.File(theirs, "w") as f:
        f.create_dataset("x", (9, 6), **keywords)
    values = None if form.is_numeric else np.empty((9, 6), "S1" if form.is_text else object)
    if form.is_ragged_bytes and values is not None:
        values[...] = b""
    create(str(ours), planned(form, (9, 6), values))
    assert described(ours) == described(theirs)


@settings(max_examples=150)
@given(
    shape=st.lists(st.integers(0, 70_000), min_size=1, max_size=4).map(tuple),
    dtype=st.sampled_from(["i1", "<f2", ">f4", "<f8", "S100", h5py.string_dtype()]),
    growing=st.integers(0, 4),
)
def test_automatic_chunks_are_h5pys(shape: tuple[int, ...], dtype: Any, growing: int) -> None:
    maxshape = tuple(None if axis < growing else n for axis, n in enumerate(shape))
    with h5py.File("expected", "w", driver="core", backing_store=False) as f:
        expected = f.create_dataset("x", shape, dtype, maxshape=maxshape, chunks=True).chunks
    kind = h5t.py_create(np.dtype(dtype), logical=True).encode()
    assert automatic_chunks(kind, shape, maxshape) == expected
    form = form_of("str" if h5py.check_string_dtype(np.dtype(dtype)) and dtype != "S100" else dtype)
    recorded = tuple(UNLIMITED if bound is None else AS_SHAPE for bound in maxshape)
    growing_form = ArrayForm(
        dtype=form.dtype, type=kind, storage="chunked", maxshape=recorded, chunks=None
    )
    assert stored_chunks(growing_form, shape) == expected


def test_limits_follow_the_shape() -> None:
    form = form_of("<f4", maxshape=(UNLIMITED, AS_SHAPE, 10))
    assert limits(form, (3, 4, 5)) == (None, 4, 10)
    assert limits(form, (3, 4, 12)) == (None, 4, 12)
    assert limits(form, (3, 4)) == (3, 4)
    assert limits(form_of("<f4"), (3, 4)) == (3, 4)


def test_chunks_are_cut_where_a_dim_cannot_grow() -> None:
    form = form_of("<f4", chunks=(8, 8, 8), maxshape=(UNLIMITED, AS_SHAPE, AS_SHAPE))
    assert stored_chunks(form, (3, 4, 0)) == (8, 4, 8)
    assert stored_chunks(form, (30, 40, 50)) == (8, 8, 8)


def test_only_numpys_own_numbers_are_written_as_bytes() -> None:
    assert takes_bytes(form_of(">f4"))
    assert takes_bytes(form_of("?", chunks=(4,), filters=gzip_filters(1, 1)))
    for form in (form_of("str"), form_of("S5"), form_of("bytes")):
        assert not takes_bytes(form)
    for dtype, kind in (("<i2", twelve_bits()), ("<f2", brain_float())):
        assert not takes_bytes(ArrayForm(dtype=dtype, type=kind.encode()))


VALUES: dict[str, Any] = {
    "str": "naïve",
    "int": 3,
    "float": 0.5,
    "bool": True,
    "bytes": b"raw",
    "numpy_str": np.str_("text"),
    "numpy_bool": np.bool_(False),
    "float32": np.float32(0.1),
    "array": np.arange(3, dtype=">i2"),
    "bools": [True, False],
    "texts": ["a", "naïve"],
    "numpy_texts": np.array(["a", "naïve"]),
    "ints": [1, 2],
    "nothing_listed": [],
    "rank_two": [[1.5, 2], [3, 4]],
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_new_attribute_reads_back_as_it_was_given(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    given = attr("a", value)
    create(str(path), Plan(groups={}, arrays=(), attrs={"": (given,)}))
    with h5py.File(path) as f:
        found = f.attrs["a"]
        expected = value.decode() if isinstance(value, bytes) else value
        assert np.array_equal(found, expected)
        assert np.asarray(found).shape == given.shape
        if np.asarray(value).dtype.kind in "biuf":
            assert np.asarray(found).dtype == np.asarray(value).dtype
    contents, _ = describe(str(path), subject="x.h5", fingerprint="")
    assert contents.attr("", "a").__class__ is given.value.__class__
    assert contents.attrs[""][0].type == given.type


def test_text_is_ascii_where_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    create(str(path), Plan(groups={}, arrays=(), attrs={"": (attr("a", "b", "ascii"),)}))
    with h5py.File(path) as f:
        assert f.attrs.get_id("a").get_type().get_cset() == h5t.CSET_ASCII


def test_a_value_without_a_type_is_named() -> None:
    with pytest.raises(LayoutError, match=r"attribute 'when' is .*1970.*, for which HDF5 has no"):
        attr("when", np.datetime64(0, "s"))


def test_gzip_is_named_as_h5py_names_it() -> None:
    assert gzip_filters(9, 4) == (Filter(2, 1, (4,), "shuffle"), Filter(1, 1, (9,), "deflate"))
