"""What a Dataset becomes in a file: groups, attributes, datasets, and which rows go where.

The inverse of `assembly`. Where the Dataset and the form it came in differ, the Dataset wins.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.check.attributes import derived as derived_from
from h5dask.check.attributes import json_of
from h5dask.contents import AS_SHAPE, UNLIMITED, ArrayForm, Attr, Contents, GroupForm
from h5dask.errors import LayoutError
from h5dask.grouping import Groups, arrange
from h5dask.joining import as_text
from h5dask.layout import ArraySpec, AttrSpec, Derived, Layout, fill, parse, placeholders
from h5dask.storage.forms import attr as new_attr
from h5dask.storage.forms import form_of, gzip_filters, stored_chunks, takes_bytes
from h5dask.storage.planned import Plan, PlannedArray

Rows = slice | NDArray[np.int64]
Compression = str | int | tuple[str, int] | None

_CHUNK_NBYTES = 2**20


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePlan:
    """A file to write: the skeleton, and the transfers that fill it."""

    plan: Plan
    transfers: tuple[Transfer, ...]
    sizes: Mapping[str, int]
    """Size of each dim."""
    nbytes: int
    """Bytes of the uncompressed values."""

    @property
    def expected(self) -> dict[str, int]:
        """Number of values that must arrive, by path."""
        return {transfer.path: math.prod(transfer.shape) for transfer in self.transfers}


def plan_file(
    layout: Layout,
    ds: xr.Dataset,
    form: Contents | None,
    *,
    compression: Compression = None,
    keep_attrs: bool = False,
) -> FilePlan:
    """Return the file that a Dataset becomes.

    Parameters
    ----------
    layout : Layout
        The layout to write.
    ds : Dataset
        In the layout's analysis form.
    form : Contents, optional
        The complete form of a file to be like; the document's defaults without it.
    compression : str, int or tuple, optional
        "gzip", a gzip level, ("gzip", level), or "none"; the form's filters without it.
    keep_attrs : bool, default False
        Whether attributes that the Dataset lacks are taken from the form.

    Raises
    ------
    LayoutError
        The Dataset can't be written as the layout; everything that stands in the way is named.
    """
    _refuse_unfit(layout, ds, form)
    groups = _groups(layout, ds, form)
    draft = _Draft(layout, ds, form, groups, _filters(compression))
    for name, spec in _matched(layout, ds):
        draft.add_variable(name, spec)
    draft.add_empty()
    plan = Plan(
        groups=draft.planned_groups(),
        arrays=tuple(draft.arrays),
        attrs=_attrs(draft, keep_attrs),
        copies=tuple(draft.copies()),
    )
    plan = replace(plan, groups=_with_parents(plan))
    sizes = {str(dim): n for dim, n in ds.sizes.items()}
    return FilePlan(plan=plan, transfers=tuple(draft.transfers), sizes=sizes, nbytes=draft.nbytes())


def _matched(layout: Layout, ds: xr.Dataset) -> Iterator[tuple[str, ArraySpec]]:
    """Yield each variable of the Dataset that the layout declares, in the layout's order."""
    for spec in layout.arrays:
        for name in ds.variables:
            if parse(spec.name, str(name)) is not None:
                yield str(name), spec


def _refuse_unfit(layout: Layout, ds: xr.Dataset, form: Contents | None) -> None:
    """Raise once with everything that keeps the Dataset from being written as the layout."""
    said = []
    matched = dict(_matched(layout, ds))
    for name, spec in matched.items():
        if set(ds[name].dims) != set(spec.dims):
            said.append(f"{name} has dims {ds[name].dims!r}, expected {spec.dims!r}")
        elif spec.is_numeric and ds[name].dtype.kind not in "iufb":
            said.append(f"{name} has dtype {ds[name].dtype!s}, expected {' or '.join(spec.dtypes)}")
    said += [
        f"{name} is no variable of {layout.name}; leave it out with ds.drop_vars({name!r})"
        for name in map(str, ds.data_vars)
        if name not in matched
    ]
    held = {spec.name for spec in matched.values()}
    for spec in layout.arrays:
        lacking = spec.required and spec.name not in held and "{" not in spec.name
        if lacking and (form is None or any(spec.match(path) for path in form)):
            said.append(f"{spec.name} {spec.dims!r} is missing")
    for dim, size in layout.sizes.items():
        if ds.sizes.get(dim, size) != size:
            said.append(f"{dim} is {ds.sizes[dim]}, expected {size}")
    rows = layout.along or next((s.dims[0] for s in layout.arrays if s.required), None)
    if rows is not None and ds.sizes.get(rows) == 0:
        said.append(f"no rows at all: {rows} is 0")
    if said:
        raise LayoutError(f"the Dataset can't be written as {layout.name}: " + "; ".join(said))


def _groups(layout: Layout, ds: xr.Dataset, form: Contents | None) -> Groups:
    """Return which rows of the Dataset each group takes."""
    if layout.groups is None:
        return Groups()
    labels = {
        str(name): coord.values
        for name, coord in ds.coords.items()
        if coord.dims == (layout.along,)
    }
    groups = layout.groups(labels, form)
    for dim, counts in groups.counts.items():
        if dim in ds.sizes and int(counts.sum()) != ds.sizes[dim]:
            raise LayoutError(
                f"the Dataset's labels count {int(counts.sum())} rows along {dim}, which has "
                f"{ds.sizes[dim]}: rows were cut along one dim only; select by label, such as "
                f"ds.sel({layout.group_keys[0]}=...), which cuts all dims together"
            )
    return groups


def _filters(compression: Compression) -> int | None:
    """Return the gzip level asked for: None keeps the form's filters, -1 removes them."""
    if compression is None:
        return None
    name, level = compression if isinstance(compression, tuple) else (compression, 4)
    if isinstance(name, int) and not isinstance(name, bool):
        name, level = "gzip", name
    if name == "none":
        return -1
    if name != "gzip" or not 0 <= level <= 9:
        raise LayoutError(
            f"compression is {compression!r}; expected 'gzip', a level from 0 to 9, "
            "('gzip', level) or 'none'"
        )
    return level


@dataclass(slots=True)
class _Draft:
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
        for group in range(len(self.groups.keys)):
            keyed = self.groups.keyed(group)
            key = tuple(keyed[k] for k in spec.group_keys)
            if key not in seen or not len(self._rows(spec, seen[key])):
                seen[key] = group
        for key, group in seen.items():
            yield group, dict(zip(spec.group_keys, key, strict=True))

    def _rows(self, spec: ArraySpec, group: int) -> Any:
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
            rows = _compact(self._rows(spec, group))
            lead = tuple(self.groups.shapes[spec.name][group] or (_length(rows),))
        path = self._path(spec, keys)
        if not math.prod(lead) and not self._stays_empty(spec, path):
            return
        if self._was_absent(spec, path, keys) and _all_nan(variable, rows, lane):
            return
        shape = (*lead, *trailing)
        form = self._form(name, spec, variable.dtype, path, shape)
        values = None
        if math.prod(shape) and not takes_bytes(form):
            values = _values(variable, rows, lane, shape)
        self.taken.add(path)
        attrs = self.form.attrs.get(path, ()) if self.form is not None else ()
        self.arrays.append(
            PlannedArray(path=path, shape=shape, form=form, attrs=attrs, values=values)
        )
        if values is None and math.prod(shape):
            self.transfers.append(
                Transfer(path=path, variable=name, lane=lane, rows=rows, shape=shape, form=form)
            )

    def _path(self, spec: ArraySpec, keys: Mapping[str, str]) -> str:
        """Return the path in the form, else by the alternative the form uses most."""
        given = {key for key, value in keys.items() if value}
        fitting = [
            pattern for pattern in spec.paths
            if set(placeholders(pattern)) == given & set(placeholders("".join(spec.paths)))
        ]  # fmt: skip
        if not fitting:
            raise LayoutError(f"{spec.name}: no path of {self.layout.name} fits {dict(keys)!r}")
        paths = [fill(pattern, keys) for pattern in fitting]
        for path in paths:
            if self.form is not None and path in self.form:
                return path
        best = max(range(len(fitting)), key=lambda i: self.used[fitting[i]])
        return paths[best]

    def _stays_empty(self, spec: ArraySpec, path: str) -> bool:
        """Whether a group without rows gets a zero-row dataset."""
        if not self.layout.keep_empty:
            return False
        text_kept = spec.group_keys != self.layout.group_keys and self._in_form(path)
        return not text_kept

    def _in_form(self, path: str) -> bool:
        return self.form is not None and path in self.form

    def _was_absent(self, spec: ArraySpec, path: str, keys: Mapping[str, str]) -> bool:
        """Whether the form has the group but not this dataset of it, so that it read as NaN."""
        if self.form is None or path in self.form or spec.required or not spec.ragged:
            return False
        return path.rpartition("/")[0] in self.form.groups and spec.name in self.models

    def _form(
        self, name: str, spec: ArraySpec, dtype: np.dtype[Any], path: str, shape: tuple[int, ...]
    ) -> ArrayForm:
        """Return the stored form: the file's own, else a sibling's, else the document's."""
        model = None
        if self.form is not None and path in self.form:
            model = self.form.form(path)
        elif name in self.models:
            model = self.models[name]
        if model is None or not _holds(model, dtype):
            model = self._new_form(spec, dtype, shape, model)
        if model.maxshape and len(model.maxshape) != len(shape):
            model = replace(model, maxshape=(), chunks=None)
        return self._compressed(model, shape)

    def _new_form(
        self, spec: ArraySpec, dtype: np.dtype[Any], shape: tuple[int, ...], old: ArrayForm | None
    ) -> ArrayForm:
        limits = (UNLIMITED, *(AS_SHAPE,) * (len(shape) - 1)) if spec.resizable else ()
        if dtype.kind in "OUST":
            kind: Any = "bytes" if spec.dtypes[:1] == ("bytes",) else "str"
        else:
            kind = _stored_dtype(spec, dtype)
        form = form_of(kind, maxshape=limits)
        if old is None or len(old.maxshape) != len(shape):
            return form
        return replace(
            form, storage=old.storage, maxshape=old.maxshape, chunks=old.chunks,
            filters=old.filters if old.is_numeric == form.is_numeric else (),
            alloc_time=old.alloc_time, fill_time=old.fill_time, attr_order=old.attr_order,
        )  # fmt: skip

    def _compressed(self, form: ArrayForm, shape: tuple[int, ...]) -> ArrayForm:
        if self.gzip is None or not form.is_numeric or not math.prod(shape):
            return form
        itemsize = np.dtype(form.dtype).itemsize
        if self.gzip < 0:
            return replace(form, filters=())
        row = math.prod(shape[1:]) * itemsize
        chunks = form.chunks or (min(shape[0], max(1, _CHUNK_NBYTES // row)), *shape[1:])
        return replace(
            form, storage="chunked", chunks=chunks, filters=gzip_filters(self.gzip, itemsize),
            maxshape=form.maxshape or (AS_SHAPE,) * len(shape), alloc_time=3,
        )  # fmt: skip

    def add_empty(self) -> None:
        """Keep the zero-row datasets of the form whose groups the Dataset has no rows of."""
        if self.form is None or not self.layout.keep_empty:
            return
        written = {parse(spec.name, name) is not None and spec.name
                   for name, spec in _matched(self.layout, self.ds)}  # fmt: skip
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
            if path in unknown or (match is not None and self._kept_text(match[0], path)):
                yield source, path
        for path in self.form.links:
            if "@" not in path and not _above(path, gone):
                yield source, path

    def _kept_text(self, spec: ArraySpec, path: str) -> bool:
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


def _above(path: str, groups: set[str]) -> list[str]:
    """Return those of the groups that a path is or lies in."""
    top = path.split("/")[0]
    return [top] if top in groups else []


def _with_parents(plan: Plan) -> dict[str, GroupForm]:
    groups = dict(plan.groups)
    for path in (*plan.attrs, *(array.path.rpartition("/")[0] for array in plan.arrays)):
        parts = path.split("/")
        for n in range(1, len(parts) + 1):
            groups.setdefault("/".join(parts[:n]), GroupForm())
    return groups


def _compact(rows: Any) -> Rows:
    """Return consecutive rows as a slice."""
    if isinstance(rows, slice):
        return rows
    if len(rows) and int(rows[-1]) - int(rows[0]) == len(rows) - 1 and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows if len(rows) else slice(0, 0)


def _length(rows: Rows) -> int:
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def _part(variable: xr.Variable, rows: Rows, lane: int | None) -> Any:
    """Return the rows of one lane, as lazy as the variable is."""
    data = variable.data if not isinstance(variable.data, np.ndarray) else variable.values
    part = data[rows]
    return part if lane is None else part[:, lane]


def _all_nan(variable: xr.Variable, rows: Rows, lane: int | None) -> bool:
    if variable.dtype.kind != "f" or not _length(rows):
        return False
    return bool(np.isnan(_part(variable, rows, lane)).all())


def _values(
    variable: xr.Variable, rows: Rows, lane: int | None, shape: tuple[int, ...]
) -> Callable[[], Iterator[NDArray[Any]]]:
    """Return what yields the values block by block, each computed when it is its turn."""

    def blocks() -> Iterator[NDArray[Any]]:
        part = _part(variable, rows, lane)
        if len(shape) != part.ndim:
            yield np.asarray(part).reshape(shape)
        elif isinstance(part, da.Array):
            whole = part.rechunk({axis: -1 for axis in range(1, part.ndim)})
            for at in range(len(whole.chunks[0])):
                yield whole.blocks[at].compute()
        else:
            yield np.asarray(part)

    return blocks


def _holds(form: ArrayForm, dtype: np.dtype[Any]) -> bool:
    """Whether values of a Dataset's dtype are of the type that a form stores."""
    if dtype.kind in "OUST":
        return form.is_text or form.is_ragged_bytes
    return form.is_numeric and np.dtype(form.dtype).newbyteorder("=") == dtype


def _stored_dtype(spec: ArraySpec, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype a new dataset gets: the Dataset's own where accepted, else one that holds it."""
    if not spec.dtypes or dtype.name in spec.dtypes:
        return dtype.newbyteorder("=")
    accepted = [np.dtype(name) for name in spec.dtypes]
    safe = [one for one in accepted if np.can_cast(dtype, one, "safe")]
    same_kind = [one for one in accepted if np.can_cast(dtype, one, "same_kind")]
    if not (safe or same_kind):
        raise LayoutError(
            f"{spec.name} has dtype {dtype.name!r}, expected {' or '.join(spec.dtypes)}; "
            "convert it with astype"
        )
    return safe[0] if safe else max(same_kind, key=lambda one: one.itemsize)


def _attrs(draft: _Draft, keep_attrs: bool) -> dict[str, tuple[Attr, ...]]:
    """Return the attributes of every group, those that follow from sizes computed anew."""
    layout, form = draft.layout, draft.form
    groups = draft.planned_groups()
    found: dict[str, dict[str, Attr]] = {}
    if form is not None:
        for path, attrs in form.attrs.items():
            if path in groups:
                found[path] = {attr.name: attr for attr in attrs}
    before, after = _derived(draft)
    _apply_dataset(draft, found, keep_attrs)
    _apply_derived(draft, found, before, after)
    _refuse_missing(layout, found, form)
    return {path: tuple(attrs.values()) for path, attrs in found.items()}


def _derived(draft: _Draft) -> tuple[Derived, Derived]:
    """Return what followed from the form's sizes, and what follows from the Dataset's."""
    layout, ds = draft.layout, draft.ds
    before: Derived = {}
    if draft.form is not None:
        arrangement = arrange(layout, draft.form)
        if not arrangement.misfits:
            before = derived_from(layout, draft.form, arrangement)
    stacked = {dim for spec in layout.arrays for dim in spec.stacked if dim in ds.coords}
    lanes = {dim: tuple(ds[dim].values.tolist()) for dim in stacked}
    sizes = {str(dim): n for dim, n in ds.sizes.items()}
    return before, layout.derive(draft.groups, sizes, lanes)


def _apply_dataset(draft: _Draft, found: dict[str, dict[str, Attr]], keep_attrs: bool) -> None:
    """Bring the attributes that stand in `ds.attrs` into the file's objects."""
    specs = {spec.name: spec for spec in draft.layout.attrs if not placeholders(spec.path)}
    carriers = {"", *(spec.path for spec in specs.values())}
    given = {str(name): value for name, value in draft.ds.attrs.items()}
    for path in carriers:
        for name in list(found.get(path, {})):
            known = path == "" or (name in specs and specs[name].path == path)
            held = found[path][name].value is None
            if known and name not in given and not keep_attrs and not held:
                del found[path][name]
    for name, value in given.items():
        spec = specs.get(name)
        path = spec.path if spec is not None else ""
        old = found.setdefault(path, {}).get(name)
        found[path][name] = _attr(name, value, spec, old)


def _attr(name: str, value: Any, spec: AttrSpec | None, old: Attr | None) -> Attr:
    """Return an attribute: word for word as it was where its value is what it was."""
    if old is not None and (_equal(old.value, value) or _equal(as_text(old.value), value)):
        return old
    if spec is not None and spec.kind == "json" and isinstance(value, Mapping):
        value = json.dumps(value)
    if old is not None and isinstance(old.value, str) and isinstance(value, str):
        return replace(old, value=value)
    return new_attr(name, value, spec.encoding if spec is not None else "utf8")


def _equal(a: Any, b: Any) -> bool:
    if type(a) is type(b) and not isinstance(a, np.ndarray):
        return bool(a == b) or (a != a and b != b)
    left, right = np.asarray(a), np.asarray(b)
    same_kind = left.dtype.kind == right.dtype.kind and left.shape == right.shape
    return same_kind and bool((left == right).all())


def _apply_derived(
    draft: _Draft, found: dict[str, dict[str, Attr]], before: Derived, after: Derived
) -> None:
    """Renew attributes that follow from sizes, where the sizes are no longer what they were."""
    required = {(s.path, s.name) for s in draft.layout.attrs if s.required}
    patterns = [s for s in draft.layout.attrs if placeholders(s.path)]
    for (path, name, key), value in after.items():
        attrs = found.setdefault(path, {}) if path in found or path else found.setdefault("", {})
        old = attrs.get(name)
        if draft.form is not None and path in draft.form.groups:
            if old is None or _plain(before.get((path, name, key))) == _plain(value):
                continue  # absent stays absent, and what sizes still say stays word for word
        if key:
            inside = json_of(old.value) if old is not None else None
            if inside is not None and key in inside and old is not None:
                attrs[name] = replace(old, value=json.dumps({**inside, key: value}))
        elif old is not None:
            attrs[name] = old if _equal(old.value, value) else _renewed(old, value)
        elif (path, name) in required or any(
            s.name == name and s.required and parse(s.path, path) is not None for s in patterns
        ):
            attrs[name] = new_attr(name, value)
    for path in [path for path, attrs in found.items() if not attrs]:
        del found[path]


def _renewed(old: Attr, value: Any) -> Attr:
    kept = isinstance(value, int) and isinstance(old.value, int) and not isinstance(value, bool)
    return replace(old, value=value) if kept and old.shape == () else new_attr(old.name, value)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _refuse_missing(
    layout: Layout, found: Mapping[str, Mapping[str, Attr]], form: Contents | None
) -> None:
    """Raise once with all required attributes that the Dataset lacks."""
    missing = []
    for spec in layout.attrs:
        if not spec.required or placeholders(spec.path) or spec.name in found.get(spec.path, {}):
            continue
        was_there = form is None or form.attr(spec.path, spec.name) is not None
        if was_there:
            allowed = f" (one of {', '.join(map(repr, spec.allowed))})" if spec.allowed else ""
            missing.append(f"{spec.name}{allowed}")
    if missing:
        raise LayoutError(
            f"the Dataset lacks attributes that {layout.name} needs: {', '.join(missing)}; "
            "set them in ds.attrs"
        )
