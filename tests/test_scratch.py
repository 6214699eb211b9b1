"""The workers' folder: made, removed, and removed for those who could not do it themselves."""

import subprocess
import sys
from pathlib import Path

import pytest

from h5dask.errors import AccessDenied
from h5dask.workers.scratch import scratch_folder
from tests.architecture import ROOT

WAITS = """
import sys
from h5dask.workers.scratch import scratch_folder
with scratch_folder(sys.argv[1]) as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_it_goes_with_what_is_in_it(tmp_path: Path) -> None:
    with scratch_folder(str(tmp_path)) as folder:
        assert Path(folder).parent == tmp_path
        (Path(folder) / "spilled").write_bytes(bytes(100))
    assert list(tmp_path.iterdir()) == []


def test_it_needs_a_folder(tmp_path: Path) -> None:
    told = r"gone: workers can't have a folder there \(No such file or directory\); name another"
    with pytest.raises(AccessDenied, match=told), scratch_folder(str(tmp_path / "gone")):
        pass


def test_it_goes_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="by zero"), scratch_folder(str(tmp_path)):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_that_of_a_killed_process_goes_with_the_next_one_and_no_other(tmp_path: Path) -> None:
    strange = tmp_path / "h5dask-workers-of-somebody"
    strange.mkdir()
    (tmp_path / "h5dask-workers-file").touch()
    command = [sys.executable, "-c", WAITS, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        with scratch_folder(str(tmp_path)):
            assert theirs.exists()
        other.kill()
        other.wait(timeout=30)
        assert theirs.exists()
        with scratch_folder(str(tmp_path)):
            assert not theirs.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["h5dask-workers-file", strange.name]
