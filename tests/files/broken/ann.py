"""Vector-search benchmarks that break a rule, or are of a kind that isn't read."""

import h5py
import numpy as np

from tests.files.ann import N, Q, benchmark, labelled
from tests.files.variant import Variant, register, renew

BROKEN: dict[str, Variant] = {}
REFUSED: dict[str, Variant] = {}
"""Recognised, and refused in one line that holds the word in `problems`."""


@register(BROKEN, problems=("distance",))
def no_metric(f: h5py.File) -> None:
    """No attribute `distance`."""
    benchmark(f)
    del f.attrs["distance"]


@register(BROKEN, problems=("Euclidean",))
def capital_metric(f: h5py.File) -> None:
    """A metric in another case than the consumer compares."""
    benchmark(f)
    f.attrs["distance"] = "Euclidean"


@register(BROKEN, problems=("distances",))
def missing_distances(f: h5py.File) -> None:
    """Neighbors without distances."""
    benchmark(f)
    del f["distances"]


@register(BROKEN, problems=("test",))
def narrower_test(f: h5py.File) -> None:
    """Queries of fewer columns than the base."""
    benchmark(f)
    renew(f, "test", f["test"][:, :9])


@register(BROKEN, problems=("distances",))
def fewer_distances(f: h5py.File) -> None:
    """Distances of fewer neighbors than there are ids."""
    benchmark(f)
    renew(f, "distances", f["distances"][:, :4])


@register(BROKEN, problems=("neighbors",))
def fewer_queries(f: h5py.File) -> None:
    """Neighbors and distances for 6 of 7 queries."""
    benchmark(f)
    for name in ("neighbors", "distances"):
        renew(f, name, f[name][:6])


@register(BROKEN, problems=("train",))
def flat_train(f: h5py.File) -> None:
    """The base as one long row."""
    benchmark(f)
    renew(f, "train", f["train"][...].ravel())


@register(BROKEN, problems=("test_labels",))
def labels_of_train_only(f: h5py.File) -> None:
    """Labels of the base, none of the queries."""
    labelled(f, [0, 1, 2])
    del f["test_labels"]


@register(BROKEN, problems=("train_labels",))
def fewer_labels(f: h5py.File) -> None:
    """Labels for all rows of the base but one."""
    labelled(f, [0, 1, 2])
    renew(f, "train_labels", f["train_labels"][:-1])


def spoil(f: h5py.File, name: str, where: object, value: float) -> None:
    """Write a whole labelled file, then one other value."""
    f["valid_ratios"] = labelled(f, [0, 1, 2])
    f[name][where] = value


@register(BROKEN, value_problems=("neighbors",))
def padded_neighbors(f: h5py.File) -> None:
    """An id of -1 where a neighbor is missing."""
    spoil(f, "neighbors", (3, 4), -1)


@register(BROKEN, value_problems=("neighbors",))
def neighbor_outside(f: h5py.File) -> None:
    """An id one beyond the last row of the base."""
    spoil(f, "neighbors", (0, 0), N)


@register(BROKEN, value_problems=("distances",))
def squared_distances(f: h5py.File) -> None:
    """Euclidean distances that nobody took the root of."""
    benchmark(f)
    f["distances"][...] = f["distances"][...] ** 2


@register(BROKEN, value_problems=("distances",))
def shifted_products(f: h5py.File) -> None:
    """Inner products of integers stored as 1 - a·b, which is for real vectors only."""
    benchmark(f, "ip", "i1")
    f["distances"][...] = f["distances"][...] + 1


@register(BROKEN, value_problems=("neighbors",))
def neighbors_of_other_labels(f: h5py.File) -> None:
    """Neighbors found without looking at labels."""
    f["train_labels"], f["test_labels"] = np.arange(N) % 3, np.arange(Q) % 3
    benchmark(f)


@register(BROKEN, value_problems=("train_labels",))
def negative_label(f: h5py.File) -> None:
    """A label below zero, by which no ratio can be looked up."""
    spoil(f, "train_labels", 4, -1)


@register(BROKEN, value_problems=("valid_ratios",))
def wrong_ratio(f: h5py.File) -> None:
    """A ratio that isn't the label's share of the base."""
    spoil(f, "valid_ratios", 1, 0.9)


@register(BROKEN, problems=("valid_ratios",))
def integer_ratios(f: h5py.File) -> None:
    """Counts in place of shares."""
    labelled(f, [0, 1, 2])
    f["valid_ratios"] = np.array([20, 20, 20])


@register(REFUSED, problems=("sparse",))
def sparse(f: h5py.File) -> None:
    """Sparse vectors."""
    benchmark(f)
    f.attrs["type"] = "sparse"


@register(REFUSED, problems=("multi_vector",))
def multi_vector(f: h5py.File) -> None:
    """Several vectors a row."""
    benchmark(f)
    f.attrs["type"] = "multi_vector"


@register(REFUSED, problems=("jaccard",))
def jaccard(f: h5py.File) -> None:
    """Sets, which vectors only stand for."""
    benchmark(f)
    f.attrs["distance"] = "jaccard"
