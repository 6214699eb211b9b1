"""What the samples of each structure have in common, residue by residue; nothing is loaded.

What becomes of one block lies in `samples`, which structures there are in `structures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.kernels.profiles import LETTERS
from h5dask.ops.choosing import is_lazy
from h5dask.ops.cost import Cost, Forms, reading
from h5dask.ops.folding import Index, fold
from h5dask.ops.ragged import presence
from h5dask.ops.references import Background, background_of, matched
from h5dask.ops.samples import Piece, pieces_of, profiled
from h5dask.ops.structures import APART, OF, TOLD, Profiles, Structures

RESULTS: Mapping[str, tuple[tuple[str, ...], Any, str]] = {
    "frequency": (("position", "aa"), np.float32, "share of samples with an amino acid"),
    "frequency_entropy": (("position",), np.float64, "entropy of frequency, bits"),
    "consensus": (("position",), np.int32, "most frequent amino acid"),
    "diversity": (("profile",), np.float64, "share of pairs of samples that differ, mean"),
    "consensus_recovery": (
        ("profile",),
        np.float64,
        "share of consensus equal to reference, without its X",
    ),
    "recovery": (("sequence",), np.float64, "share of residues equal to reference, without its X"),
    "pssm": (("position", "aa"), np.float32, "mean probability of an amino acid"),
    "log_odds": (("position", "aa"), np.float32, "log2 of pssm without X over background"),
    "entropy": (("position",), np.float64, "entropy of pssm, bits"),
    "score": (("sequence",), np.float64, "mean of -log p of the amino acids, nats"),
    "perplexity": (("sequence",), np.float64, "exp of score"),
    "n_bad": (("sequence",), np.int64, "number of residues whose logits have no softmax"),
    "rank": (("sequence",), np.int64, "number of samples of the profile that come before"),
}
"""What `profile` computes: dims, type, what it is."""
_OF_REFERENCE = {"recovery", "consensus_recovery"}
_OF_LOGITS = {"pssm", "log_odds", "entropy", "score", "perplexity", "n_bad"}
_FLOPS = 40
"""Operations that a logit takes, about."""
_POSITION = 4 * LETTERS * 4 + 3 * 8
"""Bytes that are found of a position, and the sums they are made of."""


def profile(
    ds: xr.Dataset, *, reference: xr.Dataset | None = None, background: Background | None = None
) -> xr.Dataset:
    """Return what the samples of each structure have in common, residue by residue.

    A profile is of all samples of one structure at one noise level and temperature.

    Parameters
    ----------
    ds : Dataset
        `sequences` (residue) int, 0 to 20, of which rows labelled `structure`, `sample`, `noise`
        and `temperature` own parts; `logits` (residue, aa) float16, float32 or float64, and
        `pseudo_perplexity` (sequence), where it has them. Sequences of a structure are of one
        length and side by side, in any order.
    reference : Dataset, optional
        Sequences to compare with, in the same form, one a structure; loaded. They are matched by
        `structure_id` where every structure on both sides has one, and the reference each but
        once, else by `structure`; with a warning where that may be but the reference's order.
    background : mapping of str to float, or sequence of float, optional
        Shares of the 20 known amino acids, by letter or in the order of `aa`, of any sum; equal
        ones by default. It serves `log_odds` alone, and without logits isn't looked at.

    Returns
    -------
    Dataset
        Lazy where ds is. Profiles are in the order in which structures appear, then of noise,
        then of temperature; each owns as many positions as its structure has residues.
        Sequences are those of ds.

        - `frequency` (position, aa) float32: share of the samples with each amino acid;
        - `frequency_entropy` (position) float64: its entropy, in bits;
        - `consensus` (position) int32: the most frequent amino acid, of equal ones the one with
          the larger `pssm`, of equal ones the lower;
        - `n_samples` (profile) int64, in memory;
        - `diversity` (profile) float64: mean over positions of the share of pairs of samples that
          differ there, NaN for one sample;
        - `pseudo_perplexity` (sequence), as it is.

        With logits:

        - `pssm` (position, aa) float32: mean over samples of the softmax;
        - `log_odds` (position, aa) float32: binary logarithm of `pssm`, as shares of the letters
          other than X, over the background; NaN for X;
        - `entropy` (position) float64: of `pssm`, in bits;
        - `score` (sequence) float64: mean over residues of -log of the probability of the amino
          acid that is there, in nats; `perplexity` (sequence) float64: exp of it;
        - `n_bad` (sequence) int64: residues whose logits hold NaN or infinity, or nothing but
          minus infinity. They make `score` NaN, and at their positions what comes of `pssm`. A
          sequence whose file has no logits of it (`has_logits` says no) has NaN and 0 of these;
        - `rank` (sequence) int64: how many samples of the profile have a lower score, of equal
          ones those before it; NaN comes last. Without logits, of `pseudo_perplexity`.

        With a reference:

        - `recovery` (sequence) and `consensus_recovery` (profile) float64: of the residues where
          the reference isn't X, the share that are those of the reference; NaN without any. So
          ``(sequences == reference).mean()``, which counts X too, differs where there is X.

        Coords: `structure`, `noise`, `temperature`, `structure_id` where there is one, and
        `row_size` (profile), which select profiles and positions together, and leave sequences
        whole: these tell their own labels as `sample`, `of_structure`, `of_noise`,
        `of_temperature` and `of_structure_id` (sequence); `aa`. So
        ``found.sel(structure=3, of_structure=3)`` cuts all three, and
        ``found.score.groupby("of_structure").mean()`` and ``ds.assign(score=found.score)`` work.
        Any blocks give the same bits. Computing any or all of it reads each block once. Memory
        per task: a block, which holds whole structures, twice where some lie on a border between
        blocks, and 360 bytes a position.

    Raises
    ------
    Refused
        Variables, labels, reference or background don't fit; says all faults of one kind. When
        computed: a value isn't 0 to 20; names structure and sample.

    Warns
    -----
    UserWarning
        If structures have no reference, or one of a name that isn't theirs; says which.

    Examples
    --------
    >>> import h5dask
    >>> from h5dask.testing import example_file
    >>> ds = h5dask.open_dataset(example_file("proteins"))
    >>> found = profile(ds)
    >>> dict(found.sizes)
    {'profile': 4, 'sequence': 8, 'aa': 21, 'position': 22}
    >>> found.sel(structure=3, noise=0).entropy.shape
    (5,)
    >>> found.score.sel(of_structure=3).of_noise.values
    array([0, 1, 0, 1], dtype=int32)
    """
    if not (reference is None or isinstance(reference, xr.Dataset)):
        shape = f" of shape {reference.shape!r}" if hasattr(reference, "shape") else ""
        raise Refused(
            f"reference: found a {type(reference).__name__}{shape}; expected a Dataset; open it: "
            "read_fasta(path), or open_dataset(path)"
        )
    structures = Structures.of(ds, "sequences", ("sample", *APART))
    inputs = _inputs(ds)
    known = background_of(background, ds) if "logits" in inputs else None
    natives = None if reference is None else matched(structures, reference)
    profiles = _in_blocks(structures, inputs)
    files = ds["source"].values if "source" in ds.coords else None
    subject = str(ds.encoding.get("source", "sequences") if files is None else "sequences")
    folded = fold(
        [profiles.cut(x) for x in inputs.values()],
        (1,),
        partial(profiled, background=known, subject=subject),
        itemgetter(0),  # blocks along an axis that is whole: there is nothing to merge
        name="profile",
        extras=partial(_at, tuple(pieces_of(profiles, natives, files, _unscored(ds)))),
    )
    result = _labels(ds, profiles)
    for name in _names(inputs, with_reference=natives is not None):
        (dim, *last), dtype, title = RESULTS[name]
        values = folded.array(
            name,
            itemgetter(name),
            (profiles.chunks(dim), *((LETTERS,) for _ in last)),
            np.dtype(dtype),
            last=len(last),
        )
        result[name] = ((dim, *last), values, {"long_name": title})
    return result if any(map(is_lazy, inputs.values())) else result.compute()


def _in_blocks(structures: Structures, inputs: Mapping[str, xr.DataArray]) -> Profiles:
    """Return profiles in blocks of which no more is found, about, than the blocks read hold."""
    largest = inputs.get("logits", inputs["sequences"])
    n_samples = max(1, int(structures.firsts[-1])) / max(1, len(structures.numbers))
    parts = round(_POSITION * len(largest) / n_samples / max(1, largest.nbytes))
    return Profiles.of(structures, largest, max(1, parts) if "logits" in inputs else 1)


def profile_cost(ds: xr.Dataset, *, stored: Forms | None = None) -> Cost:
    """Return what `profile` takes.

    Parameters
    ----------
    ds : Dataset
        As in `profile`.
    stored : mapping of str to Stored, optional
        How the variables are stored.

    Examples
    --------
    >>> import h5dask
    >>> from h5dask.testing import example_file
    >>> cost = profile_cost(h5dask.open_dataset(example_file("proteins")))
    >>> cost.n_blocks, cost.read, cost.flops
    (2, 3872, 38720.0)
    """
    structures = Structures.of(ds, "sequences", ("sample", *APART))
    inputs = _inputs(ds)
    profiles = _in_blocks(structures, inputs)
    read = reading(xr.Dataset(inputs), stage="profile", stored=stored)
    memory = read.memory + _POSITION * max(profiles.chunks("position"))
    for x in inputs.values():
        lengths = profiles.chunks(x.dims[0])
        is_cut = x.chunks is not None and x.chunks[0] != lengths
        copies = is_cut + 2 * (x.dtype == np.float16)
        memory += copies * max(lengths) * x.nbytes // max(len(x), 1)
    return replace(
        read,
        n_tasks=(len(RESULTS) + 2) * len(profiles.at),
        flops=float(_FLOPS * sum(x.size for x in inputs.values())),
        memory=memory,
    )


def _inputs(ds: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the variables that are read, those along residues first."""
    inputs = {"sequences": ds["sequences"]}
    if "logits" in ds:
        logits = ds["logits"]
        if set(logits.dims) != {"residue", "aa"} or logits.sizes["aa"] != LETTERS:
            raise Refused(
                f"logits: found {dict(logits.sizes)!r}; expected residue and aa, of {LETTERS} "
                "amino acids; drop them (ds.drop_vars), or give them as sequences have them"
            )
        if logits.dtype.kind != "f" or logits.dtype.itemsize > 8:
            raise Refused(
                f"logits: found {logits.dtype}; expected float16, float32 or float64; convert "
                "them (astype)"
            )
        inputs["logits"] = logits.transpose("residue", "aa")
    if "pseudo_perplexity" in ds:
        perplexity = ds["pseudo_perplexity"]
        if perplexity.dims != ("sequence",):
            raise Refused(
                f"pseudo_perplexity: found dims {perplexity.dims!r}; expected sequence alone; drop "
                "it (ds.drop_vars), or give it as sequences have it"
            )
        if "logits" not in inputs:
            inputs["pseudo_perplexity"] = perplexity
    return inputs


def _unscored(ds: xr.Dataset) -> NDArray[np.bool_] | None:
    """Return which sequences have no logits, where some have: (sequence,)."""
    there = ds.coords.get(presence("logits"))
    return None if there is None or "logits" not in ds else ~there.values.astype(np.bool_)


def _names(inputs: Mapping[str, Any], *, with_reference: bool) -> list[str]:
    """Return the results that there are."""
    needed = (
        (_OF_LOGITS, "logits" in inputs),
        (_OF_REFERENCE, with_reference),
        ({"rank"}, len(inputs) > 1),
    )
    absent = {name for names, is_there in needed if not is_there for name in names}
    return [name for name in RESULTS if name not in absent]


def _labels(ds: xr.Dataset, profiles: Profiles) -> xr.Dataset:
    """Return the coords of a result, and what is known without reading."""
    table = profiles.structures.index.table
    names = {"sample": "sample"} | {OF + name: name for name in TOLD if name in table.names}
    result = xr.Dataset(coords=xr.Coordinates.from_xindex(profiles.index)).assign_coords(
        {of: ("sequence", table[name].values) for of, name in names.items()}
    )
    if "aa" in ds.coords:
        result = result.assign_coords(aa=ds["aa"])
    n_samples = np.bincount(profiles.of_sequence, minlength=len(profiles.first))
    result["n_samples"] = ("profile", n_samples, {"long_name": "number of samples"})
    if "pseudo_perplexity" in ds:
        result["pseudo_perplexity"] = ds["pseudo_perplexity"].variable
    return result


def _at(pieces: Sequence[Piece], at: Index) -> Piece:
    return pieces[at[0]]
