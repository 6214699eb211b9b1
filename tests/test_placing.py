"""Blocks of any shape, from threads, processes and workers, make one and the same file."""

import logging
import math
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import h5dask
from h5dask import layouts
from h5dask.clients import current_client
from h5dask.contents import ArrayForm
from h5dask.errors import LayoutError
from h5dask.indexes import RaggedIndex
from h5dask.storage.write import write_pieces
from h5dask.testing import example
from h5dask.writing import delivery, placing
from h5dask.writing.drafting import Transfer
from h5dask.writing.placing import Runs, converted, flat_boxes
from tests.files.same import differences
from tests.rewriting import opened

FORM = ArrayForm(dtype="<f4", type=b"")
LEADS = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@given(LEADS, st.data())
def test_flat_boxes_cover_a_run_once_and_in_order(lead: list[int], draw: st.DataObject) -> None:
    n = math.prod(lead)
    start = draw.draw(st.integers(0, n))
    stop = draw.draw(st.integers(start, n))
    numbers = np.arange(n).reshape(lead)
    found = []
    for corner, extent in flat_boxes(tuple(lead), start, stop):
        box = numbers[tuple(slice(a, a + m) for a, m in zip(corner, extent, strict=True))]
        assert box.shape == extent
        found += box.ravel().tolist()
    assert found == list(range(start, stop))
    assert len(list(flat_boxes(tuple(lead), start, stop))) <= 2 * len(lead) - 1


@given(
    st.permutations(range(12)),
    st.lists(st.integers(0, 12), max_size=3),
    st.lists(st.integers(0, 12), max_size=3),
)
def test_runs_bring_every_row_to_its_place(
    order: list[int], cuts: list[int], borders: list[int]
) -> None:
    parts = np.split(np.array(order), sorted(cuts))
    transfers = [
        Transfer(path="", variable="x", lane=None, rows=rows, shape=(len(rows),), form=FORM)
        for rows in parts
        if len(rows)
    ]
    runs, values = Runs.of(transfers), np.arange(12) * 10
    made = [np.full(t.shape, -1) for t in transfers]
    ends = [0, *sorted(borders), 12]
    for start, stop in pairwise(ends):
        block = values[start:stop]
        here = runs.within(start, stop)
        columns = (here.start, here.count, here.target, here.at)
        for first, count, target, at in zip(*columns, strict=True):
            assert (made[target][at : at + count] == -1).all()
            made[target][at : at + count] = block[first : first + count]
    for transfer, found in zip(transfers, made, strict=True):
        assert found.tolist() == values[transfer.rows].tolist()


@pytest.mark.parametrize(
    ("values", "dtype", "lost"),
    [
        (np.array([1e30, np.inf, np.nan]), "<f4", 0),
        (np.array([1e39, -1e39, 1.0]), "<f4", 2),
        (np.array([70000.0, 1.0], "f4"), "<f2", 1),
        (np.array([2**40, -1]), "<i4", 1),
        (np.array([-1, 5]), "|u1", 1),
        (np.array([0.5, 2.0]), "<i4", 1),
        (np.array([3, 4], "i8"), ">i4", 0),
    ],
)
def test_a_number_fits_or_is_refused(values: Any, dtype: str, lost: int) -> None:
    form = ArrayForm(dtype=dtype, type=b"")
    if lost:
        with pytest.raises(LayoutError, match=rf"/a/b: {lost} values of \w+ don't fit \w+; conv"):
            converted(values, form, "a/b")
    else:
        found = converted(values, form, "a/b")
        assert np.array_equal(found, values.astype(dtype), equal_nan=values.dtype.kind == "f")
        assert found.dtype.isnative


@pytest.mark.parametrize("layout", layouts.names())
@pytest.mark.parametrize("chunks", [3, "mixed"])
def test_any_blocks_give_the_same_file(layout: str, chunks: Any, tmp_path: Path) -> None:
    ds = example(layout)
    h5dask.write_dataset(ds, tmp_path / "a.h5")
    lengths = dict(zip(ds.sizes, (5, 9, 2, 4, 3), strict=False)) if chunks == "mixed" else chunks
    h5dask.write_dataset(ds.chunk(lengths), tmp_path / "b.h5")
    assert differences(tmp_path / "a.h5", tmp_path / "b.h5") == []
    h5dask.write_dataset(ds.transpose().chunk(lengths), tmp_path / "c.h5")
    assert differences(tmp_path / "a.h5", tmp_path / "c.h5") == []


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.Client]:
    """Two worker processes."""
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


SOURCES = [("activations", "one_row"), ("ann", "gzip_shuffle")]
SOURCES += [("proteins", "newer_grid"), ("ann", "resizable_chunks"), ("episodes", "gzip")]


def in_thirds(ds: xr.Dataset) -> xr.Dataset:
    """Cut the dims of rows in three, at borders of no dataset."""
    rows = {str(x.dims[0]) for x in ds.data_vars.values()}
    return ds.chunk({dim: ds.sizes[dim] // 3 + 1 for dim in rows})


@pytest.mark.parametrize(("layout", "name"), SOURCES)
def test_workers_make_the_same_file(
    layout: str, name: str, cluster: distributed.Client, tmp_path: Path
) -> None:
    ds = in_thirds(opened(tmp_path / "a.h5", layout, name))
    h5dask.write_dataset(ds, tmp_path / "b.h5")
    assert differences(tmp_path / "a.h5", tmp_path / "b.h5") == []
    job = h5dask.write_dataset(ds, tmp_path / "c.h5", compute=False)
    cluster.compute(job).result()
    assert differences(tmp_path / "a.h5", tmp_path / "c.h5") == []
    far = ds.persist()
    h5dask.write_dataset(far, tmp_path / "d.h5")
    assert differences(tmp_path / "a.h5", tmp_path / "d.h5") == []
    assert sorted(os.listdir(tmp_path)) == ["a.h5", "b.h5", "c.h5", "d.h5"]


def test_workers_read_what_was_opened_here(cluster: distributed.Client, tmp_path: Path) -> None:
    ds = in_thirds(opened(tmp_path / "a.h5", "activations", "no_prefilled"))
    with dask.config.set(scheduler="threads"):
        expected = ds.compute()
    xr.testing.assert_identical(ds.compute(), expected)
    means = ds.logits.astype("f8").groupby("scenario").mean().compute()
    xr.testing.assert_allclose(means, expected.logits.astype("f8").groupby("scenario").mean())


@pytest.mark.parametrize(("layout", "name"), SOURCES)
def test_workers_elsewhere_send_their_blocks_here(
    layout: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_workers_share", lambda path: False)
    ds = in_thirds(opened(tmp_path / "a.h5", layout, name))
    h5dask.write_dataset(ds, tmp_path / "b.h5")
    assert differences(tmp_path / "a.h5", tmp_path / "b.h5") == []


def test_whether_workers_share_a_folder_is_tried(
    cluster: distributed.Client, tmp_path: Path
) -> None:
    assert delivery._workers_share(str(tmp_path / "probe"))
    assert os.listdir(tmp_path) == []
    with dask.config.set(scheduler="threads"):
        assert current_client() is None
    assert current_client() is cluster
    assert not delivery.holds(str(tmp_path / "nowhere"), "x")


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_schedulers_make_the_same_file(scheduler: str, tmp_path: Path) -> None:
    ds = in_thirds(opened(tmp_path / "a.h5", "ann", "gzip_shuffle"))
    with dask.config.set(scheduler=scheduler, num_workers=2):
        h5dask.write_dataset(ds, tmp_path / "b.h5")
        h5dask.write_dataset(ds, tmp_path / "c.h5", compression="none")
    assert differences(tmp_path / "a.h5", tmp_path / "b.h5") == []
    xr.testing.assert_equal(h5dask.open_dataset(tmp_path / "c.h5").compute(), ds.compute())


def test_tasks_have_names_that_tell_what_they_write(tmp_path: Path) -> None:
    job = h5dask.write_dataset(example("ann").chunk(7), tmp_path / "a.h5", compute=False)
    keys = {key[0] if isinstance(key, tuple) else key for key in job.__dask_graph__()}
    for name in ("train", "neighbors"):
        assert any(key.startswith(f"write-{name}-") for key in keys)
        assert any(key.startswith(f"check-{name}-") for key in keys)
    job.compute()


def test_structures_end_to_end_are_written_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 40
    lengths = np.arange(n) % 7 + 1
    total = int(lengths.sum())
    rows = {"structure": np.arange(n, dtype=np.int32), "row_size": lengths.astype(np.int32)}
    ds = xr.Dataset(
        {"sequences": ("residue", np.arange(total, dtype=np.int32) % 21)},
        xr.Coordinates.from_xindex(RaggedIndex("sequence", "residue", total, rows)),
    )
    seen: list[int] = []

    def counted(file: str, parts: Any, dtype: str, filled: bytes | None = None) -> Any:
        parts = list(parts)
        seen.append(len(parts))
        return write_pieces(file, parts, dtype, filled)

    monkeypatch.setattr(placing, "write_pieces", counted)
    with dask.config.set(scheduler="sync"):
        h5dask.write_dataset(ds, tmp_path / "a.h5", layout="proteins")
    assert seen == [1]
    back = h5dask.open_dataset(tmp_path / "a.h5")
    assert back.sequences.values.tolist() == ds.sequences.values.tolist()
    assert back.structure.values.tolist() == list(range(n))


def test_the_dataset_whose_number_does_not_fit_is_named(tmp_path: Path) -> None:
    n = 40
    rows = {"structure": np.arange(n, dtype=np.int32), "row_size": np.full(n, 3, np.int32)}
    values = np.zeros(3 * n, np.int64)
    values[3 * 7 + 1] = 2**40
    ds = xr.Dataset(
        {"sequences": ("residue", values)},
        xr.Coordinates.from_xindex(RaggedIndex("sequence", "residue", 3 * n, rows)),
    )
    with pytest.raises(LayoutError, match=r"/structure_7/sequences: 1 values of int64 don't fit"):
        h5dask.write_dataset(ds, tmp_path / "a.h5", layout="proteins")
