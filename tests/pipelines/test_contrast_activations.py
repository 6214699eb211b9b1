"""The pipeline of activations, called as its command is, against a few lines of numpy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask.testing import assert_same_form, example
from pipelines.contrast_activations import main

STEPS = ("statistics", "contrasts", "logits", "comparisons", "normalized", "reports")


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    """A folder of one file with a pair of branches, and one without any pair."""
    folder = tmp_path / "landing"
    folder.mkdir()
    ds = example("activations")
    h5dask.write_dataset(ds, folder / "both.h5")
    told = {"scenarios": json.dumps({"base": json.loads(ds.attrs["scenarios"])["base"]})}
    h5dask.write_dataset(ds.sel(scenario="base").assign_attrs(told), folder / "alone.h5")
    return folder


def run(landing: Path, *options: str, lines: str = "") -> int:
    """Write a config and run the pipeline."""
    path = landing.parent / "contrast.toml"
    path.write_text(f'landing = "landing"\noutput = "out"\n{lines}')
    return main([str(path), "--quiet", *options])


def result(landing: Path, name: str) -> xr.Dataset:
    return xr.load_dataset(landing.parent / "out" / name, engine="h5netcdf")


def sides(landing: Path) -> tuple[Any, Any]:
    """Return activations of both branches (record, layer, hidden), read without h5dask."""
    with h5py.File(landing / "both.h5") as file:
        found = {}

        def visit(name: str, one: Any) -> None:
            if isinstance(one, h5py.Dataset) and "activations" in name and one.ndim == 2:
                found[name] = one[:].astype("f8")

        file.visititems(visit)
    parts = [
        np.stack([v for k, v in sorted(found.items(), key=_layer) if f"/{side}/" in k], axis=1)
        for side in ("matching", "nonmatching")
    ]
    return parts[0], parts[1]


def _layer(item: tuple[str, Any]) -> int:
    return int("".join(filter(str.isdigit, item[0].rpartition("/")[2])))


def test_every_step_gives_a_file_an_input(
    landing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(landing) == 0
    out = landing.parent / "out"
    made = {step: {path.name for path in (out / step).glob("[ab]*") if "run" not in path.name}
            for step in STEPS}  # fmt: skip
    assert made["statistics"] == {"both.nc", "alone.nc"}
    assert made["contrasts"] == {"both.nc", "both.npy"}
    assert made["comparisons"] == {"both.nc"}
    assert made["normalized"] == {"both.h5", "alone.h5"}
    assert made["reports"] == {"both.html", "alone.html"}
    told = capsys.readouterr().out.split()
    assert sorted(told) == sorted(str(out / step / name) for step in STEPS for name in made[step])


def test_vectors_are_differences_of_means(landing: Path) -> None:
    assert run(landing) == 0
    first, second = sides(landing)
    expected = first.mean(0) - second.mean(0)
    found = result(landing, "contrasts/both.nc")
    np.testing.assert_allclose(found.vector.values[0], expected, rtol=1e-12)
    plain = np.load(landing.parent / "out" / "contrasts" / "both.npy", allow_pickle=False)
    np.testing.assert_array_equal(plain, found.vector.values)


def test_statistics_are_by_scenario(landing: Path) -> None:
    assert run(landing) == 0
    found = result(landing, "statistics/both.nc")
    values = example("activations").sel(scenario="base").activations.values.astype("f8")
    np.testing.assert_allclose(
        found.sel(scenario="base").activations_mean, values.mean((0, 2)), rtol=1e-12
    )
    assert "logits_std" in found


def test_the_normalised_copy_has_the_layout_and_the_scale(landing: Path) -> None:
    assert run(landing, lines='normalize = "l2"') == 0
    path = landing.parent / "out" / "normalized" / "both.h5"
    assert h5dask.validate(path, values=True) == ()
    assert_same_form(str(landing / "both.h5"), str(path))
    ds = h5dask.open_dataset(path)
    lengths = np.linalg.norm(ds.activations.values.astype("f8"), axis=-1)
    np.testing.assert_allclose(lengths, 1, rtol=2e-3)
    np.testing.assert_array_equal(ds.logits, example("activations").logits)


def test_asked_tokens_and_layers_are_told(landing: Path) -> None:
    lines = "[compare]\nlayers = [13]\npaired = false\n[logits]\ntokens = [7]\ntop = 2"
    assert run(landing, lines=lines) == 0
    assert result(landing, "contrasts/both.nc").layer.values.tolist() == [13]
    logits = result(landing, "logits/both.nc")
    assert logits.token.values.tolist() == [7]
    assert logits.sizes["top"] == 2


def test_only_what_is_new_is_done(landing: Path) -> None:
    assert run(landing) == 0
    path = landing.parent / "out" / "contrasts" / "both.nc"
    before = path.stat().st_mtime_ns
    assert run(landing) == 0
    assert path.stat().st_mtime_ns == before


def test_an_input_that_cannot_be_compared_as_asked_is_set_aside(landing: Path) -> None:
    assert run(landing, lines="[compare]\nlayers = [4]") == 1
    told = json.loads((landing.parent / "out/contrasts/h5dask.run.json").read_text())["inputs"]
    (one,) = [entry for entry in told if entry["what"] == "set aside"]
    assert "layers: found 4; expected of 3, 13" in one["why"]


def test_a_file_of_another_layout_is_set_aside(landing: Path) -> None:
    h5dask.write_dataset(example("ann"), landing / "other.h5")
    (landing / "both.h5").unlink()
    assert run(landing) == 1
    out = landing.parent / "out"
    for step in ("statistics", "logits", "normalized", "reports"):
        told = json.loads((out / step / "h5dask.run.json").read_text())["inputs"]
        assert [one["what"] for one in told] == ["done", "set aside"]
        assert told[1]["why"].startswith(f"{landing / 'other.h5'}: holds none of the datasets")


def test_a_plan_runs_nothing(landing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(landing, "--plan") == 0
    assert "summarize" in capsys.readouterr().out
    assert not (landing.parent / "out").exists()


def test_the_config_beside_the_pipeline_has_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--example"]) == 0
    written = Path(__file__).parents[2] / "pipelines" / "contrast_activations.toml"
    assert written.read_text() == capsys.readouterr().out
