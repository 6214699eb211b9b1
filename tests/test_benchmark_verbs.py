"""The verbs of benchmarks: what they print, write and return."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import h5dask
from h5dask.results import open_any
from h5dask.testing import example_file
from tests.commands import call


@pytest.fixture
def right(small: Path) -> str:
    return str(small / "ann" / "digits_int8_euclidean_labels.hdf5")


@pytest.fixture
def bad(right: str, tmp_path: Path) -> str:
    """A benchmark with -1 in row 3, and two neighbors of row 5 swapped."""
    file = tmp_path / "bad.h5"
    shutil.copy(right, file)
    with h5py.File(file, "r+") as f:
        f["neighbors"][3, 0] = -1
        f["neighbors"][5, :2] = f["neighbors"][5, :2][::-1]
    return str(file)


def test_a_right_file_is_one_sentence(right: str) -> None:
    told = call("verify", right, "--quiet")
    assert told.exit_code == 0, told.stderr
    assert told.stdout == "All 200 queries right; distances are euclidean\n"
    told = call("verify", right, "--sample", 30, "--seed", 2, "--quiet")
    assert told.stdout == "All 30 sampled queries right; distances are euclidean\n"


def test_a_wrong_file_is_told_with_its_first_differences_and_returns_1(bad: str) -> None:
    told = call("verify", bad, "--quiet")
    assert told.exit_code == 1
    sentence, *table = told.stdout.splitlines()
    assert sentence.startswith("2 of 200 queries wrong: 2 neighbors misplaced, 1 out of range")
    rows = [line.split() for line in table]
    assert ["3", "0", "-1"] in [row[:3] for row in rows]
    assert sum(row[:1] == ["5"] for row in rows) == 2


def test_json_and_results_hold_what_was_found(bad: str, tmp_path: Path) -> None:
    out = tmp_path / "found.nc"
    told = call("verify", bad, "--quiet", "--json", "-o", out)
    assert told.exit_code == 1
    found = json.loads(told.stdout)
    assert found["right"] is False
    assert [(row["query"], row["place"]) for row in found["first"]] == [(3, 0), (5, 0), (5, 1)]
    with open_any(str(out)) as ds:
        assert np.flatnonzero(ds.out_of_range).tolist() == [3]
        assert ds.attrs["convention"] == "euclidean"
    again = call("verify", bad, "--quiet", "-o", out)
    assert again.exit_code == 2
    assert "exists already" in again.stderr


@pytest.mark.filterwarnings("ignore:.*int8 with .euclidean")
def test_a_repaired_file_is_right(bad: str, right: str, tmp_path: Path) -> None:
    out = tmp_path / "good.h5"
    told = call("verify", bad, "--quiet", "--repair", out)
    assert told.exit_code == 1
    assert f"Written: {out}" in told.stderr
    assert call("verify", out, "--quiet").exit_code == 0
    assert h5dask.validate(out, values=True) == ()
    with h5py.File(out) as made, h5py.File(right) as given:
        for name in ("train", "test", "neighbors", "train_labels", "test_labels"):
            np.testing.assert_array_equal(made[name], given[name])
    again = call("verify", bad, "--quiet", "--repair", out)
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    assert call("verify", out, "--quiet", "--repair", out, "--overwrite").exit_code == 0


def test_what_cannot_be_repaired_is_told_all_the_same(right: str, tmp_path: Path) -> None:
    file = tmp_path / "rare.h5"
    shutil.copy(right, file)
    with h5py.File(file, "r+") as f:
        f["test_labels"][3] = 77
    told = call("verify", file, "--quiet", "--repair", tmp_path / "good.h5")
    assert told.exit_code == 2
    assert told.stdout.startswith("1 of 200 queries wrong: 10 neighbors of another label")
    assert "77" in told.stderr
    assert not (tmp_path / "good.h5").exists()


def test_a_plan_computes_nothing(right: str, tmp_path: Path, no_compute: None) -> None:
    figures = "workers=3,cores=2,memory=8GB"
    for verb in (("verify", right, "--repair", tmp_path / "x.h5"), ("recall", right, right)):
        told = call(*verb, "--plan", figures)
        assert told.exit_code == 0, told.stderr
        assert "3 workers of 2 threads" in told.stdout
    assert not (tmp_path / "x.h5").exists()


def test_what_is_no_benchmark_is_one_line(tmp_path: Path) -> None:
    told = call("verify", example_file("episodes"), "--quiet")
    assert told.exit_code == 2
    assert "train: missing" in told.stderr
    told = call("verify", tmp_path / "absent.h5")
    assert told.exit_code == 2
    assert "absent.h5: no such file" in told.stderr
    assert "Traceback" not in told.stderr


def test_recall_is_told_as_sentence_json_and_result(bad: str, right: str, tmp_path: Path) -> None:
    told = call("recall", bad, right, "--quiet")
    assert told.exit_code == 0, told.stderr
    share = r"0\.9995"
    assert re.fullmatch(
        rf"recall@10 {share} of 200 queries, least 0\.90; by distance .*\n", told.stdout
    )
    found = json.loads(call("recall", bad, right, "--quiet", "--json").stdout)
    np.testing.assert_allclose(found["variables"]["by_id_mean"]["values"], 1 - 0.1 / 200)
    out = tmp_path / "recall.nc"
    assert call("recall", bad, right, "--k", 1, "--quiet", "-o", out).exit_code == 0
    with open_any(str(out)) as ds:
        assert np.flatnonzero(ds.by_id < 1).tolist() == [3, 5]
    told = call("recall", bad, right, "--k", 11)
    assert told.exit_code == 2
    assert "k: found 11; expected 1 to 10" in told.stderr


@pytest.mark.parametrize("ending", [".npy", ".ivecs"])
def test_recall_of_the_ids_that_an_index_found(ending: str, right: str, tmp_path: Path) -> None:
    with h5py.File(right) as f:
        ids = f["neighbors"][:].astype("<i4")
    ids[3, :2] = -1
    found = tmp_path / f"found{ending}"
    if ending == ".npy":
        np.save(found, np.asfortranarray(ids))
    else:
        np.c_[np.full(len(ids), ids.shape[1], "<i4"), ids].tofile(found)
    told = call("recall", found, right, "--quiet")
    assert told.stdout == f"recall@10 0.9990 of {len(ids)} queries, least 0.80\n", told.stderr


def test_makes_a_benchmark_of_any_vectors(tmp_path: Path) -> None:
    source, target = example_file("episodes"), tmp_path / "made.h5"
    given = ["--test-size", "2", "--k", "3", "--metric", "angular", "-o", str(target)]
    code, told, _ = _called("ground-truth", source, *given)
    assert (code, told.strip()) == (0, str(target))
    code, told, _ = _called("verify", str(target))
    assert (code, told) == (0, "All 2 queries right; distances are 1 - cos\n")
    code, _, said = _called("ground-truth", source, *given)
    assert code == 2
    assert f"{target}: " in said
    code, told, _ = _called("ground-truth", source, *given, "--overwrite", "--json")
    assert (code, json.loads(told)["certified"]) == (0, 2)


def test_makes_big_anns_truth_of_a_benchmark(tmp_path: Path) -> None:
    source, target = example_file("ann"), tmp_path / "made.bin"
    given = ["--k", "3", "-o", str(target)]
    assert _called("ground-truth", source, *given)[0] == 0
    code, told, _ = _called("recall", str(target), source, "--json")
    assert code == 0
    found = json.loads(told)["variables"]
    assert (found["by_id_mean"]["values"], found["by_distance_mean"]["values"]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "query: found none; give queries, or test_size to take some of the base"),
        (["--test-size", "some"], "found 'some'; expected a number or a share"),
        (["--test-size", "2", "--select", "layer"], "found 'layer'; expected COORD=LABEL"),
        (["--test-size", "2", "--metric", "cosine"], "metric: found 'cosine'; expected one of"),
        (["--test-size", "2", "--base-labels", "nothing"], "no variable 'nothing'; name a .npy"),
    ],
)
def test_what_no_benchmark_is_made_of(given: list[str], message: str, tmp_path: Path) -> None:
    target = tmp_path / "made.h5"
    code, told, said = _called("ground-truth", example_file("episodes"), *given, "-o", str(target))
    assert (code, told) == (2, "")
    assert message in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_plans_a_benchmark(tmp_path: Path) -> None:
    target = str(tmp_path / "made.h5")
    given = ["--test-size", "2", "--plan", "workers=2,cores=2,memory=4GB", "-o", target, "--json"]
    code, told, _ = _called("ground-truth", example_file("episodes"), *given)
    assert code == 0
    assert json.loads(told)["plans"][0]["stages"][0]["products"] > 0
    assert list(tmp_path.iterdir()) == []


def _called(*args: object) -> tuple[int, str, str]:
    told = call(*args)
    return told.exit_code, told.stdout, told.stderr
