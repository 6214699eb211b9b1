"""The codec against HDF5 itself: what h5py stores we decode, and h5py reads what we encode."""

import itertools
import pickle
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5dask.chunkindex import Filter
from h5dask.storage import codec
from h5dask.storage.codec import DecodeError, decodable, decode, encode

DEFLATE = Filter(1, 1, (4,), "deflate")
CHECKSUM = Filter(3, 0, (), "fletcher32")
LZF = Filter(32000, 1, (4, 261, 0), "lzf")
DTYPES = ["i1", "<f2", ">f4", "<f8", "<i8"]
COMPRESSIONS = [None, "gzip", "lzf"]


def shuffle_of(size):
    return Filter(2, 1, (size,), "shuffle")


def values(shape, dtype):
    """Values of which each filter makes something: neighbors are alike, low bytes are noise."""
    walk = np.random.default_rng(0).normal(size=shape).cumsum(-1)
    return (walk * 10).astype(dtype)


def as_bytes(array):
    return np.frombuffer(bytearray(array.tobytes()), np.uint8)


@contextmanager
def in_memory():
    with h5py.File("in memory", "w", driver="core", backing_store=False) as file:
        yield file


def pipeline(dset):
    plist = dset.id.get_create_plist()
    found = (plist.get_filter(i) for i in range(plist.get_nfilters()))
    return tuple(Filter(f[0], f[1], tuple(f[2]), f[3].decode()) for f in found)


def create(file, filters, array):
    """Create a dataset of one chunk with any pipeline, by HDF5's low-level interface."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(array.shape)
    for f in filters:
        plist.set_filter(f.id, f.flags, f.values)
    space, dtype = h5py.h5s.create_simple(array.shape), h5py.h5t.py_create(array.dtype)
    return h5py.Dataset(h5py.h5d.create(file.id, b"x", dtype, space, plist))


def place(dset, stored, mask=0):
    """Write a stored chunk and open the dataset anew: HDF5 goes on with the mask it knew before."""
    file = dset.file
    dset.id.write_direct_chunk((0,), stored, mask)
    dset.id.close()
    return file["x"]


def decoded_chunks(dset):
    """Read a dataset chunk by chunk through our codec."""
    whole, filters = np.empty(dset.shape, dset.dtype), pipeline(dset)
    assert decodable(filters)
    for corner in itertools.product(
        *(range(0, n, c) for n, c in zip(dset.shape, dset.chunks, strict=True))
    ):
        mask, raw = dset.id.read_direct_chunk(corner)
        out = np.empty(int(np.prod(dset.chunks)) * dset.dtype.itemsize, np.uint8)
        decode(raw, filters, mask, out)
        inside = tuple(
            slice(at, min(at + c, n))
            for at, c, n in zip(corner, dset.chunks, dset.shape, strict=True)
        )
        part = tuple(slice(0, s.stop - s.start) for s in inside)
        whole[inside] = out.view(dset.dtype).reshape(dset.chunks)[part]
    return whole


def decoded(raw, filters, mask, nbytes):
    out = np.empty(nbytes, np.uint8)
    decode(raw, filters, mask, out)
    return out.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("fletcher32", [False, True])
def test_decodes_what_h5py_wrote(dtype, compression, shuffle, fletcher32):
    array = values((37, 53), dtype)
    form = {"compression": compression, "shuffle": shuffle, "fletcher32": fletcher32}
    with in_memory() as file:
        dset = file.create_dataset("x", data=array, chunks=(10, 17), **form)
        np.testing.assert_array_equal(decoded_chunks(dset), dset[...])


@pytest.mark.parametrize("level", range(10))
def test_every_deflate_level(level):
    array = values((500,), "<f4")
    with in_memory() as file:
        dset = file.create_dataset("x", data=array, chunks=(500,), compression=level, shuffle=True)
        np.testing.assert_array_equal(decoded_chunks(dset), array)
        stored, mask = encode(as_bytes(array), pipeline(dset))
        dset = place(dset, stored, mask)
        np.testing.assert_array_equal(dset[...], array)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("fletcher32", [False, True])
@pytest.mark.parametrize("n", [1, 2, 1001])
def test_h5py_reads_what_we_encode(dtype, compression, shuffle, fletcher32, n):
    array = values((n,), dtype)
    form = {"compression": compression, "shuffle": shuffle, "fletcher32": fletcher32}
    with in_memory() as file:
        dset = file.create_dataset("x", array.shape, array.dtype, chunks=(n,), **form)
        stored, mask = encode(as_bytes(array), pipeline(dset))
        dset = place(dset, stored, mask)
        np.testing.assert_array_equal(dset[...], array)


@pytest.mark.parametrize(
    "filters",
    [
        order
        for compression in (DEFLATE, LZF)
        for order in itertools.permutations([shuffle_of(4), compression, CHECKSUM])
    ]
    + [(DEFLATE, LZF), (LZF, DEFLATE), (CHECKSUM, shuffle_of(3), LZF, DEFLATE, CHECKSUM)],
    ids=lambda filters: "+".join(f.name for f in filters),
)
def test_any_order_of_filters_as_hdf5_does_it(filters):
    array = values((999,), "<i4")
    with in_memory() as file:
        dset = create(file, filters, array)
        dset[...] = array
        np.testing.assert_array_equal(decoded_chunks(dset), array)
        stored, mask = encode(as_bytes(array), pipeline(dset))
        dset = place(dset, stored, mask)
        np.testing.assert_array_equal(decoded_chunks(dset), array)
        np.testing.assert_array_equal(dset[...], array)


@pytest.mark.parametrize("mask", range(16))
def test_a_filter_in_the_mask_was_not_applied(mask):
    filters = (shuffle_of(8), LZF, DEFLATE, CHECKSUM)
    array = values((300,), "<i8")
    applied = tuple(f for i, f in enumerate(filters) if not mask >> i & 1)
    stored, left_out = encode(as_bytes(array), applied)
    assert left_out == 0
    with in_memory() as file:
        dset = create(file, filters, array)
        dset = place(dset, stored, mask)
        np.testing.assert_array_equal(dset[...], array)
        np.testing.assert_array_equal(decoded_chunks(dset), array)


def test_lzf_that_does_not_help_is_left_out_as_in_h5py():
    noise = np.random.default_rng(0).integers(0, 256, 1000, np.uint8)
    with in_memory() as file:
        dset = file.create_dataset("x", data=noise, chunks=(1000,), compression="lzf")
        assert dset.id.read_direct_chunk((0,))[0] == 1
        assert encode(noise, pipeline(dset)) == (noise.tobytes(), 1)
        np.testing.assert_array_equal(decoded_chunks(dset), noise)


def test_lzf_that_must_be_applied_is_applied():
    noise = np.random.default_rng(0).integers(0, 256, 1000, np.uint8)
    mandatory = (Filter(32000, 0, (4, 261, 1000), "lzf"),)
    stored, mask = encode(noise, mandatory)
    assert mask == 0
    with in_memory() as file:
        dset = create(file, mandatory, noise)
        dset = place(dset, stored, mask)
        np.testing.assert_array_equal(dset[...], noise)


def test_a_filter_left_out_does_not_disturb_the_next():
    noise = np.random.default_rng(0).integers(0, 256, 1000, np.uint8)
    filters = (shuffle_of(2), LZF, shuffle_of(4), LZF, shuffle_of(8))
    stored, mask = encode(noise, filters)
    assert mask == 0b01010
    assert decoded(stored, filters, mask, 1000) == noise.tobytes()


filter_lists = st.lists(
    st.one_of(
        st.builds(lambda level: Filter(1, 1, (level,), "deflate"), st.integers(0, 9)),
        st.builds(shuffle_of, st.integers(1, 9)),
        st.just(CHECKSUM),
        st.builds(lambda flags: Filter(32000, flags, (4, 261, 0), "lzf"), st.integers(0, 1)),
    ),
    max_size=5,
).map(tuple)
raw_chunks = st.one_of(
    st.binary(min_size=1, max_size=500),
    st.lists(st.sampled_from([bytes(40), b"ab", b"\1\2\3"]), min_size=1).map(b"".join),
)


@given(raw_chunks, filter_lists)
def test_decode_takes_encode_back(raw, filters):
    stored, mask = encode(np.frombuffer(raw, np.uint8), filters)
    assert decoded(stored, filters, mask, len(raw)) == raw


@given(raw_chunks, filter_lists)
def test_equal_chunks_give_equal_bytes(raw, filters):
    block = np.frombuffer(raw, np.uint8)
    assert encode(block, filters) == encode(block.copy(), filters)


def test_any_kind_of_buffer_is_decoded():
    array = as_bytes(values((100,), "<f4"))
    stored, mask = encode(array, (shuffle_of(4), LZF, CHECKSUM))
    inside = memoryview(b"x" + stored)[1:]
    for raw in (stored, bytearray(stored), memoryview(stored), inside, np.frombuffer(stored, "u1")):
        assert decoded(raw, (shuffle_of(4), LZF, CHECKSUM), mask, array.size) == array.tobytes()


def test_the_checksum_of_old_hdf5_is_accepted():
    """Before 1.6.3 the two bytes of both halves lay the other way round (H5Zfletcher32.c)."""
    stored, _ = encode(as_bytes(values((99,), "i1")), (CHECKSUM,))
    old = stored[:-4] + bytes(stored[i] for i in (-3, -4, -1, -2))
    assert old != stored
    assert decoded(old, (CHECKSUM,), 0, 99) == stored[:-4]
    with in_memory() as file:
        dset = create(file, (CHECKSUM,), np.zeros(99, "i1"))
        dset = place(dset, old)
        assert dset[...].tobytes() == stored[:-4]


@pytest.mark.parametrize("compression", [(), (DEFLATE,), (LZF,)])
def test_no_changed_byte_passes_the_checksum(compression):
    filters = (shuffle_of(4), *compression, CHECKSUM)
    stored, _ = encode(as_bytes(values((60,), "<f4")), filters)
    for at in range(len(stored)):
        damaged = bytearray(stored)
        damaged[at] ^= 0x55
        with pytest.raises(DecodeError, match=r"checksum is 0x[0-9a-f]{8}, expected 0x[0-9a-f]{8}"):
            decoded(damaged, filters, 0, 240)


def test_no_changed_byte_passes_deflate():
    filters = (shuffle_of(4), DEFLATE)
    stored, _ = encode(as_bytes(values((60,), "<f4")), filters)
    for at in range(len(stored)):
        damaged = bytearray(stored)
        damaged[at] ^= 0xFF
        with pytest.raises(
            DecodeError, match=r"the deflate stream is damaged|decodes to \d+ bytes"
        ):
            decoded(damaged, filters, 0, 240)


def test_a_changed_byte_of_lzf_gives_an_error_or_the_right_size():
    """Lzf has no checksum of its own: HDF5 can't tell either."""
    stored, _ = encode(as_bytes(values((60,), "<i4")), (LZF,))
    errors = 0
    for at, bit in itertools.product(range(len(stored)), range(8)):
        damaged = bytearray(stored)
        damaged[at] ^= 1 << bit
        try:
            assert len(decoded(damaged, (LZF,), 0, 240)) == 240
        except DecodeError:
            errors += 1
    assert errors > 0


@pytest.mark.parametrize(
    "filters",
    [(), (shuffle_of(4),), (DEFLATE,), (LZF,), (CHECKSUM,), (shuffle_of(4), DEFLATE, CHECKSUM)],
    ids=lambda filters: "+".join(f.name for f in filters) or "none",
)
def test_a_truncated_chunk_is_an_error_at_every_byte(filters):
    stored, mask = encode(as_bytes(values((60,), "<i4")), filters)
    found = r"decodes to \d+ bytes, expected 240|stream is damaged|checksum"
    for n in range(len(stored)):
        with pytest.raises(DecodeError, match=found):
            decoded(stored[:n], filters, mask, 240)


@pytest.mark.parametrize(
    "filters",
    [
        (),
        (shuffle_of(4),),
        (CHECKSUM,),
        (DEFLATE,),
        (LZF,),
        (shuffle_of(4), DEFLATE),
        (shuffle_of(4), LZF),
        (DEFLATE, LZF),
    ],
    ids=lambda filters: "+".join(f.name for f in filters) or "none",
)
@pytest.mark.parametrize("nbytes", [1, 239, 241, 100_000])
def test_a_chunk_of_another_size_is_an_error(filters, nbytes):
    stored, mask = encode(as_bytes(values((60,), "<i4")), filters)
    found = f"decodes to 240 bytes, expected {nbytes}$|decodes to more than {nbytes} bytes$"
    with pytest.raises(DecodeError, match=found):
        decoded(stored, filters, mask, nbytes)


def test_bytes_behind_a_deflate_stream_are_ignored_as_hdf5_does():
    array = values((60,), "<i4")
    stored, _ = encode(as_bytes(array), (DEFLATE,))
    with in_memory() as file:
        dset = create(file, (DEFLATE,), array)
        dset = place(dset, stored + b"behind")
        np.testing.assert_array_equal(dset[...], array)
        np.testing.assert_array_equal(decoded_chunks(dset), array)


@pytest.mark.parametrize("client_values", [(), (0,)])
def test_shuffle_without_an_element_size(client_values):
    filters = (Filter(2, 1, client_values, "shuffle"),)
    with pytest.raises(DecodeError, match=r"shuffle has client values .*, expected the element's"):
        decoded(bytes(8), filters, 0, 8)


def test_sizes_beyond_what_libdeflate_takes_go_through_zlib(monkeypatch):
    array = as_bytes(values((1000,), "<f4"))
    stored, _ = encode(array, (DEFLATE,))
    monkeypatch.setattr(codec, "_MOST_FOR_LIBDEFLATE", 3999)
    assert decoded(stored, (DEFLATE,), 0, 4000) == array.tobytes()
    for damaged in (stored[:-1], stored[:9], b"x" * 99, encode(bytes(4001), (DEFLATE,))[0]):
        with pytest.raises(DecodeError, match="the deflate stream is damaged, or decodes to more"):
            decoded(damaged, (DEFLATE,), 0, 4000)


def test_other_filters_are_not_decodable():
    assert decodable(())
    assert decodable((shuffle_of(4), DEFLATE, LZF, CHECKSUM))
    assert not decodable((shuffle_of(4), Filter(4, 1, (), "szip")))


def test_errors_survive_pickling():
    with pytest.raises(DecodeError, match="decodes to 3 bytes, expected 4") as caught:
        decoded(b"abc", (), 0, 4)
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is DecodeError
    assert str(again) == str(caught.value)


def test_threads_do_not_share_memory():
    filters = (shuffle_of(4), LZF, shuffle_of(2), LZF)
    chunks = [as_bytes(values((5000,), "<f4") + i) for i in range(64)]

    def there_and_back(chunk):
        stored, mask = encode(chunk, filters)
        return decoded(stored, filters, mask, chunk.size)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(there_and_back, chunks)) == [c.tobytes() for c in chunks]


def peak_in_chunks(call, nbytes):
    """Return the most memory a call takes in a thread of its own, in chunks."""
    tracemalloc.start()
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / nbytes


@pytest.mark.parametrize("compression", [DEFLATE, LZF])
def test_memory_is_what_the_docstrings_promise(compression):
    array = as_bytes(np.arange(10**6, dtype="<f4"))
    filters = (shuffle_of(4), compression, CHECKSUM)
    stored, mask = encode(array, filters)
    out = np.empty_like(array)
    assert peak_in_chunks(lambda: decode(stored, filters, mask, out), array.size) < 1.05
    assert peak_in_chunks(lambda: encode(array, filters), array.size) < 3.2
