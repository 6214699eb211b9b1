"""Files whose bytes are wrong: not HDF5 at all, cut off, or overwritten in one place."""

import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from tests.files import ann, episodes

Write = Callable[[Path], None]


def overwrite(path: Path, offset: int, raw: bytes) -> None:
    """Put other bytes at a place of a file."""
    with path.open("r+b") as f:
        f.seek(offset)
        f.write(raw)


def truncated(path: Path, nbytes: int) -> None:
    """Cut a file after that many bytes."""
    with path.open("r+b") as f:
        f.truncate(nbytes)


def empty(path: Path) -> None:
    """A file without a byte."""
    path.write_bytes(b"")


def plain_text(path: Path) -> None:
    """Text."""
    path.write_text("id,embedding\n1,0.5\n" * 100)


def html(path: Path) -> None:
    """What a store sends in place of a file."""
    page = "<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n"
    path.write_text(page * 20)


def superblock_version(path: Path) -> None:
    """The signature of HDF5, and a version of its superblock that there isn't."""
    ann.VARIANTS["float_euclidean"].write(path)
    overwrite(path, 8, b"\x63")


def superblock_sizes(path: Path) -> None:
    """Addresses of a width that there isn't."""
    ann.VARIANTS["float_euclidean"].write(path)
    overwrite(path, 13, b"\x03")


def superblock_root(path: Path) -> None:
    """A root group far beyond the end of the file."""
    ann.VARIANTS["float_euclidean"].write(path)
    overwrite(path, 64, (1 << 40).to_bytes(8, "little"))


def signature_only(path: Path) -> None:
    """The signature of HDF5 and nothing else."""
    path.write_bytes(b"\x89HDF\r\n\x1a\n")


def heap_address(path: Path) -> None:
    """Text whose descriptors point to a heap beyond the end of the file."""
    episodes.VARIANTS["document"].write(path)
    with h5py.File(path, "r") as f:
        offset = f["episode_ids"].id.get_offset()
    overwrite(path, offset + 4, (1 << 40).to_bytes(8, "little"))


def heap_index(path: Path) -> None:
    """Text whose first descriptor names an object that its heap doesn't hold."""
    episodes.VARIANTS["document"].write(path)
    with h5py.File(path, "r") as f:
        offset = f["episode_ids"].id.get_offset()
    overwrite(path, offset + 12, (60_000).to_bytes(4, "little"))


def heap_length(path: Path) -> None:
    """Text whose first descriptor claims 64 MiB, far more than its heap holds."""
    episodes.VARIANTS["document"].write(path)
    with h5py.File(path, "r") as f:
        offset = f["episode_ids"].id.get_offset()
    overwrite(path, offset, (2**26).to_bytes(4, "little"))


def heap_signature(path: Path) -> None:
    """Text in a heap that doesn't say that it is one."""
    episodes.VARIANTS["document"].write(path)
    overwrite(path, path.read_bytes().index(b"GCOL"), b"XXXX")


def invalid_utf8(path: Path) -> None:
    """Ids that claim to be UTF-8 and aren't."""
    episodes.VARIANTS["document"].write(path)
    with h5py.File(path, "r+") as f:
        f["episode_ids"][3] = b"caf\xe9 \xff"


def fixed_text_with_nul(path: Path) -> None:
    """Ids of fixed length with a NUL in the middle, which no variable-length text can hold."""
    episodes.VARIANTS["document"].write(path)
    with h5py.File(path, "r+") as f:
        del f["episode_ids"]
        f["episode_ids"] = np.array([b"a\x00%03d" % i for i in range(episodes.N)])


def corrupt_gzip(path: Path) -> None:
    """A compressed chunk with bytes that deflate never wrote."""
    ann.VARIANTS["gzip_shuffle"].write(path)
    with h5py.File(path, "r") as f:
        chunk = f["train"].id.get_chunk_info(0)
    overwrite(path, chunk.byte_offset + chunk.size // 3, b"\xaa" * (chunk.size // 3))


def corrupt_checksum(path: Path) -> None:
    """A chunk whose checksum finds another value than was written."""
    with h5py.File(path, "w") as f:
        ann.benchmark(f, put=lambda g, n, v: g.create_dataset(n, data=v, fletcher32=True))
        chunk = f["train"].id.get_chunk_info(0)
    overwrite(path, chunk.byte_offset + 17, b"\x55\xaa\x55")


def short_chunk(path: Path) -> None:
    """Compressed chunks that hold fewer bytes than a chunk has."""
    with h5py.File(path, "w") as f:
        ann.benchmark(f)
        del f["train"]
        made = f.create_dataset(
            "train", (ann.N, ann.D), "<f4", chunks=(ann.N, ann.D), compression="gzip"
        )
        made.id.write_direct_chunk((0, 0), zlib.compress(bytes(ann.N * ann.D * 4 - 8)))


def named(*functions: Write) -> dict[str, Write]:
    """Key functions by their names."""
    return {f.__name__: f for f in functions}


NOT_HDF5 = named(
    empty, plain_text, html, signature_only, superblock_version, superblock_sizes, superblock_root
)
"""Files that can't be opened at all."""

BAD_VALUES = named(
    heap_address,
    heap_index,
    heap_length,
    heap_signature,
    corrupt_gzip,
    corrupt_checksum,
)
"""Files that open, and of whose values some can't be read."""

UNNOTICED = named(short_chunk)
"""Files with wrong values that HDF5 reads without a word."""

BAD_TEXT = named(invalid_utf8, fixed_text_with_nul)
"""Files whose values can be read and aren't proper text."""
