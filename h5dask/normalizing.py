"""Files with one variable on a common scale, all else as it was."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import xarray as xr

from h5dask.errors import NotFound, Refused
from h5dask.losses import compute
from h5dask.ops.choosing import refuse_other_than_numbers
from h5dask.ops.cost import Cost, Forms, folding, writing
from h5dask.ops.normalization import dtype_of, fit, normalize, way_of
from h5dask.ops.scales import Loss
from h5dask.ops.statistics import summarize
from h5dask.progress import Progress
from h5dask.results import open_any, refuse_existing, refuse_target, write_result
from h5dask.storage.remote import resolved
from h5dask.writing.preparing import refuse_large
from h5dask.writing.writer import write_dataset

_FLOPS = 40
"""Operations a value that is scaled."""
RESULTS = (".nc", ".zarr")
"""Names of what has no layout, and so holds the variable alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """What is brought to which scale."""

    variable: str
    """Which variable."""
    how: str
    """One of `HOW` in `normalization`."""
    dims: tuple[str, ...]
    """Along which vectors lie, or over which statistics are taken."""
    fitted: str | None
    """File of statistics that are applied."""

    @classmethod
    def of(
        cls,
        ds: xr.Dataset,
        *,
        variable: str | None = None,
        how: str = "l2",
        dims: Sequence[str] = (),
        fitted: str | None = None,
    ) -> Scaling:
        """Return what is asked for, with what isn't said filled in.

        Raises
        ------
        Refused, NotFound
            There is no such way; several variables are vectors and none is named; or it isn't
            there.
        """
        way_of(how)
        vectors = [str(name) for name, one in ds.items() if one.dtype.kind == "f" and one.ndim > 1]
        if variable is None:
            if len(vectors) != 1:
                raise Refused(
                    f"variable: found {len(vectors)} of vectors ({', '.join(vectors) or 'none'}); "
                    "name the one that is meant, --variable NAME"
                )
            (variable,) = vectors
        if variable not in ds.data_vars:
            raise NotFound(
                f"variable: found {variable!r}; expected of {', '.join(map(str, ds.data_vars))}"
            )
        own = tuple(map(str, ds[variable].dims))
        usual = own[-1:] if how == "l2" else own[:-1] if how == "whiten" else own[:1]
        return cls(variable=variable, how=how, dims=tuple(dims) or usual, fitted=fitted)


def write_scaled(
    ds: xr.Dataset,
    scaling: Scaling,
    output: str,
    *,
    save: str | None = None,
    overwrite: bool = False,
    allow_large: bool = False,
    progress: Progress,
) -> dict[str, Any]:
    """Write a Dataset with one variable on a common scale, and say what that cost.

    Parameters
    ----------
    ds : Dataset
        As it was opened.
    scaling : Scaling
        What becomes of it.
    output : str
        A file of the layout; or .nc or .zarr, for the variable alone.
    save : str, optional
        Where the statistics go, as netCDF.
    overwrite : bool, default False
        Whether files that are there are replaced.
    allow_large : bool, default False
        Whether a file of the layout may exceed what its consumer takes.
    progress : Progress
        Shows how far it is.

    Returns
    -------
    dict
        Values that JSON can hold: what was done, and how many values were and are not finite.
    """
    refuse_existing(output, overwrite=overwrite)
    if save is not None:
        refuse_target(save, overwrite=overwrite)
    x = ds[scaling.variable]
    refuse_other_than_numbers(x)
    of_layout = not output.rstrip("/").endswith(RESULTS)
    if of_layout and not allow_large:
        refuse_large(ds.assign({scaling.variable: x.astype(dtype_of(x))}), resolved(output))
    if scaling.fitted is not None:
        fitted = open_any(scaling.fitted).load()
    else:
        with progress.stage(f"fit {scaling.variable}", nbytes=x.nbytes):
            fitted = fit(x, scaling.how, dim=scaling.dims, compute=compute)
    made = normalize(x, scaling.how, dim=scaling.dims, fitted=fitted)
    if save is not None:
        write_result(fitted, save, overwrite=overwrite)
    # Counted first: the output may take the place of what x is read from.
    with progress.stage(f"count {scaling.variable}", nbytes=x.nbytes):
        before = _nonfinite(x)
    with progress.stage(f"write {output}", nbytes=x.nbytes), warnings.catch_warnings():
        warnings.simplefilter("ignore", Loss)  # said once for all blocks, below
        if of_layout:
            scaled = ds.assign({scaling.variable: made})
            write_dataset(scaled, output, overwrite=overwrite, allow_large=allow_large)
        else:
            write_result(made.to_dataset(name=scaling.variable), output, overwrite=overwrite)
    with progress.stage(f"check {output}", nbytes=x.nbytes):
        after = _nonfinite(open_any(output)[scaling.variable])
    if after > before:
        warnings.warn(
            f"{output}: {after - before:,} more values aren't finite than before; "
            f"{made.dtype} can't hold them, or they lay in vectors with one that wasn't",
            stacklevel=2,
        )
    counts = {"nonfinite_before": before, "nonfinite_after": after}
    return {**asdict(scaling), "output": output, **counts}


def scaling_cost(ds: xr.Dataset, scaling: Scaling, *, stored: Forms | None = None) -> Cost:
    """Return what `write_scaled` to a layout takes.

    Parameters
    ----------
    ds, scaling
        As of `write_scaled`.
    stored : mapping of str to Stored, optional
        How the variables are stored, and will be.
    """
    x = ds[[scaling.variable]]
    is_fitted = scaling.how == "l2" or scaling.fitted is not None
    counted = folding(x, stored=stored, passes=2 if is_fitted else 3)
    written = writing(ds, stored=stored)
    return counted + replace(written, flops=_FLOPS * float(ds[scaling.variable].size))


def _nonfinite(x: xr.DataArray) -> int:
    (found,) = compute(summarize(x, ...).nonfinite)
    return int(found)
