"""The shuffle kernels against a transposition in numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5dask.kernels.shuffle import interleave, separate

sizes = st.integers(1, 17)


def shuffled(source, size):
    whole = source.size - source.size % size
    planes = source[:whole].reshape(-1, size).T
    return np.concatenate([planes.ravel(), source[whole:]])


def applied(step, source, size):
    target = np.empty_like(source)
    step(source, target, size)
    return target


@given(st.binary(max_size=300), sizes)
def test_separate_is_a_transposition(raw, size):
    source = np.frombuffer(bytearray(raw), np.uint8)
    np.testing.assert_array_equal(applied(separate, source, size), shuffled(source, size))


@given(st.binary(max_size=300), sizes)
def test_interleave_takes_it_back(raw, size):
    source = np.frombuffer(bytearray(raw), np.uint8)
    np.testing.assert_array_equal(applied(interleave, shuffled(source, size), size), source)


@pytest.mark.parametrize("size", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("n", [1023, 1024, 4097])
@pytest.mark.parametrize("extra", [0, 1])
def test_long_sources(size, n, extra):
    source = np.random.default_rng(0).integers(0, 256, n * size + extra, dtype=np.uint8)
    np.testing.assert_array_equal(applied(separate, source, size), shuffled(source, size))
    np.testing.assert_array_equal(applied(interleave, shuffled(source, size), size), source)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("step", [separate, interleave])
def test_no_byte_outside_the_target_changes(step, size):
    memory = np.full(200, 7, np.uint8)
    step(np.zeros(99, np.uint8), memory[50:149], size)
    assert (memory[:50] == 7).all()
    assert (memory[149:] == 7).all()


def test_an_element_longer_than_the_source_is_copied():
    source = np.arange(5, dtype=np.uint8)
    np.testing.assert_array_equal(applied(separate, source, 8), source)
    np.testing.assert_array_equal(applied(interleave, source, 8), source)
