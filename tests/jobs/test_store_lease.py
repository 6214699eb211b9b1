"""Who works on an output in a store, where it enforces conditions and where it doesn't."""

from __future__ import annotations

import json
import threading
import time
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from h5dask.errors import NotFound, StoreUnavailable
from h5dask.jobs.lease import Held, Lease, Owner, myself
from h5dask.jobs.store_lease import LeaseObject
from h5dask.storage.stores import Head
from h5dask.storage.stores.finding import object_at
from h5dask.storage.stores.trying import Again
from tests.bucket import Bucket
from tests.jobs.test_lease import QUICK, ended_number, said


@dataclass(frozen=True)
class Heedless:
    """An object of a store that takes every put, whatever its condition."""

    there: Any

    @property
    def url(self) -> str:
        return str(self.there.url)

    def head(self) -> Head:
        found: Head = self.there.head()
        return found

    def whole(self, mark: str) -> memoryview:
        found: memoryview = self.there.whole("")
        return found

    def put(
        self, content: bytes | Path, *, absent: bool = False, mark: str = "", token: str = ""
    ) -> str:
        return str(self.there.put(content, token=token))

    def delete(self) -> None:
        self.there.delete()


def looking(url: str) -> Any:
    """Return an object of a filesystem that only looks before it puts."""
    return object_at(f"memory://leases/{uuid.uuid4().hex}")


@pytest.fixture(params=["enforced", "heedless", "looked up"])
def store(request: pytest.FixtureRequest, bucket: Bucket) -> Any:
    """The lease's object in stores of each kind."""
    found = object_at(f"{bucket.url}/out.h5.h5dask.lease", bucket.options)
    kinds = {"enforced": lambda: found, "heedless": lambda: Heedless(found)}
    return kinds.get(request.param, lambda: looking(found.url))()


def lease(store: Any, *, settle: float = 0.1, **options: Any) -> Lease:
    """Return a lease that doesn't take long to expire."""
    return Lease(LeaseObject(store, settle=settle), "out.h5", said, **{**QUICK, **options})


def sign(owner: Owner, n: int, at: float) -> bytes:
    """Return what a lease's object holds."""
    return json.dumps({"owner": asdict(owner), "n": n, "at": at}).encode()


def is_there(store: Any) -> bool:
    """Whether there is a lease at all."""
    try:
        store.head()
    except NotFound:
        return False
    return True


def left_by(store: Any, *, at: float, **changes: Any) -> None:
    """Leave the lease of another owner, whose last sign of life is as old as that."""
    owner = replace(myself(), **changes)
    store.put(sign(owner, 1, at), token=owner.token)


def test_one_holds_it_and_it_is_gone_afterwards(store: Any) -> None:
    with lease(store) as held:
        assert held.holds()
        for _ in range(3):
            with pytest.raises(Held, match=r"out.h5: process \d+ on .* works on it since .*; noth"):
                lease(store).__enter__()
            time.sleep(0.1)
        assert held.holds()
    assert not is_there(store)


def test_whether_conditions_are_enforced_shows(bucket: Bucket) -> None:
    there = object_at(f"{bucket.url}/a.lease", bucket.options)
    for object_, enforced in ((there, True), (Heedless(there), False), (looking(""), False)):
        with lease(object_) as held:
            assert held.enforced is enforced


def test_of_many_at_once_one_works(store: Any) -> None:
    n, together = 6, threading.Barrier(6)
    worked, refused = [], []

    def attempt(number: int) -> None:
        together.wait()
        try:
            with lease(store, beat=1.0, expiry=30.0, settle=1.0):
                worked.append(number)
                until = time.monotonic() + 60
                while len(refused) < n - 1 and time.monotonic() < until:
                    time.sleep(0.01)
        except Held:
            refused.append(number)

    threads = [threading.Thread(target=attempt, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert (len(worked), len(refused)) == (1, n - 1)
    assert not is_there(store)


def test_a_dead_owner_s_lease_is_taken_over_at_once(store: Any) -> None:
    left_by(store, at=time.time(), process=ended_number())
    with lease(store, expiry=1e9) as held:
        assert held.holds()
    assert not is_there(store)


@pytest.mark.parametrize("ago", [3600, -3600])
def test_one_from_elsewhere_expires_by_the_clock_of_whoever_looks(ago: float, store: Any) -> None:
    left_by(store, at=time.time() - ago, place="another machine", host="node7", process=1)
    with lease(store) as held:
        assert held.holds()
    assert not is_there(store)


def test_one_that_was_heard_of_just_now_isn_t_waited_for(store: Any) -> None:
    left_by(store, at=time.time(), place="another machine", host="node7", process=1)
    with pytest.raises(Held, match="process 1 on node7"):
        lease(store, beat=30.0, expiry=1e9).__enter__()


def test_a_holder_whose_clock_is_wrong_is_known_by_its_signs(store: Any) -> None:
    def beat() -> None:
        n = 1
        while not done.wait(0.05):
            n += 1
            owner = replace(elsewhere, since=str(n))
            store.put(sign(owner, n, 0.0))

    done = threading.Event()
    elsewhere = replace(myself(), place="another machine", host="node7", process=1)
    left_by(store, at=0.0, place="another machine", host="node7", process=1)
    heart = threading.Thread(target=beat)
    heart.start()
    try:
        with pytest.raises(Held, match="process 1 on node7"):
            lease(store, expiry=60.0).__enter__()
    finally:
        done.set()
        heart.join()


def test_what_can_t_be_read_must_expire(store: Any) -> None:
    store.put(b"{")
    told: list[str] = []
    with Lease(LeaseObject(store, settle=0.1), "out.h5", told.append, **QUICK) as held:
        assert held.holds()
    assert told == [
        "out.h5: another run has left a lease; waiting for a sign of life, at most 0.4 s"
    ]
    assert not is_there(store)


def test_who_was_cut_off_sees_that_it_is_lost_and_takes_nothing_away(store: Any) -> None:
    with lease(store, beat=1e6) as frozen:
        store.put(bytes(store.whole("")).replace(myself().place.encode(), b"elsewhere"))
        assert not frozen.holds()
        store.put(sign(frozen.owner, 1, 0.0))
        assert frozen.holds()
        left_by(store, at=time.time(), place="another machine")
        frozen.__exit__(None, None, None)
        assert is_there(store)


def test_a_fresh_lease_survives_a_takeover_that_judged_its_predecessor(bucket: Bucket) -> None:
    store = object_at(f"{bucket.url}/a.lease", bucket.options)
    left_by(store, at=time.time(), process=ended_number())
    late, own = LeaseObject(store, settle=0.1), replace(myself(), host="late")
    judged = late.read()
    with lease(store, beat=1e6) as fresh:
        assert not late.take(own, judged)
        assert fresh.holds()


def test_a_sign_of_life_doesn_t_replace_another_s(bucket: Bucket, monkeypatch: Any) -> None:
    store = object_at(f"{bucket.url}/a.lease", bucket.options)
    with lease(store, beat=1e6) as held:
        assert held.place.beat(held.owner)
        real = held.place.read

        def overtaken() -> Any:
            found = real()
            if found.owner == held.owner:
                left_by(store, at=0.0, host="node7")
            return found

        monkeypatch.setattr(held.place, "read", overtaken)
        assert not held.place.beat(held.owner)
        assert json.loads(bytes(store.whole("")))["owner"]["host"] == "node7"


def test_a_reply_that_is_lost_costs_nothing(bucket: Bucket) -> None:
    there = object_at(f"{bucket.url}/a.lease", bucket.options)
    lost = []

    class Forgetful(Heedless):
        def put(self, content: bytes | Path, **options: Any) -> str:
            mark = str(self.there.put(content, **options))
            if len(lost) < 3:
                lost.append(mark)
                raise Again("the answer broke off")
            return mark

    with lease(Forgetful(there), beat=1e6) as held:
        assert held.enforced
        for _ in range(3):
            assert held.place.beat(held.owner)
            assert held.holds()
    assert len(lost) == 3
    assert not is_there(there)


def test_a_store_that_is_gone_in_the_end_hides_no_result(bucket: Bucket, monkeypatch: Any) -> None:
    there = object_at(f"{bucket.url}/a.lease", bucket.options)

    def gone(url: str, attempt: Any) -> Any:
        raise StoreUnavailable(f"{url}: no answer")

    with lease(there, beat=1e6) as held:
        monkeypatch.setattr("h5dask.jobs.store_lease.persistently", gone)
        with pytest.raises(StoreUnavailable, match="no answer"):
            held.holds()
    monkeypatch.undo()
    assert is_there(there)
