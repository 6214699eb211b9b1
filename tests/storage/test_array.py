"""StoredArray reads every storage form, type and filter as h5py does."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h5dask.storage.array import Segments, StoredArray
from h5dask.storage.describe import describe
from h5dask.storage.remote import expand
from tests.files.elements import RARE, TYPES
from tests.files.filters import FILTERS, INTEGER_ONLY, OTHERS
from tests.files.storage import FORMS, smooth


def stored(path: Path, name: str = "x") -> StoredArray:
    """Open one dataset of a file as an array of one segment."""
    [source] = expand(path)
    contents, index = describe(str(path), subject=str(path), fingerprint=source.fingerprint)
    at = contents.position(name)
    shape = contents.shape(name)
    segments = Segments(
        starts=np.array([0, shape[0]]),
        sources=np.zeros(1, np.int32),
        offsets=index.offsets[[at]].reshape(1, 1),
        forms=np.zeros((1, 1), np.int32),
        heap_bases=np.array([index.heap_base]),
        shapes={(0, 0): shape},
        paths=((name,),),
        indexes={(0, 0): index.chunked[at]} if at in index.chunked else {},
        inline={(0, 0): index.inline[at]} if at in index.inline else {},
    )
    return StoredArray(name, (source,), segments, (contents.form(name),), shape[1:])


def same(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    if expected.dtype == object:
        for a, b in zip(found.ravel(), expected.ravel(), strict=True):
            text = b.decode("utf-8", "surrogateescape") if isinstance(b, bytes) else b
            assert type(a) is type(text)
            assert np.array_equal(a, text)
    elif expected.dtype.kind == "S":
        same(found, np.array([v.decode() for v in expected.ravel()], object).reshape(found.shape))
    else:
        assert found.dtype == expected.dtype.newbyteorder("=")
        assert found.tobytes() == expected.astype(found.dtype).tobytes()


SELECTIONS = [
    np.s_[...],
    np.s_[3],
    np.s_[2:9],
    np.s_[::3],
    np.s_[::-1],
    np.s_[[4, 1, 1, 6]],
    np.s_[-1],
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["<f4", ">i8", "<f2"])
def test_every_storage_form(form: str, dtype: str, tmp_path: Path) -> None:
    expected = FORMS[form](tmp_path / "a.h5", "x", smooth(dtype))
    array = stored(tmp_path / "a.h5")
    for key in SELECTIONS:
        same(array[key], expected[key])
    if expected.ndim > 1:
        for key in (np.s_[:, 3:5], np.s_[2:40, 7], np.s_[::2, ::5], np.s_[:, -2:]):
            same(array[key], expected[key])
        same(array[[3, 1], [4, 0, 4]], expected[np.ix_([3, 1], [4, 0, 4])])


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("dtype", ["<f4", "<f2", "i1", ">f8"])
def test_every_filter_of_ours(name: str, dtype: str, tmp_path: Path) -> None:
    expected = FILTERS[name](tmp_path / "a.h5", "x", smooth(dtype))
    array = stored(tmp_path / "a.h5")
    for key in (*SELECTIONS, np.s_[5:20, 3:9]):
        same(array[key], expected[key])


@pytest.mark.parametrize("name", [*OTHERS, *INTEGER_ONLY])
def test_every_other_filter_through_the_library(name: str, tmp_path: Path) -> None:
    write = {**OTHERS, **INTEGER_ONLY}[name]
    expected = write(tmp_path / "a.h5", "x", smooth("<i4"))
    array = stored(tmp_path / "a.h5")
    for key in (np.s_[...], np.s_[2:9], np.s_[[4, 1], 2:5]):
        same(array[key], expected[key])


ROWS = [name for name in TYPES if "scalar" not in name] + ["twelve_bits", "brain_float"]


@pytest.mark.parametrize("name", ROWS)
def test_every_type(name: str, tmp_path: Path) -> None:
    expected = {**TYPES, **RARE}[name](tmp_path / "a.h5", "x")
    array = stored(tmp_path / "a.h5")
    same(array[...], expected)
    same(array[1:3], expected[1:3])
    last = [len(expected) - 1, 0] if len(expected) else []
    same(array[last], expected[last])


def test_it_pickles_without_the_file(tmp_path: Path) -> None:
    expected = FORMS["btree_v1"](tmp_path / "a.h5", "x", smooth("<f4"))
    again = pickle.loads(pickle.dumps(stored(tmp_path / "a.h5")))
    same(again[...], expected)


@settings(max_examples=60, deadline=None)
@given(draw=st.data())
def test_any_box_equals_numpy(
    draw: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rank = draw.draw(st.integers(1, 3))
    shape = tuple(draw.draw(st.integers(1, 13)) for _ in range(rank))
    chunks = tuple(draw.draw(st.integers(1, n)) for n in shape)
    gzip = draw.draw(st.booleans())
    path = tmp_path_factory.mktemp("box") / "a.h5"
    expected = np.arange(np.prod(shape), dtype="<i4").reshape(shape)
    with h5py.File(path, "w") as f:
        f.create_dataset("x", data=expected, chunks=chunks, compression="gzip" if gzip else None)
    array = stored(path)
    for _ in range(5):
        starts = [draw.draw(st.integers(0, n)) for n in shape]
        key = tuple(
            slice(a, draw.draw(st.integers(a, n)), draw.draw(st.integers(1, 3)))
            for a, n in zip(starts, shape, strict=True)
        )
        same(array[key], expected[key])


def test_rows_from_the_middle_of_many_small_datasets(tmp_path: Path) -> None:
    path, names = tmp_path / "a.h5", tuple(f"x{i:02d}" for i in range(12))
    expected = np.arange(12 * 5 * 3, dtype="<f4").reshape(60, 3)
    with h5py.File(path, "w") as f:
        for i, name in enumerate(names):
            f[name] = expected[5 * i : 5 * (i + 1)]
    [source] = expand(path)
    contents, index = describe(str(path), subject=str(path), fingerprint=source.fingerprint)
    segments = Segments(
        starts=np.arange(13) * 5,
        sources=np.zeros(12, np.int32),
        offsets=index.offsets[contents.positions(names)].reshape(1, 12),
        forms=np.zeros((1, 12), np.int32),
        heap_bases=np.array([index.heap_base]),
        shapes={},
        paths=(names,),
        indexes={},
        inline={},
    )
    array = StoredArray("x", (source,), segments, (contents.form("x00"),), (3,))
    for start, stop in ((0, 60), (2, 58), (4, 46), (13, 60)):
        same(array[start:stop], expected[start:stop])
