"""Described files -> one labelled, lazy Dataset: variables, coordinates, blocks, attributes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.utils import parse_bytes
from xarray.core import indexing

from h5dask import blocks
from h5dask.chunkindex import FileIndex
from h5dask.contents import ArrayForm, Contents
from h5dask.errors import Refused
from h5dask.grouping import Arranged, Arrangement
from h5dask.joining import refuse_different
from h5dask.joining.attrs import joined_attrs
from h5dask.joining.form import joined_contents, new_numbers
from h5dask.joining.rows import present, say_empty
from h5dask.layout import Labels, Layout
from h5dask.reading.segments import SegmentTable
from h5dask.storage.array import StoredArray
from h5dask.storage.remote import Source

Chunks = str | int | Mapping[Any, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """One described file, read as a layout."""

    source: Source
    contents: Contents
    index: FileIndex
    arrangement: Arrangement

    def variable(self, name: str) -> Arranged | None:
        """Return how one variable is arranged, None where the file lacks it."""
        return next((v for v in self.arrangement.variables if v.name == name), None)


def assemble(
    layout: Layout,
    files: Sequence[Opened],
    *,
    chunks: Chunks,
    drop: Iterable[str] = (),
    only: Sequence[int] | None = None,
) -> xr.Dataset:
    """Return the files' variables as one lazy Dataset.

    Parameters
    ----------
    layout : Layout
        What the files are read as.
    files : sequence of Opened
        In the order in which they lie end to end.
    chunks : "auto", {}, None, int or mapping
        As in `open_dataset`.
    drop : iterable of str
        Variables to leave out.
    only : sequence of int, optional
        Groups to take, of a single file; all without it.
    """
    dropped = set(drop)
    names = dict.fromkeys(
        v.name for file in files for v in file.arrangement.variables if v.name not in dropped
    )
    if len(files) > 1:
        _refuse_unequal(layout, files, dropped)
    stored = {name: _stored(name, files, only) for name in names}
    specs = {name: _first(name, files).spec for name in names}
    dims = {name: specs[name].dims for name in names}
    wanted = _blocks(stored, dims, files, chunks, only)
    variables: dict[str, xr.Variable] = {}
    coords: dict[str, xr.Variable] = {}
    for name, array in stored.items():
        variable = _variable(name, array, dims[name], wanted, chunks, specs[name].doc)
        (coords if specs[name].coordinate else variables)[name] = variable
    labels = [_labels(layout, file, only) if layout.labels else {} for file in files]
    distinct = layout.join(labels) if len(files) > 1 and layout.labels else labels
    dataset = xr.Dataset(variables, coords=coords)
    dataset = dataset.assign_coords(
        _coordinates(layout, files, only, stored, dims, dropped, distinct)
    )
    for file in files if only is None else ():
        say_empty(layout, file.source.url, file.arrangement.groups)
    dataset.attrs = joined_attrs(layout, [file.contents for file in files])
    dataset.encoding["h5dask"] = _form(layout, files, labels, distinct)
    dataset.encoding["source"] = files[0].source.url
    return dataset


def _form(
    layout: Layout, files: Sequence[Opened], labels: Sequence[Labels], distinct: Sequence[Labels]
) -> Contents:
    forms = [file.contents for file in files]
    if len(files) == 1:
        return forms[0]
    return joined_contents(forms, new_numbers(layout, labels, distinct), say=True)


def _refuse_unequal(layout: Layout, files: Sequence[Opened], dropped: set[str]) -> None:
    """Raise where the files' variables, widths, dtypes or lanes keep them from lying end to end."""
    held = []
    for file in files:
        sizes: dict[str, dict[str, Any]] = {}
        for v in file.arrangement.variables:
            inner = dict(zip(v.spec.stored_dims[1:], v.trailing, strict=True))
            lanes = {dim: ", ".join(lane[0] for lane in v.lanes) for dim in v.spec.stacked[:1]}
            sizes[v.name] = {**inner, **lanes}
        held.append({name: found for name, found in sizes.items() if name not in dropped})
    refuse_different(layout, [file.source.url for file in files], held)


def _first(name: str, files: Sequence[Opened]) -> Arranged:
    return next(v for v in (file.variable(name) for file in files) if v is not None)


def _taken(file: Opened, dim: str, only: Sequence[int] | None) -> list[int]:
    """Return the groups that have rows along a dim, in order."""
    counts = file.arrangement.groups.counts[dim]
    groups = range(len(counts)) if only is None else only
    return [group for group in groups if counts[group]]


def _stored(name: str, files: Sequence[Opened], only: Sequence[int] | None) -> StoredArray:
    """Return one variable's lazy array over all datasets of all files."""
    model = _first(name, files)
    spec = model.spec
    table = SegmentTable()
    for at, file in enumerate(files):
        variable = file.variable(name)
        if spec.ragged is None:
            rows = [file.arrangement.sizes[spec.dims[0]]]
            groups = [0]
        else:
            groups = _taken(file, spec.ragged, only)
            counts = file.arrangement.groups.counts[spec.ragged]
            rows = [int(counts[group]) for group in groups]
        table.rows += rows
        table.sources += [at] * len(rows)
        for lane, _ in enumerate(model.lanes):
            paths = variable.paths[lane] if variable is not None else None
            held = [paths[g] if paths else None for g in groups]
            table.add(lane, file.contents, file.index, held, model.dtype)
    if not table.forms:
        table.forms[ArrayForm(dtype=model.dtype, type=b"")] = 0
    lane_axis = spec.dims.index(spec.stacked[0]) if spec.stacked else None
    sources = tuple(file.source for file in files)
    segments = table.segments([file.index.heap_base for file in files])
    return StoredArray(name, sources, segments, tuple(table.forms), model.trailing, lane_axis)


def _row_nbytes(name: str, array: StoredArray, files: Sequence[Opened]) -> float:
    """Return the bytes of one row; of text and pictures as measured when they were described."""
    values = math.prod(array.shape[1:])
    if array.dtype != object:
        return float(values * array.dtype.itemsize)
    means = [
        file.contents.mean_nbytes.get(path, 0.0)
        for file in files
        if (variable := file.variable(name)) is not None
        for path in variable.held()
    ]
    return values * (64.0 + max(means, default=0.0))


def _chunk_rows(array: StoredArray) -> int:
    """Return the rows of a stored chunk; 1 where the array isn't chunked by rows."""
    rows = [
        index.chunks[0]
        for index in array.segments.indexes.values()
        if len(index.shape) == 1 + len(array.trailing)
    ]
    return max(rows, default=1)


Blocks = Mapping[str, tuple[int, ...]]


def _block_size(given: Any) -> int:
    try:
        return int(parse_bytes(given))
    except ValueError:
        raise Refused(f"chunks={given!r} is no size of blocks; give one such as '64 MiB'") from None


def _blocks(
    stored: Mapping[str, StoredArray],
    dims: Mapping[str, tuple[str, ...]],
    files: Sequence[Opened],
    chunks: Chunks,
    only: Sequence[int] | None,
) -> Blocks:
    """Return block lengths of every dim; variables that share a dim share them."""
    asked = chunks if isinstance(chunks, str) and chunks != "auto" else None
    size = _block_size(asked or dask.config.get("h5dask.block-size", blocks.BLOCK_SIZE))
    rows: dict[str, list[blocks.Rows]] = {}
    found: dict[str, tuple[int, ...]] = {}
    for name, array in stored.items():
        dim = dims[name][0]
        chunk = _chunk_rows(array)
        nbytes = _row_nbytes(name, array, files)
        ends = array.segments.starts[1:]
        rows.setdefault(dim, []).append(
            blocks.Rows(size=array.shape[0], nbytes=nbytes, ends=ends, chunk=chunk)
        )
        itemsize = array.dtype.itemsize
        for inner, lengths in zip(
            dims[name][1:], blocks.columns(array.shape[1:], itemsize, size), strict=True
        ):
            found.setdefault(inner, lengths)
    for dim, widest in blocks.widest(rows).items():
        stored_rows = isinstance(chunks, Mapping) and not chunks and widest.chunk > 1
        limit = int(widest.chunk * widest.nbytes) if stored_rows else size
        beside = [math.prod(len(found[d]) for d in inner) for first, *inner in dims.values()
                  if first == dim]  # fmt: skip
        most = max(1, blocks.MOST_BLOCKS // max(beside))
        found[dim] = blocks.cut(widest, max(1, limit), most)
    return found


def _variable(
    name: str, array: StoredArray, dims: tuple[str, ...], wanted: Blocks, chunks: Chunks, doc: str
) -> xr.Variable:
    """Return one variable: lazily indexed without dask, or wrapped in blocks."""
    attrs = {"long_name": doc} if doc else {}
    preferred = {dim: wanted[dim] for dim in dims}
    if chunks is None:
        lazy = indexing.LazilyIndexedArray(array)
        return xr.Variable(dims, lazy, attrs, {"preferred_chunks": preferred})
    lengths = _lengths(chunks, array, dims, preferred)
    marks = [(source.url, source.fingerprint) for source in array.sources]
    # Paths too: datasets of two groups may have the same rows, and chunked ones no offset.
    paths = "\0".join(path or "" for lane in array.segments.paths for path in lane)
    starts = array.segments.starts, array.segments.offsets
    token = tokenize(name, marks, paths, starts, lengths)
    blocked = da.from_array(array, lengths, name=f"read-{name}-{token}", inline_array=False)
    return xr.Variable(dims, blocked, attrs, {"preferred_chunks": preferred})


def _lengths(
    chunks: Chunks, array: StoredArray, dims: tuple[str, ...], preferred: Blocks
) -> tuple[tuple[int, ...], ...]:
    """Return block lengths along each dim as the caller's `chunks` asks for them."""
    if isinstance(chunks, str) or (isinstance(chunks, Mapping) and not chunks):
        return tuple(preferred[dim] for dim in dims)
    asked: Any = chunks
    if isinstance(chunks, Mapping):
        wanted = [chunks.get(dim, "auto") for dim in dims]
        asked = tuple(preferred[d] if n == "auto" else n for d, n in zip(dims, wanted, strict=True))
    try:
        return da.core.normalize_chunks(asked, array.shape, dtype=array.dtype)  # type: ignore[no-any-return]
    except (ArithmeticError, TypeError, ValueError) as error:
        raise Refused(
            f"chunks={chunks!r}: {array.name} of shape {array.shape!r} can't be cut so ({error}); "
            'give "auto", {}, None, or lengths of at least 1 that add up to the dims'
        ) from None


def _coordinates(
    layout: Layout,
    files: Sequence[Opened],
    only: Sequence[int] | None,
    stored: Mapping[str, StoredArray],
    dims: Mapping[str, tuple[str, ...]],
    dropped: set[str],
    distinct: Sequence[Labels],
) -> xr.Coordinates:
    """Return the coordinates: labels of rows with their index, of lanes, and of fixed dims."""
    coords: dict[str, Any] = {}
    sizes = {
        dim: n
        for name, array in stored.items()
        for dim, n in zip(dims[name], array.shape, strict=True)
    }
    for name in stored:
        model = _first(name, files)
        for at, dim in enumerate(model.spec.stacked):
            labels = [lane[at] for lane in model.lanes]
            coords[dim] = [int(label) for label in labels] if _numbers(labels) else labels
    coords.update({d: list(v) for d, v in layout.dim_labels.items() if d in sizes})
    result = xr.Coordinates({dim: labels for dim, labels in coords.items() if dim not in dropped})
    if layout.labels is not None and layout.index is not None:
        kept = [key for key in distinct[0] if key not in dropped]
        joined = {key: np.concatenate([part[key] for part in distinct]) for key in kept}
        for dim in layout.ragged_dims:
            counts = [file.arrangement.groups.counts.get(dim, np.zeros(0, int)) for file in files]
            sizes.setdefault(dim, int(sum(column.sum() for column in counts)))
        if joined:
            index = layout.index(joined, sizes)
            result = xr.Coordinates.from_xindex(index).merge(result.to_dataset().coords).coords
    if len(files) > 1 and layout.along is not None and "source" not in dropped:
        lengths = [_along(layout, *of) for of in zip(files, distinct, strict=True)]
        names = np.array([file.source.url for file in files], object)
        result = result.assign(source=(layout.along, np.repeat(names, lengths)))
    if only is None and layout.along is not None:
        result = result.assign(
            present(layout, [_present_in(file, layout, dropped) for file in files])
        )
    return result


def _present_in(file: Opened, layout: Layout, dropped: set[str]) -> dict[str, Any]:
    """Return whether each row has a variable, as `present` takes it."""
    counts = file.arrangement.groups.counts.get(str(layout.along))
    if counts is None:
        return {"": np.zeros(0, np.bool_)}
    return {"": np.ones(int(counts.sum()), np.bool_)} | {
        one.name: np.repeat([path is not None for path in one.paths[0]], counts)
        for one in file.arrangement.variables
        if one.spec.may_be_absent and one.name not in dropped
    }


def _labels(layout: Layout, file: Opened, only: Sequence[int] | None) -> Labels:
    groups = file.arrangement.groups
    if only is not None:
        groups = groups.taken(only)
    return layout.labels(groups, file.contents)  # type: ignore[misc]


def _along(layout: Layout, file: Opened, labels: Labels) -> int:
    """Return the rows of one file along the dim on which files lie end to end."""
    if layout.labels is None:
        return file.arrangement.sizes[str(layout.along)]
    return len(next(iter(labels.values())))


def _numbers(labels: Iterable[str]) -> bool:
    return all(label.isdigit() for label in labels)
