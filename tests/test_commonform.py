"""The form of files end to end: groups go by new numbers, and keep what tells of them."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask import layouts
from h5dask.testing import example, example_file
from tests.rewriting import files, written

pytestmark = pytest.mark.filterwarnings("ignore:.*left out of the joined Dataset:UserWarning")
JOINABLE = [name for name in layouts.names() if layouts.get(name).along]


def test_structures_that_are_numbered_alike_are_renumbered(tmp_path: Path) -> None:
    paths = files(tmp_path, "proteins", "newer_grid", "newer_grid")
    ds = h5dask.open_dataset(paths)
    assert list(dict.fromkeys(ds.structure.values.tolist())) == list(range(6))
    assert ds.sel(structure=4).source_structure.values.tolist() == [1] * 24
    assert set(ds.sel(structure=4).structure_id.values) == {"2ABC_A"}
    written(ds, tmp_path / "both.h5")
    with h5py.File(tmp_path / "both.h5") as f, h5py.File(paths[1]) as second:
        for number in range(3):
            group, old = f[f"structure_{number + 3}"], second[f"structure_{number}"]
            attrs = {**old.attrs, "structure_index": number + 3}
            assert dict(group.attrs) == attrs
            assert np.array_equal(group["logits"], old["logits"])


def test_groups_keep_what_tells_their_axes_apart(tmp_path: Path) -> None:
    names = ("first_generation", "averaged_rank_three", "averaged_first_generation")
    ds = h5dask.open_dataset(files(tmp_path, "proteins", *names))
    written(ds, tmp_path / "both.h5")
    with h5py.File(tmp_path / "both.h5") as f:
        assert f["structure_3/sequences"].shape == (4, 3, 11)
        assert f["structure_3"].attrs["num_temperatures"] == 3
        assert f["structure_5"].attrs["averaged_encodings"]
    back = h5dask.open_dataset(tmp_path / "both.h5").sel(structure=3)
    assert set(back.temperature.values) == {0, 1, 2}
    assert set(back.noise.values) == {0}


def alone(ds: xr.Dataset) -> xr.Dataset:
    """Load a Dataset without indexes, and without the numbers its structures had before."""
    ds = ds.drop_indexes(list(ds.xindexes)).compute()
    return ds.drop_vars("source_structure", errors="ignore")


def test_joined_again_and_again(tmp_path: Path) -> None:
    for layout in JOINABLE:
        paths = [example_file(layout, seed) for seed in range(3)]
        parts = [h5dask.open_dataset(path) for path in paths]
        at_once = h5dask.concat(parts)
        at_once_alone = alone(at_once)
        left = h5dask.concat([h5dask.concat(parts[:2]), parts[2]])
        right = h5dask.concat([parts[0], h5dask.concat(parts[1:])])
        for nested in (left, right):
            xr.testing.assert_equal(alone(nested), at_once_alone)
            one, other = tmp_path / f"{layout}-a.h5", tmp_path / f"{layout}-b.h5"
            h5dask.write_dataset(nested, one, overwrite=True)
            h5dask.write_dataset(at_once, other, overwrite=True)
            xr.testing.assert_equal(*(h5dask.open_dataset(p).compute() for p in (one, other)))


def test_what_the_layout_does_not_know_stays_with_the_first(tmp_path: Path) -> None:
    paths = files(tmp_path, "episodes", "document", "unknown_members")
    with pytest.warns(UserWarning, match=r"unknown_members\.h5: left out of the joined Dataset: "):
        ds = h5dask.open_dataset(paths)
    h5dask.write_dataset(ds, tmp_path / "a.h5")
    with pytest.warns(UserWarning, match="left out"):
        ds = h5dask.open_dataset(paths[:1] + paths)
    with h5py.File(tmp_path / "a.h5") as f:
        assert set(f) == {"embeddings", "episode_ids", "metadata"}
    h5dask.write_dataset(h5dask.open_dataset(paths[1:] + paths[:1]), tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5") as f, h5py.File(paths[1]) as first:
        assert set(f) == set(first)


def test_text_without_rows_of_a_later_file_is_not_asked_of_the_first(tmp_path: Path) -> None:
    ds = example("activations")
    h5dask.write_dataset(ds, tmp_path / "a.h5")
    for scenario in ("base", "matching_few_shot_prefilled"):
        part = h5dask.open_dataset(tmp_path / "a.h5").sel(scenario=scenario)
        h5dask.write_dataset(part, tmp_path / f"{scenario}.h5")
    part = ds.sel(scenario="base")
    joined = h5dask.concat([part, h5dask.open_dataset(tmp_path / "base.h5")])
    assert written(joined, tmp_path / "b.h5").sizes["record"] == 6
    halves = [h5dask.open_dataset(tmp_path / f"{n}.h5") for n in dict.fromkeys(ds.scenario.values)]
    back = written(h5dask.concat(halves), tmp_path / "c.h5")
    assert back.sizes["record"] == ds.sizes["record"]
