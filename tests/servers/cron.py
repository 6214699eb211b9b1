"""Debian's cron with a crontab of its own: whoever else lives on this machine doesn't notice.

It runs in namespaces of mounts and processes, which only root can make. There cron finds our
crontab, and no other; what it mails lies in a file; and with it goes all that it has started.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.programs import program, running

PROGRAMS = ("cron", "unshare", "mount")
_LAY_OUT = """\
set -eu
cd "$1"
mount --bind crontabs /var/spool/cron/crontabs
mount --bind none /etc/cron.d
mount --bind empty /etc/crontab
mount --bind pam /etc/pam.d/cron
mount --bind run /run
mount --bind sbin /usr/sbin
trap 'exit 0' TERM
/usr/sbin/cron -f &
wait
"""
_SENDMAIL = """\
#!/bin/sh
exec cat >>"{mail}"
"""
_PAM = """\
auth required pam_permit.so
account required pam_permit.so
session required pam_permit.so
"""


@contextmanager
def running_cron(folder: Path, crontab: str) -> Iterator[Path]:
    """Run cron with a crontab of root's; what is given is the file of all that it mails."""
    mail = folder / "mail"
    for name in ("crontabs", "none", "run", "sbin"):
        (folder / name).mkdir()
    (folder / "empty").touch()
    (folder / "pam").write_text(_PAM)
    (folder / "sbin" / "cron").write_bytes(Path(program("cron")).read_bytes())
    (folder / "sbin" / "sendmail").write_text(_SENDMAIL.format(mail=mail))
    for one in (folder / "sbin").iterdir():
        one.chmod(0o755)
    mail.touch()
    table = folder / "crontabs" / "root"
    table.write_text(crontab)
    table.chmod(0o600)  # cron reads no other
    command = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
    inside = ("sh", "-c", _LAY_OUT, "sh", str(folder))
    with running([*command, *inside], folder / "cron.log", (folder / "run" / "crond.pid").exists):
        yield mail


def is_root() -> bool:
    """Whether this process may make the namespaces."""
    return os.geteuid() == 0
