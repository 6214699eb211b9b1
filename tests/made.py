"""Contents of files that never were: for rules that need no bytes."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from h5dask.contents import AS_SHAPE, ArrayForm, Attr, Contents, GroupForm

Arrays = Mapping[str, tuple[tuple[int, ...], str]]
"""Shape and stored dtype ("<f4", "str", "S5") by path."""


def contents(
    arrays: Arrays,
    attrs: Mapping[str, Mapping[str, Any]] | None = None,
    groups: Iterable[str] = (),
    links: Mapping[str, str] | None = None,
    *,
    complete: bool = True,
) -> Contents:
    """Return contents of a file "f.h5" with these arrays, their groups, and attributes."""
    attrs = attrs or {}
    every = {
        "": None,
        **dict.fromkeys(groups),
        **{path: None for path in attrs if path not in arrays},
    }
    for path in arrays:
        parts = path.split("/")[:-1]
        every |= {"/".join(parts[: i + 1]): None for i in range(len(parts))}
    dtypes = list(dict.fromkeys(dtype for _, dtype in arrays.values()))
    return Contents(
        subject="f.h5",
        fingerprint="",
        complete=complete,
        paths=tuple(arrays),
        shapes=tuple(shape for shape, _ in arrays.values()),
        form_of=tuple(dtypes.index(dtype) for _, dtype in arrays.values()),
        forms=tuple(ArrayForm(dtype=dtype, type=b"", maxshape=(AS_SHAPE,)) for dtype in dtypes),
        groups=dict.fromkeys(every, GroupForm()),
        attrs={
            path: tuple(Attr(name=name, value=value, type=b"") for name, value in named.items())
            for path, named in attrs.items()
        },
        links=links or {},
    )


def text(values: Iterable[str]) -> np.ndarray[Any, Any]:
    """Return text as an array of objects."""
    listed = list(values)
    out = np.empty(len(listed), object)
    out[:] = listed
    return out
