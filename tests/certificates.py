"""Certificates that vouch for themselves, as dask's configuration names them."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SECONDS = 60


def settings(folder: Path) -> dict[str, str]:
    """Make a certificate, and return the settings by which all sides show it."""
    key, certificate = str(folder / "key.pem"), str(folder / "certificate.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=h5dask"]
    command += ["-days", "2", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
    names = "distributed.comm.tls"
    return {
        f"{names}.ca-file": certificate,
        **{f"{names}.{role}.cert": certificate for role in ("client", "scheduler", "worker")},
        **{f"{names}.{role}.key": key for role in ("client", "scheduler", "worker")},
    }


def as_environment(settings: dict[str, str]) -> dict[str, str]:
    """Return settings as dask reads them from the environment."""
    return {
        "DASK_" + name.replace(".", "__").replace("-", "_").upper(): value
        for name, value in settings.items()
    }
