"""Vector-search benchmarks: every metric, type and form of labels, with true neighbors."""

from collections.abc import Callable
from functools import partial

import h5py
import numpy as np

from tests.files.variant import Array, Put, Variant, chunked, contiguous, register, resizable, rng

VARIANTS: dict[str, Variant] = {}

N, Q, D, K = 60, 7, 12, 5


def euclidean(test: Array, train: Array) -> Array:
    """Distances that are not squared."""
    return np.sqrt(((test[:, None] - train[None]) ** 2).sum(-1))


def inner(test: Array, train: Array) -> Array:
    """Distances of real vectors by inner product."""
    return 1 - test @ train.T


def integer_inner(test: Array, train: Array) -> Array:
    """Distances of integer vectors by inner product: without the one."""
    return -(test @ train.T)


def angular(test: Array, train: Array) -> Array:
    """One minus the cosine."""
    return 1 - test @ train.T / np.linalg.norm(test, axis=1)[:, None] / np.linalg.norm(
        train, axis=1
    )


def hamming_distance(test: Array, train: Array) -> Array:
    """The share of components that differ."""
    return (test[:, None] != train[None]).mean(-1)


METRICS: dict[str, Callable[[Array, Array], Array]] = {
    "euclidean": euclidean,
    "ip": inner,
    "angular": angular,
    "hamming": hamming_distance,
}


def nearest(distances: Array, allowed: Array) -> tuple[Array, Array]:
    """Find the K nearest rows that are allowed for each query; the lower id where they tie."""
    found = np.where(allowed, distances, np.inf)
    neighbors = np.argsort(found, axis=1, kind="stable")[:, :K]
    return neighbors, np.take_along_axis(found, neighbors, axis=1)


def vectors(f: h5py.File, name: str, n: int, dtype: str) -> Array:
    """Draw vectors that fit a type: all of int8, and of uint8 what int8 can hold."""
    if np.dtype(dtype).kind == "f":
        return rng(f, name).standard_normal((n, D)).astype(dtype)
    low, high = {"i": (-128, 128), "u": (0, 128), "b": (0, 2)}[np.dtype(dtype).kind]
    return rng(f, name).integers(low, high, (n, D)).astype(dtype)


def benchmark(
    f: h5py.File,
    metric: str = "euclidean",
    dtype: str = "<f4",
    *,
    test_dtype: str = "",
    ids: str = "<i8",
    found: str = "<f4",
    labels: tuple[Array, Array] | None = None,
    put: Put = contiguous,
) -> None:
    """Write a whole file with its attribute `distance` as variable-length ASCII."""
    train, test = vectors(f, "train", N, dtype), vectors(f, "test", Q, test_dtype or dtype)
    measure = METRICS[metric]
    if metric == "ip" and train.dtype.kind == "i":
        measure = integer_inner
    allowed = np.ones((Q, N), dtype=bool)
    if labels:
        allowed = labels[1][:, None] == labels[0][None]
    neighbors, distances = nearest(measure(test.astype("f8"), train.astype("f8")), allowed)
    put(f, "train", train)
    put(f, "test", test)
    put(f, "neighbors", neighbors.astype(ids))
    put(f, "distances", distances.astype(found))
    if labels:
        put(f, "train_labels", labels[0].astype("<i8"))
        put(f, "test_labels", labels[1].astype("<i8"))
    f.attrs.create("distance", metric, dtype=h5py.string_dtype("ascii"))


def drawn_labels(f: h5py.File, values: list[int]) -> tuple[Array, Array]:
    """Draw labels of base and queries such that every label has at least K rows of the base."""
    train = rng(f, "train_labels").permutation(np.resize(values, N))
    return train, rng(f, "test_labels").choice(values, Q)


def labelled(f: h5py.File, values: list[int], dtype: str = "<f4") -> Array:
    """Write a labelled file; give the share of the base of each label from 0 to the largest."""
    labels = drawn_labels(f, values)
    benchmark(f, dtype=dtype, labels=labels)
    return np.bincount(labels[0]).astype("<f4") / np.float32(N)


def four_attributes(f: h5py.File, point_type: str) -> None:
    """Add the attributes that ann-benchmarks writes beside `distance`, as it writes them."""
    f.attrs["type"] = "dense"
    f.attrs["distance"] = f.attrs["distance"]
    f.attrs["dimension"] = D
    f.attrs["point_type"] = point_type


@register(VARIANTS)
def float_euclidean(f: h5py.File) -> None:
    """The document's form with the euclidean metric."""
    benchmark(f, "euclidean")


@register(VARIANTS)
def float_ip(f: h5py.File) -> None:
    """The document's form with inner products, stored as 1 - a·b."""
    benchmark(f, "ip")


@register(VARIANTS)
def float_angular(f: h5py.File) -> None:
    """The document's form with the angular metric."""
    benchmark(f, "angular")


@register(VARIANTS)
def int8_ip(f: h5py.File) -> None:
    """Integer vectors with inner products, stored as -a·b."""
    benchmark(f, "ip", "i1")


@register(VARIANTS, notes=("euclidean",))
def int8_euclidean(f: h5py.File) -> None:
    """Integer vectors with the euclidean metric, which the consumer misreads."""
    benchmark(f, "euclidean", "i1")


@register(VARIANTS, notes=("angular",))
def int8_angular(f: h5py.File) -> None:
    """Integer vectors with the angular metric, which the consumer misreads."""
    benchmark(f, "angular", "i1")


@register(VARIANTS)
def labels(f: h5py.File) -> None:
    """Labels 0 to 3: neighbors have their query's label."""
    f["valid_ratios"] = labelled(f, [0, 1, 2, 3])


@register(VARIANTS)
def labels_without_ratios(f: h5py.File) -> None:
    """Labels, and no valid ratios."""
    labelled(f, [0, 1, 2])


@register(VARIANTS)
def labels_with_gaps(f: h5py.File) -> None:
    """Labels 0, 2 and 5: ratios by label, 0 for those that no row has."""
    f["valid_ratios"] = labelled(f, [0, 2, 5])


@register(VARIANTS, notes=("valid_ratios",))
def labels_counted_once(f: h5py.File) -> None:
    """Labels 0, 2 and 5: one ratio a distinct label, as the document's words have it."""
    ratios = labelled(f, [0, 2, 5])
    f["valid_ratios"] = ratios[ratios > 0]


@register(VARIANTS, notes=("euclidean",))
def int8_labels(f: h5py.File) -> None:
    """Labels with integer vectors."""
    f["valid_ratios"] = labelled(f, [0, 1, 2], "i1")


@register(VARIANTS)
def four_attributes_float(f: h5py.File) -> None:
    """The document's types with the four attributes of ann-benchmarks."""
    benchmark(f, "angular")
    four_attributes(f, "float")


@register(VARIANTS, problems=("neighbors",))
def ann_benchmarks(f: h5py.File) -> None:
    """As ann-benchmarks writes: 32-bit neighbors."""
    benchmark(f, "euclidean", ids="<i4")
    four_attributes(f, "float")


@register(VARIANTS, problems=("train", "test", "neighbors", "distances"))
def ann_benchmarks_float64(f: h5py.File) -> None:
    """As ann-benchmarks files are found: 64-bit vectors and distances, 32-bit neighbors."""
    benchmark(f, "angular", "<f8", ids="<i4", found="<f8")
    four_attributes(f, "float")


@register(VARIANTS, problems=("train", "test"))
def float16_vectors(f: h5py.File) -> None:
    """Vectors of half precision."""
    benchmark(f, "euclidean", "<f2")


@register(VARIANTS, notes=("train",))
def uint8_small(f: h5py.File) -> None:
    """Unsigned vectors whose values int8 holds too."""
    benchmark(f, "euclidean", "u1")


@register(VARIANTS, value_problems=("train",))
def uint8_large(f: h5py.File) -> None:
    """Unsigned vectors with values that int8 can't hold."""
    benchmark(f, "euclidean", "u1")
    f["train"][59] = 255


@register(VARIANTS, problems=("test",))
def mixed_types(f: h5py.File) -> None:
    """Base and queries of different types."""
    benchmark(f, "euclidean", "<f4", test_dtype="<f8")


@register(VARIANTS, problems=("distance", "train", "test"))
def hamming(f: h5py.File) -> None:
    """Boolean vectors and a metric that only ann-benchmarks knows."""
    benchmark(f, "hamming", "?")
    four_attributes(f, "bit")


@register(VARIANTS, notes=("distance",))
def fixed_length_attributes(f: h5py.File) -> None:
    """Attributes as fixed-length strings."""
    benchmark(f, "angular")
    f.attrs["distance"] = np.bytes_(b"angular")
    f.attrs["type"] = np.bytes_(b"dense")


@register(VARIANTS)
def gzip_shuffle(f: h5py.File) -> None:
    """Compressed in chunks with partial edges."""
    put = partial(chunked, chunks=True, compression="gzip", shuffle=True)
    benchmark(f, "euclidean", put=put)


@register(VARIANTS)
def resizable_chunks(f: h5py.File) -> None:
    """Chunked, uncompressed and resizable."""
    benchmark(f, "angular", put=resizable)


@register(VARIANTS)
def big_endian(f: h5py.File) -> None:
    """Numbers in the other byte order."""
    benchmark(f, "euclidean", ">f4", ids=">i8", found=">f4")


@register(VARIANTS, options={"track_order": True})
def tracked_order(f: h5py.File) -> None:
    """Datasets and attributes in the order they were made."""
    benchmark(f, "euclidean")
    four_attributes(f, "float")


@register(VARIANTS, notes=("categories", "nothing", "history"))
def unknown_members(f: h5py.File) -> None:
    """Members of kinds that no document names: a table, a null dataspace, a scalar, a group."""
    benchmark(f, "euclidean")
    table = np.array([(1, 2.5), (3, 4.5)], dtype=[("a", "i4"), ("b", ">f8")])
    f.create_dataset("categories", data=table)
    f.create_dataset("nothing", data=h5py.Empty("f4"))
    f.create_group("notes").create_dataset("answer", data=42)
    f.attrs["history"] = np.array([[1, 2], [3, 4]], dtype=">u2")


@register(VARIANTS, value_problems=("train",))
def nan_vector(f: h5py.File) -> None:
    """A NaN in the base and an infinity in a query."""
    benchmark(f, "euclidean")
    f["train"][11, 3], f["test"][2, 0] = np.nan, np.inf


@register(VARIANTS, value_problems=("train",))
def zero_vector(f: h5py.File) -> None:
    """A vector without direction, so that its angular distances are NaN."""
    benchmark(f, "angular")
    f["train"][11] = 0
