"""A pipeline by Debian's cron, as cluster/crontab has it, but every minute."""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import h5dask
from tests.cluster.reading import FOLDER
from tests.cluster.scheduled import EPISODES, Installed, install
from tests.servers import cron

pytestmark = [pytest.mark.servers, pytest.mark.needs(*cron.PROGRAMS)]
SECONDS = 300
"""For two runs, which begin a minute apart; after these, something hangs."""


def crontab(*installed: Installed) -> str:
    """Return the crontab with its settings, and a line for each that is due every minute."""
    text = (FOLDER / "crontab").read_text("utf-8")
    settings = [line for line in text.splitlines() if re.match(r"[A-Z_]+=", line)]
    settings = [line for line in settings if not line.startswith("DASK_CONFIG=")]
    assert settings == ["SHELL=/bin/sh", "MAILTO=h5dask", "DASK_NUM_WORKERS=4"]
    settings += [f"{name}={value}" for name, value in installed[0].environment.items()]
    return "\n".join([*settings, *(f"* * * * * {one.command}" for one in installed), ""])


def wait_for(seen: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not seen():
        assert time.monotonic() < until, "cron hasn't run it"
        time.sleep(0.2)


def test_cron_runs_a_pipeline_twice(tmp_path: Path) -> None:
    if not cron.is_root():
        pytest.skip("only root can give cron a crontab that is hidden from others")
    well, ill = install(tmp_path / "well"), install(tmp_path / "ill")
    for one in (well, ill):
        shutil.copy(EPISODES, one.landing / "monday.h5")
    (ill.landing / "torn.h5").write_bytes(EPISODES.read_bytes()[:5000])
    (tmp_path / "cron").mkdir()
    with cron.running_cron(tmp_path / "cron", crontab(well, ill)) as mail:
        wait_for(lambda: bool(well.ended() and ill.ended()))
        before = well.made()
        wait_for(lambda: len(well.ended()) > 1 and len(ill.ended()) > 1)
        wait_for(lambda: mail.read_text().count("clean_episodes: exit 1; see ") > 1)
        mailed = mail.read_text()
    assert well.ended()[:2] == [Counter(done=2), Counter(current=2)]
    assert ill.ended()[:2] == [
        Counter({"done": 2, "set aside": 1}),
        Counter({"current": 2, "set aside": 1}),
    ]
    after = well.made()
    del before["h5dask.run.json"], after["h5dask.run.json"]  # which tells of the latest run
    assert after == before
    assert h5dask.validate(well.output / "monday.h5", values=True) == ()
    said = [line for line in mailed.splitlines() if line.startswith("clean_episodes:")]
    assert set(said) == {
        f"clean_episodes: exit 1; see {ill.folder}/var/log/h5dask/clean_episodes.log"
    }
    assert "To: h5dask" in mailed
    subjects = [line for line in mailed.splitlines() if line.startswith("Subject:")]
    assert [line for line in subjects if str(well.folder) in line] == []
