"""What is wrong with SLURM is said in a line, before a job is submitted where it can be."""

from collections.abc import Callable
from pathlib import Path

import pytest

from h5dask.errors import AccessDenied, NotFound, Refused, Unreachable
from h5dask.workers import connect, slurm
from h5dask.workers.slurm import queue
from tests import slurm_of_shell
from tests.slurm_of_shell import CONFIG

Written = Callable[..., str]
WITHOUT_MUNGE = """\
echo 'sinfo: error: If munged is up, restart with --num-threads=10' >&2
echo 'sinfo: error: Munge encode failed: Failed to access "/run/munge/s": No such file' >&2
echo 'slurm_load_partitions: Protocol authentication error' >&2
exit 1
"""


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Return what writes a config."""

    def write(text: str = "", **changed: str) -> str:
        lines = [line for line in CONFIG.splitlines() if line.split()[0] not in changed]
        lines += [f"{key} = {value}" for key, value in changed.items()]
        file = tmp_path / "slurm.toml"
        file.write_text("\n".join([*lines, text]))
        return str(file)

    return write


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return what puts SLURM's programs on PATH, and gives the folder of jobs."""

    def install(**programs: str) -> Path:
        bin_ = slurm_of_shell.install(tmp_path, **programs)
        monkeypatch.setenv("PATH", slurm_of_shell.path(bin_))
        return tmp_path / "jobs"

    return install


def refusing_submits(jobs: Path) -> bool:
    """Say whether no job was submitted."""
    return list(jobs.iterdir()) == []


def test_all_that_is_wrong_with_a_config_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "slurm.toml"
    file.write_text(
        'queu = "normal"\ncores = 0\nmemory = "x"\nwalltime = "1:2:3:4"\n'
        'start_deadline = "soon"\njob_extra_directives = ["a\\nb"]\n[adapt]\nminimum = 3\n'
    )
    with pytest.raises(Refused, match="unknown key; did you mean 'queue'") as error:
        connect(slurm=file)
    said = [line.removeprefix(f"{file}: ") for line in str(error.value).splitlines()]
    assert sorted(said) == [
        "adapt.maximum: missing; set it to an integer above 0",
        "cores: found 0, expected an integer above 0",
        r"job_extra_directives[0]: found 'a\nb', expected text of one line",
        "memory: found 'x', expected a size such as '16GB'",
        "queu: unknown key; did you mean 'queue'?",
        "start_deadline: found 'soon', expected a time such as '5 minutes'",
        "walltime: found '1:2:3:4', expected a time as SLURM writes it, such as '02:00:00' or "
        "'2-12'",
    ]


def test_keys_that_contradict_each_other(written: Written) -> None:
    file = written("[adapt]\nminimum = 3\nmaximum = 2", walltime='"3"', processes="2")
    with pytest.raises(Refused, match="twice lifetime_margin") as error:
        connect(slurm=file)
    assert [line.removeprefix(f"{file}: ") for line in str(error.value).splitlines()] == [
        "walltime: found '3', expected at least twice lifetime_margin, '2 minutes'; workers end "
        "that much before it",
        "processes: found 2, expected at most cores, 1",
        "adapt.minimum: found 3, expected at most adapt.maximum, 2",
    ]


def test_no_slurm_here(written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFound, match=r"^sbatch, squeue, scancel, sinfo: no such program on PATH"):
        connect(slurm=written())


def test_no_library_here(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "find_spec", lambda name: None)
    with pytest.raises(NotFound, match=r"needs dask_jobqueue; pip install 'h5dask\[slurm\]'$"):
        connect(slurm=written())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"queue": '"norml"'}, r"queue: found 'norml', expected 'normal'; `sinfo` lists them"),
        ({"queue": '"x"'}, r"expected 'normal' or 'short' or 'shut'; `sinfo` lists them"),
        ({"queue": '"normal,x"'}, r"queue: found 'x', expected"),
        ({"queue": '"shut"'}, r"queue: 'shut' is 'drain', so that no job starts"),
        ({"queue": '"short"'}, r"walltime: found '01:00:00', expected at most '5:00', the limit"),
        ({"interface": '"ib9"'}, r"interface: found 'ib9', expected one of this machine's, .*lo"),
        ({"log_directory": '"/dev/null/logs"'}, r"log_directory: '/dev/null/logs' can't be made"),
    ],
)
def test_what_slurm_has_not_got(
    changed: dict[str, str], said: str, written: Written, there: Callable[..., Path]
) -> None:
    jobs = there()
    with pytest.raises((Refused, AccessDenied), match=rf"slurm\.toml: .*{said}"):
        connect(slurm=written(**changed))
    assert refusing_submits(jobs)


@pytest.mark.parametrize(
    ("sinfo", "kind", "said"),
    [
        (
            WITHOUT_MUNGE,
            Unreachable,
            r"^SLURM: Munge encode failed: .*; see that munge runs on this machine$",
        ),
        (
            "echo 'slurm_load_partitions: Unable to contact slurm controller (connect failure)' >&2"
            "; exit 1",
            Unreachable,
            r"^SLURM: .*: Unable to contact slurm controller .*; see that its controller runs",
        ),
        ("echo 'sinfo: fatal: unreadable' >&2; exit 1", Refused, "^sinfo: fatal: unreadable$"),
        ("exit 3", Refused, "^sinfo: ended with code 3$"),
        ("exec sleep 60", Unreachable, "^sinfo: no answer in 0.5 s$"),
    ],
)
def test_slurm_that_does_not_answer(
    sinfo: str,
    kind: type[Exception],
    said: str,
    written: Written,
    there: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "ANSWER_SECONDS", 0.5)
    jobs = there(sinfo=sinfo)
    with pytest.raises(kind, match=said):
        connect(slurm=written())
    assert refusing_submits(jobs)


def test_slurm_judges_a_job_before_it_is_submitted(
    written: Written, there: Callable[..., Path]
) -> None:
    refused = "Requested node configuration is not available"
    jobs = there(
        sbatch=f'[ "$1" = --test-only ] || touch {{jobs}}/submitted\n'
        f"echo 'allocation failure: {refused}' >&2; exit 1"
    )
    with pytest.raises(Refused, match=f"SLURM takes no such job: .*{refused}$"):
        connect(slurm=written())
    assert [path.name for path in jobs.iterdir()] == ["cancelled"]


def test_a_job_that_is_refused_when_submitted(written: Written, there: Callable[..., Path]) -> None:
    there(sbatch='[ "$1" = --test-only ] && exit 0; echo "sbatch: error: QOSMax" >&2; exit 1')
    with pytest.raises(Refused, match=r"SLURM takes no such job: QOSMax$"):
        connect(slurm=written())


def test_a_job_that_is_never_scheduled(
    written: Written, there: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "_LOOK_SECONDS", 0.1)
    jobs = there(sbatch="echo Submitted batch job 17", squeue="echo '17|PENDING|Resources'")
    said = r"no worker after 300 ms; job 17 is pending \(Resources\); ask for less, or set a later"
    with pytest.raises(Unreachable, match=said):
        connect(slurm=written(start_deadline='"300 ms"'))
    one, every = (jobs / "cancelled").read_text().splitlines()
    assert one == "17"
    assert every.startswith("--quiet --name=h5dask-")


def test_a_worker_that_does_not_find_the_scheduler(
    written: Written, there: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "_LOOK_SECONDS", 0.1)
    there(sbatch="echo Submitted batch job 17", squeue="echo '17|RUNNING|None'")
    with pytest.raises(
        Unreachable, match="its workers don't reach this machine: name an interface"
    ):
        connect(slurm=written(start_deadline='"300 ms"'))


@pytest.mark.parametrize(
    ("logs", "said"),
    [
        ({}, "set log_directory to read why"),
        ({"log_directory": '"logs"'}, r"h5dask-\w+-17\.err ends in 'No module named distributed'"),
    ],
)
def test_jobs_that_end_at_once(
    logs: dict[str, str],
    said: str,
    written: Written,
    tmp_path: Path,
    there: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slurm, "_LOOK_SECONDS", 0.1)
    monkeypatch.chdir(tmp_path)
    there(
        sbatch="""\
[ "$1" = --test-only ] && exit 0
log=$(sed -n 's/^#SBATCH -e \\(.*\\)-%J.err$/\\1-17.err/p' "$1")
[ -n "$log" ] && echo "No module named distributed" >"$log"
echo Submitted batch job 17
""",
        squeue="[ -e {jobs}/told ] || echo '17|RUNNING|None'; touch {jobs}/told",
    )
    with pytest.raises(Unreachable, match=f"every job ended before a worker came up; .*{said}"):
        connect(slurm=written(**logs))
