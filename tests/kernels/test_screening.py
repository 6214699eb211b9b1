"""Vectors marked by their bits, against numpy's own isnan, isinf and comparison with zero."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5dask.kernels.screening import NAN, NEGINF, POSINF, ZERO, screen

FLOATS = ["f2", "f4", "f8", ">f2", ">f4", ">f8", "c8", "c16", "g"]
HOSTILE = [0.0, -0.0, 1.0, np.nan, np.inf, -np.inf, 6e-8, -6e-8, 65504.0, -65504.0]
"""With float16's smallest and largest numbers, which are neither zero nor infinite."""


def expected(vectors):
    """Look at (vector, column) as numpy does."""
    kinds = np.isnan(vectors), np.isposinf(vectors), np.isneginf(vectors)
    zero = (vectors == 0).all(axis=1)
    marks = zero * ZERO
    for bit, kind in zip((NAN, POSINF, NEGINF), kinds, strict=True):
        marks += kind.any(axis=1) * bit
    return marks.tolist(), [*(int(kind.sum()) for kind in kinds), int(zero.sum())]


def found(values, width, **how):
    marks, counts = screen(values, width, **how)
    assert (marks.dtype, counts.dtype) == (np.uint8, np.int64)
    return marks.tolist(), counts.tolist()


def filled(dtype, shape, seed, n_hostile):
    """Return ordinary numbers with some hostile ones among them, and half of all vectors zero."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape)
    values[rng.random(len(values)) < 0.5] = 0
    values.reshape(-1)[rng.integers(values.size, size=n_hostile)] = rng.choice(HOSTILE, n_hostile)
    return values.astype(dtype)


@given(
    st.sampled_from(FLOATS[:6]),
    st.integers(1, 40),
    st.integers(1, 1100),
    st.integers(0, 2**32),
    st.integers(0, 9),
)
def test_floats(dtype, n_vectors, width, seed, n_hostile):
    vectors = filled(dtype, (n_vectors, width), seed, n_hostile)
    assert found(vectors, width) == expected(vectors)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("width", [1, 2, 1023, 1024, 1025])
def test_every_hostile_value_alone(dtype, width):
    vectors = np.ones((len(HOSTILE), width), dtype)
    vectors[:, width // 2] = HOSTILE
    assert found(vectors, width) == expected(vectors.real)


def test_parts_of_complex_numbers():
    vectors = np.array([[0, 0], [0j, complex(0, np.nan)], [complex(np.inf, -np.inf), 1]])
    parts = vectors.view(np.float64)
    assert found(vectors, 2) == expected(parts)
    assert found(vectors, 2)[0] == [ZERO, NAN, POSINF + NEGINF]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_any_payload_of_nan(dtype):
    bits = np.dtype(dtype.replace("f", "u"))
    infinity = np.array(np.inf, dtype).view(bits)[()]
    sign = bits.type(1 << (8 * bits.itemsize - 1))
    first, last = infinity + bits.type(1), bits.type(sign - 1)  # signalling, and all bits set
    values = np.array([first, last, first | sign, last | sign, sign], bits).view(dtype)
    assert found(values, 1) == ([NAN] * 4 + [ZERO], [4, 0, 0, 1])


@pytest.mark.parametrize("dtype", ["i1", "u1"])
def test_eight_bits(dtype):
    every = np.arange(256).astype(np.uint8).view(dtype)
    assert found(every, 1) == ([ZERO] + [0] * 255, [0, 0, 0, 1])
    padded = np.stack([np.zeros_like(every), every], axis=1)
    assert found(padded, 2) == ([ZERO] + [0] * 255, [0, 0, 0, 1])


def test_zeros_are_looked_for_on_request():
    values = np.array([0.0, np.nan, 0.0])
    assert found(values, 1, zeros=False) == ([0, NAN, 0], [1, 0, 0, 0])


def test_any_memory_order():
    values = filled("f4", (6, 40), 0, 9)
    for other in (np.asfortranarray(values), np.repeat(values, 2, axis=1)[:, ::2]):
        assert found(other, 40) == expected(values)
    values.flags.writeable = False
    assert found(values, 40) == expected(values)


def test_nothing():
    assert found(np.zeros((0, 3)), 3) == ([], [0, 0, 0, 0])
    assert found(np.zeros((3, 0)), 0) == ([], [0, 0, 0, 0])
