"""The options that every computing verb has: where it computes, what is shown, what it would take.

A verb takes them as one argument, `how`; a pipeline's command does the same.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from h5dask.plan import Figures
    from h5dask.progress import Progress

Verb = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Computing:
    """How a verb is to compute, as its user asked."""

    workers: int | None = None
    """Processes of this machine."""
    scheduler: str | None = None
    """Address of a running scheduler."""
    scheduler_file: str | None = None
    """File that holds one."""
    memory_limit: str | None = None
    """Size that each of `workers` may take."""
    log_json: bool = False
    """Whether what goes on is told in lines of JSON."""
    quiet: bool = False
    """Whether it isn't told."""
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
        from h5dask.progress import watch

        with ExitStack() as stack:
            progress = stack.enter_context(watch(quiet=self.quiet, log_json=self.log_json))
            self._connect(stack, progress, workers)
            if self.performance_report is not None:
                from h5dask.workers.performance import performance_report

                stack.enter_context(performance_report(self.performance_report))
            yield progress

    def _connect(self, stack: ExitStack, progress: Progress, workers: int | None) -> None:
        asked = self.scheduler or self.scheduler_file
        n_workers = workers if self.workers is None and not asked else self.workers
        if self.memory_limit is not None and n_workers is None:
            raise click.UsageError("--memory-limit: goes with --workers, which share this machine")
        if not (n_workers or asked):
            return
        if n_workers:
            noun = "process" if n_workers == 1 else "processes"
            progress.say(f"Starting {n_workers} worker {noun} ...")
        else:
            progress.say(f"Connecting to {asked} ...")
        from h5dask.workers import connect

        client = connect(
            workers=n_workers,
            scheduler=self.scheduler,
            scheduler_file=self.scheduler_file,
            memory_limit=_limit(self.memory_limit),
        )
        if client is not None:
            stack.enter_context(client)
            progress.say(f"Dashboard: {client.dashboard_link}")

    def figures(self) -> Figures:
        """Return the machines for which a plan was asked."""
        from h5dask.plan import parse_figures, this_machine

        return parse_figures(self.plan) if self.plan else this_machine(self.workers)


def _limit(text: str | None) -> str | None:
    """Return the limit as `connect` takes it."""
    return None if text == "none" else text or "auto"


class ComputingCommand(click.Command):
    """A command whose `--plan` may be followed by figures, and need not be."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Bind figures to the option, so that what else follows it is left alone."""
        return super().parse_args(ctx, _bound(args))


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
    options = [*_PLACES, *_SHOWN, *([_PLAN] if plan else [])]
    names = {field.name for field in fields(Computing)}

    def decorate(verb: Verb) -> Verb:
        @functools.wraps(verb)
        def gathered(**given: Any) -> Any:
            how = {name: given.pop(name) for name in list(given) if name in names}
            return verb(**given, how=Computing(**how))

        for option in reversed(options):
            gathered = option(gathered)
        return gathered

    return decorate


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
        "--memory-limit",
        metavar="SIZE",
        help="What each of --workers may take, such as 4GB, or none; else an equal share.",
    ),
)
_SHOWN = (
    click.option("--log-json", is_flag=True, help="Tell what goes on in lines of JSON, on stderr."),
    click.option("--quiet", is_flag=True, help="Tell nothing of it."),
    click.option(
        "--performance-report",
        metavar="FILE.html",
        help="Write dask's report on tasks, workers and memory.",
    ),
)
_PLAN = click.option(
    "--plan",
    metavar="[FIGURES]",
    help="Compute nothing; tell what it would take, here or on workers=100,cores=8,memory=32GB.",
)
