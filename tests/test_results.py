"""Results in .nc and .zarr: what is read back is what was written; whole or not at all."""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import fsspec
import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask import results
from h5dask.errors import Conflict, H5daskError, NotFound, Refused
from h5dask.indexes import Labels
from h5dask.results import FORMATS, open_any, refuse_existing, write_result
from h5dask.storage.parts import new_part
from h5dask.testing import example_file

ENDINGS = (".nc", ".zarr")


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    """Start no threads for arrays of a few values, and let no library complain of them."""
    with dask.config.set(scheduler="sync"), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def result(seed: int = 0) -> xr.Dataset:
    """Return one of each kind of values that results are made of."""
    rng = np.random.default_rng(seed)
    index = Labels("record", {"scenario": np.array(["a", "a", "bé"], object), "sample": [0, 1, 0]})
    ds = xr.Dataset(
        {
            "mean": (("pair", "record"), rng.standard_normal((2, 3)), {"units": "V"}),
            "half": ("record", np.array([1, 65504, 6e-8], "f2")),
            "count": ("pair", np.array([2**53 + 1, -1])),
            "bad": ("record", np.array([True, False, True])),
            "words": ("record", np.array(["", "ü" * 40, "x"], object)),
            "fixed": ("pair", np.array(["ab", "c"])),
            "number": 1.5,
            "unknown": ("pair", np.array([np.nan, np.inf])),
        },
        xr.Coordinates.from_xindex(index),
        attrs={"how": "zscore", "seed": 3},
    )
    return ds.assign_coords(pair=["one", "two"], layer=np.int32(3))


def lazy(ds: xr.Dataset) -> xr.Dataset:
    return ds.drop_indexes(["scenario", "sample"]).chunk(record=2, pair=1)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What is written is what is read


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("form", [lambda ds: ds, lazy], ids=["held", "lazy"])
def test_what_is_read_is_what_was_written(form: Any, ending: str, tmp_path: Path) -> None:
    ds = result()
    write_result(form(ds), tmp_path / f"a{ending}")
    found = open_any(str(tmp_path / f"a{ending}"))
    assert isinstance(found["mean"].data, da.Array)
    xr.testing.assert_equal(found.load(), ds)
    assert found.attrs == ds.attrs
    assert found["mean"].attrs == {"units": "V"}
    assert set(found.coords) == set(ds.coords)
    for name in ("words", "fixed", "scenario"):
        assert found[name].dtype == object
    for name in ("count", "bad", "number", "sample"):
        assert found[name].dtype == ds[name].dtype
    assert found.half.dtype == (np.float32 if ending == ".nc" else np.float16)
    assert found.sel(pair="two")["count"].item() == -1
    assert files_in(tmp_path) == [f"a{ending}"]


def test_netcdf_may_be_called_h5(tmp_path: Path) -> None:
    write_result(result(), tmp_path / "a.h5")
    with xr.open_dataset(tmp_path / "a.h5", engine="h5netcdf") as found:
        xr.testing.assert_equal(found, result())


@pytest.mark.parametrize("ending", ENDINGS)
def test_float16_loses_nothing(ending: str, tmp_path: Path) -> None:
    with np.errstate(invalid="ignore"):
        every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    ds = xr.Dataset({"x": ("at", every)}, {"half": ("at", every)})
    write_result(ds.chunk(at=1000), tmp_path / f"a{ending}")
    found = open_any(str(tmp_path / f"a{ending}")).load()
    with np.errstate(invalid="ignore"):
        told = every.astype(np.float32)
    for name in ("x", "half"):
        assert np.array_equal(found[name].astype(np.float32), told, equal_nan=True)


@pytest.mark.parametrize("ending", ENDINGS)
def test_little_or_nothing(ending: str, tmp_path: Path) -> None:
    for at, ds in enumerate([
        xr.Dataset(attrs={"how": "l2"}),
        result().isel(record=slice(0)),
        result().isel(record=[], pair=[]).chunk(),
    ]):  # fmt: skip
        write_result(ds, tmp_path / f"{at}{ending}")
        found = open_any(str(tmp_path / f"{at}{ending}")).load()
        # Of no values nobody can say that they are text.
        text = ["fixed", "words", "scenario", "sample"]
        xr.testing.assert_equal(*(one.drop_vars(text, errors="ignore") for one in (found, ds)))
        assert found.attrs == ds.attrs


@pytest.mark.parametrize("ending", ENDINGS)
def test_how_it_was_stored_before_has_no_effect(ending: str, tmp_path: Path) -> None:
    ds = xr.Dataset({"x": ("a", [0.25, 1e4])})
    ds.x.encoding = {"dtype": "int8", "scale_factor": 10.0, "chunks": (7,), "zlib": True}
    write_result(ds, tmp_path / f"a{ending}")
    assert open_any(str(tmp_path / f"a{ending}")).x.values.tolist() == [0.25, 1e4]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("layout", ["activations", "proteins"])
def test_whole_files_of_a_layout(layout: str, ending: str, tmp_path: Path) -> None:
    ds = h5dask.open_dataset(example_file(layout))
    write_result(ds, tmp_path / f"a{ending}")
    xr.testing.assert_equal(open_any(str(tmp_path / f"a{ending}")).load(), ds.load())


def test_a_file_of_a_layout_opens_in_blocks() -> None:
    path = example_file("ann")
    xr.testing.assert_identical(open_any(path), h5dask.open_dataset(path))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_store(ending: str) -> None:
    url = f"memory://{uuid.uuid4().hex}/a{ending}"
    write_result(result(), url, storage_options={})
    write_result(result(1), url, overwrite=True)
    with pytest.raises(Conflict, match=rf"a\{ending}: exists already; choose another name"):
        write_result(result(2), url)
    xr.testing.assert_equal(open_any(url).load(), result(1))


def test_a_large_netcdf_file_in_a_store_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://{uuid.uuid4().hex}/a.nc"
    write_result(result(), url)
    monkeypatch.setattr(results, "MOST_IN_MEMORY", 1000)
    with pytest.raises(Refused, match=r"a\.nc: found .* kiB; a \.nc file in a store is read into"):
        open_any(url)


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_fails_leaves_nothing_in_a_store(
    ending: str, error: type[BaseException], scheduler: str
) -> None:
    folder = f"memory://{uuid.uuid4().hex}"
    with (
        dask.config.set(scheduler=scheduler),
        pytest.raises((error, H5daskError), match="in a task"),
    ):
        write_result(failing(error), f"{folder}/a{ending}")
    assert fsspec.filesystem("memory").find(folder) == []


# Whole or not at all


def failing(error: type[BaseException]) -> xr.Dataset:
    """Return a Dataset whose last block can't be computed."""

    def block(numbers: Any) -> Any:
        if numbers.size and numbers[0] == 8:
            raise error("in a task")
        return numbers

    x = da.arange(10, chunks=2).map_blocks(block, dtype=int)
    return xr.Dataset({"x": ("a", x), "y": ("a", np.ones(10))})


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_fails_leaves_nothing(
    ending: str, error: type[BaseException], scheduler: str, tmp_path: Path
) -> None:
    with dask.config.set(scheduler=scheduler):
        with pytest.raises((error, H5daskError), match="in a task"):
            write_result(failing(error), tmp_path / f"a{ending}")
        assert files_in(tmp_path) == []
        write_result(result(), tmp_path / f"a{ending}")
        with pytest.raises((error, H5daskError), match="in a task"):
            write_result(failing(error), tmp_path / f"a{ending}", overwrite=True)
    assert files_in(tmp_path) == [f"a{ending}"]
    xr.testing.assert_equal(open_any(str(tmp_path / f"a{ending}")).load(), result())


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("at", [1, 2])
def test_a_group_that_cannot_take_its_place_leaves_the_old_one(
    at: int, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rename, n_renamed = tmp_path / "a.zarr", os.rename, 0
    write_result(result(), path)

    def fail_once(one: str, other: str) -> None:
        nonlocal n_renamed
        n_renamed += 1
        if n_renamed == at:
            raise error("disturbed")
        rename(one, other)

    monkeypatch.setattr(results.os, "rename", fail_once)
    with pytest.raises((error, H5daskError), match="disturbed"):
        write_result(result(1), path, overwrite=True)
    assert files_in(tmp_path) == ["a.zarr"]
    xr.testing.assert_equal(open_any(str(path)).load(), result())


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_appears_meanwhile_is_kept(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"

    def block(numbers: Any) -> Any:
        if numbers.size and not path.exists():
            with dask.config.set(scheduler="sync"):
                write_result(result(), path)
        return numbers

    ds = xr.Dataset({"x": ("a", da.ones(4, chunks=2).map_blocks(block, dtype=float))})
    with pytest.raises(Conflict, match=r"exists already|appeared while it"):
        write_result(ds, path)
    assert files_in(tmp_path) == [f"a{ending}"]
    xr.testing.assert_equal(open_any(str(path)).load(), result())


@pytest.mark.parametrize("ending", FORMATS)
def test_an_existing_target_is_kept_unless_told_otherwise(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    write_result(result(), path)
    with pytest.raises(Conflict, match=rf"a{ending}: exists already; choose another"):
        write_result(failing(AssertionError), path)
    write_result(result(1), path, overwrite=True)
    if ending == ".h5":
        path = path.rename(path.with_suffix(".nc"))
    xr.testing.assert_equal(open_any(str(path)).load(), result(1))
    assert files_in(tmp_path) == [path.name]


def test_a_file_that_is_read_may_be_replaced(tmp_path: Path) -> None:
    for ending in ENDINGS:
        path = str(tmp_path / f"a{ending}")
        write_result(result(), path)
        write_result(open_any(path)[["mean"]], path, overwrite=True)
        xr.testing.assert_equal(open_any(path).load(), result()[["mean"]])


def test_what_a_dead_writer_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    host, _, run_and_end = os.path.basename(new_part(str(path))).partition(f".{os.getpid()}.")
    left = tmp_path / f"{host}.99999999.{run_and_end}"
    left.touch()
    write_result(result(), path)
    assert files_in(tmp_path) == ["a.nc"]


# What is refused


def test_other_endings(tmp_path: Path) -> None:
    for name in ("a.csv", "a", "a.nc.gz"):
        with pytest.raises(Refused, match=rf"{name}: a result is written as .nc, .h5, .zarr; name"):
            write_result(failing(AssertionError), tmp_path / name)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("ending", FORMATS)
def test_no_such_folder(ending: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=rf"a{ending}: found no folder '.*none'; create it first"):
        write_result(failing(AssertionError), tmp_path / "none" / f"a{ending}")


def test_a_folder_where_a_file_is_to_be_and_the_other_way_round(tmp_path: Path) -> None:
    (tmp_path / "a.nc").mkdir()
    (tmp_path / "a.zarr").touch()
    for name, what in (("a.nc", "folder"), ("a.zarr", "file")):
        for overwrite in (False, True):
            with pytest.raises(Refused, match=f"{name}: found a {what}; rename it"):
                write_result(result(), tmp_path / name, overwrite=overwrite)
            with pytest.raises(Refused, match=f"{name}: found a {what}; rename it"):
                refuse_existing(tmp_path / name, overwrite=overwrite)


def test_more_than_memory_takes(tmp_path: Path) -> None:
    ds = xr.Dataset({"x": ("a", da.zeros(2**30, chunks=2**27))})
    with pytest.raises(Refused, match=r"a\.nc: found 8\.00 GiB of values; netCDF takes at most 4"):
        write_result(ds, tmp_path / "a.nc")


UNWRITABLE: dict[str, xr.Dataset] = {
    "values of several kinds": xr.Dataset({"x": ("a", np.array(["a", 5], object))}),
    "arrays as values": xr.Dataset({"x": ("a", np.array([np.ones(2), None], object))}),
    "a missing attribute": xr.Dataset(attrs={"b": None}),
    "attributes in attributes": xr.Dataset(attrs={"b": {"c": 1}}),
}


@pytest.mark.parametrize("ds", UNWRITABLE.values(), ids=UNWRITABLE)
def test_what_no_file_can_hold_is_said_in_one_line(ds: xr.Dataset, tmp_path: Path) -> None:
    endings = ENDINGS if "x" in ds else ENDINGS[:1]
    for ending in endings:
        with pytest.raises(
            Refused, match=rf"a{ending}: xarray can't write it \(.*\); change"
        ) as said:
            write_result(ds, tmp_path / f"a{ending}")
        assert "\n" not in str(said.value)
    assert files_in(tmp_path) == []


def _garbage(folder: Path) -> None:
    (folder / "a.nc").write_bytes(b"x" * 300)


def _cut(folder: Path) -> None:
    write_result(result(), folder / "whole.nc")
    (folder / "a.nc").write_bytes((folder / "whole.nc").read_bytes()[:2000])


def _empty_folder(folder: Path) -> None:
    (folder / "a.zarr").mkdir()


def _broken_group(folder: Path) -> None:
    write_result(result(), folder / "a.zarr")
    (folder / "a.zarr" / "zarr.json").write_text("{")


OPENED: dict[str, tuple[Callable[[Path], None], str, type[H5daskError], str]] = {
    "missing .nc": (lambda _: None, "a.nc", NotFound, r"a\.nc: not found; check the path"),
    "missing .zarr": (lambda _: None, "a.zarr", NotFound, r"a\.zarr: not found; check the path"),
    "missing file": (lambda _: None, "a.h5", NotFound, r"a\.h5: no such file"),
    "garbage": (_garbage, "a.nc", Refused, r"a\.nc: xarray can't open it \(.*\); check what wrote"),
    "cut": (_cut, "a.nc", Refused, r"a\.nc: xarray can't open it \(.*\); check what wrote"),
    "a folder": (_empty_folder, "a.zarr", NotFound, r"a\.zarr: not found"),
    "a broken group": (_broken_group, "a.zarr", Refused, r"a\.zarr: xarray can't open it"),
}


@pytest.mark.parametrize(("prepare", "name", "error", "text"), OPENED.values(), ids=OPENED)
def test_what_cannot_be_opened(
    prepare: Callable[[Path], None], name: str, error: type[H5daskError], text: str, tmp_path: Path
) -> None:
    prepare(tmp_path)
    with pytest.raises(error, match=text) as said:
        open_any(str(tmp_path / name))
    assert "\n" not in str(said.value)


def test_blocks_of_any_length_become_zarr_s(tmp_path: Path) -> None:
    values = da.from_array(np.arange(60.0).reshape(12, 5), chunks=((5, 1, 4, 2), (2, 3)))
    ds = xr.Dataset(
        {"x": (("row", "column"), values), "y": ("row", values[:, 0].rechunk((3,)))},
        {"z": ("row", values[:, 1])},
    )
    write_result(ds, tmp_path / "a.zarr")
    back = open_any(str(tmp_path / "a.zarr"))
    xr.testing.assert_equal(back.compute(), ds.compute())
    assert back.x.chunks == ((5, 5, 2), (3, 2))
    assert back.y.chunks == ((3, 3, 3, 3),)
