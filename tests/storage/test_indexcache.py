"""What was described once is remembered: the same, never stale, never needed, never a pickle."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import h5dask
from h5dask import layouts
from h5dask.chunkindex import ChunkIndex, FileIndex
from h5dask.contents import Contents
from h5dask.storage import indexcache
from h5dask.storage.families import Family, families
from h5dask.storage.indexcache import described
from h5dask.storage.remote import Source, expand
from tests.files import LAYOUTS, proteins
from tests.files.storage import FORMS, smooth
from tests.files.variant import Variant
from tests.storage.archives import DAMAGED

VARIANTS = [
    pytest.param(variant, id=f"{layout}-{name}")
    for layout, module in LAYOUTS.items()
    for name, variant in {**module.VARIANTS, **getattr(module, "UNEQUAL", {})}.items()
]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, in which every file that is described is remembered."""
    monkeypatch.setenv("H5DASK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(indexcache, "_SMALL", 0)
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path: Path) -> Source:
    """A file of proteins."""
    proteins.VARIANTS["first_generation"].write(tmp_path / "a.h5")
    return expand(tmp_path / "a.h5")[0]


def known() -> tuple[Family, ...]:
    return tuple(families(layouts.all_layouts()))


def asked(source: Source, cache: Path) -> tuple[Contents, FileIndex]:
    """Describe a file as opening does, and again from what was remembered; both must agree."""
    first = described(source, known())
    assert len(list(cache.glob("*.npz"))) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexcache, "describe", forgotten)
        again = described(source, known())
    same(first, again)
    return again


def forgotten(*_: Any, **__: Any) -> None:
    raise AssertionError("described anew what should have been remembered")


def plain(contents: Contents) -> Any:
    """Give contents in a form whose arrays can be compared."""
    attrs = {
        path: [(a.name, a.type, a.shape, np.asarray(a.value).tolist()) for a in attrs]
        for path, attrs in contents.attrs.items()
        if attrs
    }
    return replace(contents, attrs=attrs)  # type: ignore[arg-type]


def same(one: tuple[Contents, FileIndex], other: tuple[Contents, FileIndex]) -> None:
    assert plain(one[0]) == plain(other[0])
    assert list(one[0].groups) == list(other[0].groups)
    assert one[1].heap_base == other[1].heap_base
    assert one[1].offsets.tolist() == other[1].offsets.tolist()
    assert dict(one[1].inline) == dict(other[1].inline)
    assert list(one[1].chunked) == list(other[1].chunked)
    for position, index in one[1].chunked.items():
        equal(index, other[1].chunked[position])


def equal(one: ChunkIndex, other: ChunkIndex) -> None:
    for name in ChunkIndex.__slots__:
        a, b = getattr(one, name), getattr(other, name)
        assert np.array_equal(a, b), name
        assert np.asarray(a).dtype == np.asarray(b).dtype, name


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_remembered_as_it_is(
    variant: Variant, tmp_path: Path, cache: Path
) -> None:
    variant.write(tmp_path / "a.h5")
    asked(expand(tmp_path / "a.h5")[0], cache)


@pytest.mark.parametrize("form", FORMS)
def test_every_chunk_index_is_remembered_as_it_is(form: str, tmp_path: Path, cache: Path) -> None:
    FORMS[form](tmp_path / "a.h5", "train", smooth("<f4"))
    asked(expand(tmp_path / "a.h5")[0], cache)


def test_what_is_remembered_opens_the_same(file: Source, cache: Path) -> None:
    first, again = h5dask.open_dataset(file.url), h5dask.open_dataset(file.url)
    assert first.sequences.data.name == again.sequences.data.name
    assert first.compute().identical(again.compute())


def test_a_replaced_file_is_described_anew(file: Source, cache: Path) -> None:
    before = described(file, known())[0]
    proteins.VARIANTS["campaign"].write(Path(file.url))
    [now] = expand(file.url)
    after = described(now, known())[0]
    assert before.fingerprint != after.fingerprint
    assert before.paths != after.paths
    assert len(list(cache.glob("*.npz"))) == 2


def test_the_whole_of_a_file_is_never_remembered(file: Source, cache: Path) -> None:
    assert described(file)[0].complete
    assert not cache.exists()  # nor looked for


def test_small_files_are_not_worth_it(
    file: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("H5DASK_CACHE", str(tmp_path / "cache"))
    described(file, known())
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_memory_is_described_anew(name: str, file: Source, cache: Path) -> None:
    first = described(file, known())
    [path] = cache.glob("*.npz")
    DAMAGED[name](path)
    same(first, described(file, known()))


def test_it_holds_no_pickle(file: Source, cache: Path) -> None:
    described(file, known())
    [path] = cache.glob("*.npz")
    with np.load(path, allow_pickle=False) as held:
        assert all(held[name].dtype.kind in "iu" for name in held.files)
    with zipfile.ZipFile(path) as archive:
        assert all(name.endswith(".npy") for name in archive.namelist())


def test_another_version_is_another_key(
    file: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described(file, known())
    monkeypatch.setattr(indexcache, "VERSION", indexcache.VERSION + 1)
    described(file, known())
    assert len(list(cache.glob("*.npz"))) == 2


def test_the_folder_is_bounded(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for i in range(4):
        path = tmp_path / f"{i}.h5"
        proteins.VARIANTS["first_generation"].write(path)
        described(expand(path)[0], known())
        [new] = set(cache.glob("*.npz")) - set(made)
        os.utime(new, (i, i))
        made.append(new)
    used = described(expand(tmp_path / "0.h5")[0], known())  # the oldest is used again
    assert made[0].stat().st_mtime > 3
    monkeypatch.setattr(indexcache, "MOST_NBYTES", 3 * made[0].stat().st_size)
    proteins.VARIANTS["first_generation"].write(tmp_path / "4.h5")
    described(expand(tmp_path / "4.h5")[0], known())
    left = set(cache.glob("*.npz"))
    assert made[0] in left
    assert not {made[1], made[2]} & left
    assert sum(path.stat().st_size for path in left) <= indexcache.MOST_NBYTES
    assert used[0].subject == str(tmp_path / "0.h5")


def test_no_folder_can_be_made(
    file: Source, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "occupied").write_text("a file")
    monkeypatch.setenv("H5DASK_CACHE", str(tmp_path / "occupied" / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "occupied"))
    same(described(file, known()), described(file, known()))
    assert list(tmp_path.rglob("*.npz")) == []


def test_a_folder_that_went_away_is_made_again(file: Source, cache: Path) -> None:
    asked(file, cache)
    shutil.rmtree(cache)
    asked(file, cache)


@pytest.mark.parametrize("whose", ["another file's", "a link to another's", "a pipe", "somebody's"])
def test_what_somebody_has_put_there_is_not_believed(
    whose: str, file: Source, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proteins.VARIANTS["campaign"].write(tmp_path / "b.h5")
    [other] = expand(tmp_path / "b.h5")
    described(other, known())
    [taken] = cache.glob("*.npz")
    first = described(file, known())
    [path] = set(cache.glob("*.npz")) - {taken}
    path.unlink()
    match whose:
        case "another file's":
            taken.rename(path)
        case "a link to another's":
            path.symlink_to(taken)
        case "a pipe":
            os.mkfifo(path)
        case _:
            described(file, known())
            state = os.fstat
            monkeypatch.setattr(os, "fstat", lambda number: owned(state(number)))
    read = []
    describing = indexcache.describe
    monkeypatch.setattr(
        indexcache, "describe", lambda *args, **how: read.append(1) or describing(*args, **how)
    )
    same(first, described(file, known()))
    assert read == [1]


def owned(state: os.stat_result) -> os.stat_result:
    """Return the state of a file as if it were the next user's."""
    values = list(state)
    values[4] += 1
    return os.stat_result(values)


def test_a_full_disk_leaves_nothing(
    file: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    same(described(file, known()), described(file, known()))
    assert list(cache.iterdir()) == []


def test_a_home_that_cannot_be_written_to_is_read(
    file: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexcache, "_SMALL", 0)
    monkeypatch.setenv("H5DASK_CACHE", str(tmp_path / "cache"))
    first = described(file, known())
    written = set((tmp_path / "cache").iterdir())
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(os, "access", lambda path, _: temporary in Path(path).parents)
    monkeypatch.setenv("H5DASK_CACHE", f"{tmp_path}/./cache")
    with monkeypatch.context() as patch:
        patch.setattr(indexcache, "describe", forgotten)
        same(first, described(file, known()))
    proteins.VARIANTS["campaign"].write(Path(file.url))
    described(expand(file.url)[0], known())
    assert set((tmp_path / "cache").iterdir()) == written
    assert len(list(temporary.rglob("*.npz"))) == 1


def test_a_url_with_secrets_is_not_written_down(file: Source, cache: Path) -> None:
    described(replace(file, options={"key": "hush-hush"}), known())
    assert not any(b"hush" in path.read_bytes() for path in cache.iterdir())


SCRIPT = """
import sys
from h5dask import layouts
from h5dask.storage import indexcache
from h5dask.storage.families import families
from h5dask.storage.remote import expand
indexcache._SMALL = 0
known = tuple(families(layouts.all_layouts()))
for _ in range(20):
    contents, _ = indexcache.described(expand(sys.argv[1])[0], known)
    for path in indexcache.folder().glob("*.npz"):
        path.unlink(missing_ok=True)
print(len(contents.paths))
"""


def test_processes_share_it_while_others_delete_it(file: Source, cache: Path) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, file.url], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    assert [process.communicate(timeout=120)[0] for process in running] == ["6\n", "6\n"]
    assert list(cache.glob("*.part")) == []


def test_a_fifth_of_a_kilobyte_a_dataset(tmp_path: Path, cache: Path) -> None:
    path, n = tmp_path / "many.h5", 1000
    with h5py.File(path, "w") as f:
        for number in range(n):
            proteins.structure(f, number, (2, 1, 5 + number % 7))
    described(expand(path)[0], known())
    [held] = cache.glob("*.npz")
    assert held.stat().st_size <= 200 * 2 * n
