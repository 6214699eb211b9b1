"""What a run leaves beside its output: enough to tell later whether the output is still current.

How it was made is told, but nothing that opens a door: no options of a store, no signed query.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from h5dask.storage.remote import Source

ENDING = ".run.json"
"""What a record's name adds to its output's."""
FOLDERS = ".zarr"
"""How the name of an output ends that is a folder."""
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
    """Of each file: its name, its fingerprint once it was published ("" before), nbytes."""
    versions: Mapping[str, str]
    """Of h5dask and of what it computed with."""
    started: str
    """When, in UTC."""
    finished: str
    """When, in UTC; "" where the run had just begun to publish, and may have died."""
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

    @property
    def text(self) -> str:
        """What is stored, in JSON."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, default=str) + "\n"


def parsed(text: str | bytes) -> Record | None:
    """Return the record that a text holds; None where it can't be understood."""
    try:
        stored = json.loads(text)
        if stored.pop("format") != FORMAT:
            return None
        record = Record(**{one.name: stored[one.name] for one in fields(Record)})
        names = [one["name"] for one in record.outputs]
        # It is somebody's file: a record must not lead to files elsewhere.
        return record if all(os.path.basename(str(n)) == n for n in names) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def read(output: str) -> Record | None:
    """Return the record beside a local output; None where there is none that can be understood."""
    try:
        with open(output + ENDING, "rb") as file:
            return parsed(file.read())
    except (OSError, ValueError):
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
    inputs = [(shown(source.url), source.fingerprint) for source in sources]
    told = [FORMAT, name, version, inputs, parameters, os.path.basename(output)]
    text = json.dumps(told, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def beside(output: str, name: str) -> str:
    """Return the path or URL of another output under the same folder or prefix.

    Examples
    --------
    >>> beside("/a/b.h5", "c.h5"), beside("s3://bucket/b.h5", "c.h5"), beside("memory://b", "c")
    ('/a/c.h5', 's3://bucket/c.h5', 'memory://c')
    """
    if "://" not in output:
        return os.path.join(os.path.dirname(output), name)
    above, slash, _ = output.rstrip("/").rpartition("/")
    return f"{above}{slash}{name}"


def shown(url: str) -> str:
    """Return a path, or a URL without what only its owner may know: a password, a signed query.

    Examples
    --------
    >>> shown("https://host/a.h5?X-Amz-Signature=0f"), shown("/a?.h5")
    ('https://host/a.h5', '/a?.h5')
    """
    if "://" not in url:
        return url
    from h5dask.storage.stores.told import (
        plain,
    )  # brings dask, which a skipped local run is without

    return plain(url)
