"""Processes that do the work: how they are set up, started without noise, and leave no trace."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import platform
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

from h5dask.kernels.warming import warm
from h5dask.threads import keep_one_blas_thread

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Blocks are freed and allocated all the time: at its usual 64 KiB glibc gives every one of
    # them back to the system, and each page of the next one is zeroed again.
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
}
"""Environment of a worker process that is started here."""

_TRIM, _MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of <malloc.h>
_DASKS_TRIM = "65536"


def prepare() -> None:
    """Get this process ready for tasks: one BLAS thread, malloc for blocks, compiled kernels."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # a BLAS that is loaded later looks there
    keep_one_blas_thread()
    ours = os.environ["MALLOC_TRIM_THRESHOLD_"] in (
        _DASKS_TRIM,
        ENVIRONMENT["MALLOC_TRIM_THRESHOLD_"],
    )
    if platform.libc_ver()[0] == "glibc" and ours:
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM, int(ENVIRONMENT["MALLOC_TRIM_THRESHOLD_"]))
        libc.mallopt(_MMAP, int(ENVIRONMENT["MALLOC_MMAP_THRESHOLD_"]))
    warm()


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back from the threads started inside, and the processes which those start.

    It then reaches this process alone, which ends the others in order and without noise.
    """
    resource_tracker.ensure_running()  # where it starts later, it lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def ctrl_c_kept() -> Iterator[None]:
    """Set back at the end what Ctrl-C does; a library may change it when it is imported."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)


@contextmanager
def environment_kept(names: Iterable[str]) -> Iterator[None]:
    """Set variables back at the end; dask puts those of a worker into this process as well."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Keep a logger from telling what is told otherwise, or is none of anybody's business."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        gc.collect()  # an unfinished task of asyncio speaks up when it is collected
        logger.setLevel(before)


@contextmanager
def without_script() -> Iterator[None]:
    """Keep new processes from importing the running script, which need not be guarded for it."""
    script = sys.modules["__main__"]
    names = [name for name in ("__file__", "__spec__") if hasattr(script, name)]
    hidden = {name: getattr(script, name) for name in names}
    for name in hidden:
        setattr(script, name, None)
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(script, name, value)
