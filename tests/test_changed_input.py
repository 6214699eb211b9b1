"""Inputs that change between opening and reading, or while they are read: told, never mixed up."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import fsspec
import h5py
import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask.errors import CorruptInput, InputChanged, NotFound
from h5dask.storage import ranges
from h5dask.testing import example
from tests.files import LAYOUTS, ann, episodes, hostile

FORMS = {
    "contiguous": ("ann", "float_euclidean"),
    "compressed": ("ann", "gzip_shuffle"),
    "text": ("episodes", "document"),
    "groups": ("proteins", "first_generation"),
    "scenarios": ("activations", "no_prefilled"),
}


def made(form: str, path: Path) -> Path:
    """Write a file whose times lie well in the past, so that any change shows in them."""
    layout, variant = FORMS[form]
    LAYOUTS[layout].VARIANTS[variant].write(path)
    os.utime(path, (10**9, 10**9))
    return path


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def touch(path: Path) -> None:
    path.touch()


def overwrite(path: Path) -> None:
    """Change one byte in place, and set the time of the change back."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 100)
        file.write(b"\x55")
    os.utime(path, (10**9, 10**9))


def replace(path: Path) -> None:
    """Put another file of the same bytes and times in its place."""
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    os.utime(other, (10**9, 10**9))
    other.replace(path)


def extend_with_h5py(path: Path) -> None:
    with h5py.File(path, "r+") as f:
        f["more"] = np.arange(5)


CHANGES = (append, truncate, touch, overwrite, replace, extend_with_h5py)

READERS: dict[str, Callable[[xr.Dataset], Any]] = {
    "compute": lambda ds: ds.compute(),
    "one value": lambda ds: [v[(0,) * v.ndim].values for v in ds.data_vars.values()],
    "pickled": lambda ds: pickle.loads(pickle.dumps(ds)).compute(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("form", FORMS)
def test_a_file_changed_after_opening_is_told(form: str, change, tmp_path: Path) -> None:
    path = made(form, tmp_path / "input.h5")
    ds, lazy = h5dask.open_dataset(path), h5dask.open_dataset(path, chunks=None)
    change(path)
    told = r"^\S*/input\.h5: changed since it was opened \(then '\S+', now '\S+'\); open it again$"
    for opened in (ds, lazy):
        for reader in READERS.values():
            with pytest.raises(InputChanged, match=told):
                reader(opened)


@pytest.mark.parametrize("change", [append, touch, replace, extend_with_h5py])
@pytest.mark.parametrize("form", FORMS)
def test_opened_again_it_reads_as_it_is_now(form: str, change, tmp_path: Path) -> None:
    path = made(form, tmp_path / "input.h5")
    before = h5dask.open_dataset(path).compute()
    change(path)
    xr.testing.assert_identical(h5dask.open_dataset(path).compute(), before)


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    path = made("contiguous", tmp_path / "input.h5")
    ds = h5dask.open_dataset(path)
    path.unlink()
    with pytest.raises(NotFound, match=r"input\.h5: no such file on .+, and it was there"):
        ds.train.compute()


@pytest.mark.parametrize("form", ["contiguous", "compressed", "groups"])
def test_writing_a_changed_input_leaves_the_target(form: str, tmp_path: Path) -> None:
    path, target = made(form, tmp_path / "input.h5"), tmp_path / "target.h5"
    target.write_text("precious")
    ds = h5dask.open_dataset(path)
    touch(path)
    with pytest.raises(InputChanged, match=r"input\.h5: changed since it was opened"):
        h5dask.write_dataset(ds, target, overwrite=True)
    assert target.read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["input.h5", "target.h5"]


def with_unknown(path: Path, value: int) -> None:
    """Write a file with a dataset that the layout doesn't know."""
    ann.VARIANTS["float_euclidean"].write(path)
    with h5py.File(path, "r+") as f:
        f["mine/extra"] = np.full(3, value)


def test_what_is_carried_over_is_of_the_file_that_was_opened(tmp_path: Path) -> None:
    """Values in memory must not meet unknown datasets of a file that was replaced since."""
    path, target = tmp_path / "input.h5", tmp_path / "target.h5"
    with_unknown(path, 1)
    ds = h5dask.open_dataset(path).load()
    h5dask.write_dataset(ds, target)
    with h5py.File(target) as f:
        assert f["mine/extra"][...].tolist() == [1, 1, 1]
    with_unknown(path, 2)
    with pytest.raises(InputChanged, match=r"input\.h5: changed since it was opened"):
        h5dask.write_dataset(ds, target, overwrite=True)
    with h5py.File(target) as f:
        assert f["mine/extra"][...].tolist() == [1, 1, 1]
    path.unlink()
    with pytest.raises(NotFound, match=r"input\.h5: no such file"):
        h5dask.write_dataset(ds, target, overwrite=True)
    h5dask.write_dataset(ds, tmp_path / "other.h5", like=target)


def test_what_is_carried_over_comes_from_a_store_too(tmp_path: Path) -> None:
    path = tmp_path / "input.h5"
    with_unknown(path, 3)
    url = f"memory://{tmp_path.name}/input.h5"
    store = fsspec.filesystem("memory")
    store.pipe_file(url, path.read_bytes())
    ds = h5dask.open_dataset(url).load()
    h5dask.write_dataset(ds, tmp_path / "target.h5")
    with h5py.File(tmp_path / "target.h5") as f:
        assert f["mine/extra"][...].tolist() == [3, 3, 3]
    store.pipe_file(url, path.read_bytes() + b"more")
    with pytest.raises(InputChanged, match=r"input\.h5: changed since it was opened"):
        h5dask.write_dataset(ds, tmp_path / "again.h5")


@pytest.fixture
def during_reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], None]]]:
    """Actions that are taken once each, after a byte range of a local file was read."""
    actions: list[Callable[[], None]] = []
    real = ranges.LocalFile.read_into

    def read_into(self: Any, offset: int, into: memoryview) -> bool:
        there = real(self, offset, into)
        if actions:
            actions.pop()()
        return there

    monkeypatch.setattr(ranges.LocalFile, "read_into", read_into)
    with dask.config.set(scheduler="synchronous"):
        yield actions
    assert not actions


@pytest.mark.parametrize("change", [append, touch, overwrite])
@pytest.mark.parametrize("form", FORMS)
def test_a_file_changed_while_it_is_read_is_told(
    form: str, change, tmp_path: Path, during_reads: list[Callable[[], None]]
) -> None:
    path = made(form, tmp_path / "input.h5")
    ds = h5dask.open_dataset(path)
    name = "train" if "train" in ds else str(next(iter(ds.data_vars)))
    during_reads.append(lambda: change(path))
    with pytest.raises(InputChanged, match=r"input\.h5: changed since it was opened"):
        ds[name].compute()


def test_a_file_truncated_while_it_is_read_is_told(
    tmp_path: Path, during_reads: list[Callable[[], None]]
) -> None:
    path = tmp_path / "input.h5"
    with h5py.File(path, "w") as f:
        ann.benchmark(f)
        del f["train"]
        f.create_dataset("train", data=np.ones((60, 12), "f4"), chunks=(10, 5))
    ds = h5dask.open_dataset(path)
    during_reads.append(lambda: os.truncate(path, 4096))
    with pytest.raises((InputChanged, CorruptInput), match=r"input\.h5: .*(changed|truncated)"):
        ds.train.compute()


def test_a_replaced_file_is_read_whole_by_who_has_it_open(
    tmp_path: Path, during_reads: list[Callable[[], None]]
) -> None:
    """A rename doesn't touch the bytes of the old file: a block in flight is right."""
    path = tmp_path / "input.h5"
    h5dask.write_dataset(example("ann"), path)
    ds = h5dask.open_dataset(path)
    during_reads.append(lambda: h5dask.write_dataset(example("ann", 1), path, overwrite=True))
    try:
        found = ds.train.compute()
    except InputChanged:
        found = example("ann").train
    xr.testing.assert_equal(found, example("ann").train)
    with pytest.raises(InputChanged, match="open it again"):
        ds.test.compute()


def test_the_target_may_be_among_the_inputs(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.h5" for i in range(3)]
    for seed, path in enumerate(paths):
        h5dask.write_dataset(example("episodes", seed), path)
    joined = h5dask.open_dataset(paths)
    expected = joined.embeddings.compute()
    h5dask.write_dataset(joined, paths[1], overwrite=True)
    found = h5dask.open_dataset(paths[1])
    assert np.array_equal(found.embeddings, expected)
    with pytest.raises(InputChanged, match=r"1\.h5: changed since it was opened"):
        joined.embeddings.compute()
    assert sorted(tmp_path.iterdir()) == paths


def test_a_stale_index_is_never_used(tmp_path: Path) -> None:
    """The remembered index belongs to one state of one file."""
    path = tmp_path / "input.h5"
    for seed in range(3):
        h5dask.write_dataset(example("proteins", seed), path, overwrite=True)
        xr.testing.assert_equal(h5dask.open_dataset(path).compute(), example("proteins", seed))


@pytest.mark.parametrize("name", ["compound_with_text", "references"])
def test_rare_types_are_carried_over_from_an_unchanged_file_only(name: str, tmp_path: Path) -> None:
    path = tmp_path / "input.h5"
    hostile.RARE_TYPES[name](path)
    ds = h5dask.open_dataset(path).load()
    h5dask.write_dataset(ds, tmp_path / "copy.h5")
    episodes.VARIANTS["document"].write(path)
    with pytest.raises(InputChanged, match=r"input\.h5: changed since it was opened"):
        h5dask.write_dataset(ds, tmp_path / "copy.h5", overwrite=True)
