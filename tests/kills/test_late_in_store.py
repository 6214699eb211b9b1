"""A run to a store stands still at the worst moments, is taken over elsewhere, and goes on."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from h5dask.jobs import in_store
from h5dask.storage import publishing
from tests.bucket import Bucket
from tests.files.same import differences
from tests.kills.cluster import SECONDS, freeze, wait_until
from tests.kills.striking import child
from tests.kills.work import Task, make_source

LARGE = 5 << 20
"""Bytes above which a file goes in parts here; the store takes no smaller ones."""
PLACES: dict[str, Any] = {
    "write_record": in_store.InStore,
    "publish": in_store.InStore,
    "commit": publishing,
}
"""Where the calls are found before which a run stands still."""


def run_until(call: str, at: int, task: Task, word: str, cache: str) -> None:
    """Run a task in this process, which stops before a call, counted from 1."""
    os.environ["H5DASK_CACHE"] = cache
    if call == "commit":
        publishing.AT_ONCE = LARGE
    real, n = getattr(PLACES[call], call), 0

    def stopped(*args: Any, **options: Any) -> Any:
        nonlocal n
        n += 1
        if n == at:
            Path(word).touch()
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(0.5)  # another thread may be the first to stop
        return real(*args, **options)

    setattr(PLACES[call], call, stopped)
    task.run()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An input that becomes an object of several parts."""
    return make_source(tmp_path_factory.mktemp("large") / "a.h5", n_columns=2_048)


@pytest.mark.parametrize(
    ("call", "at", "former"),
    [
        ("publish", 1, False), ("write_record", 2, False), ("commit", 1, False),
        ("publish", 1, True),
        *(pytest.param(*case, marks=pytest.mark.soak) for case in [
            ("write_record", 1, False), ("write_record", 1, True), ("commit", 1, True),
        ]),
    ],
)  # fmt: skip
def test_who_was_taken_over_changes_nothing(
    call: str, at: int, former: bool, source: Path, large: Path, bucket: Bucket, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    given = large if call == "commit" else source
    task = Task(given, f"{bucket.url}/b.h5", tmp_path / "tally", options=bucket.options)
    if former:  # of the same work with other parameters
        assert replace(task, compression="gzip").run().what == "done"
    word = str(tmp_path / "word")
    with child(run_until, call, at, task, word, str(tmp_path / "theirs")) as frozen:
        wait_until(lambda: os.path.exists(word) or not frozen.is_alive(), "a frozen run")
        freeze(frozen.pid)
        with monkeypatch.context() as patch:
            patch.setenv("H5DASK_CACHE", str(tmp_path / "ours"))
            patch.setattr("h5dask.jobs.lease.BEAT", 0.2)
            patch.setattr("h5dask.jobs.lease.EXPIRY", 1.0)
            assert task.run().what == "done"
        before = {name: bucket.content(name) for name in bucket.names()}
        assert before.keys() == {"b.h5", "b.h5.run.json"}
        os.kill(frozen.pid, signal.SIGCONT)
        frozen.join(SECONDS)
        assert frozen.exitcode == 1
    assert {name: bucket.content(name) for name in bucket.names()} == before
    assert task.run().what == "current"
    assert left_uploads(bucket) == []
    undisturbed = replace(task, output=str(tmp_path / "b.h5"), options=None)
    assert undisturbed.run().what == "done"
    (tmp_path / "fetched.h5").write_bytes(before["b.h5"])
    assert differences(tmp_path / "b.h5", tmp_path / "fetched.h5") == []


def left_uploads(bucket: Bucket) -> list[Any]:
    """Return the uploads that nobody has ended."""
    name, _, prefix = bucket.url.removeprefix("s3://").partition("/")
    found = bucket.filesystem.call_s3("list_multipart_uploads", Bucket=name, Prefix=prefix)
    return list(found.get("Uploads", []))
