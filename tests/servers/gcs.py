"""Google's storage, emulated in memory: it asks nobody who they are and ignores conditions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.servers import Endpoint, Server
from tests.servers.programs import answers, free_port, running

BUCKET = "h5dask-tests"
# gcsfs looks at it when it is imported. Else it asks for a bucket's layout by an interface that
# the emulator hasn't got, and waits a minute for each answer.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")


@contextmanager
def start(folder: Path) -> Iterator[Endpoint]:
    """Run it with one bucket."""
    port = free_port()
    command = (
        *("gcp-storage-emulator", "start", "--host=127.0.0.1", f"--port={port}"),
        *("--in-memory", f"--default-bucket={BUCKET}"),
    )
    with running(command, folder / "gcs.log", partial(answers, port)):
        yield Endpoint(
            url=f"gs://{BUCKET}/made",
            options={"token": "anon", "endpoint_url": f"http://127.0.0.1:{port}"},
            port=port,
        )


SERVER = Server(start=start, programs=("gcp-storage-emulator",), guarded=False, enforces=False)
