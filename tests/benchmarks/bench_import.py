"""Starting: what an import and a command's help take, each in a new process, in turns.

python -m tests.benchmarks.bench_import --repeat 10
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from tests.benchmarks.harness import Measure, Options, Way, options, race, report

IMPORTED = ("h5py", "xarray", "h5netcdf", "virtualizarr")
"""Peers; what isn't installed is left out, and named among what isn't."""
OURS = "import h5dask"
HELP = "h5dask --help"
_HELP = "import sys; sys.argv = ['h5dask', '--help']; from h5dask.cli import main; main()"


def measures(asked: Options) -> Iterator[Measure]:
    """Yield how many times longer others take to be imported, and our help beside them."""
    peers = {f"import {name}": _python(f"import {name}") for name in IMPORTED if _is_there(name)}
    peers["an empty program"] = _python("pass")
    for case, code in ((OURS, OURS), (HELP, _HELP)):
        if asked.wants(case):
            for name, mine, theirs in race(_python(code), peers, asked):
                yield Measure(
                    case=f"{case}, Python's own start included",
                    against=name,
                    value=theirs / mine,
                    unit="x its speed",
                    notes=f"{mine:.2f} and {theirs:.2f} s",
                )


def _is_there(name: str) -> bool:
    tried = subprocess.run(
        [sys.executable, "-c", f"import {name}"], capture_output=True, check=False
    )
    return tried.returncode == 0


def _python(code: str) -> Way:
    """Return a run of some code in a new process."""

    def way() -> None:
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)

    return way


if __name__ == "__main__":
    given = options(__doc__)
    report("Starting", measures(given), given)
