"""A Dataset -> a part file of the caller's, panel by panel, so that a killed run goes on.

What is recorded between panels, and where, is the caller's matter. Nothing is published here.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
import xarray as xr

from h5dask.chunkindex import ChunkIndex
from h5dask.contents import Contents
from h5dask.errors import CorruptInput
from h5dask.losses import compute
from h5dask.storage.describe import describe
from h5dask.storage.parts import end_placing
from h5dask.storage.publishing import sync
from h5dask.storage.write import Receipt
from h5dask.writing.delivery import Delivery, deliver
from h5dask.writing.forming import Compression
from h5dask.writing.placing import Written
from h5dask.writing.preparing import Like, Prepared, carried, prepare
from h5dask.writing.writer import arrived, say_findings


class Steps(Protocol):
    """What remembers, beyond the end of a process, how far a run has come."""

    def once(self, name: str, do: Callable[[], Any]) -> Any:
        """Return what `do` gave when it ran for the first time; values that JSON holds."""

    def panels(self, name: str, n: int, do: Callable[[int, int], Any]) -> list[Any]:
        """Return what `do` gave for each run of numbers [start, stop) below n."""

    def done(self, name: str) -> Any:
        """Return what a step gave, None if it has not been done."""

    def forget(self, *names: str) -> None:
        """Take steps for not done."""


def write_part(
    ds: xr.Dataset,
    part: str,
    url: str,
    steps: Steps,
    *,
    layout: str | None = None,
    like: Like = None,
    compression: Compression = None,
    allow_large: bool = False,
) -> Contents:
    """Write a Dataset as a complete file of its layout under the name of a part.

    Parameters
    ----------
    ds : Dataset
        In the layout's analysis form.
    part : str
        Local path that is written; what an earlier run has left there is gone on with where it
        was to be the same file, in the same blocks.
    url : str
        The target, for messages.
    steps : Steps
        Remembers which panels are done. A panel counts as done once its bytes are on disk.
    layout, like, compression, allow_large
        As in `write_dataset`.

    Returns
    -------
    Contents
        What the part holds, read back from it.

    Notes
    -----
    Compressed datasets are placed through HDF5's library, which a kill may leave in any state:
    a file that has some is begun anew. Memory per task as in `write_dataset`.
    """
    made = prepare(
        ds, url, layout=layout, like=like, compression=compression, allow_large=allow_large
    )
    skeleton, panels = f"skeleton {os.path.basename(part)}", f"write {os.path.basename(part)}"
    mark = _mark(made)
    resumable = not any(transfer.form.filters for transfer in made.planned.transfers)
    if not (resumable and steps.done(skeleton) == mark and os.path.exists(part)):
        steps.forget(skeleton, panels)
        remake(part, made)
        steps.once(skeleton, lambda: mark)
    delivery = deliver(made.ds, made.planned, _indexes(part, made), part)
    written: list[Written] = []
    if delivery.writes:
        found = steps.panels(panels, len(delivery.writes), _panel(delivery, part))
        written += [_from_json(one) for some in found for one in some]
        try:
            compute(*delivery.checks(written))
        except CorruptInput:  # what is on record isn't there
            steps.forget(skeleton, panels)
            raise
    written += [one for some in compute(*delivery.places) for one in some]
    contents = arrived([written], made.planned.expected, part, url)
    say_findings(made.layout, contents, made.form)
    return contents


def remake(part: str, made: Prepared) -> None:
    """Make the skeleton in a new file, which nobody who comes late has open; bring it to disk."""
    from h5dask.storage.skeleton import create

    with suppress(FileNotFoundError):
        os.unlink(part)
    end_placing(part)
    with carried(made.planned.plan, made.form) as plan:
        create(part, plan)
    sync(part)


def _panel(delivery: Delivery, part: str) -> Callable[[int, int], list[Any]]:
    def write(start: int, stop: int) -> list[Any]:
        some = compute(*delivery.writes[start:stop])
        sync(part)
        return [_as_json(np.ravel(one)[0]) for one in some]

    return write


def _mark(made: Prepared) -> str:
    """Return what tells whether a part's bytes fall into the same blocks at the same places."""
    transfers = [
        (t.path, t.variable, t.lane, t.shape, t.form.dtype, t.chunks)
        for t in made.planned.transfers
    ]
    blocks = {
        str(name): variable.chunks and [list(lengths) for lengths in variable.chunks]
        for name, variable in made.ds.variables.items()
    }
    return hashlib.sha256(json.dumps([transfers, blocks]).encode()).hexdigest()


def _indexes(part: str, made: Prepared) -> Mapping[str, ChunkIndex]:
    """Return where the values' bytes belong in a part whose skeleton is made."""
    contents, index = describe(part, subject=part, fingerprint="")
    found = {}
    for transfer in made.planned.transfers:
        at = contents.position(transfer.path)
        if at in index.chunked:
            found[transfer.path] = index.chunked[at]
        else:
            nbytes = math.prod(transfer.shape) * np.dtype(transfer.form.dtype).itemsize
            offset = int(index.offsets[at])
            found[transfer.path] = ChunkIndex.contiguous(transfer.shape, offset, nbytes)
    return found


def _as_json(written: Written) -> Sequence[Any]:
    receipts = [[one.n_values, one.nbytes, one.crc] for one in written.receipts]
    return [dict(written.counts), receipts]


def _from_json(stored: Sequence[Any]) -> Written:
    counts, receipts = stored
    return Written(counts, tuple(Receipt(*one) for one in receipts))
