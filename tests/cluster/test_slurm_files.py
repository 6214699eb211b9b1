"""What SLURM is asked for: by the loader that reads it, and by SLURM itself."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from h5dask.errors import Refused
from h5dask.workers.slurm.config import Slurm, load
from tests.cluster.reading import FOLDER
from tests.commands import call
from tests.servers import slurm
from tests.servers.programs import program

TEXT = (FOLDER / "slurm" / "cluster.toml").read_text("utf-8")
COMMANDS = {
    "job": ["scan", "a.h5"],
    "array": ["normalize", "--each", "*.h5", "{file}", "-o", "{stem}-unit.h5"],
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand where a folder of logs may be made."""
    monkeypatch.chdir(tmp_path)


def suggested() -> str:
    """Return the file with what is only suggested in force."""
    return re.sub(r"^# (\w+ = |\[)", r"\1", TEXT, flags=re.MULTILINE)


def judged(text: str, folder: Path) -> Slurm:
    """Read a config, or raise what is wrong with it."""
    path = folder / "cluster.toml"
    path.write_text(text)
    return load(str(path))


def script(kind: str, text: str, folder: Path) -> Path:
    """Write a script for a command."""
    for name in ("a.h5", "b.h5", "c.h5"):
        (folder / name).touch()
    config, path = folder / "cluster.toml", folder / f"{kind}.sh"
    config.write_text(text)
    verb, *rest = (str(folder / word) if ".h5" in word else word for word in COMMANDS[kind])
    told = call(verb, "--slurm", config, "--sbatch", path, *rest)
    assert told.exit_code == 0, told.stderr
    return path


@pytest.mark.parametrize("text", [TEXT, suggested()], ids=["as it stands", "as suggested"])
def test_it_is_read(tmp_path: Path, text: str) -> None:
    read = judged(text, tmp_path)
    assert read.workers_per_job < read.cores
    assert read.lifetime() != ()


def test_every_key_is_there() -> None:
    told = set(re.findall(r"^(?:# )?\[?(\w+)(?: = |\])", TEXT, flags=re.MULTILINE))
    assert told == {field.name for field in fields(Slurm)} | {"minimum", "maximum"}


@pytest.mark.parametrize(
    ("now", "then", "told"),
    [
        ("walltime =", "wall_time =", "wall_time"),
        ('"04:00:00"', '"four hours"', "walltime: found 'four hours', expected a time"),
        ('"04:00:00"', '"00:09:00"', "expected at least twice lifetime_margin"),
        ("cores = 16", "cores = 0", "cores: found 0"),
        ("processes = 4", "processes = 40", "processes: found 40, expected at most cores"),
        ('"64GB"', '"64 cows"', "memory: found '64 cows'"),
    ],
)
def test_broken(tmp_path: Path, now: str, then: str, told: str) -> None:
    assert now in TEXT
    with pytest.raises(Refused, match=told):
        judged(TEXT.replace(now, then), tmp_path)


@pytest.mark.parametrize("kind", COMMANDS)
def test_scripts_are_scripts(tmp_path: Path, kind: str) -> None:
    path = script(kind, TEXT, tmp_path)
    subprocess.run(["bash", "-n", str(path)], check=True)
    told = path.read_text()
    assert "#SBATCH --cpus-per-task=16" in told
    assert ("#SBATCH --array=0-2%4" in told) is (kind == "array")
    path.write_text(told + "if\n")
    assert subprocess.run(["bash", "-n", str(path)], capture_output=True, check=False).returncode


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm.Slurm]:
    with slurm.start(tmp_path_factory.mktemp("slurm")) as found:
        yield found


@pytest.mark.servers
@pytest.mark.needs(*slurm.PROGRAMS)
@pytest.mark.parametrize("kind", COMMANDS)
def test_slurm_takes_the_scripts(tmp_path: Path, running: slurm.Slurm, kind: str) -> None:
    small = TEXT.replace("cores = 16", "cores = 2").replace("processes = 4", "processes = 2")
    path = script(kind, small.replace('"64GB"', '"1GB"'), tmp_path)

    def submitted() -> subprocess.CompletedProcess[str]:
        command = [program("sbatch"), "--test-only", str(path)]
        environment = {**os.environ, **running.environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    told = submitted()
    assert told.returncode == 0, told.stderr
    path.write_text(path.read_text().replace("--partition=normal", "--partition=nowhere"))
    told = submitted()
    assert told.returncode == 1
    assert "invalid partition" in told.stderr
    assert running.queue() == []
