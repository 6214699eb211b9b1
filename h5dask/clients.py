"""Which of dask's clients computes what is computed now; none is started here."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client


def current_client() -> Client | None:
    """Return the client that dask would compute with now; None on threads."""
    if "distributed" not in sys.modules:
        return None
    from dask.base import get_scheduler
    from distributed import Client

    found = getattr(get_scheduler(), "__self__", None)
    return found if isinstance(found, Client) else None
