"""Machine code is kept where nobody else changes it; what is wrong with that costs time alone."""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core import event

import h5dask.kernels
from h5dask.kernels import machinecode
from h5dask.kernels.machinecode import Kept, folder_of, locked, places

SOURCE = """
from h5dask.kernels.compile import kernel

@kernel
def total(values):
    found = values[0] * 0
    for value in values:
        found += value
    return found
"""
ONES = {"i4": np.ones(9, "i4"), "f4": np.full(9, 0.5, "f4")}
TOTALS = {"i4": 9, "f4": 4.5}
CHECKSUM = """
import logging, numpy
logging.basicConfig(level=logging.INFO, format="%(message)s")
from h5dask.kernels import fletcher32
from h5dask.kernels.machinecode import folder_of
print(fletcher32.checksum(numpy.arange(96, dtype="u1")))
print(folder_of(fletcher32.__file__))
"""
RIGHT = "2232998152"
SAVING = """
import sys, time, numpy
from numba.core.caching import IndexDataCacheFile
sys.path.insert(0, sys.argv[1])
from own import total

def slowly(self, overloads, save=IndexDataCacheFile._save_index):
    time.sleep(1)
    save(self, overloads)

IndexDataCacheFile._save_index = slowly
print("ready", flush=True)
sys.stdin.readline()
print(total(numpy.ones(9, sys.argv[2])))
"""


THREE = """
from h5dask.kernels.compile import kernel

@kernel
def one(x):
    return x + 1

@kernel
def two(x):
    return x + 2

@kernel
def three(x):
    return x + 3

def call_each():
    return one(1), two(1), three(1)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in which machine code is kept, by the user's wish."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "place"))
    folder_of.cache_clear()
    yield tmp_path / "place"
    folder_of.cache_clear()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of one kernel."""
    path = tmp_path / "own.py"
    path.write_text(SOURCE)
    return path


def loaded(source: Path) -> Any:
    """Import a file anew, as the next process does; return its kernel."""
    folder_of.cache_clear()
    spec = importlib.util.spec_from_file_location("own", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["own"] = module  # where machine code of another process looks for it
    spec.loader.exec_module(module)
    return module.total


def n_compiled(work: Callable[[], Any]) -> int:
    """Return how many kernels are compiled while a work is done."""
    with event.install_recorder("numba:compile") as recorder:
        work()
    return len(recorder.buffer) // 2


def kept(place: Path) -> list[str]:
    return sorted(path.suffix for path in place.rglob("*.nb?"))


def package(folder: Path) -> Path:
    """Copy the package with one file of kernels, beside which nobody can write."""
    kernels = folder / "site" / "h5dask" / "kernels"
    kernels.mkdir(parents=True)
    (kernels / "__pycache__").touch()
    for name in ("__init__", "compile", "machinecode", "fletcher32", "warming"):
        shutil.copy(Path(h5dask.kernels.__file__).with_name(f"{name}.py"), kernels)
    (kernels.parent / "__init__.py").touch()
    return folder / "site"


def started(site: Path, code: str, *args: str, **environment: str) -> subprocess.Popen[str]:
    """Start a program with a package and an environment of its own."""
    names = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME")
    given = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.Popen(
        [sys.executable, "-B", "-c", code, *args], cwd=site, text=True,
        env={**given, "PYTHONPATH": str(site), **environment},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def told(site: Path, **environment: str) -> tuple[str, str]:
    """Compute a checksum in a process; return where its code is kept, and what is said of it."""
    out, err = started(site, CHECKSUM, **environment).communicate(timeout=120)
    assert out.startswith(RIGHT), err
    return out.split()[1], err


def test_it_is_kept_and_found_again(place: Path, source: Path) -> None:
    first, again = loaded(source), loaded(source)
    assert n_compiled(lambda: first(ONES["i4"])) == 1
    assert kept(place) == [".nbc", ".nbi"]
    assert n_compiled(lambda: again(ONES["i4"])) == 0
    assert again(ONES["i4"]) == 9


def test_it_lies_beside_its_source_where_nothing_is_wished(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a"))
    found = [
        str(Path(h5dask.kernels.__file__).parent / "__pycache__"),
        f"{tmp_path}/a/h5dask/kernels",
    ]
    assert list(places())[:2] == found
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert list(places())[1] == f"{tmp_path}/.cache/h5dask/kernels"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert list(places())[2] == f"{tmp_path}/h5dask-kernels-{os.geteuid()}"


def test_a_user_without_a_home_has_the_temporary_folder_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # nobody knows the user
    assert len(list(places())) == 2
    monkeypatch.setattr(machinecode.tempfile, "gettempdir", lambda: os.stat("/no/such/folder"))
    assert len(list(places())) == 1


def test_another_processor_numba_or_source_has_another_folder(
    place: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def now() -> str | None:
        folder_of.cache_clear()
        return folder_of(str(source))

    found = [now()]
    with monkeypatch.context() as patch:
        patch.setattr(numba.config, "CPU_NAME", "generic")
        found.append(now())
        patch.setattr(numba.config, "CPU_NAME", "another")
        found.append(now())
        patch.setattr(numba, "__version__", "99")
        found.append(now())
    assert now() == found[0]
    source.write_text(SOURCE + "#")
    found.append(now())
    assert len(set(found)) == 5
    assert all(Path(str(one)).parent == place for one in found)


@pytest.mark.parametrize("taken", ["open to others", "a file", "a link", "somebody's"])
def test_a_folder_that_others_can_change_is_not_used(
    taken: str, place: Path, source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = Path(str(folder_of(str(source))))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(source))
    monkeypatch.setattr(machinecode, "__file__", str(source / "nobody" / "here.py"))
    match taken:
        case "open to others":
            folder.chmod(0o775)
        case "somebody's":
            user = os.geteuid()
            monkeypatch.setattr(os, "geteuid", lambda: user + 1)
        case _:
            shutil.rmtree(folder)
            elsewhere = tmp_path / "elsewhere"
            elsewhere.mkdir()
            folder.touch() if taken == "a file" else folder.symlink_to(elsewhere)
    folder_of.cache_clear()
    found = folder_of(str(source))
    if taken == "somebody's":
        assert found is None  # nothing here is that user's
    else:
        assert Path(str(found)).parent == tmp_path / "home" / "h5dask" / "kernels"


@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o2775])
def test_a_place_of_many_holds_one_of_each_user(mode: int, place: Path, source: Path) -> None:
    place.mkdir()
    place.chmod(mode)
    assert Path(str(folder_of(str(source)))).parent == place / f"h5dask-{os.geteuid()}"
    assert n_compiled(lambda: loaded(source)(ONES["i4"])) == 1
    assert n_compiled(lambda: loaded(source)(ONES["i4"])) == 0


def test_what_becomes_open_to_others_is_not_run(place: Path, source: Path) -> None:
    loaded(source)(ONES["i4"])
    again = loaded(source)
    (folder,) = (path.parent for path in place.rglob("*.nbi"))
    folder.chmod(0o777)
    assert n_compiled(lambda: again(ONES["i4"])) == 1
    assert loaded(source)(ONES["i4"]) == 9
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_folders_are_nobody_else_s_whatever_the_umask(place: Path, source: Path) -> None:
    before = os.umask(0o002)
    try:
        loaded(source)(ONES["i4"])
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.parent.stat().st_mode) for path in place.rglob("*.nbi")}
    assert modes == {0o755}
    assert n_compiled(lambda: loaded(source)(ONES["i4"])) == 0


@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", ["cut", "empty", "other", "a folder"])
def test_what_is_damaged_is_compiled_anew(
    damage: str, ending: str, place: Path, source: Path
) -> None:
    loaded(source)(ONES["i4"])
    (path,) = place.rglob(f"*{ending}")
    content = path.read_bytes()
    if damage == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"cut": content[:-9], "empty": b"", "other": bytes(99)}[damage])
    for _ in range(2):
        assert loaded(source)(ONES["i4"]) == 9
    if damage != "a folder":
        assert n_compiled(lambda: loaded(source)(ONES["i4"])) == 0


def test_a_folder_that_goes_away_is_made_again(place: Path, source: Path) -> None:
    total = loaded(source)
    shutil.rmtree(place)
    assert total(ONES["i4"]) == 9
    total = loaded(source)
    shutil.rmtree(place)
    place.write_text("a file")
    assert total(ONES["f4"]) == 4.5


def test_a_full_disk_ends_nothing(tmp_path: Path) -> None:
    limited = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))"
    site, place = package(tmp_path), tmp_path / "place"
    process = started(site, limited + CHECKSUM, NUMBA_CACHE_DIR=str(place))
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out.split()[0]) == (0, RIGHT), err
    assert [path for path in place.rglob("*") if ".tmp." in path.name] == []
    assert not list(place.rglob("*.nbc"))


def test_who_holds_the_lock_for_ever_costs_patience_once(
    place: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kept, "patience", 0.05)
    with locked(str(folder_of(str(source))), 0) as is_ours:
        assert is_ours
        total = loaded(source)
        assert [total(one) for one in ONES.values()] == [9, 4.5]
    assert Kept.patience == 0
    assert kept(place) == []


def test_a_filesystem_without_locks_keeps_nothing(
    place: Path, source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def without_locks(file: Any, how: int) -> None:
        if str(place) in file.name:
            raise OSError(errno.ENOLCK, "No locks available")
        flock(file, how)

    flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", without_locks)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(machinecode, "__file__", str(source / "nobody" / "here.py"))
    assert loaded(source)(ONES["i4"]) == 9
    assert kept(place) == []
    assert kept(tmp_path / "home") == [".nbc", ".nbi"]


def test_two_kinds_of_arguments_saved_at_once_stay_apart(tmp_path: Path, source: Path) -> None:
    place = tmp_path / "place"
    run = [
        started(Path.cwd(), SAVING, str(tmp_path), kind, NUMBA_CACHE_DIR=str(place))
        for kind in ONES
    ]
    for process in run:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in run:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120)[0] for process in run]
    assert said == ["9\n", "9.0\n"]
    assert kept(place) == [".nbc", ".nbc", ".nbi"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba.config, "CACHE_DIR", str(place))
        total = loaded(source)
        found: dict[str, Any] = {}
        n = n_compiled(lambda: found.update({kind: total(x) for kind, x in ONES.items()}))
    assert (n, found) == (0, TOTALS)


def test_what_an_image_holds_is_copied(
    place: Path, source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaded(source)(ONES["i4"])
    usable = machinecode._is_usable
    monkeypatch.setattr(
        machinecode, "_is_usable", lambda one: str(place) not in one and usable(one)
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(machinecode, "__file__", str(source / "nobody" / "here.py"))
    assert n_compiled(lambda: loaded(source)(ONES["i4"])) == 0
    assert kept(tmp_path / "home") == [".nbc", ".nbi"]
    shutil.rmtree(tmp_path / "home")
    (folder,) = place.iterdir()
    folder.chmod(0o777)
    assert n_compiled(lambda: loaded(source)(ONES["i4"])) == 1


def test_an_unwritable_package_keeps_its_code_elsewhere(tmp_path: Path) -> None:
    site, home, temporary = package(tmp_path), tmp_path / "home", tmp_path / "temporary"
    temporary.mkdir()
    folder, said = told(site, HOME=str(home), TMPDIR=str(temporary))
    assert Path(folder).parent == home / ".cache" / "h5dask" / "kernels"
    assert said == "Compiling kernels (once) ...\n"
    home.joinpath(".cache").rename(tmp_path / "before")
    home.joinpath(".cache").touch()
    folder, said = told(site, HOME=str(home), TMPDIR=str(temporary))
    assert Path(folder).parent == temporary / f"h5dask-kernels-{os.geteuid()}"
    assert told(site, HOME=str(home), TMPDIR=str(temporary)) == (folder, "")


def test_a_wish_that_cannot_be_kept_is_told_once(tmp_path: Path) -> None:
    site, wished = package(tmp_path), tmp_path / "wished"
    wished.touch()
    home = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)}
    folder, said = told(site, NUMBA_CACHE_DIR=str(wished), **home)
    assert folder.startswith(str(tmp_path / "home"))
    where = f"NUMBA_CACHE_DIR, {str(wished)!r}, is no folder that is yours alone to write to"
    assert said == f"Compiling kernels (once: {where}) ...\n"
    assert told(site, NUMBA_CACHE_DIR="wish", **home)[0].startswith(f"{site}/wish/")


def test_code_that_can_be_kept_nowhere_is_told_once(tmp_path: Path) -> None:
    site, wished = package(tmp_path), tmp_path / "wished"
    wished.touch()
    taken = tmp_path / f"h5dask-kernels-{os.geteuid()}"
    taken.touch()
    nowhere = {name: str(wished) for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    for _ in range(2):
        folder, said = told(site, TMPDIR=str(tmp_path), **nowhere)
        assert folder == "None"
        assert said == (
            "Compiling kernels (in each process: set NUMBA_CACHE_DIR to a folder of your own where "
            "they can be kept) ...\n"
        )


def test_processes_that_start_together_compile_once(tmp_path: Path) -> None:
    code = """
from numba.core import event
from h5dask.kernels.warming import warm
with event.install_recorder("numba:compile") as recorder:
    warm()
print(len(recorder.buffer) // 2)
"""
    site, place = package(tmp_path), str(tmp_path / "place")
    (site / "h5dask" / "kernels" / "fletcher32.py").write_text(THREE)
    run = [started(site, code, NUMBA_CACHE_DIR=place) for _ in range(2)]
    fewer, more = sorted(int(process.communicate(timeout=120)[0]) for process in run)
    assert more == 3
    assert fewer <= 1  # the one before which it waited
