"""What the verbs that compute share: their options, what becomes of a result, what it would take.

No verb lives here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import click

from h5dask.cli.options import Computing, ComputingCommand, computing
from h5dask.cli.printing import as_json_option, print_json, print_plans, print_rich
from h5dask.cli.settings import refuse_wrong
from h5dask.cli.verbs import FINE

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from h5dask.ops.cost import Cost

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
    allow_large: bool = False
    """Whether a file of the layout may exceed what its consumer takes."""

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
        from h5dask.telling import tables

        self.write(found)
        if self.as_json:
            print_json(tables.as_json(found))
        elif self.result is not None:
            click.echo(self.result)
        else:
            print_rich(tables.table_of(table))
        return FINE


def verb(
    verbs: list[click.Command],
    help_line: str,
    *options: Callable[[Any], Any],
    files: Callable[[Any], Any] | None = None,
    writes: bool = True,
) -> Callable[[Verb], Verb]:
    """Make a function a verb: files, some options, `out`, and `how` to compute.

    Parameters
    ----------
    verbs : list
        Is given the command.
    help_line : str
        What the list of verbs says of it.
    *options : callable
        Decorators of click.
    files : callable, optional
        The argument that names what is read; FILE... without it.
    writes : bool, default True
        Whether it has -o RESULT.
    """

    def made(function: Verb) -> Verb:
        @functools.wraps(function)
        def gathered(**given: Any) -> int:
            refuse_wrong()
            out = {name: given.pop(name) for name in _OUT if name in given}
            return function(**given, out=Out(**out))

        decorated: Any = computing(plan=True)(as_json_option(_OVERWRITE(gathered)))
        for option in reversed((files or _FILES, *options, *([_RESULT] if writes else []))):
            decorated = option(decorated)
        verbs.append(click.command(cls=ComputingCommand, short_help=help_line)(decorated))
        return function

    return made


_FILES = click.argument("files", nargs=-1, required=True, metavar="FILE...")
_RESULT = click.option(
    "-o", "--result", metavar="RESULT", help="Write all of it, as .nc, .zarr, or netCDF in .h5."
)
_OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace a result that is there.")
allow_large_option = click.option(
    "--allow-large", is_flag=True, help="Write what the layout's own consumer finds too large."
)
"""Of verbs that write a layout."""
_OUT = tuple(field.name for field in fields(Out))


def opened(files: Sequence[str]) -> xr.Dataset:
    """Return one file of any layout, a result, or several files as one."""
    from h5dask.reading.reader import open_dataset
    from h5dask.results import open_any

    return open_any(files[0]) if len(files) == 1 else open_dataset(list(files))


def planned(
    ds: xr.Dataset, costs: Callable[..., Cost], stage: str, how: Computing, out: Out
) -> int:
    """Print what it would take; nothing is computed."""
    from h5dask.plan import plan_of, stored_forms

    cost = replace(costs(ds, stored=stored_forms(ds)), stage=stage)
    print_plans([plan_of(ds, [cost], figures=how.figures())], as_json=out.as_json)
    return FINE


def computed(made: xr.Dataset, how: Computing, out: Out, stage: str, nbytes: int) -> xr.Dataset:
    """Compute as was asked, and show how far it is."""
    from h5dask.losses import compute

    out.refuse()
    with how.start() as progress, progress.stage(stage, nbytes=nbytes):
        found: xr.Dataset = compute(made)[0]
    return found
