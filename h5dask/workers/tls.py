"""What dask's configuration says of TLS, for those who start schedulers."""

from __future__ import annotations

from distributed import Security

from h5dask.errors import Refused

_ROLES = ("client", "scheduler", "worker")
_UNDERSCORES = str.maketrans(".-", "__")


def security() -> Security | None:
    """Return the certificates in dask's configuration, or None where it names none.

    Raises
    ------
    Refused
        It names some, and others are missing.

    Examples
    --------
    >>> security() is None
    True
    """
    found = Security()
    names = [f"{role}.{part}" for role in _ROLES for part in ("cert", "key")]
    given = {
        name: getattr(found, f"tls_{name.translate(_UNDERSCORES)}") for name in ("ca-file", *names)
    }
    if not any(given.values()) and not found.require_encryption:
        return None
    missing = [f"distributed.comm.tls.{name}" for name, path in given.items() if not path]
    if missing:
        raise Refused(
            f"dask's configuration: TLS is wanted, found no {', '.join(missing)}; set all of them"
        )
    return found
