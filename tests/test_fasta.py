"""Sequences out as FASTA, in again, and as strings: letters, headers, labels, blocks."""

import gzip
import os
import re
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import distributed
import fsspec
import numpy as np
import pytest
import xarray as xr
from dask.callbacks import Callback
from hypothesis import given, settings
from hypothesis import strategies as st

import h5dask
from h5dask.errors import Conflict, CorruptInput, H5daskError, LayoutError, NotFound, Refused
from h5dask.fasta import AT_ONCE, _formatted, letters, read_fasta, write_fasta
from h5dask.fasta.spelling import ALPHABET, Run, _strings
from h5dask.indexes import Labels, RaggedIndex
from h5dask.layouts import proteins
from h5dask.progress.counting import Tally, counting
from h5dask.testing import example

FIRST = (
    "EVEAFTALLTTPHPPVGEPIKFNKLVYNGRNVYDPATGIFTVKTPGVYFFTFVLYVYGADLHAELMKNDTPVIKVYLQTVNGKINQVSGAAVLELEEGDK"
    "VYVKIPSASANGLWASADAHSYFSGYLLTEK"
)
"""The published sample of the first chain of 1O91."""


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    """Start no threads for arrays of a few values."""
    with dask.config.set(scheduler="sync"):
        yield


def sampled(sizes: Sequence[int], seed: int = 0, **labels: Any) -> xr.Dataset:
    """Return sequences of these lengths; two samples a structure where nothing else is said."""
    n, total = len(sizes), int(np.sum(sizes))
    columns = {
        "structure": np.arange(n, dtype=np.int32) // 2 * 3 + 4,
        "sample": np.arange(n, dtype=np.int32) % 2,
        "noise": np.zeros(n, np.int32),
        "temperature": np.zeros(n, np.int32),
        "row_size": np.array(sizes, np.int32),
    }
    coords = {name: np.asarray(column) for name, column in (columns | labels).items()}
    index = RaggedIndex("sequence", "residue", total, coords)
    indices = np.random.default_rng(seed).integers(0, 21, total).astype(np.int32)
    return xr.Dataset({"sequences": ("residue", indices)}, xr.Coordinates.from_xindex(index))


def strings(ds: xr.Dataset) -> list[str]:
    text = "".join("ACDEFGHIKLMNPQRSTVWYX"[index] for index in ds.sequences.values)
    ends = np.cumsum(ds.row_size.values)
    return [text[end - size : end] for end, size in zip(ends, ds.row_size.values, strict=True)]


def written(ds: xr.Dataset, path: Path, **options: Any) -> str:
    write_fasta(ds, path / "a.fasta", **options)
    return (path / "a.fasta").read_text()


def headers(ds: xr.Dataset, path: Path, **options: Any) -> list[str]:
    return [line[1:] for line in written(ds, path, **options).split("\n") if line.startswith(">")]


def unlabelled(ds: xr.Dataset) -> xr.Dataset:
    """Return a Dataset without index, and without what reading adds."""
    added = ["structure_id", "aa"]
    return ds.compute().drop_indexes(list(ds.xindexes)).drop_vars(added, errors="ignore")


SIZES = st.lists(st.sampled_from([0, 1, 2, 7, 59, 60, 61, 119, 120, 121, 300]), min_size=1)


# Written


@settings(max_examples=60)
@given(SIZES, st.data())
def test_any_chunks_write_the_oracles_bytes(sizes: list[int], data: st.DataObject) -> None:
    ds = sampled(sizes)
    expected = ""
    for i, text in enumerate(strings(ds)):
        lines = [text[at : at + 60] + "\n" for at in range(0, len(text), 60)]
        expected += f">structure_{i // 2 * 3 + 4} sample={i % 2} noise=0\n" + "".join(lines)
    lazy = ds.chunk(residue=data.draw(st.integers(1, 1 + sum(sizes))))
    for one in (ds, lazy):
        url = "memory://h5dask-any-chunks.fasta"
        write_fasta(one, url, overwrite=True)
        assert fsspec.filesystem("memory").cat_file(url).decode() == expected
        assert letters(one).values.tolist() == strings(ds)


@given(SIZES, st.integers(1, 999))
def test_what_was_written_is_read(sizes: list[int], chunk: int) -> None:
    ds = sampled(sizes, seed=chunk)
    url = "memory://h5dask-round-trip.fasta"
    write_fasta(ds.chunk(residue=chunk), url, overwrite=True)
    back = read_fasta(url)
    xr.testing.assert_identical(unlabelled(back), unlabelled(ds))
    assert isinstance(back.xindexes["structure"], RaggedIndex)
    assert len(set(map(id, back.xindexes.values()))) == 2  # of the sequences, and of aa
    assert "".join(back.aa.values) == ALPHABET


def test_the_layouts_example_comes_back(tmp_path: Path) -> None:
    ds = example("proteins")
    write_fasta(ds, tmp_path / "a.fasta")
    back = read_fasta(tmp_path / "a.fasta")
    xr.testing.assert_identical(unlabelled(back), unlabelled(ds).drop_vars("logits"))
    h5dask.write_dataset(back, tmp_path / "a.h5", layout="proteins")
    assert h5dask.validate(tmp_path / "a.h5", values=True) == ()
    stored = h5dask.open_dataset(tmp_path / "a.h5")
    xr.testing.assert_equal(unlabelled(stored), unlabelled(back))


def test_a_real_file(small: Path, tmp_path: Path) -> None:
    ds = h5dask.open_dataset(small / "proteins" / "proteinmpnn_published_1O91.h5")
    assert letters(ds).sel(structure=0, sample=0, noise=0).values.tolist() == [FIRST]
    text = written(ds, tmp_path)
    lines = f"{FIRST[:60]}\n{FIRST[60:120]}\n{FIRST[120:]}\n"
    assert text.startswith(f">structure_0 sample=0 noise=0\n{lines}>structure_0 sample=0 noise=1\n")
    assert text.count(">") == 6


@pytest.mark.parametrize("dtype", ["int8", "uint8", ">i2", "int64", "uint64"])
def test_any_integers(dtype: str, tmp_path: Path) -> None:
    ds = sampled([3, 70])
    text = written(ds, tmp_path)
    other = ds.assign(sequences=ds.sequences.astype(dtype))
    assert written(other, tmp_path, overwrite=True) == text


def test_names(tmp_path: Path) -> None:
    ids = np.array(["1ABC", "1ABC", "", "", "4", "4", "", ""], object)
    ds = sampled([1] * 8, structure_id=ids)
    found = headers(ds, tmp_path, names={10: "given", 4: "", 99: "of none"})
    assert found[::2] == [
        f"{name} sample=0 noise=0" for name in ("1ABC", "structure_7", "given", "structure_13")
    ]
    back = read_fasta(tmp_path / "a.fasta")
    assert back.structure.values.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert back.structure_id.values[4:6].tolist() == ["given", "given"]


def test_names_that_would_break_headers(tmp_path: Path) -> None:
    ds = sampled([1] * 12)
    names = {4: "a b\tc", 7: ">a>", 10: "a\nMK", 13: "last,", 16: "cut\udcff", 19: "a=b"}
    with pytest.warns(UserWarning, match=r"names: found 6 with white space.* 'a b\\tc'") as warned:
        found = headers(ds, tmp_path, names=names)
    assert [one.split(" ")[0] for one in found[::2]] == [
        "a_b_c",
        "_a_",
        "a_MK",
        "last_",
        "cut_",
        "a_b",
    ]
    assert len(warned) == 1
    assert os.path.basename(warned[0].filename) == "test_fasta.py"
    assert read_fasta(tmp_path / "a.fasta").structure_id.values[8] == "cut_"


@pytest.mark.parametrize("names", [{4: "a", 7: "a"}, {4: "structure_7"}, {4: "structure_5"}])
def test_numbers_where_names_do_not_tell_them(names: dict[int, str], tmp_path: Path) -> None:
    ds = sampled([1] * 4)
    found = headers(ds, tmp_path, names=names)
    assert found[0] == f"{names[4]} structure=4 sample=0 noise=0"
    back = read_fasta(tmp_path / "a.fasta")
    xr.testing.assert_identical(unlabelled(back), unlabelled(ds))


def test_temperatures(tmp_path: Path) -> None:
    ds = sampled([1] * 4, temperature=[0, 1, 0, 1])
    assert headers(ds, tmp_path)[1] == "structure_4 sample=1 noise=0 temperature=1"
    assert read_fasta(tmp_path / "a.fasta").temperature.values.tolist() == [0, 1, 0, 1]
    one = ds.sel(temperature=1)
    assert headers(one, tmp_path, overwrite=True)[0].endswith(" temperature=1")


def test_labels_that_are_not_there(tmp_path: Path) -> None:
    index = RaggedIndex("protein", "letter", 3, {"structure": [2, 5], "size": [1, 2]}, "size")
    ds = xr.Dataset({"sequences": ("letter", [0, 1, 2])}, xr.Coordinates.from_xindex(index))
    assert written(ds, tmp_path) == ">structure_2\nA\n>structure_5\nCD\n"
    assert letters(ds).dims == ("protein",)
    assert read_fasta(tmp_path / "a.fasta").structure.values.tolist() == [2, 5]


def test_scores(tmp_path: Path) -> None:
    ds = sampled([2, 60, 0, 5]).chunk(residue=7)
    values = np.array([1.23456, np.nan, -0.5, 1e3], np.float32)
    score = xr.DataArray(values, dims="sequence")
    expected = [" score=1.2346", "", " score=-0.5000", " score=1000.0000"]
    labelled = ds.assign(score=score)["score"]
    for at, one in enumerate((score, score.chunk(sequence=3), labelled)):
        found = headers(ds, tmp_path, score=one, overwrite=at > 0)
        told = [header.partition(" score") for header in found]
        assert [before + after for _, before, after in told] == expected


def test_compressed_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"a\.fasta\.gz: is named as a compressed file"):
        write_fasta(sampled([3]), tmp_path / "a.fasta.gz")
    (tmp_path / "b.fasta.gz").write_bytes(gzip.compress(b">a\nMKV\n"))
    with pytest.raises((CorruptInput, LayoutError), match=r"b\.fasta\.gz: .*unpack a compressed"):
        h5dask.read_fasta(tmp_path / "b.fasta.gz")


def test_scores_of_others(tmp_path: Path) -> None:
    ds = sampled([1] * 4)
    score = xr.DataArray(np.arange(4.0), dims="sequence")
    for unlike in (score[:3], score.rename(sequence="x"), score.astype(str), score > 1):
        with pytest.raises(LayoutError, match=r"^score: found .*; expected numbers \{'sequence'"):
            write_fasta(ds, tmp_path / "a.fasta", score=unlike)
    turned = score.assign_coords(sample=("sequence", ds.sample.values[::-1]))
    with pytest.raises(Refused, match="score: found other sample than the sequences have"):
        write_fasta(ds, tmp_path / "a.fasta", score=turned)
    assert os.listdir(tmp_path) == []


def test_letters_of_the_dataset(tmp_path: Path) -> None:
    other = "ARNDCQEGHILKMFPSTWYV-"
    ds = sampled([50]).assign_coords(aa=list(other))
    expected = "".join(other[index] for index in ds.sequences.values)
    assert letters(ds).values.tolist() == [expected]
    assert written(ds, tmp_path).split("\n")[1] == expected
    for labels in (list("ACDEFG"), ["A"] * 20 + ["AB"], list("acdefghiklmnpqrstvwyx")):
        with pytest.raises(LayoutError, match=r"aa: found the labels .*; expected the letter of"):
            letters(ds.drop_vars("aa").assign_coords(aa=labels))
    assert ALPHABET == proteins.ALPHABET


@pytest.mark.parametrize(("dtype", "wrong"), [("int32", -1), ("uint8", 21), ("int64", 2**40)])
def test_an_index_without_a_letter(dtype: str, wrong: int, tmp_path: Path) -> None:
    ds = sampled([4, 0, 5, 3])
    ds = ds.assign(sequences=ds.sequences.astype(dtype))
    ds.sequences[4] = wrong
    told = (
        rf"^sequences: structure_7 sample=0 noise=0( temperature=0)?: found {wrong} at residue 0; "
        "expected 0 to 20"
    )
    for one in (ds, ds.chunk(residue=2)):
        with pytest.raises(LayoutError, match=told):
            write_fasta(one, tmp_path / "a.fasta")
        with pytest.raises(LayoutError, match=told):
            letters(one).compute()
    assert os.listdir(tmp_path) == []


def refused() -> list[tuple[xr.Dataset, type[H5daskError], str]]:
    ds = sampled([3, 4, 5, 6])
    one_dim = ds.drop_indexes(list(ds.xindexes)).drop_vars("row_size")
    bare = RaggedIndex("sequence", "residue", 18, {"row_size": [18]})
    return [
        (ds.isel(sequence=[0, 1]), Refused, r"no index that says which residue .* \(sel\)"),
        (ds.isel(residue=slice(9)), Refused, "sizes of sum 18, but residue has the length 9"),
        (one_dim, Refused, "no index that says which residue is whose; isel drops it"),
        (ds.rename(sequences="tokens"), LayoutError, "sequences: found tokens, structure"),
        (ds * 0.5, LayoutError, "found float64 .*; expected integers along one dim"),
        (ds.expand_dims("x"), LayoutError, "expected integers along one dim.*split padded ones"),
        (
            ds.drop_vars(list(ds.coords)).assign_coords(xr.Coordinates.from_xindex(bare)),
            LayoutError,
            r"sequence: found labels \['row_size'\]; expected 'structure'",
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(("ds", "error", "text"), refused())
def test_what_is_no_run_of_sequences(
    ds: xr.Dataset, error: type[H5daskError], text: str, tmp_path: Path, no_compute: None
) -> None:
    with pytest.raises(error, match=text):
        write_fasta(ds, tmp_path / "a.fasta")
    with pytest.raises(error, match=text):
        letters(ds)


def test_nothing_to_write(tmp_path: Path) -> None:
    none = sampled([3, 4]).sel(structure=[])
    with pytest.raises(Refused, match=r"sequences: found none; expected one or more"):
        write_fasta(none, tmp_path / "a.fasta")
    assert letters(none).shape == letters(none.chunk()).compute().shape == (0,)


def test_names_of_other_structures(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"names: found the keys \['4'\], none of .* such as \[4, 7"):
        write_fasta(sampled([1] * 4), tmp_path / "a.fasta", names={"4": "a"})  # type: ignore[dict-item]


def test_an_existing_target_is_seen_before_anything_is_computed(
    tmp_path: Path, no_compute: None
) -> None:
    ds = sampled([5]).chunk(residue=2)
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/h5dask-there.fasta", b">a\n")
    (tmp_path / "a.fasta").write_text(">a\n")
    for target in (tmp_path / "a.fasta", "memory://h5dask-there.fasta"):
        with pytest.raises(Conflict, match=r"\.fasta: exists already; choose another name"):
            write_fasta(ds, target)
    with pytest.raises(NotFound, match="found no folder"):
        write_fasta(ds, tmp_path / "x" / "a.fasta")
    assert (tmp_path / "a.fasta").read_text() == memory.cat_file("/h5dask-there.fasta").decode()


def test_what_fails_leaves_the_old_file(tmp_path: Path) -> None:
    ds = sampled([30] * 40).chunk(residue=30)
    assert ds.sequences.data.numblocks[0] > 2 * AT_ONCE

    def fail(block: Any) -> Any:
        raise RuntimeError("in a task")

    last = ds.sequences.data[-30:].map_blocks(fail, dtype=np.int32, meta=np.empty(0, np.int32))
    bad = ds.assign(sequences=("residue", da.concatenate([ds.sequences.data[:-30], last])))
    text = written(ds, tmp_path)
    with pytest.raises(RuntimeError, match="in a task"):
        write_fasta(bad, tmp_path / "a.fasta", overwrite=True)
    assert os.listdir(tmp_path) == ["a.fasta"]
    assert (tmp_path / "a.fasta").read_text() == text


# Blocks


def test_a_few_blocks_are_computed_at_once(tmp_path: Path) -> None:
    ds = sampled([10] * 100).chunk(residue=25)
    counts: list[int] = []

    def begun(graph: Any, state: Any) -> None:
        keys = (str(key[0]) for key in {*state["ready"], *state["waiting"]})
        counts.append(sum(key.startswith("fasta-") for key in keys))

    tally = Tally()
    with Callback(start_state=begun), counting(tally, "fasta-"):
        write_fasta(ds, tmp_path / "a.fasta")
    assert counts[:-1] == [AT_ONCE] * (len(counts) - 1)
    assert tally.counted == tally.n_counted == sum(counts)
    assert 30 < sum(counts) <= 40


@pytest.mark.parametrize(("task", "beside"), [(_formatted, 500), (_strings, 100)])
@pytest.mark.parametrize("size", [10, 200])
def test_memory_of_a_task(task: Callable[..., Any], beside: int, size: int) -> None:
    values = np.random.default_rng(0).integers(0, 21, 400_000).astype(np.int32)
    n = len(values) // size
    fields = {name: np.zeros(n, np.int64) for name in ("sample", "noise")}
    runs = np.empty(1, object)
    runs[0] = Run(sizes=np.full(n, size), names=[f"structure_{i}" for i in range(n)], labels=fields,
                  files=np.array(["a.h5"], object))  # fmt: skip
    tracemalloc.start()
    made = task(values, runs, alphabet=ALPHABET.encode())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(made) == (1 if beside == 500 else n)
    assert values.nbytes + peak < 2 * values.nbytes + beside * n


def test_strings_are_lazy(no_compute: None) -> None:
    ds = sampled([10] * 9, seed=1).chunk(residue=25).assign_coords(source=("sequence", ["f"] * 9))
    found = letters(ds)
    assert found.dtype == object
    assert found.chunks == ((3, 2, 3, 1),)
    assert found.name == "letters"
    assert isinstance(found.xindexes["sample"], Labels)
    assert set(found.coords) == {"structure", "sample", "noise", "temperature", "source"}
    assert letters(ds).data.name == found.data.name
    assert letters(sampled([10] * 9, seed=2).chunk(residue=25)).data.name != found.data.name


def test_strings_by_label() -> None:
    ds = sampled([3, 0, 70, 5]).chunk(residue=4)
    chosen = letters(ds).sel(structure=7, sample=0)
    assert chosen.values.tolist() == letters(ds.sel(structure=7, sample=0)).values.tolist()
    assert chosen.values.tolist() == [strings(ds)[2]]
    assert letters(ds.load()).chunks is None


def test_on_a_cluster(tmp_path: Path) -> None:
    ds = sampled([10, 0, 70, 5] * 5)
    text = written(ds, tmp_path)
    score = xr.DataArray(np.arange(20.0), dims="sequence").chunk(sequence=6)
    scored = written(ds, tmp_path, score=score, overwrite=True)
    with (
        dask.config.set(scheduler=None),
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as local,
        distributed.Client(local),
    ):
        lazy = ds.chunk(residue=11)
        assert written(lazy, tmp_path, overwrite=True) == text
        assert written(lazy, tmp_path, score=score, overwrite=True) == scored
        assert letters(lazy).compute().values.tolist() == strings(ds)


# Read


def read(text: str) -> xr.Dataset:
    return read_fasta(BytesIO(text.encode()))


def labels(ds: xr.Dataset) -> list[tuple[int, ...]]:
    names = ("structure", "sample", "noise", "temperature")
    return list(zip(*(ds[name].values.tolist() for name in names), strict=True))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([">a", ">b", ">a"], [(0, 0, 0, 0), (1, 0, 0, 0), (2, 0, 0, 0)]),
        ([">a sample=1", ">b sample=0", ">a sample=2"], [(0, 1, 0, 0), (1, 0, 0, 0), (0, 2, 0, 0)]),
        ([">a sample=1", ">b", ">a sample=2"], [(0, 0, 0, 0), (1, 0, 0, 0), (2, 0, 0, 0)]),
        ([">structure_9", ">structure_4"], [(9, 0, 0, 0), (4, 0, 0, 0)]),
        ([">structure_9", ">structure_04"], [(0, 0, 0, 0), (1, 0, 0, 0)]),
        ([">structure_9 structure=3"], [(3, 0, 0, 0)]),
        (
            [">5L33, score=1.17, sample=1, noise=2", ">5L33, T=0.1, temperature=3, sample=2"],
            [(0, 1, 0, 0), (0, 2, 0, 0)],
        ),
        ([">a temperature=0.1 global_sample=3 sample=x"], [(0, 0, 0, 0)]),
        ([f">a structure={2**40} sample=2147483647"], [(2**40, 2**31 - 1, 0, 0)]),
        ([f">a sample={10**30}"], [(0, 0, 0, 0)]),
    ],
)
def test_labels_from_headers(told: list[str], expected: list[tuple[int, ...]]) -> None:
    ds = read("\nMK\n".join(told))
    assert labels(ds) == expected
    assert ds.sample.dtype == ds.row_size.dtype == ds.sequences.dtype == np.int32


def test_names_from_headers() -> None:
    ds = read(">5L33, score=1.1\nMK\n>sp|P1|X_Y more\n\n>,\nV\n>structure_3\nV")
    assert ds.structure_id.values.tolist() == ["5L33", "sp|P1|X_Y", ",", "structure_3"]
    assert ds.row_size.values.tolist() == [2, 0, 1, 1]
    assert ds.sel(structure_id="5L33").sequences.values.tolist() == [10, 8]


def test_numbers_by_name(tmp_path: Path) -> None:
    ds = sampled([3, 2, 4])
    numbers = list(dict.fromkeys(ds.structure.values.tolist()))
    names = {number: f"a structure, {number}" for number in numbers}
    with pytest.warns(UserWarning, match="names: found .* with white space"):
        write_fasta(ds, tmp_path / "a.fasta", names=names)
    found = read_fasta(tmp_path / "a.fasta", names=names)
    assert labels(found) == labels(ds)
    assert "structure_id" not in found.coords
    native = ">5L33, chain A\nMK\n>structure_4\nV\n"
    found = read_fasta(BytesIO(native.encode()), names={17: "5L33", 5: "absent"})
    assert labels(found) == [(17, 0, 0, 0), (4, 0, 0, 0)]
    told = read_fasta(BytesIO(b">a structure=2\nMK\n"), names={17: "a"})
    assert told.structure.values.tolist() == [2]


def test_names_of_no_structure_or_several() -> None:
    told = r"names: found the record 'a' of 1 and 2, 'c' of none; expected each to be of one"
    with pytest.raises(Refused, match=told):
        read_fasta(BytesIO(b">a\nM\n>b\nM\n>c\nM\n"), names={1: "a", 2: "a", 3: "b"})


MPNN = """>5L33, score=1.17, global_score=1.17, designed_chains=['A'], seed=37
MKV
>T=0.1, sample=1, score=0.7291, global_score=0.7291, seq_recovery=0.5
MKL
>T=0.1, sample=2, score=0.7, global_score=0.7, seq_recovery=0.4
MKA
"""
"""What ProteinMPNN writes of one structure, its sequence shortened."""


def test_samples_below_their_structure(tmp_path: Path) -> None:
    ds = read(MPNN + MPNN.replace("5L33", "1O91"))
    assert ds.structure_id.values.tolist() == ["5L33"] * 3 + ["1O91"] * 3
    assert labels(ds) == [(at, sample, 0, 0) for at in (0, 1) for sample in (0, 1, 2)]
    assert letters(ds).sel(structure_id="1O91", sample=2).values.tolist() == ["MKA"]
    write_fasta(ds, tmp_path / "a.fasta")
    xr.testing.assert_identical(read_fasta(tmp_path / "a.fasta"), ds)


def test_a_native_sequence_that_tells_its_sample() -> None:
    ds = read(">a sample=7\nM\n>T=1, sample=1\nK\n>b\nV\n>T=1, sample=2\nL\n")
    assert labels(ds) == [(0, 7, 0, 0), (0, 1, 0, 0), (1, 0, 0, 0), (1, 2, 0, 0)]


def test_a_sample_of_no_structure(tmp_path: Path) -> None:
    for name, text in (("a.fa", MPNN), ("b.fa", MPNN[MPNN.index(">T") :])):
        (tmp_path / name).write_text(text)
    told = f"^{re.escape(str(tmp_path))}/b.fa: line 1: found the field 'T=0.1,' .* name the record"
    for paths in (tmp_path / "b.fa", tmp_path / "*.fa"):
        with pytest.raises(LayoutError, match=told):
            read_fasta(paths)


def test_letters_that_have_no_index(tmp_path: Path) -> None:
    text = ">a\nMKV\n>b\nBjOUzX\n>c\nM-K.V/A*\n>d\nU**\n"
    (tmp_path / "a.fa").write_text(text)
    where = re.escape(f"{tmp_path}/a.fa")
    told = (
        rf"6 became X \('B', 'J', 'O', 'U', 'Z'; first in {where}: line 3: 'b'\), 6 were left out "
        rf"\('\*', '-', '\.', '/'; first in {where}: line 5: 'c'\); expected those of ACD"
    )
    with pytest.warns(UserWarning, match=f"letters: found some that no .*: {told}") as warned:
        ds = read_fasta(tmp_path / "a.fa")
    assert len(warned) == 1
    assert letters(ds).values.tolist() == ["MKV", "XXXXXX", "MKVA", "X"]


def test_known_letters_are_read_without_a_word(recwarn: pytest.WarningsRecorder) -> None:
    assert read(f">a\n{ALPHABET}\n").sequences.values.tolist() == list(range(21))
    assert len(recwarn) == 0


def test_a_stop_within_a_sequence(tmp_path: Path) -> None:
    path = tmp_path / "a.fasta"
    path.write_text(">a\nMK*\n>b\nMK\n*V\n")
    told = f"^{re.escape(str(path))}: line 3: 'b': found '\\*' before the end of the sequence"
    with pytest.raises(CorruptInput, match=told):
        read_fasta(path)


def test_several_files(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.fa").write_text(f">{name}\nMK\n>{name}2\nV\n")
    ds = read_fasta(tmp_path / "*.fa")
    assert ds.structure_id.values.tolist() == ["a", "a2", "b", "b2"]
    assert labels(ds) == [(at, 0, 0, 0) for at in range(4)]


def test_a_store(tmp_path: Path) -> None:
    url = f"memory://h5dask-{tmp_path.name}/a.fasta"
    ds = sampled([70, 3])
    write_fasta(ds, url, storage_options={})
    xr.testing.assert_identical(unlabelled(read_fasta(url, storage_options={})), unlabelled(ds))
    with suppress(FileNotFoundError):
        fsspec.filesystem("memory").rm(f"/h5dask-{tmp_path.name}", recursive=True)
