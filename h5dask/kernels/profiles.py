"""Sequences of several samples: amino acids counted and compared, place by place.

What the figures mean for labelled arrays lies elsewhere.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from h5dask.kernels.compile import inlined, kernel

LETTERS = 21
"""Amino acids; the last stands for what is unknown (X)."""
UNKNOWN = LETTERS - 1

Letters = NDArray[np.int8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Shares = NDArray[np.float32]


class Samples(NamedTuple):
    """Which sequences of a block are samples of which profile."""

    starts: Ints
    """Where the residues of each sequence begin, and the last one's end: (sequence + 1)."""
    order: Ints
    """The sequences, profile by profile: (sequence,)."""
    firsts: Ints
    """Where the sequences of each profile begin in that order, and the end: (profile + 1)."""
    places: Ints
    """Where the positions of each profile begin, and the last one's end: (profile + 1)."""


def samples_of(lengths: Ints, profiles: Ints) -> Samples:
    """Return which sequences are samples of which profile.

    Parameters
    ----------
    lengths : (sequence,) int64
        Residues of each sequence; the same for all of a profile.
    profiles : (sequence,) int64
        Profile of each; every number from 0 to the largest is there.

    Examples
    --------
    >>> found = samples_of(np.array([2, 2, 5]), np.array([0, 0, 1]))
    >>> found.starts.tolist(), found.firsts.tolist(), found.places.tolist()
    ([0, 2, 4, 9], [0, 2, 3], [0, 2, 7])
    """
    order = np.argsort(profiles, kind="stable")
    firsts = np.searchsorted(profiles[order], np.arange(profiles.max(initial=-1) + 2))
    own = lengths[order[firsts[:-1]]]
    return Samples(_offsets(lengths), order, firsts.astype(np.int64), _offsets(own))


def _offsets(lengths: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def count(letters: Letters, samples: Samples) -> NDArray[np.int32]:
    """Return how many samples have each letter: (position, letter) int32.

    Parameters
    ----------
    letters : (residue,) int8
        0 to 20, the sequences end to end.
    samples : Samples
        Whose they are.

    Examples
    --------
    >>> two = samples_of(np.array([2, 2]), np.array([0, 0]))
    >>> count(np.array([0, 3, 0, 2], np.int8), two)[:, :4].tolist()
    [[2, 0, 0, 0], [0, 0, 1, 1]]
    """
    counts = np.zeros((samples.places[-1], LETTERS), np.int32)
    _count(letters, samples, counts)
    return counts


def shares(counts: NDArray[np.int32], samples: Samples) -> tuple[Shares, Floats, Floats]:
    """Return what counts say of positions and profiles.

    Returns
    -------
    frequency : (position, letter) float32
        Share of the samples that have the letter.
    entropy : (position,) float64
        Of these shares, in bits.
    diversity : (profile,) float64
        Mean over positions of the share of pairs of samples that differ; NaN where there are no
        pairs or no positions.

    Examples
    --------
    >>> two = samples_of(np.array([2, 2]), np.array([0, 0]))
    >>> frequency, entropy, diversity = shares(count(np.array([0, 3, 0, 2], np.int8), two), two)
    >>> frequency[1, :4].tolist(), entropy.tolist(), diversity.tolist()
    ([0.0, 0.0, 0.5, 0.5], [0.0, 1.0], [0.5])
    """
    n = samples.firsts[1:] - samples.firsts[:-1]
    found = (
        np.empty(counts.shape, np.float32),
        np.empty(len(counts)),
        np.empty(len(n)),
    )
    terms = np.empty((2, n.max(initial=0) + 1))
    _share(counts, samples, terms, *found)
    return found


def consensus(counts: NDArray[np.int32], weights: Shares) -> NDArray[np.int32]:
    """Return the letter that most samples have: (position,) int32.

    Parameters
    ----------
    counts : (position, letter) int32
        Samples that have each letter.
    weights : (position, letter) float32
        None negative. Of equal counts the one with the larger weight is taken, of equal ones, or
        where all are NaN, the lower letter.

    Examples
    --------
    >>> counts, weights = np.zeros((1, 21), np.int32), np.zeros((1, 21), np.float32)
    >>> counts[0, :3], weights[0, :3] = [1, 2, 2], [0.5, 0.2, 0.3]
    >>> consensus(counts, weights)
    array([2], dtype=int32)
    """
    found = np.empty(len(counts), np.int32)
    _choose(counts, weights.view(np.int32), found)
    return found


def agreement(letters: Letters, starts: Ints, reference: Letters, places: Ints) -> Floats:
    """Return the share of letters that are those of a reference: (row,) float64.

    Parameters
    ----------
    letters : (residue,) int8
        Rows end to end.
    starts : (row + 1,) int64
        Where each begins, and the last one ends.
    reference : (element,) int8
        What they are compared with; where it is unknown (X) nothing is.
    places : (row,) int64
        Where the reference of each row begins; -1 where it has none.

    Returns
    -------
    (row,) float64
        NaN where nothing is compared.

    Examples
    --------
    >>> letters = np.array([4, 5, 4, 6], np.int8)
    >>> agreement(letters, np.array([0, 2, 4]), letters[:2], np.array([0, 0])).tolist()
    [1.0, 0.5]
    """
    found = np.empty(len(places))
    _agree(letters, starts, reference, places, found)
    return found


@kernel
def _count(letters: Letters, samples: Samples, counts: NDArray[np.int32]) -> None:
    for p in range(len(samples.places) - 1):
        own = counts[samples.places[p] : samples.places[p + 1]]
        for k in range(samples.firsts[p], samples.firsts[p + 1]):
            s = samples.order[k]
            row = letters[samples.starts[s] : samples.starts[s + 1]]
            for i in range(len(row)):
                own[i, row[i]] += 1


@kernel
def _share(
    counts: NDArray[np.int32],
    samples: Samples,
    terms: Floats,
    frequency: Shares,
    entropy: Floats,
    diversity: Floats,
) -> None:
    """Write shares, their entropies, and how many pairs differ.

    What a count says is in `terms` (what, count), which are made anew where there are more or
    less samples than before.
    """
    known = np.int64(0)
    for p in range(len(samples.places) - 1):
        n = samples.firsts[p + 1] - samples.firsts[p]
        if n != known:
            known = n
            for c in range(n + 1):
                terms[0, c] = c / n
                terms[1, c] = -(c / n) * np.log2(c / n) if c else 0.0
        alike = np.int64(0)
        for i in range(samples.places[p], samples.places[p + 1]):
            bits = 0.0
            for a in range(LETTERS):
                n_here = np.int64(counts[i, a])
                frequency[i, a] = terms[0, n_here]
                bits += terms[1, n_here]
                alike += n_here * n_here
            entropy[i] = bits
        length = samples.places[p + 1] - samples.places[p]
        pairs = np.float64(length * n * (n - 1))
        diversity[p] = np.divide(np.float64(length * n * n - alike), pairs)


@inlined
def _key(count: Any, weight: Any, place: int) -> Any:
    return np.int64(count) << 36 | (np.int64(weight) & 0x7FFFFFFF) << 5 | place  # NaN has a sign


@kernel
def _choose(
    counts: NDArray[np.int32], weights: NDArray[np.int32], found: NDArray[np.int32]
) -> None:
    """Write the letter of the largest count, weight (as bits), and distance from the last letter.

    The three are compared as one number of 27, 31 and 5 bits, so that no branch is guessed.
    """
    for i in range(len(counts)):
        most = np.int64(0)
        for a in range(LETTERS):
            key = _key(counts[i, a], weights[i, a], UNKNOWN - a)
            most = max(most, key)
        found[i] = UNKNOWN - (most & 31)


@kernel
def _agree(letters: Letters, starts: Ints, reference: Letters, places: Ints, found: Floats) -> None:
    for s in range(len(places)):
        n_same, n_known = 0, 0
        if places[s] >= 0:
            row = letters[starts[s] : starts[s + 1]]
            own = reference[places[s] : places[s] + len(row)]
            for i in range(len(row)):
                known = own[i] != UNKNOWN
                n_known += known
                n_same += known and row[i] == own[i]
        found[s] = np.divide(np.float64(n_same), np.float64(n_known))


def call_each() -> None:
    """Call every kernel of this file once."""
    one = samples_of(np.ones(1, np.int64), np.zeros(1, np.int64))
    letters = np.zeros(1, np.int8)
    counts = count(letters, one)
    frequency, _, _ = shares(counts, one)
    consensus(counts, frequency)
    agreement(letters, one.starts, letters, one.order)
