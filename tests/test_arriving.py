"""A file is published only where each of its datasets got all its values, once."""

from pathlib import Path

import pytest

import h5dask
from h5dask.errors import CorruptInput
from h5dask.testing import example
from h5dask.writing.delivery import refuse_missing
from h5dask.writing.placing import Written


def test_what_arrived_once_is_all() -> None:
    refuse_missing([Written({"x": 2}), Written({"x": 1, "y": 4})], {"x": 3, "y": 4}, "a.h5")


@pytest.mark.parametrize("counts", [[], [2], [2, 2]], ids=["none", "some", "some twice"])
def test_another_number_is_refused(counts: list[int]) -> None:
    written = [Written({"x": n}) for n in counts]
    with pytest.raises(CorruptInput, match=rf"a\.h5: /x got {sum(counts)} of 3 values; nothing"):
        refuse_missing(written, {"x": 3}, "a.h5")


@pytest.mark.parametrize("there", [True, False])
def test_a_block_that_did_not_arrive_leaves_all_as_it_was(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.h5"
    if there:
        path.write_bytes(b"old")
    monkeypatch.setattr("h5dask.writing.placing.counted", lambda target, at: {})
    with pytest.raises(CorruptInput, match=r"a\.h5: /\w+ got 0 of [\d,]+ values; nothing was pub"):
        h5dask.write_dataset(example("ann"), path, overwrite=True)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == (
        {"a.h5": b"old"} if there else {}
    )
