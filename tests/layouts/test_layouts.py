"""The layouts are found by scanning: in the folder, on its path, and in other packages."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from h5dask import layouts
from h5dask.errors import LayoutError
from h5dask.layout import Layout
from h5dask.pattern import fill, kinds, placeholders
from tests.files import LAYOUTS
from tests.layouts.reading import contents
from tests.made import contents as made

OURS = tuple(sorted(LAYOUTS))
FIFTH = """
from h5dask.layout import ArraySpec, Layout

LAYOUT = Layout(
    name={name!r},
    title="one array",
    arrays=(ArraySpec(name="x", paths=("x",), dims=("row",), dtypes=("int8",)),),
    marks=("x",),
    example=print,
)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is searched for layouts too."""
    monkeypatch.setattr(layouts, "__path__", [*layouts.__path__, str(tmp_path)])
    yield tmp_path
    for name in [m for m in sys.modules if m.startswith("h5dask.layouts.fifth")]:
        del sys.modules[name]


def test_every_module_is_a_layout_and_no_other_name_is() -> None:
    assert layouts.names() == OURS
    assert [layout.name for layout in layouts.all_layouts()] == list(OURS)
    with pytest.raises(LayoutError, match="no layout 'parquet'; there are activations, ann, epis"):
        layouts.get("parquet")


def test_a_file_on_the_path_is_a_layout(folder: Path) -> None:
    (folder / "fifth.py").write_text(FIFTH.format(name="fifth"))
    (folder / "_fifth_rows.py").write_text("raise RuntimeError('never imported')")
    assert layouts.names() == ("activations", "ann", "episodes", "fifth", "proteins")
    assert layouts.get("fifth").title == "one array"
    assert [fit.name for fit in layouts.fitting(made({"x": ((3,), "|i1")}))] == ["fifth"]


def test_a_layout_goes_with_its_folder(folder: Path) -> None:
    for name in ("sixth", "seventh"):
        place = folder / name
        place.mkdir()
        (place / "fifth.py").write_text(FIFTH.format(name=name))
        layouts.__path__[-1] = str(place)
        assert name in layouts.names()
    assert "sixth" not in layouts.names()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nothing_of_this_name", r"fifth.py: gives no layout \(ModuleNotFoundError: No mod"),
        ("1 / 0", r"fifth.py: gives no layout \(ZeroDivisionError"),
        ("LAYOUT = 3", "fifth: LAYOUT is 'int'; must be a Layout"),
        ("x = 1", r"fifth.py: gives no layout \(AttributeError"),
        (FIFTH.format(name="ann"), "fifth: a second layout named 'ann', after h5dask.layouts.ann"),
    ],
)
def test_a_broken_layout_is_named(folder: Path, source: str, said: str) -> None:
    (folder / "fifth.py").write_text(source)
    with pytest.raises(LayoutError, match=said):
        layouts.names()


def entry_points(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Let another package declare one layout."""
    point = importlib.metadata.EntryPoint("theirs", value, layouts.GROUP)
    monkeypatch.setattr(layouts, "_declared", lambda path: (point,))


def test_another_package_adds_a_layout(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "their_layouts.py").write_text(FIFTH.format(name="theirs"))
    monkeypatch.setattr(layouts, "__path__", layouts.__path__[:-1])
    monkeypatch.syspath_prepend(folder)
    entry_points(monkeypatch, "their_layouts:LAYOUT")
    assert layouts.get("theirs").name == "theirs"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("no_such_package:LAYOUT", r"entry point 'theirs' of h5dask.layouts \(no_such_package:LAY"),
        ("math:pi", "entry point 'theirs'.*LAYOUT is 'float'; must be a Layout"),
    ],
)
def test_a_broken_package_is_named(monkeypatch: pytest.MonkeyPatch, value: str, said: str) -> None:
    entry_points(monkeypatch, value)
    with pytest.raises(LayoutError, match=said):
        layouts.all_layouts()


def test_declarations_import_neither_xarray_nor_h5py() -> None:
    heavy = "{'xarray', 'dask', 'h5py', 'pandas', 'numba'}"
    code = f"import sys, h5dask.layouts as l; l.names(); assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name in OURS for key in LAYOUTS[name].VARIANTS]
)
def test_every_file_is_recognised_as_one_layout(name: str, key: str, tmp_path: Path) -> None:
    LAYOUTS[name].VARIANTS[key].write(tmp_path / "f.h5")
    assert [fit.name for fit in layouts.fitting(contents(tmp_path / "f.h5"))] == [name]


def test_what_no_layout_marks_is_not_recognised() -> None:
    found = made({"structure_x/sequences": ((3,), "<i4"), "q/train": ((3,), "<f4")})
    assert layouts.fitting(found) == ()


@pytest.mark.parametrize("layout", layouts.all_layouts(), ids=lambda layout: layout.name)
def test_declarations_agree_with_themselves(layout: Layout) -> None:
    for spec in layout.arrays:
        for path in spec.paths:
            choices = {k: v.split("|")[0] for k, v in kinds([path]).items() if v not in ("", "d")}
            keys = {**dict.fromkeys(placeholders(path), "7"), **choices}
            match = spec.match(fill(path, keys))
            assert match is not None
            assert match[1] == keys
        assert set(spec.stacked) <= set(spec.dims)
        assert spec.ragged is None or spec.ragged == spec.dims[0]
        assert spec.doc
    assert all(spec.doc for spec in layout.attrs)
    assert all(
        layout.spec_of(mark) or "{" in mark or mark in _tops(layout) for mark in layout.marks
    )
    assert bool(layout.along) != bool(layout.apart)
    assert len({spec.name for spec in layout.arrays}) == len(layout.arrays)
    assert all(any(check.applies(spec.name) for spec in layout.arrays) for check in layout.checks)


def _tops(layout: Layout) -> set[str]:
    return {path.split("/")[0] for spec in layout.arrays for path in spec.paths}


@pytest.mark.parametrize("layout", layouts.all_layouts(), ids=lambda layout: layout.name)
def test_examples_are_in_the_analysis_form(layout: Layout) -> None:
    ds = layout.example(np.random.default_rng(0))
    assert ds.identical(layout.example(np.random.default_rng(0)))
    for spec in layout.arrays:
        if spec.required:
            assert ds[spec.name].dims == spec.dims
    for name, variable in ds.variables.items():
        spec = next((s for s in layout.arrays if s.name == name), None)
        assert spec is None or spec.accepts(
            "str" if variable.dtype == object else variable.dtype.str
        )
    if layout.along is not None:
        assert layout.along in ds.dims
    missing = [
        attr.name
        for attr in layout.attrs
        if attr.required and "{" not in attr.path and attr.name not in ds.attrs
    ]
    assert missing == []
