"""Statistics of logits and their comparison, labelled and lazy, against numpy in float64."""

from __future__ import annotations

import warnings
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import h5dask
from h5dask.errors import NotFound, Refused
from h5dask.indexes import Labels
from h5dask.ops.cost import SCRATCH
from h5dask.ops.logits import (
    DIFFERENCES,
    STATISTICS,
    compare_logits,
    logit_statistics,
    logits_cost,
)
from h5dask.testing import example_file

SCENARIO = ["matching_x"] * 6 + ["non_matching_x"] * 6 + ["y"] * 4
BRANCH = [""] * 12 + ["matching"] * 2 + ["nonmatching"] * 2
SAMPLE = [0, 1, 2, 3, 4, 5, 5, 3, 1, 0, 2, 4, 7, 8, 7, 8]


class Counting:
    """An array in a file, which counts how often each of its rows is read."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values, self.shape = values, values.shape
        self.dtype, self.ndim = values.dtype, values.ndim
        self.n_reads = np.zeros(len(values), int)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        self.n_reads[key[0]] += 1
        return self.values[key]


def values(dtype: str = "f4", vocab: int = 30) -> NDArray[Any]:
    return (np.random.default_rng(0).standard_normal((16, vocab)) * 3 + 10).astype(dtype)


def records(logits: Any) -> xr.Dataset:
    """Return logits of 16 records: a pair of scenarios of 6 samples, and one of 2 branches."""
    labels = {"scenario": SCENARIO, "branch": BRANCH, "sample": np.array(SAMPLE, np.int32)}
    coords = xr.Coordinates.from_xindex(Labels("record", labels))
    return xr.Dataset({"logits": (("record", "vocab"), logits)}, coords)


def logs(logits: NDArray[Any]) -> NDArray[np.float64]:
    x = logits.astype(np.float64) - logits.max(-1, keepdims=True).astype(np.float64)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def same(one: xr.Dataset, other: xr.Dataset) -> None:
    xr.testing.assert_identical(one.compute(), other.compute())


chunks = st.lists(st.integers(1, 16), min_size=1, max_size=16)


def cut(lengths: list[int], size: int) -> tuple[int, ...]:
    """Return chunks that begin with these lengths and make up a dim."""
    ends = np.unique(np.minimum(np.cumsum([*lengths, size]), size))
    return tuple(np.diff(ends, prepend=0).tolist())


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_statistics(dtype: str) -> None:
    ds = records(values(dtype))
    found = logit_statistics(ds, tokens=[4, 29, 4], top=3)
    expected = logs(ds.logits.values)
    p = np.exp(expected)
    order = np.argsort(-expected, axis=1, kind="stable")
    assert tuple(found.data_vars) == tuple(STATISTICS)
    largest = ds.logits.values.max(1).astype("f8")
    np.testing.assert_allclose(found.logsumexp, largest - expected.max(1), rtol=1e-13)
    np.testing.assert_allclose(found.entropy, -(p * expected).sum(1), rtol=1e-12)
    assert np.array_equal(found.top_token, order[:, :3])
    np.testing.assert_allclose(found.top_probability, -np.sort(-p)[:, :3], rtol=1e-12)
    np.testing.assert_allclose(found.token_probability, p[:, [4, 29, 4]], rtol=1e-12)
    np.testing.assert_allclose(found.token_logprobability, expected[:, [4, 29, 4]], rtol=1e-12)
    assert np.array_equal(found.token_rank, np.argsort(order, axis=1)[:, [4, 29, 4]])
    assert found.token.values.tolist() == [4, 29, 4]
    assert found.token_rank.dims == ("record", "token")
    kinds = {name: str(one.dtype) for name, one in found.items()}
    assert kinds == {name: np.dtype(kind).name for name, (_, kind, _) in STATISTICS.items()}


def test_labels_stay_and_nothing_is_computed(no_compute: None) -> None:
    ds = records(da.from_array(values(), chunks=(5, 30))).assign_coords(
        letter=("vocab", list("abcdefghij" * 3)), source=("record", list("ab" * 8))
    )
    found = logit_statistics(ds, tokens=[1])
    assert isinstance(found.xindexes["scenario"], Labels)
    assert set(found.coords) == {"scenario", "branch", "sample", "source", "token"}
    assert found.entropy.chunks == ((5, 5, 5, 1),)
    assert found.top_token.chunks == ((5, 5, 5, 1), (5,))
    assert found.sel(scenario="y").sizes["record"] == 4
    assert all(da.Array is type(one.data) for one in found.values())


@settings(max_examples=20)  # each builds and computes four graphs
@given(chunks, chunks)
def test_blocks_change_nothing(rows: list[int], tokens: list[int]) -> None:
    x = values("f2")
    lazy = records(da.from_array(x, chunks=(cut(rows, 16), cut(tokens, 30))))
    same(logit_statistics(lazy, tokens=[3]), logit_statistics(records(x), tokens=[3]))
    same(compare_logits(lazy), compare_logits(records(x)))


def test_a_long_vocabulary_in_float16() -> None:
    x = values("f2", 20_000)
    lazy = records(da.from_array(x, chunks=(3, 7_000)))
    found = logit_statistics(lazy)
    same(found, logit_statistics(records(x)))
    np.testing.assert_allclose(found.logsumexp, x.max(1) - logs(x).max(1), rtol=1e-12)
    same(compare_logits(lazy), compare_logits(records(x)))


def test_each_block_is_read_once() -> None:
    source = Counting(values())
    lazy = da.from_array(source, chunks=(4, 30), name="counted", meta=np.empty((0, 0), "f4"))  # type: ignore[arg-type]
    found = logit_statistics(records(lazy), tokens=[1, 2])
    source.n_reads[:] = 0
    dask.compute(found)
    assert (source.n_reads == 1).all()
    compared = compare_logits(records(lazy))
    source.n_reads[:] = 0
    dask.compute(compared)
    assert (source.n_reads == 1).all()


def test_other_dims() -> None:
    x = values().reshape(2, 8, 30)
    cube = xr.DataArray(x, dims=("a", "b", "vocab"), coords={"a": [5, 6]}, name="logits")
    flat = logit_statistics(cube.stack(record=["a", "b"], create_index=False), tokens=[0])
    for turned in (cube, cube.transpose("a", "vocab", "b").chunk(a=1, b=3)):
        found = logit_statistics(turned, tokens=[0])
        assert found.top_token.dims == ("a", "b", "top")
        assert found.a.values.tolist() == [5, 6]
        for name in found:
            assert np.array_equal(found[name].values.reshape(flat[name].shape), flat[name])
    one = logit_statistics(cube[0, 0].chunk())
    assert one.entropy.dims == ()
    assert one.entropy.compute() == flat.entropy[0]
    assert np.array_equal(one.top_token, flat.top_token[0])


def test_what_is_asked_for() -> None:
    ds = records(values())
    assert set(logit_statistics(ds, top=0)) == {"logsumexp", "entropy"}
    assert logit_statistics(ds, top=99).sizes["top"] == 30
    single = logit_statistics(ds.isel(vocab=[3]))
    assert np.array_equal(single.logsumexp, ds.logits[:, 3])
    assert (single.entropy == 0).all()
    assert (single.top_probability == 1).all()
    empty = logit_statistics(ds.isel(record=[]).chunk(), tokens=[1])
    assert empty.compute().top_token.shape == (0, 5)
    named = logit_statistics(ds.rename(vocab="word").logits, dim="word")
    assert np.array_equal(named.entropy, logit_statistics(ds).entropy)


def test_records_without_probabilities() -> None:
    x = values()
    x[1, 3], x[2, 4], x[3, :] = np.nan, np.inf, -np.inf
    x[4, :29] = -np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = logit_statistics(records(x), tokens=[3, 29])
    for name, (_, kind, _) in STATISTICS.items():
        bad = found[name][1:4].values
        assert (bad == -1).all() if kind is np.int64 else np.isnan(bad).all()
    assert found.token_probability[4].values.tolist() == [0, 1]
    assert found.token_logprobability[4].values.tolist() == [-np.inf, 0]
    assert found.token_rank[4].values.tolist() == [4, 0]
    assert found.entropy[4] < 1e-300


def test_bad_requests() -> None:
    ds = records(values())
    with pytest.raises(
        Refused, match=r"tokens: found 30, -1, 99; expected of 0 to 29, .* 30 tokens"
    ):
        logit_statistics(ds, tokens=[30, 2, -1, 99])
    with pytest.raises(Refused, match=r"tokens: found \['a'\]; expected positions"):
        logit_statistics(ds, tokens=["a"])  # type: ignore[list-item]
    with pytest.raises(Refused, match="top: found -1; expected 0 or more"):
        logit_statistics(ds, top=-1)
    with pytest.raises(
        Refused, match=r"found 2 variables of floats along 'vocab' \(logits, again\)"
    ):
        logit_statistics(ds.assign(again=ds.logits, whole=ds.logits.astype("i4")))
    with pytest.raises(Refused, match=r"found 0 variables of floats along 'word' \(none\)"):
        logit_statistics(ds, dim="word")
    with pytest.raises(Refused, match=r"logits: found int32 of dims .* expected float16, float32"):
        logit_statistics(ds.logits.astype("i4"))
    with pytest.raises(Refused, match="logits: found 0 tokens along 'vocab'"):
        logit_statistics(ds.isel(vocab=[]))
    with pytest.raises(Refused, match=r"found dims or coords \['token'\], which are names"):
        logit_statistics(ds.assign_coords(token=("record", range(16))))
    with pytest.raises(Refused, match=r"found dims .* expected 'record' and 'vocab'"):
        compare_logits(ds.logits.expand_dims("layer"))
    with pytest.raises(NotFound, match="scenario, branch: found coords"):
        compare_logits(ds.logits.drop_vars(["scenario", "branch", "sample"]))
    with pytest.raises(Refused, match="pair 'x': found 6 samples of 'matching_x' and 2 of 'y/mat"):
        compare_logits(ds, {"x": ("matching_x", "y/matching")})


def test_comparing_pairs() -> None:
    ds = records(values())
    found = compare_logits(ds)
    assert tuple(found.data_vars) == tuple(DIFFERENCES)
    assert found.kl.dims == ("pair", "sample")
    assert found["pair"].values.tolist() == ["matching_x", "y"]
    assert found["first"].values.tolist() == ["matching_x", "y/matching"]
    assert found["second"].values.tolist() == ["non_matching_x", "y/nonmatching"]
    assert found["sample"].values.tolist() == [0, 1, 2, 3, 4, 5, 7, 8]
    assert found.kl.count("sample").values.tolist() == [6, 2]
    for pair, sides in (("matching_x", SCENARIO[:12:6]), ("y", ["y", "y"])):
        one = found.sel(pair=pair).dropna("sample")
        where = ({}, {}) if pair != "y" else ({"branch": "matching"}, {"branch": "nonmatching"})
        for at, sample in enumerate(one["sample"].values):
            p, q = (
                logs(ds.logits.sel(scenario=side, sample=sample, **branch).values)[0]
                for side, branch in zip(sides, where, strict=True)
            )
            lm = np.log((np.exp(p) + np.exp(q)) / 2)
            forward, backward = (np.exp(p) * (p - q)).sum(), (np.exp(q) * (q - p)).sum()
            js = (np.exp(p) * (p - lm) + np.exp(q) * (q - lm)).sum() / 2
            expected = [forward, backward, js, p.argmax() == q.argmax()]
            got = [one[name].values[at] for name in DIFFERENCES]
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


def test_comparing_is_lazy_and_keeps_one_block_a_side(no_compute: None) -> None:
    ds = records(da.zeros((16, 30), chunks=(2, 30), dtype="f4"))
    found = compare_logits(ds, [("y/matching", "y/nonmatching"), ("y/nonmatching", "y/matching")])
    assert all(da.Array is type(one.data) for one in found.values())
    assert found["sample"].values.tolist() == [7, 8]
    assert compare_logits(ds).agreement.shape == (2, 8)


def test_records_that_cannot_be_compared() -> None:
    x = values()
    x[0, 3], x[13, 0], x[15, 1] = np.nan, -np.inf, -np.inf
    found = compare_logits(records(x))
    assert np.isnan(found.to_dataarray()[:, 0, 0]).all()
    assert not np.isnan(found.to_dataarray()[:, 0, 1:6]).any()
    last = found.sel(pair="y", sample=8)
    assert (last.kl, last.kl_reverse) == (np.inf, np.inf)
    assert 0 < last.js < np.log(2)


def test_the_example() -> None:
    ds = h5dask.open_dataset(example_file("activations"))
    assert logit_statistics(ds).entropy.notnull().all()
    assert compare_logits(ds).sizes == {"pair": 1, "sample": 2}
    assert (compare_logits(ds, [("base", "base")]).agreement == 1).all()


def test_costs(no_compute: None) -> None:
    ds = records(da.zeros((16, 30), chunks=(4, 15), dtype="f4"))
    cost = logits_cost(ds)
    assert (cost.stage, cost.n_blocks, cost.read, cost.flops) == ("logits", 8, 1920, 19200)
    whole = 16 * 30 * 4  # what was cut is put together: all of it is less than 16 MiB
    assert cost.memory == 4 * 15 * 4 + SCRATCH + whole + SCRATCH
    rows = ds.chunk(vocab=-1)
    assert logits_cost(rows).memory == 4 * 30 * 4 + 2 * SCRATCH
    halves = rows.astype("f2")  # a float32 copy of so short rows
    assert logits_cost(halves).memory == 4 * 30 * 2 * 3 + 2 * SCRATCH
    compared = logits_cost(rows, compared=True)
    assert compared.memory == 2 * (4 * 30 * 4 + SCRATCH) + SCRATCH
    assert (compared.read, compared.flops) == (1920, 3 * 19200)
