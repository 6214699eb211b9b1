"""The documents' own examples run on files that we wrote, and plain h5py extends these."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask import layouts
from h5dask.testing import example
from tests.files import activations as activation_files
from tests.files import proteins as protein_files
from tests.files.same import differences


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in a folder of its own: the documents' examples name files without one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def named(scenario: str, old: str = "base") -> xr.Dataset:
    """Give the example of activations with a scenario of another name."""
    ds = example("activations")
    names = np.where(ds.scenario.values == old, scenario, ds.scenario.values)
    rows = {name: ds[name].values for name in ("branch", "sample")}
    index = layouts.get("activations").index
    assert index is not None
    coords = xr.Coordinates.from_xindex(index({"scenario": names, **rows}, {}))
    attrs = {"scenarios": ds.attrs["scenarios"].replace(f'"{old}"', f'"{scenario}"')}
    return ds.drop_vars(["scenario", "branch", "sample"]).assign_coords(coords).assign_attrs(attrs)


def test_activations_typical_usage() -> None:
    ds = named("scenario_name")
    h5dask.write_dataset(ds, "output.h5")
    with h5py.File("output.h5", "r") as f:
        # Access metadata
        model_name = f.attrs["model_name"]

        # Access scenario data
        scenario_group = f["scenarios/scenario_name"]

        # Read activations (returns float16 array)
        activations = scenario_group["data/activations_layer_13"][:]

        # Read text data
        prompts = scenario_group["text/prompts"][:]
    part = ds.sel(scenario="scenario_name")
    assert model_name == "example"
    assert activations.dtype == np.float16
    assert np.array_equal(activations, part.activations.sel(layer=13))
    assert [text.decode() for text in prompts] == part.prompts.values.tolist()
    assert h5dask.validate("output.h5") == ()


def test_activations_are_stored_as_the_document_says() -> None:
    h5dask.write_dataset(example("activations"), "output.h5")
    with h5py.File("output.h5") as f:
        group = f["scenarios/matching_few_shot_prefilled"]
        assert set(group["data/prefilled"]) == {"matching", "nonmatching"}
        stored = [group["data/prefilled/matching/logits"], f["scenarios/base/data/logits"]]
        for dataset in (*stored, *group["text"].values()):
            assert dataset.chunks is not None
            assert dataset.maxshape == (None, *dataset.shape[1:])
        assert {dataset.dtype for dataset in stored} == {np.dtype("<f2")}
        assert h5py.check_string_dtype(group["text/prompts"].dtype) == ("utf-8", None)
        assert {"dataset_info", "model_info", "scenarios"} == set(f["metadata"].attrs)


def test_proteins_basic_reading() -> None:
    h5dask.write_dataset(example("proteins"), "output.h5")
    with h5py.File("output.h5", "r") as f:
        # List all structures
        structures = [key for key in f if key.startswith("structure_")]

        # Read first structure
        group = f[structures[0]]
        sequences = group["sequences"][:]  # (num_samples, num_noise, seq_len)
        logits = group["logits"][:]  # (num_samples, num_noise, seq_len, 21)

        # Access metadata
        seq_length = group.attrs["sequence_length"]
        num_samples = group.attrs["num_samples"]
        assert group["sequences"].chunks is None
    assert structures == ["structure_3", "structure_7"]
    assert (sequences.shape, logits.shape) == ((2, 2, 5), (2, 2, 5, 21))
    assert (seq_length, num_samples) == (5, 2)
    assert (sequences.dtype, logits.dtype) == (np.int32, np.float32)
    one = example("proteins").sel(structure=3)
    assert np.array_equal(sequences.ravel(), one.sequences)
    assert np.array_equal(logits.reshape(-1, 21), one.logits)


def test_ann_is_stored_as_the_document_says() -> None:
    h5dask.write_dataset(example("ann"), "bench.hdf5")
    with h5py.File("bench.hdf5") as f:
        kind = h5py.check_string_dtype(f.attrs.get_id("distance").dtype)
        assert (kind.encoding, kind.length, f.attrs["distance"]) == ("ascii", None, "euclidean")
        assert f.attrs.get_id("distance").shape == ()
        n, d = f["train"].shape
        assert f["train"].id.get_storage_size() == n * d * 4
        assert f["test"].shape[1] == d
        assert f["neighbors"].shape == f["distances"].shape
        types = {name: dataset.dtype.name for name, dataset in f.items()}
        assert [dataset.chunks for dataset in f.values()] == [None] * 7
    assert types == {
        **dict.fromkeys(("train", "test", "distances", "valid_ratios"), "float32"),
        **dict.fromkeys(("neighbors", "train_labels", "test_labels"), "int64"),
    }


# Parameters of the document's example of a complete file, smaller.
N_EPISODES, EMBEDDING_DIM = 500, 64


def complete(rng: np.random.Generator) -> dict[str, Any]:
    """Make the arrays of the document's example of a complete file."""
    embeddings = rng.standard_normal((N_EPISODES, EMBEDDING_DIM)).astype(np.float32)
    embeddings = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return {
        "embeddings": embeddings,
        "episode_ids": [f"ep_{i:05d}" for i in range(N_EPISODES)],
        "success": rng.choice([True, False], size=N_EPISODES, p=[0.7, 0.3]),
        "episode_length": rng.integers(50, 200, size=N_EPISODES),
        "task": rng.choice(["pick", "place", "stack"], size=N_EPISODES),
    }


def test_episodes_complete_example_with_our_writer() -> None:
    made = complete(np.random.default_rng(0))
    assert made["task"].dtype == "<U5"
    with h5py.File("plain.h5", "w") as f, pytest.raises(TypeError, match="No conversion path"):
        f.create_dataset("task", data=made["task"])
    ds = xr.Dataset(
        {
            "embeddings": (("episode", "feature"), made["embeddings"]),
            **{
                f"metadata_{name}": ("episode", made[name])
                for name in ("success", "episode_length", "task")
            },
        },
        coords={"episode_ids": ("episode", made["episode_ids"])},
    )
    h5dask.write_dataset(ds, "my_embeddings.h5")
    assert h5dask.validate("my_embeddings.h5", values=True) == ()
    with h5py.File("my_embeddings.h5") as f:
        assert f["embeddings"].chunks is None
        assert np.array_equal(f["embeddings"], made["embeddings"])
        assert f["metadata/success"].dtype == bool
        assert f["metadata/episode_length"].dtype == made["episode_length"].dtype
        for path, texts in (("episode_ids", made["episode_ids"]), ("metadata/task", made["task"])):
            kind = h5py.check_string_dtype(f[path].dtype)
            assert (kind.encoding, kind.length) == ("utf-8", None)
            assert f[path].asstr()[:].tolist() == list(texts)


@pytest.mark.parametrize("dtype", ["<U9", "T", "S9", object])
def test_text_of_any_numpy_kind_is_written_as_text(dtype: Any) -> None:
    words = ["pick", "", "place it", "stack"]
    made = np.array(words, np.dtypes.StringDType() if dtype == "T" else dtype)
    ds = example("episodes").isel(episode=slice(4)).assign(metadata_task=("episode", made))
    h5dask.write_dataset(ds, "a.h5")
    with h5py.File("a.h5") as f:
        assert h5py.check_string_dtype(f["metadata/task"].dtype).length is None
        assert f["metadata/task"].asstr()[:].tolist() == words
    assert h5dask.open_dataset("a.h5").metadata_task.values.tolist() == words


def test_episodes_custom_fields_of_the_document() -> None:
    h5dask.write_dataset(example("episodes"), "embeddings.h5")
    with h5py.File("embeddings.h5", "a") as f:
        metadata = f.require_group("metadata")
        metadata.create_dataset("robot_id", data=[1, 2, 1, 2, 1, 2])
        metadata.create_dataset("camera", data=["a", "b", "", "d", "e", "ü"])
    ds = h5dask.open_dataset("embeddings.h5")
    assert ds.metadata_robot_id.values.tolist() == [1, 2, 1, 2, 1, 2]
    assert ds.metadata_camera.values.tolist() == ["a", "b", "", "d", "e", "ü"]
    assert h5dask.validate("embeddings.h5", values=True) == ()


def append_samples(f: h5py.File, n: int, value: float) -> None:
    """Append samples to every dataset of a scenario, as the programs that make such files do."""
    for folder in ("data", "text"):
        for dataset in f["scenarios/base"][folder].values():
            if isinstance(dataset, h5py.Dataset):
                dataset.resize(len(dataset) + n, axis=0)
                dataset[-n:] = "more" if dataset.dtype == object else value
    f.attrs["num_samples"] += n


def rewritten(write: Callable[[Path], Any]) -> None:
    """Write a file of ours in the form of another's."""
    write(Path("first.h5"))
    h5dask.write_dataset(h5dask.open_dataset("first.h5"), "output.h5")


@pytest.mark.parametrize("form", ["new", "prefilled_zero_rows", "gzip_shuffle"])
def test_activations_extended_by_plain_h5py(form: str) -> None:
    if form == "new":
        h5dask.write_dataset(example("activations"), "output.h5")
    else:
        rewritten(activation_files.VARIANTS[form].write)
    before = h5dask.open_dataset("output.h5").compute()
    with h5py.File("output.h5", "a") as f:
        append_samples(f, 300, 1.5)
    ds = h5dask.open_dataset("output.h5")
    n = before.sizes["record"]
    assert ds.sizes["record"] == n + 300
    base = ds.sel(scenario="base").compute()
    old = before.sel(scenario="base")
    xr.testing.assert_equal(base.isel(record=slice(old.sizes["record"])), old)
    assert (base.activations[-300:] == 1.5).all()
    assert set(base.prompts.values[-300:]) == {"more"}
    h5dask.write_dataset(ds, "again.h5")
    assert differences(Path("output.h5"), Path("again.h5")) == []


def test_space_that_is_never_written_shows_the_fill_value() -> None:
    def write(path: Path) -> None:
        activation_files.VARIANTS["tree_form"].write(path)
        with h5py.File(path, "a") as f:
            old = f["scenarios/base/data/logits"]
            values, chunks = old[:], old.chunks
            del f["scenarios/base/data/logits"]
            f["scenarios/base/data"].create_dataset(
                "logits", data=values, maxshape=(None, 40), chunks=chunks, fillvalue=-7.5
            )

    rewritten(write)
    with h5py.File("output.h5", "a") as f:
        append_samples(f, 1, 0)
        f["scenarios/base/data/logits"].resize(500, axis=0)
        for name in ("prompts", "matching_answers", "non_matching_answers"):
            f[f"scenarios/base/text/{name}"].resize(500, axis=0)
        f["scenarios/base/data/activations_layer_13"].resize(500, axis=0)
        assert (f["scenarios/base/data/logits"][6:] == -7.5).all()
    base = h5dask.open_dataset("output.h5").sel(scenario="base")
    assert (base.logits[6:] == -7.5).all()
    assert (base.activations[6:] == 0).all()
    assert set(base.prompts.values[6:]) == {""}


def test_proteins_extended_by_plain_h5py() -> None:
    h5dask.write_dataset(example("proteins"), "output.h5")
    with h5py.File("output.h5", "a") as f:
        group = f.create_group("structure_10")
        group["sequences"] = np.full((1, 2, 4), 20, "i4")
        group["logits"] = np.zeros((1, 2, 4, 21), "f4")
        numbers = {"structure_index": 10, "num_samples": 1}
        group.attrs.update({**numbers, "num_noise_levels": 2, "sequence_length": 4})
    assert h5dask.validate("output.h5", values=True) == ()
    ds = h5dask.open_dataset("output.h5")
    assert ds.sel(structure=10).sequences.values.tolist() == [20] * 8
    assert ds.structure.values.tolist() == [3] * 4 + [7] * 4 + [10] * 2


@pytest.mark.parametrize("form", ["flat", "campaign"])
def test_resizable_proteins_extended_by_plain_h5py(form: str) -> None:
    rewritten(protein_files.VARIANTS[form].write)
    with h5py.File("output.h5", "a") as f:
        group = f if form == "flat" else f["structure_1"]
        for dataset in (d for d in group.values() if isinstance(d, h5py.Dataset) and d.ndim > 1):
            dataset.resize(dataset.shape[0] + 2, axis=0)
            dataset[-2:] = 3
        if form == "campaign":
            group.attrs["num_samples"] += 2
        expected = group["sequences"][:]
    ds = h5dask.open_dataset("output.h5")
    part = ds if form == "flat" else ds.sel(structure=1)
    assert np.array_equal(part.sequences, expected.ravel())
    h5dask.write_dataset(ds, "again.h5")
    assert differences(Path("output.h5"), Path("again.h5")) == []
