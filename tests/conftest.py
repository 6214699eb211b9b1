"""Fixtures that any test may ask for; a test whose real files are absent is counted as left out."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests import browser
from tests.servers.programs import found

FOLDER = os.environ.get("H5DASK_SAMPLES")
SAMPLES = "H5DASK_SAMPLES, the folder of real files"
BROWSER = "a Chromium, on PATH or named by H5DASK_CHROMIUM"
LEFT_OUT = pytest.StashKey[dict[str, int]]()
"""How many tests are left out by what they can't do without."""

# The first call of a compiled kernel takes seconds, so no example has a deadline.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True, max_examples=25)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def real_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in {".h5", ".hdf5"})


def pytest_configure(config: pytest.Config) -> None:
    if FOLDER and not real_files(Path(FOLDER)):
        raise pytest.UsageError(
            f"H5DASK_SAMPLES: found no .h5 or .hdf5 file below {FOLDER!r}; "
            "name the folder of real files, or unset it"
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test with the argument `sample` every real file in turn."""
    if "sample" in metafunc.fixturenames:
        files = real_files(Path(FOLDER)) if FOLDER else [Path("none")]
        metafunc.parametrize("sample", files, ids=lambda path: path.stem)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def lacks(item: pytest.Item) -> str | None:
        asked = {"sample", "samples"} & set(getattr(item, "fixturenames", ()))
        if not FOLDER and (asked or item.get_closest_marker("samples")):
            return SAMPLES
        if item.get_closest_marker("browser") and browser.executable() is None:
            return BROWSER
        programs = (name for mark in item.iter_markers("needs") for name in mark.args)
        return next((f"{name}, on PATH" for name in programs if found(name) is None), None)

    lacking = [(item, lacks(item)) for item in items]
    left_out = [item for item, need in lacking if need]
    if left_out:
        items[:] = [item for item, need in lacking if not need]
        config.hook.pytest_deselected(items=left_out)
    config.stash[LEFT_OUT] = Counter(need for _, need in lacking if need)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # one of several processes: the first one tells
        left_out = session.config.stash.get(LEFT_OUT, {})
        session.config.workeroutput["left out"] = dict(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    left_out = getattr(node, "workeroutput", {}).get("left out", {})
    node.config.stash[LEFT_OUT] = {**node.config.stash.get(LEFT_OUT, {}), **left_out}


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for need, n_left_out in config.stash.get(LEFT_OUT, {}).items():
        terminalreporter.write_line(f"{n_left_out} tests need {need}, and were left out")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the tests, and the processes they start, out of the user's index cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("H5DASK_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def samples() -> Path:
    """Folder of real files, as H5DASK_SAMPLES names it; `sample` is each of its files."""
    assert FOLDER is not None
    return Path(FOLDER)


@pytest.fixture(scope="session")
def small() -> Path:
    """Folder of the small real files that come with the tests."""
    return Path(__file__).parent / "real"


@pytest.fixture
def no_compute() -> Iterator[None]:
    """Make every dask computation an error, which proves what is done without one lazy."""
    import dask

    from h5dask import layouts
    from h5dask.testing import example_file

    for name in layouts.names():  # they are written once a process, which computes
        example_file(name)

    def refuse(graph: Any, keys: Any, **options: Any) -> None:
        raise AssertionError(f"computed what should have stayed lazy: {keys!r}")

    with dask.config.set(scheduler=refuse):
        yield
