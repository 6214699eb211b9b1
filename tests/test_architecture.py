"""The house keeps its rules, and each rule finds what breaks it."""

import subprocess
import sys

import pytest

import h5dask
from h5dask import errors, pipeline
from tests import architecture as rules
from tests.architecture import Module, Rule

HOUSE = rules.read_modules("h5dask")
HEAVY = {"dask", "distributed", "h5py", "numba", "pandas", "xarray", "zarr"}


def made_of(**sources: str) -> dict[str, Module]:
    """Return made-up modules: `ops__scanning` is `h5dask.ops.scanning`, "" is the door."""
    names = {room: f"h5dask.{room.replace('__', '.')}".rstrip(".") for room in sources}
    return {names[room]: Module(names[room], text) for room, text in sources.items()}


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_house_keeps(rule: Rule) -> None:
    assert list(rule(HOUSE)) == []


@pytest.mark.parametrize(
    ("rule", "sources"),
    [
        (rules.on_no_floor, {"attic": ""}),
        (rules.imports_upwards, {"errors": "import h5dask.layout", "layout": ""}),
        (rules.imports_upwards, {"layout": "def f():\n from . import reading", "reading": ""}),
        (rules.imports_upwards, {"layout": "from h5dask.reading import identify", "reading": ""}),
        (
            rules.imports_in_a_circle,
            {
                "reading": "from h5dask.writing import w",
                "writing": "def f():\n import h5dask.reading",
            },
        ),
        (rules.imports_upwards, {"reading": "from h5dask import concat", "": ""}),
        (rules.imports_upwards, {"errors": "if TYPE_CHECKING:\n import h5dask.cli", "cli": ""}),
        (rules.bytes_outside_storage, {"reading": "import h5py"}),
        (rules.bytes_outside_storage, {"testing": "def f():\n from fsspec.core import open"}),
        (rules.bytes_outside_storage, {"demo": "importlib.import_module('h5py')"}),
        (rules.layouts_or_files_below, {"ops__scanning": "from h5dask.layout import Layout"}),
        (rules.layouts_or_files_below, {"kernels__lzf": "from ..storage.codec import decode"}),
        (rules.choices_by_layout, {"reading": "if layout.name == wanted: pass"}),
        (rules.choices_by_layout, {"reading": "x = self.layout.name in ('a', 'b')"}),
        (rules.choices_by_layout, {"reading": "match found_layout.name:\n case 'a': pass"}),
        (rules.layouts_named, {"reading": "f('ann')"}),
        (rules.layouts_named, {"cli": "from h5dask.layouts import ann"}),
        (rules.too_long, {"reading": "\n" * 351}),
        (rules.too_long, {"reading": "def f():\n" + " x = 1\n" * 70}),
        (rules.words_that_say_nothing, {"storage__file_utils": ""}),
        (rules.words_that_say_nothing, {"storage__array": "class HTTPDataManager: pass"}),
        (rules.code_in_ops_door, {"ops": "'''Operations.'''\nfrom . import scanning"}),
        (rules.left_to_do, {"reading": "pass  # \x54ODO: more"}),
    ],
)
def test_rule_finds(rule: Rule, sources: dict[str, str]) -> None:
    assert len(list(rule(made_of(**sources)))) == 1


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_rule_lets_pass(rule: Rule) -> None:
    obedient = made_of(
        errors="",
        ops="'''Operations; the layout ann knows none of them.'''",
        ops__scanning="from h5dask.kernels.moments import add\nfrom h5dask import __version__",
        kernels__moments="import numpy",
        layouts__ann="LAYOUT = Layout(name='ann')",
        storage__array="import h5py\nfrom fsspec.core import url_to_fs\nfrom ..errors import E",
        reading="class Dataset:\n '''ann'''\n metadata = layout.name\nchosen = named[layout.name]",
        writing="from h5dask import reading",
        layout="if TYPE_CHECKING:\n from h5dask.grouping import Groups",
        grouping="from h5dask.layout import Layout",
    )
    assert list(rule(obedient)) == []


def test_functions_shadow_no_module() -> None:
    assert set(h5dask.__all__) & {module.room for module in HOUSE.values()} == set()


def test_pipelines_use_public_names() -> None:
    public = {
        *("h5dask", "h5dask.errors", "h5dask.pipeline"),
        *(f"h5dask.{name}" for name in h5dask.__all__),
        *(f"h5dask.errors.{name}" for name in vars(errors)),
        *(f"h5dask.pipeline.{name}" for name in pipeline.__all__),
    }
    used = {
        (module.name, name)
        for module in rules.read_modules("pipelines").values()
        for _, name in module.imports
        if rules.lies_under(name, "h5dask")
    }
    assert {(module, name) for module, name in used if name not in public} == set()


def test_cluster_imports_nothing_of_ours() -> None:
    names = [name for m in rules.read_modules("cluster").values() for _, name in m.imports]
    assert [name for name in names if rules.lies_under(name, "h5dask", "pipelines")] == []


def test_nothing_is_left_to_do() -> None:
    assert list(rules.left_to_do(rules.read_modules("tests", "pipelines", "cluster"))) == []


@pytest.mark.parametrize(
    "program",
    ["import h5dask", "import h5dask.cli, sys; sys.argv[1:] = ['--help']; h5dask.cli.main()"],
    ids=["import", "help"],
)
def test_door_is_light(program: str) -> None:
    report = f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    ran = subprocess.run(
        [sys.executable, "-c", f"import atexit, sys; atexit.register(lambda: {report}); {program}"],
        cwd=rules.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr.splitlines()) == (0, ["[]"])
