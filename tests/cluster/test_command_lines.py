"""Every command line in the files is one that its program takes."""

from __future__ import annotations

from importlib import import_module

import click
import pytest

from h5dask import cli
from tests.cluster.reading import command_lines

LINES = list(command_lines())


def parsed(words: list[str]) -> click.Context:
    """Return what a program makes of its arguments, without running it; else a UsageError."""
    match words:
        case ["dask", "scheduler" | "worker" as role, *rest]:
            command: click.Command = import_module(f"distributed.cli.dask_{role}").main
            there = command.make_context(f"dask {role}", list(rest))
            taken = [there.params.get("scheduler"), *there.params["preload_argv"]]
            for word in taken:  # dask takes what it doesn't know for an address, or for others'
                if word and word.startswith("-"):
                    raise click.NoSuchOption(word)
            return there
        case ["h5dask", *rest]:
            group = cli.main.make_context("h5dask", list(rest))
            told = [*group._protected_args, *group.args]
            name, verb, more = cli.main.resolve_command(group, told)
            assert verb is not None
            return verb.make_context(name, more, parent=group)
        case [python, "-m", module, *rest] if python.endswith("python"):
            main = import_module(module).main
            made: click.Context = main.command.make_context(module, list(rest))
            return made
    raise AssertionError(f"{words}: no program of this house")


def test_there_are_some_of_each() -> None:
    assert {where.partition(",")[0] for where, _ in LINES} == {
        "README", "kubernetes", "compose", "systemd", "crontab"
    }  # fmt: skip


@pytest.mark.parametrize("words", LINES, ids=lambda pair: pair[0])
def test_its_program_takes_it(words: tuple[str, list[str]]) -> None:
    assert parsed(words[1]).params


@pytest.mark.parametrize("words", LINES, ids=lambda pair: pair[0])
def test_its_program_refuses_another(words: tuple[str, list[str]]) -> None:
    option = next(word for word in words[1] if word.startswith("--"))
    wrong = option.replace("--", "--no-such-", 1)
    with pytest.raises(click.UsageError, match="No such option"):
        parsed([wrong if word == option else word for word in words[1]])
