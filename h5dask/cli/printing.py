"""What goes to stdout: trees and tables of a terminal's width there, JSON, plans."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from h5dask.plan import Plan

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
"""Of every verb that has a result."""


def print_rich(renderable: Any) -> None:
    """Print a tree or table: within a terminal's width, and of whatever width elsewhere."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else 10_000, highlight=False)
    with console.capture() as text:
        console.print(renderable)
    click.echo(text.get(), nl=False)  # rich's own printing ends Python where a pipe is closed


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=2))


def print_plans(plans: Iterable[Plan], *, as_json: bool) -> None:
    """Print what would run, a plan an input."""
    from h5dask.plan import table

    told = list(plans)
    if as_json:
        print_json({"plans": [plan.as_json() for plan in told]})
        return
    for plan in told:
        print_rich(table(plan))
