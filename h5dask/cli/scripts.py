"""A command written as a script for SLURM, and what would go wrong in its jobs told beforehand.

What stands in a script is said in `h5dask.workers.slurm.script`.
"""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from h5dask.cli.verbs import FINE, tell

if TYPE_CHECKING:
    from h5dask.cli.options import Computing
    from h5dask.workers.slurm.config import Slurm

_OUTPUTS = ("output", "result", "save", "repair", "performance_report")
"""Options, of any command, that name what it writes."""
_BRACED = re.compile(r"\{(\w+)\}")


def write_script(how: Computing, ctx: click.Context, args: Sequence[str]) -> int:
    """Write the script that runs a command in a job, or for each of many files.

    Parameters
    ----------
    how : Computing
        Which SLURM, which script, and each of which files.
    ctx : click.Context
        Of the command.
    args : sequence of str
        What it was called with.
    """
    if how.sbatch is None:
        raise click.UsageError("--each: needs --sbatch SCRIPT, which runs a command for each file")
    if how.slurm is None:
        raise click.UsageError("--sbatch: needs --slurm CONFIG, which says what the job has")
    from h5dask.workers.slurm import script
    from h5dask.workers.slurm.config import load

    asked = load(how.slurm)
    _look_at_queue(asked, how.slurm)
    words = _without(args, ("--slurm", "--sbatch", "--each"))
    files = _files(how.each, words)
    _look_at_paths(ctx, files)
    command = [*script.python_command(ctx.command_path), *words]
    title = f"h5dask-{ctx.command_path.split()[-1].rpartition('.')[2]}"
    text = script.script(asked, command, title=title, folder=os.getcwd(), files=files)
    if how.sbatch == "-":
        click.echo(text, nl=False)
    else:
        script.write(text, how.sbatch)
        click.echo(how.sbatch)
    _make_log_folder(asked, how.slurm)
    return FINE


def _look_at_queue(asked: Slurm, file: str) -> None:
    """Refuse what SLURM would never start; where it can't be asked, say so."""
    from h5dask.errors import H5daskError
    from h5dask.workers.slurm import queue

    if not queue.is_here("sinfo"):
        tell(f"Warning: {file}: queue and walltime aren't checked, as there is no sinfo here")
        return
    try:
        there = queue.queues()
    except H5daskError as error:
        tell(f"Warning: {file}: queue and walltime aren't checked; {error}")
    else:
        queue.refuse_misfit(asked, file, there)


def _files(each: Sequence[str], words: Sequence[str]) -> list[str]:
    """Return the files that the command is run for; none of a single job."""
    from h5dask.storage.remote import expand
    from h5dask.workers.slurm.script import MARKS, has_mark

    if each:
        for mark in (mark for word in words for mark in _BRACED.findall(word)):
            if mark not in MARKS:
                raise click.UsageError(_unknown(mark, MARKS))
    if has_mark(words) != bool(each):
        raise click.UsageError(
            "--each: goes with {file}, {name} or {stem} in the command, which stand for a file, "
            "its name, and that without its ending"
        )
    return [source.url for source in expand(each)] if each else []


def _unknown(mark: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(mark, known, 1)
    if near:
        return f"{{{mark}}}: unknown; did you mean {{{near[0]}}}?"
    return f"{{{mark}}}: unknown; expected {', '.join(f'{{{one}}}' for one in known)}"


def _look_at_paths(ctx: click.Context, files: Sequence[str]) -> None:
    """Refuse outputs that jobs would write over each other; tell folders and inputs not here."""
    from h5dask.workers.slurm.script import filled_in, has_mark

    for option, said in _outputs(ctx):
        if files and not has_mark([said]):
            raise click.UsageError(
                f"{option}: found {said!r}, expected {{file}}, {{name}} or {{stem}} in it, since "
                "each job writes its own"
            )
        made: dict[str, str] = {}
        for file in files:
            path = filled_in(said, file)
            if path in made:
                raise click.UsageError(
                    f"{option}: found {said!r}, which is {path!r} for both {made[path]} and "
                    f"{file}; expected one for each"
                )
            made[path] = file
        folders = {os.path.dirname(path) for path in made or (said,) if "://" not in path}
        for folder in _absent(sorted(folders)):
            tell(f"Warning: {option}: no folder {folder!r} here; make it before jobs run")
    for path in _absent(path for path in _inputs(ctx) if not has_mark([path])):
        tell(f"Warning: {path}: no such file here; jobs must find it where they run")


def _outputs(ctx: click.Context) -> Iterator[tuple[str, str]]:
    """Yield what a command writes, and the option that says so."""
    for param in ctx.command.params:
        said = ctx.params.get(str(param.name))
        if param.name in _OUTPUTS and isinstance(said, str):
            yield param.opts[0], said


def _inputs(ctx: click.Context) -> Iterator[str]:
    """Yield what a command is given to read."""
    for param in ctx.command.params:
        said = ctx.params.get(str(param.name))
        if isinstance(param, click.Argument):
            yield from [said] if isinstance(said, str) else said or ()


def _absent(paths: Iterable[str]) -> Iterator[str]:
    """Yield local paths and patterns of which nothing is here; nodes may have them."""
    for path in paths:
        if path and "://" not in path and not (os.path.exists(path) or glob.glob(path)):
            yield path


def _make_log_folder(asked: Slurm, file: str) -> None:
    """Make the folder of logs, without which SLURM drops what jobs print, or tell of it."""
    from h5dask.errors import AccessDenied
    from h5dask.workers.slurm.config import make_log_folder

    try:
        make_log_folder(asked, file)
    except AccessDenied as error:
        tell(f"Warning: {error}; make it before jobs run")


def _without(args: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return arguments without some options and their values.

    Examples
    --------
    >>> _without(["--slurm", "c", "a.h5", "--sbatch=j", "--", "--slurm"], ["--slurm", "--sbatch"])
    ['a.h5', '--', '--slurm']
    """
    left: list[str] = []
    ahead = list(args)
    while ahead:
        arg = ahead.pop(0)
        if arg == "--":
            return [*left, arg, *ahead]
        name, equals, _ = arg.partition("=")
        if name not in names:
            left.append(arg)
        elif not equals:
            del ahead[:1]
    return left
