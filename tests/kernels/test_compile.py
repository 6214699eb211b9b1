"""Where machine code is kept, and that any buffer reaches a kernel as the same type."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import h5dask.kernels
from h5dask.kernels import fletcher32, lzf, shuffle
from h5dask.kernels.compile import as_bytes, fallback_folder

KERNELS = {
    name: kernel
    for module in (fletcher32, lzf, shuffle)
    for name, kernel in vars(module).items()
    if "forceinline" not in getattr(kernel, "targetoptions", ["forceinline"])
}


def unwritable(folder: Path) -> Path:
    """Make a folder whose __pycache__ nobody can write to, the superuser included."""
    folder.mkdir(parents=True)
    (folder / "__pycache__").touch()
    return folder


def private(folder: str) -> bool:
    return os.stat(folder).st_mode & 0o777 == 0o700


def test_as_bytes_is_a_view_of_any_buffer():
    whole = np.arange(6, dtype="<u2")
    for buffer in (whole, whole.tobytes(), bytearray(whole.tobytes()), memoryview(whole)):
        view = as_bytes(buffer)
        assert view.tobytes() == whole.tobytes()
        assert view.dtype == np.uint8
        assert view.flags.writeable
        assert np.shares_memory(view, np.frombuffer(buffer, np.uint8))


def test_as_bytes_keeps_its_buffer_alive():
    view = as_bytes(bytes(range(256)) * 4096)
    other = [bytes(2**20) for _ in range(8)]
    assert view[:256].tolist() == list(range(256))
    assert len(other) == 8


def test_as_bytes_of_nothing():
    assert as_bytes(b"").size == 0


def test_every_kernel_is_compiled_once_whatever_holds_its_bytes():
    values = np.arange(96, dtype=np.uint8)
    target = np.empty(104, np.uint8)
    buffers = [values, values.tobytes(), bytearray(values), memoryview(bytes(103))[7:]]
    for source in map(as_bytes, buffers):
        fletcher32.checksum(source)
        lzf.decompress(source, target)
        lzf.compress(source, target)
        for size in (2, 3, 4, 8):
            shuffle.separate(source, target[1:97], size)
            shuffle.interleave(source, target[1:97], size)
    assert len(KERNELS) == 11
    specialisations = {name: len(kernel.signatures) for name, kernel in KERNELS.items()}
    assert specialisations == dict.fromkeys(KERNELS, 1)


def test_machine_code_lies_beside_its_source_where_it_can(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    assert fallback_folder(package, tmp_path) == ""
    assert list((package / "__pycache__").iterdir()) == []


def test_machine_code_of_an_unwritable_package_lies_in_a_private_folder(tmp_path):
    package = unwritable(tmp_path / "package")
    folder = fallback_folder(package, tmp_path)
    assert Path(folder).parent == tmp_path
    assert private(folder)
    assert fallback_folder(package, tmp_path) == folder


@pytest.mark.parametrize("taken_as", ["open to others", "a file", "a link"])
def test_a_folder_others_can_write_to_is_not_trusted(tmp_path, taken_as):
    package = unwritable(tmp_path / "package")
    taken = Path(fallback_folder(package, tmp_path))
    if taken_as == "open to others":
        taken.chmod(0o777)
    else:
        taken.rmdir()
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir(mode=0o700)
        taken.touch() if taken_as == "a file" else taken.symlink_to(elsewhere)
    folder = fallback_folder(package, tmp_path)
    assert folder != str(taken)
    assert private(folder)


@pytest.mark.parametrize("configured", [False, True])
def test_a_kernel_of_an_unwritable_package_is_cached(tmp_path, configured):
    package = unwritable(tmp_path / "site" / "h5dask" / "kernels")
    for name in ("__init__.py", "compile.py", "fletcher32.py"):
        shutil.copy(Path(h5dask.kernels.__file__).with_name(name), package)
    (package.parent / "__init__.py").touch()
    temporary, chosen = tmp_path / "temporary", tmp_path / "chosen"
    temporary.mkdir()
    code = (
        "import numpy, numba; from h5dask.kernels.fletcher32 import checksum;"
        "checksum(numpy.zeros(3, numpy.uint8)); print(numba.config.CACHE_DIR)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "TMPDIR": str(temporary)}
    environment |= {"NUMBA_CACHE_DIR": str(chosen) if configured else ""}
    run = [sys.executable, "-c", code]
    done = subprocess.run(
        run, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == environment["NUMBA_CACHE_DIR"]
    assert bool(list(temporary.rglob("*.nbi"))) != configured
    assert bool(list(chosen.rglob("*.nbi"))) == configured
