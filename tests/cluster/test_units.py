"""systemd's units and the crontab: by the programs that read them, and alike in what they run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.reading import FOLDER, cron_lines, unit
from tests.servers.programs import program

PYTHON = "/srv/h5dask/.venv/bin/python"
NAME = "h5dask@clean_episodes"
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
"""Of minute, hour, day, month and weekday."""


def judged(folder: Path, kind: str, now: str = "", then: str = "") -> str:
    """Return what systemd says of a unit of ours, of which a part may be changed."""
    for one in ("service", "timer"):
        text = (FOLDER / "systemd" / f"h5dask@.{one}").read_text("utf-8")
        if one == kind:
            assert now in text
            text = text.replace(now, then)
        # It asks whether there is such a program.
        text = text.replace(PYTHON, sys.executable)
        (folder / f"{NAME}.{one}").write_text(text)
    command = [program("systemd-analyze"), "verify", "--man=no", str(folder / f"{NAME}.{kind}")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.stderr or f"exit {ended.returncode}"


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("kind", ["service", "timer"])
def test_systemd_takes_them(tmp_path: Path, kind: str) -> None:
    assert judged(tmp_path, kind) == "exit 0"


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize(
    ("kind", "now", "then", "told"),
    [
        ("service", "Restart=on-abnormal", "Restart=on-abnormality", "on-abnormality"),
        ("service", "Type=oneshot", "Typ=oneshot", "Unknown key 'Typ'|Unknown key name 'Typ'"),
        ("service", PYTHON, "/srv/h5dask/python", "not executable"),
        ("timer", "*-*-* *:17:00", "*-*-* *:77:00", "77"),
        ("timer", "Persistent=yes", "Persistent=perhaps", "perhaps"),
    ],
)
def test_systemd_refuses_them_broken(
    tmp_path: Path, kind: str, now: str, then: str, told: str
) -> None:
    assert re.search(told, judged(tmp_path, kind, now, then))


def test_a_service_writes_where_it_may_and_nowhere_else() -> None:
    told = {name: value for section, name, value in unit("service") if section == "Service"}
    assert told["ProtectSystem"] == "strict"
    assert told["User"] == "h5dask"
    assert (told["NoNewPrivileges"], told["CapabilityBoundingSet"]) == ("yes", "")
    caches = [value for _, name, value in unit("service") if name == "Environment"][-1]
    assert caches == "H5DASK_CACHE=%C/h5dask/indexes NUMBA_CACHE_DIR=%C/h5dask/kernels"
    assert told["CacheDirectory"] == "h5dask"
    assert told["ReadWritePaths"].startswith("-/")  # where all lies in a store, there is no /data


def cron_s_verdict(text: str, folder: Path) -> tuple[int, str]:
    """Return what cron itself says of a crontab, which it doesn't install."""
    path, crontab = folder / "crontab", program("crontab")
    path.write_text(text)
    usage = subprocess.run([crontab, "-h"], capture_output=True, text=True, check=False).stderr
    if "-n\t(dry run" not in usage:  # elsewhere -n means something else
        pytest.skip("this crontab isn't Debian's, and has another way to look at a file")
    ended = subprocess.run([crontab, "-n", str(path)], capture_output=True, text=True, check=False)
    return ended.returncode, ended.stderr


@pytest.mark.servers
@pytest.mark.needs("crontab")
def test_cron_takes_it(tmp_path: Path) -> None:
    code, told = cron_s_verdict((FOLDER / "crontab").read_text("utf-8"), tmp_path)
    assert code == 0, told


@pytest.mark.servers
@pytest.mark.needs("crontab")
@pytest.mark.parametrize(
    ("now", "then", "told"),
    [
        ("17 * * * *", "77 * * * *", "bad minute"),
        ("47 2 * * *", "47 2 * * someday", "bad day-of-week"),
        ("\nMAILTO=", "\nMAILTO ", "bad minute"),
    ],
)
def test_cron_refuses_it_broken(tmp_path: Path, now: str, then: str, told: str) -> None:
    text = (FOLDER / "crontab").read_text("utf-8")
    assert now in text
    code, found = cron_s_verdict(text.replace(now, then), tmp_path)
    assert (code, told in found) == (1, True), found


def test_times_are_times() -> None:
    """What cron would say, for machines without it."""
    assert len(cron_lines()) == 2
    for times, _ in cron_lines():
        for field, (least, most) in zip(times, RANGES, strict=True):
            assert field == "*" or all(least <= int(one) <= most for one in field.split(","))


def test_cron_mails_one_line_and_only_where_something_is_wrong() -> None:
    for _, command in cron_lines():
        assert "%" not in command  # to cron it is the end of a line
        assert "flock" not in command
        work, _, otherwise = command.partition(" || ")
        (log,) = re.findall(r" >/dev/null 2>>(\S+)$", work)
        assert otherwise.startswith("echo ")
        assert log in otherwise
        assert "$?" in otherwise


def test_cron_and_systemd_run_the_same() -> None:
    (start,) = (value for _, name, value in unit("service") if name == "ExecStart")
    for _, command in cron_lines():
        (name,) = re.findall(r"-m pipelines\.(\w+)", command)
        folder, _, rest = command.partition(" && ")
        assert folder == "cd /srv/h5dask"
        run = rest.partition(" >")[0]
        assert f"/srv/h5dask/{run}" == start.replace("%i", name)
