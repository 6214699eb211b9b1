"""Recall by ids and by distances, against sets and a plain count; ties, -1 and repeats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import h5dask
from h5dask.errors import Refused
from h5dask.truth.recalling import TOLERANCE, open_sides, recall
from h5dask.vectors.bigann import write_truth

DIMS = ("query", "neighbor")


def made(ids: Any, distances: Any = None, metric: str | None = "euclidean") -> xr.Dataset:
    ds = xr.Dataset({"neighbors": (DIMS, np.asarray(ids))})
    if distances is not None:
        ds["distances"] = (DIMS, np.asarray(distances, "f4"))
    return ds.assign_attrs({} if metric is None else {"distance": metric})


def plain(found: list[int], truth: list[int], k: int) -> float:
    """Return the share of common ids, as sets see it."""
    return len({i for i in found[:k] if i >= 0} & {i for i in truth[:k] if i >= 0}) / k


@st.composite
def sides(draw: st.DrawFn) -> tuple[Any, Any, int]:
    n, widths = draw(st.integers(1, 6)), (draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    found, truth = (
        draw(st.lists(st.lists(st.integers(-2, 9), min_size=w, max_size=w), min_size=n, max_size=n))
        for w in widths
    )
    return found, truth, draw(st.integers(1, min(widths)))


@given(sides())
def test_by_id_is_what_sets_have_in_common(given_sides: tuple[Any, Any, int]) -> None:
    found, truth, k = given_sides
    expected = [plain(*rows, k) for rows in zip(found, truth, strict=True)]
    np.testing.assert_array_equal(recall(made(found), made(truth), k=k).by_id, expected)


def test_unsigned_ids_count_too() -> None:
    one = recall(made(np.array([[4, 2]], "u4")), made(np.array([[2, 9]], "i4")))
    assert one.by_id.values.tolist() == [0.5]


def test_by_distance_ties_are_right_and_no_id_never_is() -> None:
    truth = made([[1, 2, 3]], [[0.5, 1.0, 2.0]])
    for ids, distances, share in (
        ([[1, 2, 9]], [[0.5, 1.0, 2.0]], 1.0),
        ([[1, 2, 9]], [[0.5, 1.0, 2.0 * (1 + 4e-7)]], 1.0),
        ([[1, 2, 9]], [[0.5, 1.0, 2.0 * (1 + 4e-6)]], 2 / 3),
        ([[-1, 2, 9]], [[0.0, 1.0, 2.0]], 2 / 3),
        ([[2, 2, 9]], [[1.0, 1.0, 2.0]], 2 / 3),
        ([[1, 2, 9]], [[0.5, np.nan, 2.0]], 2 / 3),
    ):
        told = recall(made(ids, distances), truth)
        np.testing.assert_allclose(told.by_distance, [share])
    assert told.attrs == {"k": 3, "tolerance": TOLERANCE}


def test_the_tolerance_of_differences_from_one_is_of_one() -> None:
    ids, near = [[1]], 1e-4
    for metric, share in (("angular", 1.0), ("ip", 1.0), ("euclidean", 0.0)):
        sides = (made(ids, [[near + shift]], metric) for shift in (3e-7, 0.0))
        assert recall(*sides).by_distance.values.tolist() == [share]


def test_the_first_k_are_judged_by_the_kth_true_distance() -> None:
    truth = made([[1, 2, 3]], [[0.5, 1.0, 2.0]])
    found = made([[1, 3, 2]], [[0.5, 2.0, 1.0]])
    told = recall(found, truth, k=2)
    assert told.by_id.values.tolist() == [0.5]
    assert told.by_distance.values.tolist() == [0.5]


def test_without_distances_there_is_no_share_by_them() -> None:
    assert list(recall(made([[1]]), made([[1]], [[0.5]]))) == ["by_id"]


def test_arrays_are_ids() -> None:
    ids = np.array([[1, 2, 3], [4, 5, 6]], np.int32)
    truth = made([[1, 2, 9], [4, 5, 6]], [[0.5, 1.0, 2.0]] * 2)
    for one in (ids, da.from_array(ids, (1, 2)), xr.DataArray(ids, dims=("row", "near"))):
        told = recall(one, truth)
        assert list(told) == ["by_id"]
        assert (told.by_id.chunks is not None) == isinstance(one, da.Array)
        np.testing.assert_allclose(told.by_id.values, [2 / 3, 1])
        np.testing.assert_allclose(recall(truth, one).by_id.values, [2 / 3, 1])


@settings(max_examples=30)
@given(
    seed=st.integers(0, 99),
    chunks=st.tuples(*[st.integers(1, 9)] * 2),
    others=st.tuples(*[st.integers(1, 9)] * 2),
)
def test_chunks_change_nothing(seed: int, chunks: tuple[int, int], others: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    found, truth = (made(rng.integers(-1, 9, (7, 5)), rng.random((7, 5))) for _ in range(2))
    lazy = recall(
        found.chunk(query=chunks[0], neighbor=chunks[1]),
        truth.chunk(query=others[0], neighbor=others[1]),
        k=4,
    )
    assert lazy.by_id.chunks is not None
    xr.testing.assert_identical(lazy.compute(), recall(found, truth, k=4))


def test_nothing_is_computed_before_it_is_asked_for(small: Path, no_compute: None) -> None:
    ds = h5dask.open_dataset(small / "ann" / "digits_int8_euclidean_labels.hdf5")
    assert recall(ds, ds).by_distance.chunks is not None


def test_knn_finds_all_that_a_real_file_has(small: Path) -> None:
    ds = h5dask.open_dataset(small / "ann" / "minilm_docstrings_angular_300.hdf5")
    found = h5dask.knn(ds.train, ds.test, k=10, metric="angular")
    told = recall(found, ds)
    assert (told.by_id == 1).all()
    assert (told.by_distance == 1).all()


def test_coords_of_the_found_queries_stay() -> None:
    found = made([[1], [2]]).assign_coords(query=[5, 8])
    assert recall(found, made([[1], [3]]))["query"].values.tolist() == [5, 8]


@pytest.mark.parametrize(
    ("found", "truth", "k", "says"),
    [
        (made([[1]]), made([[1], [2]]), None, "truth: found neighbors of 2 queries; expected 1"),
        (
            made([[1, 2]]),
            made([[1]]),
            None,
            "k: found none, and found has 2 neighbors a query, truth 1; expected one of 1 to 1",
        ),
        (
            made([[1, 2]]),
            made([[1]]),
            2,
            "k: found 2; expected 1 to 1: found has 2 neighbors a query, truth 1",
        ),
        (made([[1]]), made([[1]]), 0, "k: found 0; expected 1 to 1"),
        (made([[1]]), made([[1]], metric="ip"), 1, "truth: found the metric 'ip'; expected 'eucl"),
        (xr.Dataset({"x": 1}), made([[1]]), 1, "found: found x; expected neighbors"),
        (
            "a.npy",
            made([[1]]),
            1,
            r"^found: found 'a\.npy'; expected neighbors; open them: np\.load",
        ),
        (made([[1]]), [[1]], 1, "^truth: found list; expected neighbors, a Dataset or an array of"),
        (
            np.array([1]),
            made([[1]]),
            1,
            "found: found neighbors int64 of dims .*a row for each query",
        ),
        (np.array([[1.0]]), made([[1]]), 1, "found: found neighbors float64 of dims"),
        (made([[1]]), made([[1.5]]), 1, "truth: found neighbors float64 of dims"),
        (
            made([[1]]),
            made([[1]]).assign(distances=("query", [0.5])),
            1,
            r"truth: found distances of shape \(1,\) beside neighbors of \(1, 1\)",
        ),
    ],
)
def test_sides_that_do_not_go_together_are_refused(
    found: Any, truth: Any, k: int | None, says: str
) -> None:
    with pytest.raises(Refused, match=says):
        recall(found, truth, k=k)


def test_big_anns_truth_has_the_metric_of_the_other_file(small: Path, tmp_path: Path) -> None:
    file = small / "ann" / "digits_int8_euclidean_labels.hdf5"
    ds = h5dask.open_dataset(file)
    write_truth(ds, tmp_path / "gt.bin", "euclidean")
    found, truth = open_sides(str(file), str(tmp_path / "gt.bin"))
    assert truth.attrs["distance"] == "euclidean"
    assert (recall(found, truth).by_distance == 1).all()
    both = open_sides(str(tmp_path / "gt.bin"), str(tmp_path / "gt.bin"), "euclidean")
    assert (recall(*both).by_id == 1).all()
    with pytest.raises(Refused, match=r"gt\.bin: found no metric"):
        open_sides(str(tmp_path / "gt.bin"), str(tmp_path / "gt.bin"))
