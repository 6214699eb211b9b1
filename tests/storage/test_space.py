"""Space is reserved ahead and given back at the end, and a full disk is one kind of error."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from h5dask.errors import OutOfSpace
from h5dask.storage import space
from h5dask.storage.space import Reservation, full_disk_told


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "x.bin"
    file.write_bytes(b"abc")
    return str(file)


def test_what_was_not_used_is_given_back(path: str) -> None:
    with Reservation(path) as held:
        held.need(10 << 20)
        held.need(1 << 20)
        assert os.path.getsize(path) == 3
        held.finish()
    assert os.stat(path).st_blocks * 512 <= 1 << 16
    assert Path(path).read_bytes() == b"abc"


def test_more_than_the_disk_has_is_refused(path: str) -> None:
    with Reservation(path) as held:
        held.need(1)
        with pytest.raises(OutOfSpace, match=r"x\.bin: needs [0-9,]+ bytes, [0-9,]+ are free on"):
            held.need(2**62)


@pytest.mark.parametrize("reserve", [None, lambda *_: -1], ids=["no_system_call", "not_offered"])
def test_where_nothing_can_be_reserved_the_disk_is_asked(
    reserve: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "_fallocate", reserve)
    monkeypatch.setattr(space.ctypes, "get_errno", lambda: errno.EOPNOTSUPP)
    with Reservation(path) as held:
        held.need(1 << 20)
        monkeypatch.setattr(space.os, "fstatvfs", lambda _: os.statvfs_result([1, 1] + [0] * 9))
        with pytest.raises(OutOfSpace, match=r"needs 2,097,152 bytes, [0-9,]+ are free"):
            held.need(1 << 20)


def test_a_quota_that_ends_while_space_is_reserved(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "_fallocate", lambda *_: -1)
    monkeypatch.setattr(space, "_is_in_memory", lambda _: False)
    monkeypatch.setattr(space.ctypes, "get_errno", lambda: errno.EDQUOT)
    with Reservation(path) as held, pytest.raises(OutOfSpace, match=r"x\.bin: .*quota.*; free som"):
        held.need(1 << 20)


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError("file write failed: errno = 28, error message = 'No space left on device'"),
    RuntimeError("file write failed: errno = 27, error message = 'File too large'"),
]


@pytest.mark.parametrize("error", FULL)
def test_a_full_disk_is_told_as_one(error: Exception) -> None:
    match = r"x\.h5: .*; free some space or choose another target"
    with pytest.raises(OutOfSpace, match=match), full_disk_told("x.h5"):
        raise error


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(PermissionError, match="denied"), full_disk_told("x.h5"):
        raise PermissionError(errno.EACCES, "denied")
    with pytest.raises(RuntimeError, match="something else"), full_disk_told("x.h5"):
        raise RuntimeError("something else")
