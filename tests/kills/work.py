"""A job that leaves word of every block that it computes, and runs of it that can be struck."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import h5dask
from h5dask.jobs import Job, Outcome, run
from h5dask.jobs import state as states
from h5dask.storage.chunkwriter import ChunkWriter

N_ROWS, N_BLOCKS = 1_200, 30
N_COLUMNS = 16
ROWS = N_ROWS // N_BLOCKS
BLOCK_SECONDS = 0.04
PANEL_SECONDS = 0.25


def make_source(path: Path, n_columns: int = N_COLUMNS) -> Path:
    """Write episodes whose first value tells the row."""
    values = np.random.default_rng(0).standard_normal((N_ROWS, n_columns)).astype("f4")
    values[:, 0] = np.arange(N_ROWS)
    ids = np.array([f"ep{i}" for i in range(N_ROWS)], object)
    ds = xr.Dataset({"embeddings": (("episode", "feature"), values)})
    h5dask.write_dataset(ds.assign_coords(episode_ids=("episode", ids)), path)
    return path


@dataclass(frozen=True)
class Freezer:
    """Freezes a worker in the middle of what follows a certain block."""

    block: int
    where: str
    """"write": half of the next bytes are written; "close": HDF5's library hasn't closed the
    file."""
    word: str
    """Path of a file that then tells the process's number: of the first one that came so far."""

    @property
    def frozen(self) -> int:
        """Number of the process that was frozen."""
        return int(Path(self.word).read_text())

    def is_done(self) -> bool:
        """Whether a process was frozen."""
        return os.path.exists(self.word) and Path(self.word).stat().st_size > 0

    @property
    def last_word(self) -> str:
        """Path of a file that tells that the frozen one has gone on, and done the rest."""
        return f"{self.word}.late"

    def arm(self, block: int) -> None:
        """Let this process stop soon, if it is the first."""
        if block >= self.block and not os.path.exists(self.word):
            {"write": self._stop_in_write, "close": self._stop_before_close}[self.where]()

    def _stop_in_write(self) -> None:
        real = os.pwrite

        def half(file: int, raw: Any, offset: int) -> int:
            os.pwrite = real
            view = memoryview(raw)
            n = real(file, view[: len(view) // 2], offset)
            return n + self._stopped(lambda: real(file, view[n:], offset + n))

        os.pwrite = half

    def _stop_before_close(self) -> None:
        real = ChunkWriter.__exit__

        def stopped(writer: ChunkWriter, *error: Any) -> None:
            ChunkWriter.__exit__ = real  # type: ignore[method-assign]
            self._stopped(lambda: real(writer, *error))

        ChunkWriter.__exit__ = stopped  # type: ignore[assignment,method-assign]

    def _stopped(self, rest: Callable[[], Any]) -> Any:
        """Stop, and do the rest afterwards; the other word tells that it is done."""
        with suppress(FileExistsError), open(self.word, "x") as file:
            file.write(str(os.getpid()))
            file.flush()
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(0.5)  # another thread may be the first to stop
            done = rest()
            Path(self.last_word).touch()
            return done
        return rest()


def computed(block: Any, tally: str = "", freezer: Freezer | None = None) -> Any:
    """Compute one block slowly, and leave word of it: another process may count."""
    time.sleep(BLOCK_SECONDS)
    if freezer is not None:
        freezer.arm(int(block[0, 0]) // ROWS)
    if tally:
        file = os.open(tally, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{int(block[0, 0]) // ROWS}\n".encode())
        os.close(file)
    return block * np.float32(2)


def doubled(job: Job, tally: str = "", freezer: Freezer | None = None) -> None:
    """Write the input's values twice as large, in panels of a few blocks."""
    states.PANEL_SECONDS = PANEL_SECONDS
    ds = h5dask.open_dataset(job.urls, chunks={"episode": ROWS})
    values = ds.embeddings.data.map_blocks(
        partial(computed, tally=tally, freezer=freezer), dtype="f4", meta=np.empty((0, 0), "f4")
    )
    made = ds.assign(embeddings=(ds.embeddings.dims, values))
    job.write(made, compression=job.parameters.get("compression"))


@dataclass(frozen=True)
class Task:
    """One output that is made, and what tells how."""

    source: Path
    output: str
    tally: Path
    compression: str | None = None
    options: Any = None

    def run(self, freezer: Freezer | None = None) -> Outcome:
        """Run it, wherever computations run now."""
        work = partial(doubled, tally=str(self.tally), freezer=freezer)
        return run(
            work, str(self.source), self.output, name="doubled",
            parameters={"compression": self.compression}, output_options=self.options,
        )  # fmt: skip

    def run_at(self, scheduler_file: str) -> None:
        """Run it as the only thing that a process does."""
        with h5dask.connect(scheduler_file=scheduler_file, timeout=60):
            self.run()

    @property
    def blocks(self) -> list[int]:
        """Which blocks were computed so far, in order, each as often as it was."""
        return [*map(int, self.tally.read_text().split())] if self.tally.exists() else []

    @property
    def state(self) -> Path:
        """The folder of the run's state."""
        return Path(f"{self.output}{states.ENDING}")

    def panels(self, folder: Path | None = None) -> list[range]:
        """Return the panels that are on record."""
        logs = (folder or self.state).glob(f"*/{states.LOG}")
        lines = [line for log in logs for line in log.read_text().splitlines()]
        steps = [json.loads(line) for line in lines if line.endswith("}")]
        return [range(*step["at"]) for step in steps if step.get("step", "").startswith("write ")]
