"""How a dataset of a written file is stored: as it was, like its siblings, or by the document."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from h5dask.contents import AS_SHAPE, UNLIMITED, ArrayForm
from h5dask.errors import LayoutError
from h5dask.layout import ArraySpec
from h5dask.storage.forms import form_of, gzip_filters

Compression = str | int | tuple[str, int] | None


_CHUNK_NBYTES = 2**20


def gzip_level(compression: Compression) -> int | None:
    """Return the gzip level asked for: None keeps the form's filters, -1 removes them."""
    if compression is None:
        return None
    if compression == "none":
        return -1
    name, level = "gzip", 4 if compression == "gzip" else compression
    if isinstance(compression, tuple) and len(compression) == 2:
        name, level = compression
    if name != "gzip" or not isinstance(level, int) or not 0 <= level <= 9:
        raise LayoutError(
            f"compression is {compression!r}; expected 'gzip', a level from 0 to 9, "
            "('gzip', level) or 'none'"
        )
    return level


def stored_form(
    spec: ArraySpec, dtype: np.dtype[Any], rank: int, model: ArrayForm | None
) -> ArrayForm:
    """Return the form in which values are stored.

    Parameters
    ----------
    spec : ArraySpec
        The variable's declaration.
    dtype : dtype
        Of the Dataset's values.
    rank : int
        Of the dataset.
    model : ArrayForm, optional
        The dataset's form in the file that is to be resembled, or a sibling's.
    """
    form = model if model is not None and _holds(model, dtype) else _new(spec, dtype, rank, model)
    if form.maxshape and len(form.maxshape) != rank:
        form = replace(form, maxshape=(), chunks=None)
    return form


def _new(spec: ArraySpec, dtype: np.dtype[Any], rank: int, old: ArrayForm | None) -> ArrayForm:
    """Return the document's form, laid out as the old one was."""
    limits = (UNLIMITED, *(AS_SHAPE,) * (rank - 1)) if spec.resizable else ()
    kind: Any = "bytes" if spec.dtypes[:1] == ("bytes",) else "str"
    form = form_of(kind if dtype.kind in "OUST" else _stored_dtype(spec, dtype), maxshape=limits)
    if old is None or len(old.maxshape) != rank:
        return form
    return replace(
        form,
        storage=old.storage,
        maxshape=old.maxshape,
        chunks=old.chunks,
        filters=old.filters if old.is_numeric == form.is_numeric else (),
        alloc_time=old.alloc_time,
        fill_time=old.fill_time,
        attr_order=old.attr_order,
    )


def compressed(form: ArrayForm, shape: tuple[int, ...], gzip: int | None) -> ArrayForm:
    """Return the form with the filters that are asked for.

    Parameters
    ----------
    form : ArrayForm
        A dataset's form.
    shape : tuple of int
        Its shape.
    gzip : int, optional
        Level to compress numbers with; None keeps the form's filters, -1 removes them.
    """
    if gzip is None or not form.is_numeric or not math.prod(shape):
        return form
    itemsize = np.dtype(form.dtype).itemsize
    if gzip < 0:
        return replace(form, filters=())
    row = math.prod(shape[1:]) * itemsize
    return replace(
        form,
        storage="chunked",
        chunks=form.chunks or (min(shape[0], max(1, _CHUNK_NBYTES // row)), *shape[1:]),
        filters=gzip_filters(gzip, itemsize),
        maxshape=form.maxshape or (AS_SHAPE,) * len(shape),
        alloc_time=3,
    )


def _holds(form: ArrayForm, dtype: np.dtype[Any]) -> bool:
    """Whether values of a Dataset's dtype are of the type that a form stores."""
    if dtype.kind in "OUST":
        return form.is_text or form.is_ragged_bytes
    return form.is_numeric and np.dtype(form.dtype).newbyteorder("=") == dtype


def _stored_dtype(spec: ArraySpec, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of a new dataset: the Dataset's own where accepted, else one to hold it."""
    if not spec.dtypes or dtype.name in spec.dtypes:
        return dtype.newbyteorder("=")
    accepted = [np.dtype(name) for name in spec.dtypes]
    safe = [one for one in accepted if np.can_cast(dtype, one, "safe")]
    same_kind = [one for one in accepted if np.can_cast(dtype, one, "same_kind")]
    if not (safe or same_kind):
        raise LayoutError(
            f"{spec.name} has dtype {dtype.name!r}, expected {' or '.join(spec.dtypes)}; "
            "convert it with astype"
        )
    return safe[0] if safe else max(same_kind, key=lambda one: one.itemsize)
