"""Sequences as letters: whose residues are whose, blocks of whole sequences, strings.

How letters are written to files, and read from them, isn't known here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from numpy.typing import NDArray

from h5dask.blocks import BLOCK_SIZE
from h5dask.errors import LayoutError, Refused
from h5dask.indexes import Labels, RaggedIndex
from h5dask.losses import compute
from h5dask.ops.runs import cuts, in_runs

ALPHABET = "ACDEFGHIKLMNPQRSTVWYX"
"""The letters of the indices, where a Dataset's `aa` doesn't name others."""
SEQUENCES, LETTER = "sequences", "aa"
"""The variable of indices, and the coord of their letters."""
STRUCTURE, NAME = "structure", "structure_id"
"""The labels of a sequence's structure: its number, its name."""
FIELDS = (STRUCTURE, "sample", "noise", "temperature")
"""Labels that say which sequence it is."""
NUMBERED = re.compile(rf"{STRUCTURE}_(0|[1-9][0-9]{{0,17}})")
"""The name of a structure that has none but its number."""

_UNFIT = re.compile(r"[\s>=\ud800-\udfff]|,\Z")
"""What would end a name in a header or make it a field, or can't be written."""
_LETTERS = re.compile(r"[A-Z*.-]{20,256}")

Ints = NDArray[np.int64]


def letters(ds: xr.Dataset) -> xr.DataArray:
    """Return sequences as strings.

    Parameters
    ----------
    ds : Dataset
        As for `write_fasta`.

    Returns
    -------
    DataArray
        (sequence) objects, lazy where `sequences` is, in blocks that end where sequences do; with
        all coords of the sequences but their sizes, which form `Labels`. Memory per task: two
        blocks of indices, and some 100 bytes a sequence.

    Raises
    ------
    Refused, LayoutError
        As for `write_fasta`.

    Examples
    --------
    >>> import h5dask
    >>> from h5dask.testing import example_file
    >>> found = letters(h5dask.open_dataset(example_file("proteins")))
    >>> found.sel(structure=3, sample=0).values
    array(['VQMGH', 'ACAEV'], dtype=object)
    """
    index = owning(ds)
    names, of = named(index, {})
    column = np.array(list(names.values()), object)[of]
    values, runs, counts = whole_runs(ds, index, column, FIELDS[1:])
    strings = da.map_blocks(
        _strings, values, runs, alphabet=alphabet_of(ds), dtype=object,
        name=f"letters-{tokenize(runs.name, alphabet_of(ds))}", chunks=(counts,),
        meta=np.empty(0, object),
    )  # fmt: skip
    found = ds.assign({"letters": (index.dim, strings)})["letters"]
    found = found.set_xindex([n for n in index.table.names if n != index.row_size], Labels)
    return found if ds[SEQUENCES].chunks is not None else found.copy(data=compute(strings)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Neighboring sequences whose residues are one block."""

    sizes: Ints
    """Residues of each."""
    names: Sequence[str]
    """Name of each."""
    labels: Mapping[str, NDArray[Any]]
    """What headers tell of each, by field."""
    files: NDArray[Any]
    """Where each is from: their files, or one for all."""

    def headers(self) -> list[str]:
        """Return what each is called, its labels behind the name."""
        told = [[f" {key}={one}" for one in had.tolist()] for key, had in self.labels.items()]
        return ["".join(parts) for parts in zip(self.names, *told, strict=True)]


def owning(ds: xr.Dataset) -> RaggedIndex:
    """Return the index that says which sequence owns which residues."""
    if SEQUENCES not in ds.variables:
        raise LayoutError(
            f"{SEQUENCES}: found {', '.join(map(str, ds.variables)) or 'nothing'}; expected this "
            "variable, as an opened file of sampled sequences has it"
        )
    values = ds[SEQUENCES]
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise LayoutError(
            f"{SEQUENCES}: found {values.dtype} {values.dims!r}; expected integers along one dim, "
            "sequences end to end; split padded ones, and convert others with astype"
        )
    for index in ds.xindexes.get_unique():
        if isinstance(index, RaggedIndex) and index.ragged_dim == values.dims[0]:
            break
    else:
        raise Refused(
            f"{SEQUENCES}: found no index that says which {values.dims[0]} is whose; isel drops "
            "it; select by label (sel), or by position (take)"
        )
    index.refuse_cut(values.size)
    if STRUCTURE not in index.table.names:
        raise LayoutError(
            f"{index.dim}: found labels {index.table.names!r}; expected {STRUCTURE!r} among them"
        )
    return index


def alphabet_of(ds: xr.Dataset) -> bytes:
    """Return the letter of each index."""
    if LETTER not in ds.coords:
        return ALPHABET.encode()
    text = "".join(map(str, np.ravel(ds[LETTER].values)))
    if len(text) != ds[LETTER].size or not _LETTERS.fullmatch(text):
        raise LayoutError(
            f"{LETTER}: found the labels {text!r}; expected the letter of every index, capitals, "
            f"20 or more, as in {ALPHABET!r}; make letters before selecting along it"
        )
    return text.encode()


def fitting(name: str) -> str:
    """Return a name as a header has it."""
    return _UNFIT.sub("_", name)


def named(index: RaggedIndex, names: Mapping[int, str]) -> tuple[dict[int, str], Ints]:
    """Return the name of each structure by number, and which of them each sequence is of."""
    found, first, of = np.unique(
        index.table[STRUCTURE].values, return_index=True, return_inverse=True
    )
    numbers = found.tolist()
    if names and not any(number in names for number in numbers):
        raise Refused(
            f"names: found the keys {list(names)[:5]!r}, none of which is a structure; expected "
            f"numbers such as {numbers[:5]!r}; correct them, or leave names out"
        )
    ids = [""] * len(numbers)
    if NAME in index.table.names:
        ids = index.table[NAME].values[first].tolist()
    pairs = zip(numbers, ids, strict=True)
    return {n: str(names.get(n) or told or f"{STRUCTURE}_{n}") for n, told in pairs}, of


def whole_runs(
    ds: xr.Dataset, index: RaggedIndex, names: NDArray[Any], fields: Sequence[str]
) -> tuple[da.Array, da.Array, tuple[int, ...]]:
    """Return residues in blocks that end where sequences do, the run of each, and its length."""
    values = ds[SEQUENCES].data
    if not isinstance(values, da.Array):
        values = da.from_array(np.asarray(values), max(1, BLOCK_SIZE // values.dtype.itemsize))
    ends = index.offsets[1:]
    at = cuts(values.chunks[0], ends)
    whole = in_runs(values, ends, at)
    borders = np.append(0, at).tolist()
    labels = {field: index.table[field].values for field in fields if field in index.table.names}
    files = ds["source"].values if "source" in ds.coords else None
    one_file = np.array([ds.encoding.get("source", SEQUENCES)], object)
    runs = np.empty(len(at), object)
    runs[:] = [
        Run(
            sizes=np.diff(index.offsets[a : b + 1]),
            names=names[a:b].tolist(),
            labels={field: column[a:b] for field, column in labels.items()},
            files=one_file if files is None else files[a:b],
        )
        for a, b in pairwise(borders)
    ]
    name = f"runs-{tokenize(whole.name, index.offsets, names, labels, files, one_file)}"
    return whole, da.from_array(runs, 1, name=name), tuple(np.diff(borders).tolist())


def _strings(values: NDArray[Any], runs: NDArray[Any], *, alphabet: bytes) -> NDArray[Any]:
    (run,) = runs
    text = spelled(values, run, alphabet).decode()
    borders = np.append(0, np.cumsum(run.sizes)).tolist()
    return np.array([text[a:b] for a, b in pairwise(borders)], object)


def spelled(values: NDArray[Any], run: Run, alphabet: bytes) -> bytes:
    """Return the letter of each index; LayoutError names the first that has none."""
    if values.size and not 0 <= values.min() <= values.max() < len(alphabet):
        wrong = np.flatnonzero((values < 0) | (values >= len(alphabet)))[0]
        ends = np.cumsum(run.sizes)
        owner = int(np.searchsorted(ends, wrong, side="right"))
        at = int(wrong - ends[owner] + run.sizes[owner])
        raise LayoutError(
            f"{run.files[owner % len(run.files)]}: {run.headers()[owner]}: found "
            f"{int(values[wrong])!r} at residue {at:,}; "
            f"expected 0 to {len(alphabet) - 1}, the indices of {alphabet.decode()}; drop that "
            "sample, or write the index of X for what is unknown"
        )
    # As bytes, since numpy would make an int64 of each index first.
    return values.astype(np.uint8).tobytes().translate(alphabet.ljust(256))
