"""Names of inputs, their state, ranges of their bytes, and files that appear whole or not."""

import io
import os
import pickle
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import pytest

from h5dask.errors import (
    AccessDenied,
    CorruptInput,
    InputChanged,
    NotFound,
    OutOfSpace,
    Refused,
    StoreUnavailable,
)
from h5dask.storage import remote
from h5dask.storage.publishing import publish
from h5dask.storage.remote import Source, absolute, expand, fingerprint
from h5dask.storage.stores import Head

BYTES = bytes(range(256)) * 4


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    """Folder of an object store in memory."""
    url = f"memory://h5dask-{tmp_path.name}"
    yield url
    with suppress(FileNotFoundError):
        fsspec.filesystem("memory").rm(url, recursive=True)


@pytest.fixture(params=["local", "memory", "object"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    """The same bytes as a local file, in a store, and as an open file."""
    if request.param == "object":
        return expand(io.BytesIO(BYTES))[0]
    if request.param == "memory":
        url = f"{request.getfixturevalue('store')}/a.h5"
        fsspec.filesystem("memory").pipe_file(url, BYTES)
        return expand(url)[0]
    (tmp_path / "a.h5").write_bytes(BYTES)
    return expand(tmp_path / "a.h5")[0]


def read(source: Source, offset: int, n: int) -> bytes:
    into = bytearray(n)
    with source.open() as file:
        file.read_into(offset, memoryview(into))
    return bytes(into)


def test_any_range(source: Source) -> None:
    for start, n in ((0, 1), (0, 1024), (1000, 24), (77, 300), (1024, 0)):
        assert read(source, start, n) == BYTES[start : start + n]
    assert (source.nbytes, source.read() if not source.is_local else BYTES) == (1024, BYTES)
    with source.local_path() as file:
        held = Path(file).read_bytes() if isinstance(file, str) else file.read()
    assert held == BYTES


def test_a_range_beyond_the_end(source: Source) -> None:
    with pytest.raises(CorruptInput, match="truncated: 30 bytes wanted at offset 1,000, 24 there"):
        read(source, 1000, 30)


def test_sources_pickle_and_hide_their_options(source: Source) -> None:
    again = pickle.loads(pickle.dumps(source))
    assert (again, again.content) == (source, source.content)
    secret = Source(source.url, source.fingerprint, {"key": "hush"}, b"hush")
    assert "hush" not in repr(secret)
    assert secret == Source(source.url, source.fingerprint)


def test_short_reads_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.h5").write_bytes(BYTES)
    plain = os.preadv

    def short(number: int, buffers: list[memoryview], offset: int) -> int:
        return plain(number, [buffers[0][:7]], offset)

    monkeypatch.setattr(os, "preadv", short)
    assert read(expand(tmp_path / "a.h5")[0], 3, 100) == BYTES[3:103]


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    for change in ("append", "replace", "touch"):
        path.write_bytes(BYTES)
        [source] = expand(path)
        assert not source.changed()
        if change == "append":
            path.write_bytes(BYTES + b"more")
        elif change == "replace":
            (tmp_path / "b").write_bytes(BYTES[::-1])
            os.replace(tmp_path / "b", path)
        else:
            os.utime(path, ns=(1, 1))
        assert source.changed()
        with pytest.raises(InputChanged, match=r"a\.h5: changed since it was opened \(then '1024"):
            read(source, 0, 4)


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(BYTES)
    [source] = expand(tmp_path / "a.h5")
    opened = source.open()
    opened.__enter__().read_into(0, memoryview(bytearray(4)))
    (tmp_path / "a.h5").write_bytes(BYTES * 2)
    with pytest.raises(InputChanged, match="open it again"):
        opened.__exit__(None, None, None)


def test_a_replaced_object_is_refused(store: str) -> None:
    url = f"{store}/a.h5"
    fsspec.filesystem("memory").pipe_file(url, BYTES)
    [source] = expand(url)
    fsspec.filesystem("memory").pipe_file(url, BYTES[::-1])
    with pytest.raises(InputChanged, match=r"memory://.*: changed since"):
        read(source, 0, 4)


def test_a_file_that_is_gone(tmp_path: Path, store: str) -> None:
    (tmp_path / "a.h5").write_bytes(BYTES)
    [source] = expand(tmp_path / "a.h5")
    (tmp_path / "a.h5").unlink()
    with pytest.raises(NotFound, match=r"a\.h5: no such file on .+, and it was there"):
        read(source, 0, 4)
    with pytest.raises(NotFound, match=r"b\.h5: no such object; check the path"):
        expand(f"{store}/b.h5")


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("a.h5", "b.h5", "[a].h5", "?.h5"):
        (tmp_path / name).write_bytes(BYTES)
    (tmp_path / "folder.h5").mkdir()
    here = str(tmp_path)
    for given in ("a.h5", Path("a.h5"), "~/a.h5", f"file://{here}/a.h5", "./a.h5"):
        assert [Path(s.url).resolve() for s in expand(given)] == [tmp_path / "a.h5"]
    assert expand("[a].h5")[0].url == f"{here}/[a].h5"  # there, so no pattern
    assert expand("?.h5")[0].url == f"{here}/?.h5"
    assert [s.url for s in expand("[ab].h5")] == [f"{here}/{n}.h5" for n in "ab"]
    assert [s.url for s in expand(["b.h5", "a.*", Path("b.h5")])] == [
        f"{here}/{n}.h5" for n in "bab"
    ]
    assert f"{here}/folder.h5" not in [s.url for s in expand("*.h5")]
    assert absolute("memory://x/a.h5") == "memory://x/a.h5"


def test_patterns_of_urls(store: str) -> None:
    for name in ("b", "a", "c"):
        fsspec.filesystem("memory").pipe_file(f"{store}/{name}.h5", BYTES)
    assert [s.url for s in expand(f"{store}/*.h5")] == [f"{store}/{n}.h5" for n in "abc"]
    with pytest.raises(NotFound, match="no file matches; check the pattern"):
        expand(f"{store}/*.nc")


def test_a_question_mark_in_a_url_is_no_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_head", lambda url, options: Head(nbytes=9, mark="m"))
    [source] = expand("https://example.org/a.h5?version=2")
    assert source.url == "https://example.org/a.h5?version=2"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([], "no files: an empty list was given"),
        ("/", "is a folder; name a file in it, or a pattern such as"),
        ("/nowhere/a.h5", "/nowhere/a.h5: no such file"),
        ("s3:/bucket/a.h5", "a.h5: no such file; write a URL as s3://"),
        ("/nowhere/*.h5", r"/nowhere/\*.h5: no file matches"),
        ("nonsense://a.h5", "nonsense://a.h5: unknown scheme 'nonsense'; known are s3, gs"),
    ],
)
def test_what_names_nothing(given: Any, text: str) -> None:
    with pytest.raises(NotFound, match=text):
        expand(given)


@pytest.mark.parametrize(
    ("raised", "error", "text"),
    [
        (PermissionError(13, "Permission denied"), AccessDenied, "access denied"),
        (OSError(5, "Input/output error"), StoreUnavailable, "Input/output error; try again"),
        (IsADirectoryError(21, "Is a directory"), NotFound, "is a folder"),
    ],
)
def test_errors_of_the_system_name_the_file(
    raised: OSError,
    error: type[Exception],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "a.h5").write_bytes(BYTES)
    [source] = expand(tmp_path / "a.h5")

    def fail(*_: Any) -> None:
        raise raised

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(error, match=rf"a\.h5: .*{text}"):
        read(source, 0, 4)


def test_fingerprints(tmp_path: Path, store: str) -> None:
    (tmp_path / "a.h5").write_bytes(BYTES)
    first = fingerprint(str(tmp_path / "a.h5"))
    assert first == fingerprint(str(tmp_path / "a.h5"))
    os.link(tmp_path / "a.h5", tmp_path / "b.h5")
    (tmp_path / "c.h5").write_bytes(BYTES)
    assert fingerprint(str(tmp_path / "c.h5")) != first
    assert expand(io.BytesIO(b"x"))[0].fingerprint != expand(io.BytesIO(b"y"))[0].fingerprint


def test_publish_keeps_the_targets_permissions(tmp_path: Path) -> None:
    made, target = tmp_path / "made", tmp_path / "target"
    target.write_bytes(b"old")
    target.chmod(0o640)
    made.write_bytes(b"new")
    publish(str(made), str(target))
    assert (target.read_bytes(), stat.S_IMODE(target.stat().st_mode)) == (b"new", 0o640)
    assert os.listdir(tmp_path) == ["target"]


def test_publish_to_a_store(tmp_path: Path, store: str) -> None:
    (tmp_path / "made").write_bytes(BYTES)
    publish(str(tmp_path / "made"), f"{store}/a.h5")
    assert fsspec.filesystem("memory").cat_file(f"{store}/a.h5") == BYTES
    assert os.listdir(tmp_path) == []


def test_what_cannot_be_published_says_so(tmp_path: Path) -> None:
    (tmp_path / "made").write_bytes(BYTES)
    with pytest.raises(OutOfSpace, match="could not be written to disk"):
        publish(str(tmp_path / "made"), str(tmp_path / "nowhere" / "a.h5"))


def test_what_signs_a_url_is_told_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def head(url: str, options: Any) -> Head:
        asked.append(url)
        return Head(nbytes=9, mark="m")

    monkeypatch.setattr(remote, "_head", head)
    url = "https://example.org/a.h5?X-Amz-Signature=b7e3&x=1"
    [source] = expand(url)
    assert source.url == "https://example.org/a.h5"
    assert "b7e3" not in repr(source)
    assert not source.changed()
    assert asked == [url, url]


def test_a_password_in_a_url_is_refused() -> None:
    with pytest.raises(Refused, match=r"^https://example\.org/a\.h5: found a user or password"):
        expand("https://me:secret@example.org/a.h5")
