"""Objects and links are carried over as they are, and nothing is followed on the way."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t

from h5dask.contents import GroupForm
from h5dask.errors import NotFound, Refused
from h5dask.storage.forms import form_of
from h5dask.storage.skeleton import Plan, PlannedArray, create


def copied(source: Path, *paths: str, arrays: tuple[str, ...] = ()) -> Path:
    """Carry paths over to a new file that also has arrays of its own."""
    target = source.with_name("target.h5")
    values = np.arange(3, dtype="<i4")
    made = tuple(
        PlannedArray(path=p, shape=(3,), form=form_of("<i4"), values=lambda: iter([values]))
        for p in arrays
    )
    copies = tuple((str(source), path) for path in paths)
    create(str(target), Plan(groups={"": GroupForm()}, arrays=made, attrs={}, copies=copies))
    return target


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.h5"
    with h5py.File(path, "w") as f:
        f["a"] = np.arange(3, dtype="<i4")
        f["b"] = f["a"]
        f["soft"] = h5py.SoftLink("/nowhere/ü")
        f["external"] = h5py.ExternalLink("absent.h5", "/x")
        f["deep/table"] = np.array([(1, "ü")], [("n", "<i4"), ("t", h5py.string_dtype())])
        f["deep/table"].attrs["unit"] = "m"
        f["deep/inner"] = h5py.SoftLink("/a")
        f["type"] = np.dtype([("n", "<i4")])
        f["loop"] = f["/"]
    return path


def test_links_keep_what_they_say(source: Path) -> None:
    with h5py.File(copied(source, "soft", "external", "deep/inner")) as f:
        assert f.get("soft", getlink=True).path == "/nowhere/ü"
        assert f.get("external", getlink=True).filename == "absent.h5"
        assert f.get("deep/inner", getlink=True).path == "/a"


def test_objects_keep_values_and_attributes(source: Path) -> None:
    with h5py.File(copied(source, "deep/table", "type")) as f:
        assert f["deep/table"][0].tolist() == (1, "ü".encode())
        assert f["deep/table"].attrs["unit"] == "m"
        assert isinstance(f["type"], h5py.Datatype)


def test_a_group_is_copied_whole(source: Path) -> None:
    with h5py.File(copied(source, "deep")) as f:
        assert list(f["deep"]) == ["inner", "table"]
        assert f["deep"].get("inner", getlink=True).path == "/a"


def test_a_second_name_stays_a_second_name(source: Path) -> None:
    with h5py.File(copied(source, "b", "loop", arrays=("a",)), "r+") as f:
        assert f["a"] == f["b"]
        assert f["loop"] == f["/"]
        f["a"][0] = 7
        assert f["b"][:].tolist() == [7, 1, 2]
    with h5py.File(copied(source, "b", "a")) as f:
        assert f["a"] == f["b"]
    with h5py.File(copied(source, "b")) as f:
        assert list(f) == ["b"]


def test_values_elsewhere_stay_there(tmp_path: Path) -> None:
    source = tmp_path / "source.h5"
    with h5py.File(source, "w") as f:
        properties = h5p.create(h5p.DATASET_CREATE)
        properties.set_external(b"/absent/file.bin", 0, 12)
        h5d.create(f.id, b"external", h5t.STD_I32LE, h5s.create_simple((3,)), properties)
        rows = h5py.VirtualLayout((3,), dtype="<i4")
        rows[:] = h5py.VirtualSource("absent.h5", "x", (3,))
        f.create_virtual_dataset("virtual", rows)
    with h5py.File(copied(source, "external", "virtual")) as f:
        assert f["external"].external == [("/absent/file.bin", 0, 12)]
        assert f["virtual"].virtual_sources()[0].file_name == "absent.h5"


@pytest.mark.parametrize("path", ["nothing", "soft/x", "external/x", "a/x", "deep/inner/x"])
def test_nothing_is_followed(source: Path, path: str) -> None:
    with pytest.raises(
        NotFound, match=rf"source\.h5: nothing at '/{path}' to carry over to .*targ"
    ):
        copied(source, path)
    assert not source.with_name("target.h5").exists()


def test_a_file_that_is_open_with_locks_is_copied_from_and_stays_open(source: Path) -> None:
    with h5py.File(source) as held:
        with h5py.File(copied(source, "deep")) as f:
            assert f["deep/table"].attrs["unit"] == "m"
        assert held["a"][:].tolist() == [0, 1, 2]


def references(path: Path) -> None:
    with h5py.File(path, "w") as f:
        f["a"] = np.arange(3, dtype="<i4")
        objects = f.create_dataset("refs", (2,), h5py.ref_dtype)
        objects[1] = f["a"].ref
        regions = f.create_dataset("regions", (2,), h5py.regionref_dtype)
        regions[0] = f["a"].regionref[1:]
        pairs = np.dtype([("n", "<i4"), ("r", h5py.ref_dtype)])
        f.create_dataset("pairs", (2,), pairs)


def test_references_mean_the_same_in_the_new_file(tmp_path: Path) -> None:
    references(tmp_path / "source.h5")
    target = copied(tmp_path / "source.h5", "refs", "regions", arrays=("a", "b"))
    with h5py.File(target) as f:
        assert not f["refs"][0]
        assert f[f["refs"][1]] == f["a"]
        assert f["a"][f["regions"][0]].tolist() == [1, 2]
        assert not f["regions"][1]


def test_references_that_would_mean_nothing_are_refused(tmp_path: Path) -> None:
    references(tmp_path / "source.h5")
    with pytest.raises(Refused, match=r"'/refs' refers to '/a', which .*target\.h5 doesn't hold"):
        copied(tmp_path / "source.h5", "refs", arrays=("b",))
    with pytest.raises(Refused, match=r"'/pairs' holds HDF5 references inside values of another"):
        copied(tmp_path / "source.h5", "pairs")
