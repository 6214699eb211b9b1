"""Trees and tables on stdout, of a terminal's width there and of their own elsewhere."""

from __future__ import annotations

import sys
from typing import Any

import click


def print_rich(renderable: Any) -> None:
    """Print a tree or table: within a terminal's width, and of whatever width elsewhere."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else 10_000, highlight=False)
    with console.capture() as text:
        console.print(renderable)
    click.echo(text.get(), nl=False)  # rich's own printing ends Python where a pipe is closed
