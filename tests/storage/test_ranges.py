"""Many ranges of bytes in few reads, against slices of the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from h5dask.errors import CorruptInput
from h5dask.storage.ranges import InMemory, LocalFile, read_ranges

CONTENT = np.random.default_rng(0).bytes(200_000)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFile]:
    path = tmp_path_factory.mktemp("ranges") / "a"
    path.write_bytes(CONTENT)
    number = os.open(path, os.O_RDONLY)
    yield LocalFile(str(path), number)
    os.close(number)


def read(file: Any, offsets: list[int], sizes: list[int]) -> bytes:
    into = bytearray(sum(sizes))
    read_ranges(file, np.array(offsets), np.array(sizes), memoryview(into))
    return bytes(into)


@given(st.lists(st.tuples(st.integers(0, 190_000), st.integers(1, 9_000)), min_size=1, max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ranges_in_any_order(file: LocalFile, found: list[tuple[int, int]]) -> None:
    offsets, sizes = [list(column) for column in zip(*found, strict=True)]
    expected = b"".join(CONTENT[at : at + size] for at, size in found)
    assert read(file, offsets, sizes) == expected
    assert read(InMemory("a", CONTENT), offsets, sizes) == expected


def test_neighbors_come_in_one_read(file: LocalFile, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    preadv = os.preadv

    def noted(number: int, parts: Any, offset: int) -> int:
        reads.append(len(parts))
        return preadv(number, parts, offset)

    monkeypatch.setattr(os, "preadv", noted)
    offsets = list(range(0, 60_000, 30))
    assert read(file, offsets, [20] * 2000) == b"".join(CONTENT[at : at + 20] for at in offsets)
    assert reads == [999] * 4
    reads.clear()
    read(file, [0, 20_000, 20_100], [10, 10, 10])
    assert reads == [1, 3]


def test_reads_that_give_less_go_on(file: LocalFile, monkeypatch: pytest.MonkeyPatch) -> None:
    preadv = os.preadv

    def short(number: int, parts: Any, offset: int) -> int:
        first = memoryview(parts[0])
        return preadv(number, [first[: max(1, len(first) // 2)]], offset)

    monkeypatch.setattr(os, "preadv", short)
    assert (
        read(file, [5, 50, 500], [30, 40, 50]) == CONTENT[5:35] + CONTENT[50:90] + CONTENT[500:550]
    )


@pytest.mark.parametrize("make", [lambda file: file, lambda _: InMemory("a", CONTENT)])
def test_bytes_that_are_not_there(file: LocalFile, make: Any) -> None:
    with pytest.raises(CorruptInput, match=r"truncated: .* bytes wanted at offset 199,9.*there"):
        read(make(file), [199_900, 199_950], [10, 100])
