"""How many threads BLAS may use; who runs the threads that call it lies elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from h5dask.overlapping import Overlapping


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
    with _limited.inside():
        yield


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


def _lift(limit: Any) -> None:
    with _in_control():
        limit.restore_original_limits()


_limited = Overlapping(start=keep_one_blas_thread, end=_lift)
