"""A run that can be repeated: skipped where its output is current, gone on with where it died.

Order of publishing: the data, then the record with the data's own fingerprint. A crash between
the two only costs a second run. Nothing here computes, and dask isn't imported to skip.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Any

from h5dask import __version__
from h5dask.errors import Conflict, InputChanged, NotFound
from h5dask.jobs import outputs as places
from h5dask.jobs import state as states
from h5dask.jobs.job import Job, Outcome, Policy
from h5dask.jobs.lease import Held
from h5dask.jobs.memory import peak_memory
from h5dask.jobs.outputs import Outputs, is_current, outputs_at
from h5dask.jobs.publishing import Before, publish_parts
from h5dask.jobs.record import Record, digest_of, shown
from h5dask.jobs.state import State
from h5dask.progress import Progress, silent
from h5dask.storage.remote import Source, UrlPath, expand

_AT_ONCE = 16
"""Inputs whose state is asked for at once."""
__all__ = ["Job", "Outcome", "Policy", "run"]

COMPUTED_WITH = ("h5dask", "dask", "distributed", "h5py", "numpy", "numba", "xarray")
"""Packages whose versions a record names."""


def run(
    work: Callable[[Job], Any],
    inputs: UrlPath | Iterable[UrlPath],
    output: str | os.PathLike[str],
    *,
    name: str = "",
    parameters: Mapping[str, Any] | None = None,
    version: str = "",
    policy: Policy | None = None,
    progress: Progress | None = None,
    storage_options: Mapping[str, Any] | None = None,
    output_options: Mapping[str, Any] | None = None,
) -> Outcome:
    """Make an output from inputs, unless it is there and current.

    Parameters
    ----------
    work : callable
        Takes the `Job`, and makes the output with `job.write` or at `job.part()`.
    inputs : path, URL, glob, or iterable of them
        What it is made of; their state is part of the digest.
    output : path or URL
        Of a file, or of a .zarr. Beside it `<output>.run.json` tells afterwards how it came to be.
        While the run works, a folder holds its state: `<output>.h5dask/`, or for a store one
        among remembered indexes (H5DASK_CACHE), which takes as many bytes as the output.
    name : str, optional
        What is run; the function's name without it.
    parameters : mapping, optional
        What else the output follows from; part of the digest, and recorded word for word.
    version : str, optional
        Of the work, where it changes without h5dask.
    policy : Policy, optional
        Whether a current output is made anew, and how many former ones stay.
    progress : Progress, optional
        Shows and times the stages.
    storage_options : mapping, optional
        For the stores of inputs and output; never recorded. The work finds them at its `Job`.
    output_options : mapping, optional
        For the output's store, where that is reached in another way than the inputs'.

    Returns
    -------
    Outcome
        "done", "current" or "busy".

    Raises
    ------
    InputChanged
        An input was changed while the run worked; nothing was published.
    Conflict
        Somebody else took the run over, or the target is no file of ours to replace.
    Refused
        Former versions are to stay in a store.

    Notes
    -----
    Of two runs at once one is busy. Of one that was killed elsewhere or stands still, the next one
    makes sure for half a minute, and takes over; what the other still does changes nothing that is
    published then.

    In a store, a killed run goes on from the same machine, and begins anew from another one. Who
    works is told by an object, `<output>.h5dask.lease`. A store that enforces no condition can't
    keep two runs apart that begin at the same moment, nor a foreign writer from being overwritten:
    the record says "not enforced" then.

    Examples
    --------
    >>> import h5dask, tempfile, os
    >>> from h5dask.testing import example_file
    >>> def copy(job):
    ...     job.write(h5dask.open_dataset(job.urls))
    >>> output = os.path.join(tempfile.mkdtemp(), "copy.h5")
    >>> [h5dask.run(copy, example_file("ann"), output).what for _ in range(2)]
    ['done', 'current']
    """
    policy = policy or Policy()
    own_options = storage_options if output_options is None else output_options
    outputs = outputs_at(output, own_options, keep=policy.keep)
    sources = tuple(expand(inputs, storage_options))
    named = name or getattr(work, "__name__", "run")
    told = dict(parameters or {})
    digest = digest_of(named, sources, told, f"{__version__} {version}".strip(), outputs.url)
    progress = silent() if progress is None else progress
    if not policy.force and is_current(outputs, known := outputs.record(), digest):
        _clear(outputs, progress)
        return Outcome(output=outputs.url, what="current", record=known)
    try:
        with outputs.held(progress.say) as lease:
            known = outputs.record()
            if not policy.force and is_current(outputs, known, digest):
                return Outcome(output=outputs.url, what="current", record=known)
            if policy.force:
                states.remove_contents(outputs.folder)
            elif known is None and outputs.exists():
                raise Conflict(
                    f"{shown(outputs.url)}: exists, and isn't what a run has made; choose another "
                    "name, or force it"
                )
            job = Job(
                inputs=sources,
                output=outputs.url,
                parameters=told,
                progress=progress,
                state=State(outputs.folder, digest),
                former=None if policy.force else _usable(outputs, known, named, told),
                storage_options=dict(storage_options or {}),
                output_options=dict(own_options or {}),
            )
            record = _worked(work, job, named, outputs, lease, force=policy.force)
            return Outcome(output=outputs.url, what="done", record=record)
    except Held as held:
        return Outcome(output=outputs.url, what="busy", why=str(held))


def _clear(outputs: Outputs, progress: Progress) -> None:
    """Remove the state of a run that died between its record and the end."""
    if os.path.isdir(outputs.folder):
        with suppress(Held), outputs.held(progress.say):
            states.remove_contents(outputs.folder)


def _usable(
    outputs: Outputs, record: Record | None, name: str, parameters: Mapping[str, Any]
) -> Record | None:
    """Return the record of an output that the same work made, of other inputs; else None."""
    if record is None or not is_current(outputs, record, record.digest):
        return None
    same = record.name == name and dict(record.parameters) == json.loads(
        json.dumps(parameters, default=str)
    )
    return record if same and record.versions.get("h5dask") == _versions()["h5dask"] else None


def _worked(
    work: Callable[[Job], Any],
    job: Job,
    name: str,
    outputs: Outputs,
    lease: places.Held,
    *,
    force: bool,
) -> Record:
    """Do the work, publish what it made, and record it; where it fails, keep what can be used."""
    started, began, before = _now(), time.monotonic(), len(job.progress.records)
    try:
        try:
            work(job)
            _refuse_unfinished(job)
        except NotFound:
            _refuse_lost(outputs, lease, "nothing was published")  # who did has our folder
            raise
        there = Before.at(outputs, job.parts)
        _refuse_lost(outputs, lease, "nothing was published")
    except BaseException:
        if not job.state.has_begun:
            job.state.remove()
        raise
    record = Record(
        name=name,
        digest=job.state.digest,
        parameters=job.parameters,
        inputs=_told(job.inputs),
        outputs=[],
        versions=_versions(),
        started=started,
        finished="",
        seconds=0,
        counts=dict(job.counts),
        peak_memory=peak_memory(),
        notes=job.notes,
    )
    record, mark = publish_parts(job.parts, outputs, record, there, lease.holds, force=force)
    # What was found under the names is ours as long as nobody else could publish.
    _refuse_lost(outputs, lease, "what was published isn't recorded")
    record = replace(
        record,
        finished=_now(),
        seconds=round(time.monotonic() - began, 3),
        stages=[asdict(stage) for stage in job.progress.records[before:]],
    )
    outputs.write_record(record, mark)
    job.state.remove()
    return record


def _told(sources: Iterable[Source]) -> list[dict[str, Any]]:
    """Return what a record tells of each input."""

    def told(source: Source) -> dict[str, Any]:
        return {
            "url": shown(source.url), "fingerprint": source.fingerprint, "nbytes": source.nbytes
        }  # fmt: skip

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(told, sources))


def _refuse_unfinished(job: Job) -> None:
    """Raise unless all that is to be published was made, from the inputs as they were found."""
    missing = [name for name, part in job.parts.items() if not os.path.exists(part)]
    if missing or not (job.parts or job.makes_nothing):
        named = ", ".join(missing) or os.path.basename(job.output)
        raise NotFound(
            f"{shown(job.output)}: the run made no {named}; make it with job.write, or say "
            "job.make_nothing"
        )
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        changed = list(threads.map(Source.changed, job.inputs))
    if any(changed):
        which = [shown(one.url) for one, is_so in zip(job.inputs, changed, strict=True) if is_so]
        raise InputChanged(
            f"{', '.join(which)}: changed while the run worked; nothing was published, run it again"
        )


def _refuse_lost(outputs: Outputs, lease: places.Held, done: str) -> None:
    if not lease.holds():
        raise Conflict(f"{shown(outputs.url)}: another run took it over; {done}")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _versions() -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in COMPUTED_WITH:
        with suppress(PackageNotFoundError):
            found[package] = version_of(package)
    return found
