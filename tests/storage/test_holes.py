"""What is read of a sparse file is all that isn't zeros, whatever the filesystem calls a hole."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5dask.storage import holes
from h5dask.storage.holes import STEP, between_holes

PIECES = st.lists(
    st.tuples(st.integers(0, 3 * STEP), st.binary(min_size=1, max_size=9000)), max_size=5
)


def rebuilt(path: Path) -> bytes:
    found = bytearray(path.stat().st_size)
    last = 0
    for offset, raw in between_holes(str(path)):
        assert offset >= last
        assert offset // STEP == (offset + len(raw) - 1) // STEP
        found[offset : offset + len(raw)] = raw
        last = offset + len(raw)
    return bytes(found)


@given(PIECES, st.integers(0, 4 * STEP))
def test_nothing_but_zeros_is_left_out(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, bytes]], nbytes: int
) -> None:
    path = tmp_path_factory.mktemp("sparse") / "a"
    with path.open("wb") as file:
        for offset, raw in pieces:
            file.seek(offset)
            file.write(raw)
        file.truncate(nbytes)
    assert rebuilt(path) == path.read_bytes()


def test_holes_and_pages_of_zeros_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("wb") as file:
        file.write(b"begin" + bytes(8192))
        file.seek(1 << 30)
        file.write(b"end")
    found = list(between_holes(str(path)))
    assert [offset for offset, _ in found] == [0, 1 << 30]
    assert sum(len(raw) for _, raw in found) == 4096 + 3


def test_a_filesystem_without_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(10_000) + b"x" + bytes(10_000))
    size = path.stat().st_size

    def seek(_: int, at: int, how: int) -> int:
        return at if how == holes.os.SEEK_DATA else size

    monkeypatch.setattr(holes.os, "lseek", seek)
    assert rebuilt(path) == path.read_bytes()
