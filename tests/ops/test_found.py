"""Records of what was found against sorting all pairs; what tasks share is never too tight."""

from __future__ import annotations

import pickle
import threading
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5dask.ops.found import NOBODY, Found, Known, Least, Panel, all_of, least_of

N_QUERIES = 3
pairs = st.lists(
    st.tuples(st.integers(0, N_QUERIES - 1), st.sampled_from([-1e300, -0.5, 0.0, 1.0, 1e300])),
    max_size=30,
)
"""Queries and keys, with many ties; ids are places in the list."""
blocks = st.lists(st.integers(0, 3), max_size=30)
"""Which block each pair is found in."""


def recorded(found: list[tuple[int, float, int]], certified: bool = True) -> Found:
    """Return a record of pairs (query, key, id)."""
    listed = sorted(found)
    return Found(
        np.bincount([who for who, _, _ in listed], minlength=N_QUERIES).astype(np.int64),
        np.array([key for _, key, _ in listed], float),
        np.array([at for _, _, at in listed], np.int64),
        np.full(N_QUERIES, certified),
    )


def listed(found: Found) -> list[tuple[int, float, int]]:
    return [
        (int(who), float(key), int(at))
        for who, key, at in zip(found.owners, found.keys, found.ids, strict=True)
    ]


def divided(
    drawn: list[tuple[int, float]], places: list[int]
) -> tuple[list[tuple[int, float, int]], list[Found]]:
    """Return all pairs, and a record of each of four blocks."""
    every = [(who, key, at) for at, (who, key) in enumerate(drawn)]
    places = (places + [0] * len(every))[: len(every)]
    return every, [
        recorded([one for one, place in zip(every, places, strict=True) if place == block])
        for block in range(4)
    ]


@given(pairs, blocks, st.integers(1, 9), st.permutations(range(4)))
def test_the_least_of_blocks_in_any_order(
    drawn: list[tuple[int, float]], places: list[int], k: int, order: list[int]
) -> None:
    every, parts = divided(drawn, places)
    told = [one for who in range(N_QUERIES) for one in sorted(p for p in every if p[0] == who)[:k]]
    found = least_of([parts[i] for i in order], k=k)
    assert listed(found) == told
    step = reduce(lambda one, other: least_of([one, other], k=k), (parts[i] for i in order))
    assert listed(step) == told


@given(pairs, blocks, st.permutations(range(4)))
def test_all_of_blocks_in_any_order(
    drawn: list[tuple[int, float]], places: list[int], order: list[int]
) -> None:
    every, parts = divided(drawn, places)
    assert listed(all_of([parts[i] for i in order])) == sorted(every)


def test_a_query_is_certified_where_all_blocks_say_so() -> None:
    parts = [recorded([], True), recorded([], False)]
    parts[0].certified[1] = False
    for merged in (least_of(parts, k=2), all_of(parts)):
        assert merged.certified.tolist() == [False] * 3
    assert least_of(parts[:1], k=2).certified.tolist() == [True, False, True]
    assert parts[0].certified.tolist() == [True, False, True]


@given(pairs, st.integers(1, 5), st.permutations(range(30)))
def test_pairs_are_taken_in_in_any_order(
    drawn: list[tuple[int, float]], k: int, order: list[int]
) -> None:
    every = [(who, key, at) for at, (who, key) in enumerate(drawn)]
    least = Least.of(N_QUERIES, k)
    for i in (i for i in order if i < len(every)):
        who, key, at = every[i]
        least.add(np.array([who]), np.array([key]), np.array([at]))
    for who in range(N_QUERIES):
        told = sorted((key, at) for one, key, at in every if one == who)[:k]
        fill = [(np.inf, int(NOBODY))] * (k - len(told))
        assert [*zip(least.keys[who], least.ids[who], strict=True)] == told + fill


# What tasks share


@given(pairs, blocks, st.integers(1, 5))
def test_at_least_k_vectors_do_not_exceed_a_bound(
    drawn: list[tuple[int, float]], places: list[int], k: int
) -> None:
    _, parts = divided(drawn, places)
    known = Known(N_QUERIES, k)
    assert np.isposinf(known.bounds()).all()
    for start, part in enumerate(parts):
        known.learn(start, part)
        known.learn(start, part)
        seen = [one for other in parts[: start + 1] for one in listed(other)]
        for who, bound in enumerate(known.bounds()):
            keys = sorted(key for one, key, _ in seen if one == who)
            assert bound == (keys[k - 1] if len(keys) >= k else np.inf)


def test_bounds_are_a_copy() -> None:
    known = Known(N_QUERIES, 1)
    before = known.bounds()
    known.learn(0, recorded([(0, 1.0, 5)]))
    assert np.isposinf(before).all()
    before[:] = -1
    assert known.bounds()[0] == 1.0


def test_threads_learn_together() -> None:
    known = Known(1, 50)
    parts = [
        Found(np.array([20]), np.arange(20.0) * 40 + i, np.arange(20) * 40 + i, np.array([True]))
        for i in range(40)
    ]
    threads = [threading.Thread(target=known.learn, args=each) for each in enumerate(parts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert known.bounds().tolist() == [49.0]


@pytest.mark.parametrize("labels", [None, np.array([1, 2, 1])])
def test_another_process_begins_with_nothing(labels: np.ndarray | None) -> None:
    known = Known(N_QUERIES, 1)
    known.learn(0, recorded([(who, 1.0, who) for who in range(N_QUERIES)]))
    panel = Panel(np.arange(6.0).reshape(3, 2), 5.0, labels, known)
    there = pickle.loads(pickle.dumps(panel))
    assert np.array_equal(there.vectors, panel.vectors)
    assert np.array_equal(there.labels, labels) if labels is not None else there.labels is None
    assert np.isposinf(there.known.bounds()).all()
    there.known.learn(0, recorded([(0, 2.0, 9)]))
    assert there.known.bounds()[0] == 2.0
    assert known.bounds().tolist() == [1.0] * 3


def test_bytes_are_told_as_they_are() -> None:
    found = recorded([(0, 1.0, 5), (2, 1.0, 6)])
    assert found.__sizeof__() == 3 * 8 + 2 * 8 + 2 * 8 + 3
    panel = Panel(np.zeros((3, 10)), 0.0, np.zeros(3, np.int64), Known(3, 4))
    assert panel.__sizeof__() == 3 * 10 * 8 + 3 * 8 + 2 * 3 * 4 * 8
    assert Panel(np.zeros((3, 10)), 0.0, None, None).__sizeof__() == 3 * 10 * 8
    again = pickle.loads(pickle.dumps(found))
    assert listed(again) == listed(found)
