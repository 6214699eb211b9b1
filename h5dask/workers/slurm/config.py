"""What SLURM is asked for, as a typed TOML file says it. Nothing is asked here."""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

from dask.utils import parse_bytes, parse_timedelta

from h5dask import config
from h5dask.config.fields import Words
from h5dask.config.paths import Unfit
from h5dask.errors import AccessDenied, Refused

_WALLTIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<rest>\d+(?::\d+){0,2})")
_WITHOUT_END = ("infinite", "unlimited")
_LINE = re.compile(r"[^\x00-\x1f\x7f]+")
_WORD = re.compile(r"[^\x00-\x1f\x7f\"`\\]+")
"""What a script can hold between double quotes, where a $ names a variable of the node."""


@dataclass(frozen=True, slots=True)
class Fitting(Words):
    """Marks a field whose value a function must accept, and says what is expected."""

    accepts: Callable[[Any], Any]
    """Returns what counts as false, or raises an error, where a value doesn't fit."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Let pydantic judge a value, in the way that it documents for such marks."""
        from pydantic import AfterValidator

        return AfterValidator(self._judged).__get_pydantic_core_schema__(source, handler)

    def _judged(self, value: Any) -> Any:
        try:
            fits = bool(self.accepts(value))
        except (KeyError, ValueError):  # dask looks units up
            fits = False
        if not fits:
            raise Unfit(self.text)
        return value


def seconds_of(walltime: str) -> float:
    """Return the seconds of a time as SLURM writes it; infinite where there is no limit.

    Raises
    ------
    ValueError
        It is no such time.

    Examples
    --------
    >>> seconds_of("90"), seconds_of("01:30:00"), seconds_of("2-12"), seconds_of("UNLIMITED")
    (5400.0, 5400.0, 216000.0, inf)
    """
    if walltime.lower() in _WITHOUT_END:
        return math.inf
    match = _WALLTIME.fullmatch(walltime)
    if match is None:
        raise ValueError(walltime)
    parts = [int(part) for part in match["rest"].split(":")]
    if match["days"] is not None:  # days-hours[:minutes[:seconds]]
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:  # minutes[:seconds]
        hours, minutes, seconds = 0, *(*parts, 0)[:2]
    return float(((int(match["days"] or 0) * 24 + hours) * 60 + minutes) * 60 + seconds)


def seconds_in(time: str) -> float:
    """Return the seconds of a time as dask writes it.

    Examples
    --------
    >>> seconds_in("5 minutes")
    300.0
    """
    return float(parse_timedelta(time) or 0)


Line = Annotated[str, Fitting("text of one line", _LINE.fullmatch)]
Word = Annotated[str, Fitting("text without quotes", _WORD.fullmatch)]
Count = Annotated[int, Fitting("an integer above 0", lambda value: value > 0)]
Size = Annotated[str, Fitting("a size such as '16GB'", lambda value: parse_bytes(value) >= 2**20)]
Time = Annotated[str, Fitting("a time such as '5 minutes'", lambda value: seconds_in(value) > 0)]
Walltime = Annotated[
    str, Fitting("a time as SLURM writes it, such as '02:00:00' or '2-12'", seconds_of)
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapt:
    """Between how many jobs there are, as the work to be done asks for."""

    maximum: Count
    """Jobs at most."""
    minimum: Count = 1
    """Jobs at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slurm:
    """What SLURM is asked for: jobs of one node each, and the workers in them."""

    cores: Count
    """Cores of a job."""
    memory: Size
    """Memory of a job, such as "16GB"; its workers share it."""
    walltime: Walltime
    """Time after which SLURM ends a job, such as "02:00:00". One that ends is asked for anew."""
    queue: Word | None = None
    """Partition; without it the one that SLURM takes."""
    account: Word | None = None
    """Whom SLURM charges."""
    jobs: Count = 1
    """Jobs; of an array those that may run at once."""
    processes: Count | None = None
    """Worker processes of a job, which share its cores; one a core without it."""
    interface: Word | None = None
    """Network by which scheduler and workers talk, such as "ib0"; it is there on all sides."""
    dashboard: Word = "127.0.0.1:0"
    """Where the dashboard listens, as HOST:PORT; a port of 0 is a free one."""
    start_deadline: Time = "10 minutes"
    """Time in which a first worker must have come up."""
    lifetime_margin: Time = "2 minutes"
    """Time before the walltime in which workers hand over what they have and end, one by one."""
    death_timeout: Time = "60 s"
    """Time after which a worker that finds no scheduler ends."""
    local_directory: Word | None = None
    """Folder on the node's own disk for what workers put there; $$NAME is a variable of the node.
    Without it the system's temporary folder."""
    log_directory: Word | None = None
    """Folder, which nodes see, for what jobs print; a relative one starts where one stands when
    jobs are asked for. Without it nobody reads that."""
    python: Word | None = None
    """Python on the nodes; without it the one that runs here."""
    prologue: tuple[Line, ...] = ()
    """Lines of shell that each job runs first, such as "module load hdf5"."""
    job_extra_directives: tuple[Line, ...] = ()
    """More that sbatch is told, such as "--qos=long"."""
    worker_extra_args: tuple[Line, ...] = ()
    """More that `dask worker` is told."""
    adapt: Adapt | None = None
    """Jobs that come and go with the work; `jobs` then only limits arrays."""

    @property
    def workers_per_job(self) -> int:
        """Worker processes of a job."""
        return self.processes or self.cores

    @property
    def most_workers(self) -> int:
        """Worker processes of all jobs together."""
        return self.workers_per_job * (self.adapt.maximum if self.adapt else self.jobs)

    @property
    def worker_memory(self) -> int:
        """Bytes that a worker may take."""
        return int(parse_bytes(self.memory)) // self.workers_per_job

    def lifetime(self) -> tuple[str, ...]:
        """Return what tells a worker when to end, so that no job runs into its walltime.

        A quarter of the margin, either way, is chance: workers that began together end one after
        the other. Half of it is left to the last of them.
        """
        limit, margin = seconds_of(self.walltime), seconds_in(self.lifetime_margin)
        if limit == math.inf:
            return ()
        lifetime = f"{limit - margin * 0.75:g}s"
        return ("--lifetime", lifetime, "--lifetime-stagger", f"{margin * 0.25:g}s")

    def arguments(self) -> list[str]:
        """Return what workers are told besides where their scheduler is."""
        told = ("--dashboard-address", "127.0.0.1:0", *self.lifetime(), *self.worker_extra_args)
        return [shlex.quote(one) for one in told]


def load(file: str) -> Slurm:
    """Read a config, or tell everything that is wrong with it by itself.

    Raises
    ------
    NotFound, AccessDenied, Refused
        As `h5dask.config.load`; also where two keys contradict each other.
    """
    read = config.load(file, Slurm)
    wrong = []
    if seconds_of(read.walltime) < 2 * seconds_in(read.lifetime_margin):
        wrong.append(
            f"walltime: found {read.walltime!r}, expected at least twice lifetime_margin, "
            f"{read.lifetime_margin!r}; workers end that much before it"
        )
    if read.workers_per_job > read.cores:
        wrong.append(f"processes: found {read.processes}, expected at most cores, {read.cores}")
    if read.adapt is not None and read.adapt.minimum > read.adapt.maximum:
        wrong.append(
            f"adapt.minimum: found {read.adapt.minimum}, expected at most adapt.maximum, "
            f"{read.adapt.maximum}"
        )
    if wrong:
        raise Refused("\n".join(f"{file}: {one}" for one in wrong))
    if read.log_directory is None:
        return read
    return replace(read, log_directory=os.path.abspath(os.path.expanduser(read.log_directory)))


def make_log_folder(asked: Slurm, file: str) -> None:
    """Make the folder of logs, without which SLURM drops what jobs print.

    Raises
    ------
    AccessDenied
        It can't be made.
    """
    if asked.log_directory is None:
        return
    try:
        os.makedirs(asked.log_directory, exist_ok=True)
    except OSError as error:
        raise AccessDenied(
            f"{file}: log_directory: {asked.log_directory!r} can't be made ({error.strerror})"
        ) from None
