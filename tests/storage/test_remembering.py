"""What is remembered lies where nobody else can change it, or nowhere."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from h5dask.storage.remembering import folder, folders
from h5dask.testing import example_file

INSIDE = f"h5dask-{os.geteuid()}"
WITHOUT_POWERS = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []
"""Makes modes count for the superuser, too."""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, in which everybody can write."""
    path = tmp_path / "temporary"
    path.mkdir()
    path.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    monkeypatch.delenv("H5DASK_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return path


def test_where_it_is(temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder() == tmp_path / "home" / ".cache" / "h5dask" / "indexes"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert folder() == tmp_path / "b" / "h5dask" / "indexes"
    monkeypatch.setenv("H5DASK_CACHE", str(tmp_path / "a"))
    assert folder() == tmp_path / "a"
    monkeypatch.setenv("H5DASK_CACHE", "~/c")
    assert folder() == tmp_path / "home" / "c"


def test_it_is_private_whatever_the_umask(temporary: Path) -> None:
    before = os.umask(0)
    try:
        assert stat.S_IMODE(folder().stat().st_mode) == 0o700
    finally:
        os.umask(before)


def test_a_relative_folder_stays_where_it_was(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("H5DASK_CACHE", f"mine of {tmp_path.name}")
    first = folder()
    monkeypatch.chdir(temporary)
    assert folder() == first == tmp_path / f"mine of {tmp_path.name}"


def test_a_link_that_is_named_is_followed(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    monkeypatch.setenv("H5DASK_CACHE", str(tmp_path / "link"))
    assert folder() == tmp_path / "link"


@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o2775])
def test_a_folder_of_many_holds_one_of_each_user(
    mode: int, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "team").mkdir()
    (tmp_path / "team").chmod(mode)
    monkeypatch.setenv("H5DASK_CACHE", str(tmp_path / "team"))
    assert folder() == tmp_path / "team" / INSIDE
    assert folder().stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("taken", ["open", "a file", "a link", "somebody's"])
def test_one_that_others_can_change_is_not_used(
    taken: str, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = tmp_path / "team"
    team.mkdir()
    team.chmod(0o777)
    inside, elsewhere = team / INSIDE, tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    match taken:
        case "open":
            inside.mkdir()
            inside.chmod(0o777)
        case "a file":
            inside.touch()
        case "a link":
            inside.symlink_to(elsewhere)
        case _:
            inside.mkdir()
            lstat = os.lstat
            monkeypatch.setattr(os, "lstat", lambda path: _next_user_s(lstat(path)))
    monkeypatch.setenv("H5DASK_CACHE", str(team))
    found = folders()
    assert not [one for one in found if team in (one, *one.parents)]
    assert found[0].exists() == (taken != "somebody's")  # there nothing is ours


def _next_user_s(state: os.stat_result) -> os.stat_result:
    values = list(state)
    values[4] += 1
    return os.stat_result(values)


def test_one_that_cannot_be_had_is_told_once(
    temporary: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("H5DASK_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.INFO, "h5dask"):
        assert [folder() for _ in range(2)] == [temporary / INSIDE] * 2
    named, used = str(tmp_path / "file"), str(temporary / INSIDE)
    told = f"H5DASK_CACHE, {named!r}, can't be written to: what is remembered lies in {used!r}"
    assert caplog.messages == [told]


def test_a_temporary_folder_of_the_user_s_holds_one_of_its_own(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary.chmod(0o700)
    monkeypatch.setenv("H5DASK_CACHE", "/dev/null/nowhere")
    assert folder() == temporary / INSIDE


def test_no_home_and_no_temporary_folder(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", f"relative to {tmp_path}")
    assert folder() == temporary / INSIDE
    monkeypatch.setenv("XDG_CACHE_HOME", f"and this to {tmp_path}")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: os.stat(tmp_path / "nothing"))
    assert not folder().exists()
    with pytest.raises(NotADirectoryError, match="null"):
        folder().mkdir(parents=True)


READING = """
import sys
import h5dask
from h5dask.kernels.fletcher32 import checksum
from h5dask.storage.remembering import folder
ds = h5dask.open_dataset(sys.argv[1])
print(float(h5dask.summarize(ds.train, ["vector", "feature"])["mean"]), folder())
"""


def test_a_home_that_is_read_only_costs_nothing_but_time(tmp_path: Path) -> None:
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    temporary.mkdir()
    home.mkdir()
    names = ("H5DASK_CACHE", "XDG_CACHE_HOME")
    given = {name: value for name, value in os.environ.items() if name not in names}
    said = []
    for mode in (0o700, 0o500):
        home.chmod(mode)
        done = subprocess.run(
            [*WITHOUT_POWERS, sys.executable, "-c", READING, example_file("ann")],
            env={**given, "HOME": str(home), "TMPDIR": str(temporary)},
            check=True, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        said.append(done.stdout.split())
    (home / ".cache").chmod(0o700)
    assert said[0][0] == said[1][0]
    assert said[0][1] == said[1][1] == str(home / ".cache" / "h5dask" / "indexes")
