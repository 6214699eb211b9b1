"""`contrast` against numpy and scipy: vectors, directions, held-out quality; any blocks."""

from __future__ import annotations

import pickle
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

import h5dask
from h5dask.errors import NotFound, Refused
from h5dask.indexes import Labels
from h5dask.ops.contrasts import contrast, variable_of
from h5dask.results import open_any, write_result
from h5dask.testing import example_file, refuse_to_compute
from tests.sources import Source

DIMS = ("record", "layer", "hidden")
LAYERS = [3, 7, 9]
MOST_DIGITS = 1e-12
Oracle = dict[str, Any]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Start no threads for arrays of a few values."""
    with dask.config.set(scheduler="sync"):
        yield


def coords_of(sides: dict[str, Any]) -> xr.Coordinates:
    """Return labels of records: the samples of "scenario" or "scenario/branch", end to end."""
    rows = [(*name.partition("/"), int(one)) for name, samples in sides.items() for one in samples]
    scenario, _, branch, sample = (np.array(one) for one in zip(*rows, strict=True))
    labels = {"scenario": scenario.astype(object), "branch": branch.astype(object)}
    return xr.Coordinates.from_xindex(Labels("record", {**labels, "sample": sample}))


def labelled(values: Any, sides: dict[str, Any], chunks: Any = None) -> xr.DataArray:
    """Return records (record, layer, hidden) with their labels, lazily where there are chunks."""
    data = values if chunks is None else da.from_array(values, chunks=chunks)
    coords = coords_of(sides)
    x = xr.DataArray(data, dims=DIMS, coords=coords, name="activations")
    return x.assign_coords(layer=LAYERS[: x.sizes["layer"]])


def drawn(
    n: int, width: int, dtype: str = "f8", offset: float = 0.0, seed: int = 0
) -> tuple[NDArray[Any], dict[str, Any]]:
    """Return two scenarios of n samples and three layers, the second in another order."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((2 * n, 3, width)) * np.arange(1, width + 1) + offset
    values[:n] += rng.standard_normal((3, width)) * 2
    sides = {"matching_q": range(10, 10 + n), "non_matching_q": 10 + rng.permutation(n)}
    return values.astype(dtype), sides


def oracle(
    first: Any, second: Any, half: Any, other: Any, *, paired: bool, offset: float = 0.0
) -> Oracle:
    """Return what numpy and scipy say of one layer's records; those not finite are left out."""
    a, b = (one.astype(np.float64) - offset for one in (first, second))
    known = [np.isfinite(one).all(1) for one in (a, b)]
    if paired:
        known = [known[0] & known[1]] * 2
    a, b, half, other = a[known[0]], b[known[1]], half[known[0]], other[known[1]]
    vectors = [a[half == one].mean(0) - b[other == one].mean(0) for one in (0, 1)]
    units = [one / np.linalg.norm(one) for one in vectors]
    found = []
    for one in (0, 1):
        x, y = ((side + offset) @ units[1 - one] for side in (a[half == one], b[other == one]))
        gap, spread = x.mean() - y.mean(), np.sqrt((x.var() + y.var()) / 2)
        found.append((gap / spread, mannwhitneyu(x, y).statistic / x.size / y.size))
    vector = a.mean(0) - b.mean(0)
    told = {
        "vector": vector,
        "norm": np.linalg.norm(vector),
        "reliability": units[0] @ units[1],
        "count": [len(a), len(b)],
        "skipped": [int((~one).sum()) for one in known],
        "dprime": np.mean(found, axis=0)[0],
        "auc": np.mean(found, axis=0)[1],
    }
    if paired:
        top = np.linalg.svd(a - b, full_matrices=False)[2][0]
        told["principal"] = top * np.sign(top @ vector)
    return told


def check(found: xr.Dataset, told: Oracle, error: float = MOST_DIGITS) -> None:
    for name, value in told.items():
        if name in ("count", "skipped"):
            assert found[name].values.tolist() == value, name
            continue
        scale = np.abs(told["vector"]).max() if name == "vector" else 1
        np.testing.assert_allclose(found[name], value, rtol=error, atol=error * scale, err_msg=name)


def sorted_sides(values: Any, sides: dict[str, Any]) -> tuple[Any, Any]:
    """Return the records of two scenarios, the second in the order of the first one's samples."""
    one, other = (np.asarray(list(samples)) for samples in sides.values())
    order = np.argsort(other)[np.argsort(np.argsort(one))]
    return values[: len(one)], values[len(one) :][order]


# What numpy says


@pytest.mark.parametrize(
    ("dtype", "offset", "chunks"),
    [
        *(("f8", 1e4, None), ("f8", 1e4, (7, 3, 20)), ("f4", 1e4, (64, 1, 20))),
        *(("f4", 1e4, (4, 2, 7)), ("f2", 1e3, None), ("f2", 1e3, (300, 3, 6))),
    ],
)
def test_paired_samples_in_another_order(dtype: str, offset: float, chunks: Any) -> None:
    values, sides = drawn(60, 20, dtype, offset)
    values[4, 1, 3] = np.nan
    values[70, 2, 0] = np.inf
    found = contrast(labelled(values, sides, chunks)).compute()
    assert found.pair.values.tolist() == ["matching_q"]
    assert (found["first"].item(), found["second"].item()) == ("matching_q", "non_matching_q")
    first, second = sorted_sides(values, sides)
    half = found.half.values[0, 0]
    assert np.array_equal(half, found.half.values[0, 1])
    for at, layer in enumerate(LAYERS):
        told = oracle(first[:, at], second[:, at], half, half, paired=True, offset=offset)
        check(found.isel(pair=0).sel(layer=layer), told, 1e-10 if dtype == "f8" else 1e-11)


@pytest.mark.parametrize("n", [17, 120])
@pytest.mark.parametrize("width", [40, 100])
def test_fewer_and_more_samples_than_columns(n: int, width: int) -> None:
    values, sides = drawn(n, width, "f4")
    first, second = sorted_sides(values, sides)
    for rows in (5, 2 * n):
        found = contrast(labelled(values, sides, (rows, 3, width))).compute()
        half = found.half.values[0, 0]
        for at in range(3):
            told = oracle(first[:, at], second[:, at], half, half, paired=True)
            check(found.isel(pair=0, layer=at), told)


@pytest.mark.parametrize("chunks", [None, (7, 2, 4)])
def test_unpaired_sides_of_unequal_length(chunks: Any) -> None:
    values, _ = drawn(50, 9, "f4", 1e4)
    values[3, 0, 0] = np.nan
    sides = {"matching_q": range(50), "non_matching_q": range(30)}
    found = contrast(labelled(values[:80], sides, chunks), paired=False).compute()
    assert "principal" not in found
    half, other = found.half.values[0, 0], found.half.values[0, 1, :30]
    assert (found.half.values[0, 1, 30:] == -1).all()
    for at in range(3):
        told = oracle(values[:50, at], values[50:80, at], half, other, paired=False, offset=1e4)
        check(found.isel(pair=0, layer=at), told, 1e-11)
    projection = found.projection.isel(pair=0, side=1, layer=0).values
    assert np.array_equal(np.isnan(projection), np.arange(50) >= 30)


def test_several_pairs_and_the_cosines_between_them() -> None:
    rng = np.random.default_rng(0)
    values = (
        rng.standard_normal((44, 3, 6)) + np.repeat([1, 0, 3, 0], [10, 10, 12, 12])[:, None, None]
    )
    sides = {"matching_q": range(10), "non_matching_q": range(10),
             "fed/matching": range(12), "fed/nonmatching": range(12)}  # fmt: skip
    found = contrast(labelled(values, sides, (5, 3, 6))).compute()
    assert found.pair.values.tolist() == ["matching_q", "fed"]
    assert found["second"].values.tolist() == ["non_matching_q", "fed/nonmatching"]
    told = np.stack([
        values[:10].mean(0) - values[10:20].mean(0), values[20:32].mean(0) - values[32:].mean(0)
    ])  # fmt: skip
    np.testing.assert_allclose(found.vector, told, rtol=1e-13, atol=1e-14)
    units = told / np.linalg.norm(told, axis=-1, keepdims=True)
    np.testing.assert_allclose(
        found.cosine.sel(pair="fed", other_pair="matching_q"), (units[0] * units[1]).sum(-1)
    )
    assert found.cosine.dims == ("layer", "pair", "other_pair")
    np.testing.assert_allclose(found.cosine[:, [0, 1], [0, 1]].values.diagonal(0, 1, 2), 1)
    assert np.isnan(found.projection.sel(pair="matching_q").values[..., 10:]).all()
    assert np.isfinite(found.projection.sel(pair="fed")).all()
    alone = contrast(labelled(values, sides).sel(scenario="fed"))
    for name in ("vector", "principal", "projection", "dprime"):
        assert np.array_equal(alone[name][0], found[name][1])


def test_pairs_as_told() -> None:
    values, sides = drawn(8, 5)
    x = labelled(values, sides)
    told = contrast(x)
    turned = contrast(x, pairs={"back": ("non_matching_q", "matching_q")})
    assert turned.pair.values.tolist() == ["back"]
    np.testing.assert_allclose(turned.vector[0], -told.vector[0], rtol=1e-12)


def test_projections_are_of_the_other_half() -> None:
    values, sides = drawn(16, 5)
    found = contrast(labelled(values, sides))
    first, second = sorted_sides(values, sides)
    half = found.half.values[0, 0]
    halves = [(first - second)[half == one].mean(0)[1] for one in (0, 1)]
    for one in (0, 1):
        unit = halves[1 - one] / np.linalg.norm(halves[1 - one])
        for side, rows in enumerate((first, second)):
            made = found.projection.values[0, 1, side]
            np.testing.assert_allclose(made[half == one], rows[half == one, 1] @ unit, rtol=1e-12)


def test_a_pair_with_a_record_not_finite_is_projected_on_neither_side() -> None:
    values, sides = drawn(12, 4)
    values[5, 1, 2] = np.nan
    x = labelled(values, sides)
    for paired, told in ((True, [[0, 5], [1, 5]]), (False, [[0, 5]])):
        found = contrast(x, paired=paired).projection.isel(pair=0, layer=1).values
        assert np.argwhere(np.isnan(found)).tolist() == told
    assert np.isfinite(contrast(x).projection.isel(layer=[0, 2])).all()


# Layers, dims


def test_layers_that_are_asked_for() -> None:
    values, sides = drawn(6, 4)
    x = labelled(values, sides, (3, 2, 4))
    every = contrast(x).compute()
    for layers in ([9], (9, 3), LAYERS):
        found = contrast(x, layers=layers).compute()
        assert found.layer.values.tolist() == list(layers)
        xr.testing.assert_identical(found, every.sel(layer=list(layers)))


def test_no_layers() -> None:
    values, sides = drawn(6, 4)
    x = labelled(values, sides)
    told = contrast(x, layers=[7])
    for one in (x.sel(layer=7), x.sel(layer=7).transpose(), x.sel(layer=7).chunk(record=4)):
        found = contrast(one).compute()
        assert found.vector.dims == ("pair", "hidden")
        assert found["layer"].item() == 7
        xr.testing.assert_allclose(found, told.isel(layer=0), rtol=1e-13)
    bare = contrast(x.sel(layer=7, drop=True))
    assert "layer" not in bare.variables
    assert "layer" not in bare.dims


def test_dims_of_any_name_and_order() -> None:
    values, sides = drawn(6, 4)
    x = labelled(values, sides)
    told = contrast(x)
    turned = contrast(x.transpose("layer", "record", "hidden"))
    xr.testing.assert_identical(turned, told)
    named = contrast(x.rename(record="row", layer="depth", hidden="unit"), dim="row")
    assert named.vector.dims == ("pair", "depth", "unit")
    assert named.cosine.dims == ("depth", "pair", "other_pair")
    np.testing.assert_array_equal(named.vector, told.vector)
    plain = contrast(x.drop_vars("layer"), layers=[2, 0])
    assert plain.layer.values.tolist() == [2, 0]
    np.testing.assert_array_equal(plain.vector[:, 1], told.vector[:, 0])


def test_coords_of_layers_and_columns_are_kept() -> None:
    values, sides = drawn(6, 4)
    x = labelled(values, sides, 3).assign_coords(
        hidden=list("wxyz"),
        depth=("layer", [0.1, 0.5, 0.9]),
        model="tiny",
        note=("record", range(12)),
    )
    found = contrast(x, layers=[9, 3])
    assert found.sel(hidden="x", layer=3).vector.shape == (1,)
    assert found.depth.values.tolist() == [0.9, 0.1]
    assert found.model.item() == "tiny"
    assert "note" not in found.variables


def test_of_a_dataset_the_only_variable_with_layers() -> None:
    ds = h5dask.open_dataset(example_file("activations"))
    assert variable_of(ds).name == "activations"
    xr.testing.assert_identical(contrast(ds).compute(), contrast(ds.activations).compute())
    assert variable_of(ds, "logits").name == "logits"
    whole = contrast(ds.activations.astype("f8").round().astype("i4"))
    assert np.isfinite(whole.vector).all()


# Few records, and what isn't known


def test_one_sample_has_a_vector_but_nobody_to_judge_it() -> None:
    values, sides = drawn(1, 4)
    found = contrast(labelled(values, sides))
    np.testing.assert_allclose(found.vector[0], values[0] - values[1], rtol=1e-12)
    np.testing.assert_allclose(np.abs(found.cosine), 1)
    for name in ("reliability", "projection", "dprime", "auc"):
        assert np.isnan(found[name]).all(), name


def test_two_samples_have_an_order_but_no_spread() -> None:
    values, sides = drawn(2, 4)
    found = contrast(labelled(values, sides))
    assert np.isfinite(found.projection).all()
    assert np.isin(found.auc, [0, 0.5, 1]).all()
    assert np.isnan(found.dprime).all()


def test_no_difference_has_no_direction() -> None:
    values, sides = drawn(6, 4)
    values[6:] = values[np.asarray(sides["non_matching_q"]) - 10]
    found = contrast(labelled(values, sides, 4)).compute()
    assert not found.vector.values.any()
    assert not found.norm.values.any()
    for name in ("principal", "cosine", "reliability", "projection", "dprime", "auc"):
        assert np.isnan(found[name]).all(), name


def test_a_side_without_a_finite_record_is_nan() -> None:
    values, sides = drawn(6, 4)
    values[:6, 1] = np.nan
    for paired in (True, False):
        found = contrast(labelled(values, sides, 4), paired=paired).compute()
        assert found["count"].values[0, :, 0].tolist() == [6, 0, 6]
        for name in ("vector", "norm", "reliability", "dprime", "auc"):
            assert np.isnan(found[name][0, 1]).all(), name
            assert np.isfinite(found[name][0, [0, 2]]).all(), name


def test_a_scenario_without_its_counterpart_is_named_and_left_out() -> None:
    values, sides = drawn(6, 4)
    x = labelled(np.concatenate([values, values[:6]]), {**sides, "matching_z": range(6)})
    with pytest.warns(
        UserWarning, match="scenario 'matching_z': found no counterpart.*the scenarios"
    ):
        found = contrast(x)
    assert found.pair.values.tolist() == ["matching_q"]


# Blocks, passes


@settings(max_examples=10)
@given(
    st.integers(3, 9), st.integers(1, 9), st.sampled_from(["f2", "f4", "f8"]), st.booleans(),
    st.integers(0, 2**32 - 1), st.data(),
)  # fmt: skip
def test_blocks_never_change_a_result(
    n: int, width: int, dtype: str, paired: bool, seed: int, data: st.DataObject
) -> None:
    values, sides = drawn(n, width, dtype, 20, seed)
    values[np.random.default_rng(seed).random(values.shape) < 0.01] = np.nan
    chunks = tuple(data.draw(st.integers(1, size)) for size in values.shape)
    found, told = (
        contrast(labelled(values, sides, one), paired=paired, seed=seed).compute()
        for one in (chunks, -1)
    )
    xr.testing.assert_identical(found[["count", "skipped"]], told[["count", "skipped"]])
    xr.testing.assert_allclose(
        found[["vector", "norm", "cosine"]], told[["vector", "norm", "cosine"]], atol=1e-12
    )
    # A direction is as sure as it is long: halves nearly alike have none.
    known = ["projection", "reliability"]
    assert all(np.array_equal(np.isnan(found[one]), np.isnan(told[one])) for one in known)
    sure = np.abs(told.reliability) > 0.01
    xr.testing.assert_allclose(found[known].where(sure), told[known].where(sure), rtol=1e-8)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("chunks", [(5, 3, 8), (9, 1, 3), (60, 3, 8)])
def test_values_are_read_once_and_once_more_to_judge(chunks: Any, paired: bool) -> None:
    values, sides = drawn(30, 8, "f4")
    source = Source(values)
    x = source.lazy(chunks, DIMS).assign_coords(coords_of(sides)).assign_coords(layer=LAYERS)
    found = contrast(x, paired=paired)
    assert not source.n_reads.any()
    first = [name for name in found if name not in ("projection", "dprime", "auc")]
    for names, n_reads in ((first, 1), (["projection"], 2), (list(found), 2)):
        source.n_reads[:] = 0
        found[names].compute()
        # A block that two panels need in part may be read for each of them.
        assert (source.n_reads >= 1).all()
        assert source.n_reads.mean() <= n_reads
    source.n_reads[:] = 0
    contrast(x, paired=paired, layers=[7]).vector.compute()
    assert np.array_equal(source.n_reads.any((0, 2)), [False, True, False])


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("rows", [4, 25])
def test_no_block_is_held_from_the_first_pass_to_the_second(rows: int, paired: bool) -> None:
    values, sides = drawn(100, 16, "f4")
    source = Source(values)
    x = source.lazy((10, 3, 16), DIMS).assign_coords(coords_of(sides))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("h5dask.ops.panels.BLOCK_SIZE", rows * 16 * 4)
        found = contrast(x, paired=paired)
    found.compute()
    assert np.all(source.n_reads == 2)


def test_wide_vectors_of_few_samples_need_no_matrix() -> None:
    n, width = 150, 4096
    rng = np.random.default_rng(0)
    values = rng.standard_normal((2 * n, 1, width), np.float32).astype(np.float16)
    sides = {"matching_q": range(n), "non_matching_q": range(n)}
    found = contrast(labelled(values, sides, (60, 1, width)))
    tracemalloc.start()
    (made,) = dask.compute(found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * width**2 / 2
    differences = (values[:n, 0].astype("f8") - values[n:, 0])[:, :200]
    assert np.linalg.norm(made.principal) == pytest.approx(1)
    np.testing.assert_allclose(made.vector[0, 0, :200], differences.mean(0), rtol=1e-12, atol=1e-15)


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    ds = h5dask.open_dataset(example_file("activations"))
    with dask.config.set(scheduler=refuse_to_compute):
        found = [contrast(ds), contrast(ds, paired=False), contrast(ds.activations.sel(layer=3))]
        for one in found:
            assert all(isinstance(values.data, da.Array) for values in one.values())
            with pytest.raises(AssertionError, match="something was computed"):
                one.compute()
    here = contrast(ds.activations.compute())
    assert all(isinstance(values.data, np.ndarray) for values in here.values())
    xr.testing.assert_identical(here, found[0].compute())


def test_schedulers_agree(cluster: distributed.Client) -> None:
    values, sides = drawn(40, 12, "f2")
    made = contrast(labelled(values, sides, (7, 2, 5)))
    told = made.compute(scheduler="sync")
    for scheduler in ("threads", cluster):
        xr.testing.assert_identical(made.compute(scheduler=scheduler), told)
    again = pickle.loads(pickle.dumps(made))
    xr.testing.assert_identical(again.compute(), told)


def test_a_seed_reproduces_and_another_one_divides_otherwise() -> None:
    values, sides = drawn(30, 6)
    x = labelled(values, sides, (7, 3, 6))
    one, same, other = (contrast(x, seed=seed) for seed in (5, 5, 6))
    assert one.dprime.data.name == same.dprime.data.name
    xr.testing.assert_identical(one.compute(), same.compute())
    assert not np.array_equal(one.half, other.half)
    assert not np.array_equal(one.reliability, other.reliability)
    np.testing.assert_allclose(one.norm, other.norm.compute(), rtol=1e-14)
    for found in (one, other):
        assert sorted(found.half.values[0, 0].tolist()) == [0] * 15 + [1] * 15


# Files


def test_real_files(small: Path) -> None:
    path = small / "activations" / "minilm_prefilled_zero_rows_6_samples.h5"
    ds = h5dask.open_dataset(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = contrast(ds).compute()
    assert found.sizes["pair"] >= 1
    for at, names in enumerate(zip(found["first"].values, found["second"].values, strict=True)):
        sides = []
        for name in names:
            scenario, _, branch = str(name).partition("/")
            sides.append(ds.activations.sel(scenario=scenario, branch=branch).values.astype("f8"))
        half = found.half.values[at, 0]
        for layer in range(ds.sizes["layer"]):
            told = oracle(sides[0][:, layer], sides[1][:, layer], half, half, paired=True)
            check(found.isel(pair=at, layer=layer), told, 1e-11)


@pytest.mark.parametrize(
    "name", ["minilm_tree_form_4_samples", "minilm_newer_float32_contiguous_6_samples"]
)
def test_other_real_files(small: Path, name: str) -> None:
    ds = h5dask.open_dataset(small / "activations" / f"{name}.h5")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = contrast(ds, layers=[5], paired=False).compute()
    assert found["layer"].values.tolist() == [5]
    assert np.isfinite(found.norm).all()
    assert (found.norm > 0).all()


@pytest.mark.parametrize("ending", ["nc", "zarr"])
def test_a_result_is_read_as_it_was_written(ending: str, tmp_path: Path) -> None:
    found = contrast(h5dask.open_dataset(example_file("activations")))
    path = str(tmp_path / f"found.{ending}")
    write_result(found, path)
    read = open_any(path).load()
    xr.testing.assert_equal(read, found.compute())
    assert (
        read.sel(pair="matching_few_shot_prefilled", layer=13, side="first").sizes["hidden"] == 16
    )


# What is refused


VALUES, SIDES = drawn(6, 4)
X = labelled(VALUES, SIDES)
DS = X.to_dataset()
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a layer that isn't there": (
        lambda: contrast(X, layers=[3, 4, 99]),
        "layers: found 4, 99; expected of 3, 7, 9",
    ),
    "no layer": (lambda: contrast(X, layers=[]), "layers: found none; expected of 3, 7, 9"),
    "a layer of none": (
        lambda: contrast(X.sel(layer=3), layers=[3]),
        r"layers: found \[3\], but activations has none; leave them out",
    ),
    "no counterpart": (
        lambda: contrast(X.isel(record=slice(6))),
        "scenario 'matching_q': found no counterpart.*are 'matching_q'; name its pair",
    ),
    "no pairs": (
        lambda: contrast(labelled(VALUES, {"a": range(6), "b": range(6)})),
        "pairs: found none by name .*; the scenarios are 'a', 'b'; name them",
    ),
    "an unknown scenario": (
        lambda: contrast(X, pairs=[("matching_q", "z")]),
        "pairs: found 'z'; the scenarios are 'matching_q', 'non_matching_q'",
    ),
    "other samples": (
        lambda: contrast(X.isel(record=slice(2, None))),
        "pair 'matching_q': found 4 samples of 'matching_q' and 6 of .*compare them unpaired",
    ),
    "a sample twice": (
        lambda: contrast(labelled(VALUES, {**SIDES, "matching_q": [10, 10, 11, 12, 13, 14]})),
        "pair 'matching_q': found sample 10 of 'matching_q' more than once",
    ),
    "text": (
        lambda: contrast(X.astype(str).astype(object)),
        "activations: found text; expected numbers",
    ),
    "no records": (
        lambda: contrast(X.rename(record="row")),
        r"activations: found dims \('row', 'layer', 'hidden'\); expected 'record', layers",
    ),
    "too many dims": (lambda: contrast(X.expand_dims("z", 1)), "activations: found dims .*'z'"),
    "vectors of no length": (lambda: contrast(X[:, 0, 0]), "activations: found dims .*expected"),
    "several variables": (
        lambda: contrast(DS.assign(other=DS.activations)),
        r"contrast: found 2 variables .* \(activations, other\); name the one that is meant",
    ),
    "no variable": (
        lambda: contrast(DS.drop_vars("activations").assign(n=("record", range(12)))),
        r"contrast: found 0 variables of numbers along record.*\(none\)",
    ),
    "a layer without its dim": (
        lambda: contrast(DS.isel(layer=1)),
        rf"contrast: found 0 variables .*\(none\); keep the dim: sel\(layer=\[{LAYERS[1]}\]\)$",
    ),
    "an unknown variable": (
        lambda: variable_of(DS, "logits"),
        "contrast: found 'logits'; expected of activations",
    ),
}


@pytest.mark.parametrize(("ask", "text"), REFUSED.values(), ids=REFUSED)
def test_refusals(ask: Callable[[], Any], text: str) -> None:
    with pytest.raises(Refused, match=text):
        ask()


def test_records_without_labels() -> None:
    with pytest.raises(NotFound, match=r"scenario, branch: found coords \[\] along 'record'"):
        contrast(xr.DataArray(VALUES, dims=DIMS))
