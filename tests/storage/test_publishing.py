"""The order in which a file comes to its name: its bytes to the disk, the name, the folder."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from h5dask.errors import OutOfSpace
from h5dask.storage.publishing import publish

Step = tuple[str, int]
"""What was done, and the number of the file or folder it was done to."""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """What reaches the disk, and what gets a name, in order; all of it is done all the same."""
    found: list[Step] = []
    fsync = os.fsync

    def synced(number: int) -> None:
        found.append(("on disk", os.fstat(number).st_ino))
        fsync(number)

    def naming(name: str) -> Callable[..., None]:
        real = getattr(os, name)

        def named(source: str, target: str, **options: Any) -> None:
            found.append(("named", os.stat(source).st_ino))
            real(source, target, **options)

        return named

    monkeypatch.setattr(os, "fsync", synced)
    for name in ("replace", "rename", "link"):
        monkeypatch.setattr(os, name, naming(name))
    return found


@pytest.mark.parametrize("overwrite", [True, False])
def test_bytes_then_name_then_folder(overwrite: bool, tmp_path: Path, steps: list[Step]) -> None:
    part, target = tmp_path / "part", tmp_path / "a.h5"
    part.write_bytes(b"finished")
    file, folder = part.stat().st_ino, tmp_path.stat().st_ino
    publish(str(part), str(target), overwrite=overwrite)
    assert target.read_bytes() == b"finished"
    assert steps == [("on disk", file), ("named", file), ("on disk", folder)]


def test_what_does_not_reach_the_disk_gets_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, target = tmp_path / "part", tmp_path / "a.h5"
    part.write_bytes(b"finished")
    target.write_bytes(b"old")

    def fails(number: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OutOfSpace, match=r"a\.h5: could not be written to disk \(Input/output"):
        publish(str(part), str(target))
    assert target.read_bytes() == b"old"
