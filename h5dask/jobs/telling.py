"""How the end of a run is told: a line for a person, its fields for a program."""

from __future__ import annotations

import os
from collections.abc import Mapping

from h5dask.jobs.job import Outcome
from h5dask.jobs.record import shown
from h5dask.progress import Progress
from h5dask.progress.displays import Said


def tell(outcome: Outcome, progress: Progress) -> None:
    """Tell what came out; of what was current already, nothing.

    Examples
    --------
    >>> from h5dask.progress import watch
    >>> import sys
    >>> with watch(quiet=True, stream=sys.stdout) as progress:
    ...     tell(Outcome(output="b.h5", what="set aside", why="a.h5: is torn"), progress)
    set aside: a.h5: is torn
    """
    if outcome.what == "current":
        return
    aside = outcome.what == "set aside"
    told = {"done": _made(outcome), "set aside": f"set aside: {outcome.why}"}
    fields = {"output": shown(outcome.output), "what": outcome.what, "why": outcome.why}
    counts = outcome.record.counts if outcome.record is not None else {}
    progress.tell(
        Said(
            text=told.get(outcome.what, outcome.why),
            event="outcome",
            fields={**fields, "counts": dict(counts)},
            warns=aside,
        )
    )


def _made(outcome: Outcome) -> str:
    """Return what was counted, and why there is no output where there is none."""
    record = outcome.record
    if record is None:
        return ""
    told = [counted(record.counts)] if record.counts else []
    told += record.notes[-1:] if not record.outputs else []
    return f"{os.path.basename(shown(outcome.output))}: {'; '.join(told)}" if told else ""


def counted(counts: Mapping[str, int]) -> str:
    """Return counts in words, behind the first without those of nothing.

    Examples
    --------
    >>> counted({"read": 1000, "lost": 2, "nan": 0, "zero_rows": 2})
    '1,000 read, 2 lost, 2 zero rows'
    """
    told = [(name.replace("_", " "), n) for name, n in counts.items()]
    return ", ".join(f"{n:,} {name}" for at, (name, n) in enumerate(told) if n or not at)
