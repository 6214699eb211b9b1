"""Chunks that we encode, and values that HDF5 encodes, are read back by plain h5py."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5dask.chunkindex import Filter
from h5dask.contents import UNLIMITED, ArrayForm
from h5dask.errors import LayoutError, Refused, WorkersLost
from h5dask.storage.chunkwriter import ChunkWriter, encode_chunks
from h5dask.storage.forms import form_of, gzip_filters
from h5dask.storage.parts import PLACING, end_placing
from h5dask.storage.skeleton import Plan, PlannedArray, create
from tests.files.variant import Array
from tests.storage.rewriting import planned

FLETCHER = (Filter(3, 0, (), "fletcher32"),)
ZSTD = (Filter(hdf5plugin.ZSTD_ID, 0, (3,), "zstd"),)
UNKNOWN = (Filter(60_000, 0, (), "nobody's"),)


def numbers(shape: tuple[int, ...], dtype: str) -> Array:
    return (np.arange(np.prod(shape)) % 113).astype(dtype).reshape(shape)


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
    chunks=st.lists(st.integers(1, 6), min_size=3, max_size=3).map(tuple),
    dtype=st.sampled_from(["<f4", ">i2", "?"]),
    rows=st.integers(1, 9),
    filters=st.sampled_from([gzip_filters(1, 4), FLETCHER, gzip_filters(6, 4) + FLETCHER]),
)
def test_whole_chunks_in_any_order_are_the_array(
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: str,
    rows: int,
    filters: tuple[Filter, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = str(tmp_path_factory.mktemp("chunks") / "x.h5")
    fill = np.array(1, dtype).tobytes()
    form = form_of(
        dtype,
        chunks=chunks[: len(shape)],
        maxshape=(UNLIMITED,) * len(shape),
        filters=filters,
        fill=fill,
    )
    index = create(path, planned(form, shape))["x"]
    values, step = numbers(shape, dtype), rows * index.chunks[0]
    with ChunkWriter(path, index.n_chunks) as writer:
        for row in reversed(range(0, shape[0], step)):
            start = (row, *(0 for _ in shape[1:]))
            block = values[row : row + step]
            for origin, mask, raw in encode_chunks(
                block, start, shape, index.chunks, filters, dtype, fill
            ):
                writer.place("x", origin, mask, raw)
    with h5py.File(path, "r+") as f:
        assert f["x"][...].tobytes() == values.tobytes()
        f["x"].resize([n + 3 for n in shape])
        expected = np.full([n + 3 for n in shape], 1, dtype)
        expected[tuple(slice(0, n) for n in shape)] = values
        assert f["x"][...].tobytes() == expected.tobytes()


def test_many_datasets_of_one_file(tmp_path: Path) -> None:
    path = str(tmp_path / "x.h5")
    form = form_of("<i4", chunks=(4,), filters=gzip_filters(4, 4))
    arrays = tuple(PlannedArray(path=f"g/{i}", shape=(6,), form=form) for i in range(150))
    create(path, Plan(groups={}, arrays=arrays, attrs={}))
    with ChunkWriter(path) as writer:
        for i, array in enumerate(arrays):
            values = np.full(6, i, "<i4")
            for found in encode_chunks(values, (0,), (6,), (4,), form.filters, "<i4"):
                writer.place(array.path, *found)
    with h5py.File(path) as f:
        assert [f[array.path][5] for array in arrays] == list(range(150))


def test_hdf5_encodes_what_we_do_not(tmp_path: Path) -> None:
    path = str(tmp_path / "x.h5")
    create(path, planned(form_of("<f4", chunks=(4, 3), filters=ZSTD), (10, 3)))
    values = numbers((10, 3), "<f4")
    with ChunkWriter(path) as writer:
        writer.write_values("x", (4, 0), values[4:])
        writer.write_values("x", (0, 0), values[:4])
    with h5py.File(path) as f:
        assert np.array_equal(f["x"][...], values)
        assert f["x"].id.get_create_plist().get_filter(0)[0] == hdf5plugin.ZSTD_ID


def test_a_filter_that_nobody_knows_is_refused_before_any_work(tmp_path: Path) -> None:
    form = form_of("<f4", chunks=(4,), filters=UNKNOWN)
    with pytest.raises(Refused, match=r"'/x' has filters that HDF5 lacks here: nobody's \(60000\)"):
        create(str(tmp_path / "x.h5"), planned(form, (10,)))
    assert list(tmp_path.iterdir()) == []


def test_settings_that_cannot_be_asked_for_are_refused(tmp_path: Path) -> None:
    """This filter writes a header of its own where its settings were."""
    filters = (Filter(hdf5plugin.SPERR_ID, 0, (1042, 269484032, 32, 32), "H5Z-SPERR"),)
    form = form_of("<f4", chunks=(32, 32), filters=filters)
    with pytest.raises(Refused, match=r"'/x' has filters whose settings can't be asked for anew"):
        create(str(tmp_path / "x.h5"), planned(form, (64, 64)))


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "filter": ({"filters": ZSTD}, Refused, r"filters zstd are not encoded here; let HDF5 write"),
    "start": ({"start": (1,)}, LayoutError, r"block of shape \(8,\) at \(1,\) cuts chunks of"),
    "end": ({"block": np.zeros(7, "f4")}, LayoutError, r"cuts chunks of \(4,\) in a dataset of s"),
    "beyond": ({"start": (8,)}, LayoutError, r"in a dataset of shape \(10,\); rechunk it to whole"),
    "dtype": ({"block": np.zeros(8)}, LayoutError, r"a block is '<f8', its dataset '<f4'; convert"),
    "rank": ({"block": np.zeros((8, 1), "f4")}, LayoutError, r"of shape \(8, 1\) at \(0,\) cuts"),
}


@pytest.mark.parametrize(("changed", "error", "match"), BAD.values(), ids=BAD)
def test_blocks_that_are_not_whole_chunks(
    changed: dict[str, Any], error: type[Exception], match: str
) -> None:
    given: dict[str, Any] = {
        "block": np.zeros(8, "f4"),
        "start": (0,),
        "shape": (10,),
        "chunks": (4,),
        "filters": gzip_filters(1, 4),
        "dtype": "<f4",
    }
    with pytest.raises(error, match=match):
        encode_chunks(**{**given, **changed})


LIMITED = """
import resource, sys
import numpy as np
from h5dask.errors import OutOfSpace
from h5dask.storage.chunkwriter import ChunkWriter, encode_chunks
from tests.storage.test_chunkwriter import noisy
from tests.storage.rewriting import planned
from h5dask.storage.skeleton import create
form = noisy()
create(sys.argv[1], planned(form, (1 << 20,)))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
values = np.random.default_rng(0).random(1 << 20)
try:
    with ChunkWriter(sys.argv[1], 64) as writer:
        for found in encode_chunks(values, (0,), values.shape, form.chunks, form.filters, "<f8"):
            writer.place("x", *found)
except OutOfSpace as error:
    print(error)
"""


def noisy() -> ArrayForm:
    return form_of("<f8", chunks=(1 << 14,), filters=gzip_filters(1, 8))


def test_a_disk_that_fills_while_chunks_are_placed(tmp_path: Path) -> None:
    """HDF5 ends the process with a fault where it meets a full disk itself."""
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "x.h5")],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert ended.returncode == 0, ended.stderr
    assert "x.h5: needs" in ended.stdout
    assert ended.stdout.endswith("free some space or choose another target\n")


def placed(path: str, rows: range, values: Array, form: ArrayForm) -> None:
    """Place some rows in one go."""
    with ChunkWriter(path) as writer:
        block = values[rows.start : rows.stop]
        for found in encode_chunks(
            block, (rows.start,), values.shape, form.chunks, form.filters, "<f8"
        ):
            writer.place("x", *found)


FROZEN = """
import os, signal, sys
from tests.storage.test_chunkwriter import ChunkWriter, noisy, numbers, placed
real = ChunkWriter.__exit__
def stopped(writer, *error):
    os.kill(os.getpid(), signal.SIGSTOP)
    real(writer, *error)
ChunkWriter.__exit__ = stopped
placed(sys.argv[1], range(1 << 14), numbers((1 << 15,), "<f8"), noisy())
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGCONT])
def test_what_somebody_left_unfinished_nobody_goes_on_with(end: int, tmp_path: Path) -> None:
    form, values, path = noisy(), numbers((1 << 15,), "<f8"), str(tmp_path / "x.h5")
    create(path, planned(form, values.shape))
    child = subprocess.Popen([sys.executable, "-c", FROZEN, path])
    try:
        assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
        before = (tmp_path / "x.h5").read_bytes()
        for _ in range(2):
            with pytest.raises(WorkersLost, match=r"x\.h5: a worker was lost, or stands still, wh"):
                placed(path, range(1 << 14, 1 << 15), values, form)
        assert (tmp_path / "x.h5").read_bytes() == before
        os.kill(child.pid, end)
        assert child.wait(60) == (0 if end == signal.SIGCONT else -signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
    assert os.path.exists(path + PLACING) == (end == signal.SIGKILL)
    end_placing(path)
    os.unlink(path)
    create(path, planned(form, values.shape))
    placed(path, range(1 << 15), values, form)
    with h5py.File(path) as f:
        assert f["x"][...].tobytes() == values.tobytes()
    assert os.listdir(tmp_path) == ["x.h5"]
