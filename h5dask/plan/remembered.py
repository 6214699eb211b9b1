"""The rates of this machine between runs: kept beside the index cache, else measured."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from h5dask.plan.rates import Rates, calibrate
from h5dask.storage.remembering import folder, folders

FRESH = timedelta(days=30)
"""How long rates count: disks fill, machines get neighbors."""
_PACKAGES = ("h5dask", "numba", "numpy", "distributed")
"""Another version of these may be faster or slower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Rates, and where they are known from."""

    rates: Rates
    at: datetime | None = None
    """When they were measured; None where they were given."""
    sampled: str = ""
    """The URL whose store gave the rate of reading, "" where it is this machine's."""


def known_rates(*, anew: bool = False) -> Known:
    """Return this machine's rates: those of the last 30 days, or new ones, which are kept.

    Parameters
    ----------
    anew : bool, default False
        Whether they are measured though known.

    Examples
    --------
    >>> first, then = known_rates(), known_rates()
    >>> first == then
    True
    """
    name = f"rates-{_key()}.json"
    for place in () if anew else folders():
        if (known := _known(place / name)) is not None:
            return known
    found = Known(rates=calibrate(), at=datetime.now(UTC).replace(microsecond=0))
    _keep(found, folder() / name)
    return found


def machine() -> dict[str, Any]:
    """Return what makes this machine's rates its own; homes are shared by many machines."""
    return {
        "host": platform.node(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in _PACKAGES},
    }


def _key() -> str:
    return hashlib.sha256(json.dumps(machine()).encode()).hexdigest()[:16]


def _processor() -> str:
    """Return the model of the processor, "" where the system doesn't tell."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _known(path: Path) -> Known | None:
    """Return the rates in a file, None where there are none that count."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        at = datetime.fromisoformat(found["measured"])
        rates = {one.name: float(found["rates"][one.name]) for one in fields(Rates)}
        counts = timedelta(0) <= datetime.now(UTC) - at <= FRESH
    except (OSError, LookupError, TypeError, ValueError):
        return None  # whatever is wrong with it, they are soon measured
    usable = all(math.isfinite(rate) and rate > 0 for rate in rates.values())
    return Known(rates=Rates(**rates), at=at) if counts and usable else None


def _keep(found: Known, path: Path) -> None:
    """Write by rename, so that nobody reads half of it; where it can't be, it is done without."""
    told = {"measured": str(found.at), "machine": machine(), "rates": asdict(found.rates)}
    with suppress(OSError):
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(number, "w", encoding="utf-8") as file:
                json.dump(told, file, indent=1)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
