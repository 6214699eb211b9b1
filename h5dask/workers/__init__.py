"""Where computations run: processes of this machine, a scheduler's, or jobs of SLURM."""

from __future__ import annotations

import os

from distributed import Client

from h5dask.errors import Refused
from h5dask.workers.children import ENVIRONMENT as ENVIRONMENT
from h5dask.workers.local import limit, start_local
from h5dask.workers.remote import address_in, reach
from h5dask.workers.settings import SETTINGS as SETTINGS
from h5dask.workers.settings import unset as unset


def connect(
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    scheduler_file: str | None = None,
    slurm: str | os.PathLike[str] | None = None,
    memory_limit: str | int | None = "auto",
    scratch: str | None = None,
    timeout: float = 10.0,
) -> Client | None:
    """Say where every computation runs from now on, until what is returned is closed.

    Parameters
    ----------
    workers : int, optional
        Processes of this machine, of one thread each.
    scheduler : str, optional
        Address of a running scheduler, such as "tcp://10.0.0.5:8786".
    scheduler_file : str, optional
        File in which a running scheduler has left its address.
    slurm : path, optional
        TOML file of what SLURM is asked for; its keys are the fields of
        `h5dask.workers.slurm.config.Slurm`. Workers run in jobs, the scheduler in this process.
    memory_limit : str, int or None, default "auto"
        Bytes that each of `workers` may take, such as "4GB"; "auto" shares out the machine's
        memory, None sets no limit.
    scratch : str, optional
        Folder in which `workers` put what they have on disk, in a folder of their own that goes
        when they go. Without it dask's `temporary-directory`, else the system's.
    timeout : float, default 10
        Seconds within which a scheduler must answer.

    Returns
    -------
    Client or None
        None where nothing was named: computations run on threads. A client is a context manager;
        closing it ends what was started for it: jobs of SLURM are cancelled. The `dashboard_link`
        is on a free port of 127.0.0.1, where SLURM's config says nothing else. Each worker has one
        BLAS thread, malloc thresholds that suit blocks, and compiled kernels; so have those that
        join later. What the user has set in dask's configuration stays as it is, and its
        certificates are those of all sides.

    Raises
    ------
    Unreachable
        No scheduler answers in time, workers don't come up, or SLURM starts no job in time.
    NotFound
        `scheduler_file` isn't there in time; or SLURM's programs, dask-jobqueue or a certificate
        that dask's configuration names aren't.
    Refused
        More than one of them is named, the address isn't one of tls:// where that is wanted, the
        memory limit is no size, SLURM's config is wrong or asks for what SLURM hasn't got, or the
        versions of client, scheduler and workers don't fit together: each that differs is named.

    Warns
    -----
    UserWarning
        Client and workers have other versions of numpy, xarray or h5py; or workers lack a library
        of stores, filters or tables that the client has.

    Examples
    --------
    >>> connect() is None
    True
    >>> with connect(workers=1) as client:
    ...     client.submit(sum, [1, 2]).result()
    3
    """
    places = {
        "workers": workers,
        "scheduler": scheduler,
        "scheduler_file": scheduler_file,
        "slurm": slurm,
    }
    named = [name for name, place in places.items() if place is not None]
    if len(named) > 1:
        raise Refused(f"{' and '.join(named)}: say the same thing differently; name one of them")
    if workers is not None:
        return start_local(workers, limit(memory_limit, workers), scratch)
    if slurm is not None:
        from h5dask.workers.slurm import start_jobs

        return start_jobs(os.fspath(slurm))
    if scheduler_file is not None:
        scheduler = address_in(scheduler_file, timeout)
    return reach(scheduler, timeout) if scheduler is not None else None
