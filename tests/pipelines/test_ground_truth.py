"""The pipeline of ground truth, called as its command is, against a few lines of numpy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import h5dask
from h5dask.jobs.state import State
from h5dask.ops import sides
from h5dask.testing import example
from pipelines import ground_truth
from pipelines.ground_truth import main

N_BASE, N_QUERIES, N_FEATURES, K = 400, 60, 5, 7


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of vectors of both sides, and their labels."""
    rng = np.random.default_rng(5)
    for name, n in (("base", N_BASE), ("query", N_QUERIES)):
        np.save(tmp_path / f"{name}.npy", rng.standard_normal((n, N_FEATURES)).astype("f4"))
        np.save(tmp_path / f"{name}_labels.npy", np.array(["b", "a", "c"])[np.arange(n) % 3])
    return tmp_path


def run(folder: Path, *options: str, query: str | None = "query.npy", **given: Any) -> int:
    """Write a config and run the pipeline; keys of tables are written table__key."""
    tables: dict[str, list[str]] = {"": ['output = "made.h5"'], "base": [], "search": []}
    keys = {"base__file": "base.npy", "search__k": K, **given}
    if query is not None:
        keys["query__file"] = query
    for key, value in keys.items():
        table, _, name = key.rpartition("__")
        tables.setdefault(table, []).append(f"{name} = {json.dumps(value)}")
    parts = [f"[{name}]" * bool(name) + "\n" + "\n".join(one) for name, one in tables.items()]
    (folder / "truth.toml").write_text("\n".join(parts))
    return main([str(folder / "truth.toml"), "--quiet", *options])


def stored(folder: Path) -> dict[str, NDArray[Any]]:
    """Return what was written, read without h5dask, once its rules are kept."""
    assert h5dask.validate(folder / "made.h5", values=True) == ()
    with h5py.File(folder / "made.h5") as file:
        return {name: one[:] for name, one in file.items()}


def record(folder: Path) -> Any:
    return json.loads((folder / "made.h5.run.json").read_text())


def true(made: dict[str, NDArray[Any]], k: int = K) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return neighbors and euclidean distances, among vectors of the same label if there are."""
    train, test = (made[name].astype("f8") for name in ("train", "test"))
    apart = np.sqrt(((test[:, np.newaxis] - train) ** 2).sum(-1))
    if "train_labels" in made:
        apart[made["test_labels"][:, np.newaxis] != made["train_labels"]] = np.inf
    found = np.argsort(apart, axis=1, kind="stable")[:, :k]
    return found, np.take_along_axis(apart, found, axis=1)


def test_a_benchmark_its_record_and_its_report(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, sample=20) == 0
    assert capsys.readouterr().out.split() == [str(folder / "made.h5"), str(folder / "made.html")]
    made = stored(folder)
    neighbors, distances = true(made)
    np.testing.assert_array_equal(made["neighbors"], neighbors)
    np.testing.assert_allclose(made["distances"], distances, rtol=1e-6)
    for name, side in (("train", "base"), ("test", "query")):
        np.testing.assert_array_equal(made[name], np.load(folder / f"{side}.npy"))
    counts = record(folder)["counts"]
    sizes = {"vectors": N_BASE, "queries": N_QUERIES, "neighbors": K}
    assert counts == {**sizes, "certified": counts["certified"]}
    assert 0 <= counts["certified"] <= N_QUERIES
    assert "Ground truth" in (folder / "made.html").read_text()


def test_queries_are_taken_out_of_the_base(folder: Path) -> None:
    assert run(folder, query=None, search__test_size=0.1, search__seed=3, base__labels="") == 0
    made = stored(folder)
    assert (len(made["train"]), len(made["test"])) == (N_BASE - 40, 40)
    rows = np.vstack([made["train"], made["test"]])
    assert {*map(bytes, rows)} == {*map(bytes, np.load(folder / "base.npy"))}
    np.testing.assert_array_equal(made["neighbors"], true(made)[0])


def test_labels_of_a_file_a_side(folder: Path) -> None:
    labels = {f"{side}__labels": f"{side}_labels.npy" for side in ("base", "query")}
    assert run(folder, search__base_rows=200, **labels) == 0
    made = stored(folder)
    np.testing.assert_array_equal(made["train_labels"], np.array([1, 0, 2])[np.arange(200) % 3])
    np.testing.assert_array_equal(made["neighbors"], true(made)[0])


def test_labels_of_a_layout_s_variable(folder: Path) -> None:
    rng = np.random.default_rng(1)
    ds = xr.Dataset(
        {
            "embeddings": (("episode", "feature"), rng.standard_normal((50, 8)).astype("f4")),
            "metadata_task": ("episode", np.array(["pick", "place"] * 25, object)),
        },
        coords={"episode_ids": ("episode", np.array([f"e{i}" for i in range(50)], object))},
    )
    h5dask.write_dataset(ds, folder / "robots.h5")
    given = {"base__file": "robots.h5", "base__labels": "metadata_task", "search__metric": "ip"}
    assert run(folder, query=None, search__test_size=10, search__quantize="int8", **given) == 0
    made = stored(folder)
    assert made["train"].dtype == np.int8
    assert {*made["train_labels"]} == {0, 1}
    near = made["test"].astype("i8") @ made["train"].T.astype("i8")
    near[made["test_labels"][:, np.newaxis] != made["train_labels"]] = -(2**40)
    order = np.argsort(-near, axis=1, kind="stable")[:, :K]
    np.testing.assert_array_equal(made["neighbors"], order)
    np.testing.assert_array_equal(made["distances"], -np.take_along_axis(near, order, axis=1))


def test_one_layer_labelled_by_a_coord(folder: Path) -> None:
    h5dask.write_dataset(example("activations"), folder / "states.h5")
    given = {"base__file": "states.h5", "base__select": [["layer", 13]], "search__k": 1}
    assert run(folder, query=None, search__test_size=2, base__labels="scenario", **given) == 0
    made = stored(folder)
    np.testing.assert_array_equal(made["neighbors"], true(made, 1)[0])


def test_vectors_of_a_folder(folder: Path) -> None:
    base = xr.DataArray(np.load(folder / "base.npy"), dims=("vector", "feature"))
    kind = ("vector", np.arange(N_BASE) % 2)
    h5dask.write_vectors(base.assign_coords(kind=kind), folder / "base.zarr")
    given = {"base__file": "base.zarr", "base__labels": "kind", "search__test_size": 20}
    assert run(folder, query=None, **given) == 0
    assert run(folder, query=None, **given) == 0
    before = record(folder)
    h5dask.write_vectors(base.assign_coords(kind=kind) + 1, folder / "base.zarr", overwrite=True)
    assert run(folder, query=None, **given) == 0
    assert record(folder)["digest"] != before["digest"]
    assert stored(folder)["train"].max() > 4


def test_only_what_is_new_is_done(folder: Path) -> None:
    labels = {f"{side}__labels": f"{side}_labels.npy" for side in ("base", "query")}
    assert run(folder, **labels) == 0
    before = (folder / "made.h5").stat().st_mtime_ns
    assert run(folder, **labels) == 0
    assert (folder / "made.h5").stat().st_mtime_ns == before
    np.save(folder / "query_labels.npy", np.array(["a"] * N_QUERIES))
    assert run(folder, **labels) == 0
    assert {*stored(folder)["test_labels"]} == {0}


def test_a_run_that_was_stopped_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "PANEL", 6 * (20 * N_FEATURES + 48 * K))  # six queries
    panels, done = State.panels, []

    def counted(self: State, name: str, n: int, do: Any) -> list[Any]:
        def once(start: int, stop: int) -> Any:
            if name.startswith("keep"):
                if start == 4 and not done.count("stopped"):
                    done.append("stopped")
                    raise KeyboardInterrupt
                done.extend(range(start, stop))
            return do(start, stop)

        return panels(self, name, n, once)

    monkeypatch.setattr(State, "panels", counted)
    monkeypatch.setattr("h5dask.jobs.state.PANEL_SECONDS", 0)  # a panel of queries at a time
    assert run(folder) == 130
    assert not (folder / "made.h5").exists()
    assert run(folder) == 0
    assert done == [0, 1, 2, 3, "stopped", *range(4, 10)]
    np.testing.assert_array_equal(stored(folder)["neighbors"], true(stored(folder))[0])
    assert not (folder / "made.h5.h5dask").exists()


def test_what_is_wrong_is_not_published(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def shifted(*args: Any, **options: Any) -> xr.Dataset:
        ds = truth(*args, **options).load()
        ds.neighbors[3, 0] = (ds.neighbors[3, 0] + 1) % N_BASE
        return ds

    truth = h5dask.ground_truth
    monkeypatch.setattr(ground_truth.h5dask, "ground_truth", shifted)
    assert run(folder) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "made.h5: 1 of 60 queries wrong" in line
    assert line.endswith("make it anew with --force")
    assert run(folder, sample=0) == 2
    assert "/distances" in capsys.readouterr().err
    assert not (folder / "made.h5").exists()
    assert not (folder / "made.html").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"base__labels": "task"}, "base.npy"),
        ({"search__k": N_BASE + 1}, "k: found 401"),
        ({"search__metric": "cosine"}, "search.metric"),
        ({"query": None}, "test_size to take some of the base"),
        ({"base__labels": "labels.npy"}, "labels.npy: no such file"),
        ({"base__file": "states.h5", "base__labels": "mood"}, "no variable 'mood'"),
    ],
)
def test_a_wrong_config_is_told_in_lines(
    given: dict[str, Any], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    h5dask.write_dataset(example("episodes"), folder / "states.h5")
    assert run(folder, **given) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told
    assert not (folder / "made.h5").exists()


@pytest.mark.parametrize(
    "given", [{}, {"query": None, "search__test_size": 0.25, "sample": 3}, {"sample": 0}]
)
def test_a_plan_runs_nothing(
    given: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "--plan", "workers=4,cores=2,memory=8GB", **given) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("train", "search", "write"))
    assert ("verify" in said) == (given.get("sample") != 0)
    assert not (folder / "made.h5").exists()


def test_the_config_beside_the_pipeline_has_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--example"]) == 0
    written = Path(__file__).parents[2] / "pipelines" / "ground_truth.toml"
    assert written.read_text() == capsys.readouterr().out
