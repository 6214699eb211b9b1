"""One part after the other, each a process of its own that is ended where it takes too long.

What a part measures is its program's business; what is made of it, that of `figures`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.harness import MADE, Measure
from tests.benchmarks.parts import Part
from tests.servers.programs import found

GRACE = 30
"""Seconds in which a part that is ended may end its workers and servers, and clear up."""
_ROOT = Path(__file__).parents[2]
_ELSEWHERE = (Path("/dev/shm"),)
"""Folders beside the temporary one in which programs make files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one part has measured, and why there isn't more of it."""

    title: str
    seconds: float
    measures: tuple[Measure, ...] = ()
    told: str = ""
    """"" where it ran to its end, else what happened."""
    failed: bool = False


def run_parts(parts: Sequence[Part], more: Sequence[str] = ()) -> Iterator[Outcome]:
    """Run each part with more arguments of its program, tell it on stderr, and yield what it gave.

    Nothing that a part has made is left, however it ends.
    """
    with tempfile.TemporaryDirectory(prefix=f"{MADE}{os.getpid()}-") as folder:
        for number, part in enumerate(parts, start=1):
            _say(f"[{number}/{len(parts)}] {part.title}, at most {part.seconds:.0f} s ... ")
            outcome = _run_part(part, Path(folder), more)
            told = outcome.told or f"{len(outcome.measures)} figures"
            _say(f"{outcome.seconds:.0f} s, {told}\n")
            yield outcome


def _say(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)


def _run_part(part: Part, folder: Path, more: Sequence[str]) -> Outcome:
    absent = [name for name in part.needs if found(name) is None]
    if absent:
        told = f"left out: needs {', '.join(absent)}, which `make test-servers` installs"
        return Outcome(title=part.title, seconds=0.0, told=told)
    kept, said = folder / "measures.json", folder / "said.txt"
    command = [sys.executable, "-W", "ignore", "-m", part.module, *part.arguments(), *more]
    command += ["--folder", str(folder), "--json", str(kept)]
    began = time.monotonic()
    with said.open("wb") as out, _program(command, out.fileno(), folder) as program:
        try:
            code = program.wait(part.seconds)
            told = "" if code == 0 else f"failed with {code}: {_last_line(said)}"
        except subprocess.TimeoutExpired:
            told, code = f"ended after its {part.seconds:.0f} s", 0
    measures = _measures(kept)
    kept.unlink(missing_ok=True)
    if told and not code:
        told = f"{told}, with {len(measures)} figures"
    return Outcome(
        title=part.title,
        seconds=time.monotonic() - began,
        measures=measures,
        told=told,
        failed=code != 0,
    )


@contextmanager
def _program(command: Sequence[str], out: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Give a running program; at the end nothing of it runs, and nothing that it made lies about.

    It leads a session of its own, so that the keyboard's interrupt reaches it by us alone, once.
    """
    paths = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": paths}
    program = subprocess.Popen(
        command,
        cwd=_ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=out,
        start_new_session=True,
    )
    try:
        yield program
    finally:
        if program.poll() is None:
            program.send_signal(signal.SIGINT)  # workers and servers are its own to end
            with suppress(subprocess.TimeoutExpired):
                program.wait(GRACE)
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()
        for place in (folder, *_ELSEWHERE):
            for left in place.glob(f"{MADE}{program.pid}-*"):
                shutil.rmtree(left, ignore_errors=True)


def _last_line(said: Path) -> str:
    lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "without a word"


def _measures(kept: Path) -> tuple[Measure, ...]:
    """Return what a program kept until it ended."""
    if not kept.exists():
        return ()
    programs = json.loads(kept.read_text(encoding="utf-8")).values()
    return tuple(Measure(**one) for program in programs for one in program["measures"])
