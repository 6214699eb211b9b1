"""One Dataset as several files: opened together they are the same."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import fsspec
import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import h5dask
from h5dask.errors import Conflict, H5daskError, LayoutError, NotFound, Refused
from h5dask.indexes import RaggedIndex
from h5dask.testing import example
from h5dask.writing.sharding import write_shards
from tests.files import proteins

pytestmark = pytest.mark.filterwarnings("ignore:.*left out of the joined Dataset")
ADDED = ["source", "source_structure"]


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    """Start no threads for arrays of a few values."""
    with dask.config.set(scheduler="sync"):
        yield


def sampled(lengths: dict[int, int], n_samples: int = 2) -> xr.Dataset:
    """Return structures of these numbers and lengths, with logits."""
    numbers = np.repeat(np.array([*lengths], np.int32), n_samples)
    rows = {
        "structure": numbers,
        "sample": np.tile(np.arange(n_samples, dtype=np.int32), len(lengths)),
        "noise": np.zeros(len(numbers), np.int32),
        "temperature": np.zeros(len(numbers), np.int32),
        "row_size": np.repeat(np.array([*lengths.values()], np.int32), n_samples),
    }
    n, rng = int(rows["row_size"].sum()), np.random.default_rng(0)
    ds = xr.Dataset(
        {
            "sequences": ("residue", rng.integers(0, 21, n).astype(np.int32)),
            "logits": (("residue", "aa"), rng.normal(0, 3, (n, 21)).astype(np.float32)),
        },
        xr.Coordinates.from_xindex(RaggedIndex("sequence", "residue", n, rows)),
    )
    return ds.assign_coords(aa=np.array(list("ACDEFGHIKLMNPQRSTVWYX"), object))


def plain(ds: xr.Dataset) -> xr.Dataset:
    """Return values and labels, without what opening several files adds."""
    return ds.compute().drop_indexes(list(ds.xindexes)).drop_vars(ADDED, errors="ignore")


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@settings(max_examples=15)
@given(
    st.dictionaries(st.integers(0, 40), st.integers(1, 9), min_size=1, max_size=9),
    st.integers(1, 10),
    st.booleans(),
    st.integers(1, 30),
)
def test_any_shards_are_the_same_dataset(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: dict[int, int],
    n: int,
    by_size: bool,
    chunk: int,
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    ds = sampled(dict(sorted(lengths.items())))
    how: dict[str, Any] = {"nbytes": n * 1000} if by_size else {"structures": n}
    made = write_shards(ds.chunk(residue=chunk), folder / "merged.h5", layout="proteins", **how)
    assert made == [str(folder / f"merged-{at:05d}.h5") for at in range(len(made))]
    assert names(folder) == [os.path.basename(path) for path in made]
    back = h5dask.open_dataset(str(folder / "merged-*.h5"))
    xr.testing.assert_identical(plain(back.drop_attrs()), plain(ds))
    held = [h5dask.open_dataset(path) for path in made]
    counts = [len(np.unique(one.structure)) for one in held]
    if by_size:
        sizes = [one.logits.nbytes + one.sequences.nbytes for one in held]
        assert all(
            size <= n * 1000 or count == 1 for size, count in zip(sizes, counts, strict=True)
        )
        firsts = [one.sel(structure=one.structure.values[0]) for one in held]
        nexts = [one.logits.nbytes + one.sequences.nbytes for one in firsts[1:]]
        assert all(a + b > n * 1000 for a, b in zip(sizes, nexts, strict=False))
    else:
        assert counts == [n] * (len(lengths) // n) + [len(lengths) % n] * (len(lengths) % n > 0)


@pytest.mark.parametrize(
    "name", ["newer_grid", "many_structures", "unequal_samples", "gzip_shuffle", "flat",
             "no_logits", "averaged_rank_three", "unknown_members", "numbers_with_gaps"],
)  # fmt: skip
def test_a_file_of_any_form(name: str, tmp_path: Path) -> None:
    path = tmp_path / "whole.h5"
    with h5py.File(path, "w") as f:
        getattr(proteins, name)(f)
    ds = h5dask.open_dataset(path)
    write_shards(ds, tmp_path / "part.h5", structures=1)
    back = h5dask.open_dataset(tmp_path / "part-*.h5")
    xr.testing.assert_identical(plain(back), plain(ds))
    for part in tmp_path.glob("part-*.h5"):
        assert h5dask.validate(part, values=True) == h5dask.validate(path, values=True) == ()


def test_files_are_like_the_one_they_come_from(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "whole.h5", "w") as f:
        proteins.gzip_shuffle(f)
    ds = h5dask.open_dataset(tmp_path / "whole.h5")
    h5dask.write_dataset(ds, tmp_path / "same.h5")
    for path in write_shards(ds, tmp_path / "part.h5", structures=1):
        with h5py.File(path) as made, h5py.File(tmp_path / "same.h5") as f:
            for name, group in made.items():
                assert dict(group.attrs) == dict(f[name].attrs)
                for member, dataset in group.items():
                    like = f[name][member]
                    assert (dataset.compression, dataset.shuffle) == ("gzip", True)
                    assert (dataset.chunks, dataset.maxshape) == (like.chunks, like.maxshape)


def test_numbers_count_where_names_tell_others(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "whole.h5", "w") as f:
        proteins.index_disagrees(f)
    ds = h5dask.open_dataset(tmp_path / "whole.h5")
    made = write_shards(ds, tmp_path / "part.h5", structures=1)
    back = h5dask.open_dataset(made)
    assert sorted(set(back.structure.values)) == sorted(set(ds.structure.values))
    for number in set(ds.structure.values):
        for name in ds.data_vars:
            one, other = (x.sel(structure=number)[name].values for x in (back, ds))
            np.testing.assert_array_equal(one, other)


def test_inputs_may_be_among_the_files(tmp_path: Path) -> None:
    ds = sampled(dict.fromkeys(range(9), 3))
    made = write_shards(ds, tmp_path / "a.h5", structures=1, layout="proteins")
    assert len(made) == 9
    (tmp_path / "a-1.h5").write_text("of another name")
    (tmp_path / "a-00009.hdf5").write_text("of another name")
    together = h5dask.open_dataset(made)
    again = write_shards(together, tmp_path / "a.h5", structures=4, overwrite=True)
    assert again == made[:3]
    assert names(tmp_path) == ["a-00000.h5", "a-00001.h5", "a-00002.h5", "a-00009.hdf5", "a-1.h5"]
    back = h5dask.open_dataset(again)
    xr.testing.assert_identical(plain(back.drop_attrs()), plain(ds))


def test_a_file_of_such_a_name_is_refused_before_anything_is_computed(
    tmp_path: Path, no_compute: None
) -> None:
    ds = sampled({0: 3, 1: 3}).chunk(residue=5)
    (tmp_path / "a-00017.h5").write_text("old")
    with pytest.raises(Conflict, match=r"a-00017\.h5: exists already, one of 1 such files; choose"):
        write_shards(ds, tmp_path / "a.h5", structures=1, layout="proteins")
    assert names(tmp_path) == ["a-00017.h5"]


def test_what_fails_leaves_the_old_files(tmp_path: Path) -> None:
    ds = sampled({0: 3, 1: 3, 2: 3})
    made = write_shards(ds, tmp_path / "a.h5", structures=1, layout="proteins")
    before = [Path(path).read_bytes() for path in made]

    def fail(block: Any) -> Any:
        raise RuntimeError("in a task")

    lazy = ds.chunk(residue=6)
    bad = lazy.logits.data.copy()
    last = bad[12:].map_blocks(fail, dtype=np.float32, meta=np.empty((0, 0), np.float32))
    broken = lazy.assign(logits=(("residue", "aa"), np.concatenate([bad[:12], last])))
    with pytest.raises(RuntimeError, match="in a task"):
        write_shards(broken, tmp_path / "a.h5", structures=2, layout="proteins", overwrite=True)
    assert names(tmp_path) == [os.path.basename(path) for path in made]
    assert [Path(path).read_bytes() for path in made] == before


def test_a_store(tmp_path: Path) -> None:
    ds, url = example("proteins"), f"memory://h5dask-{tmp_path.name}/a.h5"
    made = write_shards(ds, url, structures=1)
    assert made == [url.replace("a.h5", f"a-0000{at}.h5") for at in (0, 1)]
    with pytest.raises(Conflict, match=r"a-00000\.h5: exists already"):
        write_shards(ds, url, structures=2)
    assert write_shards(ds, url, structures=2, overwrite=True) == made[:1]
    held = fsspec.filesystem("memory").ls(f"/h5dask-{tmp_path.name}", detail=False)
    assert [name.rpartition("/")[2] for name in held] == ["a-00000.h5"]
    fsspec.filesystem("memory").rm(f"/h5dask-{tmp_path.name}", recursive=True)


@pytest.mark.parametrize(
    ("ds", "how", "error", "text"),
    [
        (example("episodes"), {"structures": 1}, Refused, "no numbered groups .* write one file"),
        (example("proteins"), {}, Refused, "found structures=None and nbytes=None; expected one"),
        (example("proteins"), {"structures": 1, "nbytes": 1}, Refused, "expected one of the two"),
        (example("proteins"), {"structures": 0}, Refused, "^structures: found 0; expected 1"),
        (example("proteins"), {"nbytes": "much"}, Refused, "^nbytes: found 'much'; expected 1"),
        (example("proteins").isel(sequence=[0]), {"structures": 1}, Refused, "select rows by"),
        (example("proteins").sel(structure=[]), {"structures": 1}, Refused, "found no structure"),
        (xr.Dataset(), {"structures": 1}, LayoutError, "name one with layout="),
    ],
)
def test_what_cannot_be_divided(
    ds: xr.Dataset, how: dict[str, Any], error: type[H5daskError], text: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=text):
        write_shards(ds, tmp_path / "a.h5", **how)
    assert names(tmp_path) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="found no folder"):
        write_shards(example("proteins"), tmp_path / "x" / "a.h5", structures=1)
