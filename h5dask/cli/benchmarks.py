"""The verbs of vector-search benchmarks: each parses, calls, and prints or writes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from h5dask.cli.options import Computing
from h5dask.cli.outcome import Out, computed, opened, planned, verb
from h5dask.cli.printing import print_json, print_rich
from h5dask.cli.verbs import FINE, FOUND, tell

if TYPE_CHECKING:
    import xarray as xr

    from h5dask.ops.cost import Cost, Forms

VERBS: list[click.Command] = []
"""In the order of the help."""

_verb = partial(verb, VERBS)
_SEED = click.option("--seed", default=0, show_default=True, help="Chooses queries at random.")
_CLIP = click.option("--clip-k", is_flag=True, help="Keep fewer neighbors where a label is rare.")


@_verb(
    "Make a benchmark of vectors and their true neighbors.",
    click.option("-o", "--output", required=True, metavar="OUT",
        help="A benchmark; or its neighbors alone as big-ann has them, in .bin or .ivecs."),
    click.option("--k", default=100, show_default=True, help="Neighbors of each query."),
    click.option("--metric", metavar="NAME",
        help="euclidean, ip or angular; euclidean, or the benchmark's own, without it."),
    click.option("--test-size", metavar="N|SHARE",
        help="Without QUERY: so many, or such a share, of BASE become queries."),
    _SEED,
    click.option("--base-labels", metavar="FILE.npy|NAME",
        help="Labels of BASE, or a variable's name there: a query's neighbors have its own."),
    click.option("--query-labels", metavar="FILE.npy|NAME", help="Labels of QUERY."),
    click.option("--relabel", is_flag=True, help="Number the labels from 0, in their order."),
    _CLIP,
    click.option("--base-rows", type=int, metavar="N", help="Use the first N of BASE only."),
    click.option("--quantize", metavar="int8", help="Round vectors to -127 to 127."),
    click.option("--variable", metavar="NAME", help="Which variable of BASE are its vectors."),
    click.option("--select", multiple=True, metavar="COORD=LABEL",
        help="Which of BASE, as layer=13; repeatable."),
    files=lambda function: click.argument("base")(
        click.argument("query", required=False)(function)
    ),
    writes=False,
)  # fmt: skip
def ground_truth(  # noqa: PLR0913, PLR0917 - each is one choice of the benchmark's maker
    base: str,
    query: str | None,
    output: str,
    k: int,
    metric: str | None,
    test_size: str | None,
    seed: int,
    base_labels: str | None,
    query_labels: str | None,
    relabel: bool,
    clip_k: bool,
    base_rows: int | None,
    quantize: str | None,
    variable: str | None,
    select: tuple[str, ...],
    out: Out,
    how: Computing,
) -> int:
    """Find the true neighbors of QUERY among BASE, and write all of it to OUT.

    Both are vectors of any kind: .npy, .fbin, .fvecs, .parquet, .zarr, or a file of a layout. Of a
    benchmark as BASE, vectors, queries, labels and metric are taken, and all else is made new.
    """
    import xarray as xr

    from h5dask.losses import compute
    from h5dask.pipeline import open_labels
    from h5dask.results import refuse_existing
    from h5dask.truth import ground_truth
    from h5dask.truth.files import open_base, write_made
    from h5dask.truth.vectorset import vector_set
    from h5dask.vectors import open_vectors

    chosen = _labels(select)
    found = open_base(base, variable=variable, select=chosen)
    asked = None if query is None else open_vectors(query)
    refuse_existing(output, overwrite=out.overwrite)
    size = None if test_size is None else _size(test_size)
    theirs = None if base_labels is None else open_labels(base_labels, base, chosen)
    own = None if query_labels is None else open_labels(query_labels, query or base)
    if how.plan is not None:
        vectors = vector_set(found, asked, None, None).first(base_rows).divided(size, seed)
        sides = xr.Dataset({"train": vectors.train, "test": vectors.test})
        return planned(sides, partial(_finding, k=k), "ground truth", how, out)
    with how.start() as progress:
        with progress.stage(f"ground truth {base}", nbytes=found.nbytes):
            made = ground_truth(
                found, asked, k=k, metric=metric, base_labels=theirs, query_labels=own,
                test_size=size, seed=seed, base_rows=base_rows, quantize=quantize,
                relabel=relabel, clip_k=clip_k, compute=compute,
            )  # fmt: skip
        with progress.stage(f"write {output}", nbytes=made.nbytes):
            write_made(made, output, overwrite=out.overwrite)
    told = {
        "output": output,
        "queries": made.sizes["query"],
        "base": made.sizes["vector"],
        "k": made.sizes["neighbor"],
        "certified": int(made.attrs["certified"]),
    }
    if out.as_json:
        print_json(told)
    else:
        click.echo(output)
    return FINE


@_verb(
    "Tell whether the neighbors in a benchmark are the true ones.",
    click.option(
        "--sample", type=click.IntRange(1), metavar="N",
        help="Look at N queries, chosen at random.",
    ),
    _SEED,
    click.option("--repair", metavar="OUT", help="Write the benchmark with its true neighbors."),
    _CLIP,
    files=click.argument("file"),
)  # fmt: skip
def verify(
    file: str,
    sample: int | None,
    seed: int,
    repair: str | None,
    clip_k: bool,
    out: Out,
    how: Computing,
) -> int:
    """Compute the neighbors in FILE anew, and tell in what the stored ones differ.

    Neighbors that float32 can't tell apart are right in any order. The exit code is 1 where
    anything is wrong; the first differences are shown then. OUT has the vectors and labels of FILE;
    it is written whatever was found.
    """
    from h5dask.losses import compute
    from h5dask.results import refuse_existing
    from h5dask.truth.verifying import is_right, metric_in, verify

    ds = opened([file])
    metric_in(ds)  # it refuses what is no such benchmark
    if how.plan is not None:
        return planned(ds, partial(_searching, sample=sample), "verify", how, out)
    out.refuse()
    if repair is not None:
        refuse_existing(repair, overwrite=out.overwrite)
    found = None
    try:
        with how.start() as progress:
            with progress.stage(f"verify {file}", nbytes=2 * ds["train"].nbytes):
                found = verify(ds, sample=sample, seed=seed, compute=compute)
            if repair is not None:
                with progress.stage(f"repair {repair}", nbytes=ds["train"].nbytes):
                    _write_repaired(ds, repair, clip_k=clip_k, overwrite=out.overwrite)
    finally:  # what was found is told even where it can't be repaired
        if found is not None:
            _give(found, out)
    if repair is not None:
        tell(f"Written: {repair}")
    return FINE if is_right(found) else FOUND


def _give(found: xr.Dataset, out: Out) -> None:
    """Write and print what was found."""
    from h5dask.telling.tables import table_of
    from h5dask.telling.wrong_neighbors import as_json, differences, sentence, shown
    from h5dask.truth.verifying import is_right

    out.write(found)
    if out.as_json:
        print_json(as_json(found))
        return
    click.echo(sentence(found))
    if not is_right(found):
        print_rich(table_of(shown(differences(found))))


@_verb(
    "Share of the true neighbors that were found.",
    click.option("--k", type=int, metavar="K", help="Look at the first K; at all without it."),
    click.option(
        "--metric", type=click.Choice(["euclidean", "ip"]),
        help="Of the distances in a .bin; the other file's without it.",
    ),
    files=lambda function: click.argument("found")(click.argument("truth")(function)),
)  # fmt: skip
def recall(
    found: str, truth: str, k: int | None, metric: str | None, out: Out, how: Computing
) -> int:
    """Tell which share of the neighbors in TRUTH is in FOUND, by their ids and by distances.

    By distance, all is right that is no farther than the last true one. Each is a benchmark, a
    result in .nc or .zarr, ids in .npy or .ivecs, or big-ann's .bin. RESULT holds the shares of
    every query.
    """
    from h5dask.telling.shares import sentence
    from h5dask.telling.summaries import summaries
    from h5dask.telling.tables import as_json
    from h5dask.truth.recalling import open_sides, recall

    sides = open_sides(found, truth, metric)
    made = recall(*sides, k=k)
    named = [one[[name for name in ("neighbors", "distances") if name in one]] for one in sides]
    if how.plan is not None:
        return planned(named[0], partial(_comparing, truth=named[1]), "recall", how, out)
    shares = computed(made, how, out, f"recall {found}", sum(one.nbytes for one in named))
    out.write(shares)
    if out.as_json:
        print_json(as_json(summaries(shares, variables=[str(name) for name in shares])))
    else:
        click.echo(sentence(shares))
    return FINE


def _labels(select: tuple[str, ...]) -> dict[str, int | str]:
    """Return the labels that COORD=LABEL name."""
    found: dict[str, int | str] = {}
    for one in select:
        name, equals, label = one.partition("=")
        if not (name and equals and label):
            raise click.BadParameter(f"found {one!r}; expected COORD=LABEL, as layer=13")
        found[name] = int(label) if label.lstrip("-").isdigit() else label
    return found


def _size(text: str) -> float:
    """Return a number of vectors, or a share of them."""
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        raise click.BadParameter(f"found {text!r}; expected a number or a share") from None


def _finding(ds: xr.Dataset, *, stored: Forms, k: int) -> Cost:
    """Return what it takes to find neighbors."""
    from h5dask.ops.neighbors import knn_cost

    return knn_cost(ds["train"], ds["test"], k=k, stored=stored)


def _searching(ds: xr.Dataset, *, stored: Forms, sample: int | None) -> Cost:
    """Return what it takes to find neighbors, and to measure them and the stored ones."""
    from h5dask.ops.cost import folding
    from h5dask.ops.neighbors import knn_cost

    found = knn_cost(ds["train"], ds["test"][:sample], k=ds.sizes["neighbor"], stored=stored)
    return found + folding(ds[["train"]], stored=stored, flops=0.0)


def _comparing(found: xr.Dataset, *, stored: Forms, truth: xr.Dataset) -> Cost:
    """Return what it takes to look at both."""
    from h5dask.ops.cost import folding
    from h5dask.plan import stored_forms

    return folding(found, stored=stored) + folding(truth, stored=stored_forms(truth))


def _write_repaired(ds: xr.Dataset, target: str, *, clip_k: bool, overwrite: bool) -> None:
    from h5dask.losses import compute
    from h5dask.truth.verifying import repair
    from h5dask.writing.writer import write_dataset

    write_dataset(repair(ds, clip_k=clip_k, compute=compute), target, overwrite=overwrite)
