"""Objects behind web servers, good and bad."""

import gzip
import hashlib
import socket
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import dask
import pytest

from h5dask.errors import (
    AccessDenied,
    H5daskError,
    InputChanged,
    NotFound,
    Refused,
    StoreUnavailable,
)
from h5dask.storage.stores import Head
from h5dask.storage.stores.finding import object_at
from h5dask.storage.stores.trying import Again, Whole, persistently
from tests.storage.stores.serving import Answer, Asked, ranged, serving

CONTENT = bytes(range(256)) * 8
ETAG = {"ETag": '"one"'}
DATED = {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
Answering = Callable[[Asked], Answer]


def good(marks: dict[str, str] = ETAG) -> Answering:
    return lambda asked: ranged(CONTENT, asked, marks)


@pytest.mark.parametrize(
    ("marks", "mark"),
    [
        (ETAG, '"one"'),
        ({"ETag": 'W/"one"'}, 'W/"one"'),
        (DATED, f"{DATED['Last-Modified']}; 2048"),
        ({}, ""),
    ],
)
def test_reading(marks: dict[str, str], mark: str) -> None:
    with serving(good(marks)) as served:
        found = object_at(f"{served.url}/a.h5")
        assert found.head() == Head(nbytes=2048, mark=mark)
        assert found.get(10, 300, mark) == CONTENT[10:300]
        assert found.get(2040, 9999, mark) == CONTENT[2040:]
        assert found.whole(mark) == CONTENT
    assert {one.headers["Accept-Encoding"] for one in served.asked} == {"identity"}
    assert served.asked[1].headers["Range"] == "bytes=10-299"
    assert served.asked[1].headers["If-Match"] == (mark if mark.startswith('"') else None)


def test_options_go_with_each_request() -> None:
    options = {
        "headers": {"X-One": "1"},
        "client_kwargs": {"headers": {"X-Two": "2"}},
        "block_size": 5,
    }
    with serving(good()) as served:
        object_at(f"{served.url}/a.h5?signed=yes", options).head()
    (one,) = served.asked
    assert (one.headers["X-One"], one.headers["X-Two"]) == ("1", "2")
    assert one.path == "/a.h5?signed=yes"


@pytest.mark.parametrize("marks", [ETAG, DATED])
@pytest.mark.parametrize("obedient", [True, False])
def test_an_object_that_changes(marks: dict[str, str], obedient: bool) -> None:
    holds: list[Any] = [CONTENT, marks]

    def answer(asked: Asked) -> Answer:
        content, now = holds
        if not obedient:
            del asked.headers["If-Match"]  # type: ignore[attr-defined]
        return ranged(content, asked, now)

    with serving(answer) as served:
        found = object_at(f"{served.url}/a.h5")
        mark = found.head().mark
        holds[:] = CONTENT[::-1] + b"!", {**marks, **({"ETag": '"two"'} if "ETag" in marks else {})}
        for attempt in (lambda: found.get(0, 10, mark), lambda: found.whole(mark)):
            with pytest.raises(InputChanged, match=r"/a\.h5: changed since it was opened"):
                attempt()


def test_no_ranges() -> None:
    with serving(lambda asked: Answer(headers={"Accept-Ranges": "none"}, body=CONTENT)) as served:
        found = object_at(f"{served.url}/a.h5")
        assert found.head() == Head(nbytes=2048, mark="", ranged=False)
        with pytest.raises(Whole):
            found.get(0, 10, "")
        assert found.whole("") == CONTENT


@pytest.mark.parametrize("status", [400, 403, 405, 501])
def test_head_is_refused(status: int) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(status=status) if asked.method == "HEAD" else good()(asked)

    with serving(answer) as served:
        assert object_at(f"{served.url}/a.h5").head() == Head(nbytes=2048, mark='"one"')


def test_head_is_refused_of_an_empty_object() -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(status=405) if asked.method == "HEAD" else ranged(b"", asked, ETAG)

    with serving(answer) as served:
        assert object_at(f"{served.url}/a.h5").head().nbytes == 0


def test_redirects() -> None:
    def answer(asked: Asked) -> Answer:
        if asked.path == "/there.h5":
            return good()(asked)
        where = "/there.h5" if asked.path == "/here.h5" else asked.path
        return Answer(status=302, headers={"Location": where})

    with serving(answer) as served:
        found = object_at(f"{served.url}/here.h5")
        assert found.head().mark == '"one"'
        assert found.get(5, 9, '"one"') == CONTENT[5:9]
        with pytest.raises(Refused, match=r"/circle\.h5: is redirected without end"):
            object_at(f"{served.url}/circle.h5").head()


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, AccessDenied, "access denied: 401 Unauthorized; check that credentials"),
        (403, AccessDenied, "access denied: 403 Forbidden; check that credentials"),
        (404, NotFound, "no such object; check the path"),
        (410, NotFound, "no such object; check the path"),
        (416, InputChanged, "changed since it was opened"),
        (418, Refused, "the store refused the request: 418"),
    ],
)
def test_refusals(status: int, error: type[H5daskError], words: str) -> None:
    with serving(lambda asked: Answer(status=status, body=b"page")) as served:
        found = object_at(f"{served.url}/a.h5?X-Amz-Signature=b7e3")
        for attempt in (found.head, lambda: found.get(0, 10, ""), lambda: found.whole("")):
            with pytest.raises(error, match=rf"/a\.h5: {words}") as raised:
                attempt()
            assert "b7e3" not in str(raised.value)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass(status: int) -> None:
    with serving(lambda asked: Answer(status=status, headers={"Retry-After": "7"})) as served:
        found = object_at(f"{served.url}/a.h5")
        for attempt in (found.head, lambda: found.get(0, 10, ""), lambda: found.whole("")):
            with pytest.raises(Again, match=f"^\\('{status} ") as raised:
                attempt()
            assert raised.value.after == 7


def test_it_passes() -> None:
    faults = iter([Answer(status=503), Answer(status=0), Answer(status=429)])

    def answer(asked: Asked) -> Answer:
        return next(faults, None) or good()(asked)

    with serving(answer) as served:
        found = object_at(f"{served.url}/a.h5")
        assert persistently(found.url, lambda: found.get(0, 10, "")) == CONTENT[:10]
    assert len(served.asked) == 4


def test_never_not_found_for_a_503() -> None:
    with (
        dask.config.set({"h5dask.store-deadline": "0.3 s"}),
        serving(lambda asked: Answer(status=503)) as served,
    ):
        found = object_at(f"{served.url}/a.h5?X-Amz-Signature=b7e3")
        with pytest.raises(StoreUnavailable, match="503 Service Unavailable") as raised:
            persistently(found.url, found.head)
    assert "b7e3" not in str(raised.value)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (Answer(status=0), "no connection, or a broken one"),
        (Answer(body=b"abc", nbytes=10), "an answer that isn't HTTP, or not all of it"),
    ],
)
def test_a_broken_answer(broken: Answer, words: str) -> None:
    with serving(lambda asked: broken) as served, pytest.raises(Again, match=words):
        object_at(f"{served.url}/a.h5").whole("")


def test_a_short_range() -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(status=206, headers={"Content-Range": "bytes 0-4/2048"}, body=CONTENT[:5])

    with serving(answer) as served, pytest.raises(Again, match="5 bytes at 0, not 10 at 0"):
        object_at(f"{served.url}/a.h5").get(0, 10, "")


def told_by(header: str, name: str, content: bytes) -> dict[str, str]:
    """Return a header with the checksum of some bytes."""
    digest = b64encode(hashlib.new(name.replace("-", ""), content).digest()).decode()
    named = {
        "Content-Digest": f"{name}=:{digest}:",
        "x-goog-hash": f"crc32c=AAAAAA==,{name}={digest}",
    }
    return {header: named.get(header, digest)}


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Content-MD5", "md5"),
        ("Content-Digest", "sha-256"),
        ("Content-Digest", "sha-512"),
        ("x-goog-hash", "md5"),
        ("x-amz-checksum-sha256", "sha-256"),
    ],
)
def test_checksums_of_the_whole(header: str, name: str) -> None:
    told = told_by(header, name, CONTENT)
    for body in (CONTENT, b"x" + CONTENT[1:]):
        with serving(lambda asked, body=body: Answer(headers=told, body=body)) as served:
            found = object_at(f"{served.url}/a.h5")
            if body == CONTENT:
                assert found.whole("") == CONTENT
            else:
                with pytest.raises(Again, match=f"2048 bytes that their {name} checksum denies"):
                    found.whole("")


def test_a_checksum_of_a_range() -> None:
    place = {"Content-Range": "bytes 0-4/2048"}
    of_it = told_by("Content-Digest", "sha-256", CONTENT[:5])
    of_all = told_by("Content-MD5", "md5", CONTENT)
    for body, right in ((CONTENT[:5], True), (b"01234", False)):
        answer = Answer(status=206, headers={**place, **of_it, **of_all}, body=body)
        with serving(lambda asked, answer=answer: answer) as served:
            found = object_at(f"{served.url}/a.h5")
            if right:
                assert found.get(0, 5, "") == body
            else:
                with pytest.raises(Again, match="5 bytes that their sha-256 checksum denies"):
                    found.get(0, 5, "")


@pytest.mark.parametrize("told", ["abc-5", "nonsense!", "", "kAFQmDzST7DWlj99KOF/cg=="])
def test_what_is_no_checksum_of_bytes(told: str) -> None:
    headers = {"x-amz-checksum-sha256": told, "Digest": "unixsum=30637", "Content-Digest": told}
    with serving(lambda asked: Answer(headers=headers, body=CONTENT)) as served:
        assert object_at(f"{served.url}/a.h5").whole("") == CONTENT


def test_a_silent_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = object_at(f"http://127.0.0.1:{listening.getsockname()[1]}/a.h5")
        with (
            dask.config.set({"h5dask.store-timeout": "0.2 s"}),
            pytest.raises(Again, match="no answer in time"),
        ):
            found.head()


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        found = object_at(f"http://127.0.0.1:{unused.getsockname()[1]}/a.h5")
        with pytest.raises(Again, match="no connection, or a broken one"):
            found.head()


def test_no_such_host() -> None:
    with pytest.raises(Again, match="no connection, or a broken one"):
        object_at("http://nowhere.invalid/a.h5").head()


def test_no_address_at_all() -> None:
    with pytest.raises(Refused, match="isn't an address to ask for"):
        object_at("http://").head()


def test_a_page_of_a_proxy_in_between() -> None:
    page = Answer(headers={"Content-Type": "text/html"}, body=b"<html>")
    with serving(lambda asked: page) as served:
        found = object_at(f"{served.url}/a.h5")
        for attempt in (lambda: found.get(0, 3, '"one"'), lambda: found.whole('"one"')):
            with pytest.raises(Again, match="200 OK with something else"):
                attempt()


def test_bytes_that_are_compressed_on_the_way() -> None:
    packed = Answer(headers={"Content-Encoding": "gzip"}, body=gzip.compress(CONTENT))
    with (
        serving(lambda asked: packed) as served,
        pytest.raises(Refused, match="the server encodes the bytes on the way"),
    ):
        object_at(f"{served.url}/a.h5").whole("")


def test_nothing_is_written() -> None:
    found = object_at("http://127.0.0.1:1/a.h5?X-Amz-Signature=b7e3")
    for attempt in (lambda: found.put(b"x"), found.delete):
        with pytest.raises(Refused, match=r"/a\.h5: http addresses are read-only"):
            attempt()
