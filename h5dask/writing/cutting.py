"""Where a planned file's values fall among the parts of an upload. Nothing is computed or sent."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.chunkindex import ChunkIndex, Ints
from h5dask.storage.holes import between_holes
from h5dask.storage.stores.uploads import part_nbytes
from h5dask.storage.write import runs_of
from h5dask.writing.delivery import Ordinal, values_of
from h5dask.writing.drafting import Transfer
from h5dask.writing.placing import Target, by_kind
from h5dask.writing.planning import FilePlan
from h5dask.writing.sending import Patches, by_part

WAITING = 192 << 20
"""Bytes that may wait for the rest of their parts, all workers together ..."""
_WAITING_PARTS = 4
"""... or that of so many parts, if it is more."""
_NARROW, _SO_MANY = 1024, 1 << 20
"""Mean bytes of runs that aren't worth looking at one by one, and how many are looked at."""
_CARRIED = 8 << 20
"""Bytes of the skeleton that tasks may carry: those that share a part with values."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cutting:
    """How a file falls into parts, and what each needs."""

    nbytes: int
    """The file's size."""
    values: Mapping[str, da.Array]
    """The variables."""
    targets: Mapping[str, Target]
    """Where the blocks of each belong."""
    alone: NDArray[np.bool_]
    """Of each part, whether one block fills it by itself."""
    needs: Mapping[int, list[tuple[str, Ordinal]]]
    """The blocks that share a part, for each such part."""
    nbytes_needed: Mapping[int, int]
    """Bytes that they have in it."""
    patches: Mapping[int, Patches]
    """What the skeleton has in parts that hold values."""
    plain: Sequence[int]
    """Parts without values."""


def cut(
    ds: xr.Dataset,
    planned: FilePlan,
    indexes: Mapping[str, ChunkIndex],
    skeleton: str,
    url: str,
    *,
    later: bool = False,
) -> Cutting | None:
    """Return how a file is cut into parts that tasks can make, None where they'd hold too much.

    Parameters
    ----------
    ds : Dataset
        Whose values are written.
    planned : FilePlan
        Which part of which variable each dataset takes; none of them has filters.
    indexes : mapping of str to ChunkIndex
        By path, where the bytes of each dataset belong.
    skeleton : str
        Local path of the skeleton, which may be sparse.
    url : str
        The target, for messages.
    later : bool, default False
        Whether values in memory may change before the tasks run, so that they take a copy.
    """
    transfers: dict[str, list[Transfer]] = defaultdict(list)
    for transfer in planned.transfers:
        transfers[transfer.variable].append(transfer)
    values = {name: values_of(ds, name, later) for name in transfers}
    targets = {
        name: Target.of(url, name, some, indexes, values[name].chunks)
        for name, some in transfers.items()
    }
    nbytes = os.stat(skeleton).st_size
    n = -(-nbytes // part_nbytes(nbytes))
    if n < 2:
        return None
    shares = _shares(targets, part_nbytes(nbytes))
    if shares is None:
        return None
    blocks_of = np.zeros(n, np.int64)
    for _, _, parts, _ in shares:
        blocks_of[parts] += 1
    patches = _patches(skeleton, part_nbytes(nbytes), blocks_of > 0)
    patched = np.isin(np.arange(n), list(patches))
    alone = (blocks_of == 1) & ~patched
    needs: dict[int, list[tuple[str, Ordinal]]] = defaultdict(list)
    needed: dict[int, int] = defaultdict(int)
    for name, at, parts, counts in shares:
        for part, count in zip(parts.tolist(), counts.tolist(), strict=True):
            if not alone[part]:
                needs[part].append((name, at))
                needed[part] += count
    carried = sum(len(raw) for some in patches.values() for _, raw in some)
    if carried > _CARRIED or _waiting(shares, alone) > _most_waiting(nbytes):
        return None
    return Cutting(
        nbytes=nbytes,
        values=values,
        targets=targets,
        alone=alone,
        needs=needs,
        nbytes_needed=needed,
        patches=patches,
        plain=np.flatnonzero(blocks_of == 0).tolist(),
    )


_Share = tuple[str, Ordinal, Ints, Ints]
"""Variable and place of a block, the parts that it has bytes in, and how many in each."""


def _shares(targets: Mapping[str, Target], size: int) -> list[_Share] | None:
    """Return what each block has in which parts, in the order of the blocks' first bytes.

    None where too many runs are too short.
    """
    found, n_runs, total = [], 0, 0
    for name, target in targets.items():
        for at in np.ndindex(*(len(axis) - 1 for axis in target.borders)):
            counts: dict[int, int] = defaultdict(int)
            first = -1
            for offsets, nbytes in _runs(target, at):
                n_runs, total = n_runs + len(offsets), total + int(nbytes.sum())
                if n_runs > _SO_MANY and total < _NARROW * n_runs:
                    return None
                first = int(offsets.min()) if first < 0 else min(first, int(offsets.min()))
                _add(counts, offsets, nbytes, size)
            if counts:
                parts = np.array(sorted(counts), np.int64)
                found.append((first, name, at, parts, np.array([counts[p] for p in parts])))
    found.sort(key=lambda share: share[0])
    return [(name, at, parts, counts) for _, name, at, parts, counts in found]


def _runs(target: Target, at: Ordinal) -> Iterator[tuple[Ints, Ints]]:
    """Yield offset and bytes of the runs in the file that one block fills, padding included."""
    for (dtype, _), filled in by_kind(target.pieces(at), target.shape(at)).items():
        yield from runs_of(target.file, [box for *_, box in filled], dtype)


def _add(counts: dict[int, int], offsets: Ints, nbytes: Ints, size: int) -> None:
    """Add to the bytes by part those of some runs."""
    first, last = offsets // size, (offsets + nbytes - 1) // size
    inside = first == last
    parts, at = np.unique(first[inside], return_inverse=True)
    sums = np.zeros(len(parts), np.int64)
    np.add.at(sums, at, nbytes[inside])
    for part, n in zip(parts.tolist(), sums.tolist(), strict=True):
        counts[part] += n
    for offset, n in zip(offsets[~inside].tolist(), nbytes[~inside].tolist(), strict=True):
        for part, _, length in by_part(offset, n, size):
            counts[part] += length


def _patches(skeleton: str, size: int, holds_values: NDArray[np.bool_]) -> dict[int, Patches]:
    """Return what the skeleton has in parts that hold values, too."""
    found: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
    for offset, raw in between_holes(skeleton):
        done = 0
        for part, at, n in by_part(offset, len(raw), size):
            if holds_values[part]:
                found[part].append((at, raw[done : done + n]))
            done += n
    return {**found}


def _waiting(shares: Sequence[_Share], alone: NDArray[np.bool_]) -> int:
    """Return the most bytes that wait at any time for the rest of their parts, block by block."""
    last = np.full(len(alone), -1)
    for i, (_, _, parts, _) in enumerate(shares):
        last[parts] = i
    change = np.zeros(len(shares) + 1, np.int64)
    for i, (_, _, parts, counts) in enumerate(shares):
        held = ~alone[parts]
        change[i] += counts[held].sum()
        np.subtract.at(change, last[parts[held]] + 1, counts[held])
    return int(np.cumsum(change).max())


def _most_waiting(nbytes: int) -> int:
    return max(WAITING, _WAITING_PARTS * part_nbytes(nbytes))
