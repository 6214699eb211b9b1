"""The main job: what it makes, what it finds, and that nothing of it stays."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
import pytest

import h5dask
from h5dask import demo, layouts
from h5dask.layout import Problem
from h5dask.progress import silent
from tests.architecture import ROOT
from tests.commands import COMMAND, call
from tests.files import LAYOUTS
from tests.files.same import differences

REAL = sorted(demo.FILES.glob("*/*.h*5"))

FIFTH = """
import numpy as np
import xarray as xr

from h5dask.layout import ArraySpec, Layout


def example(rng):
    return xr.Dataset({"x": ("row", rng.integers(0, 9, 500).astype("i1"))})


LAYOUT = Layout(
    name="fifth",
    title="one array",
    arrays=(ArraySpec(name="x", paths=("x",), dims=("row",), dtypes=("int8",)),),
    marks=("x",),
    along="row",
    example=example,
)
"""

UNGUARDED = """
from h5dask.cli import main

main({args!r})
"""


def environment(folder: Path) -> dict[str, str]:
    """Return where a package with a fifth layout is installed and the temporary folder is empty."""
    package, temporary = folder / "site", folder / "tmp"
    (package / "fifth-1.0.dist-info").mkdir(parents=True)
    temporary.mkdir()
    (package / "fifth_layout.py").write_text(FIFTH)
    (package / "fifth-1.0.dist-info/METADATA").write_text("Name: fifth\nVersion: 1.0\n")
    declared = "[h5dask.layouts]\nfifth = fifth_layout:LAYOUT\n"
    (package / "fifth-1.0.dist-info/entry_points.txt").write_text(declared)
    paths = os.pathsep.join([str(ROOT), str(package)])
    return {**os.environ, "PYTHONPATH": paths, "TMPDIR": str(temporary)}


def left_over(pids: Iterable[int]) -> list[int]:
    """Return those processes that don't end; a zombie is over, and its parent's business."""

    def runs(pid: int) -> bool:
        try:
            return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    left = list(pids)
    for _ in range(100):  # what watches over others ends a moment after them
        left = [pid for pid in left if runs(pid)]
        if not left:
            break
        time.sleep(0.1)
    return left


def rows_in(path: Path) -> int:
    """Count the rows of a file as its layout's files grow."""
    with h5py.File(path) as f:
        if "train" in f:
            return len(f["train"])
        if "embeddings" in f:
            return len(f["embeddings"])
        if "x" in f:
            return len(f["x"])
        sizes: list[int] = []

        def add(name: str, item: Any) -> None:
            if name.endswith("/logits"):
                width = item.shape[-1] if item.ndim == 2 else item.shape[-1] * item.shape[-2]
                sizes.append(item.size // width)

        f.visititems(add)
        return sum(sizes)


def test_the_main_job(tmp_path: Path) -> None:
    args = ["demo", "--scale", "600kB", "--workers", "2", "--json", "--keep", str(tmp_path / "out")]
    (tmp_path / "script.py").write_text(UNGUARDED.format(args=args))
    told = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert "\nDashboard: http://127.0.0.1:" in told.stderr
    assert os.listdir(tmp_path / "tmp") == []
    stages = {stage["file"]: stage for stage in json.loads(told.stdout)["files"]}
    generated = {f"{name}_generated.h5" for name in (*LAYOUTS, "fifth")}
    generated -= {"episodes_generated.h5"}  # two copies of the real one are beyond the scale
    assert stages.keys() == {*generated, *(path.name for path in REAL), "fifth.h5"}
    for name, stage in stages.items():
        source = next(
            iter([*demo.FILES.rglob(name), *(tmp_path / "out/generated").glob(name)]), None
        )
        written = tmp_path / "out/written" / name
        assert stage["problems"] == []
        assert stage["nbytes_out"] == written.stat().st_size
        assert stage["rows"] == rows_in(written)
        has_vectors = stage["layout"] in ("activations", "ann", "episodes")
        assert stage["searched"] == (min(100, stage["rows"] // 2) if has_vectors else 0)
        fasta = written.with_suffix(".fasta")
        n_records = fasta.read_text().count(">") if fasta.exists() else 0
        assert stage["profiled"] == (stage["rows"] if stage["layout"] == "proteins" else 0)
        assert n_records == stage["profiled"]
        if source is not None:
            assert stage["layout"] in (source.parent.name, name.removesuffix("_generated.h5"))
            assert stage["nbytes_in"] == source.stat().st_size
            assert differences(source, written) == []


@pytest.mark.parametrize(
    # tests/test_workers.py sends both in every run.
    "sent",
    [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)],
)
def test_the_main_job_ends_when_told(sent: signal.Signals, tmp_path: Path) -> None:
    job = subprocess.Popen(
        [*COMMAND, "demo", "--scale", "1", "--workers", "2"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with job:
        assert job.stderr is not None
        assert any(line.startswith("activations: ") for line in job.stderr)
        pids = [child.pid for child in psutil.Process(job.pid).children(recursive=True)]
        os.killpg(job.pid, sent) if sent == signal.SIGINT else job.send_signal(sent)
        result, rest = job.communicate(timeout=60)
    assert job.returncode == 128 + sent
    assert pids
    assert result == ""
    progress = re.compile(r"[\w ]+ \S+: [\d,.]+ [kMG]?B .*|.* problems in .*|")
    told = [line for line in rest.splitlines() if not progress.fullmatch(line)]
    assert told == (["Interrupted"] if sent == signal.SIGINT else [])
    assert left_over(pids) == []
    assert os.listdir(tmp_path / "tmp") == []


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_generated_files_are_valid(layout: str, tmp_path: Path) -> None:
    paths = [path for path in REAL if path.parent.name == layout]
    *found, generated = demo._inputs(layouts.get(layout), paths, tmp_path, 2_000_000)
    assert found == paths
    assert max(path.stat().st_size for path in paths) < generated.stat().st_size <= 2_100_000
    assert h5dask.validate(generated, values=True) == ()


def test_generated_neighbors_are_true(tmp_path: Path) -> None:
    paths = [path for path in REAL if path.parent.name == "ann"]
    *_, generated = demo._inputs(layouts.get("ann"), paths, tmp_path, 300_000)
    with h5py.File(generated) as f:
        train, test = (f[name][:].astype("f8") for name in ("train", "test"))
        assert len(train) > 2000
        distances = np.sqrt(((test[:, None] - train) ** 2).sum(-1))
        nearest = np.sort(distances, axis=1)[:, : f["neighbors"].shape[1]]
        assert np.allclose(nearest, f["distances"][:], rtol=1e-5)
        assert np.allclose(np.take_along_axis(distances, f["neighbors"][:], 1), nearest)


def test_generated_files_stay_within_limits(tmp_path: Path) -> None:
    def limits(sizes: Any, nbytes: int) -> list[Problem]:
        said = Problem(where="a.h5", found="many", expected="few")
        return [said] if sizes["episode"] > 1000 else []

    layout = replace(layouts.get("episodes"), limits=limits)
    paths = [path for path in REAL if path.parent.name == "episodes"]
    *_, generated = demo._inputs(layout, paths, tmp_path, 5_000_000)
    assert h5dask.open_dataset(generated).sizes["episode"] == 900


def test_nothing_is_generated_below_the_scale(tmp_path: Path) -> None:
    for layout in LAYOUTS:
        paths = [path for path in REAL if path.parent.name == layout]
        assert list(demo._inputs(layouts.get(layout), paths, tmp_path, 1000)) == paths


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda ds: {"ds": ds.assign(embeddings=ds.embeddings + 1)}, "embeddings_mean is"),
        (lambda ds: {"ds": ds, "compression": "gzip"}, "has another form than"),
    ],
)
def test_what_differs_is_told(
    change: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = h5dask.write_dataset
    monkeypatch.setattr(
        demo, "write_dataset", lambda ds, target: write(urlpath=target, **change(ds))
    )
    (path,) = (path for path in REAL if path.parent.name == "episodes")
    stage = demo._stage(layouts.get("episodes"), path, tmp_path, silent())
    assert any(said in problem for problem in stage.problems)


def test_wrong_neighbors_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(*args: Any, **options: Any) -> Any:
        made = truth(*args, **options)
        return made.assign(neighbors=(made.neighbors + 1) % made.sizes["vector"])

    truth = h5dask.ground_truth
    path = next(path for path in REAL if path.parent.name == "episodes")
    layout, ds = layouts.get("episodes"), h5dask.open_dataset(path)
    assert demo._searched(layout, ds) == (100, [])
    monkeypatch.setattr(demo, "ground_truth", shifted)
    n, (told,) = demo._searched(layout, ds)
    assert n == 100
    assert told.startswith("100 of 100 queries wrong: ")


PROTEINS = next(path for path in REAL if path.parent.name == "proteins")


def test_wrong_profiles_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(ds: Any) -> Any:
        made = profile(ds)
        return made.assign(frequency=made.frequency.roll(aa=1))

    profile, ds = h5dask.profile, h5dask.open_dataset(PROTEINS)
    assert demo._profiled(ds, tmp_path / "a.fasta") == (ds.sizes["sequence"], [])
    monkeypatch.setattr(demo, "profile", shifted)
    _, (told,) = demo._profiled(ds, tmp_path / "b.fasta")
    assert told.startswith("profiles count amino acids as array(")


def test_wrong_records_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(ds: Any, target: Path, **options: Any) -> None:
        write(ds.assign(sequences=(ds.sequences + 1) % 21), target, **options)

    write, target = h5dask.write_fasta, tmp_path / "a.fasta"
    monkeypatch.setattr(demo, "write_fasta", shifted)
    _, wrong = demo._profiled(h5dask.open_dataset(PROTEINS), target)
    assert wrong == [f"{target} holds other sequences"]


STAGE = demo.Stage(
    file="a.h5",
    layout="ann",
    rows=1234,
    nbytes_in=1_500_000,
    nbytes_out=2_500_000,
    bad=3,
    searched=1000,
    profiled=40,
    problems=("a.h5: is wrong",),
    seconds=0.25,
)


def test_problems_are_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "run", lambda **options: (STAGE, STAGE))
    told = call("demo")
    rows = [line.split() for line in told.stdout.splitlines() if line.strip()]
    assert told.exit_code == 1
    names = ["file", "layout", "rows", "MB", "in", "MB", "out", "bad", "values", "searched"]
    assert rows[0] == [*names, "profiled", "problems", "seconds"]
    assert ["a.h5", "ann", "1,234", "1.50", "2.50", "3", "1,000", "40", "1", "0.2"] in rows
    assert ["2", "files", "3.00", "5.00", "6", "2,000", "80", "2", "0.5"] in rows
    assert rows[-1] == ["a.h5:", "is", "wrong"]


def test_nothing_is_put_into_a_full_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    told = call("demo", "--keep", tmp_path)
    assert told.exit_code == 2
    assert f"Error: {tmp_path}: is not empty, holds 'mine'; name a new folder" in told.stderr
    told = call("demo", "--keep", tmp_path / "mine" / "inside")
    assert told.exit_code == 2
    assert "name another folder" in told.stderr


def test_packed_files_are_the_tests_own() -> None:
    for path in REAL:
        assert (
            path.read_bytes() == (ROOT / "tests/real" / path.parent.name / path.name).read_bytes()
        )
        assert f"`{path.parent.name}/`" in (demo.FILES / "README.md").read_text("utf-8")
    assert {path.parent.name for path in REAL} == set(LAYOUTS)
