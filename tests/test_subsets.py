"""Parts of a file, cut by labels or position, are written as files of their own."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import h5dask
from h5dask import layouts
from h5dask.errors import LayoutError, Refused
from h5dask.testing import example, example_file
from tests.files import LAYOUTS
from tests.files.same import differences
from tests.rewriting import opened, written

Change = Callable[[xr.Dataset], xr.Dataset]


def same_rows(one: xr.Dataset, other: xr.Dataset) -> None:
    """Compare two Datasets of one layout by their labels, whatever order groups are in."""
    assert one.sizes == other.sizes
    labels = [n for n in ("scenario", "branch", "structure") if n in one.coords]
    keys = set(zip(*(one[n].values.tolist() for n in labels), strict=True)) or {()}
    for key in keys:
        chosen = dict(zip(labels, key, strict=True))
        a, b = (ds.sel(chosen) if labels else ds for ds in (one, other))
        for name in a.data_vars:
            assert np.array_equal(a[name].values, b[name].values)


@settings(max_examples=4)
@given(chosen=st.sets(st.integers(0, 6), min_size=1), layers=st.sampled_from([[3], [13], [13, 3]]))
def test_any_samples_of_scenarios(
    chosen: set[int], layers: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cut")
    ds = opened(path / "a.h5", "activations", "several_layers").sel(layer=layers)
    some = ds.isel(record=np.flatnonzero(np.isin(ds.sample, [*chosen]) | (ds.scenario == "base")))
    back = written(some, path / "b.h5")
    same_rows(back.sel(layer=layers), some)


@settings(max_examples=8)
@given(rows=st.lists(st.integers(0, 5), min_size=1, max_size=9), wide=st.integers(1, 8))
def test_any_episodes_in_any_order(
    rows: list[int], wide: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    some = h5dask.open_dataset(example_file("episodes")).isel(episode=rows, feature=slice(wide))
    path = tmp_path_factory.mktemp("cut") / "a.h5"
    h5dask.write_dataset(some, path)
    xr.testing.assert_equal(h5dask.open_dataset(path).compute(), some.compute())


@settings(max_examples=8)
@given(
    structures=st.lists(st.sampled_from([0, 1, 2]), min_size=1, unique=True),
    samples=st.sets(st.integers(0, 3), min_size=1),
    noise=st.sampled_from([slice(None), 1]),
    name=st.sampled_from(["newer_grid", "gzip_shuffle", "campaign_with_logits"]),
)
def test_any_structures_samples_and_levels(
    structures: list[int],
    samples: set[int],
    noise: Any,
    name: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("cut")
    ds = opened(path / "a.h5", "proteins", name)
    here = [x for x in structures if x in ds.structure.values] or [0]
    held = [s for s in sorted(samples) if s in ds.sel(structure=here).sample.values] or [0]
    some = ds.sel(structure=here, sample=held)
    some = some.sel(noise=noise) if noise in some.noise.values else some
    back = written(some, path / "b.h5")
    same_rows(back, some)
    with h5py.File(path / "b.h5") as f, h5py.File(path / "a.h5") as old:
        kept = {key for key in f if key.startswith("structure_")}
        assert kept <= set(old)  # the groups keep their names


@settings(max_examples=8)
@given(rows=st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_any_queries(rows: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    some = h5dask.open_dataset(example_file("ann")).isel(query=rows, neighbor=slice(2))
    path = tmp_path_factory.mktemp("cut") / "a.h5"
    xr.testing.assert_equal(written(some, path).compute(), some.compute())


def test_a_shuffled_scenario_keeps_its_branches_together(tmp_path: Path) -> None:
    ds = opened(tmp_path / "a.h5", "activations", "prefilled_zero_rows")
    some = ds.isel(record=np.random.default_rng(0).permutation(ds.sizes["record"]))
    back = written(some, tmp_path / "b.h5")
    scenario = {"scenario": "matching_few_shot_prefilled"}
    first, other = (back.sel(**scenario, branch=b) for b in ("matching", "nonmatching"))
    assert first.prompts.values.tolist() == other.prompts.values.tolist()
    old = some.sel(**scenario, branch="nonmatching").sortby("sample").logits.values
    text = some.sel(**scenario, branch="nonmatching").sortby("sample").prompts.values.tolist()
    for at, prompt in enumerate(other.prompts.values.tolist()):
        assert np.array_equal(other.logits[at], old[text.index(prompt)])


def test_branches_of_unlike_samples_are_refused(tmp_path: Path) -> None:
    ds = h5dask.open_dataset(example_file("activations"))
    odd = ds.isel(record=[0, 1, 3, 5, 6])
    with pytest.raises(LayoutError, match=r"scenario 'matching.*: 'nonmatching' alone has \[1\]"):
        h5dask.write_dataset(odd, tmp_path / "a.h5")


def test_a_scenario_without_rows_keeps_its_text_and_its_empty_datasets(tmp_path: Path) -> None:
    ds = opened(tmp_path / "a.h5", "activations", "prefilled_zero_rows")
    back = written(ds.sel(scenario=["base", "matching_few_shot"]), tmp_path / "b.h5")
    assert set(back.scenario.values) == {"base", "matching_few_shot"}
    with h5py.File(tmp_path / "a.h5") as old, h5py.File(tmp_path / "b.h5") as new:
        gone = new["scenarios/matching_few_shot_prefilled"]
        assert gone["data/prefilled/matching/logits"].shape == (0, 40)
        for name in ("prompts", "matching_answers"):
            kept = gone[f"text/{name}"][:].tolist()
            assert kept == old[f"scenarios/matching_few_shot_prefilled/text/{name}"][:].tolist()
        assert new.attrs["num_samples"] == 10
        assert json.loads(new["metadata"].attrs["scenarios"]).keys() == set(new["scenarios"])


def test_records_are_written_while_h5py_holds_their_file(tmp_path: Path) -> None:
    ds = opened(tmp_path / "a.h5", "activations", "prefilled_zero_rows")
    with h5py.File(tmp_path / "a.h5") as held:
        back = written(ds.isel(record=slice(0, 3)), tmp_path / "b.h5")
        assert back.sample.values.tolist() == [0, 1, 2]
        assert "scenarios" in held


def test_a_new_file_tells_of_its_own_scenarios_alone(tmp_path: Path) -> None:
    ds = example("activations")
    told = json.loads(ds.attrs["scenarios"])
    h5dask.write_dataset(ds.sel(scenario=["base"]), tmp_path / "a.h5")  # warnings are errors here
    with h5py.File(tmp_path / "a.h5") as f:
        assert json.loads(f["metadata"].attrs["scenarios"]) == {"base": told["base"]}


def test_a_group_that_was_opened_alone_tells_of_no_other(tmp_path: Path) -> None:
    opened(tmp_path / "a.h5", "activations", "prefilled_zero_rows")
    ds = h5dask.open_dataset(tmp_path / "a.h5", group="scenarios/base")
    h5dask.write_dataset(ds, tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5") as f:
        assert list(json.loads(f["metadata"].attrs["scenarios"])) == list(f["scenarios"])


def test_what_a_file_tells_of_scenarios_that_it_never_had_stays(tmp_path: Path) -> None:
    h5dask.write_dataset(example("activations"), tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as f:
        told = json.dumps({**json.loads(f["metadata"].attrs["scenarios"]), "never": {}})
        f["metadata"].attrs["scenarios"] = told
    written(h5dask.open_dataset(tmp_path / "a.h5"), tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5") as f:
        assert f["metadata"].attrs["scenarios"] == told


def test_a_dropped_layer_is_gone(tmp_path: Path) -> None:
    ds = opened(tmp_path / "a.h5", "activations", "several_layers")
    back = written(ds.sel(layer=[3, 31]), tmp_path / "b.h5")
    assert back.layer.values.tolist() == [3, 31]
    assert json.loads(back.attrs["model_info"])["layer_nums"] == [3, 31]
    with h5py.File(tmp_path / "b.h5") as f:
        assert set(f["scenarios/base/data"]) == {
            "logits",
            "activations_layer_3",
            "activations_layer_31",
        }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_unknown_survives_a_cut(layout: str, tmp_path: Path) -> None:
    ds = opened(tmp_path / "a.h5", layout, "unknown_members")
    cut: dict[str, Change] = {
        "activations": lambda ds: ds.sel(scenario="base"),
        "proteins": lambda ds: ds.sel(structure=[0, 1]),
        "ann": lambda ds: ds.isel(query=[0]),
        "episodes": lambda ds: ds.isel(episode=slice(2)),
    }
    h5dask.write_dataset(cut[layout](ds), tmp_path / "b.h5")
    known = set(layouts_paths(layout, tmp_path / "a.h5"))
    lost = [line for line in differences(tmp_path / "a.h5", tmp_path / "b.h5") if "only in" in line]
    assert [line for line in lost if line.split(":")[0].strip("/") not in known] == (
        ["/structure_2: only in the first file"] if layout == "proteins" else []
    )


def layouts_paths(layout: str, path: Path) -> Iterator[str]:
    """Yield the paths that the layout declares."""
    declared = layouts.get(layout)
    for name in LAYOUTS[layout].VARIANTS["unknown_members"].write(path):
        if declared.spec_of(name) is not None:
            yield name


def test_counts_are_renewed_where_sizes_changed_only(tmp_path: Path) -> None:
    ds = opened(tmp_path / "a.h5", "activations", "combined")
    info = ds.attrs["dataset_info"]
    same = written(ds, tmp_path / "b.h5")
    assert same.attrs["dataset_info"] == info
    assert json.loads(info)["num_samples"] == 3  # the first part's, kept word for word
    fewer = written(ds.isel(record=np.flatnonzero(ds.sample < 5)), tmp_path / "c.h5")
    assert json.loads(fewer.attrs["dataset_info"]) == {**json.loads(info), "num_samples": 5}
    assert (ds.attrs["num_samples"], fewer.attrs["num_samples"]) == (42, 30)


def test_the_dimension_is_renewed_where_it_stands_only(tmp_path: Path) -> None:
    for name, stands in (("four_attributes_float", True), ("float_euclidean", False)):
        ds = opened(tmp_path / f"{name}.h5", "ann", name).isel(feature=slice(3))
        h5dask.write_dataset(ds, tmp_path / f"{name}-b.h5")
        with h5py.File(tmp_path / f"{name}-b.h5") as f, h5py.File(tmp_path / f"{name}.h5") as old:
            assert ("dimension" in f.attrs) is stands
            assert not stands or f.attrs["dimension"] == 3
            assert f.attrs.keys() == old.attrs.keys()


def test_small_attributes_keep_their_types(tmp_path: Path) -> None:
    ds = opened(tmp_path / "a.h5", "proteins", "small_attributes").sel(sample=[0, 2])
    h5dask.write_dataset(ds, tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5") as f:
        attrs = f["structure_1"].attrs
        assert (attrs["num_samples"], attrs["num_samples"].dtype) == (2, np.int32)
        assert (attrs["sequence_length"], attrs["sequence_length"].dtype) == (7, np.int32)


@pytest.mark.parametrize(
    ("layout", "name", "group"),
    [
        ("activations", "prefilled_zero_rows", "scenarios/base"),
        ("activations", "prefilled_zero_rows", "scenarios/matching_few_shot_prefilled"),
        ("activations", "empty_groups", "scenarios/base"),
        ("proteins", "newer_grid", "structure_1"),
        ("proteins", "tracked_order", "structure_2"),
    ],
)
def test_a_group_that_was_opened_alone_is_a_file_of_its_own(
    layout: str, name: str, group: str, tmp_path: Path
) -> None:
    ds = opened(tmp_path / "a.h5", layout, name, group=group)
    back = written(ds, tmp_path / "b.h5")
    xr.testing.assert_equal(back.compute(), ds.compute())
    with h5py.File(tmp_path / "b.h5") as f, h5py.File(tmp_path / "a.h5") as old:
        assert f.attrs.keys() == old.attrs.keys()
        assert list(f[group].parent) == [group.rpartition("/")[2]]
        assert set(_everything(f[group])) == set(_everything(old[group]))
        if layout == "activations":
            assert f.attrs["num_samples"] == 5
            assert f["metadata"].attrs.keys() == old["metadata"].attrs.keys()


def _everything(group: h5py.Group) -> list[str]:
    names: list[str] = []
    group.visit(names.append)
    return names


@pytest.mark.parametrize(
    ("layout", "name"), [("activations", "prefilled_zero_rows"), ("proteins", "many_structures")]
)
def test_the_nodes_of_a_tree_are_files_of_their_own_and_join_again(
    layout: str, name: str, tmp_path: Path
) -> None:
    whole = opened(tmp_path / "a.h5", layout, name)
    nodes = [leaf.to_dataset() for leaf in h5dask.open_datatree(tmp_path / "a.h5").leaves]
    for node in nodes:
        same_rows(written(node, tmp_path / "b.h5", overwrite=True), node)
    joined = written(h5dask.concat(nodes), tmp_path / "c.h5")
    same_rows(joined, whole)
    if layout == "proteins":
        assert differences(tmp_path / "a.h5", tmp_path / "c.h5") == []


def test_a_file_object_is_written_back(tmp_path: Path) -> None:
    for layout in LAYOUTS:
        name = {"proteins": "first_generation", "activations": "tree_form"}.get(layout, "gzip")
        name = "labels" if layout == "ann" else name
        LAYOUTS[layout].VARIANTS[name].write(tmp_path / "a.h5")
        with (tmp_path / "a.h5").open("rb") as file:
            ds = h5dask.open_dataset(file)
        h5dask.write_dataset(ds, tmp_path / f"{layout}.h5")
        assert differences(tmp_path / "a.h5", tmp_path / f"{layout}.h5") == []
    LAYOUTS["ann"].VARIANTS["unknown_members"].write(tmp_path / "a.h5")
    with (tmp_path / "a.h5").open("rb") as file:
        ds = h5dask.open_dataset(file)
    with pytest.raises(Refused, match=r"file object .*a\.h5: holds what the layout doesn't know"):
        h5dask.write_dataset(ds, tmp_path / "b.h5")


@pytest.mark.parametrize("chunks", [None, {}])
@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("activations", "prefilled_zero_rows"),
        ("proteins", "newer_grid"),
        ("ann", "four_attributes_float"),
        ("episodes", "gzip"),
    ],
)
def test_what_xarray_opened_is_written_back_as_the_same_file(
    layout: str, name: str, chunks: Any, tmp_path: Path
) -> None:
    LAYOUTS[layout].VARIANTS[name].write(tmp_path / "a.h5")
    with xr.open_dataset(tmp_path / "a.h5", engine="h5dask", chunks=chunks) as ds:
        h5dask.write_dataset(ds, tmp_path / "b.h5")
    assert differences(tmp_path / "a.h5", tmp_path / "b.h5") == []
