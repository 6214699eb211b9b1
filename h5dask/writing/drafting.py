"""The datasets of a file that is to be written: paths, shapes, forms, and whose rows they take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.contents import ArrayForm, Contents, GroupForm
from h5dask.errors import LayoutError
from h5dask.grouping import arrange
from h5dask.groups import Groups, Rows, length
from h5dask.layout import ArraySpec, Layout
from h5dask.pattern import fill, kinds, parse, placeholders
from h5dask.storage.forms import stored_chunks, takes_bytes
from h5dask.storage.planned import PlannedArray
from h5dask.writing.forming import compressed, stored_form


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One dataset whose numbers follow the skeleton: which part of which variable it takes."""

    path: str
    """Path of the dataset."""
    variable: str
    """Name of the variable."""
    lane: int | None
    """Which lane of the stacked dim; None where nothing is stacked."""
    rows: Rows
    """Which rows of the variable, in the order of storage."""
    shape: tuple[int, ...]
    """Shape of the dataset."""
    form: ArrayForm
    """How it is stored."""

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of a stored chunk."""
        return stored_chunks(self.form, self.shape)


def matched(layout: Layout, ds: xr.Dataset) -> Iterator[tuple[str, ArraySpec]]:
    """Yield each variable of the Dataset that the layout declares, in the layout's order."""
    for spec in layout.arrays:
        for name in ds.variables:
            if parse(spec.name, str(name)) is not None:
                yield str(name), spec


@dataclass(slots=True)
class Draft:
    """A file plan while it is made."""

    layout: Layout
    ds: xr.Dataset
    form: Contents | None
    groups: Groups
    gzip: int | None
    arrays: list[PlannedArray] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    lanes: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)
    used: Counter[str] = field(default_factory=Counter)
    models: dict[str, ArrayForm] = field(default_factory=dict)
    forms: dict[tuple[str, int, int], ArrayForm] = field(default_factory=dict)
    fitting: dict[tuple[str, frozenset[str]], list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in self.form or ():
            assert self.form is not None
            match = self.layout.spec_of(path)
            if match is not None:
                spec, pattern, keys = match
                self.used[pattern] += 1
                name = fill(spec.name, keys) if "{" in spec.name else spec.name
                self.models.setdefault(name, self.form.form(path))

    def add_variable(self, name: str, spec: ArraySpec) -> None:
        """Plan every dataset that one variable is stored in."""
        variable = self.ds[name].variable.transpose(*spec.dims)
        named = parse(spec.name, name) or {}
        lanes: list[tuple[str, ...]] = [()]
        if spec.stacked:
            dim = spec.stacked[0]
            if dim not in self.ds.coords:
                raise LayoutError(f"{name} has no labels along {dim}; add ds.assign_coords({dim}=)")
            lanes = [(str(label),) for label in self.ds[dim].values]
            _refuse_labels(spec, dim, [label for (label,) in lanes])
            self.lanes[name] = lanes
        trailing = tuple(
            n
            for dim, n in zip(spec.dims[1:], variable.shape[1:], strict=True)
            if dim not in spec.stacked
        )
        for at, lane in enumerate(lanes):
            keys = {**named, **dict(zip(spec.stacked, lane, strict=True))}
            for group, group_keys in self._group_keys(spec):
                self._add_array(
                    name, spec, variable, keys | group_keys, group, trailing,
                    at if spec.stacked else None,
                )  # fmt: skip

    def _group_keys(self, spec: ArraySpec) -> Iterator[tuple[int | None, dict[str, str]]]:
        """Yield the groups that have a dataset of their own: text is shared by branches."""
        if spec.ragged is None:
            yield None, {}
            return
        seen: dict[tuple[str, ...], int] = {}
        picked = [self.groups.names.index(key) for key in spec.group_keys]
        for group in range(len(self.groups.keys)):
            key = tuple([self.groups.keys[group][i] for i in picked])
            if key not in seen or not length(self._rows(spec, seen[key])):
                seen[key] = group
        for key, group in seen.items():
            yield group, dict(zip(spec.group_keys, key, strict=True))

    def _rows(self, spec: ArraySpec, group: int) -> Rows:
        return self.groups.rows[str(spec.ragged)][group]

    def _add_array(
        self,
        name: str,
        spec: ArraySpec,
        variable: xr.Variable,
        keys: Mapping[str, str],
        group: int | None,
        trailing: tuple[int, ...],
        lane: int | None,
    ) -> None:
        rows: Rows = slice(0, variable.shape[0])
        lead: tuple[int, ...] = (variable.shape[0],)
        if group is not None:
            rows = self._rows(spec, group)
            lead = tuple(self.groups.shapes[spec.name][group] or (length(rows),))
        path = self._path(spec, keys)
        if not math.prod(lead) and not self._stays_empty(spec, path):
            return
        if self._was_absent(spec, path) and _all_nan(variable, rows, lane):
            return
        shape = (*lead, *trailing)
        form = self._stored_form(name, spec, variable.dtype, shape, path)
        values = None
        if math.prod(shape) and not takes_bytes(form):
            values = _values(variable, rows, lane, shape)
        self.taken.add(path)
        attrs = self.form.attrs.get(path, ()) if self.form is not None else ()
        self.arrays.append(
            PlannedArray(path=path, shape=shape, form=form, attrs=attrs, values=values)
        )
        if values is None and 0 not in shape:
            self.transfers.append(
                Transfer(path=path, variable=name, lane=lane, rows=rows, shape=shape, form=form)
            )

    def _stored_form(
        self, name: str, spec: ArraySpec, dtype: np.dtype[Any], shape: tuple[int, ...], path: str
    ) -> ArrayForm:
        """Return the dataset's form: one record for all that are stored alike."""
        model = self._model(name, path)
        key = name, len(shape), id(model)
        if key not in self.forms:
            self.forms[key] = stored_form(spec, dtype, len(shape), model)
        return compressed(self.forms[key], shape, self.gzip)

    def _path(self, spec: ArraySpec, keys: Mapping[str, str]) -> str:
        """Return the path in the form, else by the alternative the form uses most."""
        given = frozenset([key for key, value in keys.items() if value])
        fitting = self.fitting.get((spec.name, given))
        if fitting is None:
            named = given & set(placeholders("".join(spec.paths)))
            fitting = [pattern for pattern in spec.paths if set(placeholders(pattern)) == named]
            fitting.sort(key=lambda pattern: -self.used[pattern])
            self.fitting[spec.name, given] = fitting
        if not fitting:
            raise LayoutError(f"{spec.name}: no path of {self.layout.name} fits {dict(keys)!r}")
        if self.form is None or len(fitting) == 1:
            return fill(fitting[0], keys)
        paths = [fill(pattern, keys) for pattern in fitting]
        return next((path for path in paths if path in self.form), paths[0])

    def _stays_empty(self, spec: ArraySpec, path: str) -> bool:
        """Whether a group without rows gets a zero-row dataset."""
        if not self.layout.keep_empty:
            return False
        text_kept = spec.group_keys != self.layout.group_keys and self._in_form(path)
        return not text_kept

    def _in_form(self, path: str) -> bool:
        return self.form is not None and path in self.form

    def _was_absent(self, spec: ArraySpec, path: str) -> bool:
        """Whether the form has this dataset in other groups only, so that it reads as NaN here."""
        if self.form is None or path in self.form or spec.required or not spec.ragged:
            return False
        return spec.name in self.models

    def _model(self, name: str, path: str) -> ArrayForm | None:
        """Return the form of the dataset itself, else of a sibling in another group."""
        if self.form is not None and path in self.form:
            return self.form.form(path)
        return self.models.get(name)

    def add_empty(self) -> None:
        """Keep the zero-row datasets of the form whose groups the Dataset has no rows of."""
        if self.form is None or not self.layout.keep_empty:
            return
        written = {parse(spec.name, name) is not None and spec.name
                   for name, spec in matched(self.layout, self.ds)}  # fmt: skip
        for path in self.form:
            match = self.layout.spec_of(path)
            if match is None or path in self.taken or match[0].name not in written:
                continue
            spec, _, keys = match
            if spec.stacked and (keys[spec.stacked[0]],) not in self.lanes.get(spec.name, ()):
                continue
            if not math.prod(self.form.shape(path)[:1]) and spec.ragged:
                shape, form = self.form.shape(path), self.form.form(path)
                attrs = self.form.attrs.get(path, ())
                self.taken.add(path)
                self.arrays.append(PlannedArray(path=path, shape=shape, form=form, attrs=attrs))

    def copies(self) -> Iterator[tuple[str, str]]:
        """Yield what the layout doesn't know, and the text of scenarios without rows."""
        if self.form is None:
            return
        gone, unknown = self._gone(), set(arrange(self.layout, self.form).unknown)
        source = self.form.subject
        for path in self.form:
            if path in self.taken or any(
                path.startswith(group + "/") for group in _above(path, gone)
            ):
                continue
            match = self.layout.spec_of(path)
            if path in unknown or (match is not None and self._kept_text(match[0])):
                yield source, path
        for path in self.form.links:
            if "@" not in path and not _above(path, gone):
                yield source, path

    def _kept_text(self, spec: ArraySpec) -> bool:
        if not self.layout.keep_empty or spec.group_keys == self.layout.group_keys:
            return False
        return bool(spec.ragged) and any(
            parse(spec.name, str(name)) is not None for name in self.ds.variables
        )

    def _gone(self) -> set[str]:
        """Return the form's groups whose rows are no longer in the Dataset."""
        if self.form is None or self.layout.keep_empty:
            return set()
        tops = self.layout.families
        kept = {path.split("/")[0] for path in self.taken}
        held = {path.split("/")[0] for path in self.form if self.layout.spec_of(path) is not None}
        return {
            group for group in held - kept
            if group in self.form.groups and any(parse(top, group) is not None for top in tops)
        }  # fmt: skip

    def planned_groups(self) -> dict[str, GroupForm]:
        """Return every group of the file: the form's, without those whose rows are gone."""
        found = {"": GroupForm()}
        if self.form is not None:
            gone = self._gone()
            found.update({g: f for g, f in self.form.groups.items() if not _above(g, gone)})
        return found

    def nbytes(self) -> int:
        """Return the bytes of the numbers that are stored uncompressed, and of measured text."""
        total = 0
        for array in self.arrays:
            if array.form.is_numeric:
                itemsize = np.dtype(array.form.dtype).itemsize
                total += 0 if array.form.filters else math.prod(array.shape) * itemsize
            else:
                mean = self.form.mean_nbytes.get(array.path, 16.0) if self.form else 16.0
                total += int(math.prod(array.shape) * (16 + mean))
        return total


def _refuse_labels(spec: ArraySpec, dim: str, labels: list[str]) -> None:
    """Refuse labels that no path can have, or that two datasets would share."""
    kind = kinds(spec.paths)[dim]
    pattern = f"{{{dim}:{kind}}}" if kind else f"{{{dim}}}"
    unfit = [label for label in labels if parse(pattern, label) is None]
    twice = [label for label, n in Counter(labels).items() if n > 1]
    if unfit or twice:
        wanted = "whole numbers from 0" if kind == "d" else "names"
        raise LayoutError(
            f"{spec.name} has the labels {', '.join(labels)} along {dim}; expected {wanted}, each "
            f"once; set them with ds.assign_coords({dim}=)"
        )


def _above(path: str, groups: set[str]) -> list[str]:
    """Return those of the groups that a path is or lies in."""
    top = path.split("/", maxsplit=1)[0]
    return [top] if top in groups else []


def _part(variable: xr.Variable, rows: Rows, lane: int | None) -> Any:
    """Return the rows of one lane, as lazy as the variable is."""
    data = variable.data if not isinstance(variable.data, np.ndarray) else variable.values
    part = data[rows]
    return part if lane is None else part[:, lane]


def _all_nan(variable: xr.Variable, rows: Rows, lane: int | None) -> bool:
    if variable.dtype.kind != "f" or not length(rows):
        return False
    part = _part(variable, rows, lane)
    return all(bool(np.isnan(some).all()) for some in (part[:1], part[1:]))


def _values(
    variable: xr.Variable, rows: Rows, lane: int | None, shape: tuple[int, ...]
) -> Callable[[], Iterator[NDArray[Any]]]:
    """Return what yields the values block by block, each computed when it is its turn."""

    def blocks() -> Iterator[NDArray[Any]]:
        part = _part(variable, rows, lane)
        if len(shape) != part.ndim:
            yield np.asarray(part).reshape(shape)
        elif isinstance(part, da.Array):
            whole = part.rechunk(dict.fromkeys(range(1, part.ndim), -1))
            for at in range(len(whole.chunks[0])):
                yield whole.blocks[at].compute()
        else:
            yield np.asarray(part)

    return blocks
