"""The pattern pipeline, called as its command is, against a few lines of numpy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask import config
from h5dask.jobs import Job
from h5dask.layouts import episodes
from h5dask.testing import example
from pipelines import clean_episodes
from pipelines.clean_episodes import Config, main

N_ROWS = 40


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    """A folder of two inputs, one of them with everything that is to be cleaned."""
    folder = tmp_path / "landing"
    folder.mkdir()
    h5dask.write_dataset(example("episodes"), folder / "a.h5")
    h5dask.write_dataset(dirty(), folder / "b.h5")
    return folder


def dirty() -> xr.Dataset:
    """Return episodes with NaN, infinity, a row of zeros and an id that is there twice."""
    rng = np.random.default_rng(3)
    values = rng.standard_normal((N_ROWS, 8)).astype("f4") * 100
    values[3, 2], values[5, 0], values[7] = np.nan, -np.inf, 0
    ids = np.array([f"ep{i}" for i in range(N_ROWS)], object)
    ids[11] = "ep10"
    fields = {
        "metadata_success": ("episode", np.arange(N_ROWS) % 2 == 0),
        "metadata_episode_length": ("episode", np.arange(N_ROWS, dtype=np.int32)),
        "metadata_task": ("episode", np.array(["pick", "place"] * (N_ROWS // 2), object)),
        "metadata_gripper_state": ("episode", np.linspace(0, 1, N_ROWS)),
    }
    ds = xr.Dataset({"embeddings": (("episode", "feature"), values), **fields})
    return ds.assign_coords(episode_ids=("episode", ids))


def run(landing: Path, *options: str, **clean: Any) -> int:
    """Write a config and run the pipeline."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in clean.items()]
    text = "\n".join(['landing = "landing"', 'output = "out"', "[clean]", *lines])
    path = landing.parent / "clean.toml"
    path.write_text(text)
    return main([str(path), "--quiet", *options])


def result(landing: Path, name: str = "b.h5") -> xr.Dataset:
    """Open what was made, after its consumer's rules were kept."""
    path = landing.parent / "out" / name
    assert h5dask.validate(path, values=True) == ()
    return h5dask.open_dataset(path).load()


def unit(values: Any) -> Any:
    """Return rows of length 1, in float64."""
    rows = np.asarray(values, "f8")
    return rows / np.sqrt((rows**2).sum(1, keepdims=True))


def test_bad_episodes_are_dropped_and_the_others_have_length_one(landing: Path) -> None:
    assert run(landing) == 0
    made, given = result(landing), dirty()
    kept = [i for i in range(N_ROWS) if i not in (3, 5, 7, 11)]
    assert made.episode_ids.values.tolist() == given.episode_ids.values[kept].tolist()
    expected = unit(given.embeddings.values[kept]).astype("f4")
    np.testing.assert_array_equal(made.embeddings.values, expected)
    for name in ("metadata_success", "metadata_episode_length", "metadata_task"):
        assert made[name].values.tolist() == given[name].values[kept].tolist()
    record = json.loads((landing.parent / "out" / "b.h5.run.json").read_text())
    found = {"nan": 1, "posinf": 0, "neginf": 1, "zero_rows": 1, "duplicates": 1}
    assert record["counts"] == {"read": N_ROWS, "lost": 4, **found}
    assert [stage["name"] for stage in record["stages"]] == ["scan", "write"]
    assert any("NaN" in note for note in record["notes"]) or record["notes"] == []


def test_bad_episodes_are_repaired(landing: Path) -> None:
    assert run(landing, bad="repair") == 0
    made, given = result(landing), dirty()
    kept = [i for i in range(N_ROWS) if i != 7]
    values = np.nan_to_num(given.embeddings.values, nan=0, posinf=0, neginf=0)[kept]
    np.testing.assert_array_equal(made.embeddings.values, unit(values).astype("f4"))
    ids = given.episode_ids.values[kept].tolist()
    ids[ids.index("ep10", ids.index("ep10") + 1)] = "ep10#2"
    assert made.episode_ids.values.tolist() == ids


def test_a_new_id_is_nobody_s(landing: Path) -> None:
    ds = dirty()
    ids = ds.episode_ids.values.copy()
    ids[:4] = ["x", "x#2", "x", "x"]
    h5dask.write_dataset(
        ds.assign_coords(episode_ids=("episode", ids)), landing / "b.h5", overwrite=True
    )
    assert run(landing, bad="repair") == 0
    assert result(landing).episode_ids.values[:4].tolist() == ["x", "x#2", "x#2#2", "x#2#2#2"]


def test_what_is_chosen(landing: Path) -> None:
    assert run(landing, where='success and task == "pick" and episode_length > 20') == 0
    lengths = result(landing).metadata_episode_length.values
    assert lengths.tolist() == [*range(22, N_ROWS, 2)]
    assert not (landing.parent / "out" / "a.h5").exists()  # none of its episodes is chosen
    record = json.loads((landing.parent / "out" / "b.h5.run.json").read_text())
    assert record["counts"]["not_chosen"] == N_ROWS - 9  # with 22, 24, ... 38 they are all


@pytest.mark.parametrize(
    ("where", "chosen"),
    [
        ('task in ["pick"] & episode_length < 9', [0, 2, 4, 6, 8]),
        ('task.str.startswith("pl") and not episode_length > 9\n', [1, 3, 5, 7, 9]),
        ("episode_length.isin([4, 6]) or `episode_length` == 8", [4, 6, 8]),
    ],
)
def test_what_a_condition_may_say(where: str, chosen: list[int], landing: Path) -> None:
    assert run(landing, where=where, bad="repair", normalize=False) == 0
    lengths = result(landing).metadata_episode_length.values.tolist()
    assert lengths == [one for one in chosen if one != 7]  # a row of zeros


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("episode_length", "found int32, expected true or false for each episode, such as"
                           " episode_length == 1"),
        ("True", "found bool, expected true or false for each episode"),
        ("sucess > 3", "name 'sucess' is not defined; the fields are"),
        ("success >", "invalid syntax in 'success >'"),
        ("@os.getpid() > 1", "invalid syntax"),
        ("success.to_csv('@')", "found .to_csv, expected one of .str"),
        ("success.__class__ == 1", "found .__class__, expected one of .str"),
        ("success[0]", "found 'success[0]', expected fields that are compared"),
    ],
)  # fmt: skip
def test_what_is_no_condition_is_set_aside_by_the_input_s_name(
    where: str, said: str, landing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = landing.parent / "written.csv"
    (landing / "a.h5").unlink()
    assert run(landing, where=where.replace("@'", f"{there}'")) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"set aside: {landing / 'b.h5'}: clean.where: ")
    assert said in told
    assert not there.exists()
    assert not (landing.parent / "out" / "b.h5").exists()


@pytest.mark.parametrize(
    ("clean", "said"),
    [
        ({"sample_by": "tsak"}, "clean.sample_by: no field 'tsak'; the fields are"),
        ({"sample": 1.5}, "clean.sample: found 1.5, expected a part from 0 to 1"),
    ],
)
def test_what_is_no_sample(
    clean: dict[str, Any], said: str, landing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(landing, **clean) == 1
    assert said in capsys.readouterr().err


def test_a_sample_is_the_same_for_a_seed_and_keeps_shares(landing: Path) -> None:
    found = []
    for seed in (1, 1, 2):
        assert run(landing, "--force", sample=0.5, sample_by="task", seed=seed) == 0
        found.append(result(landing))
        assert [(found[-1].metadata_task == task).sum() for task in ("pick", "place")] > [6, 6]
    assert found[0].identical(found[1])
    assert not found[0].identical(found[2])
    assert (np.diff(found[0].metadata_episode_length) > 0).all()


def test_types_fields_and_lengths_as_asked(landing: Path) -> None:
    assert run(landing, dtype="float64", drop=["success", "task"], normalize=False) == 0
    made, given = result(landing), dirty()
    assert made.embeddings.dtype == np.float64
    assert not {"metadata_success", "metadata_task"} & set(made)
    kept = [i for i in range(N_ROWS) if i not in (3, 5, 7, 11)]
    np.testing.assert_array_equal(made.embeddings.values, given.embeddings.values[kept])


def test_inputs_are_merged_under_their_data_sets(landing: Path) -> None:
    ds = dirty()
    told = np.array(["droid", ""] * (N_ROWS // 2), object)
    h5dask.write_dataset(
        ds.assign(metadata_dataset=("episode", told)), landing / "b.h5", overwrite=True
    )
    assert run(landing, merge="all") == 0
    made = result(landing, "all.h5")
    names, ids = made.metadata_dataset.values, made.episode_ids.values
    assert [*dict.fromkeys(names)] == ["a", "droid", "b"]
    assert all(one.startswith(f"{name}/") for one, name in zip(ids, names, strict=True))
    assert made.sizes["episode"] == 6 + N_ROWS - 4
    assert "source" not in made.coords


def test_files_of_the_consumer_s_size(landing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes, "MAX_EPISODES", 10)
    assert run(landing) == 0
    out = landing.parent / "out"
    names = sorted(path.name for path in out.glob("*.h5"))
    assert names == ["a.h5", *(f"b-000{n}.h5" for n in (1, 2, 3, 4))]
    whole = h5dask.open_dataset(out / "b-*.h5")
    assert whole.sizes["episode"] == N_ROWS - 4
    for name in names:
        assert h5dask.validate(out / name, values=True) == ()


def test_a_bad_input_is_set_aside_and_told(
    landing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (landing / "c.h5").write_bytes((landing / "b.h5").read_bytes()[:500])
    config_file = landing.parent / "clean.toml"
    assert run(landing) == 1
    assert main([str(config_file)]) == 1
    said = capsys.readouterr().err
    assert "set aside" in said
    assert "c.h5" in said
    assert "Traceback" not in said
    assert not (landing.parent / "out" / "c.h5").exists()
    assert run(landing, "--strict") == 2


def test_a_file_of_another_layout_is_set_aside(
    landing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with h5py.File(landing / "c.h5", "w") as file:
        file["train"] = np.zeros((3, 2), "f4")
    assert run(landing) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith(f"set aside: {landing / 'c.h5'}: ")
    assert (landing.parent / "out" / "report.html").exists()


def test_files_that_do_not_join_are_cleaned_without_a_report(
    landing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    h5dask.write_dataset(dirty().drop_vars("metadata_task"), landing / "c.h5")
    (landing / "a.h5").unlink()
    out = landing.parent / "out"
    for _ in range(2):
        assert run(landing) == 1
        (told,) = capsys.readouterr().err.splitlines()
        assert told == (
            "set aside: report.html: 2 files can't be drawn together: task is in "
            f'{out / "b.h5"} and not in {out / "c.h5"}; leave it out: clean.drop = ["task"]'
        )
    assert sorted(path.name for path in out.glob("*.h5")) == ["b.h5", "c.h5"]
    assert not (out / "report.html").exists()
    assert run(landing, "--strict") == 2
    assert run(landing, merge="all.h5") == 2
    assert 'leave it out: clean.drop = ["task"]' in capsys.readouterr().err
    assert run(landing, merge="all.h5", drop=["task"]) == 0
    assert result(landing, "all.h5").sizes["episode"] == 2 * (N_ROWS - 4)


def test_what_was_left_out_is_told(landing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (landing.parent / "clean.toml").write_text(
        'landing = "landing"\noutput = "out"\n[clean]\nwhere = "task == \'pick\'"'
    )
    (landing / "a.h5").unlink()
    assert main([str(landing.parent / "clean.toml")]) == 0
    told = capsys.readouterr().err.splitlines()
    # 3, 5, 7 and 11 are bad, and have another task.
    assert told == [f"b.h5: {N_ROWS // 2} not chosen, {N_ROWS // 2} read", "2 done"]


def test_a_folder_without_files_is_nothing_to_do(
    landing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in landing.iterdir():
        path.unlink()
    for options in ([], ["--plan"], ["--log-json"]):
        assert run(landing) == 0
        assert main([str(landing.parent / "clean.toml"), *options]) == 0
        told = capsys.readouterr()
        assert f"nothing to do: no *.h5 in {landing}" in told.err
        assert told.out == ""
    landing.rmdir()
    assert run(landing) == 2


def test_only_what_is_new_is_done(landing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(landing) == 0
    h5dask.write_dataset(example("episodes", 5), landing / "c.h5")
    path = landing.parent / "clean.toml"
    capsys.readouterr()
    assert main([str(path)]) == 0
    said = capsys.readouterr()
    assert "2 current, 2 done" in said.err  # of the files one, and the report
    assert [os.path.basename(line) for line in said.out.split()] == [
        "a.h5", "b.h5", "c.h5", "report.html"
    ]  # fmt: skip


def test_a_plan_runs_nothing(landing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(landing, "--plan", "workers=4,cores=2,memory=8GB") == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("a.h5", "b.h5", "episodes", "scan", "write"))
    assert not (landing.parent / "out").exists()


@pytest.mark.filterwarnings("always:set aside:UserWarning")
def test_a_plan_tells_what_would_be_set_aside(
    landing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (landing / "c.h5").write_text("no HDF5")
    h5dask.write_dataset(dirty().isel(feature=slice(4)), landing / "d.h5")
    assert run(landing, "--plan", "workers=4,cores=2,memory=8GB") == 0
    said = capsys.readouterr()
    assert said.err.startswith(f"Warning: set aside: {landing / 'c.h5'}: ")
    assert said.err.count("\n") == 1
    for name in ("a.h5", "b.h5", "d.h5"):  # which don't join
        assert name in said.out
    assert not (landing.parent / "out").exists()


def test_errors_are_lines_of_json_too(landing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(landing, "--log-json", wehre="x") == 2
    (told,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert told["event"] == "error"
    assert "wehre" in told["text"]


@pytest.mark.filterwarnings("always:that embeddings are strange:UserWarning")
def test_warnings_are_lines_of_json_too(
    landing: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def drawn(job: Job) -> None:
        warnings.warn("that embeddings are strange", UserWarning, stacklevel=1)
        Path(job.part()).write_text("a page", encoding="utf-8")

    assert run(landing, merge="all.h5") == 0
    monkeypatch.setattr(clean_episodes, "drawn", drawn)
    assert main([str(landing.parent / "clean.toml"), "--log-json", "--force"]) == 0
    told = map(json.loads, capsys.readouterr().err.splitlines())
    (warned,) = (one for one in told if one["event"] == "warning")
    assert warned["text"] == "Warning: that embeddings are strange"
    assert warned["output"] == str(landing.parent / "out" / "report.html")


def test_the_example_is_a_config(landing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--example"]) == 0
    text = capsys.readouterr().out
    path = landing.parent / "example.toml"
    path.write_text('landing = "landing"\noutput = "out"\n' + text)
    assert config.load(path, Config) == Config(
        landing=str(landing), output=str(landing.parent / "out")
    )


@pytest.mark.parametrize(
    ("clean", "said"),
    [({"bad": "keep"}, "clean.bad"), ({"wehre": "x"}, "where"), ({"seed": "1"}, "clean.seed")],
)
def test_a_wrong_config_is_told_in_lines(
    clean: dict[str, Any], said: str, landing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(landing, **clean) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told
    assert not (landing.parent / "out").exists()


def test_a_missing_config_is_told_by_the_command_s_name() -> None:
    command = [sys.executable, "-m", "pipelines.clean_episodes"]
    root = Path(__file__).parents[2]
    said = subprocess.run(
        command, check=False, cwd=root, capture_output=True, text=True, timeout=120
    )
    assert said.returncode == 2
    assert "Usage: python -m pipelines.clean_episodes [OPTIONS] CONFIG" in said.stderr
    assert "Missing argument 'CONFIG'; --example writes one" in said.stderr
    assert said.stdout == ""


def test_a_wrong_condition_names_the_fields(
    landing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(landing, where="sucess > 3", merge="all.h5") == 1
    summary = json.loads((landing.parent / "out" / "parts" / "h5dask.run.json").read_text())
    assert all("the fields are" in one["why"] for one in summary["inputs"])


def test_the_config_beside_the_pipeline_has_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--example"])
    text = capsys.readouterr().out
    written = Path(__file__).parents[2] / "pipelines" / "clean_episodes.toml"
    keys = {line.lstrip("# ").partition(" = ")[0] for line in text.splitlines() if " = " in line}
    assert all(f"{key} = " in written.read_text() for key in keys)
