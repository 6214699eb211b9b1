"""A pipeline installed as cluster/crontab expects it, but below a folder instead of below /."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tests.architecture import ROOT
from tests.cluster.reading import cron_lines

EPISODES = ROOT / "tests" / "real" / "episodes" / "minilm_docstring_sentences_300.h5"
NAME = "clean_episodes"
_PYTHON = """\
#!/bin/sh
exec {python} "$@"
"""
_CONFIG = """\
landing = "{folder}/data/landing"
output = "{folder}/data/cleaned"
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """Checkout, config, logs and data of one scheduled pipeline."""

    folder: Path
    """Where all of it lies."""

    @property
    def landing(self) -> Path:
        """Folder of the inputs."""
        return self.folder / "data" / "landing"

    @property
    def output(self) -> Path:
        """Folder of the outputs."""
        return self.folder / "data" / "cleaned"

    @property
    def command(self) -> str:
        """The crontab's own command, for this folder."""
        (command,) = (line for _, line in cron_lines() if f".{NAME} " in line)
        return re.sub(r"/(srv/h5dask|etc/h5dask|var/log/h5dask)", rf"{self.folder}/\1", command)

    @property
    def environment(self) -> dict[str, str]:
        """What the command needs to know besides."""
        return {"H5DASK_CACHE": str(self.folder / "cache")}

    def start(self) -> subprocess.Popen[str]:
        """Run the command as cron does: by a shell, with what it prints to be mailed."""
        return subprocess.Popen(
            ["/bin/sh", "-c", self.command],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self) -> int:
        """Run the pipeline in this process, with the arguments of the command; return its exit."""
        work = self.command.partition(" >/dev/null ")[0]
        module, *args = shlex.split(work.partition(" -m ")[2])
        log = self.folder / "var" / "log" / "h5dask" / f"{NAME}.log"
        with log.open("a") as out, redirect_stdout(io.StringIO()), redirect_stderr(out):
            code: int = import_module(module).main(args)
        return code

    def log(self) -> str:
        """Return all that runs have told so far."""
        path = self.folder / "var" / "log" / "h5dask" / f"{NAME}.log"
        return path.read_text() if path.exists() else ""

    def said(self) -> list[str]:
        """Return the sentences among it."""
        lines = map(json.loads, self.log().splitlines())  # each of them is one of JSON
        return [told["text"] for told in lines if "text" in told]

    def ended(self) -> list[Counter[str]]:
        """Return of each run how many steps ended how: {"done": 2}."""
        counted = re.compile(r"(\d+) (done|current|busy|set aside|vanished)")
        lines = [text for text in self.said() if re.match(r"\d+ \w+", text)]
        return [Counter({what: int(n) for n, what in counted.findall(text)}) for text in lines]

    def made(self) -> dict[str, tuple[int, int, bytes]]:
        """Return of each output and record which file it is, since when, and what it holds."""
        return {
            path.name: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
            for path in sorted(self.output.iterdir())
        }


def install(folder: Path) -> Installed:
    """Lay out what the crontab's command expects."""
    at = Installed(folder)
    python = folder / "srv" / "h5dask" / ".venv" / "bin" / "python"
    for made in (python.parent, folder / "etc" / "h5dask", folder / "var" / "log" / "h5dask"):
        made.mkdir(parents=True)
    at.landing.mkdir(parents=True)
    python.write_text(_PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    (folder / "srv" / "h5dask" / "pipelines").symlink_to(ROOT / "pipelines")
    config = folder / "etc" / "h5dask" / f"{NAME}.toml"
    config.write_text(_CONFIG.format(folder=folder))
    return at
