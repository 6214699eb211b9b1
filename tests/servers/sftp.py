"""OpenSSH's server, for its SFTP: one key may enter, another may not."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.servers import Endpoint, Options, Server
from tests.servers.programs import answers, free_port, program, running

_CONFIGURATION = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/authorized
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
MaxSessions 64
MaxStartups 64
Subsystem sftp internal-sftp
"""
_SEPARATED = Path("/run/sshd")
"""A folder that sshd wants to be there where root starts it."""


@contextmanager
def start(folder: Path) -> Iterator[Endpoint]:
    """Run it with keys of its own."""
    port, files = free_port(), folder / "files"
    files.mkdir()
    for name in ("host", "mine", "stranger"):
        _make_key(folder / name)
    (folder / "authorized").write_text((folder / "mine.pub").read_text())
    (folder / "sshd.conf").write_text(_CONFIGURATION.format(folder=folder, port=port))
    made = os.geteuid() == 0 and not _SEPARATED.exists()
    if made:
        _SEPARATED.mkdir(mode=0o755)
    try:
        command = ("sshd", "-D", "-e", "-f", str(folder / "sshd.conf"))
        with running(command, folder / "sshd.log", partial(answers, port)):
            yield Endpoint(
                url=f"sftp://127.0.0.1{files}",
                options=_options(port, folder / "mine"),
                wrong=_options(port, folder / "stranger"),
                behind=f"file://{files}",
                behind_options={"auto_mkdir": True},
                port=port,
            )
    finally:
        if made:
            _SEPARATED.rmdir()


def _make_key(path: Path) -> None:
    command = [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _options(port: int, key: Path) -> Options:
    return {
        "port": port,
        "username": getpass.getuser(),
        "key_filename": str(key),
        "allow_agent": False,
        "look_for_keys": False,
    }


SERVER = Server(
    start=start,
    programs=("sshd", "ssh-keygen"),
    bucketed=False,
    enforces=False,
    remembers=False,
)
