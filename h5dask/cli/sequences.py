"""The verbs of sequences and of files end to end: each parses, calls, and prints or writes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from h5dask.cli.options import Computing
from h5dask.cli.outcome import Out, allow_large_option, computed, opened, planned, verb
from h5dask.cli.printing import print_json, print_rich
from h5dask.cli.verbs import FINE, tell

if TYPE_CHECKING:
    import xarray as xr

    from h5dask.ops.cost import Cost, Forms

VERBS: list[click.Command] = []
"""In the order of the help."""

_verb = partial(verb, VERBS)
_ZARR = ".zarr"


@_verb(
    "Lay files end to end.",
    click.option("-o", "--output", required=True, metavar="OUT",
        help="A file of their layout, which may be one of them; or .zarr, an array a variable."),
    click.option("--pad", "padded", is_flag=True,
        help="In .zarr: sequences of one length each, zeros behind the shorter, and a mask."),
    click.option("--max-length", type=click.IntRange(1), metavar="N",
        help="With --pad: the length of all; the longest one's without it."),
    click.option("--truncate", is_flag=True, help="With --pad: cut off what is longer."),
    click.option("--structures", type=click.IntRange(1), metavar="N",
        help="Write OUT-00000, OUT-00001 and so on, of N structures each."),
    click.option("--shard-size", metavar="SIZE",
        help="The same, of at most so many bytes of values each, such as 2GB."),
    click.option("--duplicates", type=click.Choice(["keep", "refuse"]), default="keep",
        show_default=True, help="What becomes of rows that FILEs have several times."),
    allow_large_option,
    writes=False,
)  # fmt: skip
def concat(
    files: tuple[str, ...],
    output: str,
    padded: bool,
    max_length: int | None,
    truncate: bool,
    structures: int | None,
    shard_size: str | None,
    duplicates: str,
    out: Out,
    how: Computing,
) -> int:
    """Write FILEs of one layout end to end as one file, or as several.

    Structures get new numbers where FILEs number them alike. Those of one name, and episodes of
    one id, all stay; with --duplicates refuse nothing is written then.
    """
    from h5dask.results import refuse_existing
    from h5dask.telling.per_structure import renumbered, say_outside

    zarr = output.rstrip("/").endswith(_ZARR)
    shards = {"structures": structures, "nbytes": shard_size}
    _refuse_contradictions(zarr, padded, max_length is not None or truncate, shards)
    if not _given(shards):
        refuse_existing(output, overwrite=out.overwrite)
    ds = opened(files)
    if duplicates == "refuse":
        _refuse_repeated(ds, files)
    made, counts = ds, _counts(ds)
    if padded:
        with _typed(files, max_length="--max-length"):
            made = _pad(ds, max_length, truncate=truncate)
    if how.plan is not None:
        return planned(ds, partial(_writing, made=made), "concat", how, out)
    with how.start() as progress, progress.stage(f"write {output}", nbytes=made.nbytes):
        say_outside(ds)
        written = _written(made, output, shards, out)
    for line in [] if how.quiet else renumbered(ds):
        tell(line)
    if out.as_json:
        print_json({"files": written, **counts, "bytes": _stored(written)})
    else:
        click.echo("\n".join(written))
    return FINE


@_verb(
    "What the samples of each structure have in common.",
    click.option("--reference", metavar="FILE",
        help="FASTA, or file of the same layout, of one sequence a structure: recovery."),
    click.option("--background", metavar="FILE.json",
        help="Shares of the 20 amino acids, by letter; equal ones without it."),
)  # fmt: skip
def profile(
    files: tuple[str, ...],
    reference: str | None,
    background: str | None,
    out: Out,
    how: Computing,
) -> int:
    """Tell how sure and how diverse the samples of each structure in FILEs are, and how they score.

    The table holds a line a structure, noise level and temperature: means over its positions and
    samples; so its perplexity is the mean of exp(score), not exp of the mean score. RESULT holds
    frequencies, PSSM, log-odds, entropy and consensus of every position, and score and rank of
    every sequence, labelled of_structure and so on. Positions lie end to end, as many a profile
    as its row_size.
    """
    from h5dask.fasta import read_fasta
    from h5dask.ops.residues import profile as profiled
    from h5dask.ops.residues import profile_cost
    from h5dask.telling import per_structure
    from h5dask.telling.tables import table_of

    ds = opened(files)
    natives = None
    if reference is not None:
        hdf5 = reference.endswith((".h5", ".hdf5"))
        natives = opened([reference]) if hdf5 else read_fasta(reference)
    shares = _background(background)
    with _typed(reference=f"--reference {reference}", background=f"--background {background}"):
        made = profiled(ds, reference=natives, background=shares)
    if how.plan is not None:
        return planned(ds, profile_cost, "profile", how, out)
    found = computed(made, how, out, f"profile {files[0]}", ds.nbytes)
    out.write(found)
    per_structure.say_bad_logits(found, ds)
    rows = per_structure.frame(found)
    if out.as_json:
        print_json({"profiles": per_structure.as_json(rows)})
    elif out.result is not None:
        click.echo(out.result)
    else:
        print_rich(table_of(rows))
    return FINE


def _background(path: str | None) -> Mapping[str, float] | None:
    """Return the shares that a file tells."""
    from h5dask.errors import LayoutError, NotFound

    if path is None:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            told = json.load(file)
    except OSError as error:
        raise NotFound(f"{path}: can't be read ({error.strerror}); check the path") from None
    except ValueError as error:
        raise LayoutError(f"{path}: is no JSON ({error}); expected an object") from None
    if not isinstance(told, dict):
        raise LayoutError(f"{path}: found {type(told).__name__}; expected letters and their shares")
    return told


@_verb(
    "Write sequences as FASTA.",
    click.option("-o", "--output", metavar="OUT.fasta", help="To this file; to stdout without it."),
    click.option("--names", metavar="FILE",
        help="Names of structures: lines of number and name, or a JSON object."),
    click.option("--structure", "structures", type=int, multiple=True, metavar="N",
        help="Of this one alone; repeatable."),
    click.option("--score/--no-score", default=None,
        help="Tell each one's mean negative log-probability; where there are logits."),
    writes=False,
)  # fmt: skip
def fasta(
    files: tuple[str, ...],
    output: str | None,
    names: str | None,
    structures: tuple[int, ...],
    score: bool | None,
    out: Out,
    how: Computing,
) -> int:
    """Write the sequences of FILEs as FASTA, a record each, its labels in the header."""
    from h5dask.fasta import texts, write_fasta
    from h5dask.fasta.names import read_names
    from h5dask.results import refuse_existing

    if output is None and out.as_json:
        raise click.UsageError("--json: goes with -o, as the sequences go to stdout without it")
    with _typed(files, structure="--structure"):
        ds = _selected(opened(files), structures)
    known = None if names is None else read_names(names)
    is_scored = "logits" in ds.variables if score is None else score
    if how.plan is not None:
        return planned(ds, partial(_spelling, scored=is_scored), "fasta", how, out)
    if output is not None:
        refuse_existing(output, overwrite=out.overwrite)
    scores = _scores(ds) if is_scored else None
    read = ds[["sequences", "logits"] if is_scored else ["sequences"]]
    with (
        _typed(names=f"--names {names}"),
        how.start() as progress,
        progress.stage(f"fasta {files[0]}", nbytes=read.nbytes),
    ):
        if output is None:
            for text in texts(ds, names=known, score=scores):
                click.echo(text, nl=False)
            return FINE
        write_fasta(ds, output, names=known, score=scores, overwrite=out.overwrite)
    if out.as_json:
        print_json({"files": [output], **_counts(ds), "bytes": _stored([output])})
    else:
        click.echo(output)
    return FINE


@contextmanager
def _typed(files: Sequence[str] = (), **options: str) -> Iterator[None]:
    """Tell errors about a function's parameters of what was typed instead, and of which files."""
    from h5dask.errors import H5daskError

    try:
        yield
    except H5daskError as error:
        name, colon, rest = str(error).partition(": ")
        if name not in options:
            raise
        said = rest.replace("truncate=True", "--truncate")
        told = f"{', '.join(files)}: " if files else ""
        raise type(error)(f"{told}{options[name]}{colon}{said}") from None


def _given(shards: Mapping[str, Any]) -> bool:
    return any(one is not None for one in shards.values())


def _refuse_contradictions(
    zarr: bool, padded: bool, lengths: bool, shards: Mapping[str, Any]
) -> None:
    if padded and not zarr:
        raise click.UsageError("--pad: goes with an output in .zarr; no layout has such arrays")
    if lengths and not padded:
        raise click.UsageError("--max-length, --truncate: go with --pad")
    if zarr and _given(shards):
        raise click.UsageError(
            "--structures, --shard-size: go with a file of the layout, not .zarr"
        )
    if all(one is not None for one in shards.values()):
        raise click.UsageError("--structures: goes without --shard-size; give one of the two")


def _refuse_repeated(ds: xr.Dataset, files: Sequence[str]) -> None:
    """Refuse rows that are there several times, and a file that is named twice."""
    from h5dask.errors import Refused
    from h5dask.joining import refuse_repeated
    from h5dask.storage.remote import expand

    times = Counter(source.url for source in expand(files))
    (url, most), *_ = times.most_common(1)
    if most > 1:
        raise Refused(f"{url}: found {most} times; expected once; name it once")
    refuse_repeated(ds)


def _pad(ds: xr.Dataset, max_length: int | None, *, truncate: bool) -> xr.Dataset:
    from h5dask.ops.padding import pad

    return pad(ds, max_length=max_length, truncate=truncate)


def _writing(ds: xr.Dataset, *, stored: Forms, made: xr.Dataset) -> Cost:
    """Return what it takes to write what was made of a Dataset."""
    from h5dask.ops.cost import writing

    return writing(made, stored=stored) if made is ds else writing(made, source=stored)


def _written(made: xr.Dataset, output: str, shards: Mapping[str, Any], out: Out) -> list[str]:
    """Write a Dataset as was asked, and return the files."""
    from h5dask.results import write_result
    from h5dask.writing.sharding import write_shards
    from h5dask.writing.writer import write_dataset

    if _given(shards):
        return write_shards(
            made, output, overwrite=out.overwrite, allow_large=out.allow_large, **shards
        )
    if output.rstrip("/").endswith(_ZARR):
        write_result(made, output, overwrite=out.overwrite)
    else:
        write_dataset(made, output, overwrite=out.overwrite, allow_large=out.allow_large)
    return [output]


def _counts(ds: xr.Dataset) -> dict[str, int]:
    """Return how many rows and numbered groups a Dataset has, by what they are."""
    from h5dask.joining import layout_of

    layout = layout_of(ds)
    counts = {f"{layout.along}s": ds.sizes[layout.along]} if layout.along in ds.dims else {}
    if layout.numbered:
        counts[f"{layout.numbered}s"] = len(set(ds[layout.numbered].values.tolist()))
    return counts


def _stored(urls: Sequence[str]) -> int:
    """Return the bytes that files or folders take."""
    from h5dask.storage.remote import filesystem_of

    held = (filesystem_of(url, None) for url in urls)
    return sum(int(filesystem.du(path)) for filesystem, path in held)


def _selected(ds: xr.Dataset, structures: Sequence[int]) -> xr.Dataset:
    """Return some structures of a Dataset; NotFound names those that it hasn't."""
    from h5dask.errors import NotFound
    from h5dask.fasta.spelling import STRUCTURE, owning

    there = owning(ds).table[STRUCTURE].labels
    absent = [number for number in structures if number not in there]
    if absent:
        raise NotFound(
            f"{STRUCTURE}: no {', '.join(map(str, absent))}; expected any of {there.size:,}, "
            f"numbered from {there.min()} to {there.max()}"
        )
    return ds.sel({STRUCTURE: list(structures)}) if structures else ds


def _scores(ds: xr.Dataset) -> xr.DataArray:
    """Return the mean negative log-probability of each sequence's residues."""
    from h5dask.errors import Refused
    from h5dask.ops.residues import profile

    found = profile(ds)
    if "score" not in found:
        raise Refused("--score: found no logits, from which it is made; leave it out")
    return found["score"]


def _spelling(ds: xr.Dataset, *, stored: Forms, scored: bool) -> Cost:
    """Return what it takes to read sequences, and to score them."""
    from h5dask.ops.cost import reading
    from h5dask.ops.residues import profile_cost

    read = reading(ds[["sequences"]], stored=stored)
    return profile_cost(ds, stored=stored) + read if scored else read
