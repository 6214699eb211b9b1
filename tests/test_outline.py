"""What `h5dask info` tells of a file: all of it as JSON, the same as a short tree."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from h5dask.telling.tree import TIMES
from tests.architecture import ROOT
from tests.commands import call, rows
from tests.files import ann, damaged, hostile

DESCRIBED = hostile.OUTSIDE | hostile.HUGE | hostile.RARE_TYPES | hostile.ENDLESS
REAL = sorted((ROOT / "tests/real").glob("*/*.h*5"))


def attributes(item: Any) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        value = value.decode() if isinstance(value, bytes) else value
        return value.item() if isinstance(value, np.generic) else value

    return {name: plain(value) for name, value in item.attrs.items()}


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_info_tells_everything(path: Path) -> None:
    told = json.loads(call("info", path, "--json").stdout)
    found: dict[str, dict[str, Any]] = {"groups": {}, "datasets": {}}
    with h5py.File(path) as f:

        def add(name: str, item: Any) -> None:
            if isinstance(item, h5py.Group):
                found["groups"][name.strip("/")] = attributes(item)
                return
            found["datasets"][name] = {
                "shape": list(item.shape),
                "chunks": item.chunks and list(item.chunks),
                "grows": [n is None for n in item.maxshape],
                "filters": [],
                "attrs": attributes(item),
                "storage": "chunked" if item.chunks else "contiguous",
            }
            if item.dtype != object:
                sizes = {"nbytes": item.nbytes, "stored_nbytes": item.id.get_storage_size()}
                found["datasets"][name] |= {"dtype": item.dtype.str, **sizes}

        add("/", f)
        f.visititems(add)
    assert told["file"] == str(path)
    assert told["nbytes"] == path.stat().st_size
    assert told["layouts"] == [path.parent.name]
    assert told["groups"] == found["groups"]
    assert told["datasets"].keys() == found["datasets"].keys()
    for name, facts in found["datasets"].items():
        assert {**told["datasets"][name], **facts} == told["datasets"][name], name


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_info_names_everything(path: Path) -> None:
    told = call("info", path)
    assert (told.exit_code, told.stderr) == (0, "")
    assert f"layout: {path.parent.name}\n" in told.stdout
    with h5py.File(path) as f:
        names: set[str] = set(f.attrs)
        f.visit(lambda name: names.update([name.rpartition("/")[2]]))
    assert {name for name in names if name not in told.stdout} == set()


def test_info_tells_form_and_size(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        gzip = {"compression": "gzip", "compression_opts": 7, "shuffle": True, "fletcher32": True}
        f.create_dataset("a", data=np.zeros((1000, 10)), chunks=(100, 10), **gzip)
        f.create_dataset("b", data=np.zeros(3, ">i2"), maxshape=(None,), chunks=(8,))
        f["c"], f["d"] = np.array([b"abc"]), h5py.Empty("f4")
        f["e"], f["f"] = np.dtype("f8"), h5py.SoftLink("/nowhere")
        stored = f["a"].id.get_storage_size()
    lines = rows(call("info", path))
    assert lines[1:] == [
        "layout: none recognised",
        f"a  (1000, 10) float64  chunks (100, 10), shuffle, gzip 7, fletcher32  "
        f"80.0 kB, {stored} B stored",
        "b  (3,) int16 big-endian  chunks (8,), resizable  6 B, 16 B stored",
        "c  (1,) text of 3 bytes  contiguous  3 B",
        "d  () null  contiguous  0 B",
        "e  committed type",
        "f  soft link to /nowhere, not followed",
    ]


def test_info_shortens_attributes(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        f.attrs["a"], f.attrs["b"] = "x" * 5000, np.arange(1000)
        f.attrs["c"], f.attrs["d"] = np.bytes_(b"\xff"), h5py.Empty("f4")
        f.attrs["e"], f.attrs["f"] = np.nan, f.ref
    lines = rows(call("info", path))
    assert lines[2:] == [
        f"@a = '{'x' * 51}… (5,000 characters)",
        "@b = [0, 1, 2, 3, … ] (1000,) int64",
        r"@c = b'\xff'",
        "@d = empty",
        "@e = nan",
        "@f = object reference",
    ]
    assert json.loads(call("info", path, "--json").stdout)["groups"][""]["e"] == "nan"


def test_info_tells_many_groups_as_one(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        for i in range(200):
            group = f.create_group(f"structure_{i}")
            group.attrs["structure_index"] = i
            group["sequences"] = np.zeros((2, 1, 10 + i % 7), "i4")
            if i % 2:
                group["logits"] = np.zeros((2, 1, 10 + i % 7, 21), "f4")
    lines = rows(call("info", path))
    nbytes = sum(2 * (10 + i % 7) * 4 for i in range(200))
    assert lines[1:] == [
        "layout: proteins",
        f"structure_{{0…199}}/ {TIMES} 200",
        "@structure_index = 0…199",
        f"logits {TIMES} 100  (2, 1, 10…16, 21) float32  contiguous  "
        f"{sum(2 * (10 + i % 7) * 84 for i in range(1, 200, 2)) / 1000:.1f} kB",
        f"sequences {TIMES} 200  (2, 1, 10…16) int32  contiguous  {nbytes / 1000:.1f} kB",
    ]
    assert len(json.loads(call("info", path, "--json").stdout)["datasets"]) == 300


def test_info_ends_long_lists(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        for i in range(500):
            f.create_group("".join(chr(97 + (i // 26**k) % 26) for k in range(3)))
    lines = call("info", path).stdout.splitlines()
    assert len(lines) < 70
    assert lines[-1] == "└── and 440 more"


def test_info_sends_no_control_characters(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        f["\x1b[31mred\n"], f.attrs["x\r"] = [1], "\x1b]0;title\x07"
        f["[bold]"] = h5py.SoftLink("/\x1b[2J")
    told = call("info", path).stdout
    assert [c for c in told if not c.isprintable() and c != "\n"] == []
    assert all(text in told for text in (r"\x1b[31mred\n", r"@x\r", "[bold]", r"/\x1b[2J"))


@pytest.mark.parametrize("name", sorted(DESCRIBED.keys() - {"deep_nesting"}))
def test_info_describes_hostile_files(name: str, tmp_path: Path) -> None:
    DESCRIBED[name](tmp_path / "a.h5")
    for options in ((), ("--json",)):
        told = call("info", tmp_path / "a.h5", *options)
        assert (told.exit_code, told.stderr) == (0, "")
        assert hostile.SECRET[:20].decode() not in told.stdout
    assert len(call("info", tmp_path / "a.h5").stdout) < 5000


def test_info_gives_up_on_endless_depth(tmp_path: Path) -> None:
    hostile.deep_nesting(tmp_path / "a.h5")
    told = call("info", tmp_path / "a.h5")
    assert told.exit_code == 2
    assert "a.h5: /deep/deeper" in told.stderr


@pytest.mark.parametrize("verb", ["info", "validate"])
@pytest.mark.parametrize("name", sorted(damaged.NOT_HDF5))
def test_what_is_not_hdf5_is_told(verb: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    damaged.NOT_HDF5[name](path)
    told = call(verb, path)
    assert (told.exit_code, told.stdout) == (2, "")
    assert told.stderr.startswith(f"Error: {path}: ")
    assert told.stderr.count("\n") == (1 if verb == "info" else 2)


def test_info_takes_one_file(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        ann.VARIANTS["float_euclidean"].write(tmp_path / name)
    told = call("info", tmp_path / "*.h5")
    assert told.exit_code == 2
    assert "*.h5: 2 files match; name one of them" in told.stderr
