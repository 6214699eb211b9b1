"""Reports: numbers against numpy, sections by what they need, and the page in a real browser."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import fsspec
import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import h5dask
from h5dask import layouts
from h5dask.errors import NotFound, Refused
from h5dask.report import page, write_report
from h5dask.report.section import Bar, Bars, Card, Section
from h5dask.report.sections import _spread, _tally, _wording, all_sections
from h5dask.report.sections._blocks import over_blocks
from h5dask.report.sections._histogram import histogram
from h5dask.results import open_any
from h5dask.testing import example_file
from tests import browser
from tests.architecture import ROOT
from tests.commands import call

REAL = sorted((ROOT / "tests" / "real").rglob("*.h*5"))
TITLES = ("Structure", "Sizes", "Value ranges", "Labels")
HOSTILE = "</script><script>console.error('ran')</script><img src=x onerror=alert(1)>$$x^2$$"

numbers = st.one_of(
    *(
        st.lists(st.floats(width=width), max_size=60).map(
            lambda v, t=f"f{width // 8}": np.array(v, t)
        )
        for width in (16, 32, 64)
    ),
    st.lists(st.integers(-(2**62), 2**62), max_size=60).map(lambda v: np.array(v, "i8")),
    st.lists(st.integers(0, 255), max_size=60).map(lambda v: np.array(v, "u1")),
    st.lists(st.booleans(), max_size=60).map(lambda v: np.array(v, bool)),
)


def in_blocks(look: Callable[..., Any], merge: Any, values: Any, length: int, **more: Any) -> Any:
    blocks = da.from_array(values, chunks=length)
    asked = over_blocks("look", "x", xr.Variable("row", blocks), look, merge, **more)
    return asked.compute(scheduler="sync")


def reported(ds: xr.Dataset, folder: Path, **options: Any) -> str:
    path = folder / "page.html"
    write_report(ds, path, **options)
    return path.read_text(encoding="utf-8")


@given(numbers, st.integers(1, 70))
def test_spread_is_numpys(values: Any, length: int) -> None:
    found = in_blocks(_spread.spread, _spread.merge, values, length, first=_spread.origin_of)
    finite = values[np.isfinite(values)]
    assert found.n == values.size
    assert found.n_nan == np.isnan(values).sum()
    assert found.n_posinf == (values == np.inf).sum()
    assert found.n_neginf == (values == -np.inf).sum()
    assert found.n_finite == found.counts.sum() == finite.size
    if not finite.size:
        assert found.least is found.most is None
        return
    assert (found.least, found.most) == (finite.min(), finite.max())
    wide = finite.astype(np.longdouble)
    scale = float(np.abs(wide).max()) or 1.0
    if scale < 1e150:
        assert found.mean == pytest.approx(float(wide.mean()), rel=1e-12, abs=1e-12 * scale)
        # Squares of what is below 1e-154 are 0 in float64.
        assert found.std == pytest.approx(float(wide.std()), rel=1e-9, abs=1e-12 * scale + 1e-153)


@given(numbers, st.integers(1, 70))
def test_histograms_count_every_value(values: Any, length: int) -> None:
    found = in_blocks(_spread.spread, _spread.merge, values, length, first=_spread.origin_of)
    drawn = histogram(found, whole=values.dtype.kind != "f")
    if drawn is None:
        finite = values[np.isfinite(values)].astype(np.longdouble)
        far = abs(finite).max(initial=0)
        assert not finite.size or far > 1e38 or np.ptp(finite) <= 1e-11 * far
        return
    assert (np.diff(drawn.edges) > 0).all()
    assert (drawn.counts >= 0).all()
    n_outside = drawn.n_below + drawn.n_above  # two whole numbers, of bins that are shared out
    assert drawn.counts.sum() + n_outside == pytest.approx(found.n_finite, rel=1e-9, abs=1)


@pytest.mark.parametrize("low", [-128, -3, 0, 40, 2000, 1_700_000_000])
def test_histograms_of_few_integers_are_exact(low: int) -> None:
    values = np.repeat(np.arange(low, low + 8), [1, 2, 3, 0, 5, 6, 7, 8])
    found = _spread.spread(values, _spread.origin_of(values))
    drawn = histogram(found, whole=True)
    edges = np.arange(low, low + 9) - 0.5
    np.testing.assert_array_equal(drawn.edges, edges)
    np.testing.assert_allclose(drawn.counts, np.histogram(values, edges)[0])


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(size=100_000),
        np.random.default_rng(1).normal(size=100_000).astype("f2"),
        1.7e9 + np.random.default_rng(2).normal(size=100_000),
        np.random.default_rng(3).integers(-(10**12), 10**12, 100_000),
    ],
    ids=["normal", "half", "timestamps", "wide"],
)
def test_histograms_are_close_to_numpys(values: Any) -> None:
    found = in_blocks(_spread.spread, _spread.merge, values, 30_000, first=_spread.origin_of)
    drawn = histogram(found, whole=values.dtype.kind != "f")
    expected, _ = np.histogram(values.astype("f8"), drawn.edges)
    assert len(drawn.counts) > 20
    assert np.abs(drawn.counts - expected).sum() < 0.05 * values.size


def test_positive_values_of_many_scales_lie_on_a_log_axis() -> None:
    values = np.exp(np.random.default_rng(0).normal(0, 4, 10_000))
    drawn = histogram(_spread.spread(values), whole=False)
    assert drawn.log
    np.testing.assert_allclose(np.diff(np.log10(drawn.edges), n=2), 0, atol=1e-9)


def test_far_values_are_told_instead_of_drawn() -> None:
    values = np.append(np.random.default_rng(0).normal(size=10_000), [1e9, -1e9, 2e9])
    drawn = histogram(_spread.spread(values), whole=False)
    assert (drawn.n_below, drawn.n_above) >= (1, 2)
    assert abs(drawn.edges).max() < 10


@pytest.mark.parametrize("dtype", ["f2", "f8", "i8", "u1"])
def test_a_task_takes_what_it_says(dtype: str) -> None:
    block = np.ones(2**25 // np.dtype(dtype).itemsize, dtype)
    tracemalloc.start()
    try:
        _spread.spread(block)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 6 * 2**20


def test_half_floats_dont_overflow() -> None:
    values = np.full(100_000, 60_000, np.float16)
    found = in_blocks(_spread.spread, _spread.merge, values, 10_000)
    assert (found.mean, found.std) == (float(values[0]), 0.0)


@given(st.lists(st.text(max_size=5), max_size=40), st.integers(1, 50))
def test_words_are_counted(words: list[str], length: int) -> None:
    values = np.array([*words, ""], object)
    text = in_blocks(_wording.wording, _wording.merge, values, length)
    assert (text.lengths.n, text.n_text) == (len(values), len(values))
    assert len(text.marks) == len(set(values))
    assert text.lengths.most == max(map(len, values))
    assert text.nbytes == sum(len(word.encode()) for word in values)
    assert in_blocks(_tally.tally, _tally.merge, values, length) == Counter(values)


@pytest.mark.parametrize(
    "values",
    [np.arange(1000), np.array(["x" * 1000], object), np.array([None, "a"], object)],
    ids=["many", "long", "no words"],
)
def test_what_is_no_label_is_not_tallied(values: Any) -> None:
    assert in_blocks(_tally.tally, _tally.merge, values, 100) is None


def test_pictures_are_measured_in_bytes() -> None:
    values = np.empty(3, object)
    values[:] = [np.zeros(10, "u1"), np.zeros(20, "u1"), None]
    found = _wording.wording(values)
    assert (found.lengths.most, found.lengths.n_nan, found.n_text, found.nbytes) == (20, 1, 0, 30)


def test_blocks_are_read_once_and_scanned_once_more(tmp_path: Path) -> None:
    read: Counter[Any] = Counter()

    def note(block: Any, name: str, block_info: Any) -> Any:
        read[name, block_info[0]["chunk-location"]] += 1
        return block

    numbers = np.arange(100) % 7
    ds = xr.Dataset()
    for name, values in (("labels", numbers), ("words", numbers.astype(str).astype(object))):
        source = da.from_array(values, chunks=10, inline_array=False)
        seen = source.map_blocks(note, name, dtype=values.dtype, meta=source._meta)
        ds[name] = "row", seen
    with dask.config.set(scheduler="threads"):
        assert write_report(ds, tmp_path / "page.html") == (*TITLES, "Bad values")
    passes = {"labels": 1, "words": 2}  # text is scanned once more for bad values
    assert read == Counter({(name, (at,)): passes[name] for name in ds for at in range(10)})


def test_every_layout_is_reported(tmp_path: Path) -> None:
    for name in layouts.names():
        text = reported(open_any(example_file(name)), tmp_path)
        assert f"<dd>{name}</dd>" in text
        assert f"<h1>{name}.h5</h1>" in text


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_real_files_are_reported(path: Path, tmp_path: Path) -> None:
    ds = open_any(str(path))
    text = reported(ds, tmp_path)
    assert all(f"<td>{name}</td>" in text for name in ds.variables)
    name, values = next((n, v.values) for n, v in ds.data_vars.items() if v.dtype.kind == "f")
    least = f"{values.min():.5g}".replace("-", "\N{MINUS SIGN}")
    assert re.search(rf"<td>{name}</td>.*>{re.escape(least)}<", text)


def test_a_real_sample_is_reported(sample: Path, tmp_path: Path) -> None:
    assert reported(open_any(str(sample)), tmp_path)


@pytest.mark.parametrize("ending", [".nc", ".zarr"])
def test_results_are_reported(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"result{ending}"
    ds = xr.Dataset({"mean": ("feature", np.linspace(0, 1, 50))}, attrs={"made": "here"})
    if ending == ".nc":
        ds.to_netcdf(path, engine="h5netcdf")
    else:
        ds.to_zarr(path)
    text = reported(open_any(str(path)), tmp_path)
    assert f"<h1>result{ending}</h1>" in text
    assert "<td>made</td>" in text


@pytest.mark.parametrize(
    "ds",
    [
        xr.Dataset(),
        xr.Dataset({"x": ("none", np.zeros(0))}),
        xr.Dataset({"x": 3.5}),
        xr.Dataset({"t": ("time", np.arange(3).astype("M8[ns]")), "c": ("time", np.ones(3) * 1j)}),
        xr.Dataset({"x": ("row", np.full(5, np.nan))}),
    ],
    ids=["nothing", "no rows", "scalar", "times", "only NaN"],
)
def test_odd_datasets_are_reported(ds: xr.Dataset, tmp_path: Path) -> None:
    assert "<h2>Structure</h2>" in reported(ds, tmp_path)


def test_sections_are_those_whose_needs_are_met(tmp_path: Path) -> None:
    def bars(ds: xr.Dataset, values: Any) -> list[Card]:
        return [Card(title="t", content=Bars(bars=[Bar("a", 1, "one")]))]

    def section(title: str, **needs: Any) -> Section:
        return Section(title=title, place=1, draw=bars, **needs)

    sections = [
        section("Labels of rows", variables=("train*", "*_labels")),
        section("No such variable", variables=("train", "absent*")),
        section("Along features", dims=("feature",)),
        section("Along nothing", dims=("nothing",)),
        section("Never", suits=lambda ds: False),
        Section(title="Empty", place=1, draw=lambda ds, values: []),
    ]
    ds = xr.Dataset({"train": (("vector", "feature"), np.zeros((2, 3))), "test_labels": 1})
    shown = write_report(ds, tmp_path / "page.html", sections=sections)
    assert shown == ("Labels of rows", "Along features")


def test_sections_are_found_by_scanning() -> None:
    files = [path.stem for path in (ROOT / "h5dask" / "report" / "sections").glob("[!_]*.py")]
    assert len(all_sections()) == len(files)
    assert tuple(section.title for section in all_sections())[:4] == TITLES


def test_building_a_section_computes_nothing(no_compute: None) -> None:
    for name in layouts.names():
        ds = h5dask.open_dataset(example_file(name))
        for section in all_sections():
            if section.meets(ds):
                section.values(ds)


def test_what_files_say_is_escaped(tmp_path: Path) -> None:
    ds = xr.Dataset(
        {HOSTILE: ("row", np.array([HOSTILE, HOSTILE, "b"], object))},
        attrs={HOSTILE: HOSTILE, "long": "x" * 10_000},
    )
    text = reported(ds, tmp_path, title=HOSTILE)
    assert "onerror=alert(1)&gt;" in text
    assert "<img" not in text
    assert "console.error('ran')</script>" not in text
    assert "x" * 1000 not in text


def test_text_that_is_no_unicode_is_told(tmp_path: Path) -> None:
    ds = xr.Dataset({"x": ("row", np.arange(2.0))}, attrs={"by": "a\udcff"})
    assert r"<td>a\udcff</td>" in reported(ds, tmp_path)


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("page.h5", Refused, r"page\.h5: a report's name ends in \.html; name such a file"),
        ("s3://bucket/page.h5", Refused, r"s3://bucket/page\.h5: a report's name ends in"),
        ("absent/page.html", NotFound, r"page\.html: found no folder .*absent"),
        ("folder.html", Refused, r"folder\.html: found a folder, expected a file"),
    ],
)
def test_a_page_that_cant_be_is_refused_first(
    name: str, error: type[Exception], says: str, tmp_path: Path, no_compute: None
) -> None:
    (tmp_path / "folder.html").mkdir()
    ds = h5dask.open_dataset(example_file("ann"))
    with pytest.raises(error, match=says):
        write_report(ds, name if "://" in name else tmp_path / name)


def test_a_page_in_a_store(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/page.html"
    ds = h5dask.open_dataset(example_file("ann"))
    for _ in range(2):
        write_report(ds, url, title="Vectors")
    write_report(ds, tmp_path / "page.html", title="Vectors")
    kept = fsspec.filesystem("memory").cat_file(url)
    made = (tmp_path / "page.html").read_bytes()
    assert b"<title>Vectors" in kept
    assert abs(len(kept) - len(made)) < 1000  # they tell their time, and ids of their own


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_report(xr.Dataset({"x": 1}), path)
    before = path.read_text()

    def fail(*collections: Any) -> Any:
        raise RuntimeError("the machine is gone")

    with pytest.raises(RuntimeError, match="the machine is gone"):
        write_report(xr.Dataset({"y": 1}), path, compute=fail)
    assert path.read_text() == before
    write_report(xr.Dataset({"y": 1}), path)
    assert "<td>y</td>" in path.read_text()
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("absent.nc", r"absent\.nc: not found"),
        ("absent.zarr", r"absent\.zarr: "),
        ("broken.nc", r"broken\.nc: xarray can't open it"),
        ("memory://nowhere/a.nc", r"nowhere/a\.nc: "),
    ],
)
def test_results_that_cant_be_opened(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "broken.nc").write_bytes(b"no HDF5")
    with pytest.raises(h5dask.errors.H5daskError, match=says):
        open_any(name if "://" in name else str(tmp_path / name))


def test_verb_writes_the_page(tmp_path: Path) -> None:
    path = tmp_path / "ann.html"
    told = call("report", example_file("ann"), "-o", path)
    assert (told.exit_code, told.stdout) == (0, f"{path}\n")
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    told = call("report", example_file("ann"), "-o", path, "--json")
    assert json.loads(told.stdout)["sections"][: len(TITLES)] == list(TITLES)


def test_verb_tells_errors_as_lines(tmp_path: Path) -> None:
    told = call("report", example_file("ann"), "-o", tmp_path / "ann.txt", "--quiet")
    assert told.exit_code == 2
    assert re.fullmatch(
        r"Error: .*ann\.txt: a report's name ends in .html; name such a file\n", told.stderr
    )
    told = call("report", tmp_path / "absent.h5", "-o", tmp_path / "a.html")
    assert told.exit_code == 2
    assert "absent.h5" in told.stderr


def test_pages_without_figures_carry_no_bokeh() -> None:
    assert len(page(xr.Dataset(), [])) < 20_000


@pytest.mark.browser
@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("layout", layouts.names())
def test_page_is_drawn(layout: str, colours: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    titles = write_report(open_any(example_file(layout)), path)
    with browser.page(colours=colours) as opened:
        opened.goto(path.as_uri())
        browser.wait_for_plots(opened)
        assert opened.locator("h2").all_inner_texts() == list(titles)
        assert opened.locator("nav a").all_inner_texts() == list(titles)
        drawn = browser.colours_drawn(opened)
        assert sum(n > 10 for n in drawn) == opened.locator("[data-root-id]").count() > 0


@pytest.mark.browser
def test_page_fits_a_narrow_screen(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_report(open_any(example_file("episodes")), path)
    with browser.page(width=360, height=700) as opened:
        opened.goto(path.as_uri())
        browser.wait_for_plots(opened)
        assert opened.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.browser
def test_hostile_text_does_nothing(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=100)
    ds = xr.Dataset({HOSTILE: ("row", values)}, attrs={HOSTILE: HOSTILE})
    ds["b"] = "row", np.array([HOSTILE, "b"] * 50, object)
    path = tmp_path / "page.html"
    write_report(ds, path, title=HOSTILE)
    with browser.page() as opened:
        opened.goto(path.as_uri())
        browser.wait_for_plots(opened)
        assert opened.title() == HOSTILE
        assert opened.locator("img").count() == 0


@pytest.mark.browser
def test_a_browsers_complaint_fails_the_test(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("<script>console.error('bad'); fetch('http://127.0.0.1:9/x')</script>")
    complaints = r"bad.*asked for http://127\.0\.0\.1:9/x"
    with pytest.raises(AssertionError, match=complaints), browser.page() as opened:
        opened.goto(path.as_uri(), wait_until="networkidle")


def test_values_without_end_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "endless.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("embeddings", (2**40, 8), "f4", chunks=(64, 8))
        ids = file.create_dataset("episode_ids", (2**40,), h5py.string_dtype(), chunks=(64,))
        assert ids.id.get_storage_size() == 0
    with pytest.raises(Refused, match=r"endless.h5: .* the file has .*; its values aren't all"):
        open_any(str(path))
