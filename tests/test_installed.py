"""What is installed works in a folder without a checkout: the command, the engine, the layouts.

`.ci/run` runs it again where the wheel is installed and no source is in reach.
"""

import json
import os
import subprocess
import sys
import sysconfig
from importlib.resources import files
from pathlib import Path

import pytest

import h5dask
from tests.test_fifth_layout import FLAT

COMMAND = Path(sysconfig.get_path("scripts")) / "h5dask"
REAL = Path(
    str(files("h5dask") / "demo_files" / "ann" / "breast_cancer_standardized_euclidean.hdf5")
)


def run(folder: Path, *command: object, packages: str = "") -> str:
    """Run a command in a folder that Python doesn't search, and return what it prints."""
    env = {**os.environ, "PYTHONPATH": packages, "PYTHONSAFEPATH": "1"}
    words = [str(word) for word in command]
    ran = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_command_tells_its_version(tmp_path: Path) -> None:
    assert run(tmp_path, COMMAND, "--version").split() == ["h5dask,", "version", h5dask.__version__]


def test_the_command_validates_a_real_file(tmp_path: Path) -> None:
    (told,) = json.loads(run(tmp_path, COMMAND, "validate", "--values", "--json", REAL))["files"]
    assert (told["file"], told["problems"], told["error"]) == (str(REAL), [], None)


def test_xarray_has_the_engine(tmp_path: Path) -> None:
    program = f"""
import xarray as xr
assert "h5dask" in xr.backends.list_engines()
print(dict(xr.open_dataset({str(REAL)!r}, engine="h5dask").sizes))
"""
    found = run(tmp_path, sys.executable, "-c", program)
    assert found.strip() == str(dict(h5dask.open_dataset(REAL).sizes))


def test_another_package_adds_a_layout(tmp_path: Path) -> None:
    site = tmp_path / "site"
    facts = site / "weather-1.0.dist-info"
    facts.mkdir(parents=True)
    (site / "weather_files.py").write_text(FLAT)
    (facts / "METADATA").write_text("Name: weather\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[h5dask.layouts]\nweather = weather_files:LAYOUT\n")
    program = """
import h5dask
from h5dask.testing import example
h5dask.write_dataset(example("weather"), "a.h5")
print(h5dask.identify("a.h5"), h5dask.validate("a.h5", values=True))
"""
    told = run(tmp_path, sys.executable, "-c", program, packages=str(site))
    assert told.strip() == "weather ()"


SEEN = """
[mypy]
strict = true
follow_imports = skip

[mypy-h5dask,h5dask.reading.reader]
follow_imports = silent
"""
"""Nothing else is looked at: xarray and numpy alone would take a minute."""


@pytest.mark.needs("mypy")
def test_its_types_are_seen(tmp_path: Path) -> None:
    (tmp_path / "mypy.ini").write_text(SEEN)
    program = "import h5dask\nreveal_type(h5dask.identify('a.h5'))\n"
    (tmp_path / "program.py").write_text(program)
    told = run(tmp_path, sys.executable, "-m", "mypy", "program.py")
    assert 'Revealed type is "str"' in told
