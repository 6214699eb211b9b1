"""What SLURM's own programs say: its queues, its jobs, and why something can't be. No dask here."""

from __future__ import annotations

import difflib
import math
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from h5dask.errors import NotFound, Refused, Unreachable
from h5dask.workers.slurm.config import Slurm, seconds_of

PROGRAMS = ("sbatch", "squeue", "scancel", "sinfo")
ANSWER_SECONDS = 30.0
"""What one of them may take; they try on their own for a while."""
_LISTED = 5
"""Queues named where one is unknown."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A partition, as sinfo lists it."""

    name: str
    """As jobs name it."""
    is_default: bool
    """Whether it is taken where none is named."""
    state: str
    """"up" where its jobs are started."""
    limit: str
    """The longest walltime."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A job that is in the queue, as squeue lists it."""

    number: str
    """SLURM's id of it."""
    state: str
    """Such as "PENDING"."""
    reason: str
    """Why it is there."""


def is_here(program: str) -> bool:
    """Return whether this machine has one of SLURM's programs."""
    return shutil.which(program) is not None


def refuse_absent() -> None:
    """Raise NotFound where SLURM's programs aren't here."""
    absent = [name for name in PROGRAMS if not is_here(name)]
    if absent:
        raise NotFound(
            f"{', '.join(absent)}: no such program on PATH; start from a machine that submits jobs "
            "to SLURM, or compute with --workers"
        )


def answer(*command: str) -> str:
    """Return what one of SLURM's programs prints.

    Raises
    ------
    Unreachable
        SLURM, or munge, by which it knows its users, doesn't answer.
    Refused
        It answers that this can't be.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        told = (error.stderr or b"").decode(errors="replace")
        raise Unreachable(_faults(command[0], told, f"no answer in {ANSWER_SECONDS:g} s")) from None
    except OSError as error:
        raise NotFound(f"{command[0]}: can't be run ({error.strerror})") from None
    if done.returncode == 0:
        return done.stdout
    said = _faults(command[0], done.stderr, f"ended with code {done.returncode}")
    unheard = any(word in done.stderr for word in ("Unable to contact", "authentication", "munge"))
    raise (Unreachable if unheard else Refused)(said)


def _faults(program: str, told: str, otherwise: str) -> str:
    """Return in one line what a program complained of: of munge, or else its last words."""
    lines = [
        line.removeprefix(f"{program}: ").removeprefix("error: ") for line in told.splitlines()
    ]
    of_munge = [line for line in lines if "munge" in line.lower() and "restart with" not in line]
    if of_munge:
        return f"SLURM: {_sentence(of_munge[0])}; see that munge runs on this machine"
    said = [_sentence(line) for line in lines if line.strip() and not line.startswith("Try ")]
    reason = said[-1] if said else otherwise
    if "Unable to contact" in reason:
        return f"SLURM: {reason}; see that its controller runs, and SLURM_CONF"
    return f"{program}: {reason}"


def _sentence(line: str) -> str:
    return " ".join(line.split()).removesuffix(".")


def queues() -> list[Queue]:
    """Return the partitions there are."""
    found = {}
    for line in answer("sinfo", "--noheader", "--format=%P|%a|%l").splitlines():
        name, state, limit = (part.strip() for part in line.split("|"))
        bare = name.removesuffix("*")
        found[bare] = Queue(bare, name != bare, state, limit)
    return list(found.values())


def listed(name: str) -> list[Listed]:
    """Return the jobs of a name that wait, run, or are about to end."""
    told = answer("squeue", "--noheader", f"--name={name}", "--format=%i|%T|%r")
    rows = [line.strip().split("|", 2) for line in told.splitlines() if line.strip()]
    return [Listed(*row) for row in rows]


def cancel(name: str) -> None:
    """End every job of a name, those too whose submission was cut off."""
    answer("scancel", "--quiet", f"--name={name}", f"--user={os.getuid()}")


def misfits(asked: Slurm, there: Sequence[Queue]) -> list[str]:
    """Return why SLURM would never start such jobs, a line a key.

    Examples
    --------
    >>> there = [Queue("short", True, "up", "1:00:00"), Queue("long", False, "drain", "infinite")]
    >>> asked = Slurm(cores=1, memory="1GB", walltime="02:00:00")
    >>> misfits(asked, there)
    ["walltime: found '02:00:00', expected at most '1:00:00', the limit of queue 'short'"]
    """
    if asked.queue is None:
        chosen = [queue for queue in there if queue.is_default]
        if not chosen:
            return ["queue: SLURM has none that it takes by default; set one"]
    else:
        by_name = {queue.name: queue for queue in there}
        names = asked.queue.split(",")  # the first that is free is taken
        absent = [name for name in names if name not in by_name]
        if absent:
            return [
                f"queue: found {one!r}, expected {_among(one, list(by_name))}" for one in absent
            ]
        chosen = [by_name[name] for name in names]
    found = []
    if not any(queue.state == "up" for queue in chosen):
        states = " and ".join(f"{queue.name!r} is {queue.state!r}" for queue in chosen)
        found.append(f"queue: {states}, so that no job starts; take another or wait until it is up")
    longest = max(chosen, key=_limit)
    if seconds_of(asked.walltime) > _limit(longest):
        found.append(
            f"walltime: found {asked.walltime!r}, expected at most {longest.limit!r}, the limit of "
            f"queue {longest.name!r}"
        )
    return found


def _limit(queue: Queue) -> float:
    try:
        return seconds_of(queue.limit)
    except ValueError:  # "n/a"
        return math.inf


def _among(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    shown = near or names[:_LISTED]
    more = f" or {len(names) - len(shown):,} more" if len(names) > len(shown) and not near else ""
    return f"{' or '.join(map(repr, shown))}{more}; `sinfo` lists them"


def refuse_misfit(asked: Slurm, file: str, there: Sequence[Queue]) -> None:
    """Raise Refused where SLURM, as it is now, would never start such jobs."""
    if wrong := misfits(asked, there):
        raise Refused("\n".join(f"{file}: {one}" for one in wrong))
