"""Files end to end: rows in order, labels that stay distinct, one form, and what is refused."""

import shutil
import warnings
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask import layouts
from h5dask.errors import LayoutError, Refused
from h5dask.testing import example, example_file
from tests.rewriting import files, written

pytestmark = pytest.mark.filterwarnings("ignore:.*left out of the joined Dataset:UserWarning")
JOINABLE = [name for name in layouts.names() if layouts.get(name).along]


def same(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    assert found.dtype == expected.dtype
    if found.dtype == object:
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    else:
        assert np.array_equal(found, expected, equal_nan=found.dtype.kind == "f")


@pytest.fixture(scope="module", autouse=True)
def made() -> None:
    """Write the examples before a test may forbid to compute."""
    for layout in JOINABLE:
        example_file(layout)
        example_file(layout, 1)


ALIKE = [
    *(("activations", *pair) for pair in combinations(("prefilled_zero_rows", "tree_form"), 2)),
    ("activations", "tree_form", "prefilled_zero_rows"),
    ("activations", "tree_form", "tree_form"),
    ("activations", "big_endian", "gzip_shuffle"),
    ("activations", "unequal_samples", "twenty_scenarios", "one_row"),
    ("proteins", "first_generation", "first_generation"),
    ("proteins", "first_generation", "newer_grid"),
    ("proteins", "no_logits", "no_logits"),
    ("proteins", "newer_grid", "newer_grid"),
    ("proteins", "first_generation", "big_endian", "gzip_shuffle"),
    ("proteins", "many_structures", "flat", "averaged_rank_three"),
    ("proteins", "averaged_rank_three", "first_generation", "averaged_rank_three"),
    ("proteins", "averaged_rank_two", "averaged_rank_two"),
    ("proteins", "flat", "flat"),
    ("proteins", "flat", "first_generation"),
    ("proteins", "numbers_with_gaps", "index_disagrees", "no_logits"),
    ("episodes", "document", "gzip", "float64"),
    ("episodes", "thumbnails", "thumbnails"),
]


@pytest.mark.parametrize("case", ALIKE, ids="-".join)
def test_rows_lie_end_to_end(case: tuple[str, ...], tmp_path: Path) -> None:
    layout, *names = case
    paths = files(tmp_path, layout, *names)
    both = h5dask.open_dataset(paths)
    parts = [h5dask.open_dataset(path) for path in paths]
    joined = h5dask.concat(parts)
    comparable = [name for name in joined.data_vars if name != "thumbnails"]
    xr.testing.assert_identical(both[comparable].compute(), joined[comparable].compute())
    along = str(layouts.get(layout).along)
    assert both.sizes[along] == sum(part.sizes[along] for part in parts)
    for path, part in zip(paths, parts, strict=True):
        rows = np.flatnonzero(both.source.values == path)
        assert len(rows) == part.sizes[along]
    for name in parts[0].data_vars:
        held = [part[name] for part in parts if name in part]
        if len(held) == len(parts):
            same(both[name].values, np.concatenate([values.values for values in held]))


@pytest.mark.parametrize("case", ALIKE, ids="-".join)
def test_what_lies_end_to_end_is_written_and_opens_alike(
    case: tuple[str, ...], tmp_path: Path
) -> None:
    layout, *names = case
    both = h5dask.open_dataset(files(tmp_path, layout, *names))
    back = written(both, tmp_path / "both.h5")
    assert back.sizes == both.sizes
    assert back.attrs.keys() == both.attrs.keys()
    labels = [name for name in both.xindexes if both[name].ndim == 1 and name in back.coords]
    labels = [name for name in labels if name not in ("layer", "aa")]
    if labels:
        keys = {tuple(row) for row in zip(*(both[n].values.tolist() for n in labels), strict=True)}
        assert keys == {
            tuple(row) for row in zip(*(back[n].values.tolist() for n in labels), strict=True)
        }
        first = labels[0]
        for label in list(dict.fromkeys(both[first].values.tolist())):
            a, b = both.sel({first: label}), back.sel({first: label})
            for name in both.data_vars:
                assert np.array_equal(*(_by_rows(x, name, labels) for x in (a, b)))


def _by_rows(part: xr.Dataset, name: Any, labels: list[Any]) -> np.ndarray[Any, Any]:
    values = part[name]
    if values.dims[0] not in ("record", "sequence"):
        return np.nan_to_num(values.values) if values.dtype.kind == "f" else values.values
    order = np.lexsort([part[label].values.astype(str) for label in labels])
    return np.asarray(values.isel({values.dims[0]: order}).values.astype(str))


def test_a_scenario_goes_on_in_the_next_file(tmp_path: Path) -> None:
    paths = files(tmp_path, "activations", "tree_form", "tree_form")
    ds = h5dask.open_dataset(paths)
    base = ds.sel(scenario="base")
    assert base.sample.values.tolist() == list(range(10))
    back = written(ds, tmp_path / "both.h5")
    assert back.attrs["num_samples"] == 2 * 30
    assert '"num_samples": 10' in back.attrs["dataset_info"]
    with h5py.File(tmp_path / "both.h5") as f:
        assert len(f["scenarios/base/text/prompts"]) == 10


@pytest.mark.parametrize("layout", JOINABLE)
def test_opened_subset_and_hand_made_together(layout: str, tmp_path: Path) -> None:
    along = str(layouts.get(layout).along)
    opened, made = h5dask.open_dataset(example_file(layout)), example(layout, 5)
    label = {"activations": {"scenario": "base"}, "proteins": {"structure": 7}}.get(layout)
    part = opened.sel(label) if label else opened.isel(episode=slice(1, 4))
    joined = h5dask.concat([part, made, opened])
    assert joined.sizes[along] == part.sizes[along] + made.sizes[along] + opened.sizes[along]
    assert isinstance(next(iter(joined.data_vars.values())).data, da.Array)
    assert joined.source.values[part.sizes[along]] == "Dataset 1"
    back = written(joined, tmp_path / "a.h5")
    assert back.sizes == joined.sizes


@pytest.mark.parametrize("layout", JOINABLE)
def test_one_alone_and_one_twice(layout: str) -> None:
    ds = h5dask.open_dataset(example_file(layout))
    assert h5dask.concat([ds]) is ds
    along = str(layouts.get(layout).along)
    twice = h5dask.concat([ds, ds])
    assert twice.sizes[along] == 2 * ds.sizes[along]
    labels = [n for n in twice.xindexes if twice[n].dims == (along,) and n != "source_structure"]
    if labels:
        rows = list(zip(*(twice[n].values.tolist() for n in labels), strict=True))
        assert len(set(rows)) == len(rows)


def test_joining_is_lazy(no_compute: None) -> None:
    for layout in JOINABLE:
        ds = h5dask.open_dataset(example_file(layout))
        h5dask.concat([ds, ds])
        h5dask.open_dataset([example_file(layout), example_file(layout, 1)])


def test_transposed_variables_are_joined_along_their_rows() -> None:
    one, other = example("episodes"), example("episodes", 1)
    joined = h5dask.concat([one.transpose("feature", "episode"), other])
    expected = np.concatenate([one.embeddings, other.embeddings])
    assert np.array_equal(joined.embeddings.transpose("episode", "feature"), expected)


def test_a_pattern_opens_files_by_name(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        h5dask.write_dataset(example("episodes", ord(name)), tmp_path / f"{name}.h5")
    (tmp_path / "a.lock").write_text("no input")
    ds = h5dask.open_dataset(str(tmp_path / "*.h5"))
    expected = [example("episodes", ord(name)).embeddings.values for name in "abc"]
    assert np.array_equal(ds.embeddings, np.concatenate(expected))
    assert list(dict.fromkeys(ds.source.values)) == [f"{tmp_path}/{n}.h5" for n in "abc"]


def attrs(**changed: Any) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda ds: ds.assign_attrs(changed)


DIFFERENT: dict[str, tuple[str, Callable[[xr.Dataset], xr.Dataset], str]] = {
    "attribute": ("activations", attrs(model_name="b"), "attribute model_name differs between"),
    "two attributes": (
        "activations",
        attrs(model_name="b", dataset_type="c"),
        r"(?s)model_name differs.*dataset_type differs|dataset_type differs.*model_name differs",
    ),
    "settings": (
        "activations",
        attrs(scenarios='{"base": {"matching": false}}'),
        r"attribute scenarios\['base'\] differs",
    ),
    "layers": ("activations", lambda ds: ds.isel(layer=[0]), "layer is 3, 13 in .* and 3 in"),
    "other layers": (
        "activations",
        lambda ds: ds.assign_coords(layer=[3, 14]),
        "layer is 3, 13 in .* and 3, 14 in",
    ),
    "width": ("activations", lambda ds: ds.isel(vocab=slice(9)), "vocab is 40 in .* and 9 in"),
    "variable": ("activations", lambda ds: ds.drop_vars("logits"), "logits is in .* and not in"),
    "field": (
        "episodes",
        lambda ds: ds.drop_vars("metadata_task"),
        r"metadata_task is in \S+ and not in \S+; leave it out \(drop_variables\)",
    ),
    "dimension": (
        "episodes",
        lambda ds: ds.isel(feature=slice(3)),
        r"feature is 8 in \S+ and 3 in \S+; files that lie end to end must share it",
    ),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_is_named(name: str, tmp_path: Path) -> None:
    layout, change, text = DIFFERENT[name]
    one, other = (h5dask.open_dataset(example_file(layout, seed)) for seed in (0, 1))
    other = change(other)
    with pytest.raises(LayoutError, match=text):
        h5dask.concat([one, other])
    if name != "variable":  # an array that the layout needs is always written
        with warnings.catch_warnings(action="ignore"):  # of settings that name no scenario
            h5dask.write_dataset(other, tmp_path / "other.h5")
        with pytest.raises(LayoutError, match=text):
            h5dask.open_dataset([example_file(layout), tmp_path / "other.h5"])


def test_what_may_differ() -> None:
    one = example("activations")
    other = one.assign_attrs(creation_date="2026", num_samples=99)
    assert h5dask.concat([one, other]).attrs["creation_date"] == one.attrs["creation_date"]
    apart = one.assign_attrs(scenarios='{"other": {}}')
    assert '"other": {}' in h5dask.concat([one, apart]).attrs["scenarios"]


def test_what_lies_apart_says_why(tmp_path: Path) -> None:
    path = example_file("ann")
    with pytest.raises(LayoutError, match="several ann files can't open as one: neighbors are"):
        h5dask.open_dataset([path, path])
    with pytest.raises(LayoutError, match="ann can't lie end to end: neighbors are the nearest"):
        h5dask.concat([example("ann"), example("ann")])
    with pytest.raises(LayoutError, match="give at least one"):
        h5dask.concat([])
    mixed = [example("episodes"), example("proteins")]
    with pytest.raises(LayoutError, match="Datasets of episodes and proteins; only Datasets of"):
        h5dask.concat(mixed)
    with pytest.raises(LayoutError, match=r"has the layout proteins, .* has episodes; only files"):
        h5dask.open_dataset([example_file("episodes"), example_file("proteins")])


def test_what_several_files_have_is_refused_if_asked(tmp_path: Path) -> None:
    paths = files(tmp_path, "proteins", "newer_grid", "newer_grid", "first_generation")
    parts = [h5dask.open_dataset(path) for path in paths]
    told = rf"structure_id '1ABC_A': found in {paths[0]} and {paths[1]}; expected once"
    with pytest.raises(Refused, match=told):
        h5dask.concat(parts[:2], duplicates="refuse")
    assert len(np.unique(h5dask.concat(parts[:2]).structure)) == 6
    assert h5dask.concat(parts[:1], duplicates="refuse") is parts[0]
    with pytest.raises(Refused, match=rf"found 2 times in {paths[0]}; expected once"):
        h5dask.concat([parts[0], parts[0]], duplicates="refuse")
    apart = [parts[0].sel(structure=0), parts[0].sel(structure=[1, 2])]
    assert h5dask.concat(apart, duplicates="refuse").sizes == parts[0].sizes
    ids = [example("episodes"), example("episodes")]
    with pytest.raises(Refused, match=r"and so .* more"):
        h5dask.concat(ids, duplicates="refuse")
    records = [example("activations"), example("activations")]
    with pytest.raises(Refused, match="activations has no label by which rows of several files"):
        h5dask.concat(records, duplicates="refuse")


def test_those_without_a_name_are_compared_by_number(tmp_path: Path) -> None:
    paths = files(tmp_path, "proteins", "newer_grid", "first_generation", "newer_grid")
    named, nameless, again = (h5dask.open_dataset(path) for path in paths)
    assert {*named.structure.values} & {*nameless.structure.values}
    both = h5dask.concat([named, nameless], duplicates="refuse")
    assert both.sizes["sequence"] == named.sizes["sequence"] + nameless.sizes["sequence"]
    with pytest.raises(
        Refused, match=r"structure_id '1ABC_A': found in .*0_newer_.* and .*2_newer"
    ):
        h5dask.concat([named, nameless, again], duplicates="refuse")
    with pytest.raises(Refused, match=r"source_structure \d+: found 2 times in .*1_first"):
        h5dask.concat([nameless, named, nameless], duplicates="refuse")


def test_a_name_that_comes_twice_in_one_file_is_refused(tmp_path: Path) -> None:
    (path,) = files(tmp_path, "proteins", "newer_grid")
    with h5py.File(path, "a") as file:
        for group in file.values():
            group.attrs["structure_id"] = "1ABC"
    with pytest.raises(Refused, match=rf"structure_id '1ABC': found \d times in {path}"):
        h5dask.concat([h5dask.open_dataset(path)], duplicates="refuse")


def test_what_some_structures_lack_is_no_fault(tmp_path: Path) -> None:
    paths = files(tmp_path, "proteins", "newer_grid", "no_logits", "first_generation")
    with pytest.warns(UserWarning, match="schema_version: found 'grid_v1' in .*, which describes"):
        both = h5dask.open_dataset(paths)
    own = ["no_logits" not in one for one in both.source.values]
    assert both.has_logits.values.tolist() == own
    with pytest.warns(UserWarning, match="schema_version"):
        joined = h5dask.concat([h5dask.open_dataset(path) for path in paths])
    xr.testing.assert_identical(joined.compute(), both.compute())
    h5dask.write_dataset(both, tmp_path / "both.h5")
    back = h5dask.open_dataset(tmp_path / "both.h5")
    assert back.has_logits.values.tolist() == own
    assert h5dask.validate(tmp_path / "both.h5", values=True) == ()
    for ds in (both, back, back.sel(noise=0)):
        found = h5dask.scan(ds, ignore=["duplicates"]).compute()
        assert not found.nan.any()
        assert h5dask.drop_bad_rows(ds, found).sizes == ds.sizes
    assert "has_logits" not in h5dask.open_dataset(paths[0]).coords
    assert "has_logits" not in h5dask.open_dataset(paths[1]).coords
    xr.testing.assert_identical(h5dask.split(h5dask.pad(both)), both)
    profiles = h5dask.profile(back).compute()
    assert profiles.n_bad.sum() == 0
    assert profiles.score.isnull().values.tolist() == [not one for one in own]


def test_a_bad_value_among_what_is_there_is_found(tmp_path: Path) -> None:
    paths = files(tmp_path, "proteins", "no_logits", "first_generation", "no_logits")
    with h5py.File(paths[1], "a") as file:
        name = sorted(key for key in file if key.startswith("structure_"))[1]
        file[name]["logits"][0, 0, 2, 5] = np.nan
    both = h5dask.open_dataset(paths)
    h5dask.write_dataset(both, tmp_path / "both.h5")
    (problem,) = h5dask.validate(tmp_path / "both.h5", values=True)
    assert problem.found.startswith("1 NaN in logits, at /structure_")
    assert problem.found.endswith("/logits[0, 0, 2, 5]")
    found = h5dask.scan(both).compute()
    assert found.nan.sel(variable=found["variable"] == "logits").values.tolist() == [1]
    assert found.bad_residue.sum() == 1


def test_structures_without_samples_are_told(tmp_path: Path) -> None:
    (path,) = files(tmp_path, "proteins", "first_generation")
    with h5py.File(path, "a") as file:
        name = min(key for key in file if key.startswith("structure_"))
        for held in ("sequences", "logits"):
            form = file[name][held].shape, file[name][held].dtype
            del file[name][held]
            file[name].create_dataset(held, (0, *form[0][1:]), form[1])
    with pytest.warns(UserWarning, match=rf"{path}: /{name}: found no rows along sequence; left"):
        h5dask.open_dataset(path)


def test_structures_by_other_numbers(tmp_path: Path) -> None:
    (path,) = files(tmp_path, "proteins", "newer_grid")
    ds = h5dask.open_dataset(path)
    moved = h5dask.renumber(h5dask.renumber(ds, {0: 7}), {7: 9, 1: 2**31, 2: 1})
    assert moved.sequences.chunks == ds.sequences.chunks
    back = written(moved, tmp_path / "moved.h5")
    for old, new in {0: 9, 1: 2**31, 2: 1}.items():
        own, found = ds.sel(structure=old), back.sel(structure=new)
        assert found.structure_id.values.tolist() == own.structure_id.values.tolist()
        same(found.logits.values, own.logits.values)
        assert set(moved.sel(structure=new).source_structure.values) == {old}
    with h5py.File(path) as file, h5py.File(tmp_path / "moved.h5") as made:
        was, now = dict(file["structure_2"].attrs), dict(made["structure_1"].attrs)
        assert now.pop("structure_index") == 1
        assert was.pop("structure_index") == 2
        assert {k: str(v) for k, v in now.items()} == {k: str(v) for k, v in was.items()}
    with pytest.raises(Refused, match=r"numbers: found \[1\] for several"):
        h5dask.renumber(ds, {0: 1})
    with pytest.raises(Refused, match=r"found \[-1\] for several, or negative"):
        h5dask.renumber(ds, {0: -1})
    with pytest.raises(Refused, match="episodes has no groups that go by numbers"):
        h5dask.renumber(example("episodes"), {})


def test_the_old_number_of_each_structure_is_kept(tmp_path: Path) -> None:
    paths = files(tmp_path, "proteins", "numbers_with_gaps", "first_generation")
    parts = [h5dask.open_dataset(path) for path in paths]
    for both in (h5dask.concat(parts), h5dask.open_dataset(paths)):
        old = np.concatenate([part.structure.values for part in parts])
        assert both.source_structure.values.tolist() == old.tolist()


def test_attributes_of_one_file_alone_are_left_out(tmp_path: Path) -> None:
    paths = files(tmp_path, "proteins", "campaign", "campaign_with_logits")
    told = "sample_count: left out of the joined Dataset; these attributes, which proteins"
    with pytest.warns(UserWarning, match=told):
        both = h5dask.open_dataset(paths)
    assert "sample_count" not in both.attrs
    assert both.attrs["job_id"] == "job-7"
    back = written(both, tmp_path / "both.h5")
    assert "sample_count" not in back.attrs


@pytest.mark.parametrize("swap", [False, True])
def test_attributes_that_some_files_have_describe_none_of_the_others(
    swap: bool, tmp_path: Path
) -> None:
    paths = files(tmp_path, "episodes", "document")
    paths += [shutil.copy(paths[0], tmp_path / f"other{i}.h5") for i in range(2)]
    for path, camera, model in zip(
        paths, (None, "wrist", "wrist"), ("R3M", "R3M", "VIP"), strict=True
    ):
        with h5py.File(path, "r+") as f:
            f.attrs["lab"] = "north"
            f["embeddings"].attrs.update({"model": model, "unit": "none"})
            if camera:
                f.attrs["camera"] = camera
    told = r"embeddings \(model\): attributes left out of the joined Dataset; they aren't the same"
    with (
        pytest.warns(UserWarning, match=told),
        pytest.warns(UserWarning, match="^camera: left out"),
    ):
        both = h5dask.open_dataset(paths[::-1] if swap else paths)
    assert "camera" not in both.attrs
    assert both.attrs["lab"] == "north"
    written(both, tmp_path / "both.h5")
    with h5py.File(tmp_path / "both.h5") as f:
        assert dict(f.attrs) == {"lab": "north"}
        assert dict(f["embeddings"].attrs) == {"unit": "none"}


@pytest.mark.filterwarnings("ignore:schema_version. found")
@pytest.mark.parametrize("swap", [False, True])
def test_the_generation_that_tells_axes_apart_is_kept(swap: bool, tmp_path: Path) -> None:
    names = ["newer_sampling", "newer_grid", "averaged_rank_three"]
    paths = files(tmp_path, "proteins", *(names[::-1] if swap else names))
    both = h5dask.open_dataset(paths)
    assert both.attrs["schema_version"] == "sampling_averaged_v1"
    assert h5dask.open_dataset(sorted(p for p in paths if "newer" in p)).schema_version == "grid_v1"
    back = written(both, tmp_path / "both.h5")
    assert sorted(back.temperature.values) == sorted(both.temperature.values)
    assert sorted(back.noise.values) == sorted(both.noise.values)
