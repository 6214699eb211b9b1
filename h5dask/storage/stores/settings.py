"""What dask's configuration says of stores: `h5dask.store-...`. Dask is asked when it is needed."""

from __future__ import annotations

from typing import Any


def nbytes(name: str, default: str) -> int:
    """Return a setting in bytes."""
    from dask.utils import parse_bytes

    return int(parse_bytes(_said(name, default)))


def seconds(name: str, default: str) -> float:
    """Return a setting in seconds."""
    from dask.utils import parse_timedelta

    return float(parse_timedelta(_said(name, default)))


def number(name: str, default: int) -> int:
    """Return a setting that is a number."""
    return int(_said(name, default))


def _said(name: str, default: Any) -> Any:
    import dask

    return dask.config.get(f"h5dask.store-{name}", default)
