"""The command line: exit codes, what goes to which stream, and what each verb tells."""

import json
import os
import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

from h5dask import cli, layouts, outline, verdicts
from h5dask.errors import NotFound
from h5dask.testing import example_file
from tests.architecture import ROOT
from tests.files import LAYOUTS, ann, damaged, hostile, proteins
from tests.layouts.test_layouts import FIFTH

COMMAND = [sys.executable, "-m", "h5dask.cli"]
DESCRIBED = hostile.OUTSIDE | hostile.HUGE | hostile.RARE_TYPES | hostile.ENDLESS
REAL = sorted((ROOT / "tests/real").glob("*/*.h*5"))


def call(*args: object) -> Result:
    return CliRunner().invoke(cli.main, [str(arg) for arg in args])


def run(*args: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [*COMMAND, *map(str, args)]
    return subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, **options)


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


def test_version_is_light() -> None:
    loaded = "print([m for m in ('dask', 'xarray', 'h5py', 'numba') if m in sys.modules])"
    program = f"import atexit, sys; atexit.register(lambda: {loaded}); from h5dask import cli; "
    command = [sys.executable, "-c", program.replace("print(", "print(*") + "cli.main()"]
    told = subprocess.run([*command, "--version"], cwd=ROOT, capture_output=True, text=True)
    assert told.stdout.split() == ["h5dask,", "version", layouts.sys.modules["h5dask"].__version__]


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
    assert line.startswith("Error: ") and str(error) in line
    assert "shows where" not in line


def test_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outline, "outline", fails(KeyboardInterrupt()))
    told = call("info", "a.h5")
    assert (told.exit_code, told.stdout, told.stderr.split()) == (130, "", ["Interrupted"])


def test_warnings_are_lines(fine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = outline.outline

    def warn(file: str) -> outline.Outline:
        warnings.warn("left out: /x", UserWarning, stacklevel=2)
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


def test_closed_pipe_is_quiet(fine: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    told = run("info", fine, stdout=writing)
    os.close(writing)
    assert (told.returncode, told.stderr) == (141, "")


def test_output_that_can_not_be_written_is_told(fine: str, tmp_path: Path) -> None:
    def no_file_may_grow() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    with (tmp_path / "out").open("w") as out:
        told = run("info", fine, stdout=out, preexec_fn=no_file_may_grow)
    assert told.returncode == 2
    assert told.stderr.startswith("Error: OSError: [Errno 27]")
    assert told.stderr.count("\n") == 1


def test_streams_of_any_encoding_take_the_tree(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        f.attrs["name"] = "café"
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    told = run("info", path, stdout=subprocess.PIPE, env=env)
    assert (told.returncode, told.stderr) == (0, "")
    assert "@name = 'caf\\xe9'" in told.stdout


# info


def attributes(item: Any) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        value = value.decode() if isinstance(value, bytes) else value
        return value.item() if isinstance(value, np.generic) else value

    return {name: plain(value) for name, value in item.attrs.items()}


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_info_tells_everything(path: Path) -> None:
    told = json.loads(call("info", path, "--json").stdout)
    found: dict[str, dict[str, Any]] = {"groups": {}, "datasets": {}}
    with h5py.File(path) as f:

        def add(name: str, item: Any) -> None:
            if isinstance(item, h5py.Group):
                found["groups"][name.strip("/")] = attributes(item)
                return
            found["datasets"][name] = {
                "shape": list(item.shape),
                "chunks": item.chunks and list(item.chunks),
                "grows": [n is None for n in item.maxshape],
                "filters": [],
                "attrs": attributes(item),
                "storage": "chunked" if item.chunks else "contiguous",
            }
            if item.dtype != object:
                sizes = {"nbytes": item.nbytes, "stored_nbytes": item.id.get_storage_size()}
                found["datasets"][name] |= {"dtype": item.dtype.str, **sizes}

        add("/", f)
        f.visititems(add)
    assert told["file"] == str(path)
    assert told["nbytes"] == path.stat().st_size
    assert told["layouts"] == [path.parent.name]
    assert told["groups"] == found["groups"]
    assert told["datasets"].keys() == found["datasets"].keys()
    for name, facts in found["datasets"].items():
        assert {**told["datasets"][name], **facts} == told["datasets"][name], name


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_info_names_everything(path: Path) -> None:
    told = call("info", path)
    assert (told.exit_code, told.stderr) == (0, "")
    assert f"layout: {path.parent.name}\n" in told.stdout
    with h5py.File(path) as f:
        names: set[str] = set(f.attrs)
        f.visit(lambda name: names.update([name.rpartition("/")[2]]))
    assert {name for name in names if name not in told.stdout} == set()


def test_info_tells_form_and_size(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        gzip = {"compression": "gzip", "compression_opts": 7, "shuffle": True, "fletcher32": True}
        f.create_dataset("a", data=np.zeros((1000, 10)), chunks=(100, 10), **gzip)
        f.create_dataset("b", data=np.zeros(3, ">i2"), maxshape=(None,), chunks=(8,))
        f["c"], f["d"] = np.array([b"abc"]), h5py.Empty("f4")
        f["e"], f["f"] = np.dtype("f8"), h5py.SoftLink("/nowhere")
        stored = f["a"].id.get_storage_size()
    lines = [line.lstrip("│├└─ ") for line in call("info", path).stdout.splitlines()]
    assert lines[1:] == [
        "layout: none recognised",
        f"a  (1000, 10) float64  chunks (100, 10), shuffle, gzip 7, fletcher32  "
        f"80.0 kB, {stored} B stored",
        "b  (3,) int16 big-endian  chunks (8,), resizable  6 B, 16 B stored",
        "c  (1,) text of 3 bytes  contiguous  3 B",
        "d  () null  contiguous  0 B",
        "e  committed type",
        "f  soft link to /nowhere, not followed",
    ]


def test_info_shortens_attributes(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        f.attrs["a"], f.attrs["b"] = "x" * 5000, np.arange(1000)
        f.attrs["c"], f.attrs["d"] = np.bytes_(b"\xff"), h5py.Empty("f4")
        f.attrs["e"], f.attrs["f"] = np.nan, f.ref
    lines = [line.lstrip("│├└─ ") for line in call("info", path).stdout.splitlines()]
    assert lines[2:] == [
        f"@a = '{'x' * 51}… (5,000 characters)",
        "@b = [0, 1, 2, 3, … ] (1000,) int64",
        r"@c = b'\xff'",
        "@d = empty",
        "@e = nan",
        "@f = object reference",
    ]
    assert json.loads(call("info", path, "--json").stdout)["groups"][""]["e"] == "nan"


def test_info_tells_many_groups_as_one(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        for i in range(200):
            group = f.create_group(f"structure_{i}")
            group.attrs["structure_index"] = i
            group["sequences"] = np.zeros((2, 1, 10 + i % 7), "i4")
            if i % 2:
                group["logits"] = np.zeros((2, 1, 10 + i % 7, 21), "f4")
    lines = [line.lstrip("│├└─ ") for line in call("info", path).stdout.splitlines()]
    nbytes = sum(2 * (10 + i % 7) * 4 for i in range(200))
    assert lines[1:] == [
        "layout: proteins",
        "structure_{0…199}/ × 200",
        "@structure_index = 0…199",
        "logits × 100  (2, 1, 10…16, 21) float32  contiguous  "
        f"{sum(2 * (10 + i % 7) * 84 for i in range(1, 200, 2)) / 1000:.1f} kB",
        f"sequences × 200  (2, 1, 10…16) int32  contiguous  {nbytes / 1000:.1f} kB",
    ]
    assert len(json.loads(call("info", path, "--json").stdout)["datasets"]) == 300


def test_info_ends_long_lists(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        for i in range(500):
            f.create_group("".join(chr(97 + (i // 26**k) % 26) for k in range(3)))
    lines = call("info", path).stdout.splitlines()
    assert len(lines) < 70
    assert lines[-1] == "└── and 440 more"


def test_info_sends_no_control_characters(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        f["\x1b[31mred\n"], f.attrs["x\r"] = [1], "\x1b]0;title\x07"
        f["[bold]"] = h5py.SoftLink("/\x1b[2J")
    told = call("info", path).stdout
    assert [c for c in told if not c.isprintable() and c != "\n"] == []
    assert all(text in told for text in (r"\x1b[31mred\n", r"@x\r", "[bold]", r"/\x1b[2J"))


@pytest.mark.parametrize("name", sorted(DESCRIBED.keys() - {"deep_nesting"}))
def test_info_describes_hostile_files(name: str, tmp_path: Path) -> None:
    DESCRIBED[name](tmp_path / "a.h5")
    for options in ((), ("--json",)):
        told = call("info", tmp_path / "a.h5", *options)
        assert (told.exit_code, told.stderr) == (0, "")
        assert hostile.SECRET[:20].decode() not in told.stdout
    assert len(call("info", tmp_path / "a.h5").stdout) < 5000


def test_info_gives_up_on_endless_depth(tmp_path: Path) -> None:
    hostile.deep_nesting(tmp_path / "a.h5")
    told = call("info", tmp_path / "a.h5")
    assert told.exit_code == 2
    assert "a.h5: /deep/deeper" in told.stderr


@pytest.mark.parametrize("verb", ["info", "validate"])
@pytest.mark.parametrize("name", sorted(damaged.NOT_HDF5))
def test_what_is_not_hdf5_is_told(verb: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    damaged.NOT_HDF5[name](path)
    told = call(verb, path)
    assert (told.exit_code, told.stdout) == (2, "")
    assert told.stderr.startswith(f"Error: {path}: ")
    assert told.stderr.count("\n") == (1 if verb == "info" else 2)


def test_info_takes_one_file(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        ann.VARIANTS["float_euclidean"].write(tmp_path / name)
    told = call("info", tmp_path / "*.h5")
    assert told.exit_code == 2
    assert "*.h5: 2 files match; name one of them" in told.stderr


# validate


def test_validate_finds_nothing(fine: str) -> None:
    told = call("validate", "--values", fine)
    assert (told.exit_code, told.stdout) == (0, "")
    assert told.stderr == "1 file: no problems\n"


def test_validate_tells_a_line_a_problem(broken: Path) -> None:
    told = call("validate", "--values", broken)
    lines = told.stdout.splitlines()
    assert told.exit_code == 1
    assert lines and all(line.startswith(f"{broken}: /") for line in lines)
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


@pytest.mark.parametrize("n_threads", [1])
def test_validate_stops_at_an_interrupt(
    fine: str, n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert set(layouts.names()) == {*LAYOUTS, "fifth"}
