"""What is built: the wheel and the sdist, their files and facts, and what they ask for.

`test_installed.py` tries what was installed of it.
"""

import ast
import configparser
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable
from email.message import Message
from email.parser import Parser
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import yaml

import h5dask
from h5dask.layouts import _rows
from h5dask.reading import checking
from h5dask.storage import chunked, describe, inspection, visiting, whole
from h5dask.storage.stores import told
from tests.architecture import ROOT, Module, read_modules, resolve
from tests.servers.programs import program

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
OWN = {"battery", "bench", "check", "dev", "servers", "test"}
"""Extras for the checkout's own commands; all others are for users."""
FILES = (
    "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"
)  # fmt: skip
MAX_DEMO_NBYTES = 1_500_000
MADE = {"__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"}
"""Folders that tools leave among the sources."""


def build(what: str, source: Path, folder: Path) -> Path:
    """Build the wheel or the sdist as an installer does, but offline."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", what, "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (path,) = folder.iterdir()
    return path


def below(*folders: str) -> set[str]:
    """Return the files under some folders of the checkout that are sources."""
    every = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in every if not MADE & set(path.parts)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(build("wheel", ROOT, tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that the sdist unpacks to."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build("sdist", ROOT, folder)) as packed:
        packed.extractall(folder / "unpacked", filter="data")
    (top,) = (folder / "unpacked").iterdir()
    return top


@pytest.fixture(scope="module")
def facts(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    source = below("h5dask")
    assert packed == source
    assert {"h5dask/__init__.py", "h5dask/py.typed"} <= packed


def test_sdist_holds_the_checkout_and_nothing_made(sdist: Path) -> None:
    packed = {str(path.relative_to(sdist)) for path in sdist.rglob("*") if path.is_file()}
    asked = {*FILES, "Makefile", "pyproject.toml", ".dockerignore", ".gitignore", "PKG-INFO"}
    assert packed == below("h5dask", "tests", "pipelines", "cluster") | asked


def test_wheel_of_the_sdist_is_that_of_the_checkout(
    sdist: Path, wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    again = zipfile.ZipFile(build("wheel", sdist, tmp_path))
    assert [(one.filename, one.CRC) for one in again.infolist()] == [
        (one.filename, one.CRC) for one in wheel.infolist()
    ]


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


def named(lines: Iterable[str]) -> set[str]:
    """Return the names that requirements are imported by."""
    return {re.split(r"[\[>=]", line)[0].replace("-", "_") for line in lines}


@cache
def sources() -> dict[str, Module]:
    return read_modules("h5dask", "pipelines")


def at_the_top(module: Module) -> set[str]:
    """Return what a module imports as soon as it is imported itself."""
    lines = {one.lineno for one in module.tree.body if isinstance(one, ast.Import | ast.ImportFrom)}
    return {name for line, name in module.imports if line in lines}


OPTIONAL = named(line for extra, lines in EXTRAS.items() if extra not in OWN for line in lines)


def test_every_dependency_has_a_lower_bound() -> None:
    asked = [*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]
    assert [line for line in asked if ">=" not in line and not line.startswith("h5dask[")] == []


def test_every_import_is_declared_for_users() -> None:
    names = (name for module in sources().values() for _, name in module.imports)
    imported = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
    declared = named(PROJECT["dependencies"]) | OPTIONAL
    assert imported - declared - {"h5dask", "pipelines", "distributed"} == set()


def test_what_an_extra_brings_is_imported_late() -> None:
    modules = sources()
    tops = {name: at_the_top(module) for name, module in modules.items()}
    needing = {
        name for name, found in tops.items() if {one.partition(".")[0] for one in found} & OPTIONAL
    }
    assert needing
    early = {
        f"{name} imports {found}"
        for name in modules.keys() - needing
        for found in tops[name]
        if (target := resolve(found, modules)) and target.name in needing
    }
    assert early == set()


@pytest.mark.parametrize("extra", sorted(EXTRAS.keys() - OWN))
def test_every_extra_is_named_to_users(extra: str) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    texts = [readme, *(module.text for module in sources().values())]
    asked = re.compile(rf"pip install ['\"]h5dask\[{extra}\]")
    assert any(asked.search(text) for text in texts) or f"`{extra}`" in readme


def test_the_battery_brings_all_stores() -> None:
    (line,) = (line for line in EXTRAS["battery"] if line.startswith("h5dask["))
    reached = {extra for _, extra in told._EXTRAS.values()}
    assert reached <= set(line.removeprefix("h5dask[").removesuffix("]").split(","))
    assert reached <= EXTRAS.keys()


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


@pytest.mark.parametrize("name", FILES)
def test_checkout_holds(name: str) -> None:
    assert (ROOT / name).stat().st_size > 0


def test_changelog_has_this_version_and_a_place_for_the_next_line() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    titles = re.findall(r"^## (.*)$", changes, re.MULTILINE)
    assert titles[0] == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(h5dask.__version__)}\] - \d{{4}}-\d\d-\d\d", titles[1])


def test_citation_is_valid_and_of_this_version() -> None:
    command = [program("check-jsonschema"), "--builtin-schema", "vendor.citation-file-format"]
    subprocess.run([*command, str(ROOT / "CITATION.cff")], check=True, capture_output=True)
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["version"] == h5dask.__version__
    assert cited["license"] == PROJECT["license"]
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"## [{cited['version']}] - {cited['date-released']}" in changes


LIMITS = {
    "one compressed chunk, decoded": f"{chunked.MAX_CHUNK >> 20} MiB",
    "its stored bytes": f"twice that size and {chunked._SLACK >> 10} KiB",
    "chunks of a dataset that are listed": f"{inspection.MAX_CHUNKS:,}",
    "groups and datasets of a file": f"{visiting.MAX_OBJECTS:,}",
    "groups inside one another": f"{describe.MAX_DEPTH - 1}",
    "rows with labels": f"{_rows.MAX_ROWS:,}",
    "all values of a variable, to `validate` them": (
        f"{checking._SPARSE_NBYTES >> 30} GiB and {checking._MOST_EXPANSION:,} times the file"
    ),
    "an object that can only be fetched whole": f"{whole.LIMIT} (`h5dask.store-whole`)",
}


def test_security_tells_the_limits_there_are() -> None:
    lines = (ROOT / "SECURITY.md").read_text("utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    assert {what: most for what, most, _ in rows[2:]} == LIMITS
