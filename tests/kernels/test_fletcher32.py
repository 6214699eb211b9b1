"""The checksum against plain arithmetic modulo 65,535, and against what HDF5 stores."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5dask.kernels.fletcher32 import checksum


def sums(raw):
    words = np.frombuffer(raw + b"\0" * (len(raw) % 2), ">u2").astype(object)
    first, second = sum(words), sum(words.cumsum())
    low, high = ((total - 1) % 65535 + 1 if total else 0 for total in (first, second))
    return high << 16 | low


def stored_by_hdf5(raw):
    with h5py.File("in memory", "w", driver="core", backing_store=False) as file:
        values = np.frombuffer(raw, np.uint8)
        dset = file.create_dataset("x", data=values, chunks=values.shape, fletcher32=True)
        return int.from_bytes(dset.id.read_direct_chunk((0,))[1][-4:], "little")


@given(st.binary(max_size=2000))
def test_any_bytes(raw):
    assert checksum(np.frombuffer(bytearray(raw), np.uint8)) == sums(raw)


@pytest.mark.parametrize("byte", [0, 1, 128, 255])
@pytest.mark.parametrize("n", [1, 2, 719, 720, 721, 1440, 1441, 100_000])
def test_hdf5_stores_the_same(byte, n):
    raw = bytes([byte]) * n
    assert checksum(np.frombuffer(bytearray(raw), np.uint8)) == stored_by_hdf5(raw)
    assert sums(raw) == stored_by_hdf5(raw)


@given(st.binary(min_size=1, max_size=999))
def test_hdf5_stores_the_same_for_any_bytes(raw):
    assert checksum(np.frombuffer(bytearray(raw), np.uint8)) == stored_by_hdf5(raw)


def test_sums_done_by_hand():
    by_hand = {"": 0, "00000000": 0, "0001 0001": 0x0003_0002, "ffff ffff": 0xFFFF_FFFF}
    for raw, expected in by_hand.items():
        assert checksum(np.frombuffer(bytearray.fromhex(raw), np.uint8)) == expected
