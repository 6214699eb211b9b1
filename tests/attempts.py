"""What is tried with h5dask in a child process: opening, reading, judging, writing.

Errors raised on purpose are outcomes that a test compares; all others come back as what they are.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import dask
import numpy as np
import xarray as xr

import h5dask
from h5dask.errors import H5daskError
from h5dask.telling.outline import outline
from h5dask.testing import example, example_file

Digests = dict[str, str]


def warm_up() -> None:
    """Import and compile what children need, and keep dask from starting threads."""
    dask.config.set(scheduler="synchronous")
    warnings.simplefilter("ignore")  # of what is unusual in files that are damaged on purpose
    for layout in ("activations", "proteins", "ann", "episodes"):
        path = example_file(layout)
        everything(path)
        with tempfile.TemporaryDirectory() as folder:
            rewrite(path, f"{folder}/again.h5", {"compression": "gzip"})
            read(f"{folder}/again.h5")


def digest(values: Any) -> str:
    """Return what differs where dtype, shape or any value differs, bit for bit."""
    array = np.asarray(values)
    raw = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
    return f"{array.dtype}{array.shape}{hashlib.sha256(raw).hexdigest()}"


def digests(ds: xr.Dataset) -> Digests:
    """Return the digest of each variable, and of the attributes."""
    found = {str(name): digest(variable.values) for name, variable in ds.variables.items()}
    return found | {"attributes": repr({k: np.asarray(v).tolist() for k, v in ds.attrs.items()})}


def read(path: str) -> Digests:
    """Open a file and read all of it."""
    return digests(h5dask.open_dataset(path).compute())


def corner(path: str, length: int = 5) -> dict[str, list[Any]]:
    """Open a file and read the first few values along each dim of each variable."""
    ds = h5dask.open_dataset(path)
    return {
        str(name): variable.isel(dict.fromkeys(variable.dims, slice(0, length))).values.tolist()
        for name, variable in ds.variables.items()
    }


def sizes(path: str) -> dict[str, int]:
    """Open a file in every way, and return the size of each dim."""
    h5dask.open_dataset(path, chunks=None)
    h5dask.open_dataset(path, chunks={})
    return {str(dim): size for dim, size in h5dask.open_dataset(path).sizes.items()}


def judge(path: str) -> list[str]:
    """Return problems and notes, all values read."""
    return [str(one) for one in h5dask.validate(path, values=True, notes=True)]


def glance(path: str) -> list[str]:
    """Return problems and notes, no value read."""
    return [str(one) for one in h5dask.validate(path, notes=True)]


def tell(path: str) -> Any:
    """Return what `h5dask info` shows."""
    return outline(path).as_json()


def everything(path: str) -> Digests:
    """Do with a file all that reads it; return what was read, or raise the first typed error."""
    errors = []
    for attempt in (tell, judge):
        try:
            attempt(path)
        except H5daskError as error:
            errors.append(error)
    found = read(path)
    if errors:
        raise errors[0]
    return found


def refusals(path: str, attempts: Sequence[Callable[[str], Any]]) -> list[str]:
    """Return what each attempt says of a file: the type and text of an error, or what it gave."""
    said = []
    for attempt in attempts:
        try:
            said.append(repr(attempt(path)))
        except H5daskError as error:
            said.append(f"{type(error).__name__}: {error}")
    return said


def truncations(path: str, positions: Sequence[int], right: Digests) -> list[str]:
    """Cut a file shorter and shorter; return a line for each cut that isn't told or harmless."""
    said = []
    for position in sorted(positions, reverse=True):
        os.truncate(path, position)
        try:
            found = read(path)
        except H5daskError as error:
            if path not in str(error):
                said.append(f"at {position}: {error} doesn't name the file")
            continue
        except Exception as error:  # noqa: BLE001 - any other error is the finding
            said.append(f"at {position}: {type(error).__name__}: {error}")
            continue
        said += [f"at {position}: {name} is wrong" for name in right if found[name] != right[name]]
    return said


def rewrite(source: str, target: str, options: dict[str, Any] | None = None) -> None:
    """Open a file and write it as another."""
    h5dask.write_dataset(h5dask.open_dataset(source), target, **(options or {}))


def write_example(layout: str, target: str, options: dict[str, Any] | None = None) -> None:
    """Write the example of a layout."""
    h5dask.write_dataset(example(layout), target, layout=layout, **(options or {}))
