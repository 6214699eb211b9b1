"""What a run leaves beside its output: enough to tell later whether the output is still current."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from h5dask.errors import NotFound
from h5dask.jobs.state import write_whole
from h5dask.storage.remote import Source, fingerprint, translated

ENDING = ".run.json"
"""What a record's name adds to its output's."""
FORMAT = 1
"""Version of the record itself; part of every digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One finished run."""

    name: str
    """What was run."""
    digest: str
    """Of inputs, parameters and version: the same digest, the same output."""
    parameters: Mapping[str, Any]
    """As they were given."""
    inputs: Sequence[Mapping[str, Any]]
    """Of each input: url, fingerprint, nbytes."""
    outputs: Sequence[Mapping[str, Any]]
    """Of each file: its name, its fingerprint once it was published, nbytes."""
    versions: Mapping[str, str]
    """Of h5dask and of what it computed with."""
    started: str
    """When, in UTC."""
    finished: str
    """When, in UTC."""
    seconds: float
    """From taking the lease to publishing."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What the work counted: rows read, rows dropped."""
    stages: Sequence[Mapping[str, Any]] = ()
    """Name, seconds, blocks, bytes and tasks of each stage."""
    peak_memory: int = 0
    """Most bytes that the largest process had."""
    notes: Sequence[str] = ()
    """What is worth knowing later."""

    def write(self, output: str, folder: str) -> None:
        """Put the record beside its output, whole or not at all; it is made in `folder`."""
        path = output + ENDING
        temporary = os.path.join(folder, f"record{ENDING}")
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1, default=str)
        with translated(path):
            write_whole(text + "\n", path, temporary)


def read(output: str) -> Record | None:
    """Return the record beside an output; None where there is none that can be understood."""
    try:
        with open(output + ENDING, encoding="utf-8") as file:
            stored = json.load(file)
        if stored.pop("format") != FORMAT:
            return None
        record = Record(**{one.name: stored[one.name] for one in fields(Record)})
        names = [one["name"] for one in record.outputs]
        # It is somebody's file: a record must not lead to files elsewhere.
        return record if all(os.path.basename(str(n)) == n for n in names) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def digest_of(
    name: str, sources: Sequence[Source], parameters: Mapping[str, Any], version: str, output: str
) -> str:
    """Return what identifies a run's result.

    Examples
    --------
    >>> digest_of("clean", [], {"dtype": "float32"}, "0.1", "a.h5")[:8]
    '3a17fe2f'
    """
    inputs = [(source.url, source.fingerprint) for source in sources]
    told = [FORMAT, name, version, inputs, parameters, os.path.basename(output)]
    text = json.dumps(told, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def is_current(record: Record | None, digest: str, output: str) -> bool:
    """Whether an output is what a run of this digest published, untouched since."""
    if record is None or record.digest != digest:
        return False
    folder = os.path.dirname(output)
    try:
        return all(
            state_of(os.path.join(folder, one["name"])) == one["fingerprint"]
            for one in record.outputs
        )
    except (OSError, NotFound):
        return False


def state_of(path: str) -> str:
    """Return the fingerprint of a file; of a folder such as .zarr, one of all files in it."""
    if not os.path.isdir(path):
        return fingerprint(path)
    told = [(os.path.relpath(one, path), fingerprint(one)) for one in files_of(path)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def files_of(path: str) -> list[str]:
    """Return a file, or all files below a folder, in order."""
    if not os.path.isdir(path):
        return [path]
    return sorted(os.path.join(at, name) for at, _, names in os.walk(path) for name in names)
