"""What dask's configuration says of TLS, and whether it can be so. No connection is made here."""

from __future__ import annotations

import os
import ssl

from distributed import Security
from distributed.comm.addressing import parse_address

from h5dask.errors import NotFound, Refused

_ROLES = ("client", "scheduler", "worker")
_UNDERSCORES = str.maketrans(".-", "__")


def security() -> Security | None:
    """Return the certificates in dask's configuration, or None where it names none.

    Raises
    ------
    Refused
        It names some, and others are missing.
    NotFound
        A file that it names isn't there.

    Examples
    --------
    >>> security() is None
    True
    """
    found = Security()
    given = _given(found, *_ROLES)
    if not any(given.values()) and not found.require_encryption:
        return None
    missing = [f"distributed.comm.tls.{name}" for name, path in given.items() if not path]
    if missing:
        raise Refused(
            f"dask's configuration: TLS is wanted, found no {', '.join(missing)}; set all of them"
        )
    refuse_absent()
    return found


def refuse_absent(*roles: str) -> None:
    """Raise NotFound where files of some sides, or of all, are named and can't be read."""
    wrong = []
    for name, path in _given(Security(), *(roles or _ROLES)).items():
        is_text = "\n" in (path or "")  # dask takes a certificate itself as well
        if path and not is_text and not os.access(path, os.R_OK):
            said = "can't be read" if os.path.exists(path) else "no such file"
            wrong.append(f"distributed.comm.tls.{name}: {path}: {said}")
    if wrong:
        raise NotFound(f"dask's configuration: {'; '.join(wrong)}; name files that are there")


def refuse_misfit(address: str) -> None:
    """Refuse what can't lead to a scheduler: plain words where TLS is a must, or no certificates.

    Raises
    ------
    Refused
        Encryption is wanted, and the address isn't one of tls://; or what is named are no
        certificates.
    NotFound
        A file that is named isn't there.
    """
    found = Security()
    if found.require_encryption and parse_address(address)[0] == "tcp":
        raise Refused(
            f"{address}: expected an address that begins with tls://, since dask's configuration "
            "has distributed.comm.require-encryption"
        )
    refuse_absent("client")
    try:
        found.get_connection_args("client")
    except ssl.SSLError as error:
        named = ", ".join(path for path in _given(found, "client").values() if path)
        raise Refused(
            f"dask's configuration: {named}: no certificates and key that belong together "
            f"({error.reason or error})"
        ) from None


def _given(found: Security, *roles: str) -> dict[str, str | None]:
    """Return what is said of some sides, by its key in dask's configuration."""
    names = ("ca-file", *(f"{role}.{part}" for role in roles for part in ("cert", "key")))
    return {name: getattr(found, f"tls_{name.translate(_UNDERSCORES)}") for name in names}
