"""All that a pipeline is made of: config, steps and their runs, costs, and its command."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click

from h5dask import config
from h5dask.cli.options import Computing, ComputingCommand, computing
from h5dask.cli.verbs import FAILED, TRACEBACK, ended
from h5dask.cli.verbs import tell as tell_plainly
from h5dask.config import Input, Output
from h5dask.config.paths import StoreOptions
from h5dask.errors import CorruptInput, H5daskError, NotFound
from h5dask.jobs import Job, Policy
from h5dask.jobs.inputs import content_of, files_in, names_of
from h5dask.jobs.opening import openable
from h5dask.jobs.several import exit_code
from h5dask.jobs.steps import Elsewhere, NothingToDo, Steps
from h5dask.progress import Progress
from h5dask.progress.displays import JsonLines, Said

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from h5dask.ops.cost import Cost

__all__ = [
    "Input",
    "Job",
    "NothingToDo",
    "Output",
    "Policy",
    "Steps",
    "StoreOptions",
    "content_of",
    "files_in",
    "names_of",
    "open_labels",
    "openable",
    "pipeline",
    "reads",
    "refuse_wrong",
    "searches",
    "writes",
]

Config = TypeVar("Config")
Expected = Iterable[tuple["xr.Dataset", Sequence["Cost"]]]


class Pipeline(Generic[Config]):
    """A command that reads a config file and runs steps; called with arguments, as `main` is.

    Parameters
    ----------
    steps : callable
        Takes the config and `Steps`. Its docstring is the command's help.
    kind : type
        The config's dataclass. A field `policy` of the type `Policy` is what the steps keep to
        where the command line doesn't say otherwise; one `storage_options` of the type
        `StoreOptions` is how they reach stores.
    expected : callable
        Takes the config; gives for `--plan` Datasets and what computing on them costs.
    """

    def __init__(
        self,
        steps: Callable[[Config, Steps], Any],
        kind: type[Config],
        expected: Callable[[Config], Expected],
    ) -> None:
        functools.update_wrapper(self, steps)
        self._steps, self._kind, self._expected = steps, kind, expected
        command = click.command(cls=ComputingCommand, help=steps.__doc__)
        decorated: Callable[..., Any] = computing(plan=True)(self._invoked)
        for option in reversed(_OPTIONS):
            decorated = option(decorated)
        self.command: click.Command = command(decorated)

    def __call__(self, args: Sequence[str] | None = None) -> int:
        """Run the command and return its exit code: 0, 1 (inputs set aside), 2, or 130."""
        given = list(sys.argv[1:] if args is None else args)
        started = getattr(sys.modules["__main__"].__spec__, "name", None)
        module = self._steps.__module__
        name = f"python -m {started if module == '__main__' and started else module}"
        main: Callable[[], int] = functools.partial(
            self.command.main, given, name, standalone_mode=False
        )
        return ended(main)

    def _invoked(
        self,
        file: str | None,
        example: bool,
        force: bool,
        strict: bool,
        since: datetime | None,
        how: Computing,
    ) -> int:
        if example:
            click.echo(config.example(self._kind), nl=False)
            return 0
        if file is None:
            raise click.UsageError("Missing argument 'CONFIG'; --example writes one")
        with _failing_in_json(asked=how.log_json):
            read = config.load(file, self._kind)
            if how.plan is not None:
                return _planned(self._expected(read), how)
            policy = getattr(read, "policy", None) or Policy()
            since = since.replace(tzinfo=UTC) if since is not None else policy.since
            policy = replace(
                policy, force=force or policy.force, strict=strict or policy.strict, since=since
            )
            return self._run(read, policy, how)

    def _run(self, read: Config, policy: Policy, how: Computing) -> int:
        """Run the steps, tell how they ended, and print what is there."""
        with how.start() as progress, _warning_by(progress):
            options = getattr(read, "storage_options", None) or {}
            steps = Steps(policy=policy, progress=progress, storage_options=options)
            try:
                with suppress(Elsewhere):
                    self._steps(read, steps)
                progress.say(_counted(steps) or "nothing to do")
            except NothingToDo as why:
                progress.say(f"nothing to do: {why}")
        for one in steps.outcomes:
            for path in one.files:
                click.echo(path)
        return exit_code(steps.outcomes)


def pipeline(
    kind: type[Config], *, expected: Callable[[Config], Expected]
) -> Callable[[Callable[[Config, Steps], Any]], Pipeline[Config]]:
    r"""Make a function of config and steps a pipeline's `main`.

    Examples
    --------
    >>> import h5dask, tempfile
    >>> from pathlib import Path
    >>> from dataclasses import dataclass
    >>> from h5dask.testing import example_file
    >>> @dataclass(frozen=True)
    ... class Copying:
    ...     landing: config.Input
    ...     output: config.Output
    >>> def copied(job):
    ...     job.write(h5dask.open_dataset(job.urls))
    >>> @pipeline(Copying, expected=lambda given: [])
    ... def main(given, steps):
    ...     steps.each(copied, given.landing, given.output)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "copy.toml")
    ...     _ = path.write_text(f'landing = "{example_file("ann")}"\noutput = "out"')
    ...     main([str(path), "--quiet"])
    /...ann.h5
    0
    """

    def decorate(steps: Callable[[Config, Steps], Any]) -> Pipeline[Config]:
        return Pipeline(steps, kind, expected)

    return decorate


_OPTIONS = (
    click.argument("file", required=False, metavar="CONFIG"),
    click.option("--example", is_flag=True, help="Print a config file with all keys, and end."),
    click.option("--force", is_flag=True, help="Work even where the output is current."),
    click.option("--strict", is_flag=True, help="Stop at the first bad input."),
    click.option(
        "--since",
        metavar="YYYY-MM-DD",
        type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
        help="Leave out inputs that were last changed before, in UTC.",
    ),
)


def _planned(expected: Expected, how: Computing) -> int:
    from h5dask.cli.printing import print_rich
    from h5dask.plan import plan_of, table

    try:
        for ds, costs in expected:
            print_rich(table(plan_of(ds, costs, figures=how.figures())))
    except NothingToDo as why:
        tell_plainly(f"nothing to do: {why}")
    return 0


def _counted(steps: Steps) -> str:
    """Return how many runs ended how."""
    counts: dict[str, int] = {}
    for one in steps.outcomes:
        counts[one.what] = counts.get(one.what, 0) + 1
    return ", ".join(f"{n} {what}" for what, n in counts.items())


@contextmanager
def _warning_by(progress: Progress) -> Iterator[None]:
    """Tell Python's warnings inside as all else is told."""

    def show(message: Warning | str, *where: Any, **more: Any) -> None:
        del where, more
        progress.tell(Said(text=f"Warning: {message}", event="warning", warns=True))

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def _failing_in_json(*, asked: bool) -> Iterator[None]:
    """End with a line of JSON where an error would be told in plain text, if that was asked for."""
    try:
        yield
    except BrokenPipeError:
        raise
    except Exception as error:
        if not asked or os.environ.get(TRACEBACK, "") not in ("", "0"):
            raise
        known = isinstance(error, (H5daskError, click.ClickException))
        text = str(error) if known else f"{type(error).__name__}: {error}"
        JsonLines(sys.stderr).say(Said(text=text, event="error"))
        raise click.exceptions.Exit(FAILED) from error


def reads(ds: xr.Dataset, stage: str) -> Cost:
    """Return what a stage costs that reads every block of a Dataset once."""
    from h5dask.ops.cost import reading
    from h5dask.plan import stored_forms

    return reading(ds, stage=stage, stored=stored_forms(ds))


def writes(ds: xr.Dataset, stage: str) -> Cost:
    """Return what a stage costs that writes an opened Dataset, reading included."""
    from h5dask.ops.cost import writing
    from h5dask.plan import stored_forms

    return writing(ds, stage=stage, stored=stored_forms(ds))


def searches(base: xr.DataArray, query: xr.DataArray, stage: str, *, k: int) -> Cost:
    """Return what a stage costs that finds the k nearest base vectors of each query."""
    from h5dask.ops.neighbors import knn_cost

    return replace(knn_cost(base, query, k=k), stage=stage)


def open_labels(
    labels: str,
    urlpath: str,
    select: Mapping[str, Any] | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> NDArray[Any]:
    """Return a label a vector: those in a .npy, or what a variable beside the vectors says.

    Parameters
    ----------
    labels : str
        Path of a .npy of whole numbers or text; or the name of a variable or coord.
    urlpath : str
        The file of the vectors: of a layout, .nc or .zarr.
    select : mapping, optional
        Which of them, as of `open_vectors`.
    storage_options : mapping, optional
        What fsspec needs to reach a store.

    Raises
    ------
    NotFound
        There is no such file or variable.
    CorruptInput, LayoutError
        The .npy can't be read, or holds something else.

    Examples
    --------
    >>> from h5dask.testing import example_file
    >>> open_labels("scenario", example_file("activations"), {"layer": 13})[:2]
    array(['base', 'base'], dtype=object)
    """
    from h5dask.results import open_any
    from h5dask.truth import files

    if labels.endswith(".npy"):
        return files.open_labels(labels, storage_options=storage_options)
    ds = open_any(urlpath, storage_options=storage_options)
    if labels not in ds.variables:
        there = ", ".join(str(name) for name, one in ds.variables.items() if one.ndim == 1)
        raise NotFound(f"{urlpath}: no variable {labels!r}; name a .npy, or one of {there}")
    found: NDArray[Any] = ds.sel(select or {})[labels].values
    return found


def refuse_wrong(found: xr.Dataset, subject: str) -> None:
    """Raise CorruptInput where `verify` found neighbors wrong, with what it found in a line.

    Examples
    --------
    >>> import h5dask
    >>> from h5dask.testing import example
    >>> ds = example("ann").load()
    >>> refuse_wrong(h5dask.verify(ds), "bench.h5")
    >>> ds.neighbors[3, 0] = -1
    >>> refuse_wrong(h5dask.verify(ds), "bench.h5")
    Traceback (most recent call last):
        ...
    h5dask.errors.CorruptInput: bench.h5: 1 of 5 queries wrong: 1 neighbor out of range; ...
    """
    from h5dask.telling.wrong_neighbors import sentence
    from h5dask.truth.verifying import is_right

    if not is_right(found):
        raise CorruptInput(f"{subject}: {sentence(found)}; make it anew with --force")
