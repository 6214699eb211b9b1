"""What many blocks cost the client, two processes against two threads, plans against real runs.

python -m tests.benchmarks.bench_scaling --size 1GB --only graph --only processes --only plan

Short runs are mostly start: --work 30 gives each verb as many names of its files as make it compute
so long. Time of graphs is what the client's process computes, however busy the machine is; all else
is by the clock.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from h5dask.cli import main
from h5dask.workers import connect
from tests.benchmarks import files, growing
from tests.benchmarks.harness import (
    N_THREADS,
    Measure,
    Options,
    options,
    report,
    sized,
    timed,
    workplace,
)

BLOCKS = 1_000, 10_000, 100_000
BUILD, RUN, MEMORY = 50.0, 200.0, 500.0
"""Microseconds a block to build and to run, megabytes of the client; at most."""
OF_THREADS = 0.9
WITHIN = 2.0
"""A plan is right where it is off by no more than this factor."""
_SECONDS = 300
"""A graph that takes longer is told as such."""
_WIDTH, _VOCABULARY = 4_096, 32_000
_STRUCTURE = (16, 1, 200)
_QUERIES = 2_000

Made = dict[str, Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One command over the files that were made."""

    name: str
    files: tuple[str, ...]
    """What they are called."""
    options: tuple[str, ...] = ()
    is_one: bool = False
    """Whether it takes no file under several names: neighbors belong to one base."""
    writes: bool = False

    def command(self, made: Made, n_names: int = 1) -> list[str]:
        """Return the command line over files that have so many names each."""
        named = (name for file in self.files for name in _names(made[file], n_names))
        out = ("-o", str(made["out"]), "--overwrite") if self.writes else ()
        return [self.name, *self.options, *map(str, named), *out]


VERBS = (
    Verb(name="summarize", files=("activations",), options=("--by", "scenario")),
    Verb(name="scan", files=("activations",)),
    Verb(
        name="normalize",
        files=("activations",),
        options=("--variable", "activations"),
        writes=True,
    ),
    Verb(
        name="contrast",
        files=("activations",),
        options=("--pair", "base", "other"),
        is_one=True,
    ),
    Verb(name="logits", files=("logits",)),
    Verb(
        name="ground-truth",
        files=("ann", "queries"),
        options=("--k", "10"),
        is_one=True,
        writes=True,
    ),
    Verb(name="concat", files=("proteins", "more proteins"), writes=True),
    Verb(name="profile", files=("proteins",)),
)


def _names(file: Path, n_names: int) -> list[Path]:
    """Return a file under so many names, its own the first."""
    names = [file.with_name(f"{file.stem}-{n}{file.suffix}") for n in range(1, n_names)]
    for name in names:
        if not name.exists():
            name.hardlink_to(file)
    return [file, *names]


def measures(asked: Options) -> Iterator[Measure]:
    """Yield the figures of graphs, then of processes, then of plans."""
    for kind in growing.KINDS:
        for n_blocks in BLOCKS:
            case = f"graph of {kind}, {n_blocks:,} blocks"
            if asked.wants(case):
                yield from _grown(kind, n_blocks, case, asked)
    cases = [
        (verb, case, measure)
        for case, measure in (("processes", _in_processes), ("plan", _against_plan))
        for verb in VERBS
        if asked.wants(f"{case} {verb.name}")
    ]
    if cases:
        with workplace(asked.folder) as folder:
            made = make(folder, asked.nbytes)
            for verb, case, measure in cases:
                yield from measure(verb, made, f"{case} {verb.name}", asked)


def make(folder: Path, nbytes: int) -> Made:
    """Make a file of each kind, of about so many bytes."""
    made = {name: folder / f"{name}.h5" for name in ("ann", "activations", "logits", "proteins")}
    files.ann(made["ann"], nbytes)
    for name, width in (("activations", _WIDTH), ("logits", _VOCABULARY)):
        files.activations(made[name], nbytes // 2, name, width)
        files.with_another_scenario(made[name])
    n_samples, n_noise, length = _STRUCTURE
    files.proteins(
        made["proteins"], max(1, nbytes // (88 * n_samples * n_noise * length)), _STRUCTURE
    )
    made["more proteins"] = folder / "more.h5"
    shutil.copyfile(made["proteins"], made["more proteins"])
    queries = folder / "queries.npy"
    np.save(queries, files.vectors(_QUERIES))
    return {**made, "queries": queries, "out": folder / "out.h5"}


def _grown(kind: str, n_blocks: int, case: str, asked: Options) -> Iterator[Measure]:
    """Yield what one graph takes in a process of its own."""
    with workplace(asked.folder) as folder:
        command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.growing"]
        command += [kind, str(n_blocks), str(folder)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_SECONDS, check=True
            )
        except subprocess.TimeoutExpired:
            yield Measure(
                case=case, against="client", value=_SECONDS, unit="s, not ended", at_most=0
            )
            return
    found = json.loads(done.stdout)
    for what, most in (("open", None), ("build", BUILD), ("run", RUN)):
        yield Measure(
            case=case, against=what, value=found[what] / n_blocks * 1e6, unit="us a block",
            at_most=most if n_blocks == max(BLOCKS) else None,
        )  # fmt: skip
    yield Measure(
        case=case, against="client's peak memory", value=found["peak"] / 1e6, unit="MB",
        at_most=MEMORY, notes=f"{found['idle'] / 1e6:.0f} MB before",
    )  # fmt: skip


def _in_processes(verb: Verb, made: Made, case: str, asked: Options) -> Iterator[Measure]:
    """Yield how fast two processes are beside two threads, a cluster that is there already."""
    threads = _running(verb.command(made))
    threads()  # what is compiled and imported once
    alone = timed(threads)
    n_names = 1 if verb.is_one else max(1, ceil(asked.work / alone))
    with connect(workers=N_THREADS) as client:
        there = ["--scheduler", client.scheduler.address]
        _run([*verb.command(made), *there], io.StringIO())
        command = verb.command(made, n_names)
        ours, theirs = _running([*command, *there]), _running(command)
        pairs = [(timed(ours), timed(theirs)) for _ in range(asked.repeat)]
    mine, other = (min(times) for times in zip(*pairs, strict=True))
    yield Measure(
        case=f"{case}, {n_names} x {sized(asked.nbytes)}",
        against=f"{N_THREADS} threads",
        value=other / mine,
        unit="x their speed",
        at_least=OF_THREADS,
        notes=f"{mine:.1f} and {other:.1f} s",
    )


def _against_plan(verb: Verb, made: Made, case: str, asked: Options) -> Iterator[Measure]:
    """Yield how long a verb takes for each second of its plan; inputs come from the disk."""
    told = io.StringIO()
    _run([*verb.command(made), "--plan", "--json"], told)
    planned = sum(one["total"]["seconds"] for one in json.loads(told.getvalue())["plans"])
    run = _running(verb.command(made))
    run()
    real = computed = float("inf")
    for _ in range(asked.repeat):
        for path in made.values():
            _forget(path)
        before = growing.computing()
        real = min(real, timed(run))
        computed = min(computed, (growing.computing() - before) / N_THREADS)
    yield Measure(
        case=f"{case}, {sized(asked.nbytes)}",
        against="its plan",
        value=real / planned,
        unit="x as long",
        at_least=1 / WITHIN,
        at_most=WITHIN,
        notes=f"{real:.2f} s, planned {planned:.2f} s, each thread computed {computed:.2f} s",
    )


def _running(command: list[str]) -> Callable[[], None]:
    return lambda: _run(command, io.StringIO())


def _run(command: list[str], out: io.StringIO) -> None:
    """Run a command in this process; what it found doesn't matter, that it could run does."""
    with warnings.catch_warnings(), redirect_stdout(out), redirect_stderr(io.StringIO()) as said:
        warnings.simplefilter("ignore")
        try:
            code: Any = main(command, standalone_mode=False)
        except SystemExit as end:
            code = end.code
    if code not in (None, 0, 1):
        raise RuntimeError(f"{' '.join(command)}: exit code {code}: {said.getvalue()}")


def _forget(path: Path) -> None:
    """Let the system drop a file from memory, where it can be asked to."""
    if path.exists() and hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    given = options(__doc__, size="256MB")
    report("Scaling", measures(given), given)
