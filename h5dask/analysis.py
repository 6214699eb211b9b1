"""The verbs that compute on values: each parses, calls, and prints or writes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import click

from h5dask.options import Computing, ComputingCommand, computing
from h5dask.printing import as_json_option, print_json, print_plans, print_rich
from h5dask.verbs import FINE, FOUND, tell

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from h5dask.ops.cost import Cost

VERBS: list[click.Command] = []
"""In the order of the help."""

Verb = Callable[..., int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Out:
    """What becomes of a result, as the verb's user asked."""

    as_json: bool
    """Whether it is printed as JSON."""
    overwrite: bool
    """Whether a file that is there is replaced."""
    result: str | None = None
    """File it is written to."""

    def refuse(self) -> None:
        """Refuse a file that can't be written, before anything is computed for it."""
        from h5dask.results import refuse_target

        if self.result is not None:
            refuse_target(self.result, overwrite=self.overwrite)

    def write(self, found: xr.Dataset) -> None:
        """Write a result where that is asked for."""
        from h5dask.results import write_result

        if self.result is not None:
            write_result(found, self.result, overwrite=self.overwrite)

    def give(self, found: xr.Dataset, table: pd.DataFrame) -> int:
        """Write a result, or print it: as JSON or as a table."""
        from h5dask import tables

        self.write(found)
        if self.as_json:
            print_json(tables.as_json(found))
        elif self.result is not None:
            click.echo(self.result)
        else:
            print_rich(tables.table_of(table))
        return FINE


def _verb(
    help_line: str, *options: Callable[[Any], Any], writes: bool = True
) -> Callable[[Verb], Verb]:
    """Make a function a verb: FILE..., some options, `out`, and `how` to compute."""

    def made(function: Verb) -> Verb:
        @functools.wraps(function)
        def gathered(**given: Any) -> int:
            out = {name: given.pop(name) for name in _OUT if name in given}
            return function(**given, out=Out(**out))

        decorated: Any = computing(plan=True)(as_json_option(_OVERWRITE(gathered)))
        for option in reversed((_FILES, *options, *([_RESULT] if writes else []))):
            decorated = option(decorated)
        VERBS.append(click.command(cls=ComputingCommand, short_help=help_line)(decorated))
        return function

    return made


_FILES = click.argument("files", nargs=-1, required=True, metavar="FILE...")
_VARIABLES = click.option(
    "--variable", "variables", multiple=True, metavar="NAME", help="Of this one alone; repeatable."
)
_BY = click.option(
    "--by", multiple=True, metavar="COORD", help="For each label of this coordinate; repeatable."
)
_RESULT = click.option(
    "-o", "--result", metavar="RESULT", help="Write all of it, as .nc, .zarr, or netCDF in .h5."
)
_OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace a result that is there.")
_OUT = tuple(field.name for field in fields(Out))
_PAIRS = click.option(
    "--pair", "pairs", multiple=True, nargs=2, metavar="A B",
    help="Compare these scenarios, or SCENARIO/BRANCH; repeatable.",
)  # fmt: skip


@_verb(
    "Count, mean, spread and extremes of every number.",
    _VARIABLES,
    _BY,
    click.option("--keep", multiple=True, metavar="DIM", help="Along this dim too; repeatable."),
    click.option(
        "--more", multiple=True, type=click.Choice(["histogram", "quantiles"]), help="Also these."
    ),
)
def summarize(
    files: tuple[str, ...],
    variables: tuple[str, ...],
    by: tuple[str, ...],
    keep: tuple[str, ...],
    more: tuple[str, ...],
    out: Out,
    how: Computing,
) -> int:
    """Tell counts, mean, standard deviation and extremes of every variable of numbers in FILEs.

    Every value is read once. What isn't finite is counted, and left out of all else.
    """
    from h5dask.ops.cost import folding
    from h5dask.summaries import frame, numbers_in, summaries

    ds = _opened(files)
    made = summaries(ds, variables=variables, keep=keep, by=by, more=more)
    read = numbers_in(ds, variables)
    if how.plan is not None:
        return _planned(read, folding, "summarize", how, out)
    found = _computed(made, how, out, f"summarize {files[0]}", read.nbytes)
    return out.give(found, frame(found))


@_verb(
    "Find NaN, infinity, zero vectors, double ids and bad text.",
    click.option(
        "--ignore", multiple=True, metavar="KIND",
        help="Not these: nan, posinf, neginf, zero_rows, duplicates, empty, not_utf8; repeatable.",
    ),
)  # fmt: skip
def scan(
    files: tuple[str, ...],
    ignore: tuple[str, ...],
    out: Out,
    how: Computing,
) -> int:
    """Look at every value of FILEs, and tell what is wrong where, with the numbers of the rows.

    Rows are counted from 0 along a variable's first dim, through all FILEs. The exit code is 1
    where anything was found. RESULT holds counts by variable and a mask of rows for each dim.
    """
    from h5dask import bad_rows
    from h5dask.ops.scanning import scan as scanned
    from h5dask.ops.scanning import scanning_cost

    ds = _opened(files)
    made = scanned(ds, ignore=ignore)
    if how.plan is not None:
        return _planned(ds, scanning_cost, "scan", how, out)
    found = _computed(made, how, out, f"scan {files[0]}", ds.nbytes)
    out.write(found)
    if out.as_json:
        print_json(bad_rows.as_json(found))
    for line in () if out.as_json else bad_rows.lines_of(found):
        click.echo(line)
    if bad_rows.is_sound(found):
        tell("Nothing found")
        return FINE
    return FOUND


@_verb(
    "Bring values to a common scale.",
    click.option("--variable", metavar="NAME", help="Which; the only one of vectors without it."),
    click.option(
        "--how", "way", default="l2", show_default=True,
        type=click.Choice(["l2", "zscore", "center", "minmax", "whiten"]), help="To what scale.",
    ),
    click.option("--dim", "dims", multiple=True, metavar="DIM",
        help="Along which vectors lie (l2: the last one), or statistics are taken (the first)."),
    click.option("--fitted", metavar="FITTED.nc", help="Apply what --save kept of other files."),
    click.option("--save", metavar="FITTED.nc", help="Keep the statistics that were applied."),
    click.option("-o", "--output", required=True, metavar="RESULT",
        help="A file in the layout of FILE; or .nc, .zarr with this variable alone."),
    writes=False,
)  # fmt: skip
def normalize(
    files: tuple[str, ...],
    variable: str | None,
    way: str,
    dims: tuple[str, ...],
    fitted: str | None,
    save: str | None,
    output: str,
    out: Out,
    how: Computing,
) -> int:
    """Write FILEs with one variable on a common scale, all else as it was."""
    from h5dask.normalizing import Scaling, write_scaled
    from h5dask.ops.cost import folding

    ds = _opened(files)
    scaling = Scaling.of(ds, variable=variable, how=way, dims=dims, fitted=fitted)
    if how.plan is not None:
        return _planned(ds[[scaling.variable]], folding, "normalize", how, out)
    with how.start() as progress:
        told = write_scaled(
            ds, scaling, output, save=save, overwrite=out.overwrite, progress=progress
        )
    if out.as_json:
        print_json(told)
    else:
        click.echo(output)
    return FINE


@_verb(
    "Vectors between sets of activations, and how good they are.",
    _PAIRS,
    click.option("--unpaired", is_flag=True, help="Don't compare records of the same sample."),
    click.option("--layer", "layers", multiple=True, type=int, metavar="N", help="Repeatable."),
    click.option("--seed", default=0, show_default=True, help="Divides samples into halves."),
    click.option("--variable", metavar="NAME", help="Which; the only one with layers without it."),
)
def contrast(
    files: tuple[str, ...],
    pairs: tuple[tuple[str, str], ...],
    unpaired: bool,
    layers: tuple[int, ...],
    seed: int,
    variable: str | None,
    out: Out,
    how: Computing,
) -> int:
    """Tell what leads from non-matching to matching scenarios in FILEs, layer by layer.

    The vector of one half of the samples judges the other half: d' and auc. RESULT holds vectors,
    principal directions, cosines and projections as well.
    """
    from h5dask.ops.contrasts import contrast as contrasted
    from h5dask.ops.contrasts import variable_of
    from h5dask.ops.cost import folding
    from h5dask.tables import frame_of

    ds = _opened(files)
    x = variable_of(ds, variable)
    made = contrasted(x, pairs=pairs or None, paired=not unpaired, layers=layers or None, seed=seed)
    if how.plan is not None:
        return _planned(x.to_dataset(name=x.name), folding, "contrast", how, out)
    found = _computed(made, how, out, f"contrast {files[0]}", 2 * x.nbytes)
    table = frame_of(found, ["norm", "reliability", "dprime", "auc"])
    return out.give(found, table)


@_verb(
    "How sure logits are, of which tokens, and how pairs differ.",
    click.option("--token", "tokens", multiple=True, type=int, metavar="ID", help="Repeatable."),
    click.option("--top", default=5, show_default=True, metavar="K", help="Most probable tokens."),
    click.option("--compare", is_flag=True, help="Compare pairs of scenarios or branches instead."),
    _PAIRS,
    click.option("--variable", metavar="NAME", help="Which; the only one with --dim without it."),
    click.option("--dim", default="vocab", show_default=True, help="The dim of the vocabulary."),
    _BY,
)
def logits(
    files: tuple[str, ...],
    tokens: tuple[int, ...],
    top: int,
    compare: bool,
    pairs: tuple[tuple[str, str], ...],
    variable: str | None,
    dim: str,
    by: tuple[str, ...],
    out: Out,
    how: Computing,
) -> int:
    """Tell entropy, the most probable and chosen tokens of each record in FILEs.

    The table holds means, for each label of --by; RESULT holds every record. With --compare, the
    divergences of each sample's two records (KL, JS) and whether their first tokens agree.
    """
    from functools import partial

    from h5dask.ops.logits import compare_logits, logit_statistics, logits_cost
    from h5dask.summaries import frame, numbers_in, summaries

    if pairs and not compare:
        raise click.UsageError("--pair: goes with --compare")
    ds = _opened(files)
    x = numbers_in(ds, [variable] if variable else [str(n) for n in ds if dim in ds[n].dims])
    if compare:
        made = compare_logits(x, list(pairs) or None, vocab=dim)
    else:
        made = logit_statistics(x, tokens=tokens, top=top, dim=dim)
    if how.plan is not None:
        return _planned(x, partial(logits_cost, dim=dim, compared=compare), "logits", how, out)
    found = _computed(made, how, out, f"logits {files[0]}", x.nbytes)
    labels = [name for name in ("scenario", "branch") if not by and name in found.coords]
    keep = [str(dim) for dim in found.dims if dim in ("top", "token", "pair")]
    means = [str(name) for name in found if name != "top_token"]
    told = summaries(found, variables=means, keep=keep, by=[] if compare else by or labels)
    return out.give(found, frame(told))


def _opened(files: Sequence[str]) -> xr.Dataset:
    from h5dask.reader import open_dataset
    from h5dask.results import open_any

    return open_any(files[0]) if len(files) == 1 else open_dataset(list(files))


def _planned(
    ds: xr.Dataset, costs: Callable[..., Cost], stage: str, how: Computing, out: Out
) -> int:
    from h5dask.plan import plan_of, stored_forms

    cost = replace(costs(ds, stored=stored_forms(ds)), stage=stage)
    print_plans([plan_of(ds, [cost], figures=how.figures())], as_json=out.as_json)
    return FINE


def _computed(made: xr.Dataset, how: Computing, out: Out, stage: str, nbytes: int) -> xr.Dataset:
    from h5dask.losses import compute

    out.refuse()
    with how.start() as progress, progress.stage(stage, nbytes=nbytes):
        found: xr.Dataset = compute(made)[0]
    return found
