"""Fixtures of runs that are struck."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bucket import bucket, moto_server
from tests.kills.cluster import Cluster, cluster_in
from tests.kills.work import Task, make_source

__all__ = ["bucket", "moto_server"]


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_source(tmp_path_factory.mktemp("source") / "a.h5")


@pytest.fixture(scope="session")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What nobody has disturbed."""
    folder = tmp_path_factory.mktemp("expected")
    assert Task(source, str(folder / "b.h5"), folder / "tally").run().what == "done"
    return folder / "b.h5"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_in(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster without nannies, which would end a silent worker."""
    with cluster_in(tmp_path_factory.mktemp("bare"), nanny=False) as made:
        yield made


@pytest.fixture
def task(source: Path, tmp_path: Path) -> Task:
    (tmp_path / "out").mkdir()
    return Task(source, str(tmp_path / "out" / "b.h5"), tmp_path / "tally")
