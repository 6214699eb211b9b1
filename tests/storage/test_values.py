"""Text, pictures and small arrays written with the skeleton, and the rows that can't be."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5d, h5t

from h5dask.contents import ArrayForm
from h5dask.errors import LayoutError, Refused
from h5dask.storage.forms import form_of
from h5dask.storage.skeleton import Plan, PlannedArray, create
from tests.files.elements import padded
from tests.files.variant import Array
from tests.storage.rewriting import planned


def written(path: Path, form: ArrayForm, shape: tuple[int, ...], *blocks: Any) -> h5py.Dataset:
    array = PlannedArray(path="g/x", shape=shape, form=form, values=lambda: iter(blocks))
    create(str(path), Plan(groups={}, arrays=(array,), attrs={}))
    return h5py.File(path, "r")["g/x"]


def fixed(padding: int) -> ArrayForm:
    kind = padded(padding)
    return ArrayForm(dtype="S6", type=kind.encode())


TEXTS = {
    "numpy_strings": np.array(["a", "naïve", ""]),
    "numpy_bytes": np.array([b"a", "naïve".encode(), b""]),
    "new_numpy_strings": np.array(["a", "naïve", ""], np.dtypes.StringDType()),
    "str": np.array(["a", "naïve", ""], object),
    "bytes": np.array([b"a", "naïve".encode(), b""], object),
    "numpy_str": np.array([np.str_("a"), np.bytes_("naïve".encode()), ""], object),
}


@pytest.mark.parametrize("values", TEXTS.values(), ids=TEXTS)
def test_text_of_any_kind(values: Array, tmp_path: Path) -> None:
    found = written(tmp_path / "x.h5", form_of("str"), (3,), values)
    assert h5py.check_string_dtype(found.dtype) == ("utf-8", None)
    assert found.asstr()[:].tolist() == ["a", "naïve", ""]


@pytest.mark.parametrize("padding", [h5t.STR_NULLPAD, h5t.STR_NULLTERM, h5t.STR_SPACEPAD])
def test_text_of_fixed_length(padding: int, tmp_path: Path) -> None:
    found = written(tmp_path / "x.h5", fixed(padding), (2,), np.array(["ab", "sixsix"]))
    raw = np.empty(2, "S6")
    found.id.read(h5py.h5s.ALL, h5py.h5s.ALL, raw, found.id.get_type())
    blank = b" " if padding == h5t.STR_SPACEPAD else b"\0"
    assert raw.tobytes() == b"ab" + 4 * blank + b"sixsix"


def test_blocks_of_rank_two(tmp_path: Path) -> None:
    values = np.array([[f"{i}{j}" for j in "ab"] for i in range(5)])
    found = written(tmp_path / "x.h5", form_of("str"), (5, 2), values[:2], values[2:2], values[2:])
    assert np.array_equal(found.asstr()[...], values)


def test_pictures_as_bytes_or_arrays(tmp_path: Path) -> None:
    values = np.empty(3, object)
    values[:] = [b"\0\1\2", np.array([3, 4], "u1"), b""]
    found = written(tmp_path / "x.h5", form_of("bytes", chunks=(2,)), (3,), values)
    assert [row.tolist() for row in found] == [[0, 1, 2], [3, 4], []]


def test_numbers_and_a_scalar(tmp_path: Path) -> None:
    assert written(tmp_path / "a.h5", form_of(">i2"), (2,), np.array([1, 2]).astype("i2"))[1] == 2
    assert written(tmp_path / "b.h5", form_of("?"), (2,), np.array([True, False]))[0]
    assert written(tmp_path / "c.h5", form_of("str"), (), np.array("text"))[()] == b"text"


def test_compact_storage(tmp_path: Path) -> None:
    form = ArrayForm(
        dtype="<i4", type=h5t.STD_I32LE.encode(), storage="compact", alloc_time=1, fill_time=2
    )
    found = written(tmp_path / "x.h5", form, (3,), np.array([1, 2, 3], "i4"))
    assert found.id.get_create_plist().get_layout() == h5d.COMPACT
    assert found[:].tolist() == [1, 2, 3]


BAD: dict[str, tuple[ArrayForm, list[Any], str]] = {
    "nul": (form_of("str"), ["a", "b", "c\0", "d"], r"x\.h5: '/x' row 2 holds a NUL .* at byte 1"),
    "no_text": (form_of("str"), ["a", None, "c", "d"], r"row 1 is None, expected text; give every"),
    "surrogate": (form_of("str"), ["a", "b", "c", "\ud800"], r"row 3 is '\\ud800', expected text"),
    "too_long": (
        fixed(h5t.STR_NULLPAD),
        ["a", "b", "seven77", "d"],
        r"row 2 holds 7 bytes of text",
    ),
}


@pytest.mark.parametrize(("form", "rows", "match"), BAD.values(), ids=BAD)
def test_a_row_that_cannot_be_stored_is_named(
    form: ArrayForm, rows: list[Any], match: str, tmp_path: Path
) -> None:
    with pytest.raises(LayoutError, match=match):
        create(str(tmp_path / "x.h5"), planned(form, (4,), np.array(rows, object)))
    assert list(tmp_path.iterdir()) == []


def test_the_row_is_counted_over_all_blocks(tmp_path: Path) -> None:
    rows = np.array([["a", "b"], ["c", "d\0e"]])
    with pytest.raises(LayoutError, match=r"'/g/x' row 3 holds a NUL"):
        written(tmp_path / "x.h5", form_of("str"), (4, 2), rows[[0, 0]], rows)


SHAPES = [((3,), [2, 2]), ((3,), [2]), ((3, 2), [3]), ((), [])]


@pytest.mark.parametrize(("shape", "lengths"), SHAPES)
def test_blocks_that_are_not_the_dataset(
    shape: tuple[int, ...], lengths: list[int], tmp_path: Path
) -> None:
    with pytest.raises(LayoutError, match=r"'/g/x' was given values of shape .*, expected \("):
        written(tmp_path / "x.h5", form_of("<i4"), shape, *(np.zeros(n, "i4") for n in lengths))


def test_another_dtype_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"was given '<f8' values, its type is '<i4'; convert"):
        written(tmp_path / "x.h5", form_of("<i4"), (2,), np.zeros(2))


def test_references_are_refused(tmp_path: Path) -> None:
    form = ArrayForm(dtype="reference", type=h5t.STD_REF_OBJ.encode())
    with pytest.raises(Refused, match=r"'/g/x' holds HDF5 references"):
        written(tmp_path / "x.h5", form, (2,), np.empty(2, object))


LIMITED = """
import resource, sys
import numpy as np
from h5dask.errors import OutOfSpace
from h5dask.storage.forms import form_of
from h5dask.storage.skeleton import Plan, PlannedArray, create
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
rows = lambda: (np.array([f"{i} " + "x" * 9999]) for i in range(200))
text = PlannedArray(path="x", shape=(200,), form=form_of("str"), values=rows)
try:
    create(sys.argv[1], Plan(groups={}, arrays=(text,), attrs={}))
except OutOfSpace as error:
    print(error)
"""


def test_a_disk_that_fills_while_text_is_written(tmp_path: Path) -> None:
    """HDF5 ends the process with a fault where it meets a full disk itself."""
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "x.h5")],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert ended.returncode == 0, ended.stderr
    assert "x.h5: needs" in ended.stdout
    assert "files may have 1,048,576 here; free some space" in ended.stdout
    assert list(tmp_path.iterdir()) == []
