"""The options that every computing verb has: where it computes, what is shown, what it would take.

A verb takes them as one argument, `how`; a pipeline's command does the same.
"""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from h5dask.plan import Figures
    from h5dask.progress import Progress

Verb = Callable[..., Any]
_ARGUMENTS = f"{__name__}.arguments"
"""Where a click context holds what its command was called with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Computing:
    """How a verb is to compute, as its user asked."""

    workers: int | None = None
    """Processes of this machine."""
    scheduler: str | None = None
    """Address of a running scheduler."""
    scheduler_file: str | None = None
    """File that holds one."""
    slurm: str | None = None
    """File that says what SLURM is asked for."""
    sbatch: str | None = None
    """File for a script that runs the command in a job of `slurm`; nothing is computed now."""
    each: tuple[str, ...] = ()
    """Files, URLs or patterns: the script runs the command for each of them."""
    memory_limit: str | None = None
    """Size that each of `workers` may take."""
    log_json: bool = False
    """Whether what goes on is told in lines of JSON."""
    quiet: bool = False
    """Whether it isn't told, but for what was set aside."""
    performance_report: str | None = None
    """HTML file for dask's own report."""
    plan: str | None = None
    """Figures of machines, "" for this one: tell what would run; None: run it."""

    @contextmanager
    def start(self, workers: int | None = None) -> Iterator[Progress]:
        """Compute as asked inside, and show how far it is.

        Parameters
        ----------
        workers : int, optional
            Processes where the user named no place to compute; threads without it.
        """
        from h5dask.cli.settings import refuse_wrong, warn_of_caches, warn_of_unknown
        from h5dask.progress import watch

        if "dask" in sys.modules:  # a pipeline that has nothing to do never imports it
            refuse_wrong()
            if not self.quiet:
                warn_of_unknown()
        if not self.quiet:
            warn_of_caches()
        with ExitStack() as stack:
            progress = stack.enter_context(watch(quiet=self.quiet, log_json=self.log_json))
            self._connect(stack, progress, workers)
            if self.performance_report is not None:
                from h5dask.workers.performance import performance_report

                stack.enter_context(performance_report(self.performance_report))
            yield progress

    def _connect(self, stack: ExitStack, progress: Progress, workers: int | None) -> None:
        asked = self.scheduler or self.scheduler_file or self.slurm
        n_workers = workers if self.workers is None and not asked else self.workers
        if self.memory_limit is not None and n_workers is None:
            raise click.UsageError("--memory-limit: goes with --workers, which share this machine")
        if not (n_workers or asked):
            return
        if n_workers:
            noun = "process" if n_workers == 1 else "processes"
            progress.say(f"Starting {n_workers} worker {noun} ...")
        elif self.slurm:
            progress.say(f"Asking SLURM for jobs by {asked} ...")
        else:
            progress.say(f"Connecting to {asked} ...")
        from h5dask.workers import connect

        client = connect(
            workers=n_workers,
            scheduler=self.scheduler,
            scheduler_file=self.scheduler_file,
            slurm=self.slurm,
            memory_limit=_limit(self.memory_limit),
        )
        if client is not None:
            stack.enter_context(client)
            progress.say(f"Dashboard: {client.dashboard_link}")

    def figures(self) -> Figures:
        """Return the machines for which a plan was asked."""
        from h5dask.plan import parse_figures, this_machine

        if not self.slurm:
            return parse_figures(self.plan) if self.plan else this_machine(self.workers)
        from h5dask.workers.slurm.config import load, seconds_of

        asked = load(self.slurm)
        jobs = f"workers={asked.most_workers},cores=1,memory={asked.worker_memory}B"
        seconds = seconds_of(asked.walltime)
        limit = seconds if math.isfinite(seconds) else None
        return replace(parse_figures(self.plan or jobs), walltime=limit)


def _limit(text: str | None) -> str | None:
    """Return the limit as `connect` takes it."""
    return None if text == "none" else text or "auto"


class ComputingCommand(click.Command):
    """A command whose `--plan` may be followed by figures, and which knows how it was called."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Bind figures to the option, so that what else follows it is left alone."""
        bound = _bound(args)
        ctx.meta[_ARGUMENTS] = tuple(bound)
        return super().parse_args(ctx, bound)


def _bound(args: Sequence[str]) -> list[str]:
    """Return arguments with `--plan` joined to its figures, or to nothing.

    Examples
    --------
    >>> _bound(["--plan", "workers=2", "a.h5"]), _bound(["--plan", "a.h5"])
    (['--plan=workers=2', 'a.h5'], ['--plan=', 'a.h5'])
    """
    bound: list[str] = []
    ahead = list(args)
    while ahead:
        arg = ahead.pop(0)
        if arg == "--":
            return [*bound, arg, *ahead]
        if arg == "--plan":
            arg = f"--plan={ahead.pop(0) if ahead and _are_figures(ahead[0]) else ''}"
        bound.append(arg)
    return bound


def _are_figures(arg: str) -> bool:
    return "=" in arg and not arg.startswith("-") and not os.path.exists(arg)


def computing(*, plan: bool = False) -> Callable[[Verb], Verb]:
    """Give a command the options of every computing verb, which it takes as one `how`.

    Parameters
    ----------
    plan : bool, default False
        Whether the command can tell what would run; it is then made with
        `cls=ComputingCommand`.

    Examples
    --------
    >>> @click.command()
    ... @computing()
    ... def verb(how):
    ...     with how.start() as progress:
    ...         progress.say("works")
    >>> [option.name for option in verb.params][:3]
    ['workers', 'scheduler', 'scheduler_file']
    """
    options = [*_PLACES, *_SHOWN, *([*_SCRIPT, _PLAN] if plan else [])]
    names = {field.name for field in fields(Computing)}

    def decorate(verb: Verb) -> Verb:
        @functools.wraps(verb)
        def gathered(**given: Any) -> Any:
            how = Computing(**{name: given.pop(name) for name in list(given) if name in names})
            if how.sbatch is not None or how.each:
                return _written_as_script(how, click.get_current_context())
            return verb(**given, how=how)

        for option in reversed(options):
            gathered = option(gathered)
        return gathered

    return decorate


def _written_as_script(how: Computing, ctx: click.Context) -> int:
    from h5dask.cli.scripts import write_script

    return write_script(how, ctx, ctx.meta[_ARGUMENTS])


_PLACES = (
    click.option(
        "--workers",
        type=click.IntRange(1),
        metavar="N",
        help="Compute in N processes of this machine, with a dashboard.",
    ),
    click.option("--scheduler", metavar="ADDRESS", help="Compute where this dask scheduler does."),
    click.option(
        "--scheduler-file",
        metavar="FILE",
        help="The same, by the file in which the scheduler left its address.",
    ),
    click.option(
        "--slurm",
        metavar="CONFIG",
        help="Compute in jobs of SLURM, which this TOML file describes.",
    ),
    click.option(
        "--memory-limit",
        metavar="SIZE",
        help="What each of --workers may take, such as 4GB, or none; else an equal share.",
    ),
)
_SHOWN = (
    click.option("--log-json", is_flag=True, help="Tell what goes on in lines of JSON, on stderr."),
    click.option("--quiet", is_flag=True, help="Tell only what was set aside."),
    click.option(
        "--performance-report",
        metavar="FILE.html",
        help="Write dask's report on tasks, workers and memory.",
    ),
)
_SCRIPT = (
    click.option(
        "--sbatch",
        metavar="SCRIPT",
        help="Compute nothing; write a script for sbatch that runs this command in one job of "
        "--slurm.",
    ),
    click.option(
        "--each",
        multiple=True,
        metavar="FILES",
        help="In that script, run the command for each of these, as an array of jobs; {file}, "
        "{name} and {stem} stand for one. A pattern may be quoted; repeatable.",
    ),
)
_PLAN = click.option(
    "--plan",
    metavar="[FIGURES]",
    help="Compute nothing; tell what it would take, here or on workers=100,cores=8,memory=32GB.",
)
