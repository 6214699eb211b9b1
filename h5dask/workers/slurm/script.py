"""A command as a script for sbatch: one job, or an array of one task a file. Nothing runs here."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence

from dask.utils import parse_bytes

from h5dask.errors import AccessDenied, Refused
from h5dask.workers.slurm.config import Slurm

MOST_TASKS = 1000
"""Tasks of an array; SLURM by itself takes numbers up to 1,000. More files share tasks."""
WARNING_SECONDS = 60
"""Time before the walltime at which a command is told to end, so that it leaves what it can go on
from."""
_FIRST_LINE = "#!/usr/bin/env bash"
MARKS = ("file", "name", "stem")
"""What stands, in braces, for a file, its name, and its name without ending."""
_MARK = re.compile(rf"\{{({'|'.join(MARKS)})\}}")


def script(
    asked: Slurm, command: Sequence[str], *, title: str, folder: str, files: Sequence[str] = ()
) -> str:
    """Return a script that runs a command in one job, or once for each file in an array of jobs.

    Parameters
    ----------
    asked : Slurm
        What a job has.
    command : sequence of str
        Program and arguments; "{file}" stands for a file, "{name}" for its name, and "{stem}" for
        that without its ending.
    title : str
        Of the job, in the queue.
    folder : str
        Where it runs.
    files : sequence of str
        Paths or URLs; without them there is no array.

    Examples
    --------
    >>> asked = Slurm(cores=4, memory="8GB", walltime="60", queue="long")
    >>> print(script(asked, ["h5dask", "info", "a.h5"], title="info", folder="/data"), end="")
    #!/usr/bin/env bash
    #SBATCH --job-name=info
    #SBATCH --chdir=/data
    #SBATCH --partition=long
    #SBATCH --nodes=1
    #SBATCH --ntasks=1
    #SBATCH --cpus-per-task=4
    #SBATCH --mem=7630M
    #SBATCH --time=60
    #SBATCH --signal=B:TERM@60
    export DASK_NUM_WORKERS=${SLURM_CPUS_PER_TASK:-4}
    <BLANKLINE>
    exec h5dask info a.h5
    """
    per_task = -(-len(files) // MOST_TASKS)
    lines = [_FIRST_LINE]
    lines += [f"#SBATCH {one}" for one in _directives(asked, title, folder)]
    if files:
        last = -(-len(files) // per_task) - 1
        lines.append(f"#SBATCH --array=0-{last}%{asked.jobs}")
    lines += [f"#SBATCH {one}" for one in asked.job_extra_directives]
    # What a job has of its node is what threads may take.
    lines.append(f"export DASK_NUM_WORKERS=${{SLURM_CPUS_PER_TASK:-{asked.cores}}}")
    if asked.local_directory is not None:
        lines.append(f'export DASK_TEMPORARY_DIRECTORY="{asked.local_directory}"')
    lines += [*asked.prologue, ""]
    if not files:
        return "\n".join([*lines, f"exec {shlex.join(command)}", ""])
    lines += ["files=(", *(f"  {shlex.quote(file)}" for file in files), ")"]
    run = _filled(command)
    return "\n".join([*lines, *(_single(run) if per_task == 1 else _loop(run, per_task)), ""])


def _directives(asked: Slurm, title: str, folder: str) -> list[str]:
    found = [f"--job-name={title}", f"--chdir={_quoted(folder)}"]
    if asked.queue is not None:
        found.append(f"--partition={_quoted(asked.queue)}")
    if asked.account is not None:
        found.append(f"--account={_quoted(asked.account)}")
    megabytes = -(-int(parse_bytes(asked.memory)) // 2**20)
    found += ["--nodes=1", "--ntasks=1", f"--cpus-per-task={asked.cores}", f"--mem={megabytes}M"]
    found += [f"--time={asked.walltime}", f"--signal=B:TERM@{WARNING_SECONDS}"]
    if asked.log_directory is not None:
        found.append(f"--output={_quoted(asked.log_directory)}/%x-%j.log")
    return found


def _quoted(text: str) -> str:
    return text if text == shlex.quote(text) else f'"{text}"'


def _filled(command: Sequence[str]) -> str:
    """Return a command whose marks are the shell's variables."""
    return " ".join("".join(_pieces(word)) or "''" for word in command)


def _pieces(word: str) -> Iterator[str]:
    """Yield the parts of a word as a shell takes them: what lies between marks, and marks."""
    for at, piece in enumerate(_MARK.split(word)):
        if at % 2:
            yield f'"${piece}"'
        elif piece:
            yield shlex.quote(piece)


def has_mark(command: Sequence[str]) -> bool:
    """Say whether a command names a file by a mark."""
    return any(_MARK.search(word) for word in command)


def filled_in(word: str, file: str) -> str:
    """Return a word as a job has it that runs for a file.

    Examples
    --------
    >>> filled_in("unit/{stem}-{name}", "s3://lab/a.b.h5"), filled_in("{stem}", "a")
    ('unit/a.b-a.b.h5', 'a')
    """
    name = file.rpartition("/")[2]
    stem = name.rpartition(".")[0] if "." in name else name
    values = dict(zip(MARKS, (file, name, stem), strict=True))
    return _MARK.sub(lambda mark: values[mark[1]], word)


_NAMES = ("name=${file##*/}", "stem=${name%.*}", 'echo "$file" >&2')
"""The shell that makes of a file what else stands for it, and tells which it is."""


def _single(command: str) -> list[str]:
    """Return the shell that runs a command for the one file of a task."""
    return ["file=${files[SLURM_ARRAY_TASK_ID]}", *_NAMES, f"exec {command}"]


def _loop(command: str, per_task: int) -> list[str]:
    """Return the shell that runs a command for each file of a task, and ends as the worst did."""
    return [
        f"first=$((SLURM_ARRAY_TASK_ID * {per_task}))",
        "worst=0 stopped=0",
        "trap 'stopped=1; kill -s TERM \"$running\" 2>/dev/null' TERM",
        f'for file in "${{files[@]:first:{per_task}}}"; do',
        *(f"  {line}" for line in _NAMES),
        f"  {command} &",
        "  running=$!",
        '  ((stopped)) && kill -s TERM "$running" 2>/dev/null # the signal came before its number',
        "  # A signal ends the waiting, not what is waited for.",
        '  while wait "$running"; code=$?; kill -0 "$running" 2>/dev/null; do :; done',
        "  ((code > worst)) && worst=$code",
        "  ((stopped)) && break",
        "done",
        'exit "$worst"',
    ]


def python_command(path: str) -> list[str]:
    """Return what runs a command of ours on a node, by this Python.

    Examples
    --------
    >>> python_command("h5dask summarize")[1:], python_command("python -m pipelines.scan")[1:]
    (['-m', 'h5dask.cli', 'summarize'], ['-m', 'pipelines.scan'])
    """
    program, *words = path.split()
    return [sys.executable, *(words if program == "python" else ["-m", "h5dask.cli", *words])]


def write(text: str, path: str) -> None:
    """Write a script; one that is there is replaced, and nothing else is.

    Raises
    ------
    Refused
        What is there is no script.
    AccessDenied
        It can't be written.
    """
    try:
        if os.path.exists(path):
            with open(path, "rb") as there:
                if there.read(len(_FIRST_LINE)) != _FIRST_LINE.encode():
                    raise Refused(f"{path}: is there, and no script for sbatch; name another file")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise AccessDenied(f"{path}: can't be written ({error.strerror}); name another") from None
