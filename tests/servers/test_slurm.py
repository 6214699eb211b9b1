"""A real SLURM: workers that start, jobs that are killed, and a queue that is empty afterwards."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import h5py
import pytest
from dask.delayed import delayed

import h5dask
from h5dask.errors import Refused, Unreachable
from h5dask.testing import example_file
from h5dask.workers import connect
from h5dask.workers.slurm import upkeep
from tests.architecture import ROOT
from tests.commands import COMMAND, call
from tests.servers import slurm
from tests.servers.slurm import QUEUE, SHORT, Slurm

pytestmark = [pytest.mark.servers, pytest.mark.needs(*slurm.PROGRAMS)]

SECONDS = 180
"""What anything here may take before it counts as a hang."""
Written = Callable[..., Path]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """SLURM with two nodes."""
    with slurm.start(tmp_path_factory.mktemp("slurm")) as found:
        yield found


@pytest.fixture(autouse=True)
def reached(cluster: Slurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let SLURM's commands find it, and leave its queue as it was found."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(upkeep, "LOOK_SECONDS", 1.0)
    yield
    assert cluster.emptied()


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Return what writes a config."""

    def write(text: str = "", **changed: str) -> Path:
        keys = {"queue": f'"{QUEUE}"', "jobs": "2", "cores": "1", "memory": '"1GB"'}
        keys |= {
            "walltime": '"00:10:00"',
            "interface": '"lo"',
            "log_directory": f'"{tmp_path}/logs"',
            **changed,
        }
        file = tmp_path / "slurm.toml"
        file.write_text("\n".join([*(f"{key} = {keys[key]}" for key in keys), text]))
        return file

    return write


def eventually(true: Callable[[], bool]) -> bool:
    """Say whether something comes true."""
    until = time.monotonic() + SECONDS
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


PROGRAM = """
    import os, sys, time
    import click, dask
    from h5dask.cli.options import computing
    from h5dask.cli.verbs import Verbs

    def slowly(i):
        time.sleep(0.1)
        if i == 99 and os.environ["ENDING"] == "failure":
            raise ZeroDivisionError("as it was told to")
        return i, os.environ["SLURM_JOB_ID"]

    @click.group(cls=Verbs)
    def main(): pass

    @main.command()
    @computing()
    def verb(how):
        with how.start() as progress, progress.stage("work"):
            dask.compute(dask.delayed(slowly)(0))
            print("ready", flush=True)
            work = [dask.delayed(slowly, pure=False)(i) for i in range(int(sys.argv.pop()))]
            print(sum(i for i, _ in dask.compute(*work)), flush=True)

    main(["verb", "--slurm", sys.argv[1]])
"""


@pytest.fixture
def started(written: Written) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return what starts a verb that computes in two jobs, and waits until it does."""
    programs = []

    def start(n_tasks: int, ending: str = "") -> subprocess.Popen[str]:
        program = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), str(written()), str(n_tasks)],
            cwd=ROOT,
            env={**os.environ, "ENDING": ending},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        programs.append(program)
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        return program

    yield start
    for program in programs:
        program.kill()
        program.communicate()


def test_a_verb_ends_right_after_one_of_its_jobs_is_killed(
    cluster: Slurm, started: Callable[..., subprocess.Popen[str]]
) -> None:
    program = started(300)
    assert eventually(lambda: len(cluster.running()) == 2)
    killed = cluster.running()[0]
    cluster.ask("scancel", "--signal=KILL", "--full", killed)
    told, said = program.communicate(timeout=SECONDS)
    assert (program.returncode, told) == (0, f"{sum(range(300))}\n"), said
    assert cluster.emptied()


@pytest.mark.parametrize(
    ("ending", "code"),
    [("failure", 2), (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)],
)
def test_nothing_stays_in_the_queue(
    ending: str | signal.Signals,
    code: int,
    cluster: Slurm,
    started: Callable[..., subprocess.Popen[str]],
) -> None:
    program = started(100 if ending == "failure" else 10_000, str(ending))
    assert cluster.queue()
    if isinstance(ending, signal.Signals):
        os.killpg(program.pid, ending)  # a terminal sends Ctrl-C to all of them
    _, said = program.communicate(timeout=SECONDS)
    assert program.returncode == code, said
    assert "Traceback" not in said
    assert cluster.emptied()


def test_ctrl_c_while_jobs_wait(cluster: Slurm, written: Written) -> None:
    with filled(cluster):
        before = set(cluster.queue())
        command = [*COMMAND, "summarize", example_file("ann"), "--slurm", str(written())]
        with subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as program:
            assert eventually(lambda: len(cluster.queue()) == len(before) + 2)
            os.killpg(program.pid, signal.SIGINT)
            _, said = program.communicate(timeout=SECONDS)
        assert (program.returncode, said.splitlines()[-1]) == (130, "Interrupted")
        assert eventually(lambda: set(cluster.queue()) == before)


class filled:  # noqa: N801 - reads as what it does
    """Keep both nodes busy as long as the block lasts."""

    def __init__(self, cluster: Slurm) -> None:
        self.cluster = cluster

    def __enter__(self) -> None:
        for _ in slurm.NODES:
            command = ("--cpus-per-task=2", "--output=/dev/null", "--job-name=busy")
            self.cluster.ask("sbatch", "--chdir=/", *command, "--wrap=exec sleep 600")
        assert eventually(lambda: len(self.cluster.running()) == len(slurm.NODES))

    def __exit__(self, *_: object) -> None:
        self.cluster.ask("scancel", "--name=busy", "--full")


def test_a_job_that_is_never_scheduled(cluster: Slurm, written: Written) -> None:
    with filled(cluster):
        said = (
            r"no worker after 3 s; job \d+ is pending \((Resources|Priority|None)\).*; ask for less"
        )
        with pytest.raises(Unreachable, match=said):
            connect(slurm=written(start_deadline='"3 s"'))
        assert eventually(lambda: len(cluster.queue()) == len(slurm.NODES))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"queue": '"norml"'}, f"queue: found 'norml', expected {QUEUE!r}"),
        ({"queue": '"shut"'}, "queue: 'shut' is 'drain', so that no job starts"),
        (
            {"queue": f'"{SHORT}"'},
            f"walltime: found '00:10:00', expected at most '5:00', the limit of queue {SHORT!r}",
        ),
        ({"cores": "9"}, "takes no such job: .*: Requested node configuration is not available"),
        ({"memory": '"90GB"'}, "takes no such job: .*: Requested node configuration is not"),
        ({"job_extra_directives": '["--nonsense"]'}, "takes no such job: .*nonsense"),
    ],
)
def test_what_slurm_has_not_got(changed: dict[str, str], said: str, written: Written) -> None:
    with pytest.raises(Refused, match=said):
        connect(slurm=written(**changed))


def test_without_munge(
    cluster: Slurm, written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Path(cluster.environment["SLURM_CONF"]).read_text()
    elsewhere = tmp_path / "slurm.conf"
    elsewhere.write_text(text.replace("/munge/socket", "/munge/nowhere"))
    monkeypatch.setenv("SLURM_CONF", str(elsewhere))
    with pytest.raises(Unreachable, match=r"^SLURM: Munge encode failed: .*; see that munge runs"):
        connect(slurm=written())


def test_workers_come_and_go_with_the_work(cluster: Slurm, written: Written) -> None:
    with connect(slurm=written("[adapt]\nmaximum = 2\n")) as client:
        assert len(cluster.queue()) == 1
        slow = delayed(time.sleep, pure=False)
        waiting = client.compute([slow(0.5) for _ in range(200)])
        assert eventually(lambda: len(client.scheduler_info()["workers"]) == 2)
        client.cancel(waiting)
        assert eventually(lambda: len(cluster.queue()) == 1)


def test_workers_end_before_their_walltime_and_others_follow(
    cluster: Slurm, written: Written
) -> None:
    file = written(jobs="1", walltime='"1"', lifetime_margin='"30 s"')
    with connect(slurm=file) as client:
        (first,) = cluster.running()
        assert eventually(lambda: cluster.running() not in ([], [first]))
        assert "JobState=COMPLETED" in cluster.ask("scontrol", "show", "job", first)
        assert client.submit(sum, [1, 2]).result(timeout=SECONDS) == 3


def test_a_job_of_one_script(cluster: Slurm, written: Written, tmp_path: Path) -> None:
    file, found = example_file("ann"), tmp_path / "found.nc"
    done = call(
        "summarize", file, "-o", found, "--slurm", written(), "--sbatch", tmp_path / "job.sh"
    )
    assert done.exit_code == 0, done.stderr
    cluster.ask("sbatch", "--chdir", str(ROOT), str(tmp_path / "job.sh"))
    assert cluster.emptied()
    expected = tmp_path / "expected.nc"
    assert call("summarize", file, "-o", expected).exit_code == 0
    with h5py.File(found) as one, h5py.File(expected) as other:
        assert set(one) == set(other)
    (log,) = (tmp_path / "logs").iterdir()
    assert str(found) in log.read_text()


def test_an_array_over_five_files(cluster: Slurm, written: Written, tmp_path: Path) -> None:
    for i in range(5):
        shutil.copy(example_file("episodes"), tmp_path / f"sentences {i}.h5")
    command = ("normalize", "--how", "l2", "{file}", "-o", f"{tmp_path}/{{stem}}.unit.h5")
    script = tmp_path / "array.sh"
    each = ("--each", tmp_path / "sentences *.h5")
    done = call(*command, "--slurm", written(), "--sbatch", script, *each)
    assert done.exit_code == 0, done.stderr
    cluster.ask("sbatch", "--chdir", str(ROOT), str(script))
    assert cluster.emptied()
    logs = "\n".join(path.read_text() for path in (tmp_path / "logs").iterdir())
    made = sorted(tmp_path.glob("*.unit.h5"))
    assert [path.name for path in made] == [f"sentences {i}.unit.h5" for i in range(5)], logs


def test_nodes_that_do_not_see_the_target(written: Written, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    blind = tmp_path / "python"
    blind.write_text(
        "#!/bin/sh\nexec unshare --map-root-user --mount sh -c "
        f'\'mount -t tmpfs none {hidden} && exec {sys.executable} "$@"\' sh "$@"\n'
    )
    blind.chmod(0o755)
    file = example_file("episodes")
    with connect(slurm=written(python=f'"{blind}"', jobs="1")):
        h5dask.write_dataset(h5dask.open_dataset(file), hidden / "written.h5")
        with pytest.raises(
            Refused, match="1 of 1 workers don't see the folder in which it is made"
        ):
            h5dask.run(
                lambda job: job.write_result(h5dask.open_dataset(job.urls)),
                file,
                hidden / "result.zarr",
            )
        (value,) = dask.compute(delayed(os.listdir)(hidden))
    assert value == []
    assert [path.name for path in hidden.iterdir() if path.suffix == ".h5"] == ["written.h5"]
    expected = h5dask.open_dataset(file).load()
    assert h5dask.open_dataset(hidden / "written.h5").load().identical(expected)
