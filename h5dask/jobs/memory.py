"""The most memory that a run took, here and in its workers."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from functools import partial

from h5dask.clients import current_client
from h5dask.deadlines import within
from h5dask.errors import Unreachable

ANSWER_SECONDS = 5.0
"""What workers may take to answer; those that don't are left out."""


def peak_memory() -> int:
    """Return the most bytes that one of the processes ever had."""
    client, found = current_client(), [_own_peak()]
    if client is not None:
        with suppress(Unreachable, OSError):
            asked = partial(client.run, _own_peak, on_error="ignore")
            answers = within(ANSWER_SECONDS, asked, "workers")
            found += [n for n in answers.values() if n is not None]
    return max(found)


def _own_peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
