"""Any buffer reaches a kernel as the same type."""

import numpy as np

from h5dask.kernels import fletcher32, lzf, shuffle
from h5dask.kernels.compile import as_bytes

KERNELS = {
    name: kernel
    for module in (fletcher32, lzf, shuffle)
    for name, kernel in vars(module).items()
    if "forceinline" not in getattr(kernel, "targetoptions", ["forceinline"])
}


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
