"""What a person watches: counts under every scheduler, and each way in which they are shown."""

import io
import json
import logging
import os
import pty
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import pytest
from dask.delayed import delayed

from h5dask.progress import Progress, StageRecord, silent, watch
from h5dask.progress.counting import Tally, counting
from h5dask.progress.displays import JsonLines, Lines, Moment
from h5dask.workers import connect
from tests.architecture import ROOT
from tests.scheduler import running

SECONDS = 120


@pytest.fixture(scope="module", params=["threads", "processes"])
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each of the places where tasks are counted."""
    with nullcontext() if request.param == "threads" else connect(workers=1):  # type: ignore[union-attr]
        yield request.param


def blocks(n: int, name: str = "check") -> list[Any]:
    """Make n tasks of a name, and one that takes their results."""
    made = [delayed(abs)(i, dask_key_name=f"{name}-{i}") for i in range(n)]
    return [delayed(sum)(made)]


def test_tasks_are_counted(place: str) -> None:
    tally = Tally()
    with counting(tally, "check-"):
        assert dask.compute(*blocks(7)) == (21,)
        assert dask.compute(*blocks(5)) == (10,)
    assert (tally.counted, tally.n_counted) == (12, 12)
    assert tally.done == tally.n_tasks >= 14


def test_tasks_of_blocks_are_counted_by_the_name_of_their_array(place: str) -> None:
    tally = Tally()
    with counting(tally, "write-"):
        values = da.ones(8, chunks=2).map_blocks(abs, name="write-it", dtype=float)
        assert values.compute().sum() == 8
    assert (tally.counted, tally.n_counted) == (4, 4)


def test_tasks_that_fail_are_not_done(place: str) -> None:
    tally = Tally()
    with counting(tally), pytest.raises(ZeroDivisionError, match="by zero"):
        dask.compute(delayed(divmod)(1, 0))
    assert tally.done < tally.n_tasks


def test_others_on_the_same_scheduler_are_not_counted(tmp_path: Path) -> None:
    from distributed import Client

    tally = Tally()
    with (
        running(tmp_path, n_workers=1) as address,
        Client(address, set_as_default=False) as other,
        connect(scheduler=address),
        counting(tally),
    ):
        assert other.submit(sum, [1, 2]).result(timeout=SECONDS) == 3
        dask.compute(*blocks(3))
    assert tally.n_tasks == tally.done == 4


def test_a_stage_is_recorded(place: str) -> None:
    with silent() as progress:
        with progress.stage("known", n_blocks=5, nbytes=80, counted="check-"):
            dask.compute(*blocks(5))
        with progress.stage("unknown", counted="check-"):
            dask.compute(*blocks(3))
        with progress.stage("idle"):
            pass
    found = [(one.name, one.n_blocks, one.nbytes, one.n_tasks) for one in progress.records]
    assert found == [("known", 5, 80, 6), ("unknown", 3, None, 4), ("idle", 0, None, 0)]
    first = progress.records[0].as_json()
    assert json.loads(json.dumps(first)) == first
    assert StageRecord(**first) == progress.records[0]


def test_a_stage_that_fails_is_not_recorded() -> None:
    with (
        silent() as progress,
        pytest.raises(ZeroDivisionError, match="by zero"),
        progress.stage("fails"),
    ):
        dask.compute(delayed(divmod)(1, 0))
    assert progress.records == ()


def at(seconds: float, done: int, **known: Any) -> Moment:
    known = {"n_blocks": 4, "nbytes": 8_000_000, **known}
    return Moment(stage="check", number=0, seconds=seconds, done=done, **known)


def test_lines_come_at_the_beginning_now_and_then_and_at_the_end() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.begin(at(0, 0))
    for seconds in range(1, 24):
        lines.move(at(seconds, seconds // 6))
    lines.end(at(24, 4), failed=False)
    assert stream.getvalue().splitlines() == [
        "check: 4 blocks, 8.00 MB ...",
        "check: 1 of 4 blocks, 2.00 MB of 8.00 MB, 182 kB/s, 33.0 s left",
        "check: 3 of 4 blocks, 6.00 MB of 8.00 MB, 286 kB/s, 7.0 s left",
        "check: done in 24.0 s, 333 kB/s",
    ]


def test_lines_leave_out_what_is_short_and_what_nobody_knows() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.begin(at(0, 0))
    lines.end(at(0.5, 4), failed=False)
    assert stream.getvalue() == ""
    unknown = {"n_blocks": None, "nbytes": None}
    lines.move(at(1, 0, **unknown))
    lines.move(at(4000, 1, **unknown))
    lines.end(at(4001, 1, **unknown), failed=True)
    told = ["check: begun ...", "check: 1 block", "check: failed after 4,001.0 s"]
    assert stream.getvalue().splitlines() == told


def test_lines_of_json(place: str) -> None:
    stream = io.StringIO()
    with watch(log_json=True, stream=stream) as progress:
        progress.say("Starting ...")
        with progress.stage("check", nbytes=100, counted="check-"):
            dask.compute(*blocks(5))
        with pytest.raises(ZeroDivisionError, match="by zero"), progress.stage("fails"):
            _ = 1 / 0
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["say", "begin", "end", "begin", "failed"]
    assert all(line["time"].endswith("+00:00") for line in lines)
    assert lines[0]["text"] == "Starting ..."
    end = {name: lines[2][name] for name in ("stage", "done", "n_blocks", "nbytes", "nbytes_done")}
    assert end == {"stage": "check", "done": 5, "n_blocks": 5, "nbytes": 100, "nbytes_done": 100}


def test_how_far_it_is_is_told_while_it_runs(place: str) -> None:
    told = threading.Event()

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            if '"progress"' in text and '"done": 1' in text:
                told.set()
            return len(text)

    progress = Progress(JsonLines(Stream(), every=0.05))
    with progress, progress.stage("wait", counted="wait-"):
        dask.compute(delayed(abs)(1, dask_key_name="wait-1"))
        assert told.wait(timeout=SECONDS)


def test_quiet_shows_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with watch(quiet=True) as progress, progress.stage("check"):
        progress.say("nothing")
        dask.compute(*blocks(5))
    assert capfd.readouterr() == ("", "")
    assert len(progress.records) == 1


def test_a_closed_stream_does_not_matter() -> None:
    stream = io.StringIO()
    stream.close()
    with watch(log_json=True, stream=stream) as progress, progress.stage("check"):
        progress.say("nobody listens")


def test_what_the_package_logs_is_shown_meanwhile() -> None:
    stream = io.StringIO()
    logger = logging.getLogger("h5dask.kernels.compile")
    before = logging.getLogger("h5dask").level
    with watch(stream=stream):
        logger.info("Compiling kernels (once) ...")
    logger.info("nobody watches")
    assert stream.getvalue() == "Compiling kernels (once) ...\n"
    assert logging.getLogger("h5dask").level == before


ON_TERMINAL = """
    import sys, time
    import dask
    from h5dask.progress import watch

    slow = dask.delayed(time.sleep, pure=False)
    with watch() as progress:
        progress.say("Starting [1] ...")
        with progress.stage("check [bold]a.h5", n_blocks=4, nbytes=4_000_000):
            print("on stdout", flush=True)
            dask.compute([slow(0.5) for _ in range(4 + 4 * {wait})], num_workers=1)
    print("after", flush=True)
"""


def on_terminal(*, wait: bool) -> tuple[str, str, int]:
    """Run with stderr a terminal; return what came there, what on stdout, and the exit code."""
    ours, theirs = pty.openpty()
    program = textwrap.dedent(ON_TERMINAL).format(wait=wait)
    seen = b""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
    ) as started:
        os.close(theirs)
        interrupted = False
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            seen += part
            if wait and not interrupted and b"1 of 4 blocks" in seen:
                interrupted = True
                started.send_signal(signal.SIGINT)
            if not part:
                break
        told, _ = started.communicate(timeout=SECONDS)
    os.close(ours)
    return seen.decode(), told.decode(), started.returncode


def test_bars_come_and_go_on_a_terminal() -> None:
    seen, told, code = on_terminal(wait=False)
    assert code == 0
    assert told == "on stdout\nafter\n"
    assert "Starting [1] ..." in seen
    assert "check [bold]a.h5" in seen
    assert "2 of 4 blocks" in seen
    assert "2.00 MB of 4.00 MB" in seen
    assert "left" in seen
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h") == 1  # cursor hidden, and shown again
    assert seen.endswith("\r\x1b[2K\x1b[?25h\r")  # the line of the bar is erased


def test_ctrl_c_leaves_the_terminal_clean() -> None:
    seen, told, _ = on_terminal(wait=True)
    assert told == "on stdout\n"
    bars, _, rest = seen.rpartition("\x1b[?25h")
    assert bars
    assert "KeyboardInterrupt" in rest  # Python's own, after the bars are gone


def test_a_signed_url_is_not_told() -> None:
    stream = io.StringIO()
    with watch(log_json=True, stream=stream) as progress:
        with progress.stage("scan https://host/a.h5?token=b7e3"):
            pass
        progress.say("read https://host/a.h5?token=b7e3 and s3://bucket/what?.h5")
    assert "b7e3" not in stream.getvalue()
    assert "read https://host/a.h5 and s3://bucket/what?.h5" in stream.getvalue()
