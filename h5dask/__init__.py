"""Dask and xarray over four HDF5 layouts: open, compute in parallel, write back exactly.

Names are imported when they are first used, so that `import h5dask` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

_HOMES = {
    "open_dataset": "reader",
    "open_datatree": "reader",
    "identify": "reader",
    "validate": "reader",
    "concat": "joining",
    "write_dataset": "writer",
    "compute": "losses",
    "connect": "workers",
    "run": "jobs",
    "write_report": "report",
}

__all__ = [
    "__version__",
    "compute",
    "concat",
    "connect",
    "identify",
    "open_dataset",
    "open_datatree",
    "run",
    "validate",
    "write_dataset",
    "write_report",
]

if TYPE_CHECKING:
    from h5dask.jobs import run as run
    from h5dask.joining import concat as concat
    from h5dask.losses import compute as compute
    from h5dask.reader import identify as identify
    from h5dask.reader import open_dataset as open_dataset
    from h5dask.reader import open_datatree as open_datatree
    from h5dask.reader import validate as validate
    from h5dask.report import write_report as write_report
    from h5dask.workers import connect as connect
    from h5dask.writer import write_dataset as write_dataset


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'h5dask' has no attribute {name!r}")
    value = getattr(import_module(f"h5dask.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
