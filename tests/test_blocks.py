"""Blocks cover their dim once, are about as large as asked, and end at natural borders."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5dask import blocks
from h5dask.blocks import Rows

LENGTHS = st.lists(st.integers(0, 200), min_size=1, max_size=12)
NBYTES = st.one_of(st.integers(0, 300).map(float), st.floats(0.1, 300))


def rows(lengths: list[int], nbytes: float, chunk: int) -> Rows:
    ends = np.cumsum(lengths, dtype=np.int64)
    return Rows(size=int(ends[-1]), nbytes=nbytes, ends=ends, chunk=chunk)


@given(LENGTHS, NBYTES, st.integers(1, 64), st.integers(1, 5000))
def test_blocks_cover_rows_once(lengths: list[int], nbytes: float, chunk: int, size: int) -> None:
    found = blocks.cut(rows(lengths, nbytes, chunk), size)
    assert sum(found) == sum(lengths)
    assert all(n > 0 for n in found) or found == (0,)


@given(LENGTHS, st.integers(1, 300), st.integers(1, 64), st.integers(1, 5000))
def test_blocks_end_with_datasets_or_stored_chunks(
    lengths: list[int], nbytes: int, chunk: int, size: int
) -> None:
    one = rows(lengths, float(nbytes), chunk)
    wanted = max(1, size // nbytes)
    origins = np.concatenate(([0], one.ends))
    start = 0
    for length in blocks.cut(one, size):
        end = start + length
        within = end - int(origins[np.searchsorted(one.ends, end, side="left")])
        if end not in one.ends and chunk <= 8 * wanted:
            assert within % chunk == 0
        assert length <= (wanted if chunk <= wanted or chunk > 8 * wanted else chunk)
        if end not in one.ends:  # only a dataset larger than a block is cut
            held = np.diff(origins)[np.searchsorted(one.ends, end, side="left")]
            assert held > min(wanted, max(wanted // chunk * chunk, 1))
        start = end


@given(LENGTHS, st.integers(1, 100))
def test_small_datasets_share_blocks(lengths: list[int], wanted: int) -> None:
    lengths = [min(n, wanted) for n in lengths]
    found = blocks.cut(rows(lengths, 1.0, 1), wanted)
    for one, following in pairwise(found):
        assert one + following > wanted


def test_no_dim_has_more_blocks_than_a_graph_can_hold() -> None:
    declared = 2**60
    found = blocks.cut(rows([declared], 4096.0, 1), blocks.BLOCK_SIZE)
    assert sum(found) == declared
    assert len(found) <= blocks.MOST_BLOCKS
    [(first, *others), whole] = blocks.columns((declared, 3), 8, blocks.BLOCK_SIZE)
    assert first + sum(others) == declared
    assert len(others) < blocks.MOST_BLOCKS
    assert whole == (3,)


@given(
    st.lists(st.integers(0, 300), max_size=3), st.sampled_from([1, 2, 8]), st.integers(1, 10_000)
)
def test_columns_are_whole_unless_a_row_exceeds_blocks(
    sizes: list[int], itemsize: int, size: int
) -> None:
    found = blocks.columns(sizes, itemsize, size)
    assert [sum(lengths) for lengths in found] == sizes
    if math.prod(sizes) * itemsize <= 4 * size:
        assert [len(lengths) for lengths in found] == [1] * len(sizes)
    nbytes = math.prod(max(lengths, default=0) for lengths in found) * itemsize
    assert nbytes <= max(4 * size, itemsize)


def test_all_that_share_a_dim_share_the_widest_ones_rows() -> None:
    narrow, wide = rows([5, 5, 5], 1.0, 1), rows([15], 100.0, 4)
    found = blocks.widest({"record": [narrow, wide], "query": [narrow]})
    assert (found["record"].nbytes, found["record"].chunk) == (100.0, 4)
    assert found["record"].ends.tolist() == [5, 10, 15]
    assert found["query"].nbytes == 1.0


@pytest.mark.parametrize(
    ("lengths", "chunk", "expected"),
    [
        ([100], 1, (30, 30, 30, 10)),
        ([100], 10, (30, 30, 30, 10)),
        ([100], 20, (20, 20, 20, 20, 20)),
        ([100], 70, (70, 30)),
        ([100], 1000, (30, 30, 30, 10)),
        ([10, 10, 10, 10], 1, (30, 10)),
        ([10, 90, 10], 20, (10, 20, 20, 20, 30, 10)),
        ([0, 0], 1, (0,)),
    ],
)
def test_examples(lengths: list[int], chunk: int, expected: tuple[int, ...]) -> None:
    assert blocks.cut(rows(lengths, 10.0, chunk), 300) == expected
