"""Profiles of structures, labelled and lazy, against a loop over structures in float64 numpy."""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import h5dask
from h5dask.errors import Refused
from h5dask.indexes import RaggedIndex
from h5dask.ops.cost import SCRATCH
from h5dask.ops.residues import RESULTS, profile, profile_cost
from h5dask.positions import elements_of
from h5dask.results import open_any, write_result
from tests.files.proteins import VARIANTS

ALPHABET = "ACDEFGHIKLMNPQRSTVWYX"
X = 20
LENGTHS = {17: 5, 3: 0, 5: 70, 8: 1, 4: 9}
"""Residues of each structure, in their order."""
GRIDS = {17: (3, 2, 1), 3: (2, 1, 1), 5: (1, 1, 2), 8: (4, 1, 1), 4: (2, 2, 2)}
"""Samples, noise levels and temperatures of each."""
LABELS = ("structure", "sample", "noise", "temperature", "row_size")
OF_SEQUENCE = [name for name, (dims, _, _) in RESULTS.items() if dims == ("sequence",)]


class Counting:
    """An array in a file, which counts how often each of its rows is read."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values, self.shape = values, values.shape
        self.dtype, self.ndim = values.dtype, values.ndim
        self.n_reads = np.zeros(len(values), int)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        self.n_reads[key[0] if isinstance(key, tuple) else key] += 1
        return self.values[key]


def sequences(
    lengths: dict[int, int] = LENGTHS,
    grids: dict[int, tuple[int, ...]] = GRIDS,
    *,
    dtype: str = "f4",
    names: dict[int, str] | None = None,
) -> xr.Dataset:
    """Return structures with random samples at each noise level and temperature, in C order."""
    rng = np.random.default_rng(0)
    rows = [(k, *at, n) for k, n in lengths.items() for at in np.ndindex(*grids[k])]
    columns = np.array(rows, np.int32).reshape(len(rows), 5).T
    labels: dict[str, Any] = dict(zip(LABELS, columns, strict=True))
    if names is not None:
        labels["structure_id"] = np.array([names[k] for k in labels["structure"]], object)
    index = RaggedIndex("sequence", "residue", None, labels)
    return xr.Dataset(
        {
            "sequences": ("residue", rng.integers(0, 21, index.size).astype("i4")),
            "logits": (("residue", "aa"), rng.normal(0, 3, (index.size, 21)).astype(dtype)),
            "pseudo_perplexity": ("sequence", rng.random(len(rows)).astype("f4")),
        },
        xr.Coordinates.from_xindex(index),
    ).assign_coords(aa=list(ALPHABET))


def natives(lengths: dict[int, int] = LENGTHS, **more: Any) -> xr.Dataset:
    """Return one other sequence of each structure."""
    ds = sequences(lengths, dict.fromkeys(lengths, (1, 1, 1)), **more)
    return ds.drop_vars(["logits", "pseudo_perplexity"]).assign(sequences=(ds.sequences + 7) % 21)


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    x = logits.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def bits(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return -(p * np.log2(np.where(p > 0, p, 1))).sum(-1)


def samples(ds: xr.Dataset) -> list[tuple[NDArray[np.int64], slice]]:
    """Return which sequences each profile is of, and where the first one's residues lie."""
    of = [ds[name].values for name in ("structure", "noise", "temperature")]
    keys = list(zip(*(one.tolist() for one in of), strict=True))
    turn = {k: i for i, k in enumerate(dict.fromkeys(of[0].tolist()))}
    return [
        np.flatnonzero([one == key for one in keys])
        for key in sorted(set(keys), key=lambda key: (turn[key[0]], *key[1:]))
    ]


def expected(
    ds: xr.Dataset, native: dict[int, Any] | None = None, background: Any = 0.05
) -> dict[str, NDArray[Any]]:
    """Return every result, profile by profile, of finite logits."""
    offsets = np.append(0, np.cumsum(ds.row_size.values))
    parts: dict[str, list[Any]] = {name: [] for name in RESULTS}
    along = {name: np.full(ds.sizes["sequence"], np.nan) for name in OF_SEQUENCE}
    for rows in samples(ds):
        at = np.array([np.arange(offsets[row], offsets[row + 1]) for row in rows])
        letters = ds.sequences.values[at]
        logs = log_softmax(ds.logits.values[at])
        share = (letters[..., None] == np.arange(21)).mean(0)
        mean = np.exp(logs).mean(0)
        parts["frequency"].append(share)
        parts["frequency_entropy"].append(bits(share))
        parts["pssm"].append(mean)
        parts["entropy"].append(bits(mean))
        odds = np.full(mean.shape, np.nan)
        odds[:, :X] = np.log2(mean[:, :X] / mean[:, :X].sum(1, keepdims=True) / background)
        parts["log_odds"].append(odds)
        order = np.lexsort((-np.arange(21) + 0 * mean, mean, share), axis=1)
        parts["consensus"].append(order[:, -1])
        pairs = [(a != b).mean() for i, a in enumerate(letters) for b in letters[:i]]
        parts["diversity"].append([np.mean(pairs) if pairs else np.nan])
        chosen = np.take_along_axis(logs, letters[..., None], 2)[..., 0]
        along["score"][rows] = -chosen.mean(1)
        along["perplexity"][rows] = np.exp(-chosen.mean(1))
        along["rank"][rows] = np.argsort(np.argsort(along["score"][rows], kind="stable"))
        own = (native or {}).get(int(ds.structure[rows[0]]), np.full(at.shape[1], X))
        known = own != X
        along["recovery"][rows] = (letters == own)[:, known].mean(1)
        parts["consensus_recovery"].append([(order[:, -1] == own)[known].mean()])
    along["n_bad"][:] = 0
    return {name: np.concatenate(part) for name, part in parts.items() if part} | along


def check(found: xr.Dataset, wanted: dict[str, NDArray[Any]]) -> None:
    for name in set(RESULTS) & set(found):
        dims, dtype, _ = RESULTS[name]
        assert (found[name].dims, found[name].dtype) == (dims, np.dtype(dtype)), name
        close = (
            {"rtol": 2e-7, "atol": 1e-6} if dtype is np.float32 else {"rtol": 1e-12, "atol": 1e-13}
        )
        np.testing.assert_allclose(found[name].values, wanted[name], err_msg=name, **close)


def chunked(ds: xr.Dataset, lengths: list[int]) -> xr.Dataset:
    """Return a Dataset in blocks that begin with these lengths."""
    size = ds.sizes["residue"]
    ends = np.unique(np.minimum(np.cumsum([*lengths, size]), size))
    return ds.chunk(residue=tuple(np.diff(ends, prepend=0).tolist()), sequence=3)


def same(one: xr.Dataset, other: xr.Dataset) -> None:
    xr.testing.assert_identical(one.compute(), other.compute())


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_every_result(dtype: str) -> None:
    ds = sequences(dtype=dtype)
    one_each = natives()
    native = {k: one_each.sel(structure=k).sequences.values for k in LENGTHS}
    found = profile(ds, reference=one_each)
    assert set(RESULTS) == set(found) - {"n_samples", "pseudo_perplexity"}
    check(found, expected(ds, native))


def test_labels() -> None:
    ds = sequences(names={k: f"s{k}" for k in LENGTHS})
    found = profile(ds)
    keys = [(k, n, t) for k in LENGTHS for n, t in np.ndindex(*GRIDS[k][1:])]
    assert (
        list(
            zip(*(found[one].values for one in ("structure", "noise", "temperature")), strict=True)
        )
        == keys
    )
    assert found.structure_id.values.tolist() == [f"s{k}" for k, _, _ in keys]
    assert found.row_size.values.tolist() == [LENGTHS[k] for k, _, _ in keys]
    assert found.n_samples.values.tolist() == [GRIDS[k][0] for k, _, _ in keys]
    assert isinstance(found.xindexes["structure"], RaggedIndex)
    for name in ("structure", "noise", "temperature", "structure_id"):
        assert np.array_equal(found[f"of_{name}"], ds[name])
    assert np.array_equal(found["sample"], ds["sample"])
    assert np.array_equal(found.pseudo_perplexity, ds.pseudo_perplexity)
    assert "".join(found.aa.values) == ALPHABET
    one = found.sel(structure=4, noise=1, temperature=0)
    assert one.entropy.shape == (9,)
    scored = ds.assign(score=found.score)
    assert np.array_equal(scored.sel(structure=4).score, found.score[found.of_structure == 4])


def test_sequences_tell_their_own_labels(tmp_path: Path) -> None:
    ds = sequences(names={k: f"s{k}" for k in LENGTHS})
    found = profile(ds)
    of_one = found.sel(structure=4, of_structure=4)
    assert (of_one.sizes["profile"], of_one.sizes["position"]) == (4, 36)
    wanted = found.score.values[ds.structure.values == 4]
    assert of_one.score.values.tolist() == wanted.tolist()
    assert of_one.score.sel(of_noise=1).sample.values.tolist() == [0, 0, 1, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        means = found.score.groupby("of_structure").mean()
    assert float(means.sel(of_structure=4)) == pytest.approx(wanted.mean())
    frame = found.score.to_dataframe()
    assert frame.of_structure_id.tolist() == ds.structure_id.values.tolist()
    write_result(found, tmp_path / "a.nc")
    kept = open_any(str(tmp_path / "a.nc"))
    assert kept.score.sel(of_structure=4).values.tolist() == wanted.tolist()


def test_the_best_by_score(tmp_path: Path) -> None:
    ds = sequences({1: 4, 2: 6}, {1: (9, 1, 1), 2: (8, 1, 1)}).chunk(residue=5)
    found = profile(ds)
    order = np.argsort(found.score.values)[:5]
    best = h5dask.take(ds, found.score.values.argsort()[:5])
    h5dask.write_fasta(best, tmp_path / "best.fasta", score=found.score[order])
    offsets = np.append(0, np.cumsum(ds.row_size.values))
    letters = [
        "".join(ALPHABET[i] for i in ds.sequences.values[offsets[k] : offsets[k + 1]])
        for k in order
    ]
    assert (tmp_path / "best.fasta").read_text().splitlines()[1::2] == letters
    assert h5dask.letters(h5dask.take(ds, found.score < 1)).sizes == {
        "sequence": int((found.score < 1).sum())
    }


def taken(ds: xr.Dataset, rows: NDArray[np.int64]) -> xr.Dataset:
    """Return some sequences, in this order, and all that they own."""
    index = ds.xindexes["structure"]
    assert isinstance(index, RaggedIndex)
    cut = ds.isel(sequence=rows, residue=elements_of(index.offsets, rows))
    labels = index.table.take(rows).columns
    coords = RaggedIndex("sequence", "residue", None, labels)
    return cut.assign_coords(xr.Coordinates.from_xindex(coords))


@st.composite
def orders(draw: st.DrawFn) -> NDArray[np.int64]:
    """Return some sequences of some structures, those of one side by side, in any order."""
    structure = sequences().structure.values
    kept = draw(st.permutations(list(LENGTHS)).map(lambda all_: all_[: 1 + len(all_) // 2]))
    rows = []
    for k in kept:
        own = draw(st.permutations(np.flatnonzero(structure == k).tolist()))
        rows += own[: draw(st.integers(1, len(own)))]
    return np.array(rows)


@settings(max_examples=25)
@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
@given(orders(), st.lists(st.integers(1, 90), max_size=12))
def test_any_sequences_in_any_order_and_blocks(rows: NDArray[np.int64], lengths: list[int]) -> None:
    ds = taken(sequences(), rows)
    found = profile(ds)
    check(found, expected(ds))
    same(found, profile(chunked(ds, lengths)))


@settings(max_examples=15)
@given(st.lists(st.integers(1, 300), max_size=12))
def test_blocks_change_nothing(lengths: list[int]) -> None:
    ds, reference = sequences(dtype="f2"), natives()
    ds.logits[7, 3] = np.nan
    lazy = chunked(ds, lengths)
    found = profile(lazy, reference=reference.chunk(residue=11))
    same(found, profile(ds, reference=reference))
    plain = profile(lazy.drop_vars("logits"), reference=reference)
    same(plain, profile(ds.drop_vars("logits"), reference=reference))


def test_blocks_hold_whole_structures(no_compute: None) -> None:
    ds = sequences().chunk(residue=(35, 100, 111))  # structure 5 lies from 30 to 170
    found = profile(ds)
    assert found.pssm.chunks == ((10 + 140, 1 + 36), (21,))
    assert found.score.chunks == ((6 + 2 + 2, 4 + 8),)
    assert found.diversity.chunks == ((2 + 1 + 2, 1 + 4),)
    assert found.pssm.data.name == profile(ds).pssm.data.name


def test_nothing_is_computed(no_compute: None) -> None:
    ds = sequences().chunk(residue=50)
    found = profile(ds, reference=natives())
    assert [name for name, one in found.items() if one.chunks is None] == ["n_samples"]
    assert found.sel(structure=5).pssm.shape == (140, 21)


def test_each_block_is_read_once() -> None:
    ds = sequences().drop_vars("pseudo_perplexity")
    sources = {name: Counting(one.values) for name, one in ds.items()}
    lazy = ds.assign(
        {
            name: (
                ds[name].dims,
                da.from_array(
                    one,
                    chunks=60,
                    name=f"counted-{name}",
                    meta=np.empty((0,) * one.ndim, one.dtype),
                ),
            )  # type: ignore[arg-type]
            for name, one in sources.items()
        }
    )
    found = profile(lazy)
    for one in sources.values():
        one.n_reads[:] = 0
    dask.compute(found)
    assert all((one.n_reads == 1).all() for one in sources.values())


def test_only_what_there_is() -> None:
    ds = sequences()
    bare = ds.drop_vars(["logits", "aa"])
    found = profile(bare, background={"A": 1})  # of no use without logits
    counted = {"frequency", "frequency_entropy", "consensus", "n_samples", "diversity"}
    assert set(found) == counted | {"pseudo_perplexity", "rank"}
    whole = profile(ds)
    xr.testing.assert_identical(found.frequency, whole.frequency.drop_vars("aa"))
    assert set(profile(bare.drop_vars("pseudo_perplexity"))) == counted
    assert set(profile(ds)) == set(whole)
    for rows in samples(ds):
        values = ds.pseudo_perplexity.values[rows]
        assert found["rank"].values[rows].tolist() == np.argsort(np.argsort(values)).tolist()


def test_ranks_of_equal_and_missing_scores() -> None:
    ds = sequences({1: 4}, {1: (5, 1, 1)}).drop_vars("logits")
    ds["pseudo_perplexity"] = ("sequence", np.array([2.0, np.nan, 1.0, 2.0, 1.0]))
    assert profile(ds)["rank"].values.tolist() == [2, 4, 0, 3, 1]


def test_ties_of_the_consensus() -> None:
    ds = sequences({1: 2}, {1: (2, 1, 1)})
    ds["sequences"][:] = [4, 9, 3, 2]
    ds["logits"][:] = 0.0
    assert profile(ds).consensus.values.tolist() == [3, 2]
    ds["logits"][0, 4] = 0.5
    assert profile(ds).consensus.values.tolist() == [4, 2]
    assert profile(ds.drop_vars("logits")).consensus.values.tolist() == [3, 2]


def test_residues_without_probabilities() -> None:
    ds = sequences({1: 3, 2: 2}, {1: (2, 1, 1), 2: (2, 1, 1)})
    ds["logits"][0, 5], ds["logits"][1, 5], ds["logits"][6] = np.nan, np.inf, -np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = profile(ds)
    assert found.n_bad.values.tolist() == [2, 0, 1, 0]
    assert np.isnan(found.score.values).tolist() == [True, False, True, False]
    assert found["rank"].values.tolist() == [1, 0, 1, 0]
    bad = [True, True, False, True, False]
    assert np.isnan(found.pssm.values).all(1).tolist() == bad
    assert np.isnan(found.entropy.values).tolist() == bad
    assert np.isnan(found.log_odds.values[:, :X]).all(1).tolist() == bad
    assert found.frequency.notnull().all()


def test_letters_of_probability_zero() -> None:
    ds = sequences({1: 2}, {1: (1, 1, 1)})
    ds["sequences"][:] = [0, 1]
    ds["logits"][:] = 0.0
    ds["logits"][0, 2:], ds["logits"][1, 1:] = -np.inf, -1e30
    found = profile(ds)
    assert found.n_bad.values.tolist() == [0]
    assert found.pssm.values[:, :3].tolist() == [[0.5, 0.5, 0], [1, 0, 0]]
    assert found.entropy.values.tolist() == [1, 0]
    assert found.log_odds.values[0, :3].tolist() == pytest.approx(
        [np.log2(10), np.log2(10), -np.inf]
    )
    assert found.score.values[0] == pytest.approx(5e29)
    assert found.perplexity.values[0] == np.inf


@pytest.mark.parametrize("dtype", ["i1", "u1", "i8", "u8", ">i4"])
def test_other_integers(dtype: str) -> None:
    ds = sequences()
    same(profile(ds.assign(sequences=ds.sequences.astype(dtype))), profile(ds))


def test_logits_in_another_order_of_bytes_and_dims() -> None:
    ds = sequences()
    same(profile(ds.assign(logits=ds.logits.astype(">f4").transpose())), profile(ds))
    ds.logits.values.flags.writeable = False
    same(profile(ds), profile(sequences()))


def test_no_structures() -> None:
    found = profile(sequences().chunk().sel(structure=slice(100, 200)))
    assert set(found.compute().sizes.values()) == {0, 21}


@pytest.mark.parametrize("value", [-1, 21, 2**31 - 1])
def test_values_that_are_no_amino_acids(value: int) -> None:
    ds = sequences()
    ds["sequences"][34] = value  # the first residue of structure 5 is number 30
    found = profile(ds.chunk())
    told = rf"found {value} in structure 5, sample 0; expected 0 to 20; drop those"
    with pytest.raises(Refused, match=told):
        found.compute()
    ds["sequences"][50:60] = value
    with pytest.raises(Refused, match=r"sample 0 and 6 more of this block; expected 0 to 20"):
        profile(ds)


def test_references() -> None:
    ds = sequences(names={k: f"s{k}" for k in LENGTHS})
    lengths = {1: 70, 2: 5, 3: 9}
    named = natives(lengths, names={1: "s5", 2: "s17", 3: "s4"})
    named["sequences"][:40] = X
    with pytest.warns(UserWarning, match="reference: found none for 2 of 5 structures"):
        found = profile(ds, reference=named)
    native = {
        old: named.sel(structure=new).sequences.values for new, old in ((1, 5), (2, 17), (3, 4))
    }
    for row, (k, letters) in enumerate(zip(ds.structure.values, split(ds), strict=True)):
        own = native.get(int(k), np.full(len(letters), X))
        same_ = (own == letters)[own != X]
        wanted = same_.mean() if same_.size else np.nan
        assert found.recovery.values[row] == pytest.approx(wanted, nan_ok=True)
    with pytest.warns(
        UserWarning, match="found none for 4 of 5"
    ):  # by number: names are one too few
        found = profile(ds, reference=natives({5: 70}, names={5: ""}))
    assert found.recovery.notnull().values.tolist() == (ds.structure == 5).values.tolist()


def split(ds: xr.Dataset) -> list[NDArray[Any]]:
    return np.split(ds.sequences.values, np.cumsum(ds.row_size.values)[:-1])


def test_references_that_do_not_fit() -> None:
    ds = sequences()
    with pytest.raises(
        Refused, match=r"structure 17 has 5 residues, the reference 6, 5 has 70 residues, the ref"
    ):
        profile(ds, reference=natives(LENGTHS | {17: 6, 5: 8}))
    with pytest.raises(
        Refused, match=r"found 6 sequences of structure 17; .* reference.sel\(sample"
    ):
        profile(ds, reference=ds)
    bad = natives()
    bad["sequences"][3] = 21
    with pytest.raises(Refused, match="reference: found 1 values outside 0 to 20, such as 21"):
        profile(ds, reference=bad)
    with pytest.raises(Refused, match="reference: found sequences: none"):
        profile(ds, reference=bad.drop_vars("sequences"))


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_backgrounds() -> None:
    ds = sequences()
    shares = np.arange(1.0, 21.0)
    wanted = expected(ds, background=shares / shares.sum())
    named = dict(zip(ALPHABET[19::-1], shares[::-1] / 7, strict=True))
    for given_ in (shares, list(shares), named):
        check(profile(ds, background=given_)[["log_odds"]], wanted)
    same(profile(ds, background=[3] * 20), profile(ds))


def test_backgrounds_that_are_none() -> None:
    ds = sequences()
    equal = dict.fromkeys(ALPHABET[:X], 0.05)
    with pytest.raises(
        Refused, match=r"background: found shape \(21,\); expected positive shares of A"
    ):
        profile(ds, background=[1] * 21)
    faults = (
        r"found 0 for 'A'; nan for 'C'; 'x' for 'D'; True for 'E'; inf for 'X'; none for 'Y'; some"
    )
    bad = equal | {"A": 0, "C": np.nan, "D": "x", "E": True, "X": np.inf}
    del bad["Y"]
    with pytest.raises(Refused, match=faults):
        profile(ds, background=bad)  # type: ignore[arg-type]


def test_sequences_that_do_not_fit() -> None:
    ds = sequences()
    apart = np.array([0, 10, 1])
    with pytest.raises(Refused, match="found other structures between sequences of structure 17"):
        profile(taken(ds, apart))
    unlike = sequences({17: 5, 18: 6}, {17: (1, 1, 1), 18: (1, 1, 1)})
    index = unlike.xindexes["structure"].table.columns | {"structure": np.array([17, 17])}
    labels = xr.Coordinates.from_xindex(RaggedIndex("sequence", "residue", None, index))
    with pytest.raises(Refused, match="found sequences of several lengths of structure 17"):
        profile(unlike.assign_coords(labels))
    with pytest.raises(Refused, match="found no labels of 246 residues; expected those of all"):
        profile(ds.isel(sequence=slice(3)))
    with pytest.raises(Refused, match="labels of 246, along sequence, of 9 residues"):
        profile(ds.isel(residue=slice(9)))
    with pytest.raises(Refused, match="sequences: found sequences: none; expected whole numbers"):
        profile(ds.drop_vars("sequences"))
    with pytest.raises(Refused, match="found sequences: float32 of dims"):
        profile(ds.assign(sequences=ds.sequences.astype("f4")))
    few = {name: ds[name].values for name in ("structure", "row_size")}
    plain = ds.drop_vars(LABELS).assign_coords(
        xr.Coordinates.from_xindex(RaggedIndex("sequence", "residue", None, few))
    )
    with pytest.raises(Refused, match=r"without \['sample', 'noise', 'temperature'\]"):
        profile(plain)


def test_values_that_do_not_fit() -> None:
    ds = sequences()
    with pytest.raises(
        Refused, match=r"pseudo_perplexity: found dims \('other',\); expected sequence"
    ):
        profile(ds.assign(pseudo_perplexity=("other", [1.0])))
    with pytest.raises(
        Refused, match=r"logits: found \{'residue': 246, 'aa': 20\}; expected residue"
    ):
        profile(ds.isel(aa=slice(20)))
    with pytest.raises(Refused, match="logits: found int32; expected float16, float32 or float64"):
        profile(ds.assign(logits=ds.logits.astype("i4")))


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
@pytest.mark.parametrize(
    ("file", "nats"),
    [
        (
            "proteinmpnn_published_1O91.h5",
            [
                1.5472945594442693,
                1.5908861867942,
                1.3492368148172362,
                1.4311770969580337,
                1.3533738141648168,
                1.429929923365786,
            ],
        ),
        ("proteinmpnn_published_averaged.h5", [1.9928401541362681, 2.054872277695662]),
        (
            "proteinmpnn_published_two_models.h5",
            [1.978224945525, 1.9337427646429908, 2.0874594785075917, 1.9576762206557063],
        ),
    ],
)
def test_real_files(small: Path, file: str, nats: list[float]) -> None:
    """Their samples have the same logits, so the entropies of their means are known.

    They are so to 1e-7 alone: of log-probabilities as they are stored, of such sums.
    """
    ds = h5dask.open_dataset(small / "proteins" / file)
    found = profile(ds).compute()
    check(found, expected(ds.load()))
    same(profile(h5dask.open_dataset(small / "proteins" / file, chunks=None)), found)
    means = [
        found.entropy.values[start:stop].mean() * np.log(2)
        for start, stop in pairwise(found.xindexes["structure"].offsets)
    ]
    np.testing.assert_allclose(means, nats, rtol=1e-7)


def test_costs(no_compute: None) -> None:
    ds = sequences().drop_vars("pseudo_perplexity").chunk(residue=150)
    cost = profile_cost(ds)
    assert (cost.stage, cost.n_blocks, cost.written) == ("profile", 4, 0)
    assert cost.read == 246 * 22 * 4
    assert cost.flops == 40 * 246 * 22
    block = 150 * 21 * 4 + SCRATCH
    n_positions = 10 + 140 + 1 + 36
    assert cost.memory > block
    whole = ds.chunk(residue=-1)
    assert profile_cost(whole).memory == 246 * 21 * 4 + SCRATCH + 360 * n_positions
    halves = whole.assign(logits=whole.logits.astype("f2"))
    # More is found of a block than it holds: it is looked at in two.
    most = 246 * 21 * 2 * 3 + SCRATCH + 360 * n_positions
    assert 246 * 21 * 2 + SCRATCH < profile_cost(halves).memory < most
    bare = profile_cost(whole.drop_vars("logits"))
    assert (bare.n_blocks, bare.read) == (1, 246 * 4)


def test_the_file_of_what_is_wrong_is_named(tmp_path: Path) -> None:
    paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
    for path in paths:
        VARIANTS["first_generation"].write(path)
    with h5py.File(paths[1], "a") as file:
        file["structure_1/sequences"][2, 1, 3] = 77
    one = profile(h5dask.open_dataset(paths[1]))
    with pytest.raises(Refused, match=rf"{paths[1]}: found 77 in structure 1, sample 2; expected"):
        one.compute()
    both = profile(h5dask.open_dataset(paths))
    with pytest.raises(Refused, match=rf"found 77 in structure 4, sample 2 of {paths[1]}; expec"):
        both.compute()
