"""The verbs that compute on values: what they print, write and return, against numpy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask.testing import assert_same_form, example, example_file
from tests.commands import call

VERBS = ("summarize", "scan", "normalize", "contrast", "logits")


@pytest.fixture
def activations() -> str:
    return example_file("activations")


@pytest.fixture
def bad(tmp_path: Path) -> str:
    """Episodes with NaN in row 1 and zeros in rows 3 and 4."""
    ds = example("episodes").load()
    ds.embeddings[1, 2] = np.nan
    ds.embeddings[3:5] = 0
    h5dask.write_dataset(ds, tmp_path / "bad.h5")
    return str(tmp_path / "bad.h5")


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_there_and_a_missing_file_is_one_line(verb: str, tmp_path: Path) -> None:
    assert "FILE..." in call(verb, "--help").stdout
    out = ("-o", str(tmp_path / "out.h5")) if verb == "normalize" else ()
    told = call(verb, str(tmp_path / "absent.h5"), *out)
    assert told.exit_code == 2
    assert "absent.h5: no such file" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_a_plan_computes_nothing(verb: str, activations: str, tmp_path: Path) -> None:
    more = ("--variable", "logits", "-o", str(tmp_path / "x.h5")) if verb == "normalize" else ()
    told = call(verb, activations, *more, "--plan", "workers=3,cores=2,memory=8GB")
    assert told.exit_code == 0, told.stderr
    assert verb in told.stdout
    assert "3 workers of 2 threads" in told.stdout
    assert not (tmp_path / "x.h5").exists()


def test_summaries_by_group_and_layer(activations: str) -> None:
    told = call("summarize", activations, "--by", "scenario", "--keep", "layer", "--quiet")
    assert told.exit_code == 0
    ds = example("activations").sel(scenario="base")
    mean = ds.activations.sel(layer=3).values.astype("f8").mean()
    row = next(line for line in told.stdout.splitlines() if "base" in line and " 3 " in line)
    assert f"{mean:.4g}" in row.split()


def test_summaries_as_json_and_as_files(activations: str, tmp_path: Path) -> None:
    told = call("summarize", activations, "--variable", "logits", "--json", "--quiet")
    found = json.loads(told.stdout)["variables"]
    values = example("activations").logits.values.astype("f8")
    np.testing.assert_allclose(found["logits_std"]["values"], values.std(), rtol=1e-12)
    for name in ("s.nc", "s.zarr", "s.h5"):
        path = tmp_path / name
        told = call("summarize", activations, "--more", "quantiles", "-o", str(path), "--quiet")
        assert told.stdout.strip() == str(path)
        with opened(path) as ds:
            np.testing.assert_allclose(ds.logits_mean, values.mean(), rtol=1e-12)
            assert ds.logits_quantiles.sizes == {"quantile": 9}
    told = call("summarize", activations, "-o", str(tmp_path / "s.nc"))
    assert told.exit_code == 2
    assert "exists already" in told.stderr
    again = call("summarize", activations, "-o", str(tmp_path / "s.nc"), "--overwrite")
    assert again.exit_code == 0


def opened(path: Path) -> xr.Dataset:
    if path.suffix == ".zarr":
        return xr.open_zarr(path, consolidated=False)
    return xr.open_dataset(path, engine="h5netcdf")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--variable", "prompts"], "prompts: found text; expected numbers"),
        (["--variable", "no"], "variable: found 'no'; expected of activations"),
        (["--by", "no"], "by: found 'no'; expected one of"),
        (["--keep", "no"], "keep: found 'no'; expected of"),
        (["-o", "x.txt"], "a result is written as .nc, .h5, .zarr"),
    ],
)
def test_wrong_summaries_are_one_line(args: list[str], says: str, activations: str) -> None:
    told = call("summarize", activations, "--quiet", *args)
    assert told.exit_code == 2
    assert says in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1


def test_a_scan_tells_rows_and_returns_1(bad: str, activations: str, tmp_path: Path) -> None:
    told = call("scan", bad, "--quiet")
    assert told.exit_code == 1
    assert told.stdout.splitlines() == [
        "embeddings: 1 nan, the first in row 1",
        "embeddings: 2 zero_rows, the first in row 3",
        "episode: 3 of 6 are bad: 1, 3-4",
    ]
    assert call("scan", bad, "--ignore", "nan", "--ignore", "zero_rows").exit_code == 0
    assert call("scan", activations).exit_code == 0
    found = json.loads(call("scan", bad, "--json", "--quiet").stdout)
    assert found["bad_rows"] == {"episode": [1, 3, 4]}
    assert found["variables"]["embeddings"]["nan"] == 1
    assert call("scan", bad, "-o", str(tmp_path / "found.nc")).exit_code == 1
    with opened(tmp_path / "found.nc") as ds:
        assert ds.bad_episode.values.tolist() == [False, True, False, True, True, False]
    told = call("scan", bad, "--ignore", "nan,inf")
    assert told.exit_code == 2
    assert "zero_rows" in told.stderr


def test_a_normalised_file_is_the_same_but_for_one_variable(tmp_path: Path) -> None:
    given, made = example_file("episodes"), tmp_path / "unit.h5"
    told = call("normalize", given, "-o", str(made), "--quiet")
    assert told.exit_code == 0, told.stderr
    assert told.stdout.strip() == str(made)
    assert_same_form(given, str(made))
    values = example("episodes").embeddings.values.astype("f8")
    expected = values / np.linalg.norm(values, axis=1, keepdims=True)
    np.testing.assert_allclose(h5dask.open_dataset(made).embeddings, expected, rtol=1e-6)


def test_statistics_of_one_file_serve_another(tmp_path: Path) -> None:
    given, fitted = example_file("episodes"), tmp_path / "fitted.nc"
    first = call("normalize", given, "--how", "zscore", "--save", str(fitted), "-o",
                 str(tmp_path / "a.h5"), "--quiet")  # fmt: skip
    assert first.exit_code == 0, first.stderr
    again = call("normalize", given, "--how", "zscore", "--fitted", str(fitted), "-o",
                 str(tmp_path / "b.zarr"), "--json", "--quiet")  # fmt: skip
    assert json.loads(again.stdout)["nonfinite_after"] == 0
    one = h5dask.open_dataset(tmp_path / "a.h5").embeddings.values
    np.testing.assert_array_equal(one, opened(tmp_path / "b.zarr").embeddings.values)
    values = example("episodes").embeddings.values.astype("f8")
    np.testing.assert_allclose(one, (values - values.mean(0)) / values.std(0), rtol=1e-5, atol=1e-6)


def test_what_to_normalise_must_be_clear(activations: str, tmp_path: Path) -> None:
    told = call("normalize", activations, "-o", str(tmp_path / "x.h5"))
    assert told.exit_code == 2
    assert "found 2 of vectors (activations, logits)" in told.stderr


def test_contrasts_tell_pairs_and_layers(activations: str, tmp_path: Path) -> None:
    told = call("contrast", activations, "--quiet")
    assert told.exit_code == 0
    ds = example("activations").sel(scenario="matching_few_shot_prefilled")
    sides = [ds.sel(branch=one).activations.values.astype("f8").mean(0) for one in
             ("matching", "nonmatching")]  # fmt: skip
    norms = np.linalg.norm(sides[0] - sides[1], axis=1)
    rows = [line for line in told.stdout.splitlines() if "nonmatching" in line]
    assert [f"{norm:.4g}" in row.split() for norm, row in zip(norms, rows, strict=True)] == [
        True
    ] * 2
    path = tmp_path / "v.nc"
    pair = ("matching_few_shot_prefilled/matching", "base")
    made = call(
        "contrast", activations, "--pair", *pair, "--unpaired", "--layer", "13", "-o", str(path)
    )
    assert made.exit_code == 0, made.stderr
    with opened(path) as found:
        assert found.vector.sizes == {"pair": 1, "layer": 1, "hidden": 16}
        assert found["first"].values.tolist() == [pair[0]]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--layer", "4"], "layers: found 4; expected of 3, 13"),
        (["--pair", "base", "no"], "found 'no'"),
        (["--pair", "base", "matching_few_shot_prefilled/matching"], "which must be the same"),
        (["--variable", "logits"], "found no counterpart|expected"),
    ],
)
def test_wrong_contrasts_are_told(args: list[str], says: str, activations: str) -> None:
    told = call("contrast", activations, "--quiet", *args)
    if args[0] == "--variable":  # a matrix without layers is contrasted as one
        assert told.exit_code == 0
        return
    assert told.exit_code == 2
    assert says in told.stderr
    assert "Traceback" not in told.stderr


def test_logits_are_told_by_group_and_token(activations: str, tmp_path: Path) -> None:
    told = call("logits", activations, "--token", "3", "--top", "2", "--quiet")
    assert told.exit_code == 0
    assert "token_rank" in told.stdout
    assert "top_token" not in told.stdout
    path = tmp_path / "l.zarr"
    assert call("logits", activations, "--token", "3", "-o", str(path)).exit_code == 0
    logits = example("activations").logits.values.astype("f8")
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    found = opened(path)
    np.testing.assert_allclose(found.entropy, -(p * np.log(p)).sum(1), rtol=1e-12)
    np.testing.assert_allclose(found.token_probability[:, 0], p[:, 3], rtol=1e-12)
    compared = call("logits", activations, "--compare", "--json", "--quiet")
    assert set(json.loads(compared.stdout)["variables"]) == {"kl", "kl_reverse", "js", "agreement"}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--token", "99"], "99"),
        (["--pair", "a", "b"], "--pair: goes with --compare"),
        (["--dim", "hidden"], "hidden"),
    ],
)
def test_wrong_logits_are_told(args: list[str], says: str, activations: str) -> None:
    told = call("logits", activations, "--quiet", *args)
    if args[0] == "--dim":  # anything of floats along a dim can be taken for logits
        assert told.exit_code == 0
        return
    assert told.exit_code == 2
    assert says in told.stderr


def test_workers_find_what_threads_find(bad: str) -> None:
    args: tuple[Any, ...] = ("summarize", bad, "--json", "--quiet")
    alone, together = call(*args), call(*args, "--workers", "1")
    assert together.exit_code == 0, together.stderr
    assert json.loads(together.stdout) == json.loads(alone.stdout)
