"""Calls of the command line: in this process, where it can be watched, or in one of its own."""

import subprocess
import sys
from typing import Any

from click.testing import CliRunner, Result

from h5dask import cli
from tests.architecture import ROOT

COMMAND = (sys.executable, "-m", "h5dask.cli")


def call(*args: object) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(cli.main, [str(arg) for arg in args])


def run(*args: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    command = [*COMMAND, *map(str, args)]
    return subprocess.run(command, cwd=ROOT, text=True, check=False, **options)


def rows(told: Result) -> list[str]:
    """Return the lines of a tree without its guides."""
    return [line.lstrip("│├└─ ") for line in told.stdout.splitlines()]
