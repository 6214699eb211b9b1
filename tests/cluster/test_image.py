"""The Dockerfile: by hadolint, and by building from what it would see."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.architecture import ROOT
from tests.cluster.reading import FOLDER
from tests.servers.programs import program

FILE = FOLDER / "Dockerfile"
TEXT = FILE.read_text("utf-8")


def check(text: str) -> subprocess.CompletedProcess[str]:
    """Judge a Dockerfile, and the shell in it."""
    command = [program("hadolint"), "--no-color", "--failure-threshold=style", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def instructions(text: str = TEXT) -> list[tuple[str, str]]:
    """Return name and rest of each instruction."""
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    lines = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(name, rest) for name, rest in lines]


def copied() -> list[tuple[list[str], str]]:
    """Return from and to of each COPY from the checkout."""
    words = [rest.split() for name, rest in instructions() if name == "COPY"]
    return [(some[:-1], some[-1]) for some in words if not some[0].startswith("--from")]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path from the build: the last line that fits decides."""
    found = False
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        pattern = line.lstrip("!").removeprefix("**/")
        parts = Path(path).parts
        above = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        if line and not line.startswith("#"):
            tried = parts if "**/" in line else above
            if any(fnmatch.fnmatchcase(one, pattern) for one in tried):
                found = not line.startswith("!")
    return found


def test_it_is_in_order() -> None:
    told = check(TEXT)
    assert (told.returncode, told.stdout) == (0, "")


@pytest.mark.parametrize(
    ("now", "then", "told"),
    [
        ("USER 10001:10001", "USERS 10001:10001", "unexpected|missing"),
        ("USER 10001:10001", "USER root", "DL3002"),
        ("FROM python:${PYTHON}-slim-bookworm AS build", "FROM python AS build", "DL3006"),
        ("WORKDIR /source", "WORKDIR source", "DL3000"),
        ("COPY --from=build", "COPY --from=builder", "DL3022"),
        ("$(ls /wheels/h5dask-*.whl)", "`ls /wheels/h5dask-*.whl`", "SC2006"),
    ],
)
def test_broken(now: str, then: str, told: str) -> None:
    assert now in TEXT
    found = check(TEXT.replace(now, then))
    assert found.returncode == 1
    assert re.search(told, found.stdout), found.stdout


def test_what_runs_is_no_root_and_writes_to_scratch_alone() -> None:
    told = instructions()
    final = told[max(at for at, (name, _) in enumerate(told) if name == "FROM") :]
    assert ("USER", "10001:10001") in final
    (settings,) = (rest for name, rest in final if name == "ENV")
    places = dict(word.split("=", 1) for word in settings.split())
    for name in ("HOME", "TMPDIR", "DASK_TEMPORARY_DIRECTORY", "H5DASK_CACHE", "NUMBA_CACHE_DIR"):
        assert places[name].startswith("/scratch"), name


def test_python_is_pinned_and_one_that_is_supported() -> None:
    (pinned,) = re.findall(r"^ARG PYTHON=(.+)$", TEXT, flags=re.MULTILINE)
    assert re.fullmatch(r"3\.1[123]\.\d+", pinned)
    bases = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    assert bases == ["python:${PYTHON}-slim-bookworm"] * 2


def test_the_build_sees_what_it_copies_and_little_else() -> None:
    for sources, _ in copied():
        for source in sources:
            assert (ROOT / source).exists(), source
            assert not ignored(source), source
    seen = [path.name for path in ROOT.iterdir() if not ignored(path.name)]
    assert sorted(seen) == ["LICENSE", "README.md", "h5dask", "pipelines", "pyproject.toml"]
    assert ignored("h5dask/kernels/__pycache__/moments.pyc")
    assert ignored("cluster/README.md")


@pytest.mark.servers  # it takes a while
def test_a_wheel_is_built_from_it(tmp_path: Path) -> None:
    sources = next(sources for sources, _ in copied())
    for name in sources:
        shutil.copy(ROOT / name, tmp_path)
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "h5dask", tmp_path / "h5dask", ignore=skipped)
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", "made"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "."]
    subprocess.run(command, cwd=tmp_path, check=True)
    (wheel,) = (tmp_path / "made").glob("h5dask-*.whl")
    packed = zipfile.ZipFile(wheel).namelist()
    assert "h5dask/cli.py" in packed
    assert [name for name in packed if name.startswith(("cluster", "pipelines"))] == []


def test_the_extras_are_there() -> None:
    (extras,) = re.findall(r"^ARG EXTRAS=(.+)$", TEXT, flags=re.MULTILINE)
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for extra in extras.split(","):
        assert re.search(rf"^{extra} = \[", project, flags=re.MULTILINE), extra
