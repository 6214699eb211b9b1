"""Fixtures that any test may ask for; a test whose real files are absent is counted as left out."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

FOLDER = os.environ.get("H5DASK_SAMPLES")
LEFT_OUT = pytest.StashKey[int]()

# The first call of a compiled kernel takes seconds, so no example has a deadline.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def needs_samples(item: pytest.Item) -> bool:
        asked = {"sample", "samples"} & set(getattr(item, "fixturenames", ()))
        return bool(asked) or item.get_closest_marker("samples") is not None

    left_out = [] if FOLDER else [item for item in items if needs_samples(item)]
    if left_out:
        items[:] = [item for item in items if not needs_samples(item)]
        config.hook.pytest_deselected(items=left_out)
    config.stash[LEFT_OUT] = len(left_out)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    n_left_out = config.stash.get(LEFT_OUT, 0)
    if n_left_out:
        terminalreporter.write_line(
            f"{n_left_out} tests need H5DASK_SAMPLES, the folder of real files, and were left out"
        )


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

    def refuse(graph: Any, keys: Any, **options: Any) -> None:
        raise AssertionError(f"computed what should have stayed lazy: {keys!r}")

    with dask.config.set(scheduler=refuse):
        yield
