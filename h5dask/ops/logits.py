"""What logits say of each record, and how far two sets of records differ in it; nothing is loaded.

What becomes of one block lies in `kernels.softmax`, which records are compared in `pairing`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from h5dask.blocks import BLOCK_SIZE
from h5dask.errors import Refused
from h5dask.kernels.softmax import SHORT, compare, describe
from h5dask.ops.choosing import is_lazy, kept_coords, name_of
from h5dask.ops.cost import SCRATCH, Cost, Forms, reading
from h5dask.ops.folding import blocked, fold
from h5dask.ops.pairing import Told, pairs_of, rows_of

Logits: TypeAlias = xr.DataArray | xr.Dataset
"""Logits, or a Dataset with one such variable."""
STATISTICS = {
    "logsumexp": ("", np.float64, "log of the sum of exponentials"),
    "entropy": ("", np.float64, "entropy, nats"),
    "top_token": ("top", np.int64, "most probable tokens"),
    "top_probability": ("top", np.float64, "their probabilities"),
    "token_probability": ("token", np.float64, "probability"),
    "token_logprobability": ("token", np.float64, "log of probability, nats"),
    "token_rank": ("token", np.int64, "number of tokens that come before"),
}
"""What `logit_statistics` gives: the dim it adds, its type, what it is."""
DIFFERENCES = {
    "kl": "Kullback-Leibler divergence of first from second, nats",
    "kl_reverse": "Kullback-Leibler divergence of second from first, nats",
    "js": "Jensen-Shannon divergence, nats",
    "agreement": "same most probable token",
}
"""What `compare_logits` gives, in the order of the kernel."""
_FLOPS = 40
"""Operations that a value takes, about; comparing takes three times as many."""
_TASKS = 5
"""Tasks that a block takes, about, most of them to take the figures apart."""


def logit_statistics(
    x: Logits, *, tokens: Sequence[int] = (), top: int = 5, dim: str = "vocab"
) -> xr.Dataset:
    """Return what the logits say of each record: how sure they are, and of which tokens.

    Parameters
    ----------
    x : DataArray or Dataset
        (..., dim), float16, float32 or float64. Of a Dataset, its one such variable.
    tokens : sequence of int, default none
        Tokens to look at in each record, by position in the vocabulary, in this order.
    top : int, default 5
        How many of the most probable tokens to give; all, if there are fewer.
    dim : str, default "vocab"
        The dim of the vocabulary.

    Returns
    -------
    Dataset
        Lazy where x is, float64 unless said, with x's coords along its other dims:

        - `logsumexp`, `entropy` (...), the latter in nats;
        - `top_token` (..., top) int64 and `top_probability` (..., top), the most probable first,
          of equal ones the token at the lower position;
        - if tokens are asked for, `token_probability`, `token_logprobability` and `token_rank`
          (..., token), the last int64: how many tokens come before it in that order.

        Logits of minus infinity have probability 0. A record with NaN or infinity, or with
        nothing but minus infinity, has no probabilities: NaN, and -1 for tokens and ranks.
        Each record's figures are the same for any blocks, and right to 1e-12. Computing any or
        all of them reads each block once. Blocks that cut the vocabulary are put together to
        whole records, 16 MiB at once. Memory per task: a block, and 2 MiB for float16; twice a
        block where it is put together, or of float16 with a vocabulary below 8,192, three times.

    Raises
    ------
    Refused
        No such variable or dim, tokens outside the vocabulary, a negative top.

    Examples
    --------
    >>> import h5dask
    >>> from h5dask.testing import example_file
    >>> ds = h5dask.open_dataset(example_file("activations"))
    >>> found = logit_statistics(ds, tokens=[7], top=3)
    >>> found.top_token.dims, found.token_rank.sel(scenario="base", token=7).dtype
    (('record', 'top'), dtype('int64'))
    """
    logits = _logits(x, dim)
    wanted = _tokens(tokens, logits.sizes[dim])
    if top < 0:
        raise Refused(f"top: found {top!r}; expected 0 or more")
    record = _record(min(top, logits.sizes[dim]), len(wanted))
    rows = [one for one in logits.dims if one != dim]
    result = kept_coords(logits, rows)
    if taken := {"top", "token", *STATISTICS} & {*rows, *result.coords}:
        raise Refused(
            f"{name_of(logits)}: found dims or coords {sorted(map(str, taken))}, which are names "
            "of results; rename them (x.rename)"
        )
    values = _whole_rows(blocked(logits.transpose(..., dim).variable))
    found = da.map_blocks(
        _statistics,
        values,
        tokens=wanted,
        record=record,
        drop_axis=len(rows),
        meta=np.empty((0,) * len(rows), record),
        token="logit-statistics",
    )
    for name in record.names or ():
        last, _, title = STATISTICS[name]
        result[name] = ([*rows, last] if last else rows, found[name], {"long_name": title})
    if len(wanted):
        result = result.assign_coords(token=wanted)
    return result if is_lazy(logits) else result.compute()


def compare_logits(
    x: Logits, pairs: Told | None = None, *, dim: str = "record", vocab: str = "vocab"
) -> xr.Dataset:
    """Return how far the probabilities of paired records differ, sample by sample.

    Parameters
    ----------
    x : DataArray or Dataset
        (dim, vocab), float16, float32 or float64, with coords `scenario`, `branch` and `sample`
        along `dim`. Of a Dataset, its one variable of floats along `vocab`.
    pairs : sequence of two names each, or mapping of str to two names, optional
        Sets of records that are compared, "scenario" or "scenario/branch"; found by their names
        without it, see `pairing.pairs_of`.
    dim : str, default "record"
        The dim of records.
    vocab : str, default "vocab"
        The dim of the vocabulary.

    Returns
    -------
    Dataset
        Lazy where x is, float64:

        - `kl`, `kl_reverse` (pair, sample): Kullback-Leibler divergence of the first side from
          the second and the other way round, in nats; infinity where a token that one side has
          is minus infinity on the other;
        - `js` (pair, sample): Jensen-Shannon divergence, in nats, at most log 2;
        - `agreement` (pair, sample): 1 where both have the same most probable token, of equal
          ones the one at the lower position, else 0.

        Coords: `pair`, `first` and `second` (pair), `sample`. The samples are those of any pair,
        in ascending order unless all pairs have the same; NaN where a pair hasn't the sample, or
        where either record holds NaN or infinity, or nothing but minus infinity. So
        ``found.mean("sample")`` is of the samples that a pair has. Each block is read once by
        every pair it belongs to. Memory per task: a block of each side.

    Raises
    ------
    Refused
        No such variable or dims, no pairs, other samples on both sides.

    Examples
    --------
    >>> import h5dask
    >>> from h5dask.testing import example_file
    >>> ds = h5dask.open_dataset(example_file("activations"))
    >>> found = compare_logits(ds)
    >>> found.js.dims, found.pair.item(), found.second.item()
    (('pair', 'sample'), 'matching_few_shot_prefilled', 'matching_few_shot_prefilled/nonmatching')
    """
    logits = _records(x, dim, vocab)
    labels = kept_coords(logits, [dim])
    found = pairs_of(labels, pairs, dim=dim)
    made = []
    for pair in found:
        rows = rows_of(labels, pair, dim=dim)
        figures = _differences(logits, dim, rows)
        coords = {"sample": labels["sample"].values[rows[0]], "figure": list(DIFFERENCES)}
        made.append(xr.DataArray(figures, coords, ("sample", "figure")))
    names = pd.Index([pair.name for pair in found], dtype=object, name="pair")
    result = xr.concat(made, names, join="outer").to_dataset("figure")
    for side in ("first", "second"):
        result.coords[side] = ("pair", [str(getattr(pair, side)) for pair in found])
    for name, title in DIFFERENCES.items():
        result[name].attrs["long_name"] = title
    return result if is_lazy(logits) else result.compute()


def logits_cost(
    x: Logits, *, dim: str = "vocab", compared: bool = False, stored: Forms | None = None
) -> Cost:
    """Return what `logit_statistics` takes, or `compare_logits` where every record has a pair.

    Parameters
    ----------
    x, dim
        As in `logit_statistics`.
    compared : bool, default False
        Whether records are compared.
    stored : mapping of str to Stored, optional
        How the variables are stored.

    Examples
    --------
    >>> x = xr.DataArray(da.zeros((100, 50), chunks=(25, 50)), dims=("record", "vocab"))
    >>> cost = logits_cost(x)
    >>> cost.n_blocks, cost.read, cost.flops
    (4, 40000, 200000.0)
    """
    logits = _logits(x, dim).transpose(..., dim)
    values = blocked(logits.variable)
    read = reading(xr.Dataset({name_of(logits): logits.variable}), stage="logits", stored=stored)
    block = math.prod(map(max, _whole_rows(values).chunks)) * values.dtype.itemsize
    is_cut = values.numblocks[-1] > 1
    is_widened = values.dtype.itemsize == 2 and values.shape[-1] < SHORT
    return replace(
        read,
        n_tasks=_TASKS * read.n_blocks,
        flops=float(logits.size) * (3 * _FLOPS if compared else _FLOPS),
        memory=(read.memory + (is_cut + 2 * is_widened) * block) * (1 + compared) + SCRATCH,
    )


def _logits(x: Logits, vocab: str) -> xr.DataArray:
    """Return the variable of logits."""
    if isinstance(x, xr.Dataset):
        fit = [str(name) for name, one in x.items() if _is_float(one) and vocab in one.dims]
        if len(fit) != 1:
            raise Refused(
                f"logits: found {len(fit)} variables of floats along {vocab!r} "
                f"({', '.join(fit) or 'none'}); expected one; give the one that is meant, ds[name]"
            )
        x = x[fit[0]]
    if vocab not in x.dims or not _is_float(x):
        raise Refused(
            f"{name_of(x)}: found {x.dtype} of dims {x.dims!r}; expected float16, float32 or "
            f"float64 along {vocab!r}"
        )
    if x.sizes[vocab] == 0:
        raise Refused(f"{name_of(x)}: found 0 tokens along {vocab!r}; expected 1 or more")
    return x


def _is_float(x: xr.DataArray) -> bool:
    return x.dtype.kind == "f" and x.dtype.itemsize <= 8


def _records(x: Logits, dim: str, vocab: str) -> xr.DataArray:
    """Return the variable of logits, one row a record."""
    logits = _logits(x, vocab)
    if set(logits.dims) != {dim, vocab}:
        raise Refused(
            f"{name_of(logits)}: found dims {logits.dims!r}; expected {dim!r} and {vocab!r}; "
            "select along the others, or name these (dim=, vocab=)"
        )
    return logits.transpose(dim, vocab)


def _tokens(tokens: Sequence[int], size: int) -> NDArray[np.int64]:
    """Return positions in a vocabulary; Refused where some aren't in it."""
    wanted = np.asarray(tokens)
    if wanted.size == 0:
        return np.zeros(0, np.int64)
    if wanted.ndim != 1 or wanted.dtype.kind not in "iu":
        raise Refused(f"tokens: found {tokens!r}; expected positions, a list of whole numbers")
    outside = wanted[(wanted < 0) | (wanted >= size)]
    if outside.size:
        raise Refused(
            f"tokens: found {', '.join(map(str, outside.tolist()))}; expected of 0 to {size - 1}, "
            f"the vocabulary has {size} tokens"
        )
    return wanted.astype(np.int64)


def _record(n_top: int, n_tokens: int) -> np.dtype[np.void]:
    """Return the type of what is found in one row of logits; what would be empty is left out."""
    shapes = {"": (), "top": (n_top,), "token": (n_tokens,)}
    lasts = ((name, kind, shapes[last]) for name, (last, kind, _) in STATISTICS.items())
    return np.dtype([(name, kind, shape) for name, kind, shape in lasts if 0 not in shape])


def _statistics(
    block: NDArray[Any], tokens: NDArray[np.int64], record: np.dtype[np.void]
) -> NDArray[np.void]:
    """Return what is found in each row of a block, whose rows lie along the last axis."""
    rows = block.reshape(-1, block.shape[-1])
    found = np.empty(len(rows), record)
    n_top = found["top_token"].shape[1] if "top_token" in (record.names or ()) else 0
    top, ranks, figures = describe(rows, tokens, max(n_top, 1))
    places = np.concatenate([top, np.broadcast_to(tokens, ranks.shape)], axis=1)
    chosen = np.take_along_axis(rows, places, axis=1).astype(np.float64)
    with np.errstate(invalid="ignore"):  # of a row without softmax, infinity less infinity
        logs = chosen - chosen[:, :1] - figures[:, :1]
    found["logsumexp"] = chosen[:, 0] + figures[:, 0]
    found["entropy"] = figures[:, 1]
    if n_top:
        found["top_token"] = top
        found["top_probability"] = np.exp(logs[:, :n_top])
    if len(tokens):
        asked = logs[:, top.shape[1] :]
        found["token_probability"] = np.exp(asked)
        found["token_logprobability"] = asked
        found["token_rank"] = ranks
    return found.reshape(block.shape[:-1])


def _differences(
    logits: xr.DataArray, dim: str, rows: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> da.Array:
    """Return (sample, figure): how far the records of both sides differ, in panels of rows."""
    first, second = (_whole_rows(blocked(_taken(logits, dim, one))) for one in rows)
    found = fold(
        [first, second.rechunk(first.chunks)],
        (1,),
        compare,
        itemgetter(0),  # the vocabulary is whole, so there is nothing to merge
        name=f"compare-{name_of(logits)}",
    )
    chunks = (first.chunks[0], (len(DIFFERENCES),))
    return found.array("differences", np.asarray, chunks, np.dtype(np.float64), last=1)


def _taken(logits: xr.DataArray, dim: str, rows: NDArray[np.int64]) -> xr.Variable:
    """Return some records: a slice first, which dask hands to what reads, then those of it."""
    first, stop = int(rows.min()), int(rows.max()) + 1
    run = logits.variable.isel({dim: slice(first, stop)})
    in_order = np.array_equal(rows, np.arange(first, stop))
    return run if in_order else run.isel({dim: rows - first})


def _whole_rows(values: da.Array) -> da.Array:
    """Return blocks that don't cut the last axis: as they are, else of about 16 MiB."""
    if values.numblocks[-1] == 1:
        return values
    along = dict.fromkeys(range(values.ndim - 1), "auto") | {values.ndim - 1: -1}
    whole: da.Array = values.rechunk(along, block_size_limit=BLOCK_SIZE)
    return whole
