"""Objects on S3, through either library; a store that fails on demand stands in for a real one."""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import pytest

from h5dask.errors import (
    AccessDenied,
    Conflict,
    H5daskError,
    InputChanged,
    NotFound,
    Refused,
    StoreUnavailable,
)
from h5dask.storage.stores import Object
from h5dask.storage.stores.finding import object_at
from h5dask.storage.stores.trying import Again, Whole, persistently
from tests.servers import Endpoint
from tests.storage.stores.serving import Answer, Asked, Served, ranged, serving

CONTENT = bytes(range(256)) * 64
MARKS = {"ETag": '"one"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
LIBRARIES: dict[str, dict[str, Any]] = {"obstore": {}, "s3fs": {"version_aware": False}}
"""Options that send a test there: obstore isn't told of the last."""


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def found(store: Endpoint, library: str, request: pytest.FixtureRequest) -> Object:
    name = f"{library}/{request.node.originalname}/a b%20é.h5"
    return object_at(f"{store.url}/{name}", {**store.options, **LIBRARIES[library]})


def faulty(served: Served, library: str) -> Object:
    """Return an object in a stand-in's bucket."""
    options: dict[str, Any] = {"key": "the-key", "secret": "the-secret", **LIBRARIES[library]}
    options |= {"endpoint_url": served.url, "client_kwargs": {"region_name": "us-east-1"}}
    return object_at("s3://bucket/a.h5", options)


def answering(status: int, code: str) -> Callable[[Asked], Answer]:
    body = f"<Error><Code>{code}</Code><Message>the-key</Message></Error>".encode()
    return lambda asked: Answer(status=status, body=body if code else b"")


def test_each_library_has_its_turn(found: Object, library: str) -> None:
    expected = {"obstore": "WithObstore", "s3fs": "WithS3fs"}
    assert type(found).__name__ == expected[library]
    assert found.pins


def test_put_and_get(found: Object, tmp_path: Path) -> None:
    mark = found.put(CONTENT, token="mine")
    head = found.head()
    assert (head.nbytes, head.mark, head.token, head.ranged) == (len(CONTENT), mark, "mine", True)
    assert found.get(10, 300, mark) == CONTENT[10:300]
    assert found.get(len(CONTENT) - 5, len(CONTENT) + 5, mark) == CONTENT[-5:]
    assert found.whole(mark) == CONTENT
    local = tmp_path / "local"
    local.write_bytes(CONTENT[:99])
    assert found.put(local) == found.head().mark != mark
    assert found.head().token == ""


def test_a_large_file_goes_up_in_parts(
    found: Object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("with_obstore", "with_s3fs"):
        monkeypatch.setattr(f"h5dask.storage.stores.{module}._AT_ONCE", 6 * 2**20)
    monkeypatch.setattr("h5dask.storage.stores.with_obstore._PART", 5 * 2**20)
    local = tmp_path / "local"
    local.write_bytes(CONTENT * 512)
    mark = found.put(local, absent=True, token="mine")
    assert found.head().token == "mine"
    assert found.whole(mark) == CONTENT * 512
    with pytest.raises(Conflict, match=r"a b%20é\.h5: exists already"):
        found.put(local, absent=True)
    found.put(local, mark=mark)
    with pytest.raises(Conflict, match="was changed by another writer"):
        found.put(local, mark='"another"')


def test_conditions(found: Object) -> None:
    mark = found.put(b"first", absent=True)
    with pytest.raises(Conflict, match="exists already"):
        found.put(b"second", absent=True)
    found.put(b"second", mark=mark)
    for attempt in (lambda: found.get(0, 5, mark), lambda: found.whole(mark)):
        with pytest.raises(InputChanged, match="changed since it was opened"):
            attempt()
    found.delete()
    found.delete()
    with pytest.raises(Conflict, match="was changed by another writer"):
        found.put(b"third", mark=mark)
    with pytest.raises(NotFound, match="no such object in the bucket; check the path"):
        found.head()


def test_names(store: Endpoint, library: str) -> None:
    def at(name: str) -> Object:
        options = {**store.options, **LIBRARIES[library]}
        return object_at(f"{store.url}/{library}/names/{name}", options)

    for name in ("a.h5", "b.h5", "b.h5.json", "deep/c.h5", "deep/er/d.h5"):
        at(name).put(b"")

    def names(pattern: str) -> list[str]:
        before = at("").url
        return [name.removeprefix(before) for name in at(pattern).names()]

    assert names("*.h5") == ["a.h5", "b.h5"]
    assert names("?.h5") == ["a.h5", "b.h5"]
    assert names("[b-z].h5") == ["b.h5"]
    assert names("**/*.h5") == ["a.h5", "b.h5", "deep/c.h5", "deep/er/d.h5"]
    assert names("d*/*.h5") == ["deep/c.h5"]
    assert names("none*.h5") == []


def test_no_such_bucket(store: Endpoint, library: str) -> None:
    options = {**store.options, **LIBRARIES[library]}
    found = object_at("s3://no-such-bucket/a.h5", options)
    for attempt in (found.head, lambda: found.get(0, 5, ""), lambda: found.put(b"")):
        with pytest.raises(NotFound, match=r"/a\.h5: no such bucket; check its name"):
            attempt()


def test_strangers(store: Endpoint, found: Object, library: str) -> None:
    found.put(b"first")
    wrong = object_at(found.url, {**store.wrong, **LIBRARIES[library]})
    nobody = {**store.options, "key": None, "secret": None, "anon": True, **LIBRARIES[library]}
    for one in (wrong, object_at(found.url, nobody)):
        for attempt in (one.head, lambda one=one: one.get(0, 5, ""), lambda one=one: one.put(b"")):
            with pytest.raises(AccessDenied, match=r"access denied: 403 Forbidden") as raised:
                attempt()
            assert not [key for key in ("key", "secret") if store.options[key] in str(raised.value)]


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        (400, "ExpiredToken", AccessDenied, "the credentials have expired; renew them"),
        (403, "InvalidAccessKeyId", AccessDenied, "doesn't accept these credentials; check key"),
        (403, "SignatureDoesNotMatch", AccessDenied, "doesn't accept these credentials"),
        (403, "RequestTimeTooSkewed", AccessDenied, "this machine's clock is wrong"),
        (403, "AccessDenied", AccessDenied, "check that credentials are given"),
        (404, "NoSuchKey", NotFound, "no such object in the bucket"),
        (404, "", NotFound, "no such object; check the path"),
        (412, "PreconditionFailed", InputChanged, "changed since it was opened"),
        (400, "AuthorizationHeaderMalformed", Refused, "lies elsewhere: .*give its region"),
        (501, "NotImplemented", Refused, "the store refused the request: 501"),
    ],
)
def test_refusals(
    library: str, status: int, code: str, error: type[H5daskError], words: str
) -> None:
    with serving(answering(status, code)) as served:
        found = faulty(served, library)
        for attempt in (found.head, lambda: found.get(0, 5, '"one"'), lambda: found.whole("")):
            with pytest.raises(error, match=rf"^s3://bucket/a\.h5: .*{words}") as raised:
                attempt()
            assert "the-key" not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "code"),
    [(429, ""), (500, "InternalError"), (502, ""), (503, "SlowDown"), (400, "RequestTimeout")],
)
def test_what_may_pass(library: str, status: int, code: str) -> None:
    with serving(answering(status, code)) as served:
        found = faulty(served, library)
        for attempt in (lambda: found.get(0, 5, ""), lambda: found.put(b"", absent=True)):
            with pytest.raises(Again, match=f"^\\('{status} "):
                attempt()


def test_one_attempt_is_one_request(library: str) -> None:
    with serving(answering(503, "SlowDown")) as served:
        with pytest.raises(Again, match="503"):
            faulty(served, library).get(0, 5, "")
        assert len(served.asked) == 1


def test_never_not_found_for_a_503(library: str) -> None:
    with (
        dask.config.set({"h5dask.store-deadline": "0.3 s"}),
        serving(answering(503, "")) as served,
    ):
        found = faulty(served, library)
        with pytest.raises(StoreUnavailable, match="503 Service Unavailable"):
            persistently(found.url, found.head)


CUT = {**MARKS, "Content-Range": "bytes 0-4/99"}


@pytest.mark.parametrize(
    "broken", [Answer(status=0), Answer(status=206, headers=CUT, body=b"ab", nbytes=5)]
)
def test_a_broken_answer(library: str, broken: Answer) -> None:
    words = "connection|didn't get through|broke off|can't be read|not all of it"
    with serving(lambda asked: broken) as served, pytest.raises(Again, match=words):
        faulty(served, library).get(0, 5, "")


def test_other_bytes_than_were_asked_for(library: str) -> None:
    other = Answer(status=206, headers={**MARKS, "Content-Range": "bytes 3-7/99"}, body=b"other")
    with (
        serving(lambda asked: other) as served,
        pytest.raises(Again, match=r"bytes 3-7/99, not bytes=0-4|answer can't be used"),
    ):
        faulty(served, library).get(0, 5, "")


def test_a_silent_store(library: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        served = Served(url=f"http://127.0.0.1:{listening.getsockname()[1]}", asked=[])
        with (
            dask.config.set({"h5dask.store-timeout": "0.2 s"}),
            pytest.raises(Again, match="no answer in time"),
        ):
            faulty(served, library).get(0, 5, "")


def test_nobody_listens(library: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        served = Served(url=f"http://127.0.0.1:{unused.getsockname()[1]}", asked=[])
        with pytest.raises(Again, match="no connection"):
            faulty(served, library).head()


def test_a_store_that_gives_the_whole_only(library: str) -> None:
    with serving(lambda asked: Answer(headers=MARKS, body=CONTENT)) as served:
        found = faulty(served, library)
        with pytest.raises(Whole, match=r"^$"):
            found.get(0, 5, '"one"')
        assert found.whole('"one"') == CONTENT


def test_a_page_of_a_proxy_in_between(library: str) -> None:
    with (
        serving(lambda asked: Answer(body=b"<html>")) as served,
        pytest.raises(Again, match="200 OK with something else"),
    ):
        faulty(served, library).whole('"one"')


def test_a_store_that_ignores_conditions(library: str) -> None:
    def answer(asked: Asked) -> Answer:
        return ranged(CONTENT, replace(asked, headers={"Range": asked.headers["Range"]}), MARKS)

    with serving(answer) as served:
        found = faulty(served, library)
        with pytest.raises(InputChanged, match="changed since it was opened"):
            found.get(0, 5, '"another"')


def test_sending_slowly_is_not_silence() -> None:
    """Many bytes are on their way for longer than a silent store is waited for."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        taking = threading.Thread(target=_take_slowly, args=[listening])
        taking.start()
        served = Served(url=f"http://127.0.0.1:{listening.getsockname()[1]}", asked=[])
        with dask.config.set({"h5dask.store-timeout": "0.2 s"}):
            assert faulty(served, "obstore").put(CONTENT * 512) == '"one"'
        taking.join()


def _take_slowly(listening: socket.socket) -> None:
    """Take one request, with pauses that are short each and long together."""
    connection, _ = listening.accept()
    with connection:
        told, body = b"", b""
        while b"\r\n\r\n" not in told:
            told += connection.recv(2**10)
        told, _, body = told.partition(b"\r\n\r\n")
        if b"100-continue" in told:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        left = len(CONTENT) * 512 - len(body)
        while left > 0:
            left -= len(connection.recv(2**18))
            time.sleep(0.02)
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: "one"\r\n\r\n')


def test_sixteen_threads_are_sixteen_requests_at_once() -> None:
    """Each answer waits until sixteen requests are there, so fewer at once would get none."""
    content, size = CONTENT * 64, 2**14
    met = threading.Barrier(16, timeout=30)

    def answer(asked: Asked) -> Answer:
        met.wait()
        return ranged(content, asked, MARKS)

    with (
        serving(answer) as served,
        dask.config.set({"h5dask.store-timeout": "30 s", "h5dask.store-deadline": "60 s"}),
        ThreadPoolExecutor(16) as pool,
    ):
        found = faulty(served, "obstore")
        parts = pool.map(
            lambda start: bytes(found.get(start, start + size, '"one"')), range(0, 2**20, size)
        )
        assert b"".join(parts) == content
    assert len(served.asked) == 64
