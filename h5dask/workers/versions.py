"""Which versions a client, its scheduler and its workers have, and whether they fit together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

MUST_AGREE = ("python", "dask", "distributed", "h5dask")
"""What tasks are pickled with, or run; schedulers unpickle them too. Others are an error."""

SHOULD_AGREE = ("numpy", "xarray", "h5py")
"""What another version of is worth a warning."""

EXTRAS = {
    "adlfs": "azure",
    "aiohttp": "http",
    "gcsfs": "gcs",
    "hdf5plugin": "filters",
    "obstore": "s3",
    "paramiko": "sftp",
    "pyarrow": "parquet",
    "s3fs": "s3",
}
"""What stores, filters and tables need, and the extra that brings it; a client that has it may send
tasks that need it."""

Versions = Mapping[str, str | None]
"""Name of a package, or "python" -> its version; None where it can't be imported."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """What differs between the sides, a line each."""

    errors: tuple[str, ...] = ()
    """What would end in broken tasks."""
    warnings: tuple[str, ...] = ()
    """What may give other results."""


def finder(
    names: tuple[str, ...] = (*MUST_AGREE, *SHOULD_AGREE), extras: tuple[str, ...] = tuple(EXTRAS)
) -> Callable[[], Versions]:
    """Return a function that finds versions wherever it is sent.

    Of the extras it says "" where they are: importing all of them would take seconds.

    It is made here, not defined in this module, so that it travels as code: where it runs there
    need be no h5dask.

    Examples
    --------
    >>> finder(("dask", "nowhere"))()["nowhere"] is None
    True
    """

    def find() -> dict[str, str | None]:
        import platform
        from importlib import import_module, metadata
        from importlib.util import find_spec

        found: dict[str, str | None] = {}
        for name in names:
            try:
                found[name] = (
                    platform.python_version()
                    if name == "python"
                    else getattr(import_module(name), "__version__", None) or metadata.version(name)
                )
            except Exception:  # noqa: BLE001 - a broken package fails in ways of its own
                found[name] = None
        for name in extras:
            try:
                found[name] = None if find_spec(name) is None else ""
            except (ImportError, ValueError):
                found[name] = None
        return found

    return find


def compare(client: Versions, scheduler: Versions, workers: Mapping[str, Versions]) -> Mismatch:
    """Return what differs between three sides.

    Parameters
    ----------
    client, scheduler : mapping of str to str or None
        Versions by name; those that only results depend on don't matter to a scheduler.
    workers : mapping of str to such mappings
        By address.

    Examples
    --------
    >>> here = {"python": "3.12.1", "dask": "2026.8.0", "h5dask": "1.0", "numpy": "2.3"}
    >>> compare(here, here, {"tcp://a:1": {**here, "python": "3.12.9"}})
    Mismatch(errors=(), warnings=())
    >>> compare(here, here, {"tcp://a:1": {**here, "h5dask": None}}).errors
    ("h5dask: client has '1.0', worker tcp://a:1 can't import it",)
    """
    errors: list[str] = []
    warnings: list[str] = []
    for name in (one for one in client if one not in EXTRAS):
        sides = {f"worker {address}": found.get(name) for address, found in workers.items()}
        if name in MUST_AGREE:
            sides = {"scheduler": scheduler.get(name), **sides}
        others = {
            side: version
            for side, version in sides.items()
            if _significant(name, version) != _significant(name, client[name])
        }
        if others:
            told = f"{name}: client has {client[name]!r}, {_listed(others)}"
            (warnings if name in SHOULD_AGREE else errors).append(told)
    for name in (one for one in client if one in EXTRAS and client[one] is not None):
        without = {
            f"worker {there}": None for there, found in workers.items() if not _has(found, name)
        }
        if without:
            told = (
                f"{name}: client has it, {_listed(without)}; pip install 'h5dask[{EXTRAS[name]}]'"
            )
            warnings.append(f"{told} there, or URLs and files that need it can't be read")
    return Mismatch(tuple(errors), tuple(warnings))


def _has(found: Versions, name: str) -> bool:
    return found.get(name) is not None


def _significant(name: str, version: str | None) -> str | None:
    """Return what of a version must be the same: of Python's the first two numbers."""
    return ".".join(version.split(".")[:2]) if name == "python" and version else version


def _listed(sides: Mapping[str, str | None], most: int = 3) -> str:
    told = [
        f"{side} can't import it" if version is None else f"{side} has {version!r}"
        for side, version in list(sides.items())[:most]
    ]
    more = f" and {len(sides) - most:,} more differ" if len(sides) > most else ""
    return ", ".join(told) + more
