"""The same work for each of many inputs: what is new or changed is done, what is bad set aside."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
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
from h5dask.jobs.outputs import outputs_at
from h5dask.jobs.record import ENDING, shown
from h5dask.jobs.state import write_whole
from h5dask.progress import Progress
from h5dask.storage.parts import new_part, remove_abandoned
from h5dask.storage.remote import Source, UrlPath, absolute, expand

BAD_INPUT = (
    *(AccessDenied, CorruptInput, InputChanged, LayoutError, NotFound, Refused, WorkersLost),
)
"""Errors that are about one input; with any other the next one would fare no better."""
SUMMARY = f"h5dask{ENDING}"
"""Name of the record of all inputs together, in the folder of the outputs."""


def run_each(  # noqa: PLR0913 - what `run` takes, and the ending
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
    output_options: Mapping[str, Any] | None = None,
) -> tuple[Outcome, ...]:
    """Run a work once for each input, into a folder of outputs of the same names.

    Parameters
    ----------
    work, name, parameters, version, policy, progress, storage_options, output_options
        As in `run`; the job has one input.
    inputs : path, URL, glob, or iterable of them
        New and changed ones are worked on, in this order.
    folder : path or URL
        Of the outputs; made where it isn't there. `h5dask.run.json` in it tells of all inputs.
    ending : str, optional
        How the outputs' names end, where not as those of the inputs: ".nc".

    Returns
    -------
    tuple of Outcome
        One for each input, and one for each that vanished. Where another run is at an output, that
        is the last: the other one makes the rest, too.

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
    policy, target = policy or Policy(), absolute(folder).rstrip("/")
    own_options = storage_options if output_options is None else output_options
    _make(target)
    sources = expand(inputs, storage_options)
    outputs = {source.url: f"{target}/{_name(source.url, ending)}" for source in sources}
    _refuse_shared(outputs)
    former = _former(_read(f"{target}/{SUMMARY}", own_options))
    found: list[Outcome] = []
    for source in sources:
        output = outputs[source.url]
        if policy.since is not None and _changed_before(source, policy.since):
            found.append(Outcome(output=output, what="current", why="older than asked for"))
            continue
        try:
            one = run(
                work, source.url, output, name=name, parameters=parameters, version=version,
                policy=policy, progress=progress, storage_options=storage_options,
                output_options=output_options,
            )  # fmt: skip
        except BAD_INPUT as error:
            if policy.strict:
                raise
            one = Outcome(output=output, what="set aside", why=str(error))
            if progress is not None:
                progress.say(f"set aside: {error}")
        found.append(one)
        if one.what == "busy":
            return tuple(found)
    here = {shown(url) for url in outputs}
    for url, output in former.items():
        gone = f"{target}/{os.path.basename(output)}"
        if url not in here and gone not in outputs.values():
            found.append(_vanished(url, gone, policy, own_options))
    _write(f"{target}/{SUMMARY}", _summarized(outputs, found), own_options)
    return tuple(found)


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """Return 1 where an input was set aside, else 0."""
    return int(any(one.what == "set aside" for one in outcomes))


def _name(url: str, ending: str | None) -> str:
    name = shown(url).rstrip("/").rpartition("/")[2]
    return name if ending is None else os.path.splitext(name)[0] + ending


def _refuse_shared(outputs: Mapping[str, str]) -> None:
    by_output: dict[str, list[str]] = {}
    for url, output in outputs.items():
        by_output.setdefault(output, []).append(url)
    lines = [
        f"{output}: would be made of {' and of '.join(map(shown, urls))}; run them into different "
        "folders"
        for output, urls in by_output.items()
        if len(urls) > 1
    ]
    lines += [
        f"{shown(url)}: is in the folder of the outputs; name another folder"
        for url, output in outputs.items()
        if _are_one(url, output)
    ]
    if lines:
        raise Refused("\n".join(lines))


def _are_one(url: str, output: str) -> bool:
    if "://" in url:
        return url == output
    return os.path.exists(url) and os.path.exists(output) and os.path.samefile(url, output)


def _changed_before(source: Source, since: datetime) -> bool:
    """Whether a local file was last changed before; an object counts as new, whatever its age."""
    return source.is_local and os.stat(source.url).st_mtime < since.timestamp()


def _vanished(url: str, output: str, policy: Policy, options: Mapping[str, Any] | None) -> Outcome:
    if policy.vanished == "remove":
        outputs = outputs_at(output, options)
        record = outputs.record()
        if record is not None:
            for one in record.outputs:
                outputs.remove(one["name"])
            outputs.remove_record()
    done = "removed" if policy.vanished == "remove" else "kept"
    return Outcome(output=output, what="vanished", why=f"{url}: is gone; its output is {done}")


def _former(summary: str) -> dict[str, str]:
    """Return which output each input made in earlier runs."""
    try:
        listed = json.loads(summary)["inputs"]
        return {str(one["input"]): str(one["output"]) for one in listed}
    except (ValueError, KeyError, TypeError):
        return {}


def _summarized(outputs: Mapping[str, str], outcomes: Sequence[Outcome]) -> str:
    """Return how each input fared, in JSON."""
    urls = {output: shown(url) for url, output in outputs.items()}
    listed = [
        {"input": urls[one.output], "output": os.path.basename(one.output), "what": one.what,
         "why": one.why}
        for one in outcomes
        if one.output in urls
    ]  # fmt: skip
    gone = [{"what": one.what, "why": one.why} for one in outcomes if one.output not in urls]
    return json.dumps({"inputs": listed, "vanished": gone}, indent=1)


def _make(folder: str) -> None:
    """Make a local folder; a store needs none."""
    if "://" in folder:
        return
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise AccessDenied(f"{folder}: can't be made ({error.strerror})") from None


def _read(url: str, options: Mapping[str, Any] | None) -> str:
    """Return what a small file or object holds; "" where there is none to be read."""
    if "://" in url:
        from h5dask.jobs.in_store import content_of

        return (content_of(url, options or {}) or b"").decode(errors="replace")
    try:
        return Path(url).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _write(url: str, text: str, options: Mapping[str, Any] | None) -> None:
    """Write a small file or object, whole or not at all."""
    if "://" in url:
        from h5dask.jobs.in_store import put

        put(url, text.encode(), options or {})
        return
    remove_abandoned(url)
    temporary = new_part(url)
    try:
        write_whole(text, url, temporary)
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)
        folder = os.path.dirname(url)
        raise AccessDenied(f"{folder}: can't be written to ({error.strerror})") from None
