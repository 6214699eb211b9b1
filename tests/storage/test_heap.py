"""Variable-length values by byte ranges: as h5py reads them, and damage told by name and offset."""

import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5dask.errors import CorruptInput
from h5dask.storage import heap
from h5dask.storage.place import DESCRIPTOR
from h5dask.storage.ranges import InMemory

TEXTS = st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), max_size=40)


def in_memory(values: Any, dtype: Any) -> tuple[bytes, np.ndarray[Any, Any], int]:
    """Store values in an HDF5 file; give its bytes, the descriptors, and where these lie."""
    with h5py.File("heap", "w", driver="core", backing_store=False) as f:
        dataset = f.create_dataset("x", data=values, dtype=dtype)
        f.flush()
        content, offset = f.id.get_file_image(), dataset.id.get_offset()
        n = dataset.size
    raw = content[offset : offset + 16 * n] if n else b""
    return content, np.frombuffer(raw, DESCRIPTOR), offset or 0


def read(content: bytes, descriptors: np.ndarray[Any, Any], *, as_text: bool = True) -> list[Any]:
    return heap.resolve(InMemory("f", content), "x", 0, descriptors, as_text).tolist()


@given(TEXTS)
def test_any_text(values: list[str]) -> None:
    content, descriptors, _ = in_memory(np.array(values, object), h5py.string_dtype())
    assert read(content, descriptors) == values
    assert read(content, descriptors[::-1]) == values[::-1]


@pytest.mark.parametrize("length", [1, 4000, 4096, 65_535, 65_536, 1_000_000])
def test_long_text(length: int) -> None:
    values = ["ä" * length, "", "short", "z" * length]
    content, descriptors, _ = in_memory(np.array(values, object), h5py.string_dtype())
    assert read(content, descriptors) == values


def test_thousands_of_collections() -> None:
    values = [f"{i} " * (i % 50) for i in range(5000)]
    content, descriptors, _ = in_memory(np.array(values, object), h5py.string_dtype())
    assert read(content, descriptors) == values


def test_bytes_are_their_own_copies() -> None:
    values = np.empty(3, object)
    values[:] = [np.arange(i * 3, dtype="u1") for i in range(3)]
    content, descriptors, _ = in_memory(values, h5py.vlen_dtype("u1"))
    found = read(content, descriptors, as_text=False)
    assert all(np.array_equal(a, b) for a, b in zip(found, values, strict=True))
    assert all(value.flags.owndata and value.dtype == np.uint8 for value in found)


def test_bytes_that_are_no_text_come_back() -> None:
    raw = np.array([b"\xff\xfe", "é".encode("latin-1")], object)
    content, descriptors, _ = in_memory(raw, h5py.string_dtype())
    found = read(content, descriptors)
    assert [text.encode("utf-8", "surrogateescape") for text in found] == raw.tolist()


def test_an_address_outside_the_file() -> None:
    content, descriptors, _ = in_memory(np.array(["abc"], object), h5py.string_dtype())
    lost = descriptors.copy()
    lost["address"] = len(content) + 8
    with pytest.raises(CorruptInput, match="f: truncated: 4,096 bytes wanted at offset"):
        read(content, lost)


def test_an_address_of_something_else() -> None:
    content, descriptors, offset = in_memory(np.array(["abc"], object), h5py.string_dtype())
    content = content + bytes(4096)
    lost = descriptors.copy()
    lost["address"] = offset
    with pytest.raises(CorruptInput, match=rf"/x: no global heap at offset {offset:,} \(found b"):
        read(content, lost)


@pytest.mark.parametrize(("field", "value"), [("index", 7), ("index", 0), ("length", 4000)])
def test_a_value_that_is_not_in_the_heap(field: str, value: int) -> None:
    content, descriptors, _ = in_memory(np.array(["ok", "abc"], object), h5py.string_dtype())
    lost = descriptors.copy()
    lost[field][1] = value
    with pytest.raises(CorruptInput, match=r"/x: value 1 has [\d,]+ bytes in heap object \d+ at"):
        read(content, lost)


@pytest.mark.parametrize("size", [0, 16, 2**33, 2**63])
def test_a_heap_of_an_impossible_size(size: int) -> None:
    content, descriptors, _ = in_memory(np.array(["abc"], object), h5py.string_dtype())
    at = int(descriptors["address"][0])
    broken = content[: at + 8] + struct.pack("<Q", size) + content[at + 16 :]
    with pytest.raises(CorruptInput, match="no global heap at offset"):
        read(broken, descriptors)


def test_offsets_count_from_the_end_of_a_user_block(tmp_path: Path) -> None:
    content, descriptors, _ = in_memory(np.array(["abc"], object), h5py.string_dtype())
    shifted = InMemory("f", bytes(512) + content)
    assert heap.resolve(shifted, "x", 512, descriptors, True).tolist() == ["abc"]
