"""The verbs of sequences and of files end to end: what they print, write and return."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import dask
import h5py
import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask.errors import CorruptInput, LayoutError, NotFound
from h5dask.fasta.names import read_names
from h5dask.results import open_any, write_result
from h5dask.testing import example_file
from tests.commands import call
from tests.files import proteins

PUBLISHED = ("proteinmpnn_published_1O91.h5", "proteinmpnn_published_two_models.h5")


@pytest.fixture
def two(small: Path) -> list[str]:
    return [str(small / "proteins" / name) for name in PUBLISHED]


@pytest.fixture
def named(tmp_path: Path) -> list[str]:
    """Two campaigns that both have structures of one name."""
    paths = [str(tmp_path / f"{name}.h5") for name in "ab"]
    for path in paths:
        with h5py.File(path, "w") as f:
            proteins.campaign_with_logits(f)
    return paths


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def same(one: xr.Dataset, other: xr.Dataset) -> None:
    """Compare values, and what says whose they are."""
    for name in ("sequences", "logits", "structure", "sample", "noise", "row_size"):
        np.testing.assert_array_equal(one[name].values, other[name].values)


# concat


def test_files_become_one(two: list[str], tmp_path: Path) -> None:
    out = tmp_path / "merged.h5"
    told = call("concat", *two, "-o", out, "--quiet")
    assert (told.exit_code, told.stdout) == (0, f"{out}\n"), told.stderr
    same(h5dask.open_dataset(out), h5dask.open_dataset(two))
    assert h5dask.validate(out, values=True) == ()
    again = call("concat", *two, "-o", out, "--quiet")
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_new_numbers_are_told(two: list[str], tmp_path: Path) -> None:
    told = call("concat", *two, "-o", tmp_path / "a.h5")
    assert f"{two[1]}: structures 0, 1 are 3, 4 now\n" in told.stderr
    assert f"{two[0]}: structure" not in told.stderr
    quiet = call("concat", *two, "-o", tmp_path / "b.h5", "--quiet")
    assert "now" not in quiet.stderr
    numbered = h5dask.renumber(h5dask.open_dataset(two[1]), {0: 7, 1: 9})
    h5dask.write_dataset(numbered, tmp_path / "c.h5")
    distinct = call("concat", two[0], tmp_path / "c.h5", "-o", tmp_path / "d.h5")
    assert distinct.exit_code == 0
    assert "now" not in distinct.stderr


def test_an_output_may_be_among_the_inputs(two: list[str], tmp_path: Path) -> None:
    expected = h5dask.open_dataset(two).load()
    kept = tmp_path / "kept.h5"
    shutil.copy(two[0], kept)
    told = call("concat", kept, two[1], "-o", kept, "--overwrite", "--quiet", "--json")
    assert told.exit_code == 0, told.stderr
    found = json.loads(told.stdout)
    assert found == {
        "files": [str(kept)],
        "sequences": expected.sizes["sequence"],
        "structures": len(set(expected.structure.values.tolist())),
        "bytes": kept.stat().st_size,
    }
    same(h5dask.open_dataset(kept), expected)


@pytest.mark.filterwarnings("ignore:.*named 2 times")
@pytest.mark.parametrize("layout", ["activations", "episodes"])
def test_other_layouts(layout: str, tmp_path: Path) -> None:
    path, out = example_file(layout), tmp_path / "both.h5"
    told = call("concat", path, path, "-o", out, "--quiet", "--json")
    assert told.exit_code == 0, told.stderr
    (rows,) = json.loads(told.stdout).keys() - {"files", "bytes"}
    dim = rows.removesuffix("s")
    n = h5dask.open_dataset(path).sizes[dim]
    assert json.loads(told.stdout)[rows] == h5dask.open_dataset(out).sizes[dim] == 2 * n


def test_shards(two: list[str], tmp_path: Path) -> None:
    told = call("concat", *two, "-o", tmp_path / "m.h5", "--structures", 2, "--quiet", "--json")
    assert told.exit_code == 0, told.stderr
    made = json.loads(told.stdout)["files"]
    assert [os.path.basename(path) for path in made] == [f"m-0000{at}.h5" for at in range(3)]
    same(h5dask.open_dataset(made), h5dask.open_dataset(two))
    told = call("concat", *two, "-o", tmp_path / "m.h5", "--shard-size", "1GB", "--quiet")
    assert told.exit_code == 2
    assert "m-00000.h5: exists already, one of 3 such files" in told.stderr
    more = ("--shard-size", "1GB", "--overwrite", "--quiet")
    assert call("concat", *two, "-o", tmp_path / "m.h5", *more).exit_code == 0
    assert names(tmp_path) == ["m-00000.h5"]


def test_zarr_in_even_chunks(two: list[str], tmp_path: Path) -> None:
    expected = h5dask.open_dataset(two)
    with dask.config.set({"h5dask.block-size": "3 kB"}):
        assert len(set(h5dask.open_dataset(two).chunks["residue"])) > 2
        told = call("concat", *two, "-o", tmp_path / "m.zarr", "--quiet")
    assert told.exit_code == 0, told.stderr
    same(open_any(str(tmp_path / "m.zarr")), expected)


def test_padded_zarr(two: list[str], tmp_path: Path) -> None:
    expected = h5dask.open_dataset(two)
    told = call("concat", *two, "-o", tmp_path / "m.zarr", "--pad", "--quiet", "--json")
    assert told.exit_code == 0, told.stderr
    found = open_any(str(tmp_path / "m.zarr")).load()
    same(h5dask.split(found), expected)
    on_disk = sum(path.stat().st_size for path in (tmp_path / "m.zarr").rglob("*"))
    assert 0 < json.loads(told.stdout)["bytes"] <= on_disk
    more = ("--pad", "--max-length", 10, "--quiet", "--overwrite")
    told = call("concat", *two, "-o", tmp_path / "m.zarr", *more)
    assert told.exit_code == 2
    assert f"{two[0]}, {two[1]}: --max-length: found 10" in told.stderr
    assert "or --truncate to cut off" in told.stderr
    told = call("concat", *two, "-o", tmp_path / "m.zarr", *more, "--truncate")
    assert told.exit_code == 0, told.stderr
    cut = open_any(str(tmp_path / "m.zarr"))
    assert cut.sizes["position"] == 10
    np.testing.assert_array_equal(cut.logits.values, found.logits.values[..., :10, :])


@pytest.mark.filterwarnings("ignore:.*named 2 times", "ignore:.*left out of the joined Dataset")
def test_duplicates(named: list[str], two: list[str], tmp_path: Path) -> None:
    out, refuse = tmp_path / "out.h5", ("--duplicates", "refuse", "--quiet")
    assert call("concat", *named, "-o", out, "--quiet").exit_code == 0
    assert len(set(h5dask.open_dataset(out).structure.values)) == 2 * len(
        set(h5dask.open_dataset(named[0]).structure.values)
    )
    os.unlink(out)
    told = call("concat", *named, "-o", out, *refuse)
    assert told.exit_code == 2
    assert "a.h5 and " in told.stderr
    told = call("concat", *two, two[0], "-o", out, *refuse)
    assert told.exit_code == 2
    assert "1O91.h5: found 2 times; expected once" in told.stderr
    assert not out.exists()
    assert call("concat", two[0], "-o", out, *refuse).exit_code == 0


@pytest.mark.filterwarnings("ignore:.*named 2 times")
def test_bad_inputs_are_one_line_and_leave_nothing(two: list[str], tmp_path: Path) -> None:
    cut, none = tmp_path / "cut.h5", tmp_path / "none.h5"
    cut.write_bytes(Path(two[0]).read_bytes()[:5000])
    with h5py.File(none, "w") as f:
        f.create_group("structure_meta")
    write_result(xr.Dataset({"mean": ("layer", [0.5])}), tmp_path / "mean.nc")
    for inputs, text in (
        ([two[0], cut], "cut.h5"),
        ([none], "none.h5: no layout is recognised"),
        ([tmp_path / "mean.nc"], "the Dataset has variables ['mean']: layouts that fit: none"),
        ([two[0], example_file("episodes")], "only files of one layout lie end to end"),
        ([example_file("ann")] * 2, "can't open as one"),
        ([tmp_path / "absent.h5"], "absent.h5: no such file"),
    ):
        told = call("concat", *inputs, "-o", tmp_path / "out.h5", "--quiet")
        assert told.exit_code == 2
        assert told.stderr.startswith("Error: ")
        assert text in told.stderr
        assert told.stderr.count("\n") == 1
    for more in ([], ["--structures", 1]):
        told = call("concat", *two, "-o", tmp_path / "x" / "out.h5", *more)
        assert told.exit_code == 2
        assert "found no folder" in told.stderr
    assert names(tmp_path) == ["cut.h5", "mean.nc", "none.h5"]


@pytest.mark.parametrize(
    ("out", "more", "text"),
    [
        ("a.h5", ["--pad"], "--pad: goes with an output in .zarr"),
        ("a.zarr", ["--truncate"], "--max-length, --truncate: go with --pad"),
        ("a.zarr", ["--structures", 1], "--structures, --shard-size: go with a file"),
        ("a.h5", ["--structures", 1, "--shard-size", "1GB"], "give one of the two"),
    ],
)
def test_options_that_do_not_go_together(
    out: str, more: list[object], text: str, two: list[str], tmp_path: Path
) -> None:
    told = call("concat", *two, "-o", tmp_path / out, *more)
    assert told.exit_code == 2
    assert text in told.stderr


def test_plans_compute_nothing(two: list[str], tmp_path: Path, no_compute: None) -> None:
    figures = ("--plan", "workers=3,cores=2,memory=8GB")
    for words in (
        ("concat", *two, "-o", tmp_path / "x.h5"),
        ("concat", *two, "-o", tmp_path / "x.zarr", "--pad"),
        ("fasta", *two),
        ("fasta", *two, "--no-score", "-o", tmp_path / "x.fasta"),
    ):
        told = call(*words, *figures)
        assert told.exit_code == 0, told.stderr
        assert "3 workers of 2 threads" in told.stdout
    assert names(tmp_path) == []


# fasta


def test_to_stdout_and_to_a_file(two: list[str], tmp_path: Path) -> None:
    told = call("fasta", *two, "--no-score", "--quiet")
    assert told.exit_code == 0, told.stderr
    out = tmp_path / "all.fasta"
    said = call("fasta", *two, "--no-score", "-o", out, "--quiet", "--json")
    assert out.read_text() == told.stdout
    ds = h5dask.open_dataset(two)
    n = ds.sizes["sequence"]
    assert json.loads(said.stdout) == {
        "files": [str(out)], "sequences": n, "structures": 5, "bytes": out.stat().st_size
    }  # fmt: skip
    back = h5dask.read_fasta(out)
    assert h5dask.letters(back).values.tolist() == h5dask.letters(ds).values.tolist()
    assert call("fasta", *two, "-o", out).exit_code == 2
    assert call("fasta", *two, "-o", out, "--overwrite", "--quiet").stdout == f"{out}\n"
    assert call("fasta", *two, "--json").exit_code == 2


def test_scores_are_mean_negative_log_probabilities(two: list[str]) -> None:
    told = call("fasta", two[0], "--structure", 1, "--structure", 0, "--quiet")
    ds = h5dask.open_dataset(two[0]).sel(structure=[0, 1]).compute()
    logits = ds.logits.values.astype("f8")
    p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    chosen = -p[np.arange(len(p)), ds.sequences.values]
    mean = [part.mean() for part in np.split(chosen, np.cumsum(ds.row_size.values)[:-1])]
    headers = [line for line in told.stdout.splitlines() if line.startswith(">")]
    assert [header.rpartition(" score=")[2] for header in headers] == [f"{x:.4f}" for x in mean]
    assert headers[0].startswith(">structure_0 sample=0 noise=0 ")


def test_sequences_without_logits(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as f:
        proteins.no_logits(f)
    assert " score=" not in call("fasta", tmp_path / "a.h5", "--quiet").stdout
    told = call("fasta", tmp_path / "a.h5", "--score")
    assert told.exit_code == 2
    assert "--score: found no logits" in told.stderr


@pytest.mark.filterwarnings("ignore:names. found 1 with white space")
def test_names_of_structures(two: list[str], tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("0\tfirst\n2,third chain\n")
    told = call("fasta", two[0], "--names", tmp_path / "names.txt", "--no-score", "--quiet")
    firsts = [line.split()[0] for line in told.stdout.splitlines() if line.startswith(">")]
    assert list(dict.fromkeys(firsts)) == [">first", ">structure_1", ">third_chain"]


def test_what_cannot_be_spelled_is_one_line(two: list[str], tmp_path: Path) -> None:
    told = call("fasta", two[0], "--structure", 99, "--structure", 1)
    assert told.exit_code == 2
    expected = "--structure: no 99; expected any of 3, numbered from 0 to 2"
    assert told.stderr == f"Error: {two[0]}: {expected}\n"
    told = call("fasta", example_file("episodes"), "-o", tmp_path / "a.fasta")
    assert told.exit_code == 2
    assert "sequences: found " in told.stderr
    told = call("fasta", two[0], "-o", tmp_path / "x" / "a.fasta")
    assert told.exit_code == 2
    assert "found no folder" in told.stderr
    assert names(tmp_path) == []


@pytest.fixture
def doubtful(tmp_path: Path) -> str:
    """A file of a structure with NaN among its logits, and an index that is no amino acid."""
    path = tmp_path / "doubtful.h5"
    shutil.copy(example_file("proteins"), path)
    with h5py.File(path, "a") as file:
        file["structure_3/logits"][1, 0, 2, 5] = np.nan
    return str(path)


@pytest.mark.filterwarnings("default:(logits|sequences). found:UserWarning")
def test_residues_without_probabilities_are_told(doubtful: str, tmp_path: Path) -> None:
    told = call("profile", doubtful, "--json", "--quiet")
    assert told.exit_code == 0
    expected = rf"found 1 residues without .*, in 1 sequences of structure 3 of {doubtful}; the"
    assert len(re.findall(expected, told.stderr)) == 1
    assert [one["n_bad"] for one in json.loads(told.stdout)["profiles"]] == [1, 0, 0, 0]


@pytest.mark.filterwarnings("default:(logits|sequences). found:UserWarning")
def test_indices_that_are_no_amino_acids_are_told(doubtful: str, tmp_path: Path) -> None:
    with h5py.File(doubtful, "a") as file:
        file["structure_7/sequences"][0, 0, 0] = 21
    told = call("concat", doubtful, "-o", tmp_path / "out.h5", "--quiet")
    assert told.exit_code == 0
    assert (
        f"1 indices that stand for no amino acid, in 1 sequences of structure 7 of {doubtful}"
        in (told.stderr)
    )
    told = call("fasta", doubtful, "--no-score", "-o", tmp_path / "a.fasta", "--quiet")
    assert told.exit_code == 2
    assert f"Error: {doubtful}: structure_7 sample=0 noise=0: found 21 at residue 0" in told.stderr


def test_errors_tell_what_was_typed(two: list[str], tmp_path: Path) -> None:
    for name, text in {
        "names": "99\tx\n",
        "shares": '{"A": 1}',
        "natives": ">structure_0\nMK\n",
    }.items():
        (tmp_path / name).write_text(text)
    for verb, option, name in (
        ("fasta", "--names", "names"),
        ("profile", "--background", "shares"),
        ("profile", "--reference", "natives"),
    ):
        told = call(verb, two[0], option, tmp_path / name, "--quiet")
        assert told.exit_code == 2
        assert f"Error: {option} {tmp_path / name}: found " in told.stderr


# Names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0\ta\n\n17\tb c\n", {0: "a", 17: "b c"}),
        ("0,a\r\n1, b\r\n2 c\r\n3 , d,e", {0: "a", 1: "b", 2: "c", 3: "d,e"}),
        ("\ufeff5 1O91 chain A", {5: "1O91 chain A"}),
        ('{"0": "a", "17": " b "}', {0: "a", 17: "b"}),
    ],
)
def test_names_by_number(text: str, expected: dict[int, str], tmp_path: Path) -> None:
    (tmp_path / "names").write_text(text, newline="")
    assert read_names(str(tmp_path / "names")) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0 a\nx b\n3\n4 d\n", r"names: line 2: found 'x b'; .*; line 3: found '3'; .*<tab>"),
        ("0 a\n0 b\n", "line 2: found '0' again, as in line 1; write each"),
        ("a\nb\nc\nd\ne\nf\ng\n", r"line 5: found 'e'; .*; and 2 more; write"),
        (
            '{"a": "b", "1": 2, "3": "", "4": "x", "4": "y"}',
            "member 1: .*member 2: .*member 3: .*5",
        ),
        ("{\n0: 1}", r"names: line 2: found no JSON \(.*\); expected an object of names by number"),
        ("", "names: found no names; expected one or more"),
        ("{}", "names: found no names; expected one or more"),
    ],
)
def test_bad_names_are_told_at_once(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "names").write_text(text)
    with pytest.raises(LayoutError, match=told):
        read_names(str(tmp_path / "names"))


def test_names_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "names").write_bytes(b"0 a\n1 \xff\n")
    with pytest.raises(CorruptInput, match=r"names: found b'\\xff' at byte 6; expected text"):
        read_names(str(tmp_path / "names"))
    with pytest.raises(NotFound, match=r"absent: no such file"):
        read_names(str(tmp_path / "absent"))


# profile


def test_a_line_a_structure_and_level(two: list[str]) -> None:
    told = call("profile", two[1], "--quiet", "--json")
    rows = json.loads(told.stdout)["profiles"]
    found = h5dask.profile(h5dask.open_dataset(two[1])).compute()
    assert [(row["structure"], row["noise"]) for row in rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for row in rows:
        mine = found.of_structure.values == row["structure"]
        mine &= found.of_noise.values == row["noise"]
        assert row["score"] == pytest.approx(found.score.values[mine].mean(), rel=1e-12)
        part = found.sel(structure=row["structure"], noise=row["noise"])
        assert row["entropy"] == pytest.approx(float(part.entropy.mean()), rel=1e-12)
        assert (row["length"], row["samples"]) == (part.sizes["position"], mine.sum())
    shown = call("profile", two[1], "--quiet").stdout
    assert "perplexity" in shown
    assert "recovery" not in shown


def test_what_is_kept_of_profiles(two: list[str], tmp_path: Path) -> None:
    for name in ("a.nc", "a.zarr"):
        told = call("profile", two[0], "-o", tmp_path / name, "--quiet")
        assert (told.exit_code, told.stdout) == (0, f"{tmp_path / name}\n"), told.stderr
        kept = open_any(str(tmp_path / name))
        made = h5dask.profile(h5dask.open_dataset(two[0]))
        np.testing.assert_array_equal(kept.pssm.values, made.pssm.values)
        np.testing.assert_array_equal(kept["rank"].values, made["rank"].values)


def test_natives_and_shares_that_a_file_tells(two: list[str], tmp_path: Path) -> None:
    ds = h5dask.open_dataset(two[0])
    h5dask.write_fasta(ds.sel(noise=0), tmp_path / "native.fa")
    shares = {letter: 1 + i for i, letter in enumerate("ACDEFGHIKLMNPQRSTVWY")}
    (tmp_path / "shares.json").write_text(json.dumps(shares))
    told = call(
        *("profile", two[0], "--quiet", "--json", "-o", tmp_path / "a.nc"),
        *("--reference", tmp_path / "native.fa", "--background", tmp_path / "shares.json"),
    )
    rows = json.loads(told.stdout)["profiles"]
    assert [row["recovery"] for row in rows if row["noise"] == 0] == [1, 1, 1]
    expected = h5dask.profile(ds, background=shares).log_odds.values
    np.testing.assert_array_equal(open_any(str(tmp_path / "a.nc")).log_odds.values, expected)
    again = call("profile", two[0], "--quiet", "--json", "--reference", two[0])
    assert again.exit_code == 2
    assert "reference" in again.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "can't be read (No such file or directory); check the path"),
        ("{", "is no JSON"),
        ("[1]", "found list; expected letters and their shares"),
        ('{"A": -1}', "background"),
    ],
)
def test_shares_that_are_none(text: str | None, told: str, two: list[str], tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "shares.json").write_text(text)
    found = call("profile", two[0], "--quiet", "--background", tmp_path / "shares.json")
    assert found.exit_code == 2
    assert told in found.stderr


def test_what_profiling_would_take(two: list[str]) -> None:
    told = call("profile", two[0], "--plan")
    assert told.exit_code == 0
    assert "profile" in told.stdout
