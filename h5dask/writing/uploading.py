"""A planned file's values -> the parts of one upload, each made where its values are computed.

A part that one block fills by itself is sent by the task that computes the block. Any other is
put together from what several blocks, and the skeleton, have in it. Nothing lies on a disk.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.delayed import Delayed
from numpy.typing import NDArray

from h5dask.contents import Contents
from h5dask.storage.parts import new_part
from h5dask.storage.publishing import Published, commit, send_parts
from h5dask.storage.skeleton import create
from h5dask.storage.stores.uploads import (
    LARGEST,
    Part,
    Upload,
    aborted_on_error,
    begin,
    offered,
)
from h5dask.writing.cutting import Cutting, cut
from h5dask.writing.delivery import (
    Ordinal,
    as_task,
    contents_of,
    named_as,
    refuse_missing,
    task_named,
)
from h5dask.writing.placing import Target, Written
from h5dask.writing.preparing import Prepared, carried
from h5dask.writing.sending import Fragment, Sending, send_block, send_joined


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Uploading:
    """A file on its way into a store: what tasks do, and what is known without them."""

    upload: Upload
    contents: Contents
    """What the file holds."""
    tasks: list[Delayed]
    """Each gives a list of `Written` and `Part`."""
    sent: tuple[Part, ...]
    """Parts that are there already: those without values."""
    nbytes: int
    """The file's size."""
    expected: Mapping[str, int]
    """Values that must arrive, by path."""


def begin_upload(
    made: Prepared, url: str, options: Mapping[str, Any] | None, *, later: bool = False
) -> Uploading | None:
    """Begin to upload a prepared Dataset in parts that tasks make, where that can be done.

    Parameters
    ----------
    made : Prepared
        The Dataset, and the file that it becomes.
    url : str
        The target.
    options : mapping, optional
        The filesystem's options.
    later : bool, default False
        Whether values in memory may change before the tasks run, so that they take a copy.

    Returns
    -------
    Uploading or None
        None where the store takes no parts, for a file that is one part only, for compressed
        values, whose places aren't known before, and where too much would wait in memory for
        the rest of its part. Local disk: what lies around the values, until this returns.
    """
    planned = made.planned
    if not offered(url) or planned.nbytes > LARGEST:
        return None
    if any(transfer.form.filters for transfer in planned.transfers):
        return None
    skeleton = new_part(url)
    try:
        with named_as(url, skeleton):
            with carried(planned.plan, made.form) as plan:
                indexes = create(skeleton, plan, sparse=True)
            cutting = cut(made.ds, planned, indexes, skeleton, url, later=later)
            if cutting is None:
                return None
            contents = contents_of(skeleton, planned.expected, url)
        upload = begin(url, options, uuid.uuid4().hex)
        with aborted_on_error(upload):
            sent, tasks = send(cutting, upload, skeleton)
    finally:
        with suppress(OSError):
            os.unlink(skeleton)
    return Uploading(
        upload=upload,
        contents=contents,
        tasks=tasks,
        sent=tuple(sent),
        nbytes=cutting.nbytes,
        expected=planned.expected,
    )


def finish_upload(
    results: Sequence[Sequence[Written | Part]], uploading: Uploading, *, overwrite: bool
) -> Published:
    """Make sure that everything was sent, and let the object appear.

    Parameters
    ----------
    results : sequence
        What the tasks gave.
    uploading : Uploading
        Whose they were.
    overwrite : bool
        Whether an object that is there is replaced.
    """
    told = [one for some in results for one in some]
    written = [one for one in told if isinstance(one, Written)]
    parts = [*uploading.sent, *(one for one in told if isinstance(one, Part))]
    refuse_missing(written, uploading.expected, uploading.upload.url)
    return commit(uploading.upload, parts, uploading.nbytes, overwrite=overwrite)


def send(cutting: Cutting, upload: Upload, skeleton: str) -> tuple[list[Part], list[Delayed]]:
    """Send the parts without values, and return tasks that send the others.

    Parameters
    ----------
    cutting : Cutting
        How the file falls into parts.
    upload : Upload
        Where they go.
    skeleton : str
        Local path of the skeleton; it isn't needed any more afterwards.

    Returns
    -------
    list of Part
        Those that were sent.
    list of Delayed
        Each gives a list of `Written` and `Part`. Memory per task: its block, or the fragments
        of its part, and one part; of small ones several, up to 32 MiB.
    """
    sending = Sending(upload, cutting.nbytes, cutting.alone)
    token = tokenize(upload.number)
    shared = as_task(sending, f"sending-{token}")
    blocks: dict[tuple[str, Ordinal], Delayed] = {}
    for name, values in cutting.values.items():
        sent = da.map_blocks(
            _send,
            values,
            target=as_task(cutting.targets[name], f"target-{name}-{token}"),
            sending=shared,
            name=f"send-{name}-{token}",
            dtype=object,
            chunks=tuple((1,) * n for n in values.numblocks),
            meta=np.empty((0,) * values.ndim, object),
        )
        lazy = sent.to_delayed(optimize_graph=True)
        blocks.update({(name, at): lazy[at] for at in np.ndindex(*values.numblocks)})
    tasks = []
    for i, block in enumerate(blocks.values()):
        tasks.append(task_named(f"sent-{token}-{i}", _told)(block))
    for part, needed in cutting.needs.items():
        cuts = [
            task_named(f"cut-{token}-{part}-{i}", _fragment)(blocks[one], part)
            for i, one in enumerate(needed)
        ]
        join = task_named(f"part-{token}-{part}", send_joined)
        n, patches = cutting.nbytes_needed[part], cutting.patches.get(part, [])
        tasks.append(join(cuts, patches, part, n, shared))
    return send_parts(upload, skeleton, [part + 1 for part in cutting.plain]), tasks


def _send(block: NDArray[Any], target: Target, sending: Sending, block_id: Ordinal) -> NDArray[Any]:
    """Send what one block fills by itself, as a task of an array whose blocks tell of it."""
    made = np.empty((1,) * block.ndim, object)
    made[...] = send_block(block, target, block_id, sending)
    return made


def _told(sent: Any) -> list[Written | Part]:
    """Return what is to be told of one block, without its fragments."""
    (one,) = np.ravel(sent)
    return [one.written, *one.parts]


def _fragment(sent: Any, part: int) -> Fragment:
    found: Fragment = np.ravel(sent)[0].fragments[part]
    return found
