"""Runs whose outputs, and inputs, lie in a store."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask.errors import AccessDenied, Conflict, InputChanged, NotFound, Refused
from h5dask.jobs import Job, Policy, in_store, run
from h5dask.jobs.lease import Lease
from h5dask.jobs.outputs import outputs_at
from h5dask.jobs.store_lease import LeaseObject
from h5dask.storage.stores.finding import object_at
from h5dask.testing import example
from tests.bucket import Bucket
from tests.files.same import differences
from tests.servers import rclone


def copied(job: Job) -> None:
    """Write the inputs end to end."""
    job.write(h5dask.open_dataset(job.urls, storage_options=job.storage_options))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An input of its own, that a test may change."""
    path = tmp_path / "a.h5"
    h5dask.write_dataset(example("episodes"), path)
    return path


@pytest.fixture(autouse=True)
def states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which runs keep their state."""
    monkeypatch.setenv("H5DASK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "runs"


def fetched(bucket: Bucket, name: str, folder: Path) -> Path:
    """Return an object as a local file."""
    path = folder / f"fetched-{name}"
    path.write_bytes(bucket.content(name))
    return path


def left(states: Path) -> list[str]:
    """Return what runs have left on this machine."""
    return sorted(os.listdir(states)) if states.exists() else []


def test_an_output_is_made_once(bucket: Bucket, source: Path, states: Path, tmp_path: Path) -> None:
    output = f"{bucket.url}/b.h5"
    first = run(copied, source, output, storage_options=bucket.options)
    assert (first.what, first.files) == ("done", (output,))
    assert differences(source, fetched(bucket, "b.h5", tmp_path)) == []
    assert (bucket.names(), left(states)) == (["b.h5", "b.h5.run.json"], [])
    stored = json.loads(bucket.content("b.h5.run.json"))
    assert stored["finished"] >= stored["started"]
    (told,) = stored["outputs"]
    assert (told["name"], told["nbytes"]) == ("b.h5", source.stat().st_size)
    assert stored["notes"] == []
    before = len(bucket.requests())
    second = run(copied, source, output, storage_options=bucket.options)
    assert (second.what, second.record) == ("current", outputs_at(output, bucket.options).record())
    asked = bucket.requests()[before:-1]
    assert sorted(line.split()[0] for line in asked) == ["GET", "HEAD"]


def test_inputs_and_output_in_a_store(bucket: Bucket, source: Path, tmp_path: Path) -> None:
    bucket.place("in/a.h5", source.read_bytes())
    urls, output = f"{bucket.url}/in/*.h5", f"{bucket.url}/out/b.h5"
    given = {"storage_options": bucket.options}
    assert run(copied, urls, output, **given).what == "done"
    assert run(copied, urls, output, **given).what == "current"
    h5dask.write_dataset(example("episodes", 1), tmp_path / "other.h5")
    bucket.place("in/a.h5", (tmp_path / "other.h5").read_bytes())
    assert run(copied, urls, output, **given).what == "done"
    bucket.place("out/b.h5", b"touched")
    assert run(copied, urls, output, **given).what == "done"
    bucket.filesystem.rm_file(output)
    assert run(copied, urls, output, **given).what == "done"
    assert run(copied, urls, output, policy=Policy(force=True), **given).what == "done"
    assert run(copied, urls, output, **given).what == "current"
    ds = h5dask.open_dataset(output, storage_options=bucket.options)
    xr.testing.assert_equal(ds.compute(), h5dask.open_dataset(tmp_path / "other.h5").compute())


def test_inputs_that_are_reached_in_another_way(bucket: Bucket, source: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/landing-of-a-run/a.h5", source.read_bytes())
    output = f"{bucket.url}/b.h5"
    for what in ("done", "current"):
        found = run(copied, "memory://landing-of-a-run/a.h5", output, output_options=bucket.options)
        assert found.what == what


def test_an_input_that_changes_while_the_run_works(bucket: Bucket, source: Path) -> None:
    bucket.place("in/a.h5", source.read_bytes())

    def slow(job: Job) -> None:
        copied(job)
        bucket.place("in/a.h5", b"another one")

    with pytest.raises(InputChanged, match=r"in/a.h5: changed while the run worked; nothing was"):
        run(slow, f"{bucket.url}/in/a.h5", f"{bucket.url}/b.h5", storage_options=bucket.options)
    assert bucket.names() == ["in/a.h5"]


def test_an_object_of_somebody_else_is_not_replaced(
    bucket: Bucket, source: Path, states: Path
) -> None:
    output = f"{bucket.url}/b.h5"
    bucket.place("b.h5", b"precious")
    with pytest.raises(Conflict, match="isn't what a run has made; choose another name, or force"):
        run(copied, source, output, storage_options=bucket.options)
    assert (bucket.content("b.h5"), bucket.names(), left(states)) == (b"precious", ["b.h5"], [])

    def overtaken(job: Job) -> None:
        copied(job)
        job.write(h5dask.open_dataset(job.urls), 1)
        bucket.place("c-0001.h5", b"precious")

    with pytest.raises(Conflict, match=r"c-0001\.h5: "):
        run(overtaken, source, f"{bucket.url}/c.h5", storage_options=bucket.options)
    assert bucket.names() == ["b.h5", "c-0001.h5"]
    assert bucket.content("c-0001.h5") == b"precious"


@pytest.mark.parametrize("same_machine", [True, False])
@pytest.mark.parametrize("before", ["write_record", "publish"])
def test_a_run_that_died_between_data_and_record(
    before: str, same_machine: bool, bucket: Bucket, source: Path, states: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    output, given = f"{bucket.url}/b.h5", {"storage_options": bucket.options}
    real, n = getattr(in_store.InStore, before), 0

    def die(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal n
        n += 1
        if (before, n) != ("write_record", 1):
            raise KeyboardInterrupt
        return real(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(in_store.InStore, before, die)
        with pytest.raises(KeyboardInterrupt):
            run(copied, source, output, **given)
    there = ["b.h5", "b.h5.run.json"] if before == "write_record" else ["b.h5.run.json"]
    assert bucket.names() == there
    if not same_machine:
        shutil.rmtree(states)
    assert run(copied, source, output, **given).what == "done"
    assert run(copied, source, output, **given).what == "current"
    assert (bucket.names(), left(states)) == (["b.h5", "b.h5.run.json"], [])


def test_a_record_that_can_t_be_read_is_none(bucket: Bucket, source: Path) -> None:
    output, given = f"{bucket.url}/b.h5", {"storage_options": bucket.options}
    run(copied, source, output, **given)
    bucket.place("b.h5.run.json", b'{"format": 1')
    with pytest.raises(Conflict, match="isn't what a run has made"):
        run(copied, source, output, **given)
    assert run(copied, source, output, policy=Policy(force=True), **given).what == "done"


def test_several_outputs_of_one_run(bucket: Bucket, source: Path) -> None:
    def halves(job: Job) -> None:
        ds = h5dask.open_dataset(job.urls)
        for number in range(job.parameters["n"]):
            job.write(ds.isel(episode=slice(number, None, job.parameters["n"])), number + 1)

    def what(n: int) -> str:
        given = {"parameters": {"n": n}, "storage_options": bucket.options}
        return run(halves, source, f"{bucket.url}/b.h5", **given).what

    assert [what(3), what(3), what(2)] == ["done", "current", "done"]
    assert bucket.names() == ["b-0001.h5", "b-0002.h5", "b.h5.run.json"]
    bucket.filesystem.rm_file(f"{bucket.url}/b-0002.h5")
    assert [what(2), what(2)] == ["done", "current"]


def stored(job: Job) -> None:
    """Write what the inputs hold as Zarr."""
    ds = h5dask.open_dataset(job.urls, storage_options=job.storage_options)
    job.write_result(ds[["embeddings"]].drop_encoding())


def test_a_folder(bucket: Bucket, source: Path, tmp_path: Path, states: Path) -> None:
    output, given = f"{bucket.url}/all.zarr", {"storage_options": bucket.options}
    first = run(stored, source, output, **given)
    assert (first.what, first.files) == ("done", (output,))
    found = xr.open_zarr(output, consolidated=False, **given)
    np.testing.assert_array_equal(found.embeddings, h5dask.open_dataset(source).embeddings)
    objects = [one for one in bucket.names() if one.startswith("all.zarr/")]
    assert first.record.outputs[0]["nbytes"] == sum(len(bucket.content(one)) for one in objects)
    assert run(stored, source, output, **given).what == "current"
    chunk = next(one for one in objects if "/c/" in one)
    bucket.place(chunk, b"")
    assert run(stored, source, output, **given).what == "done"
    h5dask.write_dataset(example("episodes", 1).isel(episode=slice(2)), tmp_path / "small.h5")
    bucket.place("all.zarr/embeddings/c/9/9", b"of nobody")
    assert run(stored, tmp_path / "small.h5", output, **given).what == "done"
    assert "all.zarr/embeddings/c/9/9" not in bucket.names()
    found = xr.open_zarr(output, consolidated=False, **given)
    expected = h5dask.open_dataset(tmp_path / "small.h5").embeddings
    np.testing.assert_array_equal(found.embeddings, expected)
    assert left(states) == []
    with pytest.raises(Refused, match=r"more: is a folder; in a store its name ends in \.zarr"):
        run(lambda job: os.mkdir(job.part()), source, f"{bucket.url}/more", name="m", **given)


def test_a_folder_that_is_half_uploaded_isn_t_left(
    bucket: Bucket, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from h5dask.storage import folders

    real = folders.object_at

    def failing(url: str, options: Any) -> Any:
        if url.endswith("all.zarr/zarr.json"):
            raise KeyboardInterrupt
        return real(url, options)

    output, given = f"{bucket.url}/all.zarr", {"storage_options": bucket.options}
    with monkeypatch.context() as patch:
        patch.setattr(folders, "object_at", failing)
        with pytest.raises(KeyboardInterrupt):
            run(stored, source, output, **given)
    assert bucket.names() == ["all.zarr.run.json"]
    assert run(stored, source, output, **given).what == "done"
    assert run(stored, source, output, **given).what == "current"


def test_what_is_new_is_added(bucket: Bucket, tmp_path: Path) -> None:
    def grown(job: Job) -> None:
        job.notes.append(repr(job.added and [one.rpartition("/")[2] for one in job.added]))
        new = job.urls if job.added is None else [job.output, *job.added]
        ds = h5dask.open_dataset(new, storage_options=job.output_options)
        job.write(ds.drop_vars("source", errors="ignore"))

    urls = [f"{bucket.url}/in/{i}.h5" for i in range(3)]
    for i in range(3):
        h5dask.write_dataset(example("episodes", i), tmp_path / f"{i}.h5")
        bucket.place(f"in/{i}.h5", (tmp_path / f"{i}.h5").read_bytes())
    output, given = f"{bucket.url}/all.h5", {"storage_options": bucket.options}
    assert run(grown, urls[:1], output, **given).record.notes == ["None"]
    assert run(grown, urls, output, **given).record.notes == ["['1.h5', '2.h5']"]
    expected = [h5dask.open_dataset(tmp_path / f"{i}.h5").embeddings for i in range(3)]
    found = h5dask.open_dataset(output, **given).embeddings
    np.testing.assert_array_equal(found, np.concatenate(expected))
    assert run(grown, urls, output, **given).what == "current"


def test_results_and_what_is_kept_meanwhile(bucket: Bucket, source: Path, states: Path) -> None:
    def scaled(job: Job) -> None:
        ds = h5dask.open_dataset(job.urls)[["embeddings"]].drop_vars("episode_ids")
        (kept,) = job.keep((ds * 2).drop_encoding())
        job.write_result(kept)

    run(scaled, source, f"{bucket.url}/twice.nc", storage_options=bucket.options)
    assert bucket.names() == ["twice.nc", "twice.nc.run.json"]
    assert left(states) == []


def test_former_outputs_stay_on_disks_only(bucket: Bucket, source: Path) -> None:
    with pytest.raises(
        Refused, match=r"b.h5: found keep=2, but former outputs stay on local disks"
    ):
        run(copied, source, f"{bucket.url}/b.h5", policy=Policy(keep=2))
    assert bucket.names() == []


def test_where_an_output_can_t_be(bucket: Bucket, source: Path, states: Path) -> None:
    wrong = {**bucket.options, "secret": "of somebody else"}
    with pytest.raises(AccessDenied, match="access denied") as told:
        run(copied, source, f"{bucket.url}/b.h5", storage_options=wrong)
    assert "somebody" not in str(told.value)
    with pytest.raises(NotFound, match="no such bucket"):
        run(copied, source, "s3://no-such-bucket/b.h5", storage_options=bucket.options)
    assert (bucket.names(), left(states)) == ([], [])


def test_credentials_are_told_nowhere(bucket: Bucket, source: Path, states: Path) -> None:
    secrets = [str(bucket.options[name]).encode() for name in ("key", "secret")]
    seen: list[bytes] = []

    def looked_at(job: Job) -> None:
        copied(job)
        seen.extend(path.read_bytes() for path in states.rglob("*") if path.is_file())
        seen.append(repr(job).encode())
        seen.append(bucket.content("b.h5.h5dask.lease"))

    bucket.place("a.h5", source.read_bytes())
    given = {"storage_options": bucket.options}
    done = run(looked_at, f"{bucket.url}/a.h5", f"{bucket.url}/b.h5", **given)
    seen += [bucket.content(name) for name in bucket.names()]
    seen.append(repr(done).encode())
    assert len(seen) > 5
    assert not [one for one in seen for secret in secrets if secret in one]
    others = {**bucket.options, "config_kwargs": {"retries": {"max_attempts": 1}}}
    again = run(looked_at, f"{bucket.url}/a.h5", f"{bucket.url}/b.h5", storage_options=others)
    assert again.what == "current"


def test_what_killed_runs_left_is_given_up_after_long(source: Path, states: Path) -> None:
    for name, age in (("old", 15 * 86_400), ("young", 13 * 86_400)):
        (states / name).mkdir(parents=True)
        (states / name / "0f.a.h5").write_bytes(b"half")
        then = time.time() - age
        for path in (states / name / "0f.a.h5", states / name):
            os.utime(path, (then, then))
    assert run(copied, source, "memory://runs-that-clear-up/b.h5").what == "done"
    assert left(states) == ["young"]


def test_a_store_that_only_looks(source: Path, states: Path) -> None:
    memory = fsspec.filesystem("memory")
    output = "memory://runs-that-only-look/b.h5"
    found = run(copied, source, output)
    assert found.record.notes == [
        "not enforced: nothing kept what may have been b.h5 from being overwritten"
    ]
    assert run(copied, source, output).what == "current"
    assert sorted(path.rpartition("/")[2] for path in memory.find("/runs-that-only-look")) == [
        "b.h5", "b.h5.run.json"
    ]  # fmt: skip
    memory.pipe_file("/runs-that-only-look/c.h5", b"precious")
    with pytest.raises(Conflict, match="isn't what a run has made"):
        run(copied, source, "memory://runs-that-only-look/c.h5")


@pytest.mark.servers
def test_a_store_that_ignores_conditions(source: Path, states: Path, tmp_path: Path) -> None:
    with rclone.start(tmp_path) as store:
        output, given = f"{store.url}/b.h5", {"storage_options": store.options}
        found = run(copied, source, output, **given)
        assert [note.partition(":")[0] for note in found.record.notes] == ["not enforced"]
        assert run(copied, source, output, **given).what == "current"
        (tmp_path / "fetched.h5").write_bytes(store.content("b.h5"))
        assert differences(source, tmp_path / "fetched.h5") == []
        store.place("c.h5", b"precious")
        with pytest.raises(Conflict, match="isn't what a run has made"):
            run(copied, source, f"{store.url}/c.h5", **given)
        there = LeaseObject(object_at(f"{store.url}/a.lease", store.options))
        with Lease(there, "a", print) as held:
            assert not held.enforced


def test_workers_that_don_t_share_the_folder(
    bucket: Bucket, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5dask.connect(workers=1) as client:
        client.run(_blinded)
        with pytest.raises(Refused, match=r"all.zarr: 1 of 1 workers don't see .* H5DASK_CACHE"):
            run(stored, source, f"{bucket.url}/all.zarr", storage_options=bucket.options)
        assert bucket.names() == []


def _blinded() -> None:
    """Make this process one that sees no file of others."""
    from h5dask.jobs import sharing

    sharing.holds.__code__ = (lambda path, token: False).__code__
