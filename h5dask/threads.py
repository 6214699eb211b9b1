"""How many threads BLAS may use; who runs the threads that call it lies elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class _Guard:
    """The computations under way in this process, which share one limit."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while the two below change."""
    n_inside: int = 0
    """Computations that count on the limit."""
    limit: Any = None
    """Sets BLAS back to what it was before the first of them."""


_guard = _Guard()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread as long as any computation is inside.

    Parallel tasks that each start a thread a core are slower than those tasks alone. OpenBLAS has
    one limit for the whole process, so it stands around a whole computation: set inside of tasks,
    the first one to end would lift it for the others.

    Examples
    --------
    >>> import numpy as np
    >>> with one_blas_thread():
    ...     float(np.ones(3) @ np.ones(3))
    3.0
    """
    with _guard.lock:
        if not _guard.n_inside:
            _guard.limit = keep_one_blas_thread()
        _guard.n_inside += 1
    try:
        yield
    finally:
        with _guard.lock:
            _guard.n_inside -= 1
            if not _guard.n_inside:
                with _in_control():
                    _guard.limit.restore_original_limits()
                _guard.limit = None


def keep_one_blas_thread() -> Any:
    """Limit BLAS to one thread for as long as the process lives, as a worker does once."""
    import numpy as np  # noqa: F401 - a BLAS that is not loaded yet can't be limited
    from threadpoolctl import threadpool_limits

    with _in_control():
        return threadpool_limits(limits=1, user_api="blas")


@contextmanager
def _in_control() -> Iterator[None]:
    """Let this thread set the limit, and any other one after it.

    threadpoolctl silently ignores all threads but the first one that ever set a limit; which of
    ours enters first and which leaves last is chance.
    """
    from threadpoolctl import OpenBLASController

    OpenBLASController.clear_controlling_thread(force=True)
    try:
        yield
    finally:
        OpenBLASController.clear_controlling_thread(force=True)
