"""The same work for each of many inputs: what is new or changed is done, what is bad set aside."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from h5dask.errors import (
    AccessDenied,
    CorruptInput,
    InputChanged,
    LayoutError,
    NotFound,
    Refused,
    WorkersLost,
)
from h5dask.jobs import Job, Outcome, Policy, run
from h5dask.jobs.publishing import remove
from h5dask.jobs.record import ENDING, read
from h5dask.jobs.state import write_whole
from h5dask.progress import Progress
from h5dask.storage.parts import new_part, remove_abandoned
from h5dask.storage.remote import UrlPath, absolute, expand

BAD_INPUT = (
    *(AccessDenied, CorruptInput, InputChanged, LayoutError, NotFound, Refused, WorkersLost),
)
"""Errors that are about one input; with any other the next one would fare no better."""
SUMMARY = f"h5dask{ENDING}"
"""Name of the record of all inputs together, in the folder of the outputs."""


def run_each(
    work: Callable[[Job], Any],
    inputs: UrlPath | Iterable[UrlPath],
    folder: str | os.PathLike[str],
    *,
    ending: str | None = None,
    name: str = "",
    parameters: Mapping[str, Any] | None = None,
    version: str = "",
    policy: Policy | None = None,
    progress: Progress | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> tuple[Outcome, ...]:
    """Run a work once for each input, into a folder of outputs of the same names.

    Parameters
    ----------
    work, name, parameters, version, policy, progress, storage_options
        As in `run`; the job has one input.
    inputs : path, URL, glob, or iterable of them
        New and changed ones are worked on, in this order.
    folder : path
        Of the outputs; made where it isn't there. `h5dask.run.json` in it tells of all inputs.
    ending : str, optional
        How the outputs' names end, where not as those of the inputs: ".nc".

    Returns
    -------
    tuple of Outcome
        One for each input, and one for each that vanished.

    Raises
    ------
    Refused
        Two inputs would make the same output.

    Examples
    --------
    >>> import h5dask, tempfile
    >>> from h5dask.jobs.several import run_each
    >>> from h5dask.testing import example_file
    >>> def copy(job):
    ...     job.write(h5dask.open_dataset(job.urls))
    >>> [one.what for one in run_each(copy, example_file("ann"), tempfile.mkdtemp())]
    ['done']
    """
    policy, target = policy or Policy(), absolute(folder)
    try:
        os.makedirs(target, exist_ok=True)
    except OSError as error:
        raise AccessDenied(f"{target}: can't be made ({error.strerror})") from None
    sources = expand(inputs, storage_options)
    outputs = {source.url: os.path.join(target, _name(source.url, ending)) for source in sources}
    _refuse_shared(outputs)
    former = _former(target)
    found: list[Outcome] = []
    for source in sources:
        output = outputs[source.url]
        if policy.since is not None and _changed_before(source.url, policy.since):
            found.append(Outcome(output=output, what="current", why="older than asked for"))
            continue
        try:
            one = run(
                work, source.url, output, name=name, parameters=parameters, version=version,
                policy=policy, progress=progress, storage_options=storage_options,
            )  # fmt: skip
        except BAD_INPUT as error:
            if policy.strict:
                raise
            one = Outcome(output=output, what="set aside", why=str(error))
            if progress is not None:
                progress.say(f"set aside: {error}")
        found.append(one)
    for url, output in former.items():
        if url not in outputs and output not in outputs.values():
            found.append(_vanished(url, os.path.join(target, os.path.basename(output)), policy))
    _summarize(target, outputs, found)
    return tuple(found)


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """Return 1 where an input was set aside, else 0."""
    return int(any(one.what == "set aside" for one in outcomes))


def _name(url: str, ending: str | None) -> str:
    name = url.rstrip("/").rpartition("/")[2]
    return name if ending is None else os.path.splitext(name)[0] + ending


def _refuse_shared(outputs: Mapping[str, str]) -> None:
    by_output: dict[str, list[str]] = {}
    for url, output in outputs.items():
        by_output.setdefault(output, []).append(url)
    lines = [
        f"{output}: would be made of {' and of '.join(urls)}; run them into different folders"
        for output, urls in by_output.items()
        if len(urls) > 1
    ]
    lines += [
        f"{url}: is in the folder of the outputs; name another folder"
        for url, output in outputs.items()
        if os.path.exists(url) and os.path.exists(output) and os.path.samefile(url, output)
    ]
    if lines:
        raise Refused("\n".join(lines))


def _changed_before(url: str, since: datetime) -> bool:
    if "://" in url:
        return False
    return os.stat(url).st_mtime < since.timestamp()


def _vanished(url: str, output: str, policy: Policy) -> Outcome:
    record = read(output)
    if policy.vanished == "remove" and record is not None:
        for one in record.outputs:
            remove(os.path.join(os.path.dirname(output), one["name"]))
        with suppress(FileNotFoundError):
            os.unlink(output + ENDING)
    done = "removed" if policy.vanished == "remove" else "kept"
    return Outcome(output=output, what="vanished", why=f"{url}: is gone; its output is {done}")


def _former(folder: str) -> dict[str, str]:
    """Return which output each input made in earlier runs."""
    try:
        with open(os.path.join(folder, SUMMARY), encoding="utf-8") as file:
            listed = json.load(file)["inputs"]
        return {str(one["input"]): str(one["output"]) for one in listed}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _summarize(folder: str, outputs: Mapping[str, str], outcomes: Sequence[Outcome]) -> None:
    """Write down how each input fared."""
    urls = {output: url for url, output in outputs.items()}
    listed = [
        {"input": urls[one.output], "output": os.path.basename(one.output), "what": one.what,
         "why": one.why}
        for one in outcomes
        if one.output in urls
    ]  # fmt: skip
    gone = [{"what": one.what, "why": one.why} for one in outcomes if one.output not in urls]
    path = os.path.join(folder, SUMMARY)
    remove_abandoned(path)
    temporary = new_part(path)
    try:
        text = json.dumps({"inputs": listed, "vanished": gone}, indent=1)
        write_whole(text, path, temporary)
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)
        raise AccessDenied(f"{folder}: can't be written to ({error.strerror})") from None
