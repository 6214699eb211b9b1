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
}

__all__ = [
    "__version__",
    "concat",
    "identify",
    "open_dataset",
    "open_datatree",
    "validate",
    "write_dataset",
]

if TYPE_CHECKING:
    from h5dask.joining import concat as concat
    from h5dask.reader import identify as identify
    from h5dask.reader import open_dataset as open_dataset
    from h5dask.reader import open_datatree as open_datatree
    from h5dask.reader import validate as validate
    from h5dask.writer import write_dataset as write_dataset


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'h5dask' has no attribute {name!r}")
    value = getattr(import_module(f"h5dask.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
