"""A page of figures on how a computation used its workers, under any scheduler."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from h5dask.clients import current_client
from h5dask.errors import AccessDenied
from h5dask.workers.children import interrupts_held, without_script


@contextmanager
def performance_report(path: str) -> Iterator[None]:
    """Write dask's report on the computations inside, one HTML file with all that it shows.

    On a cluster it is that of `distributed.performance_report`: the stream of tasks, workers,
    bandwidth, the scheduler's own load. On threads it has tasks, processor and memory over time.

    Parameters
    ----------
    path : str
        The file, whose folder exists; one of that name is replaced. After an error there is none.

    Raises
    ------
    AccessDenied
        The file can't be written; raised before anything is computed.

    Examples
    --------
    >>> import tempfile, dask.array as da
    >>> with performance_report(tempfile.mkdtemp() + "/report.html"):
    ...     float(da.ones(4, chunks=1).sum().compute())
    4.0
    """
    temporary = f"{path}.part"
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with open(temporary, "w", encoding="utf-8"):
            pass
    except OSError as error:
        raise AccessDenied(f"{path}: {error.strerror}; name another file") from None
    try:
        with _of_cluster(temporary) if current_client() else _of_threads(temporary):
            yield
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


@contextmanager
def _of_cluster(path: str) -> Iterator[None]:
    from distributed import performance_report

    with performance_report(filename=path, mode="inline"):
        yield


@contextmanager
def _of_threads(path: str) -> Iterator[None]:
    from dask.diagnostics import (  # type: ignore[attr-defined]
        Profiler,
        ResourceProfiler,
        visualize,
    )

    with Profiler() as tasks, ExitStack() as stack:
        with without_script(), interrupts_held():
            resources = stack.enter_context(ResourceProfiler(dt=0.25))
        yield
    visualize([tasks, resources], filename=path, show=False, save=True, mode="inline")
