"""The LZF kernels against a decoder in a few lines of Python, and against streams made by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5dask.kernels.lzf import CORRUPT, NO_ROOM, compress, decompress

NO_MATCH = np.random.default_rng(0).permutation(256).astype(np.uint8).tobytes()


def decoded(stream):
    """Decode as the format says; None where the stream is damaged."""
    out, left = [], list(reversed(stream))
    try:
        while left:
            control = left.pop()
            if control < 32:
                out += [left.pop() for _ in range(control + 1)]
            else:
                length = (control >> 5) + 2 + (left.pop() if control >> 5 == 7 else 0)
                back = ((control & 31) << 8) + left.pop() + 1
                for _ in range(length):
                    out.append(out[-back])
    except IndexError:
        return None
    return bytes(out)


def run(kernel, raw, room):
    """Run a kernel into the middle of marked memory, and see that the marks are left alone."""
    memory = np.full(room + 128, 7, np.uint8)
    n = kernel(np.frombuffer(bytearray(raw), np.uint8), memory[64 : 64 + room])
    assert (memory[:64] == 7).all()
    assert (memory[64 + room :] == 7).all()
    return n, memory[64 : 64 + max(n, 0)].tobytes()


def encoded(raw):
    n, stream = run(compress, raw, len(raw) + len(raw) // 32 + 1)
    assert n >= 0
    return stream


pieces = st.sampled_from([b"a", b"ab", b"abc" * 5, NO_MATCH, bytes(300)])
values = st.one_of(st.binary(max_size=2000), st.lists(pieces, max_size=40).map(b"".join))


@given(values)
def test_compress_makes_what_the_format_says(raw):
    assert decoded(encoded(raw)) == raw


@given(values)
def test_decompress_takes_compress_back(raw):
    assert run(decompress, encoded(raw), len(raw)) == (len(raw), raw)


@given(st.lists(st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 32, 224])), max_size=60))
def test_decompress_any_stream(stream):
    expected = decoded(stream)
    n, found = run(decompress, stream, 6000)
    assert n == CORRUPT if expected is None else (n, found) == (len(expected), expected)


@given(st.lists(st.integers(0, 255), max_size=60), st.integers(0, 100))
def test_decompress_never_leaves_a_small_target(stream, room):
    n, _ = run(decompress, stream, room)
    assert n in (CORRUPT, NO_ROOM) or n <= room


@pytest.mark.parametrize("length", [3, 8, 9, 263, 264, 265, 266, 267, 528, 529])
@pytest.mark.parametrize("between", [0, 1, 8000, 8190, 8191, 8192, 8193, 9000])
def test_longest_and_farthest_copies(length, between):
    rng = np.random.default_rng(between)
    motif = rng.integers(0, 256, length, np.uint8).tobytes()
    raw = motif + rng.integers(0, 256, between, np.uint8).tobytes() + motif
    stream = encoded(raw)
    assert decoded(stream) == raw
    assert run(decompress, stream, len(raw)) == (len(raw), raw)


@pytest.mark.parametrize("back", [*range(1, 20), 255, 256, 257, 8192])
@pytest.mark.parametrize("length", [3, 9, 16, 17, 264])
def test_copies_that_overlap_themselves(back, length):
    period = np.random.default_rng(back).integers(0, 256, back, np.uint8).tobytes()
    literals = b"".join(
        bytes([len(run) - 1]) + run for run in (period[i : i + 32] for i in range(0, back, 32))
    )
    high, low = divmod(back - 1, 256)
    order = [length - 2 << 5 | high] if length < 9 else [7 << 5 | high, length - 9]
    stream = literals + bytes([*order, low])
    raw = (period * (length // back + 2))[: back + length]
    for room in (len(raw), len(raw) + 100):
        assert run(decompress, stream, room) == (len(raw), raw)


@pytest.mark.parametrize("n", [31, 32, 33, 64, 65, 256])
def test_literals_grow_by_one_byte_in_32(n):
    assert len(encoded(NO_MATCH[:n])) == n + -(-n // 32)


def test_compress_without_room():
    stream = encoded(NO_MATCH + bytes(1000) + NO_MATCH)
    raw = decoded(stream)
    assert run(compress, raw, len(stream))[0] == len(stream)
    assert {run(compress, raw, room)[0] for room in range(len(stream))} == {NO_ROOM}


def test_repetition_becomes_short():
    assert len(encoded(bytes(100_000))) < 1500
    assert len(encoded(b"cause and effect, " * 1000)) < 400
