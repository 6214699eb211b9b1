"""Azurite: Azure's blob storage in a process of Node, as its makers test against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.servers import Endpoint, Options, Server
from tests.servers.programs import answers, free_port, running

CONTAINER = "h5dask-tests"
ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""What Azurite's documentation gives to everybody."""
_NOT_THE_KEY = "bm90LXRoZS1rZXk="


def _options(port: int, key: str) -> Options:
    return {
        "connection_string": (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};"
            f"BlobEndpoint=http://127.0.0.1:{port}/{ACCOUNT};"
        )
    }


@contextmanager
def start(folder: Path) -> Iterator[Endpoint]:
    """Run it with one container."""
    from azure.storage.blob import BlobServiceClient

    port = free_port()
    command = (
        *("azurite-blob", "--blobHost", "127.0.0.1", "--blobPort", str(port)),
        *("--location", str(folder), "--silent", "--skipApiVersionCheck", "--disableTelemetry"),
    )
    with running(command, folder / "azurite.log", partial(answers, port)):
        options = _options(port, _KEY)
        with BlobServiceClient.from_connection_string(options["connection_string"]) as client:
            client.create_container(CONTAINER)
        yield Endpoint(
            url=f"az://{CONTAINER}/made",
            options=options,
            wrong=_options(port, _NOT_THE_KEY),
            port=port,
        )


SERVER = Server(start=start, programs=("azurite-blob",))
