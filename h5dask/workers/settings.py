"""What dask is set to where its user hasn't set it. Nothing is started here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dask

from h5dask.workers.children import ENVIRONMENT

SETTINGS = {
    # A worker whose machine is gone is given up, and its blocks go to others.
    "distributed.scheduler.worker-ttl": "2 minutes",
    # Machines that are taken away end workers through no fault of the block they were at.
    "distributed.scheduler.allowed-failures": 5,
    # So long after a worker is lost a local cluster looks once whether it is back, and otherwise
    # gives it up for good, even if its nanny is just starting it again after another loss.
    "distributed.deploy.lost-worker-timeout": "30 days",
    # With nobody left to compute, an error is better than silence.
    "distributed.scheduler.no-workers-timeout": "10 minutes",
    # Busy networks and full queues answer late.
    "distributed.comm.timeouts.connect": "60s",
    "distributed.comm.timeouts.tcp": "60s",
    **{f"distributed.nanny.pre-spawn-environ.{name}": ENVIRONMENT[name] for name in ENVIRONMENT},
}
"""What dask is set to where its user hasn't set it."""

START_SECONDS = 60.0
"""What workers may take to start, and to answer."""
PREPARE_SECONDS = 600.0
"""What they may take to get ready: without a cache, they compile all kernels."""


def unset(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those settings that dask's user has left as dask ships them.

    Examples
    --------
    >>> with dask.config.set({"distributed.comm.timeouts.tcp": "5s"}):
    ...     unset({"distributed.comm.timeouts.tcp": "60s"})
    {}
    """
    chosen = dask.config.collect()  # files and environment, without dask's own values
    shipped: dict[str, Any] = {}
    dask.config.refresh(config=shipped, paths=[], env={})

    def at(config: dict[str, Any] | None, name: str) -> Any:
        return dask.config.get(name, None, config=config)

    return {
        name: value
        for name, value in settings.items()
        if at(chosen, name) is None and at(None, name) == at(shipped, name)
    }
