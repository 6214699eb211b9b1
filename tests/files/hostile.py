"""Whole files that attack or mislead a reader: endless, pointing outside, or far larger inside."""

import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

from tests.files import activations, ann, episodes
from tests.files.variant import TEXT, contiguous, text

Write = Callable[[Path], None]

SECRET = b"what lies beside the file and is nobody's business" * 4


def external_link(path: Path) -> None:
    """A base that lies in another file, which is there."""
    other = path.with_name(f"{path.stem}_other.h5")
    ann.VARIANTS["float_euclidean"].write(other)
    with h5py.File(path, "w") as f:
        ann.benchmark(f)
        del f["train"]
        f["train"] = h5py.ExternalLink(other.name, "/train")


def external_link_loop(path: Path) -> None:
    """A base that is an external link to itself."""
    with h5py.File(path, "w") as f:
        ann.benchmark(f)
        del f["train"]
        f["train"] = h5py.ExternalLink(path.name, "/train")


def external_storage(path: Path) -> None:
    """A base whose bytes are those of a file beside, whatever that is."""
    secret = path.with_name(f"{path.stem}_secret.txt")
    secret.write_bytes(SECRET)
    with h5py.File(path, "w") as f:
        ann.benchmark(f, dtype="i1")
        del f["train"]
        properties = h5p.create(h5p.DATASET_CREATE)
        properties.set_external(str(secret).encode(), 0, ann.D * 10)
        h5d.create(f.id, b"train", h5t.STD_I8LE, h5s.create_simple((10, ann.D)), properties)


def virtual_dataset(path: Path) -> None:
    """A base that is put together of another file's rows."""
    other = path.with_name(f"{path.stem}_other.h5")
    ann.VARIANTS["float_euclidean"].write(other)
    with h5py.File(path, "w", libver="latest") as f:
        ann.benchmark(f)
        del f["train"]
        rows = h5py.VirtualLayout((ann.N, ann.D), dtype="<f4")
        rows[:] = h5py.VirtualSource(other, "train", (ann.N, ann.D))
        f.create_virtual_dataset("train", rows)


def soft_cycle(path: Path) -> None:
    """Two names, each of which says that it is the other."""
    with h5py.File(path, "w") as f:
        ann.benchmark(f)
        del f["train"], f["test"]
        f["train"], f["test"] = h5py.SoftLink("/test"), h5py.SoftLink("/train")


def dangling_link(path: Path) -> None:
    """A name that leads nowhere."""
    with h5py.File(path, "w") as f:
        ann.benchmark(f)
        del f["train"]
        f["train"] = h5py.SoftLink("/nowhere/train")


def hard_cycle(path: Path) -> None:
    """Groups that hold themselves and the root."""
    with h5py.File(path, "w") as f:
        episodes.document(f)
        f["metadata/itself"] = f["metadata"]
        f["metadata/root"] = f["/"]


def hard_cycle_of_scenarios(path: Path) -> None:
    """A scenario whose branch holds the scenario."""
    activations.VARIANTS["no_prefilled"].write(path)
    with h5py.File(path, "r+") as f:
        f["scenarios/base/data/prefilled"] = f["scenarios"]


def deep_nesting(path: Path) -> None:
    """Two hundred groups inside one another."""
    with h5py.File(path, "w") as f:
        episodes.document(f)
        group = f.create_group("deep")
        for _ in range(200):
            group = group.create_group("deeper")
        group["end"] = np.arange(3)


def huge_shape(path: Path) -> None:
    """A base of 2^60 bytes, of which none is stored."""
    with h5py.File(path, "w") as f:
        ann.benchmark(f)
        del f["train"]
        f.create_dataset("train", (2**54, 16), "<f4", chunks=(1024, 16))


def huge_contiguous(path: Path) -> None:
    """Embeddings of 2^60 bytes in one piece, of which none is stored."""
    with h5py.File(path, "w") as f:
        contiguous(f, "episode_ids", episodes.ids())
        f.create_dataset("embeddings", (2**50, 256), "<f4")


def many_chunks(path: Path) -> None:
    """A thousand million chunks of one byte each, of which none is stored."""
    with h5py.File(path, "w") as f:
        ann.benchmark(f, dtype="i1")
        f.create_dataset("train_labels", (10**9,), "i1", chunks=(1,))
        contiguous(f, "test_labels", np.zeros(ann.Q, "<i8"))


def gzip_bomb(path: Path) -> None:
    """A chunk of 1 GB, which is a few hundred bytes on disk: a row costs all of it."""
    with h5py.File(path, "w") as f:
        ann.benchmark(f, dtype="i1")
        del f["train"]
        made = f.create_dataset("train", (2**26, 16), "i1", chunks=(2**26, 16), compression="gzip")
        made.id.write_direct_chunk((0, 0), bomb(2**30))


def bomb(nbytes: int) -> bytes:
    """Deflate that many zeros, a multiple of 16 MiB, without holding them: one piece, repeated."""
    part = 2**24
    press = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    piece = press.compress(bytes(part)) + press.flush(zlib.Z_FULL_FLUSH)
    # Adler-32 of zeros alone: the first sum stays 1, the second counts the bytes.
    adler = (nbytes % 65521 << 16 | 1).to_bytes(4, "big")
    return b"\x78\xda" + piece * (nbytes // part) + b"\x03\x00" + adler


def compound_with_text(path: Path) -> None:
    """Metadata as a table with a column of text."""
    with h5py.File(path, "w") as f:
        episodes.document(f)
        rows = np.empty(episodes.N, dtype=[("length", "<i4"), ("task", TEXT)])
        rows["length"], rows["task"] = np.arange(episodes.N), text(["pick"] * episodes.N)
        f["metadata/table"] = rows


def references(path: Path) -> None:
    """Metadata that points to objects and regions of the file."""
    with h5py.File(path, "w") as f:
        episodes.document(f)
        made = f.create_dataset("metadata/objects", (episodes.N,), h5py.ref_dtype)
        made[0] = f["embeddings"].ref
        made = f.create_dataset("metadata/regions", (episodes.N,), h5py.regionref_dtype)
        made[0] = f["embeddings"].regionref[2:5]


def named(*functions: Write) -> dict[str, Write]:
    """Key functions by their names."""
    return {f.__name__: f for f in functions}


OUTSIDE = named(external_link, external_link_loop, external_storage, virtual_dataset)
"""Values that lie in other files."""

ENDLESS = named(soft_cycle, dangling_link, hard_cycle, hard_cycle_of_scenarios, deep_nesting)
"""Links that lead in circles, nowhere, or very deep."""

HUGE = named(huge_shape, huge_contiguous, many_chunks, gzip_bomb)
"""Small files that claim to hold very much."""

RARE_TYPES = named(compound_with_text, references)
"""Metadata of types that have no form outside HDF5."""
