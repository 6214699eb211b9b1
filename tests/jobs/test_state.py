"""The folder in which a run remembers how far it has come."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5dask.errors import NotFound
from h5dask.jobs import state as states
from h5dask.jobs.state import LEASE, LOG, State


class Stopped(Exception):
    """What ends a run in the middle."""


def squares(start: int, stop: int) -> list[int]:
    return [n * n for n in range(start, stop)]


def test_a_step_is_done_once(tmp_path: Path) -> None:
    calls: list[int] = []
    for _ in range(3):
        state = State(str(tmp_path), "a")
        assert state.once("count", lambda: calls.append(1) or 7) == 7
    assert calls == [1]
    assert state.done("count") == 7
    assert state.done("other") is None


@given(n=st.integers(0, 200), stops=st.lists(st.integers(0, 200), max_size=4))
def test_panels_cover_all_once_however_often_a_run_is_stopped(
    tmp_path_factory: pytest.TempPathFactory, n: int, stops: list[int]
) -> None:
    folder = str(tmp_path_factory.mktemp("state"))
    done: list[int] = []
    for stop_at in [*stops, n]:

        def work(start: int, stop: int, limit: int = stop_at) -> list[int]:
            if start >= limit < n:
                raise Stopped
            done.extend(range(start, stop))
            return squares(start, stop)

        try:
            found = State(folder, "a").panels("square", n, work)
        except Stopped:
            continue
    assert [value for some in found for value in some] == squares(0, n)
    assert done == [*range(n)]


def test_a_long_stage_has_at_least_twenty_panels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(states.time, "monotonic", lambda: clock[0])
    for n_blocks, seconds in [(20, 3.0), (400, 0.15), (5_000, 0.2)]:

        def work(start: int, stop: int, seconds: float = seconds) -> int:
            clock[0] += (stop - start) * seconds
            return stop

        folder = tmp_path / str(n_blocks)
        folder.mkdir()
        assert len(State(str(folder), "a").panels("slow", n_blocks, work)) >= 20


def test_quick_panels_grow(tmp_path: Path) -> None:
    assert len(State(str(tmp_path), "a").panels("quick", 10_000, squares)) < 20


def test_another_digest_begins_anew_and_leaves_the_lease(tmp_path: Path) -> None:
    state = State(str(tmp_path), "a")
    state.once("step", lambda: 1)
    Path(state.part("out.h5")).write_text("x")
    (tmp_path / LEASE).write_text("somebody's")
    (tmp_path / "scratch").mkdir()
    again = State(str(tmp_path), "b")
    assert again.done("step") is None
    assert not again.has_begun
    assert sorted(os.listdir(tmp_path)) == sorted([LEASE, os.path.basename(again.folder)])
    assert sorted(os.listdir(again.folder)) == [LOG, "plan.json"]


def test_who_was_thought_dead_finds_nothing_of_who_went_on(tmp_path: Path) -> None:
    frozen = State(str(tmp_path), "a")
    frozen.once("begin", lambda: 1)
    Path(frozen.part("out.h5")).write_text("x")
    second = State(str(tmp_path), "a")
    assert Path(second.part("out.h5")).read_text() == "x"
    with pytest.raises(NotFound, match="no such file"):
        frozen.once("late", lambda: 2)
    assert not os.path.exists(frozen.part("out.h5"))
    frozen.remove()
    third = State(str(tmp_path), "a")
    assert (third.done("begin"), third.done("late")) == (1, None)
    assert os.listdir(tmp_path) == [os.path.basename(third.folder)]


@pytest.mark.parametrize(
    "torn",
    [b'{"step": "b", "at": [0, 1], "gave"', b'{"step": "b", "at": [0, 1], "gave": 2}', b"\0\0\n",
     b'{"step": "b"}\n', b"[1]\n"],
)  # fmt: skip
def test_a_torn_line_is_no_step(torn: bytes, tmp_path: Path) -> None:
    left = State(str(tmp_path), "a")
    left.once("a", lambda: 1)
    with open(left.log, "ab") as file:
        file.write(torn)
    state = State(str(tmp_path), "a")
    assert (state.done("a"), state.done("b")) == (1, None)
    assert state.once("b", lambda: 3) == 3
    again = State(str(tmp_path), "a")
    assert (again.done("a"), again.done("b")) == (1, 3)


def test_a_damaged_plan_begins_anew(tmp_path: Path) -> None:
    left = State(str(tmp_path), "a")
    left.once("a", lambda: 1)
    Path(left.folder, "plan.json").write_text("{")
    assert State(str(tmp_path), "a").done("a") is None


def test_what_is_forgotten_is_done_again(tmp_path: Path) -> None:
    state = State(str(tmp_path), "a")
    state.once("a", lambda: 1)
    state.once("b", lambda: 1)
    state.forget("a", "never done", "b")
    again = State(str(tmp_path), "a")
    assert (again.done("a"), again.done("b"), state.done("b")) == (None, None, None)
    assert again.once("a", lambda: 2) == 2
    assert State(str(tmp_path), "a").done("a") == 2


def test_results_are_what_json_keeps(tmp_path: Path) -> None:
    gave = {"rows": [1, 2.5, None, "é"]}
    State(str(tmp_path), "a").once("a", lambda: gave)
    assert State(str(tmp_path), "a").done("a") == json.loads(json.dumps(gave))


def test_a_step_is_on_disk_before_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, told = State(str(tmp_path), "a"), []
    log, fsync = os.stat(state.log).st_ino, os.fsync

    def synced(number: int) -> None:
        if os.fstat(number).st_ino == log:
            told.append(Path(state.log).read_text().count("\n"))
        fsync(number)

    monkeypatch.setattr(os, "fsync", synced)
    for name in ("first", "second"):
        state.once(name, lambda: told.append("begun"))
    assert told == ["begun", 1, "begun", 2]
