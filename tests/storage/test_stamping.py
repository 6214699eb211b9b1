"""Groups made as bytes are those that HDF5's library would make, and it goes on with them."""

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h5dask.chunkindex import ChunkIndex
from h5dask.contents import GroupForm
from h5dask.storage import stamping
from h5dask.storage.forms import attr, form_of
from h5dask.storage.skeleton import Plan, PlannedArray, create
from h5dask.storage.write import write_block
from tests.files.same import differences
from tests.storage.rewriting import rewrite
from tests.storage.test_skeleton import WHOLE_FILES

TYPES = {"z": "<f4", "numbers": ">i2", "yes": "|b1", "b" * 40: "<f8"}


def many(n: int, start: int = 0) -> Plan:
    """Plan groups of two kinds, and a root that holds something else too."""
    forms = {name: form_of(np.dtype(dtype)) for name, dtype in TYPES.items()}
    arrays = [
        PlannedArray(path=f"g_{i}/{name}", shape=(2 + i % 3, 1, 4)[: 3 - i % 2], form=form)
        for i in range(start, start + n)
        for name, form in forms.items()
    ]
    text = PlannedArray(
        path="text", shape=(1,), form=form_of("str"), values=lambda: iter([np.array(["a"], "O")])
    )
    attrs = {
        f"g_{i}": (attr("number", i), attr("least", -(2**63))) for i in range(start, start + n)
    }
    return Plan(groups={}, arrays=(*arrays, text), attrs=attrs | {"": (attr("title", "many"),)})


def values_of(plan: Plan) -> dict[str, Any]:
    """Draw values of each dataset that follows."""
    rng = np.random.default_rng(3)
    return {
        one.path: rng.integers(0, 2, one.shape).astype(one.form.dtype)
        for one in plan.arrays
        if one.follows
    }


def fill(path: Path, plan: Plan, indexes: dict[str, ChunkIndex]) -> None:
    for name, values in values_of(plan).items():
        write_block(str(path), indexes[name], (0,) * values.ndim, values, values.dtype.str)


@pytest.fixture
def every(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make records of single groups too."""
    monkeypatch.setattr(stamping, "FEWEST", 1)


@pytest.mark.usefixtures("every")
@pytest.mark.parametrize("write", WHOLE_FILES.values(), ids=WHOLE_FILES)
def test_any_file_written_anew_is_the_same(write: Callable[[Path], object], tmp_path: Path) -> None:
    source, target = tmp_path / "source.h5", tmp_path / "target.h5"
    write(source)
    rewrite(source, target)
    assert differences(source, target) == []


def test_they_are_those_the_library_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, made = many(100), {}
    for name, fewest in (("library", 10**9), ("stamped", 1)):
        monkeypatch.setattr(stamping, "FEWEST", fewest)
        made[name] = tmp_path / name
        fill(made[name], plan, create(str(made[name]), plan))
    assert differences(made["library"], made["stamped"]) == []
    assert headers(made["library"]) == headers(made["stamped"])
    assert made["stamped"].stat().st_size < made["library"].stat().st_size


def headers(path: Path) -> dict[str, list[tuple[int, int, bytes]]]:
    """Return each object's messages: kind, flags and body, where it holds no address."""
    raw, found = path.read_bytes(), {}
    with h5py.File(path) as file:
        names: list[str] = []
        file.visit(names.append)
        at = {name: h5py.h5o.get_info(file[name].id).addr for name in names}
    for name, start in at.items():
        (nbytes,) = struct.unpack_from("<I", raw, start + 8)
        blocks, messages = [(start + 16, start + 16 + nbytes)], []
        while blocks:
            place, end = blocks.pop(0)
            while place + 8 <= end:
                kind, size, flags = struct.unpack_from("<HHB", raw, place)
                body = raw[place + 8 : place + 8 + size]
                place += 8 + size
                if kind == 0x10:
                    first, n = struct.unpack("<QQ", body)
                    blocks.append((first, first + n))
                elif kind:
                    hidden = {0x11: b"", 0x08: body[:2] + body[10:]}
                    messages.append((kind, flags, hidden.get(kind, body)))
        found[name] = sorted(messages)
    return found


@pytest.mark.parametrize("n", [32, 255, 256, 2100])
def test_hdf5_goes_on_with_them(n: int, tmp_path: Path) -> None:
    path, plan = tmp_path / "x.h5", many(n)
    fill(path, plan, create(str(path), plan))
    with h5py.File(path, "r+") as f:
        for i in range(0, n, 3):
            f[f"g_{i}"].attrs["more"] = "text " * 40
            f[f"g_{i}/z"].attrs["more"] = np.arange(9)
            for added in range(12):
                f[f"g_{i}"][f"added_{added}"] = np.arange(added)
            f.create_group(f"new_{i}")
        del f["g_1"]
        f["g_2/z"][...] = 7
    with h5py.File(path) as f:
        assert len(f) == n + 1 + len(range(0, n, 3)) - 1
        assert sorted(f["g_0"]) == sorted([*TYPES, *(f"added_{i}" for i in range(12))])
        assert f["g_0/added_11"][-1] == 10
        assert (f["g_2/z"][...] == 7).all()
        for name, values in values_of(plan).items():
            if name.partition("/")[0] not in ("g_1", "g_2"):
                assert np.array_equal(f[name][...], values)
        assert f["g_3"].attrs["number"] == 3
        assert f["g_3"].attrs["least"] == -(2**63)


def test_a_tree_of_three_levels_finds_every_member(tmp_path: Path) -> None:
    path, n, form = tmp_path / "x.h5", 32 * 32 * 8 + 1, form_of("<i4")
    arrays = [PlannedArray(path=f"{i:x}/x", shape=(1 + i % 5,), form=form) for i in range(n)]
    indexes = create(str(path), Plan(groups={}, arrays=tuple(arrays), attrs={}))
    with h5py.File(path) as f:
        assert list(f) == sorted(f"{i:x}" for i in range(n))
        for one in arrays[::97]:
            assert f[one.path].shape == one.shape
            assert f[one.path].id.get_offset() == indexes[one.path].offset[0]


NAMES = st.sets(
    st.text(st.characters(exclude_characters="/\0.", exclude_categories=("Cs",)), min_size=1),
    min_size=1,
)


@pytest.mark.usefixtures("every")
@given(NAMES, st.data())
@settings(max_examples=30, deadline=None)
def test_members_of_any_name_are_found(
    tmp_path_factory: pytest.TempPathFactory, names: set[str], draw: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("x") / "x.h5"
    ours = draw.draw(st.sets(st.sampled_from(sorted(names))))
    form = form_of("<i4")
    arrays = [PlannedArray(path=f"{name}/x", shape=(1,), form=form) for name in sorted(ours)]
    groups = {"": GroupForm()} | dict.fromkeys(names, GroupForm())
    create(str(path), Plan(groups=groups, arrays=tuple(arrays), attrs={}))
    with h5py.File(path) as f:
        assert set(f) == names
        assert all(list(f[name]) == (["x"] if name in ours else []) for name in names)


PLAIN = PlannedArray(path="g/x", shape=(3,), form=form_of("<i4"))
LEFT = {
    "text": {"attrs": {"g": (attr("name", "a"),)}},
    "large_number": {"attrs": {"g": (replace(attr("n", 1), value=2**63),)}},
    "attribute_of_a_dataset": {"arrays": (replace(PLAIN, attrs=(attr("n", 1),)),)},
    "nothing_in_it": {"arrays": (replace(PLAIN, shape=(0,)),)},
    "scalar": {"arrays": (replace(PLAIN, shape=()),)},
    "chunks": {"arrays": (replace(PLAIN, form=form_of("<i4", chunks=(2,))),)},
    "fill": {"arrays": (replace(PLAIN, form=form_of("<i4", fill=b"\1\0\0\0")),)},
    "times": {"arrays": (replace(PLAIN, form=replace(PLAIN.form, times=True)),)},
    "deep": {"arrays": (PLAIN, replace(PLAIN, path="g/h/x"))},
    "group_in_it": {"groups": {"g/h": GroupForm()}},
    "order": {"groups": {"g": GroupForm(link_order=3)}},
    "order_of_the_root": {"groups": {"": GroupForm(link_order=3)}},
    "copies": {"copies": (("a.h5", "g/y"),)},
    "name_of_a_group": {"arrays": (replace(PLAIN, path="ä/x"),)},
    "name_of_a_member": {"arrays": (PLAIN, replace(PLAIN, path="g/ä"))},
    "many_members": {"arrays": tuple(replace(PLAIN, path=f"g/{i}") for i in range(9))},
}


@pytest.mark.usefixtures("every")
@pytest.mark.parametrize("changed", LEFT.values(), ids=LEFT)
def test_other_forms_are_left_to_the_library(changed: Any, tmp_path: Path) -> None:
    plan = Plan(groups={}, arrays=(PLAIN,), attrs={"g": (attr("n", 1),)})
    create(str(tmp_path / "x.h5"), plan)
    image = (tmp_path / "x.h5").read_bytes()
    assert [one.paths for one in stamping.alike(plan, image)] == [("g",)]
    assert stamping.alike(replace(plan, **changed), image) == []
    assert stamping.alike(plan, image.replace(b"\x89HDF", b"\x89hdf")) == []


def test_a_variable_lies_in_one_run(tmp_path: Path) -> None:
    plan = replace(many(64), attrs={})
    indexes = create(str(tmp_path / "x.h5"), plan)
    mine = [indexes[f"g_{i}/z"] for i in range(0, 64, 2)]
    ends = [int(ix.offset[0] + ix.nbytes[0]) for ix in mine]
    assert [int(ix.offset[0]) for ix in mine[1:]] == ends[:-1]
