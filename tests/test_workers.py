"""Local worker processes: their environment, their dashboard, and that nothing of them stays."""

import os
import signal
import sys
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from h5dask.workers import ENVIRONMENT, local_processes


def seen_inside() -> dict[str, Any]:
    """Tell what a worker is: its environment, whom it listens to, where it may write."""
    from distributed import get_worker

    worker = get_worker()
    return {
        "environment": {name: os.environ.get(name) for name in ENVIRONMENT},
        "deaf to Ctrl-C": signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "threads": worker.state.nthreads,
        "folder": worker.local_directory,
    }


def test_workers_are_set_up_and_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Workers that imported this would not come up.
    script = tmp_path / "script.py"
    script.write_text("raise RuntimeError('imported by a worker')")
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", str(script), raising=False)
    monkeypatch.setattr(main, "__spec__", None)
    for name in ENVIRONMENT:  # clusters of other tests leave them set, and what is set is kept
        monkeypatch.delenv(name, raising=False)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    before = set(psutil.Process().children(recursive=True))
    with local_processes(1, str(tmp_path)) as client:
        seen = client.submit(seen_inside).result()
        with urllib.request.urlopen(client.dashboard_link, timeout=30) as page:
            assert page.status == 200
        assert client.dashboard_link.startswith("http://127.0.0.1:")
        started = set(psutil.Process().children(recursive=True)) - before
    assert seen["environment"] == ENVIRONMENT
    assert (seen["deaf to Ctrl-C"], seen["threads"]) == (True, 1)
    assert Path(seen["folder"]).is_relative_to(tmp_path)
    assert main.__file__ == str(script)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    workers = [one for one in started if one.is_running() and "spawn_main" in str(one.cmdline())]
    assert workers == []
