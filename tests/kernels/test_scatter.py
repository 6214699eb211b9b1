"""Tiles go where five lines of numpy put them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from h5dask.kernels.scatter import scatter


@given(
    n_tiles=st.integers(0, 6),
    height=st.integers(1, 5),
    stride=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
)
def test_tiles_side_by_side(n_tiles: int, height: int, stride: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = rng.integers(0, 256, max(1, n_tiles) * height * stride, dtype=np.uint8)
    widths = rng.integers(1, stride + 1, n_tiles)
    heights = rng.integers(1, height + 1, n_tiles)
    starts = np.arange(n_tiles) * height * stride
    row = n_tiles * stride + 1
    expected = np.zeros((height, row), np.uint8)
    target = expected.copy()
    for i in range(n_tiles):
        tile = source[starts[i] : starts[i] + height * stride].reshape(height, stride)
        expected[: heights[i], i * stride : i * stride + widths[i]] = tile[
            : heights[i], : widths[i]
        ]
    places = np.arange(n_tiles) * stride
    scatter(source, starts, heights, widths, stride, places, target.reshape(-1), row)
    assert np.array_equal(target, expected)
