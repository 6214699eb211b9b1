"""The report's sections of statistics: what they show of which Dataset, against numpy."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from scipy.special import log_softmax
from scipy.stats import entropy

import h5dask
from h5dask import layouts
from h5dask.indexes import Labels
from h5dask.ops.components import pca
from h5dask.report import write_report
from h5dask.report.section import Card, Cards, Piece, Section, Sentence, Table
from h5dask.report.sections import (
    _spread,
    all_sections,
    bad_values,
    contrasts,
    distances,
    logits,
    principal_axes,
    truth,
    vectors,
)
from h5dask.report.sections._histogram import alike, histogram
from h5dask.results import open_any
from h5dask.testing import example_file
from tests import browser
from tests.architecture import ROOT

REAL = sorted((ROOT / "tests" / "real").rglob("*.h*5"))
OURS = {
    "activations": ("Bad values", "Vectors", "Principal axes", "Contrasts", "Logits"),
    "proteins": ("Bad values", "Logits"),
    "ann": ("Bad values", "Vectors", "Principal axes", "Ground truth", "Distances"),
    "episodes": ("Bad values", "Vectors", "Principal axes"),
}
HOSTILE = "</script><script>console.error('ran')</script><img src=x onerror=alert(1)>$$x^2$$"
N_SAMPLES = 40


def records(
    n_samples: int = N_SAMPLES, *, chunks: Any = None, dtype: Any = "f4", more: str = ""
) -> xr.Dataset:
    """Four scenarios, two pairs; the sides of "matching_far" differ much, in layer 7 most."""
    random = np.random.default_rng(0)
    names = ["matching_far", "non_matching_far", "matching_near", "non_matching_near"]
    scenario = np.repeat(np.array(names, object), n_samples)
    x = random.normal(size=(len(scenario), 3, 8))
    x[scenario == "matching_far"] += np.array([2.0, 9.0, 1.0])[:, np.newaxis]
    labels = {
        "scenario": scenario + more,
        "branch": np.full(len(scenario), "", object),
        "sample": np.tile(np.arange(n_samples), 4),
    }
    coords = xr.Coordinates.from_xindex(Labels("record", labels))
    made = {
        "states": (("record", "layer", "hidden"), x.astype(dtype)),
        "logits": (("record", "vocab"), random.normal(0, 3, (len(scenario), 50)).astype(dtype)),
    }
    ds = xr.Dataset(made, coords).assign_coords(layer=[5, 7, 9])
    return ds.chunk(chunks or {"record": 17, "hidden": 5})


def drawn(section: Section, ds: xr.Dataset) -> list[Piece]:
    assert section.meets(ds)
    (values,) = dask.compute(section.values(ds), scheduler="sync")
    return list(section.draw(ds, values))


def tables(pieces: list[Piece]) -> list[dict[str, list[Any]]]:
    """Return the columns of each table by head."""
    return [
        dict(zip(one.heads, map(list, zip(*one.rows, strict=True)), strict=True))
        for one in pieces
        if isinstance(one, Table)
    ]


def cards(pieces: list[Piece]) -> list[Card]:
    several = (list(one.cards) if isinstance(one, Cards) else [one] for one in pieces)
    return [card for group in several for card in group if isinstance(card, Card)]


def sources(card: Card) -> list[dict[str, Any]]:
    """Return what the picture of a card is drawn of, a glyph at a time."""
    return [dict(one.data_source.data) for one in card.content.renderers]


@pytest.mark.parametrize("layout", layouts.names())
def test_shown_is_what_suits_a_layout(layout: str, tmp_path: Path) -> None:
    titles = write_report(open_any(example_file(layout)), tmp_path / "page.html")
    ours = {title for titles in OURS.values() for title in titles}
    assert tuple(title for title in titles if title in ours) == OURS[layout]


@pytest.mark.parametrize(
    "ds",
    [
        xr.Dataset(),
        xr.Dataset({"x": 3.0}),
        xr.Dataset({"logits": ("row", np.ones(9)), "y": (("row", "column"), np.ones((9, 3)))}),
        xr.Dataset({"x": (("row", "column"), np.ones((0, 9))), "logits": (("a", "b"), [[]])}),
        xr.Dataset({"x": (("row", "column"), np.ones((9, 9), int))}),
    ],
    ids=["nothing", "scalar", "narrow", "empty", "integers"],
)
def test_not_shown_is_what_there_is_none_of(ds: xr.Dataset) -> None:
    there = [section.title for section in all_sections() if section.meets(ds)]
    ours = {title for titles in OURS.values() for title in titles} - {"Bad values"}
    assert not set(there) & ours


# Vectors


@pytest.mark.parametrize("chunks", [{"record": 17, "hidden": 5}, {"layer": 1}, {"record": -1}])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_lengths_are_numpys(chunks: Any, dtype: str) -> None:
    ds = records(chunks=chunks, dtype=dtype)
    x = ds.states.values
    x[3, 1, 2], x[9, 0] = np.nan, 0
    ds["states"] = ds.states.dims, da.from_array(x, ds.states.chunks)
    lengths = np.linalg.norm(x.astype("f8"), axis=-1)
    pieces = drawn(vectors.SECTION, ds)
    whole, by = tables(pieces)
    assert (whole["Vectors"], whole["Not finite"], whole["Zero"]) == ([lengths.size], [1], [1])
    for head, of in {
        "Min": np.nanmin,
        "Mean": np.nanmean,
        "Max": np.nanmax,
        "Std": np.nanstd,
    }.items():
        assert whole[head] == [pytest.approx(of(lengths), rel=1e-12)]
        groups = [
            lengths[i * N_SAMPLES : (i + 1) * N_SAMPLES, j] for i in range(4) for j in range(3)
        ]
        np.testing.assert_allclose(by[head], [of(one) for one in groups], rtol=1e-11)
    assert by["Not finite"] == [0, 1, *[0] * 10]
    assert by["Layer"] == ["5", "7", "9"] * 4
    assert by["Scenario"][::3] == list(dict.fromkeys(ds.scenario.values.tolist()))
    bars, lines = cards(pieces)
    assert sources(bars)[0]["top"].sum() == pytest.approx(np.isfinite(lengths).sum())
    np.testing.assert_allclose(sources(lines)[0]["mean"], by["Mean"][:3])
    assert [swatch.label for swatch in lines.legend] == by["Scenario"][::3]


def test_lengths_dont_overflow_and_units_have_no_picture() -> None:
    far = np.full((6, 4), 60_000, np.float16)
    unit = np.eye(5, 6) * np.array([1, 1 + 1e-7, 1, 1, 1])[:, np.newaxis]
    ds = xr.Dataset({"far": (("row", "column"), far), "unit": (("one", "another"), unit)})
    pieces = drawn(vectors.SECTION, ds)
    (table,) = tables(pieces)
    assert table["Max"] == [2 * float(far[0, 0]), pytest.approx(1)]
    assert not cards(pieces)


def test_rows_without_a_scenario_are_of_no_scenario() -> None:
    ds = xr.Dataset({"x": (("row", "column"), np.arange(24.0).reshape(6, 4))}).chunk(row=1)
    ds.coords["scenario"] = "row", np.array(["b", None, "a", "b", "a", None], object)
    whole, by = tables(drawn(vectors.SECTION, ds))
    assert whole["Vectors"] == [6]
    assert (by["Scenario"], by["Vectors"]) == (["b", "a"], [2, 2])


# Bad values


def test_bad_values_are_where_they_were_planted() -> None:
    x = np.ones((1000, 6))
    x[[7, 500], 2], x[501, 0], x[900:920] = np.nan, np.inf, 0
    ds = xr.Dataset({"x": (("row", "column"), x), "fine": (("query", "column"), np.ones((9, 6)))})
    pieces = drawn(bad_values.SECTION, ds.chunk(row=300))
    (table,) = tables(pieces)
    assert (table["NaN"], table["First NaN"]) == ([2], [7])
    assert (table["+inf"], table["First +inf"]) == ([1], [501])
    assert (table["Zero vectors"], table["First zero vector"]) == ([20], [900])
    assert len(table) == 7
    (strip,) = cards(pieces)
    assert (strip.title, strip.aside) == ("row", "23 of 1,000 rows hold something bad")
    parts = sources(strip)[-1]
    bad = np.isin(np.arange(1000), [7, 500, 501, *range(900, 920)]).reshape(200, 5).sum(axis=1)
    assert list(map(int, parts["says"])) == bad.tolist()
    np.testing.assert_array_equal(parts["alpha"] > 0, bad > 0)
    assert parts["within"][1] == "5 to 9"


def test_nothing_bad_is_said_in_a_line() -> None:
    fine = xr.Dataset({"x": ("row", np.ones(3)), "words": ("row", np.array(list("abc"), object))})
    assert drawn(bad_values.SECTION, fine) == [Sentence("None found.")]
    fine["words"][1] = ""
    table, line = drawn(bad_values.SECTION, fine.chunk())
    assert isinstance(table, Table)
    assert isinstance(line, Sentence)
    assert table.rows == [("words", 1, 1)]
    assert line.text.startswith("Nothing else was found")


@pytest.mark.parametrize("n_rows", [1, 2, 199, 200, 201, 1009])
def test_strips_count_each_row_once(n_rows: int) -> None:
    pieces = drawn(bad_values.SECTION, xr.Dataset({"x": ("row", np.full(n_rows, np.nan))}))
    parts = sources(cards(pieces)[0])[-1]
    assert sum(int(said.replace(",", "")) for said in parts["says"]) == n_rows
    assert (parts["left"][0], parts["right"][-1]) == (0, n_rows)
    assert len(parts["says"]) == min(n_rows, 200)
    np.testing.assert_allclose(parts["alpha"], 1)


# Contrasts


def test_contrasts_are_those_of_the_operation_and_of_numpy() -> None:
    ds = records()
    pieces = drawn(contrasts.SECTION, ds)
    (table,) = tables(pieces)
    x = ds.states.values.astype("f8").reshape(4, N_SAMPLES, 3, 8).mean(axis=1)
    far, near = x[0] - x[1], x[2] - x[3]
    norms = np.linalg.norm([far, near], axis=-1)
    np.testing.assert_allclose(table["Norm"], norms.reshape(-1), rtol=1e-12)
    found = h5dask.contrast(ds).compute(scheduler="sync")
    for head, name in {"Reliability": "reliability", "d\N{PRIME}": "dprime", "AUC": "auc"}.items():
        np.testing.assert_allclose(table[head], found[name].values.reshape(-1), rtol=1e-12)
    assert table["Pair"] == ["matching_far"] * 3 + ["matching_near"] * 3
    assert set(table["Records"]) == {"40 and 40"}
    *matrices, first, second = cards(pieces)
    order = np.argsort(-norms.mean(axis=0))
    assert [card.title for card in matrices] == [f"layer {[5, 7, 9][at]}" for at in order]
    cosine = (far * near).sum(axis=1) / norms.prod(axis=0)
    for card, layer in zip(matrices, order, strict=True):
        said = [float(one.replace("\N{MINUS SIGN}", "-")) for one in sources(card)[0]["says"]]
        assert said == pytest.approx([1, cosine[layer], cosine[layer], 1], abs=0.005)
    assert (first.title, first.aside) == ("matching_far", "layer 7")
    assert "AUC 1" in first.note
    for card in (first, second):
        bars = sources(card)[0]
        assert (bars["n0"].sum(), bars["n1"].sum()) == (N_SAMPLES, N_SAMPLES)
    # Far apart: no bar of one side reaches the other.
    bars = sources(first)[0]
    assert np.flatnonzero(bars["n1"]).max() < np.flatnonzero(bars["n0"]).min()
    assert [swatch.label for swatch in first.legend] == ["matching_far", "non_matching_far"]


def test_one_pair_has_no_matrix() -> None:
    ds = records().isel(record=slice(2 * N_SAMPLES))
    assert [card.title for card in cards(drawn(contrasts.SECTION, ds))] == ["matching_far"]


def test_sides_of_other_samples_are_compared_as_they_are() -> None:
    ds = records().isel(record=slice(3, None))
    table = next(piece for piece in drawn(contrasts.SECTION, ds) if isinstance(piece, Table))
    assert "without pairing" in table.caption
    assert table.rows[0][2] == "37 and 40"
    found = h5dask.contrast(ds, paired=False).compute(scheduler="sync")
    np.testing.assert_allclose([row[4] for row in table.rows], found.norm.values.reshape(-1))


def test_large_differences_are_compared_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrasts, "HELD", 100)
    table = next(piece for piece in drawn(contrasts.SECTION, records()) if isinstance(piece, Table))
    assert "without pairing" in table.caption


def test_names_without_a_counterpart_are_told_without_a_warning() -> None:
    ds = records().isel(record=slice(3 * N_SAMPLES))
    *_, last = drawn(contrasts.SECTION, ds)
    assert isinstance(last, Sentence)
    assert last.text.startswith("scenario 'matching_near': found no counterpart")


def test_many_layers_and_pairs_are_cut() -> None:
    random = np.random.default_rng(0)
    names = [f"{side}matching_{i:02}" for i in range(14) for side in ("", "non_")]
    coords = {
        "scenario": ("record", np.repeat(np.array(names, object), 4)),
        "branch": ("record", np.full(112, "", object)),
        "sample": ("record", np.tile(np.arange(4), 28)),
    }
    x = random.normal(size=(112, 40, 4))
    pieces = drawn(contrasts.SECTION, xr.Dataset({"x": (("record", "depth", "hidden"), x)}, coords))
    (table,) = tables(pieces)
    assert list(dict.fromkeys(table["Pair"])) == [f"matching_{i:02}" for i in range(12)]
    layers = [int(layer) for layer in table["Layer"][:16]]
    assert (layers[0], layers[-1], len(set(layers))) == (0, 39, 16)
    caption = next(piece.caption for piece in pieces if isinstance(piece, Table))
    assert caption.endswith("; the first 12 of 14 pairs; 16 of 40 layers")
    assert len(cards(pieces)) == 3 + 12


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: ds.drop_vars(["scenario", "branch", "sample"]),
        lambda ds: ds.sel(scenario=["matching_far", "matching_near"]),
        lambda ds: ds.drop_indexes(["scenario", "branch", "sample"]).chunk(),
        lambda ds: ds.drop_vars("states"),
        lambda ds: ds.assign(more=ds.states),
        lambda ds: ds.isel(record=slice(0)),
    ],
    ids=["no labels", "no pairs", "lazy labels", "no values", "two variables", "no records"],
)
def test_contrasts_arent_shown_without_pairs(change: Any) -> None:
    assert not contrasts.SECTION.meets(change(records()))


# Logits


@pytest.mark.parametrize("chunks", [{"record": 17}, {"vocab": 20}])
def test_entropies_are_scipys(chunks: Any) -> None:
    ds = records(chunks=chunks, dtype="f8")
    x = ds.logits.values
    x[50] = np.nan
    ds["logits"] = ds.logits.dims, da.from_array(x, ds.logits.chunks)
    probabilities = np.exp(log_softmax(x, axis=1))
    known = entropy(probabilities, axis=1)
    parts = [known, *known.reshape(4, N_SAMPLES)]
    pieces = drawn(logits.SECTION, ds)
    (table,) = tables(pieces)
    scenarios = list(dict.fromkeys(ds.scenario.values.tolist()))
    assert table["Scenario"] == ["all", *scenarios]
    assert table["Rows"] == [160, 40, 40, 40, 40]
    assert table["Not finite"] == [1, 0, 1, 0, 0]
    expected = {"Min": np.nanmin, "Mean entropy": np.nanmean, "Max": np.nanmax, "Std": np.nanstd}
    for head, of in expected.items():
        np.testing.assert_allclose(table[head], [of(part) for part in parts], rtol=1e-10)
    top = np.nanmean(probabilities.max(axis=1))
    assert table["Top probability"][0] == pytest.approx(top, rel=1e-10)
    whole, best, *small = cards(pieces)
    assert [card.title for card in small] == scenarios
    bars = sources(whole)[0]
    assert bars["top"].sum() == pytest.approx(159)
    assert sources(best)[0]["top"].sum() == pytest.approx(159, abs=1)
    np.testing.assert_allclose(sum(sources(card)[0]["top"] for card in small), bars["top"])
    assert all((sources(card)[0]["left"] == bars["left"]).all() for card in small)


def test_logits_need_no_vocabulary_and_no_scenarios() -> None:
    ds = open_any(example_file("proteins"))
    (table,) = tables(drawn(logits.SECTION, ds))
    known = entropy(np.exp(log_softmax(ds.logits.values.astype("f8"), axis=1)), axis=1)
    assert table["Scenario"] == ["all"]
    assert table["Mean entropy"] == [pytest.approx(known.mean(), rel=1e-9)]


def test_equal_logits_have_no_picture() -> None:
    pieces = drawn(logits.SECTION, xr.Dataset({"logits": (("row", "token"), np.zeros((5, 8)))}))
    assert tables(pieces)[0]["Mean entropy"] == [pytest.approx(np.log(8))]
    assert not cards(pieces)


def test_parts_between_the_edges_of_the_whole_add_up() -> None:
    values = np.random.default_rng(0).normal(50, 1, 3000)
    origin = _spread.origin_of(values)
    parts = [_spread.spread(one, origin) for one in (values[:5], values[5:2000], values[2000:])]
    whole = histogram(_spread.merge(parts), whole=False)
    among = [alike(part, whole, whole=False) for part in parts]
    np.testing.assert_allclose(sum(part.counts for part in among), whole.counts, atol=1e-6)
    nothing = alike(_spread.spread(np.zeros(0), origin), whole, whole=False)
    assert nothing.counts.sum() == 0
    one = alike(_spread.spread(values[:1], origin), whole, whole=False)
    assert one.counts.sum() + one.n_below + one.n_above == 1


# Principal axes


def test_places_are_those_along_principal_components() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 6)) * [9, 1, 1, 4, 1, 1] + 100
    x[17, 3] = np.nan
    ds = xr.Dataset({"x": (("row", "column"), x), "kind": ("row", np.arange(300) % 3)})
    (card,) = cards(drawn(principal_axes.SECTION, ds.chunk(row=70, column=4)))
    found = pca(ds.x, 2, dim="row")
    kept = np.delete(np.arange(300), 17)
    expected = (x[kept] - found["mean"].values) @ found.components.values.T
    points = sources(card)[0]
    np.testing.assert_allclose(np.stack([points["x"], points["y"]], axis=1), expected, atol=1e-9)
    first, second = found.explained_variance_ratio.values
    assert card.aside == f"{first:.0%} of the variance across, {second:.0%} upwards"
    assert points["row"] == list(map(str, kept))
    colours = {swatch.label: swatch.colour for swatch in card.legend}
    assert list(colours) == ["0", "1", "2"]
    assert points["colour"] == [colours[str(row % 3)] for row in kept]
    assert card.note == "coloured by kind, 299 of 300 rows"


def test_many_rows_are_sampled_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(principal_axes, "MOST_POINTS", 50)
    x = np.random.default_rng(0).normal(size=(501, 4))
    words = np.array([f"{row % 5}" for row in range(501)], object)
    ds = xr.Dataset({"x": (("row", "column"), x), "word": ("row", words)}).chunk(row=60)
    (card,) = cards(drawn(principal_axes.SECTION, ds))
    points = sources(card)[0]
    assert [int(row) for row in points["row"]] == list(range(0, 501, 11))
    assert points["label"] == words[::11].tolist()
    assert card.note == "coloured by word, 46 of 501 rows"


def test_layers_are_seen_in_the_last_one() -> None:
    (card,) = cards(drawn(principal_axes.SECTION, records()))
    assert card.title == "states, layer 9"
    x = records().states.values[:, -1].astype("f8")
    places = (x - x.mean(axis=0)) @ np.linalg.svd(x - x.mean(axis=0))[2][0]
    points = sources(card)[0]["x"]
    np.testing.assert_allclose(np.abs(points), np.abs(places), atol=1e-9)
    assert card.note == "coloured by scenario"


@pytest.mark.parametrize(
    ("labels", "chosen"),
    [
        ({"n": [0, 1, 1, 0], "word": ["a", "b", "a", "b"]}, "word"),
        ({"n": [0, 1, 1, 0], "word": ["a", "a", "a", "a"]}, "n"),
        ({"flag": [True, False, True, True]}, "flag"),
        ({"n": [3, 3, 3, 3], "x": [0.0, 1.0, 0.0, 1.0]}, None),
        ({"word": ["a", None, "b", "a"]}, "word"),
        ({"word": ["a" * 101, "b" * 101, "a", "a"]}, None),
    ],
)
def test_colours_are_those_of_labels_that_differ(labels: Any, chosen: str | None) -> None:
    x = np.random.default_rng(0).normal(size=(40, 4))
    made = {
        name: ("row", np.resize(np.array(ones, object if name == "word" else None), 40))
        for name, ones in labels.items()
    }
    (card,) = cards(
        drawn(principal_axes.SECTION, xr.Dataset({"v": (("row", "column"), x), **made}))
    )
    assert card.note == (f"coloured by {chosen}" if chosen else "")
    assert bool(card.legend) == bool(chosen)


def test_more_labels_than_colours_are_no_colours() -> None:
    x = np.random.default_rng(0).normal(size=(40, 4))
    ds = xr.Dataset({"v": (("row", "column"), x), "n": ("row", np.arange(40) % 13)})
    assert not cards(drawn(principal_axes.SECTION, ds))[0].legend


def test_a_sample_keeps_no_block() -> None:
    block = np.zeros((100, 4))
    assert principal_axes._copied(block[::10]).base is None


def test_places_take_what_the_report_says() -> None:
    vectors = np.random.default_rng(0).normal(size=(2000, 2048)).astype("f4")
    tracemalloc.start()
    try:
        principal_axes.placed(vectors)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak + 2 * vectors.nbytes <= 150 * 2**20


# Ground truth


def benchmark(n_labels: int = 3, **attrs: Any) -> xr.Dataset:
    """Neighbors of 20 queries, which have no other label than 0 and 1."""
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(n_labels), rng.integers(0, n_labels, 90)])
    made = {
        "distances": (("query", "neighbor"), np.ones((20, 3))),
        "train_labels": ("vector", labels),
        "test_labels": ("query", np.arange(20) % 2),
        "valid_ratios": ("label", np.bincount(labels) / len(labels)),
    }
    return xr.Dataset(made, attrs=attrs)


@pytest.mark.parametrize("chunks", [{}, {"vector": 7, "query": 6, "label": 1}])
def test_certified_queries_and_labels_are_counted(chunks: Any) -> None:
    ds = benchmark(certified=np.int64(17))
    ds["valid_ratios"][2] = 0.5
    line, table = drawn(truth.SECTION, ds.chunk(chunks))
    assert isinstance(line, Sentence)
    assert "17 of 20 queries (85.0%)" in line.text
    (shown,) = tables([table])
    counts = np.bincount(ds.train_labels)
    assert shown["Label"] == ["0", "1", "2"]
    assert shown["Base vectors"] == counts.tolist()
    np.testing.assert_allclose(shown["Share of the base"], counts / counts.sum())
    assert shown["Share stated"] == ds.valid_ratios.values.tolist()
    assert shown["Queries"] == [10, 10, 0]


def test_shares_are_of_labels_or_of_their_ranks() -> None:
    ds = benchmark()
    ds["train_labels"] = ds.train_labels * 10
    (shown,) = tables(drawn(truth.SECTION, ds))
    assert shown["Label"] == ["0", "1", "10", "20"]  # no vector has the 1 that queries have
    assert shown["Share stated"] == [*ds.valid_ratios.values[:1], None, *ds.valid_ratios.values[1:]]
    (shown,) = tables(drawn(truth.SECTION, ds.isel(label=slice(2))))
    assert shown["Share stated"] == [None] * 4
    (shown,) = tables(drawn(truth.SECTION, ds.drop_vars("valid_ratios")))
    assert shown["Share stated"] == [None] * 4


def test_many_labels_are_not_listed() -> None:
    (line,) = drawn(truth.SECTION, benchmark(300))
    assert line == Sentence("More than 200 labels, which aren't listed.")


def test_ground_truth_without_labels_is_a_line() -> None:
    ds = benchmark(certified=20)[["distances"]]
    (line,) = drawn(truth.SECTION, ds)
    assert isinstance(line, Sentence)
    assert "20 of 20 queries (100.0%)" in line.text
    assert not truth.SECTION.meets(ds.assign_attrs(certified="all"))
    assert not truth.SECTION.meets(benchmark(certified=3).drop_vars("distances"))


# Distances


def test_distances_are_those_of_the_first_and_the_last() -> None:
    x = np.sort(np.random.default_rng(0).gamma(5, 1, (300, 7)), axis=1)
    x[4] = np.nan
    ds = xr.Dataset({"distances": (("query", "neighbor"), x)}).chunk(query=80, neighbor=3)
    pieces = drawn(distances.SECTION, ds)
    (table,) = tables(pieces)
    ends = x[:, [0, -1]]
    assert (table["Neighbor"], table["Queries"], table["Not finite"]) == (
        [1, 7],
        [300] * 2,
        [1] * 2,
    )
    for head, of in {
        "Min": np.nanmin,
        "Mean": np.nanmean,
        "Max": np.nanmax,
        "Std": np.nanstd,
    }.items():
        np.testing.assert_allclose(table[head], of(ends, axis=0), rtol=1e-12)
    (card,) = cards(pieces)
    bars = sources(card)[0]
    for side, values in zip(("n0", "n1"), np.delete(ends, 4, axis=0).T, strict=True):
        expected = np.histogram(values, [*bars["left"], bars["right"][-1]])[0]
        assert np.abs(bars[side] - expected).sum() < 0.15 * len(values)
    assert [swatch.label for swatch in card.legend] == ["neighbor 1", "neighbor 7"]


def test_one_neighbor_is_the_first_and_the_last() -> None:
    ds = xr.Dataset({"distances": (("query", "neighbor"), np.arange(9.0)[:, np.newaxis])})
    pieces = drawn(distances.SECTION, ds)
    assert tables(pieces)[0]["Neighbor"] == [1]
    assert len(cards(pieces)[0].legend) == 1


# Pages


class Counted:
    """Values in memory that count how many of them were read."""

    def __init__(self, values: Any) -> None:
        self.values, self.n_read = values, 0
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __getitem__(self, key: Any) -> Any:
        read = self.values[key]
        self.n_read += read.size
        return read

    @property
    def passes(self) -> float:
        return self.n_read / self.values.size


@pytest.mark.parametrize("n_rows", [N_SAMPLES, 17])
def test_blocks_are_read_as_often_as_is_said(n_rows: int, tmp_path: Path) -> None:
    ds = records().assign(distances=(("query", "neighbor"), np.ones((9, 4))))
    counted = {name: Counted(one.values) for name, one in ds.data_vars.items()}
    for name, one in counted.items():
        blocks = da.from_array(one, chunks=(n_rows, *one.shape[1:]), meta=one.values[:0])
        ds[name] = ds[name].dims, blocks
    h5dask.contrast(ds).compute(scheduler="sync")
    own = counted["states"].passes
    counted["states"].n_read = 0
    with dask.config.set(scheduler="sync"):
        write_report(ds, tmp_path / "page.html")
    passes = {name: one.passes for name, one in counted.items()}
    assert passes == {"states": 2 + own, "logits": 2, "distances": 2}


@pytest.mark.parametrize(
    "ds",
    [
        records() * np.nan,
        records() * 0,
        records(1),
        records(2),
        records().isel(record=slice(0)),
        records().isel(record=slice(1)),
        records().compute(),
        xr.Dataset({"distances": (("query", "neighbor"), np.full((4, 3), np.nan))}),
        xr.Dataset({"distances": (("query", "neighbor"), np.zeros((4, 3)))}),
        xr.Dataset({"logits": (("row", "token"), np.full((4, 3), -np.inf))}),
        xr.Dataset({"x": (("a", "b", "c", "d"), np.ones((2, 3, 4, 5)))}),
        xr.Dataset({"x": (("row", "column"), np.full((9, 4), 1e200))}),
    ],
    ids=[
        *("NaN", "zeros", "one sample", "two samples", "no rows", "one row", "in memory"),
        *("NaN distances", "zero distances", "no probability", "four dims", "huge"),
    ],
)
def test_odd_datasets_are_drawn(ds: xr.Dataset, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    titles = write_report(ds, path)
    assert "Bad values" in titles
    assert "<h2>Bad values</h2>" in path.read_text(encoding="utf-8")


def hostile() -> xr.Dataset:
    ds = records(6, more=HOSTILE).assign_coords(layer=[HOSTILE, "7", "9"])
    return ds.rename(states=f"s{HOSTILE}", logits=f"{HOSTILE}logits")


def test_labels_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    titles = write_report(hostile(), path)
    assert {"Vectors", "Principal axes", "Contrasts", "Logits"} <= set(titles)
    text = path.read_text(encoding="utf-8")
    assert "matching_far&lt;/script&gt;" in text
    assert "<img" not in text
    assert "console.error('ran')</script>" not in text


@pytest.mark.browser
def test_hostile_labels_do_nothing(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_report(hostile(), path)
    with browser.page() as opened:
        opened.goto(path.as_uri())
        browser.wait_for_plots(opened)
        assert opened.locator("img").count() == 0
        assert opened.locator(".legend li").count() > 4


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_real_vectors_are_measured(path: Path) -> None:
    ds = open_any(str(path))
    if not vectors.SECTION.meets(ds):
        assert logits.SECTION.meets(ds)
        return
    table = tables(drawn(vectors.SECTION, ds))[0]
    for name, mean in zip(table["Variable"], table["Mean"], strict=True):
        lengths = np.linalg.norm(ds[name].values.astype("f8"), axis=-1)
        assert mean == pytest.approx(lengths.mean(), rel=1e-12)
