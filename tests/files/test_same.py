from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.files import LAYOUTS
from tests.files.changes import CHANGES, ROWS, dataset
from tests.files.elements import RARE, TYPES
from tests.files.filters import FILTERS, OTHERS
from tests.files.same import BLOCK_NBYTES, differences, regions
from tests.files.storage import FORMS, smooth
from tests.files.variant import Fill


def made(path: Path, fill: Fill) -> Path:
    with h5py.File(path, "w") as f:
        fill(f)
    return path


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_is_found(tmp_path: Path, name: str) -> None:
    first, second, words = CHANGES[name]
    a, b = made(tmp_path / "a.h5", first), made(tmp_path / "b.h5", second)
    assert any(line.startswith(words) for line in differences(a, b))
    assert any(line.startswith(words.replace("second", "first")) for line in differences(b, a))


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_made_twice_is_the_same(tmp_path: Path, name: str) -> None:
    for fill in CHANGES[name][:2]:
        assert differences(made(tmp_path / "a.h5", fill), made(tmp_path / "b.h5", fill)) == []


def test_a_missing_group_is_told_once(tmp_path: Path) -> None:
    a = made(tmp_path / "a.h5", lambda f: f.create_dataset("g/h/x", data=ROWS))
    b = made(tmp_path / "b.h5", lambda f: None)
    lines = differences(a, b)
    assert [line for line in lines if "only" in line] == ["/g: only in the first file"]


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_copies_by_hdf5_are_the_same(tmp_path: Path, layout: str, libver: str) -> None:
    for name, variant in LAYOUTS[layout].VARIANTS.items():
        variant.write(tmp_path / "a.h5")
        assert copy_differences(tmp_path, libver) == [], name


# HDF5 copies a fill value that is text as an address of the old file.
COPIED = {name: write for name, write in (TYPES | RARE).items() if name != "text_fill"}
writers = {
    **{name: partial(write, name="x") for name, write in COPIED.items()},
    **{
        name: partial(lambda path, write: write(path, "x", smooth("<f4")), write=write)
        for name, write in (FORMS | FILTERS | OTHERS).items()
    },
}


@pytest.mark.parametrize("name", writers)
def test_copies_of_every_form_are_the_same(tmp_path: Path, name: str) -> None:
    writers[name](tmp_path / "a.h5")
    assert copy_differences(tmp_path, "latest") == []


def copy_differences(folder: Path, libver: str) -> list[str]:
    a, b = folder / "a.h5", folder / "b.h5"
    with h5py.File(a, "r") as old:
        tracked = bool(old["/"].id.get_create_plist().get_link_creation_order())
        with h5py.File(b, "w", libver=libver, track_order=tracked) as new:
            for key in old:
                old.copy(old[key], new, key)
            for key in old.attrs:
                kind = old.attrs.get_id(key).dtype
                new.attrs.create(key, old.attrs[key], dtype=kind)
    return differences(a, b)


@pytest.mark.parametrize("shape", [(), (7,), (1, 3_000_000), (3_000_000, 1), (3, 2000, 3000)])
def test_regions_cover_a_shape_once(shape: tuple[int, ...]) -> None:
    pieces = list(regions(shape, 4))
    sizes = [np.prod([r.stop - r.start for r in piece], dtype=int) for piece in pieces]
    assert sum(sizes) == np.prod(shape, dtype=int)
    assert max(sizes) * 4 <= BLOCK_NBYTES
    assert len({tuple(r.start for r in piece) for piece in pieces}) == len(pieces)


def test_a_value_beyond_the_first_block_is_found(tmp_path: Path) -> None:
    rows = np.zeros((BLOCK_NBYTES // 4, 2), "f4")
    a = made(tmp_path / "a.h5", dataset(rows))
    rows[-1, 1] = 1
    b = made(tmp_path / "b.h5", dataset(rows))
    assert differences(a, b) == [
        f"/x: values from ({len(rows) - 1}, 1) on are {rows[0].view('V4')[0]!r} in the first file "
        f"and {rows[-1].view('V4')[1]!r} in the second"
    ]
