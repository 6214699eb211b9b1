"""dask-jobqueue's cluster as a config describes it; imported only where one is started."""

from __future__ import annotations

from typing import Any

from distributed import Status

from h5dask.workers.children import ENVIRONMENT, ctrl_c_kept, interrupts_held
from h5dask.workers.slurm.config import Slurm, seconds_in
from h5dask.workers.tls import security

with ctrl_c_kept():  # importing it makes Ctrl-C end Python with code 0
    from dask_jobqueue.slurm import SLURMCluster, SLURMJob


class _Job(SLURMJob):
    """A job that says of itself that it was closed, which its cluster insists on at the end."""

    async def close(self) -> None:
        """Cancel the job."""
        await super().close()  # type: ignore[no-untyped-call]
        self.status = Status.closed


def scheduler_here(asked: Slurm, name: str) -> Any:
    """Start a scheduler in this process, for which no job is submitted yet.

    Parameters
    ----------
    asked : Slurm
        What its jobs will be.
    name : str
        What all of them are called in the queue.
    """
    unread = () if asked.log_directory else ("--output=/dev/null", "--error=/dev/null")
    scratch, python = asked.local_directory, asked.python
    exports = [f"export {name}=${{{name}:-{value}}}" for name, value in ENVIRONMENT.items()]
    with interrupts_held():  # sbatch is deaf to Ctrl-C too: a job that it submits is known
        return SLURMCluster(
            job_cls=_Job,  # type: ignore[arg-type] # said to be a job, and is a kind of them
            queue=asked.queue,
            account=asked.account,
            cores=asked.cores,
            processes=asked.workers_per_job,
            memory=asked.memory,
            walltime=asked.walltime,
            job_name=name,
            job_cpu=asked.cores,
            job_extra_directives=[*unread, *asked.job_extra_directives],
            job_script_prologue=[*exports, *asked.prologue],
            log_directory=asked.log_directory,
            local_directory=scratch and f'"{scratch}"',
            python=python and f'"{python}"',
            interface=asked.interface,
            death_timeout=f"{seconds_in(asked.death_timeout):g}s",
            worker_extra_args=asked.arguments(),
            scheduler_options={"dashboard_address": asked.dashboard},
            security=security(),
            silence_logs="critical",
        )
