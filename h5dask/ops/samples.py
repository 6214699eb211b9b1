"""One block of whole structures -> all that its samples have in common, and what errors say of it.

What is lazy and labelled lies in `residues`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.kernels.probabilities import weigh
from h5dask.kernels.profiles import (
    LETTERS,
    UNKNOWN,
    Floats,
    Letters,
    agreement,
    consensus,
    count,
    samples_of,
    shares,
)
from h5dask.ops.references import Matched
from h5dask.ops.runs import Ints
from h5dask.ops.structures import NAMED, Profiles


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """What a task knows of its block beside values."""

    lengths: Ints
    """Residues of each sequence: (sequence,)."""
    profiles: Ints
    """Profile of each, counted from the block's first: (sequence,)."""
    structures: NDArray[Any]
    """Number of each one's structure: (sequence,)."""
    samples: NDArray[Any]
    """Number of each among its structure's samples: (sequence,)."""
    files: NDArray[Any] | None
    """File of each, where they are of several: (sequence,)."""
    unscored: NDArray[np.bool_] | None
    """Which have no logits, where some have: (sequence,)."""
    natives: tuple[Letters, Ints] | None
    """References, and where each profile's begins, if any: (element,), (profile,)."""


def pieces_of(
    profiles: Profiles,
    natives: Matched | None,
    files: NDArray[Any] | None,
    unscored: NDArray[np.bool_] | None,
) -> Iterator[Piece]:
    """Yield what there is to know of each block.

    Files are those of the sequences, if several, and unscored are those without logits, if any.
    """
    table = profiles.structures.index.table
    labels = [
        table[name].values for name in ("structure", "sample", profiles.structures.index.row_size)
    ]
    counted = np.append(0, profiles.ends("profile"))
    start = 0
    for stop in profiles.at:
        rows = slice(profiles.structures.firsts[start], profiles.structures.firsts[stop])
        numbers, samples, lengths = (one[rows] for one in labels)
        given = None
        if natives is not None:
            letters, places = natives.of(start, stop)
            given = letters, np.repeat(places, np.diff(counted[start : stop + 1]))
        yield Piece(
            lengths=lengths.astype(np.int64),
            profiles=profiles.of_sequence[rows] - counted[start],
            structures=numbers,
            samples=samples,
            files=None if files is None else files[rows],
            unscored=None if unscored is None else unscored[rows],
            natives=given,
        )
        start = stop


def profiled(
    sequences: NDArray[Any], *others: Any, background: Floats | None, subject: str
) -> Mapping[str, NDArray[Any]]:
    """Return all results of a block: after its sequences come other values, and its piece.

    What is wrong is told of the subject, a file or "sequences".
    """
    *values, piece = others
    letters = _letters(sequences[:, 0], piece, subject)
    samples = samples_of(piece.lengths, piece.profiles)
    counts = count(letters, samples)
    frequency, bits, diversity = shares(counts, samples)
    found: dict[str, NDArray[Any]] = {
        "frequency": frequency,
        "frequency_entropy": bits,
        "diversity": diversity,
    }
    if background is not None:
        found |= weigh(values[0], letters, samples, background)._asdict()
        with np.errstate(over="ignore"):
            found["perplexity"] = np.exp(found["score"])
        if piece.unscored is not None:
            found["n_bad"][piece.unscored] = 0
        found["rank"] = _ranks(found["score"], piece.profiles, samples.firsts)
    elif values:
        found["rank"] = _ranks(values[0][:, 0], piece.profiles, samples.firsts)
    found["consensus"] = consensus(counts, found.get("pssm", frequency))
    if piece.natives is not None:
        natives, places = piece.natives
        own = places[piece.profiles]
        found["recovery"] = agreement(letters, samples.starts, natives, own)
        common = found["consensus"].astype(np.int8)
        found["consensus_recovery"] = agreement(common, samples.places, natives, places)
    return found


def _letters(values: NDArray[Any], piece: Piece, subject: str) -> Letters:
    """Return amino acids in a byte each; Refused where they are none."""
    outside = np.flatnonzero((values < 0) | (values >= LETTERS))
    if len(outside):
        owners = np.searchsorted(np.cumsum(piece.lengths), outside, side="right")
        told = [
            f"{values[i]} in structure {piece.structures[own]}, sample {piece.samples[own]}"
            + ("" if piece.files is None else f" of {piece.files[own]}")
            for i, own in zip(outside[:NAMED], owners, strict=False)
        ]
        more = f" and {len(outside) - NAMED} more of this block" if len(outside) > NAMED else ""
        raise Refused(
            f"{subject}: found {'; '.join(told)}{more}; expected 0 to {UNKNOWN}; drop those "
            f"samples, or write {UNKNOWN} (X) for what is unknown"
        )
    letters: Letters = values.astype(np.int8)
    return letters


def _ranks(scores: NDArray[Any], profiles: Ints, firsts: Ints) -> Ints:
    """Return how many samples of its profile come before each."""
    order = np.lexsort((scores, profiles))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - firsts[profiles[order]]
    return ranks
