"""xarray's entry point: `xr.open_dataset(path, engine="h5dask")` and `xr.open_datatree`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import xarray as xr
from xarray.backends import BackendEntrypoint

from h5dask.reading.reader import open_dataset, open_groups


def _nothing_is_open() -> None:
    """Do nothing: xarray wants something to call when several files are closed together."""


class H5daskBackend(BackendEntrypoint):
    """Opens files of the layouts as lazily indexed variables; xarray applies `chunks` itself.

    Two limits are xarray's: `chunks="auto"` fails with text variables, and for URLs its names of
    dask arrays don't include the etag. `h5dask.open_dataset` has neither.
    """

    description: ClassVar[str] = "Open HDF5 files of h5dask's layouts"
    url: ClassVar[str] = "https://pypi.org/project/h5dask"
    open_dataset_parameters: ClassVar[tuple[str, ...]] = (
        "filename_or_obj",
        "drop_variables",
        "layout",
        "group",
        "storage_options",
    )
    supports_groups: ClassVar[bool] = True

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        layout: str | None = None,
        group: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> xr.Dataset:
        """Open one file, lazily indexed; parameters as in `h5dask.open_dataset`."""
        dataset = open_dataset(
            filename_or_obj,
            layout=layout,
            chunks=None,
            group=group,
            drop_variables=drop_variables,
            storage_options=storage_options,
        )
        dataset.set_close(_nothing_is_open)
        return dataset

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        layout: str | None = None,
        group: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> dict[str, xr.Dataset]:
        """Open one file's groups by path; parameters as in `h5dask.open_datatree`."""
        nodes = open_groups(
            filename_or_obj,
            layout=layout,
            chunks=None,
            group=group,
            drop_variables=drop_variables,
            storage_options=storage_options,
        )
        return {path if path == "/" else f"/{path}": node for path, node in nodes.items()}

    def open_datatree(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        layout: str | None = None,
        group: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> xr.DataTree:
        """Open one file as a tree; parameters as in `h5dask.open_datatree`."""
        nodes = self.open_groups_as_dict(
            filename_or_obj,
            drop_variables=drop_variables,
            layout=layout,
            group=group,
            storage_options=storage_options,
        )
        return xr.DataTree.from_dict(nodes)

    def guess_can_open(self, filename_or_obj: Any) -> bool:  # noqa: ARG002
        """Return False: an HDF5 file may be anything, so the engine is always named."""
        return False
