"""big-ann's files of ground truth: headers, and where ids and distances lie, not what they mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from h5dask.errors import CorruptInput, Refused
from h5dask.storage.region import Region, read_words
from h5dask.storage.remote import Source

ID = np.dtype("<i4")
"""The stored dtype of ids and counts."""
DISTANCE = np.dtype("<f4")
"""The stored dtype of distances."""
_HEADER = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthRegions:
    """Where the arrays of a ground truth lie."""

    ids: Region
    """Ids: (query, neighbor), or (pair,) of a search within a radius."""
    distances: Region
    """Distances, of the same shape."""
    counts: Region | None = None
    """Pairs of each query, where the search was within a radius."""

    @property
    def end(self) -> int:
        """Byte offset behind the last value."""
        return self.distances.end


def nearest(n: int, k: int) -> TruthRegions:
    """Return where k neighbors of each of n queries lie: uint32 n, uint32 k, ids, distances."""
    ids = Region(offset=_HEADER, shape=(n, k), dtype=ID.str)
    return TruthRegions(ids=ids, distances=Region(offset=ids.end, shape=(n, k), dtype=DISTANCE.str))


def within(n: int, total: int) -> TruthRegions:
    """Return where all pairs within a radius lie: int32 n, int32 total, counts, ids, distances."""
    counts = Region(offset=_HEADER, shape=(n,), dtype=ID.str)
    ids = Region(offset=counts.end, shape=(total,), dtype=ID.str)
    distances = Region(offset=ids.end, shape=(total,), dtype=DISTANCE.str)
    return TruthRegions(counts=counts, ids=ids, distances=distances)


def find_truth(source: Source) -> TruthRegions:
    """Return where a file's ids and distances lie, by the size that goes with its header.

    Raises
    ------
    CorruptInput
        The size goes with neither form, or counts don't add up to the total.
    Refused
        Both forms fit, which happens with 24 bytes only.
    """
    with source.open() as file:
        n, second = read_words(source, file, "<u4", "the numbers of queries and neighbors")
        forms = nearest(n, second), within(n, second)
        size = source.nbytes
        fitting = [form for form in forms if form.end == size and (second or form.counts)]
        if fitting and fitting[-1].counts is not None:
            counts = np.empty(n, ID)
            file.read_into(_HEADER, memoryview(counts).cast("B"))
            if not _adds_up(counts, second):
                fitting.pop()
    if len(fitting) > 1:
        raise Refused(
            f"{source.url}: found {size} bytes for {n} queries and {second}, which fits both the "
            "nearest of each query and pairs within a radius; add a query, or write it as .ivecs"
        )
    if not fitting:
        raise CorruptInput(
            f"{source.url}: found {size:,} bytes, expected {forms[0].end:,} for {second:,} "
            f"neighbors of {n:,} queries, or {forms[1].end:,} for {second:,} pairs of so many "
            "whose counts add up to that; copy or download it again"
        )
    return fitting[0]


def read_counts(source: Source, region: Region) -> NDArray[np.int64]:
    """Return how many pairs each query has."""
    found: NDArray[np.int64] = region.array(source, "counts")[:].astype(np.int64)
    return found


def header(n: int, second: int) -> bytes:
    """Return the header of either form.

    Raises
    ------
    Refused
        It can't tell of so many; int32, so that both readings of it agree.
    """
    if max(n, second) > np.iinfo(ID).max:
        raise Refused(
            f"ground truth of {n:,} queries and {second:,}: found more than the "
            f"{np.iinfo(ID).max:,} that the header can tell of; write it in parts"
        )
    return np.array([n, second], ID).tobytes()


def _adds_up(counts: NDArray[np.int32], total: int) -> bool:
    return bool((counts >= 0).all()) and int(counts.sum(dtype=np.int64)) == total
