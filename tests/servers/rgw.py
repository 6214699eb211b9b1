"""Ceph's object gateway on one node: real S3 that enforces conditions on single puts, and not on
the completion of an upload in parts."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.servers import Endpoint, Server, s3
from tests.servers.programs import answers, free_port, program, running

PROGRAMS = (
    "ceph-mon",
    "ceph-osd",
    "radosgw",
    "radosgw-admin",
    "ceph-authtool",
    "monmaptool",
    "ceph",
)
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = {folder}/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon warn on pool no redundancy = false
osd crush chooseleaf type = 0
run dir = {folder}
log file = {folder}/$name.log
admin socket = {folder}/$name.asok
pid file = {folder}/$name.pid
[mon]
mon data = {folder}/mon
mon data avail crit = 1
mon data avail warn = 2
[osd]
osd objectstore = memstore
memstore device bytes = 8589934592
osd data = {folder}/osd
osd journal =
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw enable usage log = false
rgw run sync thread = false
rgw enable quota threads = false
rgw dynamic resharding = false
"""


@contextmanager
def start(folder: Path) -> Iterator[Endpoint]:
    """Run a monitor, a disk in memory and the gateway, with one user and one bucket."""
    port = free_port()
    for name in ("mon", "osd"):
        (folder / name).mkdir()
    ceph = _Ceph(folder)
    ceph.configure(port)
    with ExitStack() as stack:
        stack.enter_context(ceph.running(ceph.monitor, "ceph-mon", "-i", "a"))
        disk = str(uuid.uuid4())
        ceph.tell("ceph", "--connect-timeout", "20", "osd", "new", disk)
        ceph.tell("ceph", "auth", "import", "-i", str(folder / "keyring"))
        ceph.tell("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        stack.enter_context(ceph.running(None, "ceph-osd", "-i", "0"))
        stack.enter_context(ceph.running(port, "radosgw", "-n", "client.rgw"))
        ceph.tell(
            *("radosgw-admin", "-n", "client.rgw", "user", "create"),
            *("--uid=h5dask", "--display-name=h5dask"),
            *(f"--access-key={s3.KEY}", f"--secret-key={s3.SECRET}"),
        )
        s3.make_bucket(port)
        yield s3.endpoint(port)


class _Ceph:
    """A cluster's configuration and keys in a folder, and programs run by them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.monitor = folder, free_port()

    def configure(self, port: int) -> None:
        fsid, keyring = str(uuid.uuid4()), str(self.folder / "keyring")
        values = {"fsid": fsid, "folder": self.folder, "monitor": self.monitor, "port": port}
        text = _CONFIGURATION
        for name, value in values.items():  # format() would trip over what is Ceph's own
            text = text.replace(f"{{{name}}}", str(value))
        (self.folder / "ceph.conf").write_text(text)
        _call("ceph-authtool", "-C", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        for name in ("client.admin", "client.rgw", "osd.0"):
            caps = [word for kind in ("mon", "osd", "mgr") for word in ("--cap", kind, "allow *")]
            _call("ceph-authtool", keyring, "--gen-key", "-n", name, *caps)
        monmap, address = str(self.folder / "monmap"), f"[v2:127.0.0.1:{self.monitor}]"
        _call("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monmap)
        self.tell("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "-k", keyring)

    def tell(self, name: str, *words: str) -> None:
        _call(name, "-c", str(self.folder / "ceph.conf"), *words)

    @contextmanager
    def running(self, port: int | None, name: str, *words: str) -> Iterator[None]:
        command = (name, "-f", "-c", str(self.folder / "ceph.conf"), *words)
        ready = partial(answers, port) if port is not None else (lambda: True)
        with running(command, self.folder / f"{name}.out", ready):
            yield


def _call(name: str, *words: str) -> None:
    done = subprocess.run(
        [program(name), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{name} {words}: {done.stdout}{done.stderr}"


SERVER = Server(start=start, programs=PROGRAMS)
