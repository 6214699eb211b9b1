"""A client and what belongs to it: workers are compared with it, and made ready for tasks."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from functools import partial
from typing import Any

from distributed import Client, WorkerPlugin

from h5dask.deadlines import within
from h5dask.errors import Refused
from h5dask.workers.children import prepare
from h5dask.workers.settings import PREPARE_SECONDS, START_SECONDS
from h5dask.workers.versions import MUST_AGREE, Mismatch, compare, finder


class Connection(Client):
    """A client which, once closed, leaves nothing of what was started or set for it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.rest = ExitStack()
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]

    def close(self, *args: Any, **options: Any) -> None:
        """Close the client, then end all the rest."""
        try:
            super().close(*args, **options)  # type: ignore[no-untyped-call]
        finally:
            self.rest.close()


def refuse_misfits(client: Client, address: str) -> None:
    """Compare versions; what can't work is refused, what may give other results is told."""

    def found() -> Mismatch:
        scheduler = client.run_on_scheduler(finder(MUST_AGREE, extras=()))
        workers = client.run(finder(), on_error="ignore")
        return compare(finder()(), scheduler, workers)

    mismatch = within(START_SECONDS, found, address)
    if mismatch.errors:
        raise Refused(
            f"{address}: versions don't fit together:\n"
            + "\n".join(f"  {line}" for line in mismatch.errors)
            + "\ninstall the same ones on all sides"
        )
    if mismatch.warnings:
        warnings.warn(f"{address}: {'; '.join(mismatch.warnings)}", UserWarning, stacklevel=4)


def prepare_all(client: Client) -> None:
    """Get every worker ready, and those that join later."""

    class Prepared(WorkerPlugin):
        name = "h5dask"
        idempotent = True

        def setup(self, worker: Any) -> None:  # noqa: ARG002
            prepare()

    within(PREPARE_SECONDS, partial(client.register_plugin, Prepared()), "workers")
