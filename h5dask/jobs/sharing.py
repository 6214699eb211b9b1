"""Whether workers see the folder in which a run makes its parts."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from functools import partial

from h5dask.clients import current_client
from h5dask.deadlines import within
from h5dask.errors import Refused
from h5dask.writing.delivery import holds

ANSWER_SECONDS = 60.0
"""What workers may take to answer."""


def refuse_unshared(part: str, output: str) -> None:
    """Refuse a part that workers would write to disks of their own.

    Raises
    ------
    Refused
        A worker doesn't see the part's folder.
    Unreachable
        The workers don't answer.
    """
    client = current_client()
    if client is None:
        return
    path, token = f"{part}.probe", uuid.uuid4().hex
    with open(path, "w", encoding="ascii") as file:
        file.write(token)
    try:
        asked = partial(client.run, holds, path, token, on_error="return")
        answers = within(ANSWER_SECONDS, asked, "workers")
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)
    blind = [worker for worker, answer in answers.items() if answer is not True]
    if blind:
        raise Refused(
            f"{output}: {len(blind)} of {len(answers)} workers don't see the folder in which it is "
            f"made, {os.path.dirname(part)!r}; take one that all share, for an output in a store "
            "with H5DASK_CACHE; or write .nc"
        )
