"""A copy of the package, a fault put into it, and whether the tests that are named notice it.

The checkout itself is never touched, and nothing of a copy stays.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.architecture import ROOT

COPIED = ("h5dask", "tests", "pyproject.toml")
SECONDS = 300
"""What the tests of one fault may take."""
_OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-p", "tests.mutations.unshrunk")
_FAILED = 1
"""How pytest ends where tests ran and one failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """A fault, and who must notice it."""

    file: str
    """Where, below h5dask/."""
    old: str
    """What stands there, exactly once."""
    new: str
    """What is put in its place."""
    breaks: str
    """What goes wrong then."""
    tests: tuple[str, ...]
    """Tests below tests/, of which one must fail."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of the package and its tests."""

    folder: Path
    """Where it lies; what is compiled lies beside it."""

    def tested(self, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run some tests of the copy, up to the first that fails."""
        environment = {
            **os.environ,
            "CI": "1",  # hypothesis tries the same examples each time
            "NUMBA_CACHE_DIR": str(self.folder.parent / "compiled"),
            "PYTHONDONTWRITEBYTECODE": "1",  # it is known by second and size, which may be the same
            "PYTHONPATH": str(self.folder),
        }
        named = [f"tests/{test}" for test in tests]
        return subprocess.run(
            [sys.executable, "-m", "pytest", *_OPTIONS, *named],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def catches(self, mutation: Mutation) -> bool:
        """Whether a fault is noticed; the copy is whole again afterwards.

        Raises
        ------
        RuntimeError
            Its tests could not be run.
        """
        path = self.folder / "h5dask" / mutation.file
        whole, times = path.read_text(encoding="utf-8"), path.stat()
        path.write_text(mutated(whole, mutation), encoding="utf-8")
        try:
            found = self.tested(mutation.tests)
        finally:
            path.write_text(whole, encoding="utf-8")
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # its machine code stays good
        if found.returncode not in (0, _FAILED):
            raise RuntimeError(f"{mutation.file}: its tests could not be run:\n{found.stdout}")
        return found.returncode == _FAILED


@contextmanager
def copied() -> Iterator[Copy]:
    """Give a copy of the package, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="h5dask-mutated-") as folder:
        place = Path(folder, "copy")
        place.mkdir()
        Path(folder, "compiled").mkdir(mode=0o700)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, place)
        yield Copy(place)


def mutated(text: str, mutation: Mutation) -> str:
    """Return a file's text with the fault.

    Raises
    ------
    ValueError
        What the fault takes the place of isn't there exactly once.
    """
    if (n := text.count(mutation.old)) != 1:
        raise ValueError(
            f"h5dask/{mutation.file}: found {mutation.old!r} {n} times, expected once; put the "
            "mutation where its line is now, or drop it with the line"
        )
    return text.replace(mutation.old, mutation.new)
