"""A plan as a person reads it: inputs, blocks, stages, machines, warnings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING

from h5dask.plan.projection import Plan
from h5dask.plan.rates import Rates
from h5dask.words import count_in_words, nbytes_in_words, seconds_in_words

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_MOST_FILES = 10
_MOST_VARIABLES = 40
_OPERATIONS = ("flops", "kernel")
"""Rates that aren't of bytes."""


def table(plan: Plan) -> Group:
    """Return a plan to print with rich."""
    from rich.console import Group

    lines = [*_warnings(plan)]
    return Group(_inputs(plan), _blocks(plan), _stages(plan), *_machines(plan), *lines)


def _made(title: str, columns: str, footer: bool = False) -> Table:
    """Return an empty table; columns of numbers end in ">"."""
    from rich import box
    from rich.table import Table

    made = Table(
        box=box.SIMPLE_HEAD, title=title, title_justify="left", show_footer=footer, pad_edge=False
    )
    for column in columns.split(", "):
        made.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left")
    return made


def _inputs(plan: Plan) -> Table:
    made = _made("Inputs", "file, bytes>", footer=True)
    for one in plan.inputs[:_MOST_FILES]:
        made.add_row(_plain(one.name), nbytes_in_words(one.nbytes))
    if len(plan.inputs) > _MOST_FILES:
        rest = plan.inputs[_MOST_FILES:]
        total = sum(one.nbytes for one in rest)
        made.add_row(f"and {len(rest):,} more", nbytes_in_words(total))
    n = len(plan.inputs)
    made.columns[0].footer = f"{n:,} file{'' if n == 1 else 's'}" + (
        f", {plan.layout}" if plan.layout else ""
    )
    made.columns[1].footer = nbytes_in_words(sum(one.nbytes for one in plan.inputs))
    return made


def _blocks(plan: Plan) -> Table:
    made = _made("Blocks", "variable, dtype, dims, blocks>, largest block>, bytes>")
    for one in plan.blocks[:_MOST_VARIABLES]:
        dims = (f"{dim} {n:,}" for dim, n in zip(one.dims, one.shape, strict=True))
        made.add_row(
            _plain(one.name),
            one.dtype,
            _plain(" x ".join(dims)),
            " x ".join(f"{n:,}" for n in one.n_blocks),
            " x ".join(f"{n:,}" for n in one.block),
            nbytes_in_words(one.nbytes),
        )
    if len(plan.blocks) > _MOST_VARIABLES:
        made.add_row(f"and {len(plan.blocks) - _MOST_VARIABLES:,} more")
    return made


def _stages(plan: Plan) -> Table:
    work, memory = "stage, blocks>, tasks>, read>, written>, FLOP>", "memory a task>, a worker>"
    made = _made("Stages", f"{work}, {memory}, time>, most of it", footer=True)
    for stage in plan.stages:
        cost = stage.cost
        made.add_row(
            _plain(cost.stage),
            f"{cost.n_blocks:,}",
            f"{cost.n_tasks:,}",
            nbytes_in_words(cost.read),
            nbytes_in_words(cost.written),
            count_in_words(cost.flops + cost.products),
            nbytes_in_words(cost.memory),
            nbytes_in_words(stage.worker_memory),
            seconds_in_words(stage.seconds),
            stage.bound,
        )
    costs = [stage.cost for stage in plan.stages]
    made.columns[0].footer = "in all"
    made.columns[2].footer = f"{sum(cost.n_tasks for cost in costs):,}"
    made.columns[3].footer = nbytes_in_words(sum(cost.read for cost in costs))
    made.columns[4].footer = nbytes_in_words(sum(cost.written for cost in costs))
    made.columns[5].footer = count_in_words(sum(cost.flops + cost.products for cost in costs))
    made.columns[8].footer = seconds_in_words(plan.seconds)
    return made


def _machines(plan: Plan) -> Iterator[str]:
    """Yield lines on what the time was reckoned with."""
    figures, rates = plan.figures, plan.rates
    each = _counted(figures.cores, "thread")
    if figures.memory is not None:
        each += f" and {nbytes_in_words(figures.memory)}"
    if figures.processes:
        places = _counted(figures.machines, "machine")
        yield f"On {_counted(figures.workers, 'worker')} of {each} each, on {places}."
    else:
        yield f"In {each} of one process."
    told = []
    for one in fields(Rates):
        rate = getattr(rates, one.name)
        is_work = one.name in _OPERATIONS
        words = f"{count_in_words(rate)}FLOP" if is_work else nbytes_in_words(rate)
        told.append(f"{one.name} {words}/s{' as given' if one.name in figures.rates else ''}")
    yield f"Rates: {', '.join(told)}."
    if plan.sampled:
        yield f"Reading was measured on {_plain(plan.sampled)}."
    if plan.measured is not None:
        yield f"This machine was measured on {plan.measured:%Y-%m-%d}; rates=new measures it again."


def _warnings(plan: Plan) -> Iterator[str]:
    yield from (f"Warning: {_plain(line)}" for line in plan.warnings)


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _plain(text: str) -> str:
    """Return a text from outside so that rich takes nothing in it for markup."""
    from rich.markup import escape

    return escape(
        "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    )
