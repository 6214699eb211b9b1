"""SLURM's programs as a few lines of shell each, which run jobs as processes of this machine, or
answer as they are told to."""

from __future__ import annotations

import os
from pathlib import Path

CONFIG = """\
queue = "normal"
cores = 1
memory = "1GB"
walltime = "01:00:00"
interface = "lo"
"""
_QUEUES = """\
echo 'normal*|up|infinite'
echo 'short|up|5:00'
echo 'shut|drain|1-00:00:00'
"""
_SUBMIT = """\
[ "$1" = --test-only ] && exit 0
cp "$1" {jobs}/script-$$
setsid sh {jobs}/script-$$ </dev/null >/dev/null 2>&1 &
touch {jobs}/$!
echo "Submitted batch job $!"
"""
_LIST = """\
cd {jobs}
for job in [0-9]*; do
  kill -0 $job 2>/dev/null && echo "$job|RUNNING|None"
done
exit 0
"""
_CANCEL = """\
echo "$*" >>{jobs}/cancelled
cd {jobs}
case $1 in
  --*) set -- [0-9]* ;;
esac
for job; do
  kill -s TERM -- -$job 2>/dev/null
done
exit 0
"""


def install(folder: Path, **programs: str) -> Path:
    """Put the programs into a folder and return it, for PATH; some may do otherwise.

    Parameters
    ----------
    folder : Path
        An empty one. In `jobs` below it each job has a file of its number.
    **programs : str
        Shell that stands for one of them; "{jobs}" in it is that folder.
    """
    jobs, there = folder / "jobs", folder / "bin"
    jobs.mkdir()
    there.mkdir()
    usual = {"sinfo": _QUEUES, "sbatch": _SUBMIT, "squeue": _LIST, "scancel": _CANCEL}
    for name, shell in {**usual, **programs}.items():
        path = there / name
        path.write_text(f"#!/bin/sh\n{shell.format(jobs=jobs)}\n")
        path.chmod(0o755)
    return there


def path(*folders: Path) -> str:
    """Return a PATH that begins with some folders."""
    return os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)])
