"""Robot-episode embeddings: metadata and pictures of every kind that such a file holds."""

from functools import partial

import h5py
import numpy as np

from tests.files.variant import TEXT, Array, Variant, chunked, contiguous, register, rng, text

VARIANTS: dict[str, Variant] = {}

N, D = 20, 16
BYTES = h5py.vlen_dtype(np.uint8)


def unit(f: h5py.File, n: int = N, d: int = D, dtype: str = "<f4") -> Array:
    """Draw rows of length one."""
    values = rng(f, "embeddings").standard_normal((n, d))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(dtype)


def ids(n: int = N) -> Array:
    """Name episodes as newer files do."""
    return text([f"pusht/ep_{i:05d}" for i in range(n)])


def pictures(f: h5py.File, name: str, n: int = N) -> Array:
    """Draw byte strings of many lengths, one of them without a byte, one above 64 KiB."""
    lengths = rng(f, name).integers(1, 3000, n)
    lengths[[1, 2]] = 0, 70_000
    rows = np.empty(n, dtype=object)
    rows[:] = [
        rng(f, f"{name}/{i}").integers(0, 256, m).astype("u1") for i, m in enumerate(lengths)
    ]
    return rows


def embeddings(f: h5py.File) -> None:
    """Write the two required datasets as the document's example does."""
    contiguous(f, "embeddings", unit(f))
    contiguous(f, "episode_ids", ids())


def metadata(f: h5py.File) -> None:
    """Write the four standard fields."""
    group = f.create_group("metadata")
    group["success"] = rng(group, "success").random(N) < 0.7
    group["episode_length"] = rng(group, "episode_length").integers(50, 200, N)
    contiguous(group, "task", text(list(rng(group, "task").choice(["pick", "place", "stack"], N))))
    contiguous(group, "dataset", text(["pusht", "droid 🤖"] * (N // 2)))


@register(VARIANTS)
def document(f: h5py.File) -> None:
    """The document's complete example, its text as variable-length strings."""
    embeddings(f)
    metadata(f)


@register(VARIANTS)
def no_metadata(f: h5py.File) -> None:
    """The two required datasets alone."""
    embeddings(f)


@register(VARIANTS)
def empty_metadata(f: h5py.File) -> None:
    """A metadata group without a field."""
    embeddings(f)
    f.create_group("metadata")


@register(VARIANTS)
def one_episode(f: h5py.File) -> None:
    """A single row."""
    contiguous(f, "embeddings", unit(f, 1))
    contiguous(f, "episode_ids", ids(1))


@register(VARIANTS)
def gzip(f: h5py.File) -> None:
    """Compressed embeddings in chunks with partial edges, as real files have them."""
    f.create_dataset("embeddings", data=unit(f), chunks=(6, 7), compression="gzip")
    contiguous(f, "episode_ids", ids())
    metadata(f)
    del f["metadata/episode_length"]
    f["metadata/episode_length"] = np.arange(N, dtype="<i4")


@register(VARIANTS)
def float64(f: h5py.File) -> None:
    """Embeddings of double precision."""
    contiguous(f, "embeddings", unit(f, dtype="<f8"))
    contiguous(f, "episode_ids", ids())
    metadata(f)


@register(VARIANTS)
def big_endian(f: h5py.File) -> None:
    """Numbers in the other byte order."""
    contiguous(f, "embeddings", unit(f, dtype=">f4"))
    contiguous(f, "episode_ids", ids())
    f["metadata/episode_length"] = np.arange(N, dtype=">i4")


@register(VARIANTS)
def metadata_of_all_kinds(f: h5py.File) -> None:
    """Fields of every plain type: integers, floats, bool, text of each kind."""
    document(f)
    group = f["metadata"]
    for dtype in ("i1", "u1", "<i2", ">u2", "<i4", "<u4", "<i8", ">u8", "<f2", ">f4", "<f8"):
        name = f"field_{np.dtype(dtype).name}"
        group[name] = rng(group, name).integers(0, 100, N).astype(dtype)
    group["ascii"] = np.array([f"a{i}" for i in range(N)], dtype=h5py.string_dtype("ascii"))
    group["utf8_fixed"] = np.array(["ä".encode()] * N, dtype=h5py.string_dtype("utf-8", 5))
    group["bytes_fixed"] = np.array([b"x" * (i % 4) for i in range(N)])


@register(VARIANTS)
def custom_fields(f: h5py.File) -> None:
    """The document's examples of fields of the user's own, and a name with spaces and dots."""
    document(f)
    f["metadata/robot_id"] = np.arange(N) % 3
    f["metadata/gripper_state"] = np.linspace(0, 1, N)
    f["metadata/the user's field.v2"] = np.arange(N)


@register(VARIANTS)
def exotic_fields(f: h5py.File) -> None:
    """Fields of HDF5's rarer types: an enumeration, opaque bytes, sequences of numbers."""
    document(f)
    group = f["metadata"]
    hands = h5py.enum_dtype({"left": 1, "right": 2}, basetype="i2")
    group.create_dataset("hand", data=np.arange(N) % 2 + 1, dtype=hands)
    group["opaque"] = np.array([b"\x00\xff" * 4] * N).view("V8")
    rows = np.empty(N, dtype=object)
    rows[:] = [np.arange(i, dtype="<i4") for i in range(N)]
    group.create_dataset("waypoints", data=rows, dtype=h5py.vlen_dtype("<i4"))


@register(VARIANTS)
def resizable_everything(f: h5py.File) -> None:
    """Chunked and resizable, text too."""
    put = partial(chunked, chunks=True)
    put(f, "embeddings", unit(f))
    put(f, "episode_ids", ids())
    put(f.create_group("metadata"), "task", text(["pick"] * N))


@register(VARIANTS)
def ascii_ids(f: h5py.File) -> None:
    """Ids as ASCII of variable length, as a list of bytes is stored."""
    contiguous(f, "embeddings", unit(f))
    f.create_dataset("episode_ids", data=[f"ep_{i}".encode() for i in range(N)], dtype=TEXT)
    f.create_dataset("metadata/task", data=["pick"] * N, dtype=h5py.string_dtype("ascii"))


@register(VARIANTS, notes=("episode_ids",))
def fixed_length_ids(f: h5py.File) -> None:
    """Ids as bytes of fixed length."""
    contiguous(f, "embeddings", unit(f))
    f["episode_ids"] = np.array([f"ep_{i:05d}".encode() for i in range(N)])


@register(VARIANTS, notes=("thumbnails",))
def thumbnails(f: h5py.File) -> None:
    """Pictures of variable length, one of them empty, one larger than a heap's usual object."""
    document(f)
    f.create_dataset("thumbnails", data=pictures(f, "thumbnails"), dtype=BYTES)


@register(VARIANTS)
def gifs(f: h5py.File) -> None:
    """Moving pictures beside compressed embeddings."""
    gzip(f)
    f.create_dataset("gifs", data=pictures(f, "gifs"), dtype=BYTES)


@register(VARIANTS, notes=("thumbnails",))
def pictures_of_both_kinds(f: h5py.File) -> None:
    """Thumbnails in compressed chunks, and moving pictures."""
    document(f)
    f.create_dataset(
        "thumbnails", data=pictures(f, "thumbnails"), dtype=BYTES, chunks=(6,), compression="gzip"
    )
    f.create_dataset("gifs", data=pictures(f, "gifs"), dtype=BYTES)


@register(VARIANTS, problems=("embeddings",))
def no_embeddings(f: h5py.File) -> None:
    """Metadata only, as newer consumers take it."""
    document(f)
    del f["embeddings"]


@register(VARIANTS, notes=("license", "cameras"))
def unknown_members(f: h5py.File) -> None:
    """A dataset and an attribute that no document names."""
    document(f)
    f["cameras"] = np.eye(3)
    f.attrs["license"] = "MIT"


@register(VARIANTS, options={"track_order": True})
def tracked_order(f: h5py.File) -> None:
    """Fields in the order they were made."""
    document(f)
    f["metadata/area"] = np.arange(N)


@register(VARIANTS, value_problems=("embeddings",))
def nan_embeddings(f: h5py.File) -> None:
    """A NaN and an infinity, in rows that a sample may miss."""
    document(f)
    f["embeddings"][7, 3], f["embeddings"][11, 0] = np.nan, -np.inf


@register(VARIANTS, value_problems=("episode_ids",))
def duplicate_ids(f: h5py.File) -> None:
    """Two episodes of one name."""
    document(f)
    f["episode_ids"][5] = f["episode_ids"][3]


@register(VARIANTS)
def widest(f: h5py.File) -> None:
    """As many dimensions as are allowed."""
    contiguous(f, "embeddings", unit(f, 3, 2048))
    contiguous(f, "episode_ids", ids(3))


@register(VARIANTS, notes=("episode_ids",))
def longest(f: h5py.File) -> None:
    """As many episodes as are allowed, compressed to be small."""
    f.create_dataset("embeddings", data=np.ones((200_000, 1), "<f4"), compression="gzip")
    names = np.array([f"{i:06d}" for i in range(200_000)], dtype="S6")
    f.create_dataset("episode_ids", data=names, compression="gzip")
