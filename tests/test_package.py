"""What is installed: the wheel's files, its facts, and the doors it opens in other packages."""

import configparser
import re
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import EntryPoint
from typing import Any

import pytest

import h5dask
from tests.architecture import ROOT, read_modules

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
MAX_DEMO_NBYTES = 1_500_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel as an installer does, but offline."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True)
    (path,) = folder.iterdir()
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def facts(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    source = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "h5dask").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == source
    assert {"h5dask/__init__.py", "h5dask/py.typed"} <= packed


def test_wheel_holds_real_files_within_bounds(wheel: zipfile.ZipFile) -> None:
    demo = [file for file in wheel.infolist() if file.filename.startswith("h5dask/demo_files/")]
    assert demo
    assert sum(file.file_size for file in demo) <= MAX_DEMO_NBYTES


def test_wheel_carries_the_license(wheel: zipfile.ZipFile, facts: Message) -> None:
    assert facts["License-Expression"] == "Apache-2.0"
    (name,) = (name for name in wheel.namelist() if name.endswith("/licenses/LICENSE"))
    assert wheel.read(name) == (ROOT / "LICENSE").read_bytes()


def test_version_is_one(facts: Message) -> None:
    command = [sys.executable, "-c", "from h5dask.cli import main; main()", "--version"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert h5dask.__version__ == facts["Version"]
    assert h5dask.__version__ in told


def test_pythons_are_the_supported_ones(facts: Message) -> None:
    named = {line.rpartition(" ")[2] for line in facts.get_all("Classifier", []) if ":: 3." in line}
    assert named == {"3.11", "3.12", "3.13"}
    assert set(facts["Requires-Python"].split(",")) == {">=3.11", "<3.14"}


def test_every_dependency_has_a_lower_bound() -> None:
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *(line for lines in extras.values() for line in lines)]
    assert [line for line in asked if ">=" not in line and not line.startswith("h5dask[")] == []


def test_every_import_is_declared() -> None:
    extras = PROJECT["optional-dependencies"]
    declared = [*PROJECT["dependencies"], *(line for lines in extras.values() for line in lines)]
    names = {re.split(r"[\[>=]", line)[0].replace("-", "_") for line in declared}
    imported = {
        name.partition(".")[0]
        for module in read_modules("h5dask").values()
        for _, name in module.imports
    }
    assert imported - set(sys.stdlib_module_names) - names - {"h5dask", "distributed"} == set()


def test_entry_points_open(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    parser = configparser.ConfigParser(delimiters="=")
    parser.read_string(wheel.read(name).decode())
    points = {group: dict(parser[group]) for group in parser.sections()}
    assert {group: set(named) for group, named in points.items()} == {
        "console_scripts": {"h5dask"},
        "xarray.backends": {"h5dask"},
    }
    for group, named in points.items():
        for point in (EntryPoint(key, value, group) for key, value in named.items()):
            assert callable(point.load())


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"])
def test_checkout_holds(name: str) -> None:
    assert (ROOT / name).stat().st_size > 0


def test_changelog_has_a_place_for_the_next_line() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
