"""A run that can be repeated: skipped where its output is current, gone on with where it died.

Order of publishing: the data, then the record with the data's own fingerprint. A crash between
the two only costs a second run. Nothing here computes, and dask isn't imported to skip.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Any

from h5dask import __version__
from h5dask.errors import AccessDenied, Conflict, InputChanged, NotFound, Refused
from h5dask.jobs import state as states
from h5dask.jobs.job import Job, Outcome, Policy
from h5dask.jobs.lease import Held, Lease
from h5dask.jobs.memory import peak_memory
from h5dask.jobs.publishing import publish_parts
from h5dask.jobs.record import Record, digest_of, is_current, read
from h5dask.jobs.state import State
from h5dask.progress import Progress, silent
from h5dask.storage.remote import UrlPath, expand, resolved

_ATTEMPTS = 10
_FOLDERS = ".zarr"
"""How the name of an output ends that is a folder."""
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
) -> Outcome:
    """Make an output from inputs, unless it is there and current.

    Parameters
    ----------
    work : callable
        Takes the `Job`, and makes the output with `job.write` or at `job.part()`.
    inputs : path, URL, glob, or iterable of them
        What it is made of; their state is part of the digest.
    output : path
        Local path of a file, or of a .zarr. While the run works, `<output>.h5dask/` holds its
        state; afterwards
        `<output>.run.json` tells how the output came to be.
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
        For the inputs' filesystem; never recorded.

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
    target = _local(output)
    sources = tuple(expand(inputs, storage_options))
    named = name or getattr(work, "__name__", "run")
    told = dict(parameters or {})
    digest = digest_of(named, sources, told, f"{__version__} {version}".strip(), target)
    policy = policy or Policy()
    if not policy.force and is_current(known := read(target), digest, target):
        _clear(target)
        return Outcome(output=target, what="current", record=known)
    try:
        with _leased(target) as lease:
            if not policy.force and is_current(known := read(target), digest, target):
                return Outcome(output=target, what="current", record=known)
            if not policy.force:
                _refuse_foreign(target, digest)
            else:
                states.remove_contents(target + states.ENDING)
            job = Job(
                inputs=sources,
                output=target,
                parameters=told,
                progress=silent() if progress is None else progress,
                state=State(target + states.ENDING, digest),
                former=None if policy.force else _usable(known, named, told, target),
            )
            record = _worked(work, job, named, lease, policy.keep)
            return Outcome(output=target, what="done", record=record)
    except Held as held:
        return Outcome(output=target, what="busy", why=str(held))


def _local(output: str | os.PathLike[str]) -> str:
    target = resolved(output)
    if "://" in target:
        raise Refused(f"{target}: a run's output is a local path; write there and copy it")
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise NotFound(f"{target}: no folder {folder!r}; make it first")
    if os.path.isdir(target) and not target.endswith(_FOLDERS):
        raise NotFound(f"{target}: is a folder; name a file in it")
    return target


@contextmanager
def _leased(target: str) -> Iterator[Lease]:
    """Hold the lease of an output; the folder of state goes where nothing in it is of use."""
    folder = target + states.ENDING
    with ExitStack() as stack:
        stack.callback(_remove_empty, folder)
        yield _lease(target, folder, stack)


def _lease(target: str, folder: str, stack: ExitStack) -> Lease:
    for attempt in range(_ATTEMPTS):
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise AccessDenied(
                f"{folder}: can't be made ({error.strerror}); a run keeps its state there: check "
                "the permissions"
            ) from None
        try:
            return stack.enter_context(Lease(os.path.join(folder, states.LEASE), target))
        except NotFound:  # another run ended just now, and took its folder along
            time.sleep(0.01 * attempt)
    raise Conflict(f"{target}: its folder of state comes and goes; try again")


def _remove_empty(folder: str) -> None:
    with suppress(OSError):
        os.rmdir(folder)


def _clear(target: str) -> None:
    """Remove the state of a run that died between its record and the end."""
    folder = target + states.ENDING
    if os.path.isdir(folder):
        with suppress(Held), _leased(target):
            states.remove_contents(folder)


def _usable(
    record: Record | None, name: str, parameters: Mapping[str, Any], target: str
) -> Record | None:
    """Return the record of an output that the same work made, of other inputs; else None."""
    if record is None or not is_current(record, record.digest, target):
        return None
    same = record.name == name and dict(record.parameters) == json.loads(
        json.dumps(parameters, default=str)
    )
    return record if same and record.versions.get("h5dask") == _versions()["h5dask"] else None


def _worked(work: Callable[[Job], Any], job: Job, name: str, lease: Lease, keep: int) -> Record:
    """Do the work, publish what it made, and record it; where it fails, keep what can be used."""
    started, began, before = _now(), time.monotonic(), len(job.progress.records)
    try:
        work(job)
        _refuse_unfinished(job, lease)
    except BaseException:
        if not job.state.has_begun:
            states.remove_contents(job.state.folder)
        raise
    former = read(job.output)
    outputs = publish_parts(job.parts, os.path.dirname(job.output), former, keep)
    record = Record(
        name=name,
        digest=job.state.digest,
        parameters=job.parameters,
        inputs=[
            {"url": s.url, "fingerprint": s.fingerprint, "nbytes": s.nbytes} for s in job.inputs
        ],
        outputs=outputs,
        versions=_versions(),
        started=started,
        finished=_now(),
        seconds=round(time.monotonic() - began, 3),
        counts=dict(job.counts),
        stages=[asdict(stage) for stage in job.progress.records[before:]],
        peak_memory=peak_memory(),
        notes=job.notes,
    )
    record.write(job.output, job.state.folder)
    states.remove_contents(job.state.folder)
    return record


def _refuse_foreign(target: str, digest: str) -> None:
    """Refuse to replace a file that no run has made; one that died unrecorded left its plan."""
    if not os.path.exists(target) or read(target) is not None:
        return
    if states.digest_in(target + states.ENDING) != digest:
        raise Conflict(
            f"{target}: exists, and isn't what a run has made; choose another name, or force it"
        )


def _refuse_unfinished(job: Job, lease: Lease) -> None:
    """Raise unless all that is to be published was made, from the inputs as they were found."""
    missing = [name for name, part in job.parts.items() if not os.path.exists(part)]
    if missing or not (job.parts or job.makes_nothing):
        named = ", ".join(missing) or os.path.basename(job.output)
        raise NotFound(
            f"{job.output}: the run made no {named}; make it with job.write, or say "
            "job.make_nothing"
        )
    changed = [source.url for source in job.inputs if source.changed()]
    if changed:
        raise InputChanged(
            f"{', '.join(changed)}: changed while the run worked; nothing was published, run it "
            "again"
        )
    if not lease.holds():
        raise Conflict(f"{job.output}: another run took it over; nothing was published")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _versions() -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in COMPUTED_WITH:
        with suppress(PackageNotFoundError):
            found[package] = version_of(package)
    return found
