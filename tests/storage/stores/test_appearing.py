"""An object appears once, and is known again where the reply is lost; others are kept."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from h5dask.errors import AccessDenied, Conflict, NotFound, StoreUnavailable
from h5dask.storage import publishing
from h5dask.storage.publishing import Published, publish, refuse_existing
from h5dask.storage.stores import Head, appearing
from h5dask.storage.stores.trying import Again

Event = Callable[[], None]


@dataclass
class Store:
    """Objects in memory: contents and tokens by URL, and what shall go wrong."""

    enforces: bool = True
    keeps_tokens: bool = True
    objects: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    lost: int = 0
    """Replies to puts that get lost."""
    silent: int = 0
    """Requests without a reply or an effect."""
    before: dict[int, Event] = field(default_factory=dict)
    """What happens before the n-th put of anything but a probe."""
    after: dict[int, Event] = field(default_factory=dict)
    """What happens after it."""
    puts: int = 0
    probes: int = 0


@dataclass
class Object:
    store: Store
    url: str
    parallel: int = 4
    pins: bool = True

    def head(self) -> Head:
        self._heard()
        if self.url not in self.store.objects:
            raise NotFound(f"{self.url}: no such object")
        content, token = self.store.objects[self.url]
        return Head(nbytes=len(content), mark="1", token=token)

    def put(
        self, content: bytes | Path, *, absent: bool = False, mark: str = "", token: str = ""
    ) -> str:
        store = self.store
        is_probe = ".probe" in self.url
        store.puts += not is_probe
        store.probes += is_probe
        self._heard()
        if not is_probe:
            store.before.pop(store.puts, lambda: None)()
        if absent and store.enforces and self.url in store.objects:
            raise Conflict(f"{self.url}: exists already")
        raw = content if isinstance(content, bytes) else content.read_bytes()
        store.objects[self.url] = raw, token if store.keeps_tokens else ""
        if not is_probe:
            store.after.pop(store.puts, lambda: None)()
        if store.lost and not is_probe:
            store.lost -= 1
            raise Again("the reply was lost")
        return "1"

    def delete(self) -> None:
        self.store.objects.pop(self.url, None)

    def _heard(self) -> None:
        if self.store.silent:
            self.store.silent -= 1
            raise Again("no answer in time")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Store]]:
    def new(**how: Any) -> Store:
        store = Store(**how)
        for module in (publishing, appearing):
            monkeypatch.setattr(module, "object_at", lambda url, _=None: Object(store, url))
        return store

    return new


_COUNT = itertools.count()


@pytest.fixture
def url() -> str:
    """An object in a bucket of its own: what a store does is asked once for each."""
    return f"gs://bucket-{next(_COUNT)}-{uuid.uuid4().hex}/folder/a.h5"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "part"
    path.write_bytes(b"ours")
    return str(path)


def other(store: Store, url: str) -> Event:
    return lambda: store.objects.update({url: (b"theirs", "theirs")})


@pytest.mark.parametrize("enforces", [True, False])
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_lost_reply_is_no_conflict(
    made: Callable[..., Store], enforces: bool, lost: int, url: str, file: str
) -> None:
    store = made(enforces=enforces, lost=lost)
    assert publish(file, url, overwrite=False) == Published(enforced=enforces)
    assert list(store.objects) == [url]
    assert store.objects[url][0] == b"ours"
    assert store.puts == 1
    assert not Path(file).exists()


@pytest.mark.parametrize("enforces", [True, False])
def test_silence_passes(made: Callable[..., Store], enforces: bool, url: str, file: str) -> None:
    store = made(enforces=enforces, silent=3)
    assert publish(file, url, overwrite=False).enforced is enforces
    assert store.objects[url][0] == b"ours"


@pytest.mark.parametrize("enforces", [True, False])
def test_what_is_there_is_kept(
    made: Callable[..., Store], enforces: bool, url: str, file: str
) -> None:
    store = made(enforces=enforces)
    other(store, url)()
    with pytest.raises(Conflict, match=r"a\.h5: exists already"):
        publish(file, url, overwrite=False)
    assert store.objects == {url: (b"theirs", "theirs")}
    assert publish(file, url).enforced is None
    assert store.objects[url][0] == b"ours"


def test_what_appears_at_the_last_moment_is_kept(
    made: Callable[..., Store], url: str, file: str
) -> None:
    store = made()
    store.before[1] = other(store, url)
    with pytest.raises(Conflict, match=r"a\.h5: exists already"):
        publish(file, url, overwrite=False)
    assert store.objects == {url: (b"theirs", "theirs")}


def test_a_lost_reply_is_a_conflict_where_another_came_after(
    made: Callable[..., Store], url: str, file: str
) -> None:
    store = made(lost=1)
    store.after[1] = other(store, url)
    with pytest.raises(Conflict, match=r"a\.h5: exists already"):
        publish(file, url, overwrite=False)
    assert store.objects == {url: (b"theirs", "theirs")}


def test_who_is_replaced_at_the_same_moment_is_told(
    made: Callable[..., Store], url: str, file: str
) -> None:
    store = made(enforces=False)
    store.after[1] = other(store, url)
    with pytest.raises(Conflict, match=r"a\.h5: another writer replaced it at the same moment"):
        publish(file, url, overwrite=False)


def test_a_store_without_tokens_only_looks(made: Callable[..., Store], url: str, file: str) -> None:
    store = made(keeps_tokens=False)
    assert publish(file, url, overwrite=False).enforced is False
    assert store.objects[url] == (b"ours", "")


def test_conditions_are_tried_out_once(
    made: Callable[..., Store], url: str, tmp_path: Path
) -> None:
    store = made()
    for name in "abc":
        (tmp_path / name).write_bytes(b"x")
        publish(str(tmp_path / name), f"{url}.{name}", overwrite=False)
    assert store.probes == 2
    assert sorted(store.objects) == [f"{url}.{name}" for name in "abc"]


def test_where_nothing_may_be_tried_out_it_is_looked_up(
    made: Callable[..., Store], url: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = made()
    put = Object.put

    def only_the_target(self: Object, *args: Any, **how: Any) -> str:
        if ".probe" in self.url:
            raise AccessDenied(f"{self.url}: access denied")
        return put(self, *args, **how)

    monkeypatch.setattr(Object, "put", only_the_target)
    assert publish(file, url, overwrite=False).enforced is False
    assert store.objects[url][0] == b"ours"


def test_a_large_file_is_under_no_condition(
    made: Callable[..., Store], url: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = made()
    monkeypatch.setattr(publishing, "AT_ONCE", 3)
    assert publish(file, url, overwrite=False).enforced is False
    assert store.probes == 0


def test_a_store_that_stays_silent(made: Callable[..., Store], url: str, file: str) -> None:
    made(silent=10**9)
    with pytest.raises(StoreUnavailable, match=r"a\.h5: the store gave no answer"):
        publish(file, url)
    assert Path(file).exists()


def test_targets_are_refused_before_any_work(made: Callable[..., Store], url: str) -> None:
    store = made()
    refuse_existing(url, {}, overwrite=False)
    other(store, url)()
    refuse_existing(url, {}, overwrite=True)
    with pytest.raises(Conflict, match="exists already; choose another name, or allow it"):
        refuse_existing(url, {}, overwrite=False)
