"""Finished parts -> outputs under their names, and what is told of them afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from h5dask.errors import Conflict
from h5dask.jobs.outputs import Outputs
from h5dask.jobs.record import Record

UNENFORCED = "not enforced: nothing kept what may have been {} from being overwritten"
"""What a record says of an output whose store looks, but promises nothing."""


@dataclass(frozen=True, slots=True)
class Before:
    """What lay under the outputs' names when the run still held its lease.

    A run may be frozen at any moment, and taken over. So it replaces what it found, and nothing
    that came since.
    """

    record: Record | None
    """Of the run before; without one nothing is replaced: what lies there is somebody else's."""
    record_mark: str | None
    """What the record was known by in a store."""
    marks: Mapping[str, str | None]
    """Likewise of each output."""

    @classmethod
    def at(cls, outputs: Outputs, names: Iterable[str]) -> Before:
        """Return what lies there now; whether the lease is held must be asked afterwards."""
        mark = outputs.record_mark()
        return cls(outputs.record(), mark, {name: outputs.mark_of(name) for name in names})


def publish_parts(
    parts: Mapping[str, str],
    outputs: Outputs,
    record: Record,
    before: Before,
    holds: Callable[[], bool],
    *,
    force: bool,
) -> tuple[Record, str | None]:
    """Give each part its name, one after the other.

    Parameters
    ----------
    parts : mapping
        Name -> local path where it was made; on the same filesystem where outputs are local.
    outputs : Outputs
        Where they go.
    record : Record
        Of this run; whose outputs aren't known yet.
    before : Before
        What is replaced; what the run before has published and this one doesn't goes at the end.
    holds : callable
        Whether this run holds its lease.
    force : bool
        Replace even what no run has made.

    Returns
    -------
    Record
        With what is there.
    str or None
        What the record that is there now is known by.

    Raises
    ------
    Conflict
        Somebody else has put something there meanwhile; nothing of this run stays.
    """
    former, mark = before.record, before.record_mark
    overwrite, done = force or former is not None, []
    notes = list(record.notes)
    if former is None:  # so that whoever finds outputs of a run that dies knows whose they are
        unfinished = replace(record, outputs=_unknown(parts), finished="")
        mark = outputs.write_record(unfinished, mark)
    try:
        for name, part in parts.items():
            there = before.marks[name]
            if outputs.publish(part, name, overwrite=overwrite, mark=there) is False:
                notes.append(UNENFORCED.format(name))
            done.append(name)
    except Conflict:
        if holds():  # else what is there may be the work of who took this run over
            for name in done:
                outputs.remove(name)
            outputs.remove_record()
        raise
    held = {one["name"] for one in former.outputs} if former is not None else set()
    for name in sorted(held - set(parts)):
        outputs.remove(name)
    told = [
        {"name": name, "fingerprint": outputs.state_of(name), "nbytes": outputs.nbytes_of(name)}
        for name in parts
    ]
    return replace(record, outputs=told, notes=notes), mark


def _unknown(parts: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "fingerprint": "", "nbytes": 0} for name in parts]
