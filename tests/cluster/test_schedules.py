"""Runs that come too often, too late, or at once: one effect, and somebody is told what is wrong.

The command is the crontab's own; cron itself is in tests/servers/test_cron.py.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

import h5dask
from h5dask.jobs.outputs import outputs_at
from tests.cluster.scheduled import EPISODES, Installed, install

SECONDS = 300
"""After these, something hangs; what is tested takes a small part of them."""


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    """One input that is due."""
    at = install(tmp_path)
    shutil.copy(EPISODES, at.landing / "monday.h5")
    return at


def whole(at: Installed, *names: str) -> None:
    """Make sure that there are the outputs of some inputs, the report, and nothing else."""
    outputs = [*names, "report.html"]
    records = [f"{name}.run.json" for name in outputs]
    assert sorted(at.made()) == sorted([*outputs, *records, "h5dask.run.json"])
    for name in names:
        assert h5dask.validate(at.output / name, values=True) == ()


def test_a_second_run_is_skipped(installed: Installed) -> None:
    assert installed.run() == 0
    before = installed.made()
    whole(installed, "monday.h5")
    assert installed.run() == 0
    assert installed.ended() == [Counter(done=2), Counter(current=2)]
    after = installed.made()
    of_run = after.pop("h5dask.run.json"), before.pop("h5dask.run.json")
    assert after == before
    assert [b'"current"' in told[2] for told in of_run] == [True, False]


def test_a_run_makes_up_for_those_that_were_missed(installed: Installed) -> None:
    assert installed.run() == 0
    before = installed.made()
    shutil.copy(EPISODES, installed.landing / "tuesday.h5")  # and the machine was off
    shutil.copy(EPISODES, installed.landing / "wednesday.h5")
    assert installed.run() == 0
    assert installed.ended()[1] == Counter(current=1, done=3)  # two, and the report
    whole(installed, "monday.h5", "tuesday.h5", "wednesday.h5")
    assert installed.made()["monday.h5"] == before["monday.h5"]


@pytest.mark.soak  # the next one asks the same of four files
def test_of_runs_that_are_due_at_once_one_works(installed: Installed) -> None:
    started = [installed.start() for _ in range(2)]
    assert [one.communicate(timeout=SECONDS)[0] for one in started] == [""] * 2
    whole(installed, "monday.h5")
    ended = installed.ended()
    assert len(ended) == 2
    assert sum(one["done"] for one in ended) == 2  # the input and the report, once each
    assert sum(one["set aside"] for one in ended) == 0


def test_of_runs_that_are_due_at_once_one_makes_all(installed: Installed) -> None:
    names = ["monday.h5", "thursday.h5", "tuesday.h5", "wednesday.h5"]
    for name in names[1:]:
        shutil.copy(EPISODES, installed.landing / name)
    started = [installed.start() for _ in range(2)]
    assert [one.communicate(timeout=SECONDS)[0] for one in started] == [""] * 2
    whole(installed, *names)
    ended = installed.ended()
    assert sum(one["done"] for one in ended) == len(names) + 1
    assert sum(one["set aside"] for one in ended) == 0
    assert [one["busy"] for one in ended if one["busy"]] in ([], [1])
    assert installed.run() == 0
    assert installed.ended()[-1] == Counter(current=len(names) + 1)


def test_one_that_overlaps_says_who_works_and_does_nothing(installed: Installed) -> None:
    output = str(installed.output / "monday.h5")
    shutil.copy(EPISODES, installed.landing / "tuesday.h5")
    installed.output.mkdir()
    with outputs_at(output).held(str):
        assert installed.run() == 0
        assert installed.ended() == [Counter(busy=1)]
        (told,) = (text for text in installed.said() if "works on it" in text)
        assert told.startswith(f"{output}: process {os.getpid()} on ")
        assert told.endswith("; nothing was done")
        assert os.listdir(installed.output) == ["monday.h5.h5dask"]
    assert installed.run() == 0
    assert installed.ended()[1] == Counter(done=3)
    whole(installed, "monday.h5", "tuesday.h5")


@pytest.mark.parametrize("jump", [3600.0, -3600.0], ids=["forward", "back"])
def test_a_clock_that_is_set_changes_nothing(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    assert installed.run() == 0
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + jump)
    assert installed.run() == 0
    monday, tuesday = (installed.landing / name for name in ("monday.h5", "tuesday.h5"))
    shutil.copy(EPISODES, tuesday)  # new, and older than what was made before
    os.utime(tuesday, (now() + jump, now() + jump))
    assert installed.run() == 0
    was = monday.stat()
    monday.write_bytes(monday.read_bytes())  # the same length and time: another file all the same
    os.utime(monday, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert installed.run() == 0
    assert installed.ended() == [
        Counter(done=2),
        Counter(current=2),
        Counter(current=1, done=2),
        Counter(current=1, done=2),
    ]
    whole(installed, "monday.h5", "tuesday.h5")


def test_a_bad_input_is_set_aside_and_told_each_time(installed: Installed) -> None:
    (installed.landing / "torn.h5").write_bytes(EPISODES.read_bytes()[:5000])
    assert [installed.run() for _ in range(2)] == [1, 1]
    assert installed.ended() == [
        Counter({"done": 2, "set aside": 1}),
        Counter({"current": 2, "set aside": 1}),
    ]
    told = [one for one in map(json.loads, installed.log().splitlines()) if "what" in one]
    aside = [one for one in told if one["what"] == "set aside"]
    torn, output = installed.landing / "torn.h5", installed.output / "torn.h5"
    assert [one["input"] for one in aside] == [str(torn)] * 2
    assert [one["output"] for one in aside] == [str(output)] * 2
    assert all(one["why"].startswith(f"{torn}: ") for one in aside)
    whole(installed, "monday.h5")


def test_a_folder_without_files_is_nothing_to_do(installed: Installed) -> None:
    (installed.landing / "monday.h5").unlink()
    assert installed.run() == 0
    assert installed.said() == [f"nothing to do: no *.h5 in {installed.landing}"]
    installed.landing.rmdir()
    assert installed.run() == 2


def test_what_cannot_run_is_told(installed: Installed) -> None:
    config = installed.folder / "etc" / "h5dask" / "clean_episodes.toml"
    config.write_text(config.read_text() + "[clean]\nsampel = 0.5\n")
    assert installed.run() == 2
    (told,) = map(json.loads, installed.log().splitlines())
    assert told["event"] == "error"
    assert "sampel" in told["text"]
    assert not installed.output.exists()


@pytest.mark.parametrize("code", [0, 1, 2, 130, 143])
def test_cron_mails_how_it_ended_where_that_was_not_well(installed: Installed, code: int) -> None:
    python = installed.folder / "srv" / "h5dask" / ".venv" / "bin" / "python"
    python.write_text(f"#!/bin/sh\necho works; echo fails >&2; exit {code}\n")
    mail = installed.start().communicate(timeout=SECONDS)[0]
    log = f"{installed.folder}/var/log/h5dask/clean_episodes.log"
    assert mail == (f"clean_episodes: exit {code}; see {log}\n" if code else "")
    assert installed.log() == "fails\n"
