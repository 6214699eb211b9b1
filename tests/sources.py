"""Arrays that know what was read of them, for tests of what reads no more than it must."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray


class Source:
    """An array that counts how often each of its values is read."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.ndim = values.ndim
        self.n_reads = np.zeros(values.shape, int)

    def __getitem__(self, at: Any) -> NDArray[Any]:
        self.n_reads[at] += 1  # dask looks at none of the values, to learn the type
        return self.values[at]

    def lazy(self, chunks: Any, dims: Sequence[str], name: str = "x") -> xr.DataArray:
        """Return it as it is opened: in blocks, which are read when they are needed."""
        array = da.from_array(self, chunks=chunks, name=f"read-{name}-{id(self)}")
        return xr.DataArray(array, dims=tuple(dims), name=name)
