"""`rclone serve s3`: the store that ignores conditions, and says that all went well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.servers import Endpoint, Server, s3
from tests.servers.programs import answers, free_port, running

_CONFIG = {
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}
"""It answers a range with the checksum of the whole object, which botocore would refuse."""


@contextmanager
def start(folder: Path) -> Iterator[Endpoint]:
    """Serve a folder, each folder in it a bucket."""
    port, buckets = free_port(), folder / "buckets"
    (buckets / s3.BUCKET).mkdir(parents=True)
    command = (
        *("rclone", "serve", "s3", str(buckets)),
        *("--addr", f"127.0.0.1:{port}", "--auth-key", f"{s3.KEY},{s3.SECRET}"),
        *("--vfs-cache-mode", "off"),
    )
    environment = {"RCLONE_CONFIG": "/dev/null"}
    with running(command, folder / "rclone.log", partial(answers, port), environment=environment):
        found = s3.endpoint(port)
        config = {**found.options["config_kwargs"], **_CONFIG}
        yield replace(found, options={**found.options, "config_kwargs": config})


# A range comes with the status of a whole object, which careful clients refuse.
SERVER = Server(start=start, programs=("rclone",), enforces=False, ranged=False)
