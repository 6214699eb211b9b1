"""The commands of compose and Kubernetes at work on this machine, with a store beside them."""

from __future__ import annotations

import re
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

import h5dask
from h5dask.testing import example_file
from tests.architecture import ROOT
from tests.cluster.reading import FOLDER, Document, documents, found, services
from tests.servers import Endpoint, moto
from tests.servers.programs import free_port, program, running

pytestmark = pytest.mark.servers
SECONDS = 300
CONFIG = """\
output = "{url}/truth.h5"
[base]
file = "{url}/a.h5"
[search]
k = 3
test_size = 4
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where commands run in place of containers."""

    store: Endpoint
    folder: Path
    scheduler: int
    dashboard: int

    def words(self, command: Sequence[str], names: Mapping[str, str]) -> list[str]:
        """Return a command as it is said here; what listens does so on 127.0.0.1 alone."""
        said = []
        for word in command:
            for name, value in names.items():
                word = word.replace(name, value)  # noqa: PLW2901
            said.append(word)
        if said[0] == "dask":
            said.append("--host=127.0.0.1")
        return [program(said[0]), *said[1:]]

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return what a container is given, and what the image says of folders."""
        return {
            **given,
            "PYTHONPATH": str(ROOT),
            "DASK_CONFIG": str(FOLDER / "dask.yaml"),
            "DASK_TEMPORARY_DIRECTORY": str(self.folder),
            "H5DASK_CACHE": str(self.folder / "indexes"),
        }

    @contextmanager
    def cluster(
        self, scheduler: list[str], worker: list[str], given: Mapping[str, str]
    ) -> Iterator[None]:
        """Run both; the scheduler isn't told what the store wants to know."""
        log = self.folder / "worker.log"

        def joined() -> bool:
            return log.exists() and "Registered to" in log.read_text()

        with ExitStack() as stack:
            own = self.environment({})
            told = self.folder / "scheduler.log"
            stack.enter_context(running(scheduler, told, self.is_well, environment=own))
            more = self.environment(given)
            stack.enter_context(running(worker, log, joined, environment=more))
            yield

    def is_well(self) -> bool:
        """Say whether a probe of the scheduler would be content."""
        url = f"http://127.0.0.1:{self.dashboard}/health"
        with suppress(OSError), urllib.request.urlopen(url) as answer:
            return bool(answer.status == 200)
        return False

    def run(self, job: list[str], given: Mapping[str, str]) -> str:
        """Run a job to its end and return what it tells."""
        ended = subprocess.run(
            job, env=self.environment(given), cwd=self.folder, capture_output=True, text=True,
            check=False, timeout=SECONDS,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        return ended.stderr


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with moto.start(tmp_path) as store:
        store.place("a.h5", Path(example_file("ann")).read_bytes())
        yield Place(store, tmp_path, free_port(), free_port())


def test_compose(place: Place) -> None:
    (key, secret), store = place.store.secrets()[:2], f"http://127.0.0.1:{place.store.port}"
    names = {
        "tcp://scheduler:8786": f"tcp://127.0.0.1:{place.scheduler}",
        "8786": str(place.scheduler),
        ":8787": f"127.0.0.1:{place.dashboard}",
        "s3://lab": place.store.url,
    }
    values = {"${S3_KEY:?export one}": key, "${S3_SECRET:?export one}": secret}
    values["http://store:9000"] = store
    told = services()
    given = {name: values.get(one, one) for name, one in told["worker"]["environment"].items()}
    roles = [place.words(told[role]["command"], names) for role in ("scheduler", "worker")]
    with place.cluster(*roles, given):
        health = [word.replace("8787", str(place.dashboard)) for word in
                  told["scheduler"]["healthcheck"]["test"][1:]]  # fmt: skip
        subprocess.run([program(health[0]), *health[1:]], check=True)
        told_by_job = place.run(place.words(told["job"]["command"], names), given)
    assert "Nothing found" in told_by_job


def variables(container: Document, place: Place) -> dict[str, str]:
    """Return what a container of Kubernetes is given, by the README's secret and config map."""
    key, secret = place.store.secrets()[:2]
    readme = (FOLDER / "README.md").read_text("utf-8")
    (line,) = re.findall(r"create configmap h5dask-store (.+)", readme)
    given = dict(word.split("=", 1) for word in line.replace("--from-literal=", "").split())
    given["FSSPEC_S3_ENDPOINT_URL"] = f"http://127.0.0.1:{place.store.port}"
    values = {"key": key, "secret": secret}
    for entry in container.get("env", []):
        given[entry["name"]] = values[entry["valueFrom"]["secretKeyRef"]["key"]]
    # This much the operator adds.
    return {**given, "DASK_SCHEDULER_ADDRESS": f"tcp://127.0.0.1:{place.scheduler}"}


def test_kubernetes(place: Place) -> None:
    (document,) = documents(FOLDER / "kubernetes" / "daskjob.yaml")
    told = {one["name"]: one for many in found(document, "containers") for one in many}
    config = place.folder / "ground_truth.toml"
    config.write_text(CONFIG.format(url=place.store.url))
    names = {
        "$(DASK_SCHEDULER_ADDRESS)": f"tcp://127.0.0.1:{place.scheduler}",
        "$(DASK_WORKER_NAME)": "worker",
        "8786": str(place.scheduler),
        ":8787": f"127.0.0.1:{place.dashboard}",
        ":8788": "127.0.0.1:0",
        "/etc/h5dask/ground_truth.toml": str(config),
    }
    given = variables(told["worker"], place)
    roles = [place.words(told[role]["args"], names) for role in ("scheduler", "worker")]
    with place.cluster(*roles, given):
        place.run(place.words(told["job"]["args"], names), given)
    made = place.folder / "truth.h5"
    made.write_bytes(place.store.content("truth.h5"))
    assert h5dask.validate(made, values=True) == ()
