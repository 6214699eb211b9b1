"""A scheduler with workers in processes of their own, some packages of which may be hidden."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.architecture import ROOT

SECONDS = 60
"""What they may take to start."""

PROGRAM = """
import asyncio, json, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}")

sys.meta_path.insert(0, Hidden())

from distributed import Scheduler, Worker

async def main():
    address = {scheduler!r}
    if not address:
        scheduler = await Scheduler(host="127.0.0.1", dashboard=False)
        address = scheduler.address
    workers = [await Worker(address, nthreads=1) for _ in range({n_workers!r})]
    print(address, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for worker in workers:
        await worker.close()

asyncio.run(main())
"""


@contextmanager
def running(
    folder: Path, *, n_workers: int, hidden: tuple[str, ...] = (), scheduler: str = ""
) -> Iterator[str]:
    """Yield the address of a scheduler; its processes end when it is left.

    Parameters
    ----------
    folder : Path
        Where workers put what they have on disk.
    n_workers : int
        Workers, of one thread each, in the scheduler's process.
    hidden : tuple of str
        Packages that can't be imported there.
    scheduler : str
        Address of one that runs already; only workers are started then.
    """
    program = PROGRAM.format(hidden=hidden, n_workers=n_workers, scheduler=scheduler)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "DASK_TEMPORARY_DIRECTORY": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as started:
        assert started.stdout is not None
        try:
            address = started.stdout.readline().strip()
            assert address, "no scheduler came up"
            yield address
        finally:
            try:
                started.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                started.kill()
