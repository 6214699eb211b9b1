"""However blocks and parts fall, the parts end to end are the file that is written locally."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import h5dask
from h5dask import layouts
from h5dask.errors import CorruptInput
from h5dask.storage.skeleton import create
from h5dask.storage.stores import uploads
from h5dask.storage.stores.uploads import Part, Upload, part_nbytes, refuse_incomplete
from h5dask.testing import example
from h5dask.writing import cutting, sending, uploading
from h5dask.writing.cutting import cut
from h5dask.writing.placing import Written
from h5dask.writing.preparing import prepare
from h5dask.writing.sending import Fragment, Sending, send_joined

UPLOAD = Upload(url="s3://bucket/a.h5", number="1", token="t", options={})


@dataclass
class Store:
    """Parts as they were sent."""

    parts: dict[int, bytes] = field(default_factory=dict)
    n_sent: int = 0

    def put_part(self, _: Upload, number: int, content: bytes | bytearray) -> Part:
        self.n_sent += 1
        self.parts[number] = bytes(content)
        return Part(number=number, nbytes=len(content), crc=0, etag=str(number))

    @property
    def content(self) -> bytes:
        return b"".join(self.parts[number] for number in sorted(self.parts))


@contextmanager
def parts_of(nbytes: int) -> Iterator[Store]:
    """Take parts of so many bytes, and keep them in memory."""
    store = Store()
    with pytest.MonkeyPatch.context() as patched:
        for module in (cutting, sending, uploads):
            patched.setattr(module, "part_nbytes", lambda _: nbytes)
        patched.setattr(sending, "put_part", store.put_part)
        patched.setattr(uploads, "put_part", store.put_part)
        yield store


def in_blocks(ds: xr.Dataset, step: int, across: int) -> xr.Dataset:
    """Cut every variable along its first two dims."""
    lengths = dict(zip(list(ds.sizes), [step, across, across, step] * 9, strict=False))
    numbers = [name for name, one in ds.variables.items() if one.dtype.kind in "iuf"]
    return ds.assign({n: ds[n].chunk({d: lengths[d] for d in ds[n].dims})
                      for n in numbers if n in ds.data_vars})  # fmt: skip


def sent(ds: xr.Dataset, folder: Path, size: int) -> tuple[Store, list[Written | Part], int]:
    """Return what a Dataset is sent as, what the tasks told, and the size of the file."""
    made, skeleton = prepare(ds, "s3://bucket/a.h5"), str(folder / "skeleton")
    indexes = create(skeleton, made.planned.plan, sparse=True)
    with parts_of(size) as store:
        found = cut(made.ds, made.planned, indexes, skeleton, "s3://bucket/a.h5")
        assert found is not None
        first, tasks = uploading.send(found, UPLOAD, skeleton)
        told = [one for some in dask.compute(*tasks, scheduler="sync") for one in some]
        return store, [*first, *told], found.nbytes


@cache
def written(layout: str) -> tuple[bytes, dict[str, int]]:
    """Return the file of a layout's example, and how many values each of its datasets has."""
    with TemporaryDirectory() as folder:
        h5dask.write_dataset(example(layout), f"{folder}/a.h5")
        expected = prepare(example(layout), "a.h5").planned.expected
        return Path(folder, "a.h5").read_bytes(), dict(expected)


@pytest.mark.parametrize("layout", layouts.names())
@settings(max_examples=15)
@given(step=st.integers(1, 40), across=st.integers(1, 40), size=st.integers(16, 6000))
def test_any_blocks_give_the_same_object(
    tmp_path_factory: pytest.TempPathFactory, layout: str, step: int, across: int, size: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    ds = in_blocks(example(layout), step, across)
    expected, n_values = written(layout)
    store, told, nbytes = sent(ds, folder, min(size, len(expected) - 1))
    assert store.content == expected
    assert nbytes == len(expected)
    parts = [one for one in told if isinstance(one, Part)]
    assert sorted(one.number for one in parts) == list(range(1, len(store.parts) + 1))
    assert store.n_sent == len(store.parts)
    counts: Counter[str] = Counter()
    for one in told:
        if isinstance(one, Written):
            counts.update(one.counts)
    assert counts == n_values


def queries(rows: int, features: int, chunks: tuple[int, int]) -> xr.Dataset:
    train = np.arange(rows * features, dtype="f4").reshape(rows, features)
    small = example("ann").isel(feature=[0] * features)
    return small.drop_vars(["train", "train_labels"]).assign(
        train=(("vector", "feature"), da.from_array(train, chunks=chunks))
    )


def test_a_block_sends_what_it_fills_by_itself(tmp_path: Path) -> None:
    ds = queries(1000, 16, (250, 16))
    made, skeleton = prepare(ds, "a.h5"), str(tmp_path / "skeleton")
    indexes = create(skeleton, made.planned.plan, sparse=True)
    with parts_of(4096):
        found = cut(made.ds, made.planned, indexes, skeleton, "a.h5")
    assert found is not None
    blocks = [(name, at) for some in found.needs.values() for name, at in some if name == "train"]
    assert int(found.alone.sum()) >= 11
    assert len(blocks) <= 2 * 4
    assert all(raw for some in found.patches.values() for _, raw in some)


def test_too_much_that_waits_is_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "WAITING", 30_000)
    skeleton = str(tmp_path / "skeleton")
    for chunks, fits in (((100, 16), True), ((1000, 1), False)):
        made = prepare(queries(1000, 16, chunks), "a.h5")
        indexes = create(skeleton, made.planned.plan, sparse=True)
        with parts_of(4096):
            found = cut(made.ds, made.planned, indexes, skeleton, "a.h5")
        assert (found is not None) is fits


def test_one_part_is_not_cut(tmp_path: Path) -> None:
    made, skeleton = prepare(example("ann"), "a.h5"), str(tmp_path / "skeleton")
    indexes = create(skeleton, made.planned.plan, sparse=True)
    assert cut(made.ds, made.planned, indexes, skeleton, "a.h5") is None


def test_a_part_that_lacks_bytes_is_not_sent() -> None:
    one = Fragment(np.array([0]), np.array([4]), np.zeros(4, np.uint8))
    with parts_of(16) as store:
        sending_of = Sending(UPLOAD, 32, np.zeros(2, bool))
        with pytest.raises(CorruptInput, match=r"a\.h5: part 2 got 4 of 8 bytes; nothing was"):
            send_joined([one], [], 1, 8, sending_of)
    assert store.parts == {}


def part(number: int, nbytes: int) -> Part:
    return Part(number=number, nbytes=nbytes, crc=0, etag="")


@given(st.integers(1, 40), st.integers(1, 100))
def test_all_parts_once_are_an_object(size: int, nbytes: int) -> None:
    with parts_of(size):
        whole = [part(i + 1, min(size, nbytes - at)) for i, at in enumerate(range(0, nbytes, size))]
        refuse_incomplete(UPLOAD, whole, nbytes)
        short = [*whole[:-1], part(len(whole), whole[-1].nbytes + 1)]
        for wrong in (whole[:-1], [*whole, whole[-1]], [*whole, part(len(whole) + 1, 1)], short):
            with pytest.raises(CorruptInput, match=r"a\.h5: part \d+ of \d+ is missing, there tw"):
                refuse_incomplete(UPLOAD, wrong, nbytes)


@given(st.integers(1, 5 * 2**40))
def test_parts_are_of_a_size_that_stores_take(nbytes: int) -> None:
    size = part_nbytes(nbytes)
    assert 5 * 2**20 <= size <= 5 * 2**30
    assert math.ceil(nbytes / size) <= 9_000


def test_many_short_runs_are_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "_SO_MANY", 2000)
    made, skeleton = prepare(queries(1000, 16, (1000, 1)), "a.h5"), str(tmp_path / "skeleton")
    indexes = create(skeleton, made.planned.plan, sparse=True)
    with parts_of(4096):
        assert cut(made.ds, made.planned, indexes, skeleton, "a.h5") is None
