"""The same work for each of many inputs: what is new or changed is done, what is bad set aside."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from h5dask.errors import (
    AccessDenied,
    CorruptInput,
    H5daskError,
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
from h5dask.jobs.telling import tell
from h5dask.progress import Progress, silent
from h5dask.storage.parts import new_part, remove_abandoned
from h5dask.storage.remote import Source, UrlPath, absolute, expand, filesystem_of, translated

BAD_INPUT = (
    *(AccessDenied, CorruptInput, InputChanged, LayoutError, NotFound, Refused, WorkersLost),
)
"""Errors that are about one input; with any other of ours the next one would fare no better."""
UNFORESEEN = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError),
    ValueError,
)
"""Errors of code that met what it wasn't made for, which as a rule is one input."""
_AT_ONCE = 16
"""Inputs that are asked at once when they were changed."""
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
        One for each input, and one for each that vanished; none where the inputs are a pattern of
        a folder that is there, and holds no such file. Where another run is at an output, that is
        the last: the other one makes the rest, too.

    Raises
    ------
    Refused
        Two inputs would make the same output; or a store doesn't tell what changed since.

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
    watched = silent() if progress is None else progress
    sources = sources_of(inputs, storage_options)
    older = _older(sources, policy.since)
    _make(target)
    outputs = {source.url: f"{target}/{_name(source.url, ending)}" for source in sources}
    _refuse_shared(outputs)

    def ended(url: str) -> Outcome:
        if url in older:
            return Outcome(output=outputs[url], what="current", why="older than asked for")
        try:
            return run(
                work, url, outputs[url], name=name, parameters=parameters, version=version,
                policy=policy, progress=watched, storage_options=storage_options,
                output_options=output_options,
            )  # fmt: skip
        except (*BAD_INPUT, *UNFORESEEN) as error:
            if policy.strict:
                raise
            return Outcome(output=outputs[url], what="set aside", why=why_not(url, error))

    former = _former(_read(f"{target}/{SUMMARY}", own_options))
    found: list[Outcome] = []
    for url, output in outputs.items():
        with watched.about(input=shown(url), output=shown(output)):
            found.append(ended(url))
            tell(found[-1], watched)
        if found[-1].what == "busy":
            return tuple(found)
    here = {shown(url) for url in outputs}
    for url, output in former.items():
        gone = f"{target}/{os.path.basename(output)}"
        if url not in here and gone not in outputs.values():
            found.append(_vanished(url, gone, policy, own_options))
            with watched.about(input=url, output=shown(gone)):
                tell(found[-1], watched)
    _write(f"{target}/{SUMMARY}", _summarized(outputs, found), own_options)
    return tuple(found)


def sources_of(
    inputs: UrlPath | Iterable[UrlPath], options: Mapping[str, Any] | None = None
) -> list[Source]:
    """Return the files that are named; none where a pattern's folder is there, and holds none.

    Raises
    ------
    NotFound
        A file or folder isn't there. Of a store a folder that isn't there is as an empty one.
    """
    try:
        return expand(inputs, options)
    except NotFound:
        if not isinstance(inputs, str) or "*" not in inputs:
            raise
        folder = os.path.dirname(inputs)
        if not folder or "*" in folder:
            raise
        if os.path.isdir(folder):
            return []
        if "://" not in folder:
            raise NotFound(f"{folder}: no such folder; check the path") from None
        raise NotFound(f"{shown(folder)}: {lacking(inputs)}; check the folder") from None


def lacking(pattern: str) -> str:
    """Return in words that a pattern matches nothing.

    Examples
    --------
    >>> lacking("/data/landing/*.h5"), lacking("s3://bucket/*.h5")
    ('no *.h5 in /data/landing', 'no *.h5 in s3://bucket')
    """
    folder, name = os.path.split(pattern)
    return f"no {name} in {shown(folder)}"


def why_not(url: str, error: Exception) -> str:
    """Return why an input is set aside, its name first.

    Examples
    --------
    >>> why_not("a.h5", CorruptInput("a.h5: is torn")), why_not("a.h5", Refused("k: found 0"))
    ('a.h5: is torn', 'a.h5: k: found 0')
    >>> why_not("a.h5", KeyError("b"))
    "a.h5: KeyError: 'b'; --strict and H5DASK_TRACEBACK=1 show where"
    """
    text, name = str(error), shown(url)
    if not isinstance(error, H5daskError):
        text = f"{type(error).__name__}: {text}; --strict and H5DASK_TRACEBACK=1 show where"
    return text if text.startswith(name) else f"{name}: {text}"


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


def _older(sources: Sequence[Source], since: datetime | None) -> set[str]:
    """Return those that were last changed before."""
    if since is None:
        return set()
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        times = list(threads.map(_changed_at, sources))
    asked = since.timestamp()  # which knows a zone or none, as datetimes don't together
    return {one.url for one, at in zip(sources, times, strict=True) if at.timestamp() < asked}


def _changed_at(source: Source) -> datetime:
    """Return when a file or object was changed last."""
    with translated(source.url):
        if source.is_local:
            return datetime.fromtimestamp(os.stat(source.url).st_mtime, UTC)
        filesystem, path = filesystem_of(source.url, source.options)
        try:
            found: datetime = filesystem.modified(path)
        except NotImplementedError:
            raise Refused(
                f"--since: {shown(source.url)}: its store doesn't tell when it was changed; "
                "leave --since out"
            ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _vanished(url: str, output: str, policy: Policy, options: Mapping[str, Any] | None) -> Outcome:
    outputs = outputs_at(output, options)
    record = outputs.record()
    made = [] if record is None else [one["name"] for one in record.outputs]
    done = "its output is kept" if made else "it had no output"
    if policy.vanished == "remove" and record is not None:
        for name in made:
            outputs.remove(name)
        outputs.remove_record()
        done = "its output is removed" if made else done
    return Outcome(output=output, what="vanished", why=f"{url}: is gone; {done}")


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
