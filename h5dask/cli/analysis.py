"""The verbs that compute on values: each parses, calls, and prints or writes."""

from __future__ import annotations

from functools import partial

import click

from h5dask.cli.options import Computing
from h5dask.cli.outcome import Out, allow_large_option, computed, opened, planned, verb
from h5dask.cli.printing import print_json
from h5dask.cli.verbs import FINE, FOUND, tell

VERBS: list[click.Command] = []
"""In the order of the help."""

_verb = partial(verb, VERBS)


_VARIABLES = click.option(
    "--variable", "variables", multiple=True, metavar="NAME", help="Of this one alone; repeatable."
)
_BY = click.option(
    "--by", multiple=True, metavar="COORD", help="For each label of this coordinate; repeatable."
)
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
    from h5dask.telling.summaries import frame, numbers_in, summaries

    ds = opened(files)
    made = summaries(ds, variables=variables, keep=keep, by=by, more=more)
    read = numbers_in(ds, variables)
    if how.plan is not None:
        return planned(read, folding, "summarize", how, out)
    found = computed(made, how, out, f"summarize {files[0]}", read.nbytes)
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
    from h5dask.ops.scanning import scan as scanned
    from h5dask.ops.scanning import scanning_cost
    from h5dask.telling import bad_rows

    ds = opened(files)
    made = scanned(ds, ignore=ignore)
    if how.plan is not None:
        return planned(ds, scanning_cost, "scan", how, out)
    found = computed(made, how, out, f"scan {files[0]}", ds.nbytes)
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
    allow_large_option,
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
    from h5dask.normalizing import Scaling, scaling_cost, write_scaled

    ds = opened(files)
    scaling = Scaling.of(ds, variable=variable, how=way, dims=dims, fitted=fitted)
    if how.plan is not None:
        return planned(ds, partial(scaling_cost, scaling=scaling), "normalize", how, out)
    with how.start() as progress:
        told = write_scaled(
            ds, scaling, output, save=save, overwrite=out.overwrite, allow_large=out.allow_large,
            progress=progress,
        )  # fmt: skip
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
    from h5dask.ops.contrasts import contrast_cost, variable_of
    from h5dask.telling.tables import frame_of

    ds = opened(files)
    x = variable_of(ds, variable)
    made = contrasted(x, pairs=pairs or None, paired=not unpaired, layers=layers or None, seed=seed)
    if how.plan is not None:
        return planned(x.to_dataset(name=x.name), contrast_cost, "contrast", how, out)
    found = computed(made, how, out, f"contrast {files[0]}", 2 * x.nbytes)
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
    from h5dask.ops.logits import compare_logits, logit_statistics, logits_cost
    from h5dask.telling.summaries import frame, numbers_in, summaries

    if pairs and not compare:
        raise click.UsageError("--pair: goes with --compare")
    ds = opened(files)
    x = numbers_in(ds, [variable] if variable else [str(n) for n in ds if dim in ds[n].dims])
    if compare:
        made = compare_logits(x, list(pairs) or None, vocab=dim)
    else:
        made = logit_statistics(x, tokens=tokens, top=top, dim=dim)
    if how.plan is not None:
        return planned(x, partial(logits_cost, dim=dim, compared=compare), "logits", how, out)
    found = computed(made, how, out, f"logits {files[0]}", x.nbytes)
    labels = [name for name in ("scenario", "branch") if not by and name in found.coords]
    keep = [str(dim) for dim in found.dims if dim in ("top", "token", "pair")]
    means = [str(name) for name in found if name != "top_token"]
    told = summaries(found, variables=means, keep=keep, by=[] if compare else by or labels)
    return out.give(found, frame(told))
