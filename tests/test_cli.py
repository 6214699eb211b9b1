"""The command line: exit codes, what goes to which stream, and what each verb tells."""

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import h5dask
from h5dask import layouts
from h5dask.errors import NotFound
from h5dask.telling import outline, verdicts
from h5dask.testing import example_file
from tests.architecture import ROOT
from tests.commands import call, run
from tests.files import ann, proteins
from tests.layouts.test_layouts import FIFTH


def fails(error: BaseException) -> Callable[..., Any]:
    def fail(*args: Any, **options: Any) -> Any:
        raise error

    return fail


@pytest.fixture
def fine() -> str:
    return example_file("ann")


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A benchmark with two faults: an id beyond the base, and a column too few."""
    path = tmp_path / "broken.h5"
    with h5py.File(path, "w") as f:
        ann.benchmark(f)
        f["neighbors"][0, 0] = 10**6
        queries = f["test"][:, :-1]
        del f["test"]
        f["test"] = queries
    return path


def test_verbs_are_listed() -> None:
    told = call("--help")
    assert told.exit_code == 0
    assert all(f"  {verb} " in told.stdout for verb in ("info", "validate", "demo"))


@pytest.mark.parametrize("args", ["'--version'", "'demo', '--help'", "'info', '--help'"])
def test_help_is_light(args: str) -> None:
    loaded = "print(*[m for m in ('dask', 'xarray', 'h5py', 'numba') if m in sys.modules])"
    program = f"""
        import atexit, sys
        from h5dask.cli import main
        atexit.register(lambda: {loaded})
        main([{args}])
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.endswith("\n\n")


def test_version_is_told() -> None:
    assert call("--version").stdout == f"h5dask, version {h5dask.__version__}\n"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((), "Usage"),
        (("infos",), "No such command 'infos'"),
        (("info",), "Missing argument 'FILE'"),
        (("validate", "--layout", "parquet", "a.h5"), "'parquet' is not one of activations, ann"),
        (("demo", "--scale", "much"), "'much' is no size; expected one such as 100MB"),
        (("demo", "--scale", "-1"), "'-1' is no size"),
        (("demo", "--workers", "0"), "0 is not in the range"),
    ],
)
def test_wrong_usage_is_told(args: tuple[str, ...], says: str) -> None:
    told = call(*args)
    assert (told.exit_code, told.stdout) == (2, "")
    assert says in told.stderr


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (NotFound("a.h5: no such file"), "Error: a.h5: no such file"),
        (MemoryError(), "Error: MemoryError; H5DASK_TRACEBACK=1 shows where"),
        (OSError(5, "Input/output error"), "Error: OSError: [Errno 5] Input/output error; H5DASK_"),
        (ValueError("two\nlines"), "Error: ValueError: two lines; H5DASK_TRACEBACK=1 shows where"),
    ],
)
def test_errors_are_one_line(error: Exception, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outline, "outline", fails(error))
    told = call("info", "a.h5")
    assert (told.exit_code, told.stdout) == (2, "")
    assert told.stderr.startswith(line)
    assert told.stderr.count("\n") == 1


@pytest.mark.parametrize("error", [NotFound("a.h5: no such file"), ZeroDivisionError("by zero")])
def test_traceback_is_there_for_the_asking(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outline, "outline", fails(error))
    monkeypatch.setenv("H5DASK_TRACEBACK", "1")
    *trace, line = call("info", "a.h5").stderr.splitlines()
    assert trace[0] == "Traceback (most recent call last):"
    assert line.startswith("Error: ")
    assert str(error) in line
    assert "shows where" not in line


def test_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outline, "outline", fails(KeyboardInterrupt()))
    told = call("info", "a.h5")
    assert (told.exit_code, told.stdout, told.stderr.split()) == (130, "", ["Interrupted"])


def test_warnings_are_lines(fine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = outline.outline

    def warn(file: str) -> outline.Outline:
        warnings.warn("left out: /x", UserWarning, stacklevel=1)
        return real(file)

    monkeypatch.setattr(outline, "outline", warn)
    assert call("info", fine).stderr == "Warning: left out: /x\n"


def test_sigterm_unwinds(fine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unwound = []

    def end(file: str) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            unwound.append(file)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(outline, "outline", end)
    assert call("info", fine).exit_code == 143
    assert unwound == [fine]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_in_finalizers_are_not_lost(
    sent: signal.Signals, code: int, fine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drop(file: str) -> None:
        thing = {file}
        weakref.finalize(thing, signal.raise_signal, sent)
        del thing
        threading.Event().wait(30)

    monkeypatch.setattr(outline, "outline", drop)
    told = call("info", fine)
    assert (told.exit_code, told.stdout) == (code, "")


def test_closed_pipe_is_quiet(fine: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    told = run("info", fine, stdout=writing)
    os.close(writing)
    assert (told.returncode, told.stderr) == (141, "")


def test_output_that_can_not_be_written_is_told(fine: str, tmp_path: Path) -> None:
    def files_stay_small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    # Unbuffered, Python itself drops without a word what a file doesn't take.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with (tmp_path / "out").open("w") as out:
        told = run("info", fine, stdout=out, preexec_fn=files_stay_small, env=env)
    assert told.returncode == 2
    assert told.stderr.startswith("Error: OSError: [Errno 27]")
    assert told.stderr.count("\n") == 1


def test_streams_of_any_encoding_take_the_tree(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        f.attrs["name"] = "café \N{CJK UNIFIED IDEOGRAPH-4E2D}"
    env = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    told = run("info", path, env=env, encoding="latin-1")
    assert (told.returncode, told.stderr) == (0, "")
    assert r"-- @name = 'café \u4e2d'" in told.stdout


def test_validate_finds_nothing(fine: str) -> None:
    told = call("validate", "--values", fine)
    assert (told.exit_code, told.stdout) == (0, "")
    assert told.stderr == "1 file: no problems\n"


def test_validate_tells_a_line_a_problem(broken: Path) -> None:
    told = call("validate", "--values", broken)
    lines = told.stdout.splitlines()
    assert told.exit_code == 1
    assert lines
    assert all(line.startswith(f"{broken}: /") for line in lines)
    assert told.stderr == f"1 file: {len(lines)} problem{'s' * (len(lines) > 1)}\n"


def test_validate_tells_notes_when_asked(small: Path) -> None:
    path = small / "ann/digits_int8_euclidean_labels.hdf5"
    quiet, told = call("validate", path), call("validate", "--notes", path)
    assert (quiet.stdout, quiet.exit_code, told.exit_code) == ("", 0, 0)
    assert told.stdout.splitlines()
    assert all(line.startswith(f"note: {path}: ") for line in told.stdout.splitlines())
    assert told.stderr.startswith("1 file: no problems, ")


def test_validate_judges_each_file(fine: str, broken: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent.h5"
    told = call("validate", fine, absent, broken)
    assert told.exit_code == 2
    assert str(broken) in told.stdout
    assert told.stderr.startswith(f"Error: {absent}: no such file")
    assert told.stderr.splitlines()[1].startswith("3 files: ")
    assert "; 1 could not be judged (values not read" in told.stderr


def test_validate_as_json(fine: str, broken: Path, tmp_path: Path) -> None:
    told = call("validate", "--json", "--values", fine, broken, tmp_path / "absent.h5")
    first, second, third = json.loads(told.stdout)["files"]
    assert first == {"file": fine, "problems": [], "notes": [], "error": None}
    assert second["problems"][0].keys() >= {"where", "found", "expected", "way_out", "level"}
    assert third["error"].startswith(str(tmp_path / "absent.h5"))
    assert told.exit_code == 2


def test_validate_takes_patterns(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        proteins.VARIANTS[next(iter(proteins.VARIANTS))].write(tmp_path / name)
    told = call("validate", "--json", tmp_path / "*.h5")
    assert len(json.loads(told.stdout)["files"]) == 2


def test_validate_judges_as_told(fine: str) -> None:
    told = call("validate", "--layout", "episodes", fine)
    assert told.exit_code == 1
    assert "no dataset 'embeddings'" in told.stdout


def test_validate_stops_at_an_interrupt(fine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "validate", fails(KeyboardInterrupt()))
    assert call("validate", fine).exit_code == 130


@pytest.fixture
def fifth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(layouts, "__path__", [*layouts.__path__, str(tmp_path)])
    (tmp_path / "fifth.py").write_text(FIFTH.format(name="fifth"))
    yield
    sys.modules.pop("h5dask.layouts.fifth", None)


def test_a_fifth_layout_is_a_choice(fifth: None, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        f["x"] = np.zeros(3, "i1")
    assert "[activations|ann|episodes|fifth|proteins]" in call("validate", "--help").stdout
    assert "layout: fifth" in call("info", path).stdout
    assert call("validate", "--values", "--layout", "fifth", path).exit_code == 0
