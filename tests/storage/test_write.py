"""Blocks written as bytes are what h5py would have written, whatever the blocks were."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h5dask.chunkindex import ChunkIndex
from h5dask.contents import UNLIMITED
from h5dask.errors import CorruptInput, LayoutError, NotFound, OutOfSpace
from h5dask.storage import write
from h5dask.storage.forms import form_of, gzip_filters
from h5dask.storage.skeleton import Plan, PlannedArray, create
from h5dask.storage.write import Receipt, read_receipt, write_block, write_pieces
from tests.files.variant import Array
from tests.storage.rewriting import planned

DTYPES = ("i1", "<i2", ">i2", "<f2", ">f4", "<f8", "?")
FILL = {"?": True, "i1": 7}
Box = tuple[tuple[int, int], ...]


def numbers(shape: tuple[int, ...], dtype: str) -> Array:
    return (np.arange(np.prod(shape)) % 113).astype(dtype).reshape(shape)


def fill_of(dtype: str) -> bytes:
    return np.array(FILL.get(dtype, 9), dtype).tobytes()


def boxes(cuts: list[list[int]]) -> Iterator[Box]:
    """Give every box of a grid cut at these places."""
    return product(*[list(pairwise(along)) for along in cuts])


@st.composite
def partitions(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...] | None, list[Box]]:
    """Draw a shape, chunks, and boxes that cover the shape once, in any order."""
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    chunks = draw(st.none() | st.tuples(*[st.integers(1, n + 3) for n in shape]))
    cuts = [sorted({0, n, *draw(st.lists(st.integers(0, n), max_size=3))}) for n in shape]
    return shape, chunks, draw(st.permutations(list(boxes(cuts))))


@settings(max_examples=120)
@given(
    partition=partitions(),
    dtype=st.sampled_from(DTYPES),
    piece=st.sampled_from([1, 7, 64, 4 << 20]),
    order=st.sampled_from("CF"),
)
def test_any_blocks_in_any_order_are_the_array(
    partition: tuple[tuple[int, ...], tuple[int, ...] | None, list[Box]],
    dtype: str,
    piece: int,
    order: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    shape, chunks, cut = partition
    path = str(tmp_path_factory.mktemp("write") / "x.h5")
    maxshape = tuple(UNLIMITED for _ in shape) if chunks else ()
    form = form_of(dtype, chunks=chunks, maxshape=maxshape, fill=fill_of(dtype))
    index = create(path, planned(form, shape))["x"]
    values = np.asarray(numbers(shape, dtype), order=order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "PIECE_NBYTES", piece)
        for box in cut:
            start = tuple(a for a, _ in box)
            block = values[tuple(slice(a, b) for a, b in box)]
            receipt = write_block(path, index, start, block, dtype, form.fill)
            assert receipt == read_receipt(path, [(index, start, block.shape)], dtype)
            assert receipt.n_values == block.size
    with h5py.File(path, "r+") as f:
        assert f["x"][...].tobytes() == values.tobytes()
        if chunks:
            # Growing shows what lies in the padding of the edge's chunks.
            grown = tuple(-(-n // c) * c for n, c in zip(shape, chunks, strict=True))
            f["x"].resize(grown)
            expected = np.full(grown, FILL.get(dtype, 9), dtype)
            expected[tuple(slice(0, n) for n in shape)] = values
            assert f["x"][...].tobytes() == expected.tobytes()


def test_blocks_are_written_in_the_stored_byte_order(tmp_path: Path) -> None:
    path = str(tmp_path / "x.h5")
    index = create(path, planned(form_of(">f4"), (6,)))["x"]
    write_block(path, index, (0,), np.arange(6, dtype="<f4"), ">f4")
    with h5py.File(path) as f:
        assert f["x"].dtype == ">f4"
        assert f["x"][:].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_block_that_spans_many_datasets(tmp_path: Path) -> None:
    path = str(tmp_path / "x.h5")
    form = form_of("<i4")
    arrays = tuple(PlannedArray(path=f"g{i}/x", shape=(i + 1, 3), form=form) for i in range(20))
    indexes = create(path, Plan(groups={}, arrays=arrays, attrs={}))
    block = numbers((210, 3), "<i4")
    starts = np.cumsum([0, *(i + 1 for i in range(20))])
    parts = [
        (indexes[array.path], (0, 0), block[a:b])
        for array, (a, b) in zip(arrays, pairwise(starts), strict=True)
    ]
    receipt = write_pieces(path, parts, "<i4")
    assert receipt == read_receipt(path, [(i, s, b.shape) for i, s, b in parts], "<i4")
    assert (receipt.n_values, receipt.nbytes) == (630, 2520)
    with h5py.File(path) as f:
        found = np.concatenate([f[array.path][...] for array in arrays])
    assert np.array_equal(found, block)


def test_a_scalar(tmp_path: Path) -> None:
    path = str(tmp_path / "x.h5")
    index = create(path, planned(form_of(">i8"), ()))["x"]
    assert write_block(path, index, (), np.array(5), ">i8").nbytes == 8
    with h5py.File(path) as f:
        assert f["x"][()] == 5


def test_a_receipt_tells_what_changed_underneath(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    index = create(str(path), planned(form_of("<f4", chunks=(4, 4)), (9, 9)))["x"]
    receipt = write_block(str(path), index, (0, 0), numbers((9, 9), "<f4"), "<f4")
    with path.open("r+b") as f:
        f.seek(int(index.offset[0]) + 5)
        f.write(b"\xff")
    assert read_receipt(str(path), [(index, (0, 0), (9, 9))], "<f4") != receipt
    os.truncate(path, int(index.offset[0]) + 5)
    with pytest.raises(CorruptInput, match=r"x\.h5: ends before byte [0-9,]+, where values were"):
        read_receipt(str(path), [(index, (0, 0), (9, 9))], "<f4")


def test_a_disk_that_takes_less_at_once_is_given_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "x.h5")
    index = create(path, planned(form_of("<i4"), (9, 5)))["x"]
    pwrite = os.pwrite

    def little(file: int, view: memoryview, offset: int) -> int:
        return pwrite(file, view[:7], offset)

    monkeypatch.setattr(os, "pwrite", little)
    write_block(path, index, (0, 0), numbers((9, 5), "<i4"), "<i4")
    with h5py.File(path) as f:
        assert np.array_equal(f["x"][...], numbers((9, 5), "<i4"))


def test_a_task_that_comes_late_brings_nothing_back(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    index = create(str(path), planned(form_of("<f4"), (3,)))["x"]
    path.unlink()
    with pytest.raises(NotFound, match=r"x\.h5: the file that is being written is gone"):
        write_block(str(path), index, (0,), np.zeros(3, "f4"), "<f4")
    assert not path.exists()


@pytest.mark.parametrize(
    ("start", "block", "match"),
    [
        ((0, 0), np.zeros((3, 3), "f8"), r"x\.h5: a block is '<f8', its dataset '<f4'"),
        ((0, 0), np.zeros((3, 3), "i4"), r"x\.h5: a block is '<i4'.* convert it with astype"),
        ((7, 0), np.zeros((3, 3), "f4"), r"a block of shape \(3, 3\) at \(7, 0\) doesn't lie in"),
        ((0,), np.zeros(3, "f4"), r"in its dataset of shape \(9, 9\); plan the file anew"),
        ((-1, 0), np.zeros((3, 3), "f4"), r"a block of shape \(3, 3\) at \(-1, 0\)"),
    ],
)
def test_a_block_that_does_not_belong(
    start: tuple[int, ...], block: Array, match: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "x.h5")
    index = create(path, planned(form_of("<f4", chunks=(4, 4)), (9, 9)))["x"]
    with pytest.raises(LayoutError, match=match):
        write_block(path, index, start, block, "<f4")


def test_chunks_that_are_not_allocated(tmp_path: Path) -> None:
    path = str(tmp_path / "x.h5")
    form = form_of("<f4", chunks=(4,), filters=gzip_filters(1, 4))
    index = create(path, planned(form, (9,)))["x"]
    with pytest.raises(LayoutError, match=r"aren't allocated.* write .* filters chunk by chunk"):
        write_block(path, index, (0,), np.zeros(9, "f4"), "<f4")


def test_nothing_to_write_is_nothing_written(tmp_path: Path) -> None:
    path = str(tmp_path / "x.h5")
    create(path, planned(form_of("<f4"), (3,)))
    index = ChunkIndex.contiguous((0, 4), -1, 0)
    assert write_block(path, index, (0, 0), np.zeros((0, 4), "f4"), "<f4") == Receipt(0, 0, 0)


KILLED = """
import os, signal, sys
from tests.storage.test_write import whole
n = int(sys.argv[2])
def pwrite(file, view, offset, real=os.pwrite):
    global n
    n -= 1
    if n < 0:
        real(file, view[: len(view) // 2], offset)
        os.kill(os.getpid(), signal.SIGKILL)
    return real(file, view, offset)
os.pwrite = pwrite
whole(sys.argv[1])
"""


def whole(path: str) -> None:
    """Write a small file: skeleton, then blocks."""
    form = form_of("<f2", chunks=(4, 5), maxshape=(UNLIMITED, 13), fill=fill_of("<f2"))
    index = create(path, planned(form, (30, 13)))["x"]
    values = numbers((30, 13), "<f2")
    for row in range(0, 30, 7):
        write_block(path, index, (row, 0), values[row : row + 7], "<f2", form.fill)


def child(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )


@pytest.mark.parametrize("n_writes", [0, 1, 17])
def test_killed_and_written_again_the_file_is_the_same(n_writes: int, tmp_path: Path) -> None:
    done, killed = tmp_path / "done.h5", tmp_path / "killed.h5"
    whole(str(done))
    died = child(KILLED, str(killed), str(n_writes))
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert killed.read_bytes() != done.read_bytes()
    whole(str(killed))
    assert killed.read_bytes() == done.read_bytes()


LIMITED = """
import resource, sys
from tests.storage.test_write import whole
from h5dask.errors import OutOfSpace
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    whole(sys.argv[1])
except OutOfSpace as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [0, 100, 1000, 5000])
def test_a_limit_of_file_sizes_shows_before_any_work(limit: int, tmp_path: Path) -> None:
    ended = child(LIMITED, str(tmp_path / "x.h5"), str(limit))
    assert ended.returncode == 0, ended.stderr
    assert "x.h5: " in ended.stdout
    assert ended.stdout.endswith("free some space or choose another target\n")
    assert list(tmp_path.iterdir()) == []


FULL = """
import resource, sys
from h5dask.errors import OutOfSpace
from h5dask.storage.forms import form_of
from h5dask.storage.skeleton import create
from h5dask.storage.write import write_block
from tests.storage.rewriting import planned
import numpy as np
index = create(sys.argv[1], planned(form_of("<f4"), (1 << 20,)))["x"]
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
try:
    write_block(sys.argv[1], index, (0,), np.zeros(1 << 20, "f4"), "<f4")
except OutOfSpace as error:
    print(error)
"""


def test_a_disk_that_fills_while_values_are_written(tmp_path: Path) -> None:
    ended = child(FULL, str(tmp_path / "x.h5"))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == (
        f"{tmp_path / 'x.h5'}: File too large; free some space or choose another target\n"
    )


def test_out_of_space_is_an_error_of_the_system() -> None:
    assert issubclass(OutOfSpace, OSError)
