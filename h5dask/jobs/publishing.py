"""Finished parts -> outputs under their names, and what is told of them afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from h5dask.errors import Conflict
from h5dask.jobs.outputs import Outputs
from h5dask.jobs.record import Record

UNENFORCED = "not enforced: nothing kept what may have been {} from being overwritten"
"""What a record says of an output whose store looks, but promises nothing."""


def publish_parts(
    parts: Mapping[str, str],
    outputs: Outputs,
    record: Record,
    former: Record | None,
    *,
    force: bool,
) -> Record:
    """Give each part its name, one after the other, and return the record with what is there.

    Parameters
    ----------
    parts : mapping
        Name -> local path where it was made; on the same filesystem where outputs are local.
    outputs : Outputs
        Where they go.
    record : Record
        Of this run; whose outputs aren't known yet.
    former : Record, optional
        Of the run before; what it published and this one doesn't is removed at the end. Without
        one, nothing is replaced: what lies there is somebody else's.
    force : bool
        Replace it all the same.

    Raises
    ------
    Conflict
        Somebody else has put something there meanwhile; nothing of this run stays.
    """
    overwrite, done = force or former is not None, []
    notes = list(record.notes)
    if former is None:  # so that whoever finds outputs of a run that dies knows whose they are
        outputs.write_record(replace(record, outputs=_unknown(parts), finished=""))
    try:
        for name, part in parts.items():
            if outputs.publish(part, name, overwrite=overwrite) is False:
                notes.append(UNENFORCED.format(name))
            done.append(name)
    except Conflict:
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
    return replace(record, outputs=told, notes=notes)


def _unknown(parts: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "fingerprint": "", "nbytes": 0} for name in parts]
