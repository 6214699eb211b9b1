"""The report's sections of sampled sequences and of their profiles, against plain numpy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import h5dask
from h5dask.indexes import RaggedIndex
from h5dask.report import write_report
from h5dask.report.section import Card, Cards, Piece, Section, Sentence, Table
from h5dask.report.sections import profiles, sequences
from h5dask.report.sections.profiles import LEVEL, N_PLACES
from h5dask.results import open_any, write_result
from tests import browser

ALPHABET = "ACDEFGHIKLMNPQRSTVWYX"
X = 20
LENGTHS = {17: 45, 3: 30, 5: 130, 8: 7}
"""Residues of each structure, in their order."""
GRID = (3, 2, 1)
"""Samples, noise levels and temperatures of each."""
LABELS = ("structure", "sample", "noise", "temperature", "row_size")
BOTH = ("Sequences", "Profiles")


def sampled(
    lengths: Mapping[int, int] = LENGTHS,
    grid: tuple[int, int, int] = GRID,
    *,
    chunks: int | None = 100,
    with_logits: bool = True,
) -> xr.Dataset:
    """Return structures with random samples, of fewer letters towards their ends."""
    random = np.random.default_rng(0)
    rows = [(k, *at, n) for k, n in lengths.items() for at in np.ndindex(*grid)]
    columns = np.array(rows, np.int32).reshape(len(rows), 5).T
    index = RaggedIndex("sequence", "residue", None, dict(zip(LABELS, columns, strict=True)))
    logits = random.normal(0, 3, (index.size, 21)).astype("f4")
    ds = xr.Dataset(
        {"sequences": ("residue", random.integers(0, 21, index.size).astype("i4"))},
        xr.Coordinates.from_xindex(index),
    ).assign_coords(aa=list(ALPHABET))
    if with_logits:
        ds["logits"] = ("residue", "aa"), logits
    ds["pseudo_perplexity"] = "sequence", random.uniform(1, 9, len(rows)).astype("f4")
    return ds if chunks is None else ds.chunk(residue=chunks, sequence=5)


def relabelled(ds: xr.Dataset, **labels: Any) -> xr.Dataset:
    """Return sequences with other labels, or with more."""
    index = ds.xindexes["structure"]
    held = {name: ds[name].values for name in index.table.names}
    made = RaggedIndex("sequence", "residue", None, held | labels)
    return ds.drop_vars(list(held)).assign_coords(xr.Coordinates.from_xindex(made))


def drawn(section: Section, ds: xr.Dataset) -> list[Piece]:
    assert section.meets(ds)
    (values,) = dask.compute(section.values(ds), scheduler="sync")
    return list(section.draw(ds, values))


def table(pieces: list[Piece]) -> dict[str, list[Any]]:
    """Return the columns of the one table by head."""
    (one,) = (piece for piece in pieces if isinstance(piece, Table))
    return dict(zip(one.heads, map(list, zip(*one.rows, strict=True)), strict=True))


def cards(pieces: list[Piece]) -> dict[str, Card]:
    several = (list(one.cards) if isinstance(one, Cards) else [one] for one in pieces)
    found = [card for group in several for card in group if isinstance(card, Card)]
    return {card.title: card for card in found}


def sentences(pieces: list[Piece]) -> list[str]:
    return [piece.text for piece in pieces if isinstance(piece, Sentence)]


def source(card: Card) -> dict[str, Any]:
    """Return what the first glyph of a picture is drawn of."""
    return dict(card.content.renderers[0].data_source.data)


def bits(p: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = -(p * np.log2(np.where(p > 0, p, 1))).sum(-1)
    return found


def shares(ds: xr.Dataset, name: str) -> Iterator[NDArray[np.float64]]:
    """Yield what the samples of each profile say: (sample, position, aa) of mean 1."""
    ends = np.cumsum(ds.row_size.values)
    labels = np.stack([ds[one].values for one in ("structure", "noise", "temperature")], axis=1)
    if name == "logits":
        values = np.exp(ds.logits.values.astype("f8"))
        values /= values.sum(-1, keepdims=True)
    else:
        values = np.eye(21)[ds.sequences.values]
    for one in np.unique(labels, axis=0):
        rows = np.flatnonzero((labels == one).all(axis=1))
        yield np.stack([values[ends[i] - ds.row_size.values[i] : ends[i]] for i in rows])


def by_place(ds: xr.Dataset, name: str) -> list[NDArray[np.float64]]:
    """Return the entropies of all positions in each place."""
    places: list[list[float]] = [[] for _ in range(N_PLACES)]
    for samples in shares(ds, name):
        found = bits(samples.mean(axis=0))
        for at, one in enumerate(found):
            places[int((at + 0.5) / len(found) * N_PLACES)].append(one)
    return [np.array(one) for one in places]


def assert_along(card: Card, places: list[NDArray[np.float64]]) -> None:
    shown, held = source(card), [at for at, one in enumerate(places) if len(one)]
    some = [places[at] for at in held]
    np.testing.assert_allclose(shown["x"], (np.array(held) + 0.5) / N_PLACES)
    np.testing.assert_allclose(shown["mean"], [one.mean() for one in some], rtol=1e-6)
    for key, share in (("low", 0.25), ("high", 0.75)):
        expected = [np.quantile(one, share, method="inverted_cdf") for one in some]
        np.testing.assert_allclose(shown[key], expected, rtol=0, atol=0.51 * LEVEL)


def assert_spread(found: Mapping[str, list[Any]], figure: str, values: Any) -> None:
    """Compare a row of a table with numpy; NaN isn't finite."""
    at = found["Figure"].index(figure)
    finite = values[np.isfinite(values)]
    assert found["Values"][at] == len(values)
    assert found["Not finite"][at] == len(values) - len(finite)
    expected = [getattr(finite, name)() for name in ("min", "mean", "max", "std")]
    told = [found[head][at] for head in ("Min", "Mean", "Max", "Std")]
    np.testing.assert_allclose(told, expected, rtol=1e-6)


# Sequences


def test_counts_and_lengths_are_those_of_labels() -> None:
    found = drawn(sequences.SECTION, sampled(dict.fromkeys(range(2, 6), 40) | {9: 12, 1: 99}))
    assert table(found) == {
        "Structures": [6],
        "Sequences": [36],
        "Samples": [3],
        "Noise levels": [2],
        "Temperatures": [1],
        "Shortest": ["structure 9, 12 residues"],
        "Longest": ["structure 1, 99 residues"],
    }
    shown = source(cards(found)["Lengths"])
    counts = {
        float((low + high) / 2): round(n)
        for low, high, n in zip(shown["left"], shown["right"], shown["top"], strict=True)
        if n > 0.5
    }
    assert len(counts) == 3
    assert [counts[near] for near in sorted(counts)] == [1, 4, 1]


def test_unequal_samples_are_a_range_and_names_are_told() -> None:
    ds = h5dask.concat([sampled().sel(structure=[17, 3]), sampled({4: 20}, (1, 1, 1))])
    names = np.where(np.arange(13) == 12, "1O91", "").astype(object)
    found = table(drawn(sequences.SECTION, relabelled(ds, structure_id=names)))
    assert found["Samples"] == ["1 to 3"]
    assert found["Shortest"] == ["1O91, 20 residues"]
    assert found["Longest"][0].endswith(", 45 residues")


@pytest.mark.parametrize("chunks", [1, 100, None])
def test_letters_are_counted(chunks: int | None) -> None:
    ds = sampled({3: 30}, chunks=chunks)
    card = cards(drawn(sequences.SECTION, ds))["Amino acids"]
    counts = np.bincount(ds.sequences.values, minlength=21)
    shown = source(card)
    assert shown["letter"] == list(ALPHABET[:X])
    np.testing.assert_allclose(shown["share"], counts[:X] / counts[:X].sum())
    assert card.note == f"X apart: {counts[X]:,} of {counts.sum():,} residues"
    assert card.legend[1].label == "uniform background, 5%"


def test_what_is_no_letter_is_counted_and_profiled_as_unknown() -> None:
    ds = sampled(with_logits=False)
    values = ds.sequences.values
    values[[3, 50, 51]] = [-1, 21, 70]
    bad = ds.assign(sequences=("residue", da.from_array(values, 60)))
    known = ds.assign(sequences=("residue", np.where((values < 0) | (values > X), X, values)))
    assert cards(drawn(sequences.SECTION, bad))["Amino acids"].note.endswith("3 outside 0 to 20")
    found = drawn(profiles.SECTION, bad)
    assert_along(cards(found)["Entropy along positions"], by_place(known, "sequences"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.full(90, X), "None of 90 residues is a known amino acid."),
        (np.full(90, -7), "None of 90 residues is a known amino acid."),
        (np.arange(90) * 3 % 271, None),
        (np.arange(1000), "Sequences hold more than 200 different numbers."),
    ],
)
def test_odd_sequences_are_told(values: Any, said: str | None) -> None:
    ds = sampled({1: len(values)}, (1, 1, 1), with_logits=False, chunks=None)
    ds["sequences"] = "residue", values.astype("i8")
    assert sentences(drawn(sequences.SECTION, ds)) == ([] if said is None else [said])


def test_sections_are_of_sequences_alone() -> None:
    ds = sampled()
    unlike = [
        xr.Dataset(),
        ds.drop_vars("sequences"),
        ds.sel(structure=[]),
        ds.isel(sequence=[0]),
        ds.assign(sequences=ds.sequences * 0.5),
        ds.drop_indexes(LABELS).drop_vars("structure"),
        h5dask.profile(ds).drop_vars(["entropy", "frequency_entropy"]),
    ]
    for one in unlike:
        assert not sequences.SECTION.meets(one)
        assert not profiles.SECTION.meets(one)


# Profiles


@given(st.integers(1, 700), st.integers(1, 30))
@settings(max_examples=10)
def test_profiles_are_those_of_numpy_in_any_blocks(length: int, rows: int) -> None:
    ds = sampled(chunks=None)
    found = drawn(profiles.SECTION, ds.chunk(residue=length, sequence=rows))
    card = cards(found)["Entropy along positions"]
    places = by_place(ds, "logits")
    assert_along(card, places)
    assert card.aside.startswith(f"of PSSM, mean {np.concatenate(places).mean():.3g} bits of 424 ")
    told = table(found)
    p = np.exp(ds.logits.values.astype("f8"))
    nats = -np.log(p[np.arange(len(p)), ds.sequences.values] / p.sum(-1))
    owner = np.repeat(np.arange(ds.sizes["sequence"]), ds.row_size.values)
    scores = np.bincount(owner, nats) / ds.row_size.values
    assert_spread(told, "Perplexity", np.exp(scores))
    assert_spread(told, "Pseudo-perplexity", ds.pseudo_perplexity.values.astype("f8"))
    counts = [one.sum(axis=0) for one in shares(ds, "sequences")]
    pairs = [1 - ((n * (n - 1)).sum(-1) / (3 * 2)).mean() for n in counts]
    assert_spread(told, "Diversity", np.array(pairs))


def test_without_logits_entropy_is_that_of_frequencies() -> None:
    ds = sampled(with_logits=False)
    found = drawn(profiles.SECTION, ds)
    card = cards(found)["Entropy along positions"]
    assert card.aside.startswith("of frequencies, ")
    assert_along(card, by_place(ds, "sequences"))
    assert table(found)["Figure"] == ["Pseudo-perplexity", "Diversity"]


def test_one_sample_is_a_line() -> None:
    ds = sampled(grid=(1, 1, 1), with_logits=False).drop_vars("pseudo_perplexity")
    found = drawn(profiles.SECTION, ds)
    zeros = "Entropy of frequencies: 0 bits everywhere: samples agree, or there is one of each."
    assert sentences(found) == [zeros]
    assert table(found)["Not finite"] == [len(LENGTHS)]
    assert cards(found) == {}


def test_structures_without_residues_are_told() -> None:
    ds = sampled({4: 0, 2: 0})
    assert table(drawn(sequences.SECTION, ds))["Longest"] == ["structure 4, 0 residues"]
    assert sentences(drawn(profiles.SECTION, ds)) == ["Entropy of PSSM: nowhere known."]


def test_many_structures_are_profiled() -> None:
    random = np.random.default_rng(1)
    lengths = dict(enumerate(random.integers(0, 60, 600).tolist()))
    ds = sampled(lengths, (2, 1, 1), chunks=2000, with_logits=False)
    card = cards(drawn(profiles.SECTION, ds))["Entropy along positions"]
    assert_along(card, by_place(ds, "sequences"))


def test_logits_without_a_softmax_are_counted() -> None:
    ds = sampled(chunks=None)
    ds.logits[[4, 300], 2] = np.nan
    found = drawn(profiles.SECTION, ds)
    assert sentences(found) == ["2 residues have logits without a softmax: NaN, infinite, or none."]
    assert cards(found)["Entropy along positions"].note.endswith("; 2 positions have none")
    assert table(found)["Not finite"][0] == 2


def test_why_there_are_no_profiles_is_told() -> None:
    ds = relabelled(sampled({1: 9, 2: 9}), structure=np.tile([5, 6], 6))
    (told,) = sentences(drawn(profiles.SECTION, ds))
    assert told.startswith("No profiles: sequences: found other structures between ")
    assert table(drawn(sequences.SECTION, ds))["Structures"] == [2]


def test_recovery_is_shown_where_it_is() -> None:
    ds = sampled()
    result = h5dask.profile(ds, reference=ds.sel(sample=0, noise=0))
    found = table(drawn(profiles.SECTION, ds.assign(recovery=result.recovery)))
    assert_spread(found, "Recovery", result.recovery.values)
    assert "Recovery" not in table(drawn(profiles.SECTION, ds))["Figure"]


@pytest.mark.parametrize("ending", [".nc", ".zarr"])
def test_a_result_shows_what_its_sequences_show(ending: str, tmp_path: Path) -> None:
    ds, path = sampled(), tmp_path / f"profiles{ending}"
    result = h5dask.profile(ds, reference=ds.sel(sample=0, noise=0))
    write_result(result.compute(), path)
    again = open_any(str(path))
    for section in (sequences.SECTION, profiles.SECTION):
        one, other = drawn(section, ds), drawn(section, again)
        assert set(cards(other)) >= {*cards(one)} - {"Amino acids"}
        told, more = table(one), table(other)
        for i, row in enumerate(zip(*told.values(), strict=True)):
            at = more["Figure"].index(row[0]) if "Figure" in more else i
            assert [more[head][at] for head in told] == [pytest.approx(cell) for cell in row]
    shown, expected = (source(cards(found)["Entropy along positions"]) for found in (other, one))
    for key in ("x", "mean", "low", "high"):
        np.testing.assert_allclose(shown[key], expected[key], rtol=1e-12)
    assert_spread(table(other), "Recovery of the consensus", result.consensus_recovery.values)


class Counted:
    """Values in memory that count how many of them were read."""

    def __init__(self, values: Any) -> None:
        self.values, self.n_read = values, 0
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __getitem__(self, key: Any) -> Any:
        read = self.values[key]
        self.n_read += read.size
        return read


def test_profiles_take_one_pass() -> None:
    ds = sampled(chunks=None)
    counted = {name: Counted(ds[name].values) for name in ("sequences", "logits")}
    for name, one in counted.items():
        chunks = (64, *one.shape[1:])
        ds[name] = ds[name].dims, da.from_array(one, chunks, meta=one.values[:0])
    drawn(profiles.SECTION, ds)
    assert {name: one.n_read / one.values.size for name, one in counted.items()} == {
        "sequences": 1,
        "logits": 1,
    }


# Dask says so of blocks along several dims, whatever is done with them.
@pytest.mark.filterwarnings("ignore:Increasing number of chunks")
def test_pages_hold_both_sections(tmp_path: Path) -> None:
    ds, path = sampled(), tmp_path / "page.html"
    result = h5dask.profile(ds.drop_vars("pseudo_perplexity"))
    for one in (ds, ds.compute(), ds.sel(structure=5), result, result.compute()):
        titles = write_report(one, path)
        assert set(BOTH) <= set(titles)
        text = path.read_text(encoding="utf-8")
        assert all(f"<h2>{title}</h2>" in text for title in BOTH)


def test_names_are_escaped(tmp_path: Path) -> None:
    hostile = "</script><img src=x>"
    ds = sampled().assign_coords(aa=[hostile, *ALPHABET[1:]])
    write_report(ds, tmp_path / "page.html")
    assert "<img" not in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.browser
def test_pages_are_drawn_without_network(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_report(sampled(), path, sections=[sequences.SECTION, profiles.SECTION])
    with browser.page() as opened:
        opened.goto(path.as_uri())
        browser.wait_for_plots(opened)
        assert opened.locator("h2").all_inner_texts() == list(BOTH)
        n_drawn = sum(n > 10 for n in browser.colours_drawn(opened))
        assert n_drawn == opened.locator("[data-root-id]").count() == 6
