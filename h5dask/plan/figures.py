"""The machines that a plan is made for: those named in a text, or this one."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from h5dask.errors import Refused
from h5dask.plan.rates import Rates

_NUMBERS = ("workers", "cores", "machines")
_RATES = tuple(one.name for one in fields(Rates))
_ANEW = "rates=new"
KEYS = (*_NUMBERS, "memory", *_RATES, "rates")
"""What a text may give figures for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What there is to compute with."""

    workers: int = 1
    """Worker processes; one, where threads of a single process compute."""
    cores: int = 1
    """Threads a worker."""
    memory: int | None = None
    """Bytes of memory a worker, None where they aren't known."""
    machines: int = 1
    """Machines that the workers are spread over; those of one share its disk."""
    processes: bool = False
    """Whether tasks are sent to processes, at 2 ms each, rather than run here at 0.1 ms."""
    walltime: float | None = None
    """Seconds after which a job that workers run in is ended, None where none is."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Rates that were given, by their names in `Rates`; the others are measured."""
    anew: bool = False
    """Whether rates are measured though they are known."""

    @property
    def threads(self) -> int:
        """Threads in all."""
        return self.workers * self.cores


def this_machine(n_workers: int | None = None) -> Figures:
    """Return what this machine has, in threads or in worker processes of one thread each.

    Examples
    --------
    >>> this_machine(4).workers, this_machine(4).cores
    (4, 1)
    """
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    if n_workers is None:
        return Figures(cores=CPU_COUNT, memory=MEMORY_LIMIT)
    return Figures(workers=n_workers, memory=MEMORY_LIMIT // n_workers, processes=True)


def parse_figures(text: str) -> Figures:
    """Return the machines that a text such as "workers=100,cores=8,memory=32GB" names.

    Parameters
    ----------
    text : str
        `workers`, `cores` (threads a worker), `memory` (a worker's) and `machines` (one a worker
        without it); rates such as `read=1GB/s`, which are measured without: see `Rates`;
        `rates=new`, where what was measured before counts no more. Without `workers` the threads
        of one machine; "" is this machine.

    Raises
    ------
    Refused
        A key isn't known, or a value is no number; all of them are named.

    Examples
    --------
    >>> figures = parse_figures("workers=100,cores=8,memory=32GB,read=2GB/s")
    >>> figures.threads, figures.memory, figures.rates
    (800, 32000000000, {'read': 2000000000.0})
    """
    if not text.strip():
        return this_machine()
    found: dict[str, float] = {}
    said, anew = [], False
    for part in (part.strip() for part in text.split(",")):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if f"{key}={value}" == _ANEW:
            anew = True
        elif key == "rates":
            said.append(f"rates={value!r} is unknown, expected {_ANEW}")
        elif key not in KEYS:
            said.append(_unknown(key))
        elif key in found:
            said.append(f"{key} is given twice")
        else:
            found[key] = number = _number(value, whole=key in _NUMBERS, unit=key == "memory")
            if not (math.isfinite(number) and number > 0):
                said.append(f"{key}={value!r} is no {_expected(key)}")
    if said:
        raise Refused(f"--plan {text}: {'; '.join(said)}; give such as workers=4,memory=8GB")
    workers = int(found.get("workers", 1))
    return Figures(
        workers=workers,
        cores=int(found.get("cores", 1 if "workers" in found else this_machine().cores)),
        memory=int(found["memory"]) if "memory" in found else None,
        machines=min(int(found.get("machines", workers)), workers),
        processes="workers" in found,
        rates={key: found[key] for key in _RATES if key in found},
        anew=anew,
    )


def _unknown(key: str) -> str:
    near = difflib.get_close_matches(key, KEYS, 1)
    return f"{key!r} is unknown, " + (
        f"did you mean {near[0]!r}" if near else f"expected one of {', '.join(KEYS)}"
    )


def _expected(key: str) -> str:
    if key in _NUMBERS:
        return "whole number of at least 1"
    return "size such as 32GB" if key == "memory" else "rate such as 1GB/s or 50G"


def _number(value: str, *, whole: bool, unit: bool) -> float:
    """Return what a text says, NaN where it says no number, or lacks a unit that it must have."""
    from dask.utils import parse_bytes

    if whole:
        return int(value) if value.isdecimal() else math.nan
    if not value[:1].isdecimal():
        return math.nan  # dask takes a unit alone for one of it
    if value.isdecimal() and unit:
        return math.nan  # 32 would be bytes
    try:
        return float(parse_bytes(value.removesuffix("/s").removesuffix("FLOP")))
    except (ValueError, OverflowError):
        return math.nan
