"""Runs that are skipped, gone on with, refused, and recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask
import h5py
import pytest

import h5dask
from h5dask.errors import AccessDenied, Conflict, CorruptInput, InputChanged, NotFound, Refused
from h5dask.jobs import Job, Policy, record, run
from h5dask.jobs.outputs import outputs_at
from h5dask.testing import example, example_file
from tests.files.same import differences


def copied(job: Job) -> None:
    """Write the inputs end to end."""
    job.write(h5dask.open_dataset(job.urls))
    job.counts["inputs"] += len(job.inputs)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An input of its own, that a test may change."""
    path = tmp_path / "in" / "a.h5"
    path.parent.mkdir()
    h5dask.write_dataset(example("episodes"), path)
    return path


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A target in an empty folder."""
    path = tmp_path / "out" / "b.h5"
    path.parent.mkdir()
    return path


def test_an_output_is_made_once(source: Path, output: Path) -> None:
    first = run(copied, source, output)
    assert first.what == "done"
    assert differences(source, output) == []
    assert sorted(os.listdir(output.parent)) == ["b.h5", "b.h5.run.json"]
    stat = output.stat()
    second = run(copied, source, output)
    assert (second.what, second.record) == ("current", record.read(str(output)))
    assert output.stat() == stat


def test_the_record_tells_how_the_output_came_to_be(source: Path, output: Path) -> None:
    done = run(copied, source, output, parameters={"dtype": "float32"}).record
    assert done is not None
    stored = json.loads(Path(f"{output}.run.json").read_text())
    assert stored["name"] == "copied"
    assert stored["parameters"] == {"dtype": "float32"}
    assert stored["counts"] == {"inputs": 1}
    assert [(one["url"], one["nbytes"]) for one in stored["inputs"]] == [
        (str(source), source.stat().st_size)
    ]
    assert [(one["name"], one["nbytes"]) for one in stored["outputs"]] == [
        ("b.h5", output.stat().st_size)
    ]
    assert stored["versions"]["h5dask"] == h5dask.__version__
    assert [stage["name"] for stage in stored["stages"]] == ["write"]
    assert stored["seconds"] >= 0
    assert stored["peak_memory"] > 2**20


def test_what_makes_a_run_anew(source: Path, output: Path) -> None:
    def what(**options: Any) -> str:
        return run(copied, source, output, name="copy", **options).what

    assert what() == "done"
    assert what() == "current"
    assert what(parameters={"k": 1}) == "done"
    assert what(parameters={"k": 1}) == "current"
    assert what(parameters={"k": 1}, version="2") == "done"
    assert what(parameters={"k": 1}, version="2", policy=Policy(force=True)) == "done"
    with h5py.File(source, "a") as file:
        file["embeddings"][0, 0] = 7
    assert what(parameters={"k": 1}, version="2") == "done"
    with h5py.File(output, "a") as file:
        file["embeddings"][0, 0] = 8
    assert what(parameters={"k": 1}, version="2") == "done"
    with h5py.File(output) as file:
        assert file["embeddings"][0, 0] == 7
    output.unlink()
    assert what(parameters={"k": 1}, version="2") == "done"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"format": 1}', '{"format": 99, "name": "x"}', "\0"]
)
def test_a_record_that_can_t_be_read_is_none(text: str, source: Path, output: Path) -> None:
    run(copied, source, output)
    Path(f"{output}.run.json").write_text(text)
    assert record.read(str(output)) is None
    with pytest.raises(Conflict, match="isn't what a run has made"):
        run(copied, source, output)
    assert run(copied, source, output, policy=Policy(force=True)).what == "done"
    assert run(copied, source, output).what == "current"


def test_a_record_doesn_t_lead_to_files_elsewhere(source: Path, output: Path) -> None:
    run(copied, source, output)
    stored = json.loads(Path(f"{output}.run.json").read_text())
    stored["outputs"][0]["name"] = "../in/a.h5"
    Path(f"{output}.run.json").write_text(json.dumps(stored))
    assert record.read(str(output)) is None


def test_a_file_of_somebody_else_is_not_replaced(source: Path, output: Path) -> None:
    output.write_text("precious")
    with pytest.raises(Conflict, match="isn't what a run has made; choose another name, or force"):
        run(copied, source, output)
    assert output.read_text() == "precious"
    assert os.listdir(output.parent) == ["b.h5"]


def test_former_outputs_stay_by_count(source: Path, output: Path) -> None:
    for k in range(5):
        run(copied, source, output, parameters={"k": k}, policy=Policy(keep=2))
        os.utime(output, (1e9 + k, 1e9 + k))
    kept = sorted(path.name for path in output.parent.glob("b.h5.*.old"))
    assert kept == ["b.h5.20010909T014642Z.old", "b.h5.20010909T014643Z.old"]
    assert h5dask.validate(output.parent / kept[0]) == ()


def test_of_former_outputs_the_latest_stays_though_the_clock_was_set_back(
    source: Path, output: Path
) -> None:
    for k, written in enumerate([1e9 + 7200, 1e9, 1e9]):
        run(copied, source, output, parameters={"k": k}, policy=Policy(keep=1))
        os.utime(output, (written, written))
    assert [path.name for path in output.parent.glob("*.old")] == ["b.h5.20010909T014640Z.old"]


def test_several_files_of_one_run(source: Path, output: Path) -> None:
    def halves(job: Job) -> None:
        ds = h5dask.open_dataset(job.urls)
        for number in range(job.parameters["n"]):
            job.write(ds.isel(episode=slice(number, None, job.parameters["n"])), number + 1)

    def names() -> list[str]:
        return sorted(os.listdir(output.parent))

    assert run(halves, source, output, parameters={"n": 3}).what == "done"
    assert names() == ["b-0001.h5", "b-0002.h5", "b-0003.h5", "b.h5.run.json"]
    assert run(halves, source, output, parameters={"n": 3}).what == "current"
    assert run(halves, source, output, parameters={"n": 2}).what == "done"
    assert names() == ["b-0001.h5", "b-0002.h5", "b.h5.run.json"]
    (output.parent / "b-0002.h5").unlink()
    assert run(halves, source, output, parameters={"n": 2}).what == "done"
    assert names() == ["b-0001.h5", "b-0002.h5", "b.h5.run.json"]


def test_an_input_that_changes_while_the_run_works(source: Path, output: Path) -> None:
    def slow(job: Job) -> None:
        copied(job)
        os.utime(source, (1, 1))

    with pytest.raises(InputChanged, match=r"a.h5: changed while the run worked; nothing was"):
        run(slow, source, output)
    assert not output.exists()
    assert run(copied, source, output).what == "done"
    assert sorted(os.listdir(output.parent)) == ["b.h5", "b.h5.run.json"]


def test_work_that_makes_nothing(source: Path, output: Path) -> None:
    with pytest.raises(NotFound, match=r"the run made no b.h5; make it with job.write"):
        run(lambda job: None, source, output, name="idle")
    with pytest.raises(NotFound, match=r"the run made no b.h5"):
        run(lambda job: job.part(), source, output, name="idle")
    assert os.listdir(output.parent) == []


def test_work_may_say_that_there_is_nothing(source: Path, output: Path) -> None:
    def work(job: Job) -> None:
        if job.parameters["k"]:
            copied(job)
        else:
            job.make_nothing("none is chosen")

    for _ in range(2):
        assert run(work, source, output, parameters={"k": 1}).what == "done"
        empty = run(work, source, output, parameters={"k": 0})
        assert (empty.what, empty.files, os.listdir(output.parent)) == (
            "done", (), ["b.h5.run.json"]
        )  # fmt: skip
        assert empty.record is not None
        assert empty.record.notes == ["none is chosen"]
        assert run(work, source, output, parameters={"k": 0}).what == "current"


def test_work_that_fails_at_once_leaves_nothing(source: Path, output: Path) -> None:
    def failing(job: Job) -> None:
        raise Refused("no")

    with pytest.raises(Refused, match="no"):
        run(failing, source, output)
    assert os.listdir(output.parent) == []


def test_any_file_can_be_an_output(source: Path, output: Path) -> None:
    def count(job: Job) -> None:
        Path(job.part()).write_text("6")

    assert run(count, source, output.with_name("n.txt")).what == "done"
    assert output.with_name("n.txt").read_text() == "6"


def test_what_is_on_record_and_lost_is_made_anew(source: Path, output: Path) -> None:
    def stopped(job: Job) -> None:
        copied(job)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(stopped, source, output, name="copied")
    (part,) = output.parent.glob("b.h5.h5dask/*/b.h5")
    with h5py.File(part, "r+") as f:
        f["embeddings"][0] = 7
    with pytest.raises(CorruptInput, match="embeddings reads back other bytes than were written"):
        run(copied, source, output)
    assert run(copied, source, output).what == "done"
    assert differences(source, output) == []


def test_a_run_that_was_stopped_goes_on(source: Path, output: Path) -> None:
    n_written: list[int] = []

    def work(job: Job, fail: bool) -> None:
        ds = h5dask.open_dataset(job.urls, chunks={"episode": 1})
        panels = job.state.panels

        def counted(name: str, n: int, do: Any) -> list[Any]:
            def once(start: int, stop: int) -> Any:
                if fail and name.startswith("write") and start >= n // 2:
                    raise KeyboardInterrupt
                n_written.append(stop - start if name.startswith("write") else 0)
                return do(start, stop)

            return panels(name, n, once)

        job.state.panels = counted  # type: ignore[method-assign]
        job.write(ds)

    with pytest.raises(KeyboardInterrupt):
        run(lambda job: work(job, True), source, output, name="work")
    assert sorted(os.listdir(output.parent)) == ["b.h5.h5dask"]
    before = sum(n_written)
    assert before > 0
    assert run(lambda job: work(job, False), source, output, name="work").what == "done"
    blocks = [
        len(v.chunks[0]) if v.chunks else 1
        for v in h5dask.open_dataset(source, chunks={"episode": 1}).variables.values()
        if v.dtype != object
    ]
    assert sum(n_written) == sum(blocks)
    assert differences(source, output) == []
    assert sorted(os.listdir(output.parent)) == ["b.h5", "b.h5.run.json"]


def test_where_an_output_can_t_be(source: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no folder .*gone.*; make it first"):
        run(copied, source, tmp_path / "gone" / "b.h5")
    with pytest.raises(NotFound, match="is a folder; name a file in it"):
        run(copied, source, tmp_path / "in")
    with pytest.raises(Refused, match=r"b\.h5: a web server takes no outputs"):
        run(copied, source, "http://127.0.0.1:9/b.h5")
    with pytest.raises(NotFound, match="no such file"):
        run(copied, tmp_path / "gone.h5", tmp_path / "b.h5")


def test_a_folder_without_permission(source: Path, output: Path, monkeypatch: Any) -> None:
    def denied(*args: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "makedirs", denied)
    with pytest.raises(AccessDenied, match=r"b.h5.h5dask: can't be made \(Permission denied\)"):
        run(copied, source, output)


def test_a_part_that_has_its_name_already(tmp_path: Path) -> None:
    part, output = tmp_path / "part.h5", tmp_path / "b.h5"
    part.write_text("whole")
    os.link(part, output)
    there = outputs_at(output, keep=1)
    assert there.publish(str(part), "b.h5", overwrite=True) is None
    assert os.listdir(tmp_path) == ["b.h5"]
    assert output.stat().st_nlink == 1


def test_another_run_is_at_it(source: Path, output: Path) -> None:
    found = []

    def nested(job: Job) -> None:
        found.append(run(copied, source, output, name="nested"))
        copied(job)

    assert run(nested, source, output).what == "done"
    assert found[0].what == "busy"
    assert "nothing was done" in found[0].why


def test_a_run_that_lost_its_lease_publishes_nothing(source: Path, output: Path) -> None:
    def robbed(job: Job) -> None:
        copied(job)
        (output.parent / "b.h5.h5dask" / "lease.json").write_text("{}")

    with pytest.raises(Conflict, match="another run took it over; nothing was published"):
        run(robbed, source, output)
    assert not output.exists()


SKIP = """
import sys
from h5dask.jobs import run
print(run(print, sys.argv[1], sys.argv[2], name="copied").what)
print(sorted({"dask", "xarray", "numpy", "h5py"} & set(sys.modules)))
"""


def test_dask_is_not_imported_to_skip(source: Path, output: Path) -> None:
    run(copied, source, output)
    command = [sys.executable, "-c", SKIP, str(source), str(output)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert said.stdout.splitlines()[0] == "current"
    assert "dask" not in said.stdout.splitlines()[1]


@pytest.mark.parametrize("layout", ["activations", "proteins", "ann", "episodes"])
def test_every_layout_is_written_the_same(layout: str, tmp_path: Path) -> None:
    path = example_file(layout)
    with dask.config.set({"h5dask.block-size": "1 kiB"}):
        run(copied, path, tmp_path / "b.h5")
    assert differences(Path(path), tmp_path / "b.h5") == []


def test_a_compressed_output(source: Path, output: Path) -> None:
    run(lambda job: job.write(h5dask.open_dataset(job.urls), compression="gzip"), source, output)
    assert h5dask.validate(output, values=True) == ()
    with h5py.File(output) as file:
        assert file["embeddings"].compression == "gzip"


def test_a_result_that_breaks_a_rule_is_not_published(output: Path) -> None:
    def broken(job: Job) -> None:
        job.write(h5dask.open_dataset(job.urls).drop_vars("neighbors"))

    with pytest.raises(h5dask.errors.LayoutError, match="neighbors"):
        run(broken, example_file("ann"), output)
    assert os.listdir(output.parent) == []
