"""The options of computing verbs: places, what is shown, reports, and plans that run nothing."""

import json
import os
import re
from pathlib import Path

import click
import dask
import pytest
from click.testing import CliRunner, Result
from dask.delayed import delayed

from h5dask.cli.options import Computing, ComputingCommand, computing
from h5dask.cli.settings import KNOWN
from h5dask.cli.verbs import Verbs
from h5dask.errors import AccessDenied
from h5dask.testing import example_file
from h5dask.workers.performance import performance_report
from tests.commands import call
from tests.commands import run as command
from tests.scheduler import running

VERBS = ("validate", "report", "demo")
PLANNED = ("validate", "report")
OPTIONS = (
    "--workers",
    "--scheduler",
    "--scheduler-file",
    "--slurm",
    "--memory-limit",
    "--log-json",
    "--quiet",
    "--performance-report",
)


@click.group(cls=Verbs)
def main() -> None:
    """Stand for the command line."""


@main.command(cls=ComputingCommand)
@click.argument("files", nargs=-1)
@computing(plan=True)
def verb(files: tuple[str, ...], how: Computing) -> None:
    """Compute where it is told, and tell where that was."""
    if how.plan is not None:
        click.echo(json.dumps([files, how.plan, how.figures().workers]))
        return
    with how.start() as progress, progress.stage("sum", n_blocks=3, counted="block-"):
        blocks = [delayed(os.getpid, pure=False)(dask_key_name=f"block-{i}") for i in range(3)]
        (pids,) = dask.compute(blocks)
    here = set(pids) == {os.getpid()}
    click.echo("here" if here else "elsewhere")


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["verb", *args])


@pytest.mark.parametrize("name", VERBS)
def test_every_computing_verb_has_them(name: str) -> None:
    told = call(name, "--help").stdout
    assert [one for one in OPTIONS if one not in told] == []
    assert [one in told for one in ("--plan", "--sbatch", "--each")] == [name in PLANNED] * 3


def test_threads_are_not_announced() -> None:
    done = run()
    assert (done.exit_code, done.stdout, done.stderr) == (0, "here\n", "")


def test_workers_are_announced() -> None:
    done = run("--workers", "1", "--memory-limit", "none")
    assert (done.exit_code, done.stdout) == (0, "elsewhere\n")
    first, second = done.stderr.splitlines()
    assert first == "Starting 1 worker process ..."
    assert second.startswith("Dashboard: http://127.0.0.1:")


def test_a_scheduler_is_announced(tmp_path: Path) -> None:
    with running(tmp_path, n_workers=1) as address:
        file = tmp_path / "scheduler.json"
        file.write_text(json.dumps({"address": address}))
        for option, value in (("--scheduler", address), ("--scheduler-file", str(file))):
            done = run(option, value)
            assert (done.exit_code, done.stdout) == (0, "elsewhere\n"), done.stderr
            assert done.stderr.startswith(f"Connecting to {value} ...\n")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--memory-limit", "4GB"), "--memory-limit: goes with --workers"),
        (("--workers", "0"), "0 is not in the range x>=1"),
        (("--workers", "1", "--scheduler", "tcp://x:1"), "workers and scheduler: say the same"),
        (("--workers", "1", "--slurm", "x.toml"), "workers and slurm: say the same"),
        (("--slurm", "x.toml"), "x.toml: no such file"),
        (("--slurm", "x.toml", "--memory-limit", "4GB"), "--memory-limit: goes with --workers"),
        (("--workers", "1", "--memory-limit", "x"), "memory_limit: found 'x', expected a size"),
        (("--scheduler-file", "."), ".: Is a directory"),
        (("--performance-report", "no/such/x.html"), "no/such/x.html: No such file or directory"),
        (("--plan", "apples=3"), "apples"),
    ],
)
def test_what_can_not_be_is_one_line(args: tuple[str, ...], told: str) -> None:
    done = run(*args)
    assert done.exit_code == 2
    assert told in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_quiet_and_json() -> None:
    assert run("--quiet", "--workers", "1").stderr == ""
    lines = [json.loads(line) for line in run("--log-json").stderr.splitlines()]
    assert [(line["event"], line["stage"], line["done"]) for line in lines] == [
        ("begin", "sum", 0),
        ("end", "sum", 3),
    ]


@pytest.mark.parametrize("workers", [(), ("--workers", "1")])
def test_a_performance_report_is_one_page_of_its_own(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    page = tmp_path / "report.html"
    done = run("--performance-report", str(page), *workers)
    assert done.exit_code == 0, done.stderr
    text = page.read_text()
    assert "<html" in text
    assert "block" in text
    assert re.findall(r"<script[^>]*\bsrc=[^>]*>", text) == []
    assert list(tmp_path.iterdir()) == [page]


def test_a_run_that_fails_leaves_no_report(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    with pytest.raises(ZeroDivisionError, match="by zero"), performance_report(str(page)):
        dask.compute(delayed(divmod)(1, 0))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(AccessDenied, match="Is a directory"), performance_report(str(tmp_path)):
        pass


@pytest.mark.parametrize(
    ("args", "files", "figures"),
    [
        (("--plan",), [], ""),
        (("--plan", "a.h5"), ["a.h5"], ""),
        (("a.h5", "--plan", "--quiet"), ["a.h5"], ""),
        (("--plan", "workers=7,cores=2", "a.h5"), ["a.h5"], "workers=7,cores=2"),
        (("--plan=workers=7", "a.h5"), ["a.h5"], "workers=7"),
        (("--plan", "--", "--plan"), ["--plan"], ""),
    ],
)
def test_a_plan_may_have_figures(args: tuple[str, ...], files: list[str], figures: str) -> None:
    told, plan, workers = json.loads(run(*args).stdout)
    assert (told, plan) == (files, figures)
    assert workers == (7 if figures else 1)


@pytest.fixture
def file() -> str:
    return example_file("ann")


@pytest.mark.parametrize("args", [("validate",), ("report", "-o", "page.html")])
def test_a_plan_runs_nothing(
    args: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    no_compute: None,
) -> None:
    monkeypatch.chdir(tmp_path)
    told = call(*args, file, "--plan", "workers=100,cores=8,memory=32GB", "--json")
    assert told.exit_code == 0, told.stderr
    (plan,) = json.loads(told.stdout)["plans"]
    assert plan["inputs"] == [{"name": file, "nbytes": os.path.getsize(file)}]
    assert (plan["layout"], plan["figures"]["workers"]) == ("ann", 100)
    assert [stage["stage"] for stage in plan["stages"]] == [
        {"validate": "check"}.get(*args[:1] * 2)
    ]
    assert file in call(*args, file, "--plan").stdout
    assert list(tmp_path.iterdir()) == []


def test_validation_by_workers_finds_the_same(tmp_path: Path) -> None:
    file = example_file("episodes")
    alone, by_workers = (
        call("validate", "--values", "--json", file, *more) for more in ((), ("--workers", "2"))
    )
    assert (alone.exit_code, by_workers.exit_code) == (0, 0), by_workers.stderr
    assert alone.stdout == by_workers.stdout


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"block-size": "16 MiBB"}, "h5dask.block-size: found '16 MiBB', expected a size such as"),
        ({"store_deadline": "soon"}, "h5dask.store-deadline: found 'soon', expected a time such"),
        ({"store-connections": "x"}, "h5dask.store-connections: found 'x', expected a whole num"),
    ],
)
def test_settings_that_say_nothing_are_refused(given: dict[str, str], said: str) -> None:
    with dask.config.set(h5dask=given):
        for done in (run(), call("scan", example_file("ann"))):
            assert (done.exit_code, done.stdout) == (2, "")
            assert done.stderr.startswith(f"Error: dask's configuration: {said}")


def test_settings_that_there_are_not_are_told_once() -> None:
    with dask.config.set(h5dask={"block-sise": "16 MiB", "store_gap": "1 MiB", "quux": 1}):
        done = call("scan", example_file("episodes"))
        quiet = call("scan", example_file("episodes"), "--quiet")
    told = [line for line in done.stderr.splitlines() if line.startswith("Warning")]
    assert told == [
        "Warning: dask's configuration: h5dask.block-sise: unknown; did you mean block-size?",
        f"Warning: dask's configuration: h5dask.quux: unknown; those are {', '.join(KNOWN)}",
    ]
    assert "Warning" not in quiet.stderr


def test_a_configuration_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    file = tmp_path / "dask.yaml"
    file.write_text("h5dask:\n  block-size: [1\n")
    environment = {**os.environ, "DASK_CONFIG": str(tmp_path)}
    done = command("scan", example_file("ann"), env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Error: A dask config file at {str(file)!r} is malformed, ")
    assert "H5DASK_TRACEBACK" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_caches_that_are_of_no_use_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("H5DASK_CACHE", "/dev/null/indexes")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/dev/null/kernels")
    assert run().stderr.splitlines() == [
        f"Warning: {name}: {path!r} can't be written to, and another folder is taken, if any; "
        "name one of your own"
        for name, path in (
            ("H5DASK_CACHE", "/dev/null/indexes"),
            ("NUMBA_CACHE_DIR", "/dev/null/kernels"),
        )
    ]
    assert run("--quiet").stderr == ""
    monkeypatch.setenv("H5DASK_CACHE", str(tmp_path / "indexes"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    assert run().stderr == ""
