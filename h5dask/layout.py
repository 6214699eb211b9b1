"""What a layout is: its arrays, attributes and rules as declarations. Pure records, no file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from h5dask.check import Check
from h5dask.contents import Contents
from h5dask.groups import Groups
from h5dask.pattern import fill, parse, placeholders
from h5dask.problem import Problem

if TYPE_CHECKING:
    import xarray as xr

Labels = Mapping[str, "np.ndarray[Any, Any]"]
"""One array of labels for each coordinate along a ragged dim."""


@dataclass(frozen=True, kw_only=True)
class ArraySpec:
    """One variable, and where it lies in the file."""

    name: str
    """Name in the Dataset; may hold a placeholder ("metadata_{field}"): one variable a match."""
    paths: tuple[str, ...]
    """Where it lies. The first that fits is what a writer creates, the others are read too."""
    dims: tuple[str, ...]
    """Dims of the variable. A placeholder of the path that is named here is stacked."""
    dtypes: tuple[str, ...]
    """Accepted dtypes by numpy's name, "str" or "bytes" (variable-length); () accepts any.
    A writer creates the first where the Dataset's own dtype isn't among them."""
    required: bool = True
    """Whether a file without it has a problem."""
    ragged: str | None = None
    """Dim along which unequal groups lie end to end (CF contiguous ragged array)."""
    ranks: tuple[int, ...] = ()
    """Accepted ranks of the stored dataset where they differ from the dims: leading axes in C
    order then lie end to end along the ragged dim."""
    resizable: bool = False
    """Whether a new dataset can grow along its first axis (chunked, h5py's chunk shape)."""
    coordinate: bool = False
    """Whether it becomes a coordinate rather than a data variable."""
    doc: str = ""
    """One line on what it holds; becomes `long_name`."""

    @cached_property
    def stacked(self) -> tuple[str, ...]:
        """Placeholders that are dims of the variable."""
        names = {name for path in self.paths for name in placeholders(path)}
        return tuple(dim for dim in self.dims if dim in names)

    @cached_property
    def stored_dims(self) -> tuple[str, ...]:
        """Dims that one stored dataset has: all but the stacked ones."""
        return tuple(dim for dim in self.dims if dim not in self.stacked)

    @cached_property
    def accepted_ranks(self) -> tuple[int, ...]:
        """Ranks that a stored dataset may have."""
        return self.ranks or (len(self.stored_dims),)

    @cached_property
    def group_keys(self) -> tuple[str, ...]:
        """Placeholders that tell apart the groups that lie end to end."""
        if self.ragged is None:
            return ()
        named = placeholders(self.name)
        found = dict.fromkeys(key for path in self.paths for key in placeholders(path))
        return tuple(key for key in found if key not in self.dims and key not in named)

    def match(self, path: str) -> tuple[str, dict[str, str]] | None:
        """Return the alternative that `path` fits and the placeholders' values."""
        for pattern in self.paths:
            keys = parse(pattern, path)
            if keys is not None:
                return pattern, keys
        return None

    def accepts(self, dtype: str) -> bool:
        """Whether a stored dtype (as `ArrayForm.dtype` names it) is one of the accepted."""
        if not self.dtypes:
            return True
        if dtype == "str" or dtype.startswith("S"):
            return "str" in self.dtypes
        if dtype.startswith("vlen"):
            return "bytes" in self.dtypes
        try:
            return np.dtype(dtype).name in self.dtypes
        except TypeError:
            return False

    def reads(self, dtype: str) -> bool:
        """Whether values of a stored dtype can stand in the variable at all."""
        if not self.dtypes:
            return dtype not in ("compound", "opaque", "reference", "array", "other")
        if self.is_numeric:
            return dtype[:1] in "<>|" and dtype[1:2] in "iufb"
        return self.accepts(dtype)

    def rows(self, shapes: Sequence[tuple[int, ...] | None]) -> np.ndarray[Any, Any]:
        """Return the rows of datasets of some shapes: 0 for None, -1 where the rank is wrong."""
        n_trailing = len(self.stored_dims) - 1
        # A file may declare more than int64 counts: never allocated, so it need only stay large.
        counted = (
            -(s is not None)
            if s is None or len(s) not in self.accepted_ranks
            else min(math.prod(s[: len(s) - n_trailing]), 1 << 62)
            for s in shapes
        )
        return np.fromiter(counted, np.int64, len(shapes))

    @property
    def may_be_absent(self) -> bool:
        """Whether some groups may lack it, whose rows then read as NaN: optional numbers."""
        return self.ragged is not None and not self.required and self.is_numeric

    @property
    def is_text(self) -> bool:
        """Whether the values are text."""
        return self.dtypes[:1] == ("str",)

    @property
    def is_numeric(self) -> bool:
        """Whether the values must be numbers."""
        return bool(self.dtypes) and not {"str", "bytes"} & set(self.dtypes)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttrSpec:
    """One attribute: where it stands, what it may be, and how a new one is stored."""

    path: str
    """Path of the object that carries it, "" for the root; may hold placeholders."""
    name: str
    """The attribute's name."""
    kind: Literal["str", "json", "int", "bool", "float"] = "str"
    """What the value is; json is text that holds a JSON object."""
    encoding: Literal["utf8", "ascii"] = "utf8"
    """Character set of a new text attribute, stored as a variable-length string."""
    allowed: tuple[Any, ...] = ()
    """The allowed values; () allows any of the kind."""
    required: bool = True
    """Whether a file without it has a problem."""
    at_opening: bool = False
    """Whether opening needs it even where there are many groups of one pattern."""
    derived: tuple[str, ...] = ()
    """Keys inside its JSON that follow from sizes."""
    keyed_by: str = ""
    """Pattern of the groups that the keys of its JSON name, where it tells of groups."""
    varies: bool = False
    """Whether it may differ between files that lie end to end; of `allowed` values the last of
    those found is kept, else the first file's."""
    default: Any = None
    """What a new file gets where the Dataset names none; None: it must be named."""
    doc: str = ""
    """One line on what it says."""


Derived = Mapping[tuple[str, str, str], Any]
"""Values that follow from sizes, by (path, attribute, key inside its JSON or "")."""


def no_rules(found: Contents, groups: Groups) -> Iterable[Problem]:
    """Return nothing: a layout without rules of its own."""
    return ()


def nothing_refused(found: Contents) -> Problem | None:
    """Return None: a layout all of whose files can be read."""
    return None


def nothing_derived(groups: Groups, sizes: Mapping[str, int], subset: Mapping[str, Any]) -> Derived:
    """Return nothing: a layout whose attributes don't follow from sizes."""
    return {}


def nothing_counted(groups: Groups) -> Mapping[str, np.ndarray[Any, Any]]:
    """Return nothing: a layout whose variables count the rows of every ragged dim."""
    return {}


def as_they_are(labels: Sequence[Labels]) -> Sequence[Labels]:
    """Return the labels of several files unchanged."""
    return labels


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One layout, declared: opening, validating, creating and documenting follow from it."""

    name: str
    """Its name in `layout=` and on the command line."""
    title: str
    """One line on what such a file is."""
    arrays: tuple[ArraySpec, ...]
    """Its variables."""
    attrs: tuple[AttrSpec, ...] = ()
    """Its attributes."""
    marks: tuple[str, ...]
    """Paths (groups, datasets) any of which marks a file as having this layout."""
    along: str | None = None
    """Dim along which several files lie end to end; None where they can't."""
    apart: str = ""
    """Why files can't lie end to end, where `along` is None."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Dims of fixed size."""
    dim_labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Labels of dims that are the same in every file."""
    keep_empty: bool = False
    """Whether groups without rows stay as zero-row datasets when a file is rewritten."""
    index: Callable[[Labels, Mapping[str, int]], Any] | None = None
    """Labels and sizes of the ragged dims -> the xarray Index that holds them."""
    count: Callable[[Groups], Mapping[str, np.ndarray[Any, Any]]] = nothing_counted
    """Groups in a file -> their rows along ragged dims that only optional variables have."""
    labels: Callable[[Groups, Contents], Labels] | None = None
    """Groups in a file -> labels of their rows."""
    groups: Callable[[Labels, Contents | None], Groups] | None = None
    """Labels of a Dataset's rows, and the form it came in -> groups to write."""
    join: Callable[[Sequence[Labels]], Sequence[Labels]] = as_they_are
    """Labels of several files -> labels that stay distinct when they lie end to end."""
    identity: tuple[str, ...] = ()
    """Labels by which rows are the same, within one file or several; of each row the first that
    isn't empty."""
    numbered: str = ""
    """Label by which groups are numbered, where `renumber` is given."""
    renumber: Callable[[Contents, Mapping[int, int]], Contents] | None = None
    """Contents of a file that lies end to end with others, and new numbers of its groups by old
    ones -> contents with groups of those numbers, and without those that have none."""
    derive: Callable[[Groups, Mapping[str, int], Mapping[str, Any]], Derived] = nothing_derived
    """Groups, sizes and dim labels of a file -> the attribute values that follow from them."""
    refuse: Callable[[Contents], Problem | None] = nothing_refused
    """Why a file that is recognised can't be read as this layout at all."""
    rules: Callable[[Contents, Groups], Iterable[Problem]] = no_rules
    """Rules on contents, and the groups in them, that the declarations can't say."""
    limits: Callable[[Mapping[str, int], int], Iterable[Problem]] | None = None
    """Sizes of the dims and bytes of a file -> what its consumer refuses."""
    checks: tuple[Check, ...] = ()
    """Checks on the values of one variable, block by block."""
    relations: tuple[Callable[[xr.Dataset, str], Iterable[Problem]], ...] = ()
    """Checks on values that join variables: lazy Dataset and file name -> problems."""
    vectors: str | None = None
    """Variable whose rows are vectors, its last dim their features; None where there is none."""
    example: Callable[[np.random.Generator], xr.Dataset]
    """A small valid Dataset made by hand."""

    @cached_property
    def group_keys(self) -> tuple[str, ...]:
        """Placeholders that tell apart the groups along the ragged dims."""
        return max((spec.group_keys for spec in self.arrays), key=len, default=())

    @cached_property
    def ragged_dims(self) -> tuple[str, ...]:
        """Dims along which groups lie end to end."""
        return tuple(dict.fromkeys(spec.ragged for spec in self.arrays if spec.ragged))

    @cached_property
    def families(self) -> tuple[str, ...]:
        """Patterns of root groups that may number in the many thousands."""
        tops = {path.split("/")[0] for spec in self.arrays for path in spec.paths if "/" in path}
        return tuple(sorted(top for top in tops if "{" in top))

    def folder_of(self, keys: Mapping[str, str]) -> str:
        """Return the group in which a group's datasets lie; "" where its keys are empty."""
        held = (path for spec in self.arrays for path in spec.paths)
        parts = next((path for path in held if placeholders(path)), "").split("/")
        depth = next((i + 1 for i, part in enumerate(parts) if placeholders(part)), 0)
        return fill("/".join(parts[:depth]), keys) if any(keys.values()) else ""

    def spec_of(self, path: str) -> tuple[ArraySpec, str, dict[str, str]] | None:
        """Return the spec that a dataset's path belongs to, the alternative and its keys."""
        for spec, pattern in self._by_ending.get(path.rpartition("/")[2], self._open_ended):
            keys = parse(pattern, path)
            if keys is not None:
                return spec, pattern, keys
        return None

    @cached_property
    def _open_ended(self) -> tuple[tuple[ArraySpec, str], ...]:
        """Specs and alternatives whose last name holds a placeholder, as declared."""
        return tuple(
            (spec, path)
            for spec in self.arrays
            for path in spec.paths
            if "{" in path.rpartition("/")[2]
        )

    @cached_property
    def _by_ending(self) -> dict[str, tuple[tuple[ArraySpec, str], ...]]:
        """Those that a path of a given last name may belong to, as declared."""
        every = [
            (spec, path, path.rpartition("/")[2]) for spec in self.arrays for path in spec.paths
        ]
        endings = {last for *_, last in every if "{" not in last}
        return {
            ending: tuple(
                (spec, path) for spec, path, last in every if last == ending or "{" in last
            )
            for ending in endings
        }
