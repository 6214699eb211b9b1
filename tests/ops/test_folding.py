"""Blocks are looked at once, in order, one at a time; many cost few tasks and a small graph."""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from h5dask.blocks import BLOCK_SIZE
from h5dask.ops.folding import FAN_IN, Folded, blocked, fold, reads

Chunks = tuple[tuple[int, ...], ...]


class Source:
    """An array that knows how often it was read, and how many of its blocks are alive."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.ndim = values.ndim
        self.n_reads = self.most_alive = 0
        self.alive: weakref.WeakSet[Any] = weakref.WeakSet()

    def __getitem__(self, at: Any) -> NDArray[Any]:
        block = np.array(self.values[at]).view(Kept)
        self.n_reads += block.size > 0  # dask looks at none of the values, to learn the type
        self.alive.add(block)
        self.most_alive = max(self.most_alive, len(self.alive))
        return block


class Kept(np.ndarray):  # type: ignore[type-arg]
    """An array whose end can be seen."""

    __hash__ = object.__hash__


def seen(block: NDArray[Any], extra: Any = None) -> list[Any]:
    """Return a record that tells which block it is of."""
    return [(int(block.flat[0]), block.size, extra)]


def joined(parts: list[list[Any]]) -> list[Any]:
    return [one for part in parts for one in part]


def records(folded: Folded) -> list[Any]:
    """Return each record, in the order of the blocks that are kept."""
    keys = [(folded.name, *at) for at in np.ndindex(*folded.numblocks)]
    return list(dask.get(dict(folded.graph), keys))


def numbered(chunks: Chunks) -> da.Array:
    """Return an array in which no value is there twice."""
    shape = tuple(map(sum, chunks))
    return da.from_array(np.arange(np.prod(shape)).reshape(shape), chunks=chunks)


CHUNKS = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=7), min_size=1, max_size=3)


@settings(max_examples=40)
@given(CHUNKS, st.data())
def test_each_block_comes_once_and_in_order(lengths: list[list[int]], data: st.DataObject) -> None:
    array = numbered(tuple(map(tuple, lengths)))
    axes = data.draw(st.sets(st.integers(0, array.ndim - 1), min_size=1).map(sorted))
    folded = fold(array, axes, seen, joined, name="x", extras=str)
    kept = [axis for axis in range(array.ndim) if axis not in axes]
    assert folded.numblocks == tuple(array.numblocks[axis] for axis in kept)
    expected: dict[tuple[int, ...], list[Any]] = {}
    for at in product(*map(range, array.numblocks)):
        block = array.blocks[at].compute(scheduler="sync")
        place = tuple(at[axis] for axis in kept)
        expected.setdefault(place, []).extend(seen(block, str(at)))
    assert records(folded) == [expected[place] for place in sorted(expected)]


def test_without_extras_a_look_takes_the_block_alone() -> None:
    def look(block: NDArray[Any]) -> list[int]:
        return block.tolist()

    assert records(fold(numbered(((2, 1),)), (0,), look, joined, name="x")) == [[0, 1, 2]]


@pytest.mark.parametrize("n_blocks", [1, 16, 17, 127, 128, 300, 2000])
def test_many_blocks_are_few_tasks(n_blocks: int) -> None:
    source = Source(np.arange(2 * n_blocks).reshape(n_blocks, 2))
    array = da.from_array(source, chunks=(1, 2))
    folded = fold(array, (0, 1), seen, joined, name="x")
    run = max(1, min(FAN_IN, n_blocks // 64))
    n_runs = -(-n_blocks // run)
    merges, level = 0, n_runs
    while level > 1:
        level = -(-level // FAN_IN)
        merges += level
    constants = 1
    assert len(folded.graph) <= n_runs + max(1, merges) + constants
    (found,) = records(folded)
    assert found == [(2 * i, 2, None) for i in range(n_blocks)]
    assert source.n_reads == n_blocks


def test_a_run_of_blocks_holds_one_at_a_time() -> None:
    source = Source(np.arange(2000))
    array = da.from_array(source, chunks=1, asarray=False)
    folded = fold(array, (0,), seen, joined, name="x")
    assert len(folded.graph) < 200
    records(folded)
    assert source.n_reads == 2000
    assert source.most_alive <= 2  # the next one is read while the last one's name is still bound


@pytest.mark.parametrize("in_graph", [False, True])
def test_the_source_is_in_the_graph_once(in_graph: bool) -> None:
    source = np.arange(250_000.0)
    array = da.from_array(source, chunks=500, inline_array=in_graph)
    folded = fold(array, (0,), seen, joined, name="x")
    assert len(pickle.dumps(folded)) < source.nbytes + 500 * 1000


def test_blocks_that_nobody_asks_for_are_not_in_the_graph() -> None:
    array = (numbered(((1,) * 500,)) + 1)[:3]
    folded = fold(array, (0,), seen, joined, name="x")
    assert len(folded.graph) < 20
    assert records(folded) == [[(i + 1, 1, None) for i in range(3)]]


def test_what_comes_before_the_blocks_is_done_in_the_same_task() -> None:
    array = numbered(((1,) * 100,))
    plain, more = (fold(one, (0,), seen, joined, name="x") for one in (array, -(array * 2) + 7))
    assert len(more.graph) <= len(plain.graph) + 2
    assert records(more) == [[(7 - 2 * i, 1, None) for i in range(100)]]


def test_blocks_made_of_several_others() -> None:
    array = numbered(((4,) * 30, (2, 2))).rechunk((10, 4)).T[:, 5:]
    folded = fold(array, (0,), seen, joined, name="x")
    values = np.arange(480).reshape(120, 4).T[:, 5:]
    firsts = np.cumsum([0, *array.chunks[1][:-1]])
    assert [one[0][0] for one in records(folded)] == values[0, firsts].tolist()


class Locked:
    """A lock that counts how often it was held."""

    def __init__(self) -> None:
        self.n_held = 0

    def acquire(self) -> None:
        self.n_held += 1

    def release(self) -> None:
        pass


def test_tasks_made_of_one_are_those_of_dask() -> None:
    source = Source(np.arange(24).reshape(6, 4))
    array = da.from_array(source, chunks=((1, 3, 2), (3, 1)), inline_array=False)
    made, expected = reads(array), dict(array.dask)
    assert made.keys() == expected.keys()
    for at in np.ndindex(*array.numblocks):
        block = made[array.name, *at]({f"original-{array.name}": source})
        assert np.array_equal(block, array.blocks[at].compute(scheduler="sync"))


def test_how_dask_reads_is_kept() -> None:
    lock = Locked()
    array = da.from_array(Source(np.arange(8)), chunks=2, lock=lock, asarray=False)
    assert reads(array)
    assert records(fold(array, (0,), seen, joined, name="x"))[0][3] == (6, 2, None)
    assert lock.n_held == 4


@pytest.mark.parametrize(
    "array",
    [
        numbered(((2, 2),)),
        da.from_array(Source(np.arange(4)), chunks=2, inline_array=True),
        da.from_array(Source(np.arange(4)), chunks=2) + 1,
        da.from_array(Source(np.arange(4)), chunks=2)[1:],
        da.from_array(Source(np.arange(4)), chunks=2).blocks[1:],
        da.from_array(Source(np.arange(4)), chunks=2).rechunk(1),
        da.from_array(Source(np.arange(4)), chunks=4).rechunk(1),
        da.zeros(4, chunks=2),
    ],
    ids=["values", "inline", "added", "sliced", "blocks", "halved", "cut", "zeros"],
)
def test_other_tasks_are_left_to_dask(array: da.Array) -> None:
    assert reads(array) == {}
    found = records(fold(array, (0,), seen, joined, name="x"))
    assert sum(size for _, size, _ in found[0]) == array.size


def test_work_that_blocks_share_is_done_once() -> None:
    source = Source(np.arange(300))
    array = da.from_array(source, chunks=30).rechunk(1)
    (found,) = records(fold(array, (0,), seen, joined, name="x"))
    assert found == [(i, 1, None) for i in range(300)]
    assert source.n_reads == 10


def together(one: NDArray[Any], other: NDArray[Any], at: Any, given: NDArray[Any]) -> list[Any]:
    return [(one.tolist(), other.tolist(), at, given.tolist())]


def test_several_arrays_are_looked_at_together_with_what_is_given() -> None:
    n_given = []

    def give() -> NDArray[Any]:
        n_given.append(1)
        return np.array([[3]])

    given = da.from_delayed(dask.delayed(give)(), (1, 1), int)
    one = numbered(((1,) * 200,))
    folded = fold([one, one * 2], (0,), together, joined, name="x", extras=list, given=given)
    assert records(folded) == [[([i], [2 * i], [i], [[3]]) for i in range(200)]]
    assert len(n_given) == 1


def test_what_comes_after_the_records() -> None:
    folds = [
        fold(numbered(((2, 2), (1, 1))), (0,), seen, joined, name=name, extras=extras)
        for name, extras in (("x", None), ("y", str))
    ]
    both = folds[0].joined(folds[1], joined).then("n", len)
    assert records(both) == [4, 4]
    assert records(folds[0].joined(folds[1], joined))[1] == [
        *[(1, 2, None), (5, 2, None)],
        *[(1, 2, "(0, 1)"), (5, 2, "(1, 1)")],
    ]
    assert len({both.name, *(one.name for one in folds)}) == 3


def test_keys_tell_apart_what_differs() -> None:
    array = numbered(((2, 2), (3,)))

    def named(
        array: da.Array = array, axes: tuple[int, ...] = (0,), look: Any = seen, **more: Any
    ) -> str:
        return fold(array, axes, look, joined, **{"name": "x", **more}).name

    assert named() == named()
    assert named(extras=max) == named(extras=max)
    others = [named(array + 1), named(axes=(0, 1)), named(look=partial(seen, extra=1))]
    others += [named(array.rechunk(1)), named(name="y"), named(extras=min), named(extras=max)]
    others += [named(given=array[:1]), named(given=array[1:2])]
    assert len({named(), *others}) == 10


@pytest.mark.parametrize("option", ["fan_in", "tasks"])
def test_keys_tell_apart_how_records_are_put_together(option: str) -> None:
    array = numbered(((1,) * 300,))
    folds = [fold(array, (0,), seen, joined, name="x", **{option: n}) for n in (2, 100)]
    assert folds[0].name != folds[1].name


def _first(record: list[Any]) -> NDArray[Any]:
    return np.full((2, 1, 3), float(record[0][0]))


def test_parts_of_records_are_arrays() -> None:
    array = numbered(((2, 3), (4, 4, 1), (2,)))
    folded = fold(array, (0, 2), seen, joined, name="x")

    found = folded.array("first", _first, ((2,), (1, 1, 1), (3,)), np.float64, new=1, last=1)
    assert found.chunks == ((2,), (1, 1, 1), (3,))
    assert found.dtype == np.float64
    assert found[1, :, 2].compute().tolist() == [0, 8, 16]
    again = pickle.loads(pickle.dumps(found))
    assert np.array_equal(again.compute(), found.compute())


@pytest.fixture(params=["sync", "threads"])
def scheduler(request: pytest.FixtureRequest) -> Iterator[str]:
    with dask.config.set(scheduler=request.param):
        yield request.param


def test_parts_of_one_record_are_made_of_one_look(scheduler: str) -> None:
    source = Source(np.arange(600).reshape(300, 2))
    array = da.from_array(source, chunks=(1, 2))
    folded = fold(array, (0, 1), seen, joined, name="x")
    parts = [
        folded.array(str(at), partial(_item, at=at), ((300,),), np.int64, last=1) for at in (0, 1)
    ]
    firsts, sizes = dask.compute(*parts)
    assert np.array_equal(firsts, np.arange(0, 600, 2))
    assert set(sizes) == {2}
    assert source.n_reads == 300


def _item(record: list[Any], at: int) -> NDArray[Any]:
    return np.array([one[at] for one in record])


def test_blocked_leaves_lazy_arrays_and_cuts_others() -> None:
    lazy = xr.Variable("x", da.ones(9, chunks=2))
    assert blocked(lazy) is lazy.data
    values = np.zeros((5 * BLOCK_SIZE // 16, 2))
    cut = blocked(xr.Variable(("x", "y"), values))
    assert cut.npartitions > 1
    assert max(np.prod(one) for one in product(*cut.chunks)) * 8 <= BLOCK_SIZE
    whole = xr.IndexVariable("x", np.arange(3))
    assert blocked(whole).compute().tolist() == [0, 1, 2]
