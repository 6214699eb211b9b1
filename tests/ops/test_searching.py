"""One block and a panel against the defined answer: tiles, filters, and data that misleads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from h5dask.ops import searching, tiles
from h5dask.ops.found import Found, Known, Panel
from h5dask.ops.metrics import metric_of
from h5dask.ops.products import FLOAT32, FLOAT64, Filter, Packed, Space
from h5dask.ops.searching import nearest, within
from h5dask.ops.slabs import Part, Slab
from h5dask.ops.strips import Screen, strips
from tests.ops import oracles
from tests.ops.oracles import KINDS, METRICS, NARROW, drawn

BOTH = ("f4", "f8", "f2", "i1", "u1", "?", "i8", ">f4", ">f8")
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module", autouse=True)
def small_tiles() -> Iterator[None]:
    """Let a few vectors fill several tiles."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "SMALL", (48, 32))
        patch.setattr("h5dask.ops.slabs.SLAB", 4096)
        yield


def paneled(query: NDArray[Any], known: Known | None = None) -> Panel:
    wide = query.astype(np.float64)
    return Panel(wide, float(np.abs(wide).max()), None, known)


def searched(
    base: NDArray[Any],
    query: NDArray[Any],
    k: int,
    metric: str,
    *,
    start: int = 0,
    known: Known | None = None,
) -> Found:
    panel = paneled(query, known)
    is_whole = oracles.whole(base, query)
    return nearest(base, None, start, panel, metric=metric_of(metric), k=k, is_whole=is_whole)


def check(base: NDArray[Any], query: NDArray[Any], k: int, metric: str) -> Found:
    """Compare the k nearest of a block with the defined ones, bit for bit."""
    found = searched(base, query, k, metric)
    ids, told = oracles.nearest(base, query, k, metric)
    assert np.array_equal(found.counts, np.full(len(query), k))
    assert np.array_equal(found.ids.reshape(ids.shape), ids)
    is_whole = oracles.whole(base, query)
    assert np.array_equal(metric_of(metric).distances(found.keys, is_whole), told.ravel())
    return found


def sides(
    kinds: tuple[str, str], dtypes: tuple[str, str], seed: int, n: int, n_queries: int, width: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return base and queries; what a dtype can't hold is drawn of another kind."""
    rng = np.random.default_rng(seed)
    wide = [
        kind if dtype.endswith("f8") or kind in NARROW else "normal"
        for kind, dtype in zip(kinds, dtypes, strict=True)
    ]
    base = drawn(wide[0], dtypes[0], rng, (n, width))
    return base, drawn(wide[1], dtypes[1], rng, (n_queries, width))


def apart(kinds: tuple[str, str], metric: str) -> bool:
    """Whether angular vectors would be shorter than it takes to have a direction."""
    return metric != "angular" or not {"small", "tiny"} & {*kinds}


@given(
    st.tuples(st.sampled_from([*KINDS]), st.sampled_from([*KINDS])),
    st.tuples(st.sampled_from(BOTH), st.sampled_from(BOTH)),
    st.sampled_from(METRICS),
    seeds,
    st.integers(1, 300),
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(1, 20),
)
@example(("normal", "far"), ("f8", "f8"), "euclidean", 0, 300, 40, 8, 5)
@example(("large", "tiny"), ("f8", "f8"), "ip", 0, 300, 40, 8, 5)
@example(("tiny", "large"), ("f8", "f8"), "ip", 0, 300, 40, 8, 5)
@settings(max_examples=200)
def test_any_values(
    kinds: tuple[str, str],
    dtypes: tuple[str, str],
    metric: str,
    seed: int,
    n: int,
    n_queries: int,
    width: int,
    k: int,
) -> None:
    if not apart(kinds, metric):
        kinds = "normal", "offset 1e8"
    check(*sides(kinds, dtypes, seed, n, n_queries, width), min(k, n), metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_many_vectors_of_one_kind(kind: str, metric: str) -> None:
    """As many as overflow a query's candidates: several filters, or none, tell them apart."""
    if not apart((kind, kind), metric):
        kind = "one direction"
    check(*sides((kind, kind), ("f8", "f8"), 1, 900, 40, 8), 7, metric)


@pytest.mark.parametrize("ratio", [1e8, 1e12, 1e14, 1e16, 1e30])
@pytest.mark.parametrize("metric", METRICS)
def test_queries_so_far_away_that_keys_are_rounded_to_ties(ratio: float, metric: str) -> None:
    base, query = sides(("normal", "normal"), ("f8", "f8"), 2, 900, 40, 8)
    check(base, query * ratio, 7, metric)
    check(base + ratio, query, 7, metric)
    check(base + ratio, query + ratio, 7, metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-100, 1e-60, 1e60, 1e100])
def test_squares_of_lengths_whose_product_is_no_number(scale: float, metric: str) -> None:
    base, query = sides(("normal", "normal"), ("f8", "f8"), 3, 200, 20, 5)
    check(base * scale, query * scale, 4, metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", [1, 400])
@pytest.mark.parametrize("top", [2**10, 2**24, 2**31, 2**52, 2**62])
def test_whole_numbers_whose_sums_are_rounded(n: int, top: int, metric: str) -> None:
    rng = np.random.default_rng(n)
    query = rng.integers(-top, top, (20, 6))
    for base in (
        rng.integers(-top, top, (n, 6)),
        top + rng.integers(0, 4, (n, 6)),
        np.full((n, 6), top),
    ):
        check(base, query, min(n, 5), metric)
        check(base, top + query // max(top // 4, 1), min(n, 5), metric)


def test_thousands_of_equal_vectors() -> None:
    base = np.tile(np.random.default_rng(0).standard_normal(4), (5000, 1))
    away = np.array([[0], [1], [1e9]])
    found = check(base, base[:3] + away, 10, "euclidean")
    assert found.ids.reshape(3, 10).tolist() == [list(range(10))] * 3


def test_every_vector_of_the_block() -> None:
    base, query = sides(("normal", "normal"), ("f4", "f4"), 4, 150, 5, 3)
    check(base, query, 150, "euclidean")


@pytest.mark.parametrize("n_queries", [31, 32, 33, 255, 256, 257, 512, 700])
def test_tiles_of_any_width(n_queries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of some lie farther apart than they are long."""
    monkeypatch.setattr(tiles, "SMALL", (48, 512))
    base, query = sides(("lattice", "normal"), ("f4", "f4"), n_queries, 150, n_queries, 3)
    check(base, query, 5, "euclidean")
    panel = paneled(query)
    found = within(base, 0, panel, metric=metric_of("euclidean"), radius=1.5, is_whole=False)
    near = np.sqrt(oracles.keys(base, query, "euclidean")) <= 1.5
    assert np.array_equal(found.counts, near.sum(1))


@pytest.mark.parametrize(
    ("order", "looks"),
    [("as drawn", 2), ("near first", 2), ("far first", 2), ("alike", 2), ("misleading", 3)],
)
def test_bounds_that_are_guessed(order: str, looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fourth vector tells, which is made good where it told too much."""
    monkeypatch.setattr("h5dask.ops.slabs.SLAB", 2**20)
    monkeypatch.setattr("h5dask.ops.strips._SPARSE", 4)
    seen = []
    collected = Screen.collected

    def counted(self: Screen, *given: Any) -> Any:
        seen.append(self.which.name)
        return collected(self, *given)

    monkeypatch.setattr(Screen, "collected", counted)
    rng = np.random.default_rng(1)
    base, query = rng.standard_normal((4000, 3)), rng.standard_normal((32, 3)) / 2**10
    by_size = np.argsort(np.square(base).sum(axis=1))
    if order == "near first":
        base = base[by_size]
    elif order == "far first":
        base = base[by_size[::-1]]
    elif order == "alike":
        base[rng.permutation(4000)[:2000]] = base[by_size[0]]
    elif order == "misleading":
        base[::4], base[1::4] = base[by_size[:1000]], base[by_size[-1000:]]
    check(base, query, 300, "euclidean")
    assert seen.count("float32") == looks


@given(st.lists(st.integers(1, 200), min_size=1, max_size=9), st.sampled_from([32, 96, 512]))
def test_strips_hold_every_query_once(sizes: list[int], width: int) -> None:
    ends = np.cumsum(sizes)
    parts = [
        Part(at, at + 1, np.arange(end - size, end))
        for at, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]
    found = list(strips(parts, width))
    for strip in found:
        assert len(strip.queries) <= width
        assert len(strip.queries) % 32 == 0
        for part, columns in strip.columns():
            assert np.array_equal(strip.queries[columns], part.queries)
            assert columns.start % 32 == 0
    there = [part for strip in found for part in strip.parts]
    assert np.array_equal(np.concatenate([part.queries for part in there]), np.arange(ends[-1]))
    assert all(sizes[part.first] >= len(part.queries) for part in there)
    marked = np.concatenate([strip.queries % 3 == 0 for strip in found])
    at = 0
    for strip in found:
        some = strip.only(marked[at : (at := at + len(strip.queries))])
        left = [query for part in some for query in part.queries]
        assert left == [query for part in strip.parts for query in part.queries if query % 3 == 0]


@pytest.mark.parametrize("laid", ["F", "strided", "reversed", "read-only"])
def test_blocks_however_they_lie_in_memory(laid: str) -> None:
    base, query = sides(("normal", "normal"), ("f4", "f8"), 5, 150, 9, 6)
    block = {
        "F": np.asfortranarray(base),
        "strided": np.repeat(base, 2, axis=1)[:, ::2],
        "reversed": np.ascontiguousarray(base[::-1, ::-1])[::-1, ::-1],
        "read-only": np.frombuffer(base.tobytes(), "f4").reshape(base.shape),
    }[laid]
    assert np.array_equal(block, base)
    check(block, query, 5, "euclidean")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["normal", "offset 1e4", "groups"])
def test_the_first_filter_tells_nearly_all_apart(kind: str, metric: str) -> None:
    rng = np.random.default_rng(6)
    made = (4000 + 300, 32)
    if kind == "groups":
        both = 20 * rng.standard_normal((50, 32))[rng.integers(0, 50, made[0])]
        both = both + rng.standard_normal(made)
    else:
        both = KINDS[kind](rng, made)
    both = both.astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("h5dask.ops.slabs.SLAB", 2**24)
        found = check(both[:4000], both[4000:], 10, metric)
    assert found.certified.mean() >= 0.99


# Blocks one after the other


@given(st.sampled_from(NARROW), st.sampled_from(METRICS), seeds, st.permutations(range(6)))
def test_blocks_in_any_order_that_share_what_is_known(
    kind: str, metric: str, seed: int, order: list[int]
) -> None:
    base, query = sides((kind, kind), ("f4", "f4"), seed, 240, 12, 5)
    known = Known(12, 6)
    parts = [
        searched(base[40 * i : 40 * i + 40], query, 6, metric, start=40 * i, known=known)
        for i in order
    ]
    assert all((part.counts <= 6).all() for part in parts)
    ids, _ = oracles.nearest(base, query, 6, metric)
    for row in range(12):
        near = [
            (key, at)
            for part in parts
            for key, at, who in zip(part.keys, part.ids, part.owners, strict=True)
            if who == row
        ]
        assert [at for _, at in sorted(near)[:6]] == ids[row].tolist()


def test_a_block_that_runs_again_is_not_learned_again() -> None:
    base, query = sides(("normal", "normal"), ("f4", "f4"), 7, 80, 5, 3)
    known = Known(5, 10)
    first = searched(base[:40], query, 10, "euclidean", known=known)
    again = searched(base[:40], query, 10, "euclidean", known=known)
    assert np.array_equal(first.ids, again.ids)
    assert np.array_equal(known.bounds(), first.keys.reshape(5, 10)[:, -1])


# Filters


def rounded(
    values: NDArray[Any], order: NDArray[np.int64], space: Space, *, of_base: bool
) -> Packed:
    """Pack float16 values, and beside them what makes their product no less than the true one."""
    x = values[order].astype(np.float64)
    if space.metric.is_unit:
        x /= np.linalg.norm(x, axis=1)[:, None]
    if of_base or space.metric.is_moved:
        x = x - space.centre
    x *= space.scale * (1.0 if of_base else space.query_scale)
    columns = x.shape[1]
    share, lost = 2.0**-9 + columns * 2.0**-20, columns * 2.0**-20 / space.query_scale
    size = np.sqrt((x**2).sum(1)) * 1.01
    half = (x**2).sum(1) / 2 * space.metric.is_moved
    if of_base:
        beside = [share * half - half + lost, share * size]
        slack = [3 * share * size, 3 * (share * half + lost)]
    else:
        beside = [np.full(len(x), space.query_scale), size]
        slack = [size, np.full(len(x), space.query_scale)]
    packed = np.column_stack([x.astype(np.float16), *beside]).astype(np.float32)
    return Packed(values=packed, slack=np.column_stack(slack).astype(np.float32))


COARSE = Filter(
    name="float16",
    dtype=np.dtype(np.float32),
    base=partial(rounded, of_base=True),
    queries=partial(rounded, of_base=False),
    multiply=lambda base, queries, out: np.matmul(base, queries.T, out=out),
    suits=lambda space: not space.is_exact and space.query_scale > 1e-3,
)
"""Rounds a thousand times as much as float32, and says so."""


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", NARROW)
def test_another_filter_takes_the_first_place(
    kind: str, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, query = sides((kind, kind), ("f4", "f4"), 8, 600, 40, 6)
    before = check(base, query, 5, metric)
    for filters in (
        (COARSE, FLOAT32, FLOAT64),
        (COARSE,),
        (FLOAT64,),
        (replace(FLOAT32, name="x"),),
    ):
        monkeypatch.setattr(searching, "FILTERS", filters)
        found = check(base, query, 5, metric)
        if filters[0] is COARSE:
            assert (found.certified <= before.certified).all()


def test_a_coarser_filter_certifies_less(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    base = np.where(rng.random((600, 1)) < 0.5, 10, -10) + 0.2 * rng.standard_normal((600, 6))
    query = base[:40] + 0.1
    before = check(base, query, 5, "euclidean")
    monkeypatch.setattr(searching, "FILTERS", (COARSE, FLOAT32, FLOAT64))
    found = check(base, query, 5, "euclidean")
    assert found.certified.mean() < 0.5
    assert before.certified.mean() > 0.9


@given(
    st.tuples(st.sampled_from([*KINDS]), st.sampled_from([*KINDS])),
    st.sampled_from(METRICS),
    seeds,
    st.integers(1, 12),
)
def test_a_vector_reaches_the_floor_of_its_own_key(
    kinds: tuple[str, str], metric: str, seed: int, width: int
) -> None:
    if not apart(kinds, metric):
        kinds = "one direction", "one direction"
    base, query = sides(kinds, ("f8", "f8"), seed, 30, 10, width)
    rows, panel, most = np.arange(30), paneled(query), float(np.abs(base).max())
    slab = Slab.of(base, rows, rows, panel, most, metric_of(metric), is_whole=False)
    for which in (FLOAT32, FLOAT64):
        if not which.suits(slab.space):
            continue
        packed = which.base(base, np.arange(30), slab.space)
        tile = np.empty((30, 10), which.dtype)
        which.multiply(packed.values, which.queries(query, np.arange(10), slab.space).values, tile)
        told = oracles.keys(base, query, metric)
        for row in range(30):
            assert (tile[row] >= slab.floor(told[:, row], which.dtype)).all()


# All within a radius


@pytest.mark.parametrize("is_whole", [False, True])
@pytest.mark.parametrize("metric", METRICS)
@given(st.floats(0, 1e300), st.integers(-3, 3))
def test_no_key_of_a_distance_is_above_the_one_that_is_told(
    metric: str, is_whole: bool, key: float, near: int
) -> None:
    """Distances are rounded, so several keys have the same."""
    for _ in range(abs(near)):
        key = float(np.nextafter(key, np.copysign(np.inf, near)))
    signs = [1] if metric == "euclidean" else [1, -1]
    for signed in (sign * abs(key) for sign in signs):
        (distance,) = metric_of(metric).distances(np.array([signed]), is_whole)
        assert metric_of(metric).key_within(float(distance), is_whole) >= signed


@given(
    st.tuples(st.sampled_from([*KINDS]), st.sampled_from([*KINDS])),
    st.tuples(st.sampled_from(BOTH), st.sampled_from(BOTH)),
    st.sampled_from(METRICS),
    seeds,
    st.integers(0, 400),
)
def test_all_no_farther_than_one_of_them(
    kinds: tuple[str, str], dtypes: tuple[str, str], metric: str, seed: int, place: int
) -> None:
    if not apart(kinds, metric):
        kinds = "normal", "offset 1e8"
    base, query = sides(kinds, dtypes, seed, 60, 7, 4)
    is_whole = oracles.whole(base, query)
    keys = oracles.keys(base, query, metric)
    distances = oracles.distances(keys, metric, is_whole)
    radius = float(np.sort(distances.ravel())[place % distances.size])
    panel = paneled(query)
    found = within(base, 0, panel, metric=metric_of(metric), radius=radius, is_whole=is_whole)
    near = distances <= radius
    assert np.array_equal(found.counts, near.sum(1))
    order = np.argsort(keys, axis=1, kind="stable")
    told = [at for row in range(7) for at in order[row] if near[row, at]]
    assert found.ids.tolist() == told
    assert np.array_equal(found.keys, keys[found.owners, found.ids])
