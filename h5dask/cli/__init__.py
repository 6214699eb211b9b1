"""The command line: one command a verb, which parses, calls and prints. No logic lives here."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import click

from h5dask import __version__
from h5dask.cli.analysis import VERBS as ANALYSIS
from h5dask.cli.benchmarks import VERBS as BENCHMARKS
from h5dask.cli.options import Computing, ComputingCommand, computing
from h5dask.cli.printing import as_json_option, print_json, print_plans, print_rich
from h5dask.cli.sequences import VERBS as SEQUENCES
from h5dask.cli.verbs import FAILED, FINE, FOUND, Verbs, tell


class LayoutName(click.ParamType[str]):
    """The name of a layout; which there are is looked up only when it matters."""

    name = "layout"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002
        """Return the choices as they stand in the help."""
        from h5dask import layouts

        return f"[{'|'.join(layouts.names())}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, or fail with those there are."""
        from h5dask import layouts

        if value not in layouts.names():
            self.fail(f"{value!r} is not one of {', '.join(layouts.names())}", param, ctx)
        return str(value)


class ByteCount(click.ParamType[int]):
    """A number of bytes with or without a unit: 100MB, 1GiB, 5000."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes."""
        from dask.utils import parse_bytes

        try:
            nbytes = int(parse_bytes(value))
        except ValueError:
            nbytes = 0
        if nbytes < 1:
            self.fail(f"{value!r} is no size; expected one such as 100MB", param, ctx)
        return nbytes


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="h5dask")
def main() -> None:
    """Open, check and write HDF5 files of known layouts, in parallel.

    FILE is a local path or any fsspec URL. Results go to stdout, everything else to stderr.

    Exit codes: 0 fine, 1 problems found, 2 could not run, 130 interrupted.
    """


@main.command(short_help="Show what a file holds.")
@click.argument("file")
@as_json_option
def info(file: str, as_json: bool) -> int:
    """Show what FILE holds: groups, datasets, attributes, and its layout.

    No value is read and no link is followed. Groups whose names differ in numbers only are shown
    as one; --json lists every one of them.
    """
    from h5dask.telling.outline import outline

    told = outline(file)
    if as_json:
        print_json(told.as_json())
    else:
        from h5dask.telling.tree import draw

        print_rich(draw(told))
    return FINE


@main.command(cls=ComputingCommand, short_help="Tell what breaks the rules of a layout.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--values", is_flag=True, help="Also read every value and judge it.")
@click.option("--notes", is_flag=True, help="Also tell what is worth saying but no failure.")
@click.option("--layout", type=LayoutName(), help="Judge as this layout, recognised or not.")
@as_json_option
@computing(plan=True)
def validate(
    files: tuple[str, ...],
    values: bool,
    notes: bool,
    layout: str | None,
    as_json: bool,
    how: Computing,
) -> int:
    """Tell everything in which each FILE breaks the rules of its layout, a line a problem.

    Without --values nothing is computed: what says where and how to do it has no effect.
    """
    from h5dask.telling.verdicts import expected, judge, summary

    if how.plan is not None:
        print_plans(expected(files, layout=layout, figures=how.figures()), as_json=as_json)
        return FINE
    verdicts = []
    with how.start() if values else nullcontext() as progress:
        for verdict in judge(files, layout=layout, values=values, notes=notes, progress=progress):
            verdicts.append(verdict)
            if verdict.error:
                tell(f"Error: {verdict.error}")
            for line in () if as_json else verdict.lines():
                click.echo(line)
    if as_json:
        print_json({"files": [verdict.as_json() for verdict in verdicts]})
    tell(summary(verdicts, values=values))
    if any(verdict.error for verdict in verdicts):
        return FAILED
    return FOUND if any(verdict.problems for verdict in verdicts) else FINE


@main.command(cls=ComputingCommand, short_help="Draw what a file holds on one HTML page.")
@click.argument("file")
@click.option(
    "-o", "--output", required=True, metavar="PAGE", help="The page, a local file in .html."
)
@as_json_option
@computing(plan=True)
def report(file: str, output: str, as_json: bool, how: Computing) -> int:
    """Draw the structure, sizes, value ranges and labels of FILE on one HTML page.

    FILE has any layout, or is a result in .nc or .zarr; every value is read once. The page needs
    no network; an older one is replaced.
    """
    from h5dask.losses import compute
    from h5dask.report import write_report
    from h5dask.results import open_any

    ds = open_any(file)
    if how.plan is not None:
        from dataclasses import replace

        from h5dask.ops.cost import reading
        from h5dask.ops.scanning import scanning_cost
        from h5dask.plan import plan_of, stored_forms

        stored = stored_forms(ds)
        scanned = replace(scanning_cost(ds, stored=stored), stage="report")
        costs = [reading(ds, stage="report", stored=stored), scanned]
        print_plans([plan_of(ds, costs, figures=how.figures())], as_json=as_json)
        return FINE
    with how.start() as progress, progress.stage(f"report {file}", nbytes=ds.nbytes):
        titles = write_report(ds, output, compute=compute)
    if as_json:
        print_json({"file": file, "report": output, "sections": list(titles)})
    else:
        click.echo(output)
    return FINE


@main.command(short_help="Run the main job over real files.")
@click.option(
    "--scale",
    type=ByteCount(),
    default="100MB",
    show_default=True,
    help="Size up to which a file of each layout is generated.",
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Keep the files in this new folder.",
)
@as_json_option
@computing()
def demo(scale: int, keep: str | None, as_json: bool, how: Computing) -> int:
    """Open, validate, summarize and write back real files of every layout on a local cluster.

    The real files come with the package; one of each layout is generated beside them. Every
    result is written exactly as its input was, validated and compared. It takes up to three times
    SCALE in the temporary folder, all of it freed at the end.
    """
    from h5dask.demo import n_workers, run, table

    with how.start(workers=n_workers()) as progress:
        stages = run(scale=scale, keep=keep, progress=progress)
    if as_json:
        print_json({"files": [stage.as_json() for stage in stages]})
    else:
        print_rich(table(stages))
        for problem in (problem for stage in stages for problem in stage.problems):
            click.echo(problem)
    return FOUND if any(stage.problems for stage in stages) else FINE


for verb in (*ANALYSIS, *SEQUENCES, *BENCHMARKS):
    main.add_command(verb)
