"""One battery over every store: all that may be asked of an object in it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import pytest

from h5dask.errors import AccessDenied, Conflict, InputChanged, NotFound
from h5dask.storage.stores import Head, Object
from h5dask.storage.stores.finding import object_at
from h5dask.storage.stores.trying import Whole, persistently
from tests.servers import Endpoint

Result = TypeVar("Result")
BYTES = bytes(range(256)) * 4096
"""1 MiB of which no two neighboring bytes are the same."""


def at(endpoint: Endpoint, name: str) -> Object:
    return object_at(f"{endpoint.url}/{name}", endpoint.options)


def tried(found: Object, attempt: Callable[[], Result]) -> Result:
    """Do as h5dask does: some stores here fail now and then."""
    return persistently(found.url, attempt)


def head(found: Object) -> Head:
    return tried(found, found.head)


def test_state(endpoint: Endpoint, folder: str) -> None:
    endpoint.place(f"{folder}/a.bin", BYTES)
    found = at(endpoint, f"{folder}/a.bin")
    told = head(found)
    assert (told.nbytes, told.ranged) == (len(BYTES), True)
    assert told.mark
    assert head(found).mark == told.mark


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (0, 2**20), (2**20 - 1, 2**20), (77, 300_001), (4096, 8192)]
)
def test_ranges(ranged: Endpoint, folder: str, start: int, stop: int) -> None:
    ranged.place(f"{folder}/a.bin", BYTES)
    found = at(ranged, f"{folder}/a.bin")
    for mark in (head(found).mark, ""):
        part = tried(found, partial(found.get, start, stop, mark))
        assert part == BYTES[start:stop]


def test_no_ranges(unranged: Endpoint, folder: str) -> None:
    unranged.place(f"{folder}/a.bin", BYTES)
    found = at(unranged, f"{folder}/a.bin")
    with pytest.raises(Whole, match=r"^$"):
        tried(found, lambda: found.get(77, 300_001, ""))


def test_all_of_it(endpoint: Endpoint, folder: str) -> None:
    endpoint.place(f"{folder}/a.bin", BYTES)
    found = at(endpoint, f"{folder}/a.bin")
    for mark in (head(found).mark, ""):
        assert tried(found, partial(found.whole, mark)) == BYTES


def test_an_empty_object(endpoint: Endpoint, folder: str) -> None:
    endpoint.place(f"{folder}/a.bin", b"")
    found = at(endpoint, f"{folder}/a.bin")
    assert head(found).nbytes == 0
    assert tried(found, lambda: found.whole("")).nbytes == 0


@pytest.mark.parametrize("name", ["with space.bin", "half+plus%25.bin", "größe.bin", "a#b.bin"])
def test_names_of_all_sorts(endpoint: Endpoint, folder: str, name: str) -> None:
    endpoint.place(f"{folder}/{name}", BYTES[:100])
    quoted = name if not endpoint.url.startswith("http") else quote(name)
    found = at(endpoint, f"{folder}/{quoted}")
    assert tried(found, lambda: found.whole("")) == BYTES[:100]


def _quoted(name: str) -> str:
    return quote(name)


def test_a_changed_object(endpoint: Endpoint, folder: str) -> None:
    endpoint.place(f"{folder}/a.bin", BYTES)
    found = at(endpoint, f"{folder}/a.bin")
    mark = head(found).mark
    endpoint.place(f"{folder}/a.bin", BYTES[:5000][::-1])
    assert head(found).mark != mark
    _refused_or_new(found, mark, found.whole, BYTES[:5000][::-1])


def test_a_range_of_a_changed_object(ranged: Endpoint, folder: str) -> None:
    ranged.place(f"{folder}/a.bin", BYTES)
    found = at(ranged, f"{folder}/a.bin")
    mark = head(found).mark
    ranged.place(f"{folder}/a.bin", BYTES[:5000][::-1])
    _refused_or_new(found, mark, lambda mark: found.get(0, 100, mark), BYTES[4900:5000][::-1])


def _refused_or_new(
    found: Object, mark: str, attempt: Callable[[str], memoryview], new: bytes
) -> None:
    if found.pins:
        with pytest.raises(InputChanged, match=r"a\.bin: changed since it was opened"):
            tried(found, lambda: attempt(mark))
    else:
        with suppress(InputChanged):  # it may see it nevertheless
            assert tried(found, lambda: attempt(mark)) == new


def test_no_such_object(endpoint: Endpoint, folder: str) -> None:
    endpoint.place(f"{folder}/a.bin", BYTES)
    found = at(endpoint, f"{folder}/b.bin")
    for attempt in (found.head, lambda: found.get(0, 10, ""), lambda: found.whole("")):
        with pytest.raises(NotFound, match=rf"{folder}/b\.bin: .*check the path"):
            tried(found, attempt)


def test_no_such_bucket(bucketed: Endpoint) -> None:
    scheme = bucketed.url.partition("://")[0]
    found = object_at(f"{scheme}://nowhere-at-all/a.bin", bucketed.options)
    for attempt in (found.head, lambda: found.get(0, 10, "")):
        with pytest.raises(NotFound, match=r"nowhere-at-all/a\.bin: .*check"):
            tried(found, attempt)


def test_a_stranger(guarded: Endpoint, folder: str) -> None:
    url = guarded.place(f"{folder}/a.bin", BYTES)
    found = object_at(url, guarded.wrong)
    for attempt in (found.head, lambda: found.get(0, 10, ""), lambda: found.put(b"mine")):
        with pytest.raises(AccessDenied, match=r"a\.bin: .*check") as raised:
            tried(found, attempt)
        assert not [secret for secret in guarded.secrets() if secret in str(raised.value)]
    assert guarded.content(f"{folder}/a.bin") == BYTES


def test_put(writable: Endpoint, folder: str, tmp_path: Path) -> None:
    found = at(writable, f"{folder}/a.bin")
    local = tmp_path / "a.bin"
    local.write_bytes(BYTES)
    for content, expected in ((b"", b""), (BYTES[:77], BYTES[:77]), (local, BYTES)):
        mark = tried(found, partial(found.put, content))
        assert writable.content(f"{folder}/a.bin") == expected
        told = head(found)
        assert told.nbytes == len(expected)
        assert mark in ("", told.mark)


def test_put_only_where_nothing_is(enforcing: Endpoint, folder: str) -> None:
    found = at(enforcing, f"{folder}/a.bin")
    tried(found, lambda: found.put(b"first", absent=True))
    with pytest.raises(Conflict, match=r"a\.bin: exists already"):
        tried(found, lambda: found.put(b"second", absent=True))
    assert enforcing.content(f"{folder}/a.bin") == b"first"


def test_put_only_over_what_was_seen(enforcing: Endpoint, folder: str) -> None:
    found = at(enforcing, f"{folder}/a.bin")
    mark = tried(found, lambda: found.put(b"first")) or head(found).mark
    tried(found, lambda: found.put(b"second", mark=mark))
    assert enforcing.content(f"{folder}/a.bin") == b"second"
    with pytest.raises(Conflict, match=r"a\.bin: .*changed by another writer"):
        tried(found, lambda: found.put(b"third", mark=mark))
    assert enforcing.content(f"{folder}/a.bin") == b"second"


def test_put_where_conditions_are_ignored(heedless: Endpoint, folder: str) -> None:
    found = at(heedless, f"{folder}/a.bin")
    tried(found, lambda: found.put(b"first", absent=True))
    mark = head(found).mark
    tried(found, lambda: found.put(b"the second", mark=mark))
    assert heedless.content(f"{folder}/a.bin") == b"the second"
    assert head(found).mark != mark


def test_token(remembering: Endpoint, folder: str) -> None:
    found = at(remembering, f"{folder}/a.bin")
    tried(found, lambda: found.put(b"mine", token="4fd1c0"))
    assert head(found).token == "4fd1c0"
    tried(found, lambda: found.put(b"nobody's"))
    assert head(found).token == ""


def test_delete(writable: Endpoint, folder: str) -> None:
    writable.place(f"{folder}/a.bin", BYTES)
    found = at(writable, f"{folder}/a.bin")
    for _ in range(2):  # nothing happens where there is none
        tried(found, found.delete)
        assert not writable.holds(f"{folder}/a.bin")


def test_names(endpoint: Endpoint, folder: str) -> None:
    names = [f"{folder}/part-{i:02}.bin" for i in range(30)]
    for name in [*names, f"{folder}/other.bin", f"{folder}/part-00.bin.json"]:
        endpoint.place(name, b"x")
    found = at(endpoint, f"{folder}/part-*.bin")
    assert tried(found, found.names) == [f"{endpoint.url}/{name}" for name in names]
    endpoint.place(f"{folder}/part-30.bin", b"x")  # nobody remembers a listing
    assert len(tried(found, found.names)) == 31
    nothing = at(endpoint, f"{folder}/q*.bin")
    assert tried(nothing, nothing.names) == []


def test_ranges_at_once(ranged: Endpoint, folder: str) -> None:
    ranged.place(f"{folder}/a.bin", BYTES)
    found = at(ranged, f"{folder}/a.bin")
    mark, step = head(found).mark, len(BYTES) // 64

    def part(start: int) -> bytes:
        return bytes(tried(found, lambda: found.get(start, start + step, mark)))

    with ThreadPoolExecutor(16) as pool:
        assert b"".join(pool.map(part, range(0, len(BYTES), step))) == BYTES
