"""Typed TOML: what is taken, and that everything wrong is told at once, in a line each."""

import os
import pickle
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge
from hypothesis import given
from hypothesis import strategies as st

from h5dask.config import Input, Output, example, load
from h5dask.errors import AccessDenied, H5daskError, NotFound, Refused


@dataclass(frozen=True)
class Sample:
    """Which rows are kept."""

    n: int
    """Rows that are kept."""
    by: str | None = None
    """Field whose values keep their shares."""


@dataclass(frozen=True)
class Step:
    name: str
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class Job:
    """A job with fields of every type."""

    landing: Input
    """Folder of new files."""
    target: Output = "out.h5"
    """Where the result goes."""
    workers: Annotated[int, Ge(1)] = 4
    """Worker processes."""
    share: float = 0.5
    strict: bool = False
    dtype: Literal["float16", "float32"] = "float32"
    where: str = ""
    others: list[Input] = field(default_factory=list)
    pair: tuple[int, str] = (1, "a")
    memory: int | str = "auto"
    limit: int | None = None
    scratch: Path = Path("scratch")
    level: float | None = field(default=None, metadata={"doc": "From metadata."})
    sample: Sample | None = None
    """What is drawn from the rows."""
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Choosy:
    name: str
    tables: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name != "good":
            raise ValueError(f"name is {self.name!r}, expected 'good'")


@dataclass(frozen=True)
class Template:
    """Something to begin with."""

    title: str = 'a "quoted" $HOME\n\x7fü'
    rate: float = 1e-05
    most: float = float("inf")
    strict: bool = True
    names: tuple[str, ...] = ("a", "b")
    sample: Sample = Sample(3, by="x")
    scratch: Path = Path("scratch")
    nothing: int | None = None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "landing").mkdir()
    for name in ("a.h5", "b.h5", "[1].h5"):
        (tmp_path / "landing" / name).touch()
    return tmp_path


def loaded(folder: Path, text: str, kind: Any = Job) -> Any:
    path = folder / "job.toml"
    path.write_text(text)
    return load(path, kind)


def told(folder: Path, text: str, kind: Any = Job) -> list[str]:
    """Return the lines of the error, each without the file that it begins with."""
    with pytest.raises(Refused, match=r"job\.toml: ") as raised:
        loaded(folder, text, kind)
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
    assert raised.value.__context__ is None
    subject = f"{folder / 'job.toml'}: "
    lines = str(raised.value).split("\n")
    assert all(line.startswith(subject) for line in lines)
    return [line.removeprefix(subject) for line in lines]


LANDING = 'landing = "landing"\n'


def test_every_type(folder: Path) -> None:
    text = """
    landing = "landing/*.h5"
    target = "sub/../made.h5"
    workers = 2
    share = 1
    strict = true
    dtype = "float16"
    others = ["landing", "s3://bucket/*.h5", "landing/[1].h5"]
    pair = [2, "b"]
    memory = 10
    limit = 3
    scratch = "elsewhere"
    level = nan
    sample = {n = 10, by = "success"}
    [[steps]]
    name = "first"
    weights = [1, 2.5]
    """
    job = loaded(folder, text)
    assert job.landing == f"{folder}/landing/*.h5"
    assert job.target == f"{folder}/sub/../made.h5"
    assert (job.workers, job.share, job.strict, job.dtype) == (2, 1.0, True, "float16")
    assert isinstance(job.share, float)
    assert job.others == [f"{folder}/landing", "s3://bucket/*.h5", f"{folder}/landing/[1].h5"]
    assert (job.pair, job.memory, job.limit) == ((2, "b"), 10, 3)
    assert job.scratch == Path("elsewhere")
    assert job.level != job.level
    assert job.sample == Sample(10, "success")
    assert job.steps == (Step("first", (1.0, 2.5)),)


def test_defaults(folder: Path) -> None:
    job = loaded(folder, LANDING)
    assert job.target == f"{folder}/out.h5"
    assert (job.workers, job.memory, job.sample, job.steps) == (4, "auto", None, ())


def test_everything_wrong_is_told_at_once(folder: Path) -> None:
    text = """
    target = 3
    worker = 4
    workers = "many"
    share = "half"
    strict = 1
    dtype = "float64"
    others = ["landing", 7, "nowhere/*.h5"]
    pair = [1]
    memory = 1.5
    limit = true
    where = 2026-01-01
    colour = "red"
    [sample]
    number = 3
    [[steps]]
    name = "first"
    [[steps]]
    weights = [1.0, "2"]
    """
    assert sorted(told(folder, text)) == sorted(
        [
            "where: found 2026-01-01, expected text; write it in quotes",
            "landing: missing; set it to a URL, file, folder or pattern that exists",
            "target: found 3, expected text",
            "worker: unknown key; did you mean 'workers'?",
            "workers: found 'many', expected an integer",
            "share: found 'half', expected a number",
            "strict: found 1, expected true or false",
            "dtype: found 'float64', expected 'float16' or 'float32'",
            "others[1]: found 7, expected text",
            "others[2]: found 'nowhere/*.h5', expected what exists, or a pattern that matches; "
            f"a relative one starts at {folder}",
            "pair[1]: missing; set it to text",
            "memory: found 1.5, expected an integer or text",
            "limit: found True, expected an integer",
            "colour: unknown key; those here are landing, target, workers, share, strict, dtype, "
            "where, others, pair, memory, limit, scratch, level, sample, steps",
            "sample.n: missing; set it to an integer",
            "sample.number: unknown key; those here are n, by",
            "steps[1].name: missing; set it to text",
            "steps[1].weights[1]: found '2', expected a number",
        ]
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("sample = 3", "sample: found 3, expected a table"),
        ("steps = 3", "steps: found 3, expected a list"),
        ("workers = 0", "workers: found 0, expected greater than or equal to 1"),
        ("workers = [1, 2]", "workers: found [1, 2], expected an integer"),
        ('target = ""', "target: found '', expected a path"),
        (r'target = "a\u0000b"', r"target: found 'a\x00b', expected a path"),
        ('where = "US$"', "where: found 'US$', in which $ begins no ${NAME}; write $$ for a $"),
        ('"odd key" = 1', "odd key: unknown key; those here are landing"),
        ("others = [08:00:00]", "others[0]: found 08:00:00, expected text; write it in quotes"),
    ],
)
def test_one_thing_wrong(text: str, line: str, folder: Path) -> None:
    [found] = told(folder, LANDING + text)
    assert found.startswith(line)


def test_a_default_input_must_exist(folder: Path) -> None:
    [line] = told(folder, "", Defaulted)
    assert line.startswith("path: found its default, expected what exists")


@dataclass(frozen=True)
class Defaulted:
    path: Input = "nowhere.h5"


def test_what_the_class_itself_refuses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaded(folder, 'name = "good"\ntables = {a = 1}', Choosy).tables == {"a": 1}
    assert told(folder, 'name = "bad"', Choosy) == ["name is 'bad', expected 'good'"]
    monkeypatch.setenv("SECRET", "hunter2")
    assert told(folder, 'name = "${SECRET}"', Choosy) == ["name is '${SECRET}', expected 'good'"]


def test_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "landing")
    monkeypatch.setenv("WORKERS", "7")
    monkeypatch.setenv("STRICT", "true")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET", raising=False)
    text = """
    landing = "${WHERE}/*.h5"
    target = "$${WHERE}/${UNSET:-made}${EMPTY}.h5"
    workers = "${WORKERS}"
    share = "${UNSET:-1e-3}"
    strict = "${STRICT}"
    memory = "${WORKERS}"
    where = "${EMPTY:-n > 1}"
    sample = {n = "${WORKERS}", by = "${WORKERS}"}
    """
    job = loaded(folder, text)
    assert job.landing == f"{folder}/landing/*.h5"
    assert job.target == f"{folder}/${{WHERE}}/made.h5"
    assert (job.workers, job.share, job.strict) == (7, 0.001, True)
    assert job.memory == "7"
    assert job.where == "n > 1"
    assert job.sample == Sample(7, "7")


def test_values_of_the_environment_are_never_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    monkeypatch.delenv("UNSET", raising=False)
    lines = told(
        folder,
        """
        landing = "${SECRET}/x"
        others = ["${SECRET}", "${UNSET}"]
        workers = "${SECRET}"
        share = "${SECRET:-1} "
        dtype = "${SECRET}"
        strict = "${SECRET}"
        pair = ["${SECRET}", "b", 1]
        sample = {number = "${SECRET}"}
        """,
    )
    assert not [line for line in lines if "hunter" in line]
    assert (
        "others[1]: environment variable UNSET is not set; set it, or write ${UNSET:-default}"
        in (lines)
    )
    assert "workers: found the value of '${SECRET}', expected an integer" in lines
    assert len(lines) == 10


@pytest.mark.parametrize("value", ["1\nother = 2", "'7'", "[7]", "seven", "7 7"])
def test_a_number_from_the_environment_is_one_scalar(
    value: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKERS", value)
    [line] = told(folder, LANDING + 'workers = "${WORKERS}"')
    assert line == "workers: found the value of '${WORKERS}', expected an integer"


def test_environment_that_is_no_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODD", os.fsdecode(b"\xff"))
    [line] = told(folder, LANDING + 'where = "${ODD}"')
    assert line == "where: environment variable ODD is no UTF-8; set it anew"


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b"a = 1\nb = = 2", r"is no TOML: Invalid value \(at line 2, column 5\)"),
        (b"a = 1\nb = [1,", r"is no TOML: .*\(at line 2, column 8\)"),
        (b"a = 1\na = 2", r"is no TOML: Cannot overwrite a value \(at line 2, column 6\)"),
        (b"a = '\xff'", r"byte 5 is no UTF-8"),
    ],
)
def test_broken_toml(raw: bytes, line: str, tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_bytes(raw)
    with pytest.raises(Refused, match=rf"job\.toml: {line}") as raised:
        load(path, Job)
    assert "\n" not in str(raised.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"job\.toml: no such file"):
        load(tmp_path / "job.toml", Job)
    with pytest.raises(AccessDenied, match="can't be read"):
        load(tmp_path, Job)


def test_a_byte_order_mark_is_no_error(folder: Path) -> None:
    (folder / "job.toml").write_text(LANDING, encoding="utf-8-sig")
    assert load(folder / "job.toml", Job).workers == 4


def test_an_example_is_a_config(tmp_path: Path) -> None:
    text = example(Template)
    assert text.startswith("# Something to begin with.\n\ntitle = ")
    (tmp_path / "job.toml").write_text(text)
    assert load(tmp_path / "job.toml", Template) == Template()


def test_an_example_tells_of_every_key(folder: Path) -> None:
    text = example(Job)
    for line in (
        "# Folder of new files.\n"
        "# landing = (required: a URL, file, folder or pattern that exists)",
        '# Where the result goes.\ntarget = "out.h5"',
        "# From metadata.\n# level = (a number)",
        "# What is drawn from the rows.\n# [sample]",
        "# Rows that are kept.\n# n = (required: an integer)",
        "# [[steps]]\n# name = (required: text)",
    ):
        assert line in text
    tomllib.loads(text)
    assert told(folder, text) == [
        "landing: missing; set it to a URL, file, folder or pattern that exists"
    ]


@given(st.text(), st.floats(allow_nan=False), st.integers())
def test_what_an_example_writes_is_read_again(text: str, number: float, whole: int) -> None:
    import tempfile
    from dataclasses import make_dataclass

    kind = make_dataclass("Made", [("a", str, text), ("b", float, number), ("c", int, whole)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "made.toml")
        path.write_text(example(kind))
        try:
            assert load(path, kind) == kind()
        except H5daskError as error:
            raise AssertionError(example(kind)) from error
