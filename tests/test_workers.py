"""Where computations run: what connect starts, whom it refuses, and that nothing of it stays."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest
from distributed import Client
from threadpoolctl import threadpool_info

from h5dask.errors import AccessDenied, NotFound, Refused, Unreachable
from h5dask.workers import ENVIRONMENT, connect, connection, tls, versions
from tests import certificates
from tests.architecture import ROOT
from tests.scheduler import running

SECONDS = 120
"""What anything here may take before it counts as a hang."""


def seen_inside() -> dict[str, Any]:
    """Tell what a worker is: its environment, whom it listens to, where it may write."""
    from distributed import get_worker

    from h5dask.kernels.fletcher32 import checksum

    worker = get_worker()
    return {
        "environment": {name: os.environ.get(name) for name in ENVIRONMENT},
        "deaf to Ctrl-C": signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "threads": worker.state.nthreads,
        "blas": {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"},
        "warm": bool(checksum.signatures),
        "limit": worker.memory_manager.memory_limit,
        "folder": worker.local_directory,
    }


def started_after(before: set[psutil.Process]) -> list[psutil.Process]:
    """Return the processes started since, but not the watcher that Python keeps for itself."""
    now = set(psutil.Process().children(recursive=True)) - before
    return [one for one in now if one.is_running() and "resource_tracker" not in str(one.cmdline())]


def test_without_a_place_computations_run_on_threads() -> None:
    assert connect() is None


def test_workers_are_set_up_and_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Workers that imported this would not come up.
    script = tmp_path / "script.py"
    script.write_text("raise RuntimeError('imported by a worker')")
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", str(script), raising=False)
    monkeypatch.setattr(main, "__spec__", None)
    for name in ENVIRONMENT:  # what is set is kept
        monkeypatch.delenv(name, raising=False)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    before = set(psutil.Process().children(recursive=True))
    settings = json.dumps(dask.config.config, default=str)
    with connect(workers=1, scratch=str(tmp_path), memory_limit="900MB") as client:
        seen = client.submit(seen_inside).result(timeout=SECONDS)
        with urllib.request.urlopen(client.dashboard_link, timeout=30) as page:
            assert page.status == 200
        assert client.dashboard_link.startswith("http://127.0.0.1:")
        port = int(client.dashboard_link.split(":")[2].split("/")[0])
        assert dask.config.get("distributed.comm.timeouts.tcp") == "60s"
        assert started_after(before)
    assert seen["environment"] == ENVIRONMENT
    assert (seen["deaf to Ctrl-C"], seen["threads"], seen["blas"]) == (True, 1, {1})
    assert (seen["warm"], seen["limit"]) == (True, 900_000_000)
    assert Path(seen["folder"]).is_relative_to(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]
    assert main.__file__ == str(script)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    assert json.dumps(dask.config.config, default=str) == settings
    assert not set(ENVIRONMENT) & set(os.environ)
    assert started_after(before) == []
    with socket.socket() as free:
        free.bind(("127.0.0.1", port))


SETS = """
import json, dask
from h5dask.workers import SETTINGS, unset
with dask.config.set({"distributed.comm.timeouts.tcp": "12s"}):
    print(json.dumps(sorted(set(SETTINGS) - set(unset(SETTINGS)))))
"""


def test_what_the_user_set_stays(tmp_path: Path) -> None:
    (tmp_path / "dask.yaml").write_text(
        "distributed: {scheduler: {worker-ttl: 5 minutes}, nanny: {pre-spawn-environ: {A: 1}}}"
    )
    environment = {
        **os.environ,
        "DASK_CONFIG": str(tmp_path),
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "11s",
    }
    told = subprocess.run(
        [sys.executable, "-c", SETS],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        timeout=SECONDS,
    )
    assert json.loads(told.stdout) == [
        "distributed.comm.timeouts.connect",
        "distributed.comm.timeouts.tcp",
        "distributed.scheduler.worker-ttl",  # to what dask ships, but on purpose
    ]


def test_scratch_lies_where_dask_is_told_to_put_it(tmp_path: Path) -> None:
    with dask.config.set({"temporary-directory": str(tmp_path)}), connect(workers=1) as client:
        folder = client.submit(seen_inside).result(timeout=SECONDS)["folder"]
    assert Path(folder).is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_place_is_named_once() -> None:
    with pytest.raises(Refused, match=r"^workers and scheduler: .*; name one of them"):
        connect(workers=1, scheduler="tcp://127.0.0.1:1")


@pytest.mark.parametrize("limit", ["four apples", "0", "-1GB"])
def test_a_memory_limit_is_a_size(limit: str) -> None:
    with pytest.raises(Refused, match=f"^memory_limit: found '{limit}', expected a size"):
        connect(workers=1, memory_limit=limit)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense", "tls://127.0.0.1:1"])
def test_nobody_at_an_address(address: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unreachable, match=f"^{address}: no scheduler answered within 0.5 s"):
        connect(scheduler=address, timeout=0.5)
    assert capfd.readouterr().err == ""


def test_a_server_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(Unreachable, match=f"^{address}: no scheduler answered"):
            connect(scheduler=address, timeout=0.5)


def test_a_scheduler_file_that_does_not_come(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    with pytest.raises(NotFound, match=r"scheduler\.json: no such file after 0\.2 s"):
        connect(scheduler_file=str(file), timeout=0.2)
    file.write_text('{"address": ')
    with pytest.raises(NotFound, match=r"scheduler\.json: found no scheduler's address"):
        connect(scheduler_file=str(file), timeout=0.2)
    with pytest.raises(AccessDenied, match="Is a directory; name a file"):
        connect(scheduler_file=str(tmp_path), timeout=0.2)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Somebody else's scheduler, with one worker."""
    with running(tmp_path_factory.mktemp("cluster"), n_workers=1) as found:
        yield found


def worker_at(address: str) -> str:
    with Client(address, set_as_default=False) as client:
        return next(iter(client.scheduler_info()["workers"]))


def test_a_scheduler_that_runs_already_goes_on_running(address: str, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": address}))
    for place in ({"scheduler": address}, {"scheduler_file": str(file)}):
        with connect(**place) as client:
            assert client.submit(sum, [1, 2]).result(timeout=SECONDS) == 3
            assert dask.config.get("distributed.comm.timeouts.tcp") == "60s"
        assert dask.config.get("distributed.comm.timeouts.tcp") != "60s"
    worker = worker_at(address)
    with pytest.raises(Unreachable, match=f"^{worker}: found a worker, expected a scheduler"):
        connect(scheduler=worker)
    with Client(address) as client:
        assert client.submit(sum, [2, 2]).result(timeout=SECONDS) == 4


def test_other_versions_are_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = versions.finder()()

    def ours(**other: str) -> dict[str, str | None]:
        """Make a client's versions other ones."""
        mine = {**found, **other}
        compare = versions.compare
        monkeypatch.setattr(connection, "compare", lambda _, *sides: compare(mine, *sides))
        return mine

    worker = worker_at(address)
    mine = ours(python="3.10.4", dask="1.0", h5dask="9")
    with pytest.raises(Refused, match="versions don't fit together") as error:
        connect(scheduler=address)
    assert str(error.value).splitlines()[1:-1] == [
        f"  {name}: client has {mine[name]!r}, {others} {worker} has {found[name]!r}"
        for name, others in (
            ("python", f"scheduler has {found['python']!r}, worker"),
            ("dask", f"scheduler has {found['dask']!r}, worker"),
            ("h5dask", f"scheduler has {found['h5dask']!r}, worker"),
        )
    ]
    ours(numpy="1.0")
    with pytest.warns(UserWarning, match=f"^{address}: numpy: client has '1.0', worker "):
        connect(scheduler=address).close()


def test_a_side_without_h5dask_is_named(tmp_path: Path) -> None:
    told = r"h5dask: client has .*, scheduler can't import it, worker tcp://\S+ can't import it"
    with (
        running(tmp_path, n_workers=1, hidden=("h5dask",)) as address,
        pytest.raises(Refused, match=told),
    ):
        connect(scheduler=address)


def test_a_side_without_a_library_of_stores_is_told(tmp_path: Path) -> None:
    told = (
        r"s3fs: client has it, worker tcp://\S+ can't import it; pip install 'h5dask\[s3\]' there"
    )
    with (
        running(tmp_path, n_workers=1, hidden=("s3fs", "hdf5plugin")) as address,
        pytest.warns(UserWarning, match=told) as warned,
        connect(scheduler=address) as client,
    ):
        assert client.submit(sum, [1, 2]).result(timeout=SECONDS) == 3
    assert "hdf5plugin: client has it" in str(warned[0].message)
    assert "pyarrow" not in str(warned[0].message)


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return certificates.settings(tmp_path_factory.mktemp("certificates"))


@pytest.mark.needs("openssl")
def test_certificates_in_dasks_configuration_are_shown(
    certified: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {**certified, "distributed.comm.require-encryption": True}
    with dask.config.set(wanted), connect(workers=1) as client:
        assert client.scheduler.address.startswith("tls://127.0.0.1:")
        assert client.submit(sum, [1, 2]).result(timeout=SECONDS) == 3
    for name, value in certificates.as_environment(certified).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME", "tls")
    with running(tmp_path, n_workers=1) as address:
        assert address.startswith("tls://127.0.0.1:")
        with dask.config.set(certified), connect(scheduler=address) as client:
            assert client.submit(sum, [2, 2]).result(timeout=SECONDS) == 4
        with pytest.raises(Unreachable, match=f"^{address}: no scheduler answered"):
            connect(scheduler=address, timeout=2)


@pytest.mark.needs("openssl")
def test_certificates_for_jobs_are_all_there_or_none(certified: dict[str, str]) -> None:
    assert tls.security() is None
    with dask.config.set(certified):
        found = tls.security()
    assert found is not None
    assert found.get_tls_config_for_role("worker")["cert"].endswith("certificate.pem")
    lacking = {name: path for name, path in certified.items() if not name.endswith("worker.key")}
    with (
        dask.config.set(lacking),
        pytest.raises(Refused, match=r"found no distributed\.comm\.tls\.worker\.key; set all"),
    ):
        tls.security()


ENCRYPTED = {"distributed.comm.require-encryption": True}


def test_plain_words_are_refused_where_encryption_is_wanted() -> None:
    with dask.config.set(ENCRYPTED):
        for address in ("tcp://127.0.0.1:1", "127.0.0.1:1"):
            said = f"^{address}: expected an address that begins with tls://, since dask's"
            with pytest.raises(Refused, match=said):
                connect(scheduler=address)


@pytest.mark.parametrize("name", ["ca-file", "client.cert", "client.key"])
def test_a_certificate_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    lost, there = tmp_path / "lost.pem", tmp_path / "there.pem"
    there.touch()
    told = {f"distributed.comm.tls.{one}": str(there)
            for one in ("ca-file", "client.cert", "client.key")}  # fmt: skip
    told[f"distributed.comm.tls.{name}"] = str(lost)
    said = rf"distributed\.comm\.tls\.{name}: {lost}: no such file; name files"
    with dask.config.set({**told, **ENCRYPTED}), pytest.raises(NotFound, match=said):
        connect(scheduler="tls://127.0.0.1:1")
    for role in ("scheduler", "worker"):
        told |= {f"distributed.comm.tls.{role}.{part}": str(there) for part in ("cert", "key")}
    with dask.config.set(told), pytest.raises(NotFound, match=said):
        connect(workers=1)


def test_certificates_that_are_none_are_told(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("none")
    names = ("ca-file", "client.cert", "client.key")
    told = {f"distributed.comm.tls.{name}": str(empty) for name in names}
    with (
        dask.config.set(told),
        pytest.raises(Refused, match=r"empty\.pem: no certificates and key that belong together"),
    ):
        connect(scheduler="tls://127.0.0.1:1")


def test_workers_that_join_later_are_prepared(tmp_path: Path) -> None:
    with (
        running(tmp_path, n_workers=0) as address,
        connect(scheduler=address) as client,
        running(tmp_path, n_workers=1, scheduler=address),
    ):
        seen = client.submit(seen_inside).result(timeout=SECONDS)
    assert (seen["blas"], seen["warm"]) == ({1}, True)


SCRIPT = """
    import sys, time
    import click, dask
    from h5dask.cli.options import computing
    from h5dask.cli.verbs import Verbs

    @click.group(cls=Verbs)
    def main(): pass

    @main.command()
    @computing()
    def sleep(how):
        with how.start() as progress, progress.stage("sleep"):
            print("ready", flush=True)
            sleep = dask.delayed(time.sleep, pure=False)
            dask.compute([sleep(0.5) for _ in range(600)])

    main(["sleep", "--workers", "2"])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything(tmp_path: Path, number: signal.Signals) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        children = psutil.Process(program.pid).children(recursive=True)
        assert children
        if number == signal.SIGINT:
            os.killpg(program.pid, number)  # a terminal sends it to all of them
        else:
            program.send_signal(number)
        _, told = program.communicate(timeout=SECONDS)
    assert program.returncode == 128 + number, told
    assert "Traceback" not in told
    assert told.endswith("Interrupted\n") or number == signal.SIGTERM
    assert list(temporary.iterdir()) == []
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
