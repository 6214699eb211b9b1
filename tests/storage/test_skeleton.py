"""A skeleton is the file that was planned, in every form, and plain h5py goes on with it."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d

from h5dask.contents import AS_SHAPE, UNLIMITED, GroupForm
from h5dask.errors import LayoutError, OutOfSpace, Refused
from h5dask.storage.forms import attr, form_of, gzip_filters
from h5dask.storage.skeleton import Plan, PlannedArray, create
from h5dask.storage.write import write_block
from tests.files import activations, ann, episodes, proteins
from tests.files.elements import RARE, TYPES
from tests.files.filters import FILTERS, INTEGER_ONLY, OTHERS
from tests.files.hostile import ENDLESS, OUTSIDE, RARE_TYPES
from tests.files.same import differences
from tests.files.storage import FORMS, smooth
from tests.storage.rewriting import planned, rewrite

LAYOUTS = {"activations": activations, "ann": ann, "episodes": episodes, "proteins": proteins}
WHOLE_FILES: dict[str, Callable[[Path], object]] = {
    **{f"{n}-{v}": made.write for n, m in LAYOUTS.items() for v, made in m.VARIANTS.items()},
    **OUTSIDE,
    **{name: write for name, write in ENDLESS.items() if name != "deep_nesting"},
    **RARE_TYPES,
    **{
        f"type-{name}": partial(write, name="g/x")
        for name, write in (TYPES | RARE).items()
        # A description says nothing of a text's fill value.
        if name != "text_fill"
    },
    **{
        f"form-{name}": partial(write, name="g/x", values=smooth("<i4"))
        for name, write in (FORMS | FILTERS | OTHERS | INTEGER_ONLY).items()
    },
}


@pytest.mark.parametrize("write", WHOLE_FILES.values(), ids=WHOLE_FILES)
def test_a_file_written_anew_is_the_same(write: Callable[[Path], object], tmp_path: Path) -> None:
    source, target = tmp_path / "source.h5", tmp_path / "target.h5"
    write(source)
    rewrite(source, target)
    assert differences(source, target) == []


def test_a_real_file_written_anew_is_the_same(sample: Path, tmp_path: Path) -> None:
    rewrite(sample, tmp_path / "target.h5")
    assert differences(sample, tmp_path / "target.h5") == []


def test_small_real_files_stay_as_small(small: Path, tmp_path: Path) -> None:
    for source in [*small.rglob("*.h5"), *small.rglob("*.hdf5")]:
        rewrite(source, tmp_path / "target.h5")
        assert differences(source, tmp_path / "target.h5") == []
        assert os.path.getsize(tmp_path / "target.h5") < 1.15 * os.path.getsize(source)


@pytest.mark.parametrize("chunks", [None, (4, 3)])
@pytest.mark.parametrize("tracked", [0, 3], ids=["first_headers", "second_headers"])
def test_the_header_says_what_the_form_says(
    chunks: tuple[int, ...] | None, tracked: int, tmp_path: Path
) -> None:
    path = tmp_path / "x.h5"
    form = replace(form_of("<f4", chunks=chunks, fill=b"\0\0\x80?"), attr_order=tracked)
    attrs = tuple(attr(f"a{i}", "text" * 10) for i in range(12))
    array = PlannedArray(path="x", shape=(10, 5), form=form, attrs=attrs)
    create(str(path), Plan(groups={}, arrays=(array,), attrs={}))
    with h5py.File(path) as f:
        found = f["x"].id.get_create_plist()
        assert (found.get_alloc_time(), found.get_fill_time()) == (form.alloc_time, form.fill_time)
        assert f["x"].fillvalue == 1
        assert list(f["x"].attrs) == [a.name for a in attrs] or not tracked
        assert {name: f["x"].attrs[name] for name in f["x"].attrs} == {
            a.name: a.value for a in attrs
        }


def test_h5py_extends_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    form = form_of("<f4", chunks=(4, 3), maxshape=(UNLIMITED, AS_SHAPE), fill=b"\0\0\x80?")
    values = np.arange(50, dtype="f4").reshape(10, 5)
    index = create(str(path), planned(form, (10, 5)))["x"]
    write_block(str(path), index, (0, 0), values, "<f4", form.fill)
    with h5py.File(path, "r+") as f:
        f["x"].resize(17, axis=0)
        f["x"][15:] = 9
    with h5py.File(path) as f:
        expected = np.ones((17, 5), "f4")
        expected[:10], expected[15:] = values, 9
        assert np.array_equal(f["x"][...], expected)


def test_members_come_in_their_order_of_creation(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    form = form_of("<i4")
    plan = Plan(
        groups={
            "": GroupForm(link_order=3, attr_order=3, members=("z", "c", "a")),
            "z": GroupForm(link_order=3, members=("q", "b")),
        },
        arrays=tuple(PlannedArray(path=p, shape=(2,), form=form) for p in ("a", "z/b", "c", "z/q")),
        attrs={"": (attr("y", 1), attr("x", 2)), "z": (attr("u", "ü"),)},
    )
    create(str(path), plan)
    with h5py.File(path, track_order=True) as f:
        assert list(f) == ["z", "c", "a"]
        assert list(f["z"]) == ["q", "b"]
        assert list(f.attrs) == ["y", "x"]
        assert f["z"].attrs["u"] == "ü"


def test_names_of_any_alphabet_and_missing_parents(tmp_path: Path) -> None:
    path = tmp_path / "ü 漢.h5"
    create(str(path), planned(form_of("<i4"), (2,), np.array([1, 2], "<i4"), "a/ü/漢 字"))
    with h5py.File(path) as f:
        assert f["a/ü/漢 字"][:].tolist() == [1, 2]


def test_text_has_the_fill_value_of_its_form(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    form = form_of("str", maxshape=(UNLIMITED,), chunks=(4,), fill="absent é".encode())
    create(str(path), planned(form, (2,), np.array(["a", "b"])))
    with h5py.File(path, "r") as f:
        assert f["x"].fillvalue == "absent é".encode()
        assert f["x"][:].tolist() == [b"a", b"b"]


def test_the_same_plan_gives_the_same_bytes(tmp_path: Path) -> None:
    form = form_of("<f2", chunks=(3, 4), maxshape=(UNLIMITED, AS_SHAPE))
    for name in "ab":
        create(str(tmp_path / name), planned(form, (10, 9)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_is_not_allocated_is_left_to_later(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    gzip = form_of("<f4", chunks=(4, 4), filters=gzip_filters(4, 4))
    index = create(str(path), planned(gzip, (8, 8)))["x"]
    assert (index.shape, index.chunks, index.n_stored) == ((8, 8), (4, 4), 0)
    null = replace(form_of("<f4"), null=True)
    for form, shape in ((form_of("<f4"), (0, 4)), (null, ()), (gzip, (8, 0))):
        assert create(str(path), planned(form, shape)) == {}
    with h5py.File(path) as f:
        assert f["x"].shape == (8, 0)


def test_space_is_taken_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    create(str(path), planned(form_of("<f4"), (1 << 22,)))
    found = path.stat()
    on_disk = shutil.disk_usage(tmp_path)
    assert found.st_size >= 1 << 24
    assert found.st_blocks * 512 >= 1 << 24 or on_disk.free > 1 << 24


@pytest.mark.parametrize("chunks", [None, (1,)], ids=["contiguous", "in_2**60_chunks"])
def test_an_array_beyond_the_disk_is_refused_at_once(
    chunks: tuple[int, ...] | None, tmp_path: Path
) -> None:
    path = tmp_path / "x.h5"
    with pytest.raises(OutOfSpace, match=r"x\.h5: needs [0-9,]+ bytes, [0-9,]+ are free"):
        create(str(path), planned(form_of("i1", chunks=chunks), (2**60,)))
    assert not path.exists()


BAD = {
    "compact_without_values": (
        planned(replace(form_of("<f4"), storage="compact"), (3,)),
        LayoutError,
        r"'/x' is '<f4' in compact storage.* give its values",
    ),
    "virtual": (
        planned(replace(form_of("<f4"), storage="virtual"), (3,)),
        Refused,
        r"'/x' has virtual storage.* copy it as it is",
    ),
    "chunk_of_nothing": (
        planned(form_of("<f8", chunks=(0,), filters=gzip_filters(1, 8)), (3,)),
        LayoutError,
        r"'/x' of shape \(3,\) and chunks \(0,\) can't be made by HDF5 \(.*choose another form",
    ),
    "too_few_rows": (
        planned(form_of("str"), (3,), np.array(["a", "b"])),
        LayoutError,
        r"'/x' was given values of shape \(2,\), expected \(3,\)",
    ),
    "attribute": (
        Plan(groups={}, arrays=(), attrs={"g": (replace(attr("n", 1), value="many"),)}),
        LayoutError,
        r"attribute 'n' of '/g' is 'many', which its stored type of shape \(\) can't hold",
    ),
    "attributes_of_a_dataset": (
        replace(planned(form_of("<f4"), (3,)), attrs={"x": (attr("n", 1),)}),
        LayoutError,
        r"attributes of '/x' are planned as a group's, found a dataset",
    ),
}


@pytest.mark.parametrize(("plan", "error", "match"), BAD.values(), ids=BAD)
def test_what_cannot_be_made_leaves_no_file(
    plan: Plan, error: type[Exception], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        create(str(tmp_path / "x.h5"), plan)
    assert list(tmp_path.iterdir()) == []


def test_a_chunk_is_cut_to_a_dim_that_cannot_grow(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    form = form_of("<i4", chunks=(8, 100), maxshape=(UNLIMITED, AS_SHAPE))
    index = create(str(path), planned(form, (3, 5)))["x"]
    assert index.chunks == (8, 5)
    write_block(str(path), index, (0, 0), np.arange(15, dtype="<i4").reshape(3, 5), "<i4")
    with h5py.File(path) as f:
        assert f["x"].chunks == (8, 5)
        assert f["x"].maxshape == (None, 5)
        assert f["x"][2].tolist() == [10, 11, 12, 13, 14]
        assert f["x"].id.get_space_status() == h5d.SPACE_STATUS_ALLOCATED


def test_attributes_beyond_64_kilobytes(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    large = np.arange(20_000, dtype="<i8")
    create(str(path), Plan(groups={}, arrays=(), attrs={"": (attr("large", large),)}))
    with h5py.File(path) as f:
        assert np.array_equal(f.attrs["large"], large)


@pytest.mark.parametrize("chunks", [None, (100, 7)])
def test_a_sparse_file_is_the_same_and_takes_no_space(
    chunks: tuple[int, ...] | None, tmp_path: Path
) -> None:
    plan = planned(form_of("<f4", chunks=chunks), (1 << 20, 7))
    found = [create(str(tmp_path / name), plan, sparse=name == "b") for name in "ab"]
    a, b = (tmp_path / name for name in "ab")
    assert b.stat().st_size == a.stat().st_size > 7 << 22
    assert b.stat().st_blocks * 512 < (4 if chunks is None else 100) << 16
    assert a.read_bytes() == b.read_bytes()
    assert found[0]["x"].offset.tolist() == found[1]["x"].offset.tolist()


def test_a_sparse_file_may_be_larger_than_the_disk(tmp_path: Path) -> None:
    create(str(tmp_path / "a"), planned(form_of("i1"), (2**42,)), sparse=True)
    assert (tmp_path / "a").stat().st_size > 2**42
    assert (tmp_path / "a").stat().st_blocks * 512 < 1 << 20
