"""Workers in jobs, and commands as scripts: with programs that do as SLURM's do."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import dask
import pytest

from h5dask.plan import Rates
from h5dask.testing import example_file
from h5dask.workers import connect
from h5dask.workers.slurm import upkeep
from h5dask.workers.slurm.config import Slurm, seconds_of
from h5dask.workers.slurm.script import MOST_TASKS, script
from tests import certificates, slurm_of_shell
from tests.architecture import ROOT
from tests.commands import call

SECONDS = 60
"""What anything here may take before it counts as a hang."""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a config for programs that are on PATH."""
    monkeypatch.setenv("PATH", slurm_of_shell.path(slurm_of_shell.install(tmp_path)))
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "slurm.toml"
    file.write_text(slurm_of_shell.CONFIG)
    return file


def numbers(config: Path) -> set[int]:
    """Return the numbers of all jobs that there ever were; each is that of a process group."""
    return {int(path.name) for path in (config.parent / "jobs").glob("[0-9]*")}


def eventually(true: Callable[[], bool]) -> bool:
    """Say whether something comes true."""
    until = time.monotonic() + SECONDS
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def ended(number: int) -> bool:
    """Say whether nothing of a job runs."""
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return True
    return False


def seen_inside() -> dict[str, str | None]:
    """Tell where a worker has its folder, and what its shell was given."""
    from distributed import get_worker

    return {
        "folder": get_worker().local_directory,
        "given": os.environ.get("GIVEN"),
        "blas": os.environ.get("OPENBLAS_NUM_THREADS"),
    }


def test_workers_in_jobs_are_set_up_kept_up_and_gone(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "LOOK_SECONDS", 0.2)
    monkeypatch.setenv("NODES_OWN", str(tmp_path / "own disk"))
    with config.open("a") as file:
        file.write('prologue = ["export GIVEN=\'a b\'"]\nlocal_directory = "$$NODES_OWN/x"\n')
    with connect(slurm=config) as client:
        assert client.dashboard_link.startswith("http://127.0.0.1:")
        seen = client.submit(seen_inside).result(timeout=SECONDS)
        assert (seen["given"], seen["blas"]) == ("a b", "1")
        assert str(seen["folder"]).startswith(str(tmp_path / "own disk" / "x"))
        (first,) = numbers(config)
        os.killpg(first, signal.SIGKILL)
        assert eventually(lambda: len(numbers(config)) == 2)
        assert client.submit(sum, [1, 2], pure=False).result(timeout=SECONDS) == 3
    assert all(eventually(lambda one=one: ended(one)) for one in numbers(config))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("slurm-")]


def test_a_verb_computes_in_jobs(config: Path) -> None:
    file = example_file("episodes")
    alone = call("summarize", file, "--json")
    done = call("summarize", file, "--json", "--slurm", config)
    assert (done.exit_code, done.stdout) == (0, alone.stdout), done.stderr
    assert done.stderr.startswith(
        f"Asking SLURM for jobs by {config} ...\nDashboard: http://127.0."
    )
    assert len(numbers(config)) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert all(eventually(lambda one=one: ended(one)) for one in numbers(config))


@pytest.mark.needs("openssl")
def test_jobs_show_dasks_certificates(config: Path, tmp_path: Path) -> None:
    (folder := tmp_path / "certificates").mkdir()
    with dask.config.set(certificates.settings(folder)), connect(slurm=config) as client:
        assert client.scheduler.address.startswith("tls://")
        assert all(address.startswith("tls://") for address in client.nthreads())
        assert client.submit(sum, [1, 2]).result(timeout=SECONDS) == 3


def test_a_plan_is_for_the_jobs(config: Path, no_compute: None) -> None:
    with config.open("a") as file:
        file.write("[adapt]\nmaximum = 7\n")
    told = call("summarize", example_file("ann"), "--slurm", config, "--plan")
    assert "On 7 workers of 1 thread and 1.00 GB each" in told.stdout
    assert "walltime" not in told.stdout
    assert numbers(config) == set()


def test_a_plan_tells_a_walltime_that_is_too_short(tmp_path: Path) -> None:
    asked = f"workers=2,{','.join(f'{one.name}=1B/s' for one in fields(Rates))}"
    config = tmp_path / "slurm.toml"
    config.write_text(slurm_of_shell.CONFIG.replace("01:00:00", "00:10:00"))
    told = call("summarize", example_file("ann"), "--slurm", config, "--plan", asked, "--json")
    (plan,) = json.loads(told.stdout)["plans"]
    assert plan["total"]["seconds"] > plan["figures"]["walltime"] == 600
    (warning,) = plan["warnings"]
    assert re.fullmatch(
        r"a job ends after 10 min 00 s, .+ are planned: workers are asked for anew meanwhile; one "
        r"job of --sbatch needs a longer walltime",
        warning,
    )


@pytest.mark.parametrize(
    ("walltime", "seconds"),
    [
        ("5", 300.0),
        ("5:30", 330.0),
        ("1:00:00", 3600.0),
        ("2-1", 176_400.0),
        ("1-01:01", 90_060.0),
        ("1-00:00:01", 86_401.0),
        ("infinite", float("inf")),
    ],
)
def test_times_as_slurm_writes_them(walltime: str, seconds: float) -> None:
    assert seconds_of(walltime) == seconds


@pytest.mark.parametrize("walltime", ["", "soon", "1:2:3:4", "-5", "1-", "1.5", "1-2-3"])
def test_times_that_slurm_would_not_write(walltime: str) -> None:
    with pytest.raises(ValueError, match=f"^{walltime}$"):
        seconds_of(walltime)


@pytest.mark.parametrize(("walltime", "margin"), [("01:00:00", "2 minutes"), ("8", "4 minutes")])
def test_workers_end_before_their_job(walltime: str, margin: str) -> None:
    asked = Slurm(cores=1, memory="1GB", walltime=walltime, lifetime_margin=margin)
    _, lifetime, _, stagger = asked.lifetime()
    longest = float(lifetime.rstrip("s")) + float(stagger.rstrip("s"))
    shortest = float(lifetime.rstrip("s")) - float(stagger.rstrip("s"))
    seconds = {"2 minutes": 120, "4 minutes": 240}[margin]
    assert seconds_of(walltime) - longest == seconds / 2
    assert seconds_of(walltime) - shortest == seconds
    assert Slurm(cores=1, memory="1GB", walltime="infinite").lifetime() == ()


def run(text: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a job would."""
    path = folder / "job.sh"
    path.write_text(text)
    command = ["bash", str(path)]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


ASKED = Slurm(cores=3, memory="1GB", walltime="60", jobs=2, prologue=("given='x y'",))
NAMES = ["a.h5", "it's.h5", "$HOME.h5", 'two "words".tar.gz', "s3://bucket/key.h5"]


def test_a_script_of_one_command(tmp_path: Path) -> None:
    command = ["sh", "-c", 'echo "$0|$1|$2|$DASK_NUM_WORKERS"; exit 7', "{file}", "it's $HOME", ""]
    done = run(script(ASKED, command, title="t", folder="/data set"), tmp_path)
    assert (done.returncode, done.stdout) == (7, "{file}|it's $HOME||3\n")
    assert '#SBATCH --chdir="/data set"\n' in (tmp_path / "job.sh").read_text()


def test_a_script_for_each_file(tmp_path: Path) -> None:
    command = ["printf", "%s;", "{file}", "out/{stem}.nc", "{name}{name}", "'{stem}'", "a b"]
    text = script(ASKED, command, title="t", folder="/", files=NAMES)
    assert "#SBATCH --array=0-4%2\n" in text
    told = [run(text, tmp_path, SLURM_ARRAY_TASK_ID=str(i)).stdout for i in range(5)]
    for file, one in zip(NAMES, told, strict=True):
        name = file.rpartition("/")[2]
        stem = name.rpartition(".")[0]
        assert one == f"{file};out/{stem}.nc;{name}{name};'{stem}';a b;"


def test_many_files_share_tasks(tmp_path: Path) -> None:
    files = [f"{i}.h5" for i in range(2 * MOST_TASKS + 1)]
    command = ["sh", "-c", "echo $0; exit $((${0%.h5} % 3))", "{file}"]
    text = script(ASKED, command, title="t", folder="/", files=files)
    assert "#SBATCH --array=0-666%2\n" in text
    done = run(text, tmp_path, SLURM_ARRAY_TASK_ID="1")
    assert (done.stdout.split(), done.returncode) == (["3.h5", "4.h5", "5.h5"], 2)
    assert run(text, tmp_path, SLURM_ARRAY_TASK_ID="666").stdout.split() == files[-3:]


@pytest.mark.parametrize("n_files", [1, MOST_TASKS + 500])
def test_a_task_that_is_told_to_end_lets_its_command_end(n_files: int, tmp_path: Path) -> None:
    ends = "trap 'echo ended; exit 143' TERM; echo began; while :; do sleep 0.05; done"
    path = tmp_path / "job.sh"
    text = script(ASKED, ["sh", "-c", ends, "{file}"], title="t", folder="/", files=["a"] * n_files)
    path.write_text(text)
    with subprocess.Popen(
        ["bash", str(path)],
        env={**os.environ, "SLURM_ARRAY_TASK_ID": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "began\n"
        started.terminate()
        told, _ = started.communicate(timeout=SECONDS)
    assert (told, started.returncode) == ("ended\n", 143)


def test_a_verb_as_a_script(config: Path, tmp_path: Path) -> None:
    file = example_file("ann")
    path = tmp_path / "job.sh"
    for _ in range(2):  # the second replaces the first
        done = call("summarize", file, "--json", "--slurm", config, f"--sbatch={path}")
        assert (done.exit_code, done.stdout) == (0, f"{path}\n"), done.stderr
    assert "\n#SBATCH --partition=normal\n" in path.read_text()
    assert f"#SBATCH --chdir={tmp_path}\n" in path.read_text()
    done = run(path.read_text(), tmp_path, PYTHONPATH=str(ROOT))
    assert (done.returncode, done.stdout) == (0, call("summarize", file, "--json").stdout)
    assert numbers(config) == set()


def test_a_verb_as_an_array(config: Path, tmp_path: Path) -> None:
    files = [Path(example_file(name)) for name in ("ann", "episodes")]
    each = [word for file in files for word in ("--each", file)]
    command = ("scan", "{file}", "-o", "{stem}.nc", "--slurm", config, "--sbatch", "-")
    done = call(*command, *each)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.endswith(' -m h5dask.cli scan "$file" -o "$stem".nc\n')
    assert [f"  {file}" for file in files] == done.stdout.split("files=(\n")[1].splitlines()[:2]


def test_a_pipeline_as_a_script(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pipelines.clean_episodes import main

    assert main(["clean.toml", "--force", "--slurm", str(config), "--sbatch", "-"]) == 0
    told = capsys.readouterr().out
    assert told.endswith(" -m pipelines.clean_episodes clean.toml --force\n")
    assert "#SBATCH --job-name=h5dask-clean_episodes\n" in told


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("a.h5", "--sbatch", "j.sh"), "--sbatch: needs --slurm CONFIG"),
        (("{file}", "--slurm", "slurm.toml", "--each", "x"), "--each: needs --sbatch SCRIPT"),
        (("{file}", "--slurm", "slurm.toml", "--sbatch", "j.sh"), "--each: goes with {file}"),
        (("a.h5", "--slurm", "slurm.toml", "--sbatch", "-", "--each", "x"), "--each: goes with"),
        (
            ("{file}", "--slurm", "slurm.toml", "--sbatch", "-", "--each", "no*.h5"),
            "no*.h5: no file matches",
        ),
        (("a.h5", "--slurm", "slurm.toml", "--sbatch", "data.h5"), "data.h5: is there, and no"),
        (("a.h5", "--slurm", "slurm.toml", "--sbatch", "no/j.sh"), "no/j.sh: can't be written"),
        (("a.h5", "--slurm", "none.toml", "--sbatch", "-"), "none.toml: no such file"),
    ],
)
def test_scripts_that_can_not_be(config: Path, args: tuple[str, ...], said: str) -> None:
    (config.parent / "data.h5").write_text("values")
    done = call("scan", *args)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert (config.parent / "data.h5").read_text() == "values"


ARRAY = ("--slurm", "slurm.toml", "--sbatch", "j.sh")
TO_ONE = "expected {file}, {name} or {stem} in it, since each job writes its own"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("-o", "unit/one.nc"), f"-o: found 'unit/one.nc', {TO_ONE}"),
        (("-o", "{stem}.nc", "--performance-report", "r.html"), f"'r.html', {TO_ONE}"),
        (("-o", "{nam}"), "{nam}: unknown; did you mean {name}?"),
        (("-o", "{stem}.{x}"), "{x}: unknown; expected {file}, {name}, {stem}"),
        (("-o", "{name}.nc", "--each", "more/a.h5"), "which is 'a.h5.nc' for both"),
    ],
)
def test_jobs_that_would_write_over_each_other(
    config: Path, args: tuple[str, ...], said: str
) -> None:
    (config.parent / "more").mkdir()
    for name in ("a.h5", "b.h5", "more/a.h5"):
        (config.parent / name).touch()
    done = call("scan", "{file}", "--each", "[ab].h5", *ARRAY, *args)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert not (config.parent / "j.sh").exists()


def test_what_jobs_may_not_find_is_told(config: Path) -> None:
    done = call("scan", "no.h5", "s3://lab/*.h5", "-o", "no/found.nc", *ARRAY)
    assert (done.exit_code, done.stdout) == (0, "j.sh\n")
    assert done.stderr.splitlines() == [
        "Warning: -o: no folder 'no' here; make it before jobs run",
        "Warning: no.h5: no such file here; jobs must find it where they run",
    ]
    for name in ("a.h5", "b.h5"):
        (config.parent / name).touch()
    (config.parent / "no").mkdir()
    done = call("scan", "{file}", "--each", "?.h5", "-o", "no/{stem}.nc", *ARRAY)
    assert (done.exit_code, done.stderr) == (0, "")


def test_a_script_for_a_queue_that_is_not_there(config: Path, tmp_path: Path) -> None:
    text = config.read_text()
    config.write_text(text.replace("normal", "norml"))
    done = call("scan", "slurm.toml", *ARRAY)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "slurm.toml: queue: found 'norml', expected 'normal'" in done.stderr
    config.write_text(text)
    sinfo = tmp_path / "bin" / "sinfo"
    sinfo.write_text("#!/bin/sh\necho 'x: Unable to contact slurm controller' >&2; exit 1\n")
    done = call("scan", "slurm.toml", *ARRAY)
    assert (done.exit_code, done.stdout) == (0, "j.sh\n")
    assert "aren't checked; SLURM: x: Unable to contact slurm controller" in done.stderr


def test_a_script_where_there_is_no_slurm(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(config.parent / "none"))
    done = call("scan", "slurm.toml", *ARRAY)
    assert (done.exit_code, done.stdout) == (0, "j.sh\n")
    assert done.stderr.endswith("aren't checked, as there is no sinfo here\n")


def test_logs_lie_where_one_stands(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    config.write_text(f'{config.read_text()}log_directory = "logs"\n')
    done = call("scan", config, "--slurm", config, "--sbatch", "-")
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"#SBATCH --output={here}/logs/%x-%j.log\n" in done.stdout
    assert [path.name for path in here.iterdir()] == ["logs"]
    assert not (tmp_path / "logs").exists()
    config.write_text(config.read_text().replace('"logs"', '"/dev/null/logs"'))
    done = call("scan", config, "--slurm", config, "--sbatch", "-")
    assert done.exit_code == 0
    assert "log_directory: '/dev/null/logs' can't be made (Not a directory); make it" in done.stderr
