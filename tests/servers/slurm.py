"""SLURM with munge and two nodes, which are both this machine; every part in the foreground."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.servers.programs import SECONDS, answers, free_port, program, running

PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo", "scancel")
NODES = ("n1", "n2")
QUEUE, SHORT = "normal", "short"
"""A queue without a limit of time, and one of five minutes."""
_CONFIGURATION = """\
ClusterName=h5dask
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=30
InactiveLimit=0
KillWait=2
MinJobAge=60
"""
_NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=4000\n"
)
_QUEUES = f"""\
PartitionName={QUEUE} Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
PartitionName={SHORT} Nodes=n1,n2 MaxTime=5 State=UP
PartitionName=shut Nodes=n1,n2 MaxTime=5 State=DRAIN
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slurm:
    """A SLURM that runs."""

    environment: dict[str, str]
    """What its commands need; they find the configuration by it."""
    folder: Path
    """Where it has its files and logs."""

    def ask(self, *command: str) -> str:
        """Run one of its commands and return what that prints."""
        done = subprocess.run(
            [program(command[0]), *command[1:]],
            env={**os.environ, **self.environment},
            check=True,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        return done.stdout

    def queue(self) -> list[str]:
        """Return the ids of jobs that wait, run or are about to end."""
        return self.ask("squeue", "--noheader", "--format=%i", "--array").split()

    def running(self) -> list[str]:
        """Return the ids of jobs that run."""
        return self.ask("squeue", "--noheader", "--format=%i", "--states=RUNNING").split()

    def is_idle(self) -> bool:
        """Say whether every node waits for jobs."""
        told = self.ask("sinfo", "--noheader", "--Node", "--format=%T", f"--partition={QUEUE}")
        return told.split() == ["idle"] * len(NODES)

    def emptied(self) -> bool:
        """Say whether nothing is left in the queue, or not for long."""
        until = time.monotonic() + SECONDS
        while self.queue():
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
        return True


@contextmanager
def start(folder: Path) -> Iterator[Slurm]:
    """Run munge, a controller and two nodes; all of them end with the block."""
    host, port, nodes = socket.gethostname().split(".")[0], free_port(), (free_port(), free_port())
    configuration = folder / "slurm.conf"
    configuration.write_text(
        _CONFIGURATION.format(host=host, port=port, folder=folder, user=getpass.getuser())
        + "".join(
            _NODE.format(name=n, host=host, port=p) for n, p in zip(NODES, nodes, strict=True)
        )
        + _QUEUES
    )
    (folder / "state").mkdir()
    found = Slurm(environment={"SLURM_CONF": str(configuration)}, folder=folder)
    run = partial(running, environment=found.environment)
    with ExitStack() as stack:
        stack.enter_context(munge(folder / "munge"))
        command = ("slurmctld", "-D", "-f", str(configuration))
        stack.enter_context(run(command, folder / "controller.log", partial(answers, port)))
        for name, there in zip(NODES, nodes, strict=True):
            (folder / f"spool-{name}").mkdir()
            command = ("slurmd", "-D", "-f", str(configuration), "-N", name)
            stack.enter_context(run(command, folder / f"{name}.log", partial(answers, there)))
        until = time.monotonic() + SECONDS
        while not found.is_idle():
            assert time.monotonic() < until, found.ask("sinfo")
            time.sleep(0.1)
        try:
            yield found
        finally:
            found.ask("scancel", "--quiet", f"--user={os.getuid()}", "--full")
            found.emptied()


@contextmanager
def munge(folder: Path) -> Iterator[None]:
    """Run munge by a key of its own; it wants folders that nobody else may write to."""
    folder.mkdir(mode=0o755)
    key = folder / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    command = (
        *("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/socket"),
        *(f"--pid-file={folder}/pid", f"--log-file={folder}/munged.log"),
        f"--seed-file={folder}/seed",
    )
    with running(command, folder / "said.log", (folder / "socket").exists):
        yield
