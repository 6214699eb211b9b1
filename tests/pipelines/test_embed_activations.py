"""The pipeline of embeddings, called as its command is, against plain h5py and a little numpy."""

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
from h5dask.layouts import episodes
from h5dask.testing import example
from pipelines import embed_activations
from pipelines.embed_activations import main

SIDES = ("base", "matching_few_shot_prefilled/matching", "matching_few_shot_prefilled/nonmatching")
"""What the files hold, as their records are named."""
N_RECORDS = {SIDES[0]: 12, SIDES[1]: 8, SIDES[2]: 8}


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    """A folder of two files, each of a plain scenario and one of two branches."""
    folder = tmp_path / "landing"
    folder.mkdir()
    for number, name in enumerate("ab"):
        h5dask.write_dataset(many(number), folder / f"{name}.h5")
    return folder


def many(seed: int, width: int = 6) -> xr.Dataset:
    """Return activations of as many records as are named above, three layers, float16."""
    ds = example("activations")
    n = sum(N_RECORDS.values())
    made = ds.isel(record=[0] * n).drop_vars(["scenario", "branch", "sample", "layer"])
    labels = [side.partition("/")[::2] for side in SIDES for _ in range(N_RECORDS[side])]
    scenario, branch = (np.array(one, object) for one in zip(*labels, strict=True))
    sample = np.concatenate([np.arange(n) for n in N_RECORDS.values()])
    values = np.random.default_rng(seed).standard_normal((n, 3, width)) * 1e4
    prompts = [f"{one}, number {n}" for one, n in zip(scenario, sample, strict=True)]
    return made.assign(
        activations=(("record", "layer", "hidden"), values.astype("f2")),
        prompts=("record", np.array(prompts, object)),
    ).assign_coords(
        scenario=("record", scenario), branch=("record", branch), layer=[3, 13, 20],
        sample=("record", sample.astype("i4")),
    )  # fmt: skip


def edited(path: Path, side: str, layer: int, edit: Any) -> None:
    """Change a layer of one side in place."""
    with h5py.File(path, "r+") as file:
        one = file[_paths(file, side)[layer]]
        values = one[:]
        edit(values)
        one[...] = values


def _paths(file: h5py.File, side: str) -> dict[int, str]:
    """Return the path of each layer's values of one side."""
    found: dict[int, str] = {}
    scenario, _, branch = side.partition("/")

    def visit(name: str, one: Any) -> None:
        parts = name.split("/")
        is_meant = not branch or {branch, f"prefilled_{branch}"} & {*parts}
        is_layer = isinstance(one, h5py.Dataset) and "activations_layer" in name
        if is_layer and is_meant and scenario in parts:
            found[int(name.rpartition("_")[2])] = name

    file.visititems(visit)
    return found


def stored(path: Path, layers: list[int], sides: tuple[str, ...] = SIDES) -> NDArray[Any]:
    """Return the mean of some layers (record, hidden) in float64, read without h5dask."""
    with h5py.File(path) as file:
        rows = [
            np.stack([file[_paths(file, side)[n]][:].astype("f8") for n in layers]).mean(0)
            for side in sides
        ]
    return np.concatenate(rows)


def unit(rows: NDArray[Any]) -> NDArray[Any]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def run(landing: Path, *options: str, quiet: bool = True, **given: Any) -> int:
    """Write a config and run the pipeline; keys of tables are written table__key."""
    tables: dict[str, list[str]] = {"": ['landing = "landing"', 'output = "out"']}
    for key, value in {"search__k": 3, **given}.items():
        table, _, name = key.rpartition("__")
        tables.setdefault(table, []).append(f"{name} = {json.dumps(value)}")
    parts = [f"[{name}]" * bool(name) + "\n" + "\n".join(one) for name, one in tables.items()]
    (landing.parent / "embed.toml").write_text("\n".join(parts))
    return main([str(landing.parent / "embed.toml"), *["--quiet"] * quiet, *options])


def result(landing: Path, name: str = "episodes/a.h5") -> dict[str, Any]:
    """Return what was written, read without h5dask, once its rules are kept."""
    path = landing.parent / "out" / name
    assert h5dask.validate(path, values=True) == ()
    found: dict[str, Any] = {}

    def visit(name: str, one: Any) -> None:
        if isinstance(one, h5py.Dataset):
            found[name] = one[()]

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def texts(values: NDArray[Any]) -> list[str]:
    return [one.decode() for one in values]


def record(landing: Path, name: str) -> Any:
    return json.loads((landing.parent / "out" / f"{name}.run.json").read_text())


def test_embeddings_and_where_each_came_from(
    landing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(landing) == 0
    out = landing.parent / "out"
    names = ("episodes/a.h5", "episodes/b.h5", "episodes.html", "benchmark.h5", "benchmark.html")
    assert capsys.readouterr().out.split() == [str(out / name) for name in names]
    for name in "ab":
        made = result(landing, f"episodes/{name}.h5")
        expected = unit(stored(landing / f"{name}.h5", [20]))
        assert made["embeddings"].dtype == np.float32
        np.testing.assert_allclose(made["embeddings"], expected, rtol=1e-6)
        ids = [f"{side}/{i}" for side in SIDES for i in range(N_RECORDS[side])]
        assert texts(made["episode_ids"]) == ids
        told = zip(texts(made["metadata/scenario"]), texts(made["metadata/branch"]),
                   made["metadata/sample"].tolist(), strict=True)  # fmt: skip
        assert ["/".join(filter(None, map(str, one))) for one in told] == ids
        assert set(texts(made["metadata/source"])) == {name}
        assert texts(made["metadata/prompt"])[13] == "matching_few_shot_prefilled, number 1"
    for name in ("episodes.html", "benchmark.html"):
        assert "<html" in (out / name).read_text()


def test_a_benchmark_of_all_files_by_scenario(landing: Path) -> None:
    assert run(landing, search__test_size=8, search__seed=4) == 0
    made = result(landing, "benchmark.h5")
    assert (len(made["train"]), len(made["test"])) == (48, 8)
    rows = np.concatenate([result(landing, f"episodes/{name}.h5")["embeddings"] for name in "ab"])
    of_base = np.tile(np.arange(28) >= 12, 2).astype(int)
    label = {row.tobytes(): number for row, number in zip(rows, of_base, strict=True)}
    for side in ("train", "test"):
        assert [label[row.tobytes()] for row in made[side]] == made[f"{side}_labels"].tolist()
    apart = np.linalg.norm(made["test"][:, np.newaxis].astype("f8") - made["train"], axis=-1)
    apart[made["test_labels"][:, np.newaxis] != made["train_labels"]] = np.inf
    np.testing.assert_array_equal(
        made["neighbors"], np.argsort(apart, axis=1, kind="stable")[:, :3]
    )
    np.testing.assert_allclose(made["distances"], np.sort(apart, axis=1)[:, :3], rtol=1e-5)
    told = record(landing, "benchmark.h5")
    assert told["notes"] == ["label 0 is base", "label 1 is matching_few_shot_prefilled"]
    assert told["counts"] == {"vectors": 48, "queries": 8, "neighbors": 3}
    assert [stage["name"] for stage in told["stages"]][-1] == "verify"


@pytest.mark.parametrize(
    ("layers", "of"), [([3], [3]), ([3, 20], [3, 20]), ("all", [3, 13, 20]), ("last", [20])]
)
def test_layers_and_their_mean(landing: Path, layers: Any, of: list[int]) -> None:
    asked = {"embed__layers": layers, "embed__normalize": False, "embed__dtype": "float64"}
    assert run(landing, **asked) == 0
    made = result(landing)["embeddings"]
    assert made.dtype == np.float64
    np.testing.assert_allclose(made, stored(landing / "a.h5", of), rtol=1e-12)


def test_chosen_scenarios_and_branches_without_labels(landing: Path) -> None:
    taken = ["base", "matching_few_shot_prefilled/nonmatching"]
    asked = {"search__labels": "none", "search__metric": "angular", "search__sample": 0}
    assert run(landing, embed__take=taken, **asked) == 0
    made = result(landing)["embeddings"]
    np.testing.assert_allclose(
        made, unit(stored(landing / "a.h5", [20], (SIDES[0], SIDES[2]))), rtol=1e-6
    )
    found = result(landing, "benchmark.h5")
    assert "train_labels" not in found
    near = found["test"].astype("f8") @ found["train"].T.astype("f8")
    np.testing.assert_array_equal(found["neighbors"], np.argsort(-near, axis=1)[:, :3])
    assert record(landing, "benchmark.h5")["notes"] == []


def test_labels_by_branch(landing: Path) -> None:
    assert run(landing, search__labels="branch", search__test_size=0.25) == 0
    assert set(result(landing, "benchmark.h5")["train_labels"]) == {0, 1, 2}
    notes = record(landing, "benchmark.h5")["notes"]
    assert notes == ["label 0 is ", "label 1 is matching", "label 2 is nonmatching"]


def test_bad_records_are_dropped_and_told(landing: Path) -> None:
    def spoil(values: NDArray[Any]) -> None:
        values[2, 1], values[4], values[5, 0], values[7, 3] = np.nan, 0, np.inf, -np.inf

    edited(landing / "a.h5", SIDES[0], 20, spoil)
    assert run(landing) == 0
    kept = [i for i in range(28) if i not in (2, 4, 5, 7)]
    expected = unit(stored(landing / "a.h5", [20])[kept])
    np.testing.assert_allclose(result(landing)["embeddings"], expected, rtol=1e-6)
    counts = record(landing, "episodes/a.h5")["counts"]
    found = {"nan": 1, "posinf": 1, "neginf": 1, "zero_rows": 1}
    assert counts == {"read": 28, "lost": 4, **found}
    assert len(result(landing, "benchmark.h5")["train"]) + 5 == 24 + 28


def test_one_layer_s_nan_spoils_the_mean(landing: Path) -> None:
    edited(landing / "a.h5", SIDES[1], 13, lambda values: values.__setitem__((3, 2), np.nan))
    assert run(landing, embed__layers="all") == 0
    assert f"{SIDES[1]}/3" not in texts(result(landing)["episode_ids"])
    assert len(result(landing)["embeddings"]) == 27


def test_a_file_of_which_no_record_is_left_makes_nothing(
    landing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for side in SIDES:
        edited(landing / "a.h5", side, 20, lambda values: values.fill(np.nan))
    assert run(landing) == 0
    assert not (landing.parent / "out" / "episodes" / "a.h5").exists()
    assert len(result(landing, "benchmark.h5")["train"]) == 25
    capsys.readouterr()
    assert run(landing, quiet=False, embed__take=["elsewhere"]) == 0
    assert "no record is left to embed" in capsys.readouterr().err


def test_only_what_is_new_is_done(landing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(landing) == 0
    out = landing.parent / "out"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert run(landing, quiet=False) == 0
    assert "5 current" in capsys.readouterr().err
    there = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert {path for path in there if there[path] != before[path]} <= {
        out / "episodes" / "h5dask.run.json"
    }
    edited(landing / "b.h5", SIDES[0], 20, lambda values: values.__imul__(-1))
    assert run(landing, quiet=False) == 0
    assert "1 current, 4 done" in capsys.readouterr().err
    np.testing.assert_allclose(
        result(landing, "episodes/b.h5")["embeddings"],
        unit(stored(landing / "b.h5", [20])), rtol=1e-6,
    )  # fmt: skip
    test = {row.tobytes() for row in result(landing, "benchmark.h5")["test"]}
    rows = np.concatenate([result(landing, f"episodes/{name}.h5")["embeddings"] for name in "ab"])
    assert test <= {row.tobytes() for row in rows}


def test_files_that_cannot_be_embedded_are_set_aside(landing: Path) -> None:
    h5dask.write_dataset(example("activations"), landing / "c.h5")  # of layers 3 and 13
    h5dask.write_dataset(example("episodes"), landing / "d.h5")
    (landing / "e.h5").write_bytes((landing / "a.h5").read_bytes()[:700])
    assert run(landing, embed__layers=[20]) == 1
    summary = json.loads((landing.parent / "out/episodes/h5dask.run.json").read_text())["inputs"]
    why = {Path(one["input"]).name: one["why"] for one in summary if one["what"] == "set aside"}
    assert set(why) == {"c.h5", "d.h5", "e.h5"}
    assert "embed.layers: found [20]; expected of [3, 13]" in why["c.h5"]
    assert "none of the datasets of activations" in why["d.h5"]
    assert len(result(landing, "benchmark.h5")["train"]) == 50


@pytest.mark.filterwarnings("ignore:.*Embedding dimension too large:UserWarning")
def test_what_the_viewer_finds_too_wide(landing: Path) -> None:
    h5dask.write_dataset(many(7, episodes.MAX_DIMENSION + 1), landing / "wide.h5")
    for name in "ab":
        (landing / f"{name}.h5").unlink()
    assert run(landing) == 1
    (told,) = json.loads((landing.parent / "out/episodes/h5dask.run.json").read_text())["inputs"]
    assert "dimension too large: 2049 > 2048" in told["why"]
    assert "allow_large" in told["why"]
    assert run(landing, embed__allow_large=True) == 0
    path = landing.parent / "out" / "episodes" / "wide.h5"
    found = h5dask.open_dataset(path).embeddings.values
    np.testing.assert_allclose(found, unit(stored(landing / "wide.h5", [20])), rtol=1e-5)


def test_files_of_the_viewer_s_size(landing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes, "MAX_EPISODES", 10)
    assert run(landing) == 0
    names = sorted(path.name for path in (landing.parent / "out" / "episodes").glob("*.h5"))
    assert names == [f"{name}-000{n}.h5" for name in "ab" for n in (1, 2, 3)]
    made = [result(landing, f"episodes/a-000{n}.h5")["embeddings"] for n in (1, 2, 3)]
    np.testing.assert_allclose(
        np.concatenate(made), unit(stored(landing / "a.h5", [20])), rtol=1e-6
    )
    assert len(result(landing, "benchmark.h5")["train"]) == 50


def test_a_run_that_was_stopped_goes_on(landing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(embed_activations.h5dask, "ground_truth", stopped)
        assert run(landing) == 130
    out = landing.parent / "out"
    before = (out / "episodes" / "a.h5").stat().st_mtime_ns
    assert not (out / "benchmark.h5").exists()
    assert run(landing) == 0
    assert (out / "episodes" / "a.h5").stat().st_mtime_ns == before
    assert len(result(landing, "benchmark.h5")["train"]) == 50
    assert not list(out.rglob("*.h5dask"))


def test_what_is_wrong_is_not_published(
    landing: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def shifted(*args: Any, **options: Any) -> xr.Dataset:
        ds = truth(*args, **options).load()
        ds.neighbors[2, 0] = ds.neighbors[2, 1]
        return ds

    truth = h5dask.ground_truth
    monkeypatch.setattr(embed_activations.h5dask, "ground_truth", shifted)
    assert run(landing) == 2
    assert "benchmark.h5: 1 of 6 queries wrong" in capsys.readouterr().err
    assert not (landing.parent / "out" / "benchmark.h5").exists()


def test_everything_wrong_in_a_config_is_told(
    landing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {"embed__layer": 3, "embed__layers": "first", "search__metric": "cosine"}
    assert run(landing, **wrong, search__labels="prompt", search__k="3") == 2
    said = capsys.readouterr().err
    for where in ("embed.layer: unknown key", "embed.layers", "search.metric", "search.labels",
                  "search.k"):  # fmt: skip
        assert where in said
    assert "Traceback" not in said
    assert not (landing.parent / "out").exists()


def test_too_few_of_a_label_are_told(landing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = {"search__k": 30, "embed__take": ["base"]}
    assert run(landing, **asked) == 2
    assert "lower k to 22" in capsys.readouterr().err
    assert run(landing, **asked, search__clip_k=True) == 0
    assert result(landing, "benchmark.h5")["neighbors"].shape == (2, 22)


def test_a_plan_runs_nothing(landing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(landing, "--plan", "workers=4,cores=2,memory=8GB") == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("a.h5", "b.h5", "scan", "write", "search"))
    assert "record 56 x layer 1 x hidden 6" in said
    assert not (landing.parent / "out").exists()


def test_the_config_beside_the_pipeline_has_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--example"]) == 0
    written = Path(__file__).parents[2] / "pipelines" / "embed_activations.toml"
    assert written.read_text() == capsys.readouterr().out
