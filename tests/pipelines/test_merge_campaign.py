"""The pipeline of a campaign, called as its command is, on files that come over days."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import h5dask
from h5dask.config import example
from h5dask.jobs import Job
from h5dask.storage import ranges
from pipelines import merge_campaign
from pipelines.merge_campaign import Config, main, settled
from tests.files.proteins import VARIANTS

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*left out of the joined Dataset:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*unknown attribute:UserWarning"),
    pytest.mark.filterwarnings("ignore:schema_version. found:UserWarning"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a landing folder of two files."""
    (tmp_path / "landing").mkdir()
    put(tmp_path, "a", "newer_grid")
    put(tmp_path, "b", "campaign_with_logits")
    return tmp_path


def put(folder: Path, name: str, variant: str) -> Path:
    path = folder / "landing" / f"{name}.h5"
    VARIANTS[variant].write(path)
    return path


def run(folder: Path, *options: str, **given: Any) -> int:
    keys = {"landing": "landing", "output": "out", "settle": 0.0, **given}
    text = "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
    (folder / "merge.toml").write_text(text)
    return main([str(folder / "merge.toml"), "--quiet", *options])


def opened(folder: Path) -> xr.Dataset:
    assert not [one for one in h5dask.validate(folder / "out/merged.h5") if one.level == "problem"]
    return h5dask.open_dataset(folder / "out/merged.h5").compute()


def parts(path: Path) -> dict[int, np.ndarray]:
    """Return the sequences of each structure of a file, by its number."""
    with h5py.File(path) as file:
        groups = [one for name, one in file.items() if name.startswith("structure_")]
        return {int(one.attrs["structure_index"]): one["sequences"][:].ravel() for one in groups}


def check_merged(folder: Path, names: list[str]) -> xr.Dataset:
    """Compare the merged file with the landing ones, structure by structure."""
    ds = opened(folder)
    table = pd.read_csv(folder / "out/merged.csv", keep_default_na=False)
    assert sorted(table.structure) == sorted(set(ds.structure.values.tolist()))
    expected = {
        (str(folder / "landing" / f"{name}.h5"), number): values
        for name in names
        for number, values in parts(folder / "landing" / f"{name}.h5").items()
    }
    assert {(row.source, row.source_structure) for row in table.itertuples()} == set(expected)
    for row in table.itertuples():
        found = ds.sel(structure=row.structure)
        np.testing.assert_array_equal(found.sequences, expected[row.source, row.source_structure])
        if row.structure_id:
            assert set(found.structure_id.values) == {row.structure_id}
    return ds


def check(folder: Path, names: list[str]) -> None:
    """Compare all that is made with the landing files."""
    ds = check_merged(folder, names)
    padded = xr.open_zarr(folder / "out/padded.zarr", consolidated=False)
    xr.testing.assert_equal(h5dask.split(padded).sequences.compute(), ds.sequences)
    profiles = xr.open_zarr(folder / "out/profiles.zarr", consolidated=False)
    assert profiles.sizes["sequence"] == ds.sizes["sequence"]
    fasta = h5dask.read_fasta(folder / "out/sequences.fasta")
    np.testing.assert_array_equal(fasta.sequences, ds.sequences)
    assert (folder / "out/report.html").stat().st_size > 1000


def test_all_that_is_made(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder) == 0
    told = [Path(line).name for line in capsys.readouterr().out.split()]
    assert told == [
        "a.json", "b.json", "merged.csv", "merged.h5", "padded.zarr", "profiles.zarr",
        "sequences.fasta", "report.html",
    ]  # fmt: skip
    check(folder, ["a", "b"])


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of files of which bytes are read."""
    names: set[str] = set()
    real = ranges.LocalFile._read

    def noted(self: Any, offset: int, parts: Any, wanted: int) -> int:
        names.add(Path(self.url).name)
        return real(self, offset, parts, wanted)

    monkeypatch.setattr(ranges.LocalFile, "_read", noted)
    return names


def test_only_new_files_are_read(folder: Path, read: set[str]) -> None:
    assert run(folder) == 0
    assert read >= {"a.h5", "b.h5"}
    read.clear()
    assert run(folder) == 0
    assert not any(name.endswith(".h5") for name in read)
    put(folder, "c", "campaign")
    assert run(folder) == 0
    assert "c.h5" in read
    assert not {"a.h5", "b.h5"} & read
    check(folder, ["a", "b", "c"])
    put(folder, "0", "averaged_rank_three")  # it comes first by name, and last by time
    assert run(folder) == 0
    check(folder, ["0", "a", "b", "c"])


def test_a_file_that_changed_makes_all_anew(folder: Path) -> None:
    assert run(folder) == 0
    put(folder, "a", "newer_sampling")
    assert run(folder) == 0
    check(folder, ["a", "b"])


def test_a_bad_file_is_set_aside(folder: Path) -> None:
    put(folder, "c", "index_out_of_range")
    (folder / "landing/d.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(90))
    assert run(folder) == 1
    check(folder, ["a", "b"])
    summary = json.loads((folder / "out/checked/h5dask.run.json").read_text())
    why = {Path(one["input"]).name: one["why"] for one in summary["inputs"]}
    assert "sequences" in why["c.h5"]
    assert why["d.h5"].startswith(str(folder / "landing/d.h5"))
    put(folder, "c", "no_logits")
    (folder / "landing/d.h5").unlink()
    assert run(folder) == 0
    check(folder, ["a", "b", "c"])


def test_files_that_may_still_be_written(folder: Path) -> None:
    landing = folder / "landing"
    put(folder, "c", "no_logits")
    put(folder, "x.partial.3", "no_logits")
    names = ["a.h5", "b.h5", "c.h5"]
    for name in names:
        os.utime(landing / name, (1, 1))
    (landing / "b.h5.lock").touch()
    os.utime(landing / "c.h5")
    whole, waiting = settled(str(landing), 300)
    assert [Path(one).name for one in whole] == ["a.h5"]
    assert [Path(one).name for one in waiting] == ["b.h5", "c.h5"]
    (landing / "c.done.json").write_text("{}")
    (landing / "b.h5.done.json").write_text("{}")
    whole, waiting = settled(str(landing / "*.h5"), 300)
    assert [Path(one).name for one in whole] == names
    assert not waiting


def test_nothing_to_do_yet(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ([], ["--plan"]):
        assert run(folder, *options, settle=1e9) == 0
        assert capsys.readouterr().out == ""


def test_a_folder_without_files_is_nothing_to_do(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (folder / "landing").iterdir():
        path.unlink()
    assert run(folder) == 0
    for options in ([], ["--plan"]):
        assert main([str(folder / "merge.toml"), *options]) == 0
        told = capsys.readouterr().err
        assert told == f"nothing to do: no file in {folder / 'landing'}\n"


def test_structures_that_come_twice(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, duplicates="refuse") == 2
    assert "structure_id '1ABC_A': found in" in capsys.readouterr().err
    assert not (folder / "out/merged.h5").exists()
    (folder / "landing/b.h5").unlink()
    assert run(folder, duplicates="refuse") == 0
    put(folder, "c", "no_logits")
    assert run(folder, duplicates="refuse") == 2
    check(folder, ["a"])


def test_recovery_of_natives(folder: Path) -> None:
    (folder / "landing/b.h5").unlink()
    ds = h5dask.open_dataset(folder / "landing/a.h5").sel(sample=0, noise=0, temperature=0)
    h5dask.write_fasta(ds, folder / "natives.fasta")
    assert run(folder, reference="natives.fasta") == 0
    profiles = xr.open_zarr(folder / "out/profiles.zarr", consolidated=False)
    native = (profiles["sample"] == 0) & (profiles.of_noise == 0)
    assert profiles.recovery.max() == 1
    assert native.any()
    assert "Recovery of the consensus" in (folder / "out/report.html").read_text(encoding="utf-8")


def test_a_reference_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, reference="nowhere.fasta") == 2
    assert "nowhere.fasta" in capsys.readouterr().err
    assert not (folder / "out").exists()


@pytest.fixture
def merging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the steps behind the merged file make next to nothing: other tests look at these."""

    def arrays(job: Job) -> None:
        job.write_result(xr.Dataset({"one": ("row", [1])}))

    def text(job: Job) -> None:
        Path(job.part()).write_text("one", encoding="utf-8")

    made = {"padded": arrays, "profiled": arrays, "spelled": text, "drawn": text}
    for name, step in made.items():
        monkeypatch.setattr(merge_campaign, name, step)


def numbers(folder: Path) -> dict[tuple[str, int], int]:
    """Return the number of each structure, by its file's name and its number there."""
    table = pd.read_csv(folder / "out/merged.csv", keep_default_na=False)
    return {(Path(t.source).stem, t.source_structure): t.structure for t in table.itertuples()}


@pytest.mark.usefixtures("merging")
def test_numbers_stay_whatever_comes(folder: Path) -> None:
    assert run(folder) == 0
    first = numbers(folder)
    put(folder, "0", "first_generation")  # alike numbered, first by name
    assert run(folder) == 0
    second = numbers(folder)
    assert second.items() >= first.items()
    os.utime(folder / "landing/a.h5", ns=(1, 1))
    assert run(folder) == 0
    assert numbers(folder) == second
    check_merged(folder, ["0", "a", "b"])
    assert run(folder, "--force") == 0
    assert numbers(folder) == second
    put(folder, "a", "many_structures")  # another file of the same name
    assert run(folder) == 0
    third = numbers(folder)
    assert {key: n for key, n in third.items() if key in second}.items() <= second.items()
    assert len(set(third.values())) == len(third)
    check_merged(folder, ["0", "a", "b"])


@pytest.mark.usefixtures("merging")
@pytest.mark.parametrize("vanished", ["keep", "remove"])
def test_structures_of_files_that_vanish(vanished: str, folder: Path) -> None:
    def again(*options: str) -> dict[tuple[str, int], int]:
        text = 'landing = "landing"\noutput = "out"\nsettle = 0.0\n[policy]\n'
        text += f'vanished = "{vanished}"\n'
        (folder / "merge.toml").write_text(text)
        assert main([str(folder / "merge.toml"), "--quiet", *options]) == 0
        return numbers(folder)

    whole = again()
    kept = opened(folder)
    (folder / "landing/a.h5").unlink()
    left = {key: number for key, number in whole.items() if key[0] == "b"}
    assert again() == (whole if vanished == "keep" else left)
    put(folder, "c", "no_logits")
    put(folder, "b", "campaign_with_logits")
    for options in ([], ["--force"]):
        after = again(*options)
        assert after.items() >= (whole if vanished == "keep" else left).items()
        assert {name for name, _ in after} == {"b", "c"} | ({"a"} if vanished == "keep" else set())
        if vanished == "keep":
            number = whole["a", next(n for name, n in whole if name == "a")]
            xr.testing.assert_equal(
                opened(folder).sel(structure=number).sequences, kept.sel(structure=number).sequences
            )


def test_named_and_nameless_structures_that_come_twice(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(folder, "c", "first_generation")  # whose structures have no names
    assert run(folder, duplicates="refuse") == 2
    assert "structure_id '1ABC_A': found in" in capsys.readouterr().err


def test_what_it_would_cost(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--plan") == 0
    assert "profile" in capsys.readouterr().out
    assert not (folder / "out").exists()


def test_the_config_beside_it_has_all_keys() -> None:
    written = Path(merge_campaign.__file__).with_suffix(".toml")
    assert written.read_text(encoding="utf-8") == example(Config)
