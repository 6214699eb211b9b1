"""Metadata through a store: few requests, never a byte that isn't here, the same description."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import h5dask
from h5dask.errors import CorruptInput
from h5dask.storage import held as held_module
from h5dask.storage.describe import describe
from h5dask.storage.held import GRAIN, Lacking, held, walked
from h5dask.testing import example_file
from tests.storage.fakes import Fake

LAYOUTS = ("activations", "proteins", "ann", "episodes")


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of tests are small: so are the steps in which they are fetched."""
    monkeypatch.setattr(held_module, "GRAIN", 512)
    monkeypatch.setattr(held_module, "FIRST", 1024)
    monkeypatch.setattr(held_module, "LARGEST", 2048)
    monkeypatch.setattr(held_module, "_MOST_WALKS", 1000)
    monkeypatch.setattr(held_module, "_MOST_PART", 2.0)


def described(fake: Fake):
    with held(fake.opened()) as file:
        found = walked(file, lambda: describe(file, subject="a.h5", fingerprint="f"))
        return found, file.part


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_description_in_small_steps_is_that_of_the_file(name: str):
    path = example_file(name)
    expected = describe(path, subject="a.h5", fingerprint="f")
    fake = Fake(Path(path).read_bytes())
    (contents, index), _ = described(fake)
    assert contents == expected[0]
    np.testing.assert_array_equal(index.offsets, expected[1].offsets)
    assert index.inline == expected[1].inline
    assert index.chunked.keys() == expected[1].chunked.keys()
    assert len(fake.asked) > 1


@pytest.mark.usefixtures("small_steps")
def test_many_groups_of_one_kind(tmp_path: Path):
    path = tmp_path / "many.h5"
    with pytest.warns(UserWarning, match="named 40 times"):
        ds = h5dask.open_dataset([example_file("proteins")] * 40)
    h5dask.write_dataset(ds, path, layout="proteins")
    expected = describe(str(path), subject="a.h5", fingerprint="f")
    (contents, _), _ = described(Fake(path.read_bytes()))
    assert contents == expected[0]


@pytest.mark.usefixtures("small_steps")
def test_no_byte_is_fetched_twice_and_values_stay_away(tmp_path: Path):
    path = tmp_path / "large.h5"
    with h5py.File(path, "w") as file:
        file["train"] = np.ones((2000, 128), np.float32)
        file["test"] = np.ones((10, 128), np.float32)
        file.attrs["distance"] = "euclidean"
    fake = Fake(path.read_bytes())
    _, part = described(fake)
    assert part < 0.1
    seen = np.zeros(len(fake.content), bool)
    for start, stop in fake.asked:
        assert not seen[start:stop].any()
        seen[start:stop] = True


def test_past_a_limit_all_of_it_comes_at_once(monkeypatch: pytest.MonkeyPatch):
    for name, size in (("GRAIN", 512), ("FIRST", 512), ("LARGEST", 512)):
        monkeypatch.setattr(held_module, name, size)
    monkeypatch.setattr(held_module, "_MOST_WALKS", 1)
    path = example_file("activations")
    fake = Fake(Path(path).read_bytes())
    found, part = described(fake)
    assert part == 1.0
    assert found[0] == describe(path, subject="a.h5", fingerprint="f")[0]


def test_a_small_object_comes_by_one_request():
    fake = Fake(Path(example_file("ann")).read_bytes())
    described(fake)
    assert fake.asked == [(0, len(fake.content))]


def test_bytes_that_arent_here_are_never_read():
    fake = Fake(bytes(40 * GRAIN * 4) + b"end")
    with held(fake.opened()) as file:
        n_here = int(file.part * 160)
        assert 0 < n_here < 160
        file.seek(-3, 2)
        with pytest.raises(Lacking, match=r"^$"):
            file.read(3)
        assert file.missed == [160 * GRAIN]
        file.bring([(160 * GRAIN, 160 * GRAIN + 3)])
        file.seek(-3, 2)
        assert file.read(10) == b"end"
        with pytest.raises(CorruptInput, match="truncated"):
            file.read_into(file.nbytes, memoryview(bytearray(1)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>Sign in</html>", "not an HDF5 file but a web page or XML"),
        (b"", "not an HDF5 file but empty"),
        (b"\x89HDF\r\n\x1a\n" + bytes(3000), "HDF5"),
    ],
)
def test_what_isnt_hdf5_is_told(content: bytes, said: str):
    with pytest.raises(CorruptInput, match=said):
        described(Fake(content))


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (".ivecs", r"\.ivecs holds ids: h5dask recall reads it$"),
        (".bin", r"\.bin holds ids: h5dask recall reads it$"),
        (".FBIN", r"\.fbin holds vectors: open_vectors reads it$"),
        (".parquet", r"\.parquet holds vectors: open_vectors reads it$"),
        (
            ".npy",
            r"\.npy holds vectors, which open_vectors reads, or ids, which h5dask recall reads$",
        ),
        (".txt", r"check the path and the download$"),
    ],
)
def test_what_reads_another_file_is_told(ending: str, said: str, tmp_path: Path) -> None:
    path = str(tmp_path / f"a{ending}")
    Path(path).write_bytes(bytes(100))
    with pytest.raises(CorruptInput, match=r"not an HDF5 file \(no HDF5 signature\); " + said):
        describe(path, subject=path, fingerprint="")


def test_an_error_that_lacks_nothing_is_told_as_it_is():
    fake = Fake(bytes(10))

    def walk() -> None:
        raise ValueError("no bytes were missed")

    with held(fake.opened()) as file, pytest.raises(ValueError, match="no bytes were missed"):
        walked(file, walk)
