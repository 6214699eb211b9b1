"""A file that gets its last name while somebody may still write into it."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from h5dask.errors import NotFound
from h5dask.storage.latecomers import to_write, unwritten
from h5dask.storage.publishing import publish


@pytest.fixture
def part(tmp_path: Path) -> Path:
    (tmp_path / "part").write_bytes(b"12345678")
    return tmp_path / "part"


def test_a_file_that_nobody_writes_keeps_its_place(part: Path) -> None:
    before = part.stat().st_ino
    publish(str(part), str(part.with_name("a.h5")))
    assert part.with_name("a.h5").stat().st_ino == before


@pytest.mark.parametrize("overwrite", [True, False])
def test_who_is_still_writing_keeps_a_file_of_his_own(overwrite: bool, part: Path) -> None:
    target = part.with_name("a.h5")
    os.chmod(part, 0o640)
    with to_write(str(part)) as late:
        publish(str(part), str(target), overwrite=overwrite)
        before = target.stat()
        os.pwrite(late, b"late", 2)
        assert target.stat() == before
    assert target.read_bytes() == b"12345678"
    assert target.stat().st_mode & 0o777 == 0o640
    assert os.listdir(part.parent) == ["a.h5"]


def test_several_write_at_once(part: Path) -> None:
    with to_write(str(part)) as one, to_write(str(part)) as other:
        os.pwrite(one, b"a", 0)
        os.pwrite(other, b"b", 1)
    assert part.read_bytes() == b"ab345678"


@pytest.mark.parametrize("busy", [False, True])
def test_nobody_comes_while_it_is_published(busy: bool, part: Path) -> None:
    holder = os.open(part, os.O_RDWR)
    if busy:
        fcntl.flock(holder, fcntl.LOCK_SH)
    try:
        with unwritten(str(part)), pytest.raises(NotFound, match="being written is gone"):
            to_write(str(part)).__enter__()
    finally:
        os.close(holder)


def test_a_file_that_was_published_before_the_lock_is_had(
    part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def published(file: int, how: int) -> None:
        part.rename(part.with_name("a.h5"))
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", published)
    with pytest.raises(NotFound, match="being written is gone"):
        to_write(str(part)).__enter__()


def test_a_filesystem_without_locks(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(file: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with to_write(str(part)) as late:
        publish(str(part), str(part.with_name("a.h5")))
        os.pwrite(late, b"late", 2)
    assert part.with_name("a.h5").read_bytes() == b"12late78"
