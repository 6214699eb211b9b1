"""All kernels made ready at once, what is said of it, and that the next process finds them."""

import os
import pkgutil
import subprocess
import sys
from importlib import import_module

from h5dask import kernels
from h5dask.kernels.warming import warm

CODE = """
import logging
logging.basicConfig(level=logging.INFO, format="%(message)s")
from h5dask.kernels import fletcher32
fletcher32.call_each()
"""


def dispatchers():
    """Find every compiled function, those left out that others hold in their machine code."""
    for found in pkgutil.iter_modules(kernels.__path__):
        module = import_module(f"{kernels.__name__}.{found.name}")
        compiled = {
            name: kernel
            for name, kernel in vars(module).items()
            if "forceinline" not in getattr(kernel, "targetoptions", ["forceinline"])
        }
        called = {name for kernel in compiled.values() for name in kernel.py_func.__code__.co_names}
        for name in compiled.keys() - called:
            yield f"{found.name}.{name}", compiled[name]


def test_every_kernel_is_warmed():
    warm()
    kernels = dict(dispatchers())
    assert len(kernels) >= 12
    assert [name for name, kernel in kernels.items() if not kernel.signatures] == []


def test_compiling_is_announced_once_and_only_where_the_cache_has_nothing(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    said = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", CODE],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )
        said.append([line for line in done.stderr.splitlines() if "ompil" in line])
    assert said == [["Compiling kernels (once) ..."], []]
    assert list(tmp_path.rglob("*.nbi"))
