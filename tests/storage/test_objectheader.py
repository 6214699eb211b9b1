"""Only two bytes of a header change, and HDF5 accepts its checksum, wherever the message lies."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5o

from h5dask.errors import CorruptInput
from h5dask.storage.objectheader import SpaceTimes, lookup3, set_space_times


def test_the_author_of_lookup3_agrees() -> None:
    """With the self-test that comes with lookup3.c."""
    row = np.frombuffer(b"Four score and seven years ago", np.uint8)[None]
    assert lookup3(row).tolist() == [0x17770551]


def test_hdf5_agrees(tmp_path: Path) -> None:
    """Superblocks end with a checksum; here of two files at once."""
    for name, size in (("a", 1), ("b", 1000)):
        with h5py.File(tmp_path / name, "w", libver="latest") as f:
            f["x"] = np.zeros(size)
    heads = [(tmp_path / name).read_bytes()[:48] for name in "ab"]
    rows = np.frombuffer(b"".join(head[:44] for head in heads), np.uint8).reshape(2, 44)
    expected = [int.from_bytes(head[44:], "little") for head in heads]
    assert lookup3(rows).tolist() == expected


def write(path: Path, libver: str, n_attrs: int, tracked: bool) -> dict[str, int]:
    """Write datasets whose headers grow over several blocks; return their addresses."""
    with h5py.File(path, "w", libver=(libver, "latest")) as f:
        for name, settings in {"a": {}, "b": {"chunks": (2, 2)}, "c": {"fillvalue": 7}}.items():
            made = f.create_dataset(name, (4, 4), "<i4", track_order=tracked, **settings)
            for i in range(n_attrs):
                made.attrs[f"attribute {i}"] = "x" * 40
        return {name: h5o.get_info(f[name].id).addr for name in f}


@pytest.mark.parametrize("libver", ["earliest", "v108", "latest"])
@pytest.mark.parametrize("n_attrs", [0, 7, 300])
@pytest.mark.parametrize("tracked", [False, True])
def test_times_are_changed_and_nothing_else(
    libver: str, n_attrs: int, tracked: bool, tmp_path: Path
) -> None:
    path = tmp_path / "x.h5"
    addresses = write(path, libver, n_attrs, tracked)
    before = path.read_bytes()
    wanted = {"a": (1, 1), "b": (1, 0), "c": (3, 2)}
    set_space_times(str(path), [SpaceTimes(addresses[n], *times) for n, times in wanted.items()])
    changed = np.frombuffer(before, np.uint8) != np.frombuffer(path.read_bytes(), np.uint8)
    assert 0 < changed.sum() <= len(wanted) * 6
    with h5py.File(path, "r+") as f:
        for name, times in wanted.items():
            found = f[name].id.get_create_plist()
            assert (found.get_alloc_time(), found.get_fill_time()) == times
            assert len(f[name].attrs) == n_attrs
        assert f["c"].fillvalue == 7
        f["c"][0] = 1
        assert f["c"][...].tolist() == [[1] * 4] + [[7] * 4] * 3


def test_a_header_of_no_known_kind(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    addresses = write(path, "earliest", 0, tracked=False)
    before = path.read_bytes()
    with pytest.raises(CorruptInput, match=r"at byte 0 found bytes b'.*expected an object header"):
        set_space_times(str(path), [SpaceTimes(addresses["a"], 1, 1), SpaceTimes(0, 1, 1)])
    assert path.read_bytes() == before


def test_a_group_has_no_fill_value(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as f:
        address = h5o.get_info(f.create_group("g").id).addr
    with pytest.raises(CorruptInput, match=r"found no fill-value message, expected one; write"):
        set_space_times(str(path), [SpaceTimes(address, h5d.ALLOC_TIME_LATE, 2)])


def test_a_header_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    addresses = write(path, "earliest", 300, tracked=False)
    path.write_bytes(path.read_bytes()[: addresses["a"] + 40])
    with pytest.raises(CorruptInput, match=r"found \d+ bytes, expected \d+ of an object header"):
        set_space_times(str(path), [SpaceTimes(addresses["a"], 1, 1)])
