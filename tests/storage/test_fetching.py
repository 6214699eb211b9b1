"""What is asked of a store for what is wanted: few requests, little that nobody wants."""

from __future__ import annotations

import threading
from itertools import pairwise

import dask
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5dask.errors import CorruptInput, InputChanged, Refused, StoreUnavailable
from h5dask.storage import whole
from h5dask.storage.fetching import coalesced, cut, fetched, several
from h5dask.storage.stores.trying import Again, Whole
from tests.storage.fakes import Fake

BYTES = np.random.default_rng(3).integers(0, 256, 100_000, np.uint8).tobytes()
spans = st.lists(
    st.tuples(st.integers(0, 90_000), st.integers(1, 5_000)).map(lambda s: (s[0], s[0] + s[1])),
    min_size=1,
    max_size=30,
)


@given(spans, st.integers(100, 50_000))
def test_all_that_is_wanted_is_asked_for_once_in_order(wanted, most):
    with dask.config.set({"h5dask.store-request": most}):
        asked = coalesced(wanted)
    covered = np.zeros(100_000, bool)
    for start, stop in asked:
        assert 0 < stop - start <= most
        assert not covered[start:stop].any()
        covered[start:stop] = True
    assert all(covered[start:stop].all() for start, stop in wanted)
    assert all(a[1] <= b[0] for a, b in pairwise(asked))
    needed = np.zeros(100_000, bool)
    for start, stop in wanted:
        needed[start:stop] = True
    n_gaps = len(np.flatnonzero(np.diff(needed.astype(int)) == 1))
    assert covered.sum() <= 1.1 * needed.sum() + 4096 * n_gaps


def test_far_ranges_stay_apart():
    assert coalesced([(0, 10), (10**6, 10**6 + 10)]) == [(0, 10), (10**6, 10**6 + 10)]
    wide = [(0, 10**6), (10**6 + 50_000, 2 * 10**6)]
    assert coalesced(wide) == [(0, 2 * 10**6)]
    with dask.config.set({"h5dask.store-gap": 10_000}):
        assert coalesced(wide) == wide


@given(st.integers(0, 100), st.integers(1, 1000), st.integers(1, 1000))
def test_even_parts(start, n, most):
    parts = list(cut(start, start + n, most))
    assert (parts[0][0], parts[-1][1]) == (start, start + n)
    sizes = [b - a for a, b in parts]
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1


@given(spans)
def test_what_is_noted_comes_at_once_and_is_read_then(wanted):
    fake = Fake(BYTES)
    file = fake.opened(gathering=True)
    into = [memoryview(bytearray(stop - start)) for start, stop in wanted]
    for _ in range(2):
        there = [file.read_into(a, part) for (a, _), part in zip(wanted, into, strict=True)]
        if all(there):
            break
        assert file.fetch()
    assert not file.fetch()
    assert [bytes(part) for part in into] == [BYTES[a:b] for a, b in wanted]
    assert fake.asked == coalesced(wanted)


def test_a_second_round_keeps_the_first():
    file = Fake(BYTES).opened(gathering=True)
    first, second = memoryview(bytearray(10)), memoryview(bytearray(10))
    assert not file.read_into(0, first)
    file.fetch()
    assert file.read_into(0, first)
    assert not file.read_into(50_000, second)
    file.fetch()
    assert file.read_into(0, first)
    assert file.read_into(50_000, second)
    assert bytes(first) + bytes(second) == BYTES[:10] + BYTES[50_000:50_010]


def test_without_gathering_a_read_waits():
    into = bytearray(20)
    assert Fake(BYTES).opened().read_into(99_980, memoryview(into))
    assert bytes(into) == BYTES[-20:]


@pytest.mark.parametrize(("offset", "n"), [(99_999, 2), (-1, 1), (10**9, 1)])
def test_no_request_is_made_for_what_isnt_there(offset, n):
    fake = Fake(BYTES)
    with pytest.raises(CorruptInput, match="truncated"):
        fake.opened().read_into(offset, memoryview(bytearray(n)))
    assert not fake.asked


def test_a_changed_object_is_told():
    fake = Fake(BYTES)
    file = fake.opened()
    fake.mark = "m2"
    with pytest.raises(InputChanged, match="changed since"):
        file.read_into(0, memoryview(bytearray(2)))


def test_what_may_pass_is_asked_for_again():
    left = [Again("503"), Again("reset"), Again("short body")]

    def fail(start: int, stop: int) -> None:
        if left:
            raise left.pop()

    fake = Fake(BYTES, before=fail)
    into = bytearray(20)
    fake.opened().read_into(5, memoryview(into))
    assert bytes(into) == BYTES[5:25]
    assert len(fake.asked) == 4


def test_one_failure_ends_all():
    def fail(start: int, stop: int) -> None:
        if start > 50_000:
            raise Again("503 Slow Down")

    file = Fake(BYTES, before=fail).opened()
    settings = {"h5dask.store-request": 1000, "h5dask.store-deadline": "0.2 s"}
    with dask.config.set(settings), pytest.raises(StoreUnavailable, match="503 Slow Down"):
        file.read_into(0, memoryview(bytearray(100_000)))


def test_bytes_under_way_are_bounded():
    most, now, lock = [0], [0], threading.Lock()
    gate = threading.Semaphore(0)

    def count(start: int, stop: int) -> None:
        with lock:
            now[0] += stop - start
            most[0] = max(most[0], now[0])
        gate.acquire(timeout=0.01)
        with lock:
            now[0] -= stop - start

    file = Fake(BYTES, before=count).opened()
    with dask.config.set({"h5dask.store-request": 1000, "h5dask.store-in-flight": 3500}):
        file.read_into(0, memoryview(bytearray(100_000)))
    assert 1000 <= most[0] <= 3500


def test_a_server_without_parts_is_asked_once():
    def whole_only(start: int, stop: int) -> None:
        if (start, stop) != (0, len(BYTES)):
            raise Whole

    fake = Fake(BYTES, url="fake://bucket/whole.h5", before=whole_only)
    with pytest.warns(UserWarning, match="gives no parts"):
        assert fetched(fake.opened(), [(5, 9)])[5] == BYTES[5:9]
    assert fetched(fake.opened(), [(7, 20), (30, 31)])[30] == BYTES[30:31]
    assert fake.asked == [(5, 9), (0, len(BYTES))]
    assert whole.known(fake.url, fake.mark) == BYTES


def test_what_is_too_large_to_be_fetched_whole():
    def whole_only(start: int, stop: int) -> None:
        raise Whole

    fake = Fake(BYTES, url="fake://bucket/large.h5", before=whole_only)
    with (
        dask.config.set({"h5dask.store-whole": 1000}),
        pytest.raises(Refused, match=r"large\.h5: found 100 kB .*store-whole"),
    ):
        fetched(fake.opened(), [(5, 9)])


def test_several_at_once_keep_their_order_and_tell_the_first_error():
    assert several(lambda n: n * 2, range(100)) == list(range(0, 200, 2))
    with pytest.raises(ZeroDivisionError, match="by zero"):
        several(lambda n: 1 / n, [1, 0, 2])
