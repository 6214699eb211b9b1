"""Workers of a scheduler that runs already, and isn't ours to start or end."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import ExitStack
from functools import partial

import dask
from distributed import Client, Security, rpc

from h5dask.deadlines import within
from h5dask.errors import AccessDenied, NotFound, Unreachable
from h5dask.workers.children import quiet
from h5dask.workers.connection import Connection, prepare_all, refuse_misfits
from h5dask.workers.settings import SETTINGS, unset
from h5dask.workers.tls import refuse_misfit


def reach(address: str, timeout: float) -> Client:
    """Connect to a scheduler that runs already, and refuse one that doesn't fit."""
    refuse_misfit(address)
    _refuse_silent(address, timeout)
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(unset(SETTINGS)))
        client = Connection(address, timeout=timeout)
        stack.callback(client.close)
        refuse_misfits(client, address)
        prepare_all(client)
        client.rest = stack.pop_all()
    return client


def _refuse_silent(address: str, timeout: float) -> None:
    """Ask who is there; a client itself would wait without end for one who says nothing."""

    async def ask() -> str:
        security = Security().get_connection_args("client")
        async with rpc(address, connection_args=security) as there:
            return str((await there.identity())["type"])

    try:
        with quiet("distributed"):
            answer = asyncio.wait_for(ask(), timeout)
            found = within(timeout + 1, partial(asyncio.run, answer), address)
    except (OSError, RuntimeError, TypeError, ValueError, KeyError) as error:
        # what dask says of a failed connection is how it tried; of a wrong address, what it is
        told = "" if isinstance(error, OSError) else f" ({error})"
        raise Unreachable(
            f"{address}: no scheduler answered within {timeout:g} s{told}; check that it runs, "
            "its address, and what lies between"
        ) from None
    if found != "Scheduler":
        raise Unreachable(f"{address}: found a {found.lower()}, expected a scheduler; name that")


def address_in(file: str, timeout: float) -> str:
    """Return the address in a scheduler's file, which it may be about to write."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            with open(file, encoding="utf-8") as stream:
                return str(json.load(stream)["address"])
        except FileNotFoundError:
            found = NotFound(f"{file}: no such file after {timeout:g} s; start the scheduler first")
        except (ValueError, KeyError, TypeError):  # it may be half written
            found = NotFound(
                f"{file}: found no scheduler's address; expected the file that "
                "`dask scheduler --scheduler-file` writes"
            )
        except OSError as error:
            raise AccessDenied(f"{file}: {error.strerror}; name a file that can be read") from None
        if time.monotonic() > deadline:
            raise found
        time.sleep(0.1)
