"""What a file holds and in which form, as plain picklable records. No file is touched here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from typing import Any

from h5dask.chunkindex import Filter

UNLIMITED = -1
"""In `ArrayForm.maxshape`: the dim may grow without bound."""
AS_SHAPE = 0
"""In `ArrayForm.maxshape`: the dim may not grow beyond the shape it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayForm:
    """How one dataset is stored, its shape, attributes and values apart."""

    dtype: str
    """numpy's name of the stored dtype ("<f4", "|b1"), "str" for variable-length text, "S5" for
    fixed text, "vlen |u1" for variable-length bytes, else HDF5's class ("compound", ...)."""
    type: bytes
    """HDF5's own encoding of the on-disk type."""
    storage: str = "contiguous"
    """contiguous, compact, chunked, external or virtual."""
    maxshape: tuple[int, ...] = ()
    """A number, `UNLIMITED` or `AS_SHAPE` for each dim."""
    chunks: tuple[int, ...] | None = None
    """Shape of a stored chunk."""
    filters: tuple[Filter, ...] = ()
    """The filter pipeline, first step first."""
    fill: bytes | None = None
    """The fill value's bytes in the stored type, None where the file sets none."""
    alloc_time: int = 2
    """HDF5's space allocation time: 1 early, 2 late, 3 incremental."""
    fill_time: int = 2
    """HDF5's fill time: 0 at allocation, 1 never, 2 if set."""
    attr_order: int = 0
    """HDF5's flags of attribute creation order."""
    times: bool = False
    """Whether the dataset records its modification time."""
    null: bool = False
    """A dataset without a dataspace (HDF5's null space)."""

    @property
    def is_text(self) -> bool:
        """Whether the values are text, of variable or of fixed length."""
        return self.dtype == "str" or self.dtype.startswith("S")

    @property
    def padding(self) -> int:
        """How fixed text is padded: 0 ends at the first NUL, 1 NULs at the end, 2 spaces."""
        # Byte 3 of HDF5's encoding of a string type: padding in its low half, charset above.
        return self.type[3] & 15 if self.dtype.startswith("S") else 0

    @property
    def is_ragged_bytes(self) -> bool:
        """Whether each value is a variable-length run of bytes, such as a picture."""
        return self.dtype.startswith("vlen")

    @property
    def is_numeric(self) -> bool:
        """Whether the values are numbers or bools."""
        return self.dtype[:1] in "<>|=" and self.dtype[1:2] in "iufbc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attr:
    """One attribute, with its on-disk type."""

    name: str
    value: Any
    """str, int, float, bool, bytes or a numpy array; None for an empty (null) attribute."""
    type: bytes
    """HDF5's own encoding of the on-disk type."""
    shape: tuple[int, ...] | None = ()
    """Shape of the attribute's space; None for HDF5's null space."""


class SharedAttrs(Mapping[str, tuple[Attr, ...]]):
    """Attributes by path, where many groups have whole numbers of the same names.

    Those are kept as columns, and become `Attr`s when they are asked for.

    Parameters
    ----------
    rest : mapping
        Attributes of any other kind, by path.
    numbers : mapping
        Name and on-disk type -> value by path.
    """

    def __init__(
        self,
        rest: Mapping[str, tuple[Attr, ...]],
        numbers: Mapping[tuple[str, bytes], Mapping[str, int]],
    ) -> None:
        self.rest = rest
        self.numbers = numbers

    def __getitem__(self, path: str) -> tuple[Attr, ...]:
        shared = [
            Attr(name=name, value=values[path], type=kind)
            for (name, kind), values in self.numbers.items()
            if path in values
        ]
        found = (*shared, *self.rest.get(path, ()))
        if not found:
            raise KeyError(path)
        return found

    def value(self, path: str, name: str, default: Any = None) -> Any:
        """Return the value of an attribute, or `default`."""
        for (shared, _), values in self.numbers.items():
            if shared == name and path in values:
                return values[path]
        return next((a.value for a in self.rest.get(path, ()) if a.name == name), default)

    def __iter__(self) -> Iterator[str]:
        return iter(
            dict.fromkeys(path for held in (*self.numbers.values(), self.rest) for path in held)
        )

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupForm:
    """How one group is stored."""

    link_order: int = 0
    """HDF5's flags of link creation order."""
    attr_order: int = 0
    """HDF5's flags of attribute creation order."""
    members: tuple[str, ...] = ()
    """Names of its members in order of creation, where the group tracks it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One of the files that lie end to end, as far as its contents can be read again."""

    subject: str
    """The file's URL."""
    fingerprint: str
    """What identified the file's state."""
    group: str
    """The one group that was opened, "" for the whole file."""
    numbers: Mapping[int, int]
    """New numbers of its groups by old ones."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """All that a file holds but its values: paths, shapes, forms, attributes, links.

    Paths carry no leading slash; the root is "". A Contents that is not `complete` left out what
    opening doesn't need: attributes and further members of groups of one pattern.
    """

    subject: str
    """The file's URL, for messages and for reading what was left out."""
    fingerprint: str
    """What identified the file's state when it was described."""
    nbytes: int = 0
    """Size of the file then."""
    complete: bool = True
    layout: str = ""
    """Name of the layout it was read as."""
    group: str = ""
    """The one group that was opened, "" for the whole file."""
    numbers: Mapping[int, int] = field(default_factory=dict)
    """New numbers of its groups by old ones, where it was laid end to end with others."""
    others: tuple[Part, ...] = ()
    """Further files that were laid end to end with it."""
    paths: tuple[str, ...] = ()
    """Path of each dataset, in the order HDF5 lists them."""
    shapes: tuple[tuple[int, ...], ...] = ()
    """Shape of each dataset."""
    form_of: tuple[int, ...] = ()
    """For each dataset, which of `forms` it has."""
    forms: tuple[ArrayForm, ...] = ()
    """The distinct forms."""
    mean_nbytes: Mapping[str, float] = field(default_factory=dict)
    """Measured mean bytes of a value, for datasets of variable-length values."""
    groups: Mapping[str, GroupForm] = field(default_factory=dict)
    """Every group by path, in the order HDF5 lists them."""
    attrs: Mapping[str, tuple[Attr, ...]] = field(default_factory=dict)
    """Attributes of each object that has any, by path."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Soft, external and repeated hard links, by path: what they say. They are never followed."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_at"}

    @cached_property
    def _at(self) -> dict[str, int]:
        return {path: i for i, path in enumerate(self.paths)}

    def __contains__(self, path: str) -> bool:
        return path in self._at

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def position(self, path: str) -> int:
        """Return the dataset's position in `paths`."""
        return self._at[path]

    def positions(self, paths: Iterable[str | None]) -> list[int]:
        """Return the positions of many datasets at once, -1 for None."""
        at = self._at
        return [-1 if path is None else at[path] for path in paths]

    def shape(self, path: str) -> tuple[int, ...]:
        """Return the shape of the dataset at `path`."""
        return self.shapes[self._at[path]]

    def form(self, path: str) -> ArrayForm:
        """Return the form of the dataset at `path`."""
        return self.forms[self.form_of[self._at[path]]]

    def attr(self, path: str, name: str, default: Any = None) -> Any:
        """Return the value of an attribute, or `default`."""
        if isinstance(self.attrs, SharedAttrs):
            return self.attrs.value(path, name, default)
        found = self.attrs.get(path, ())
        return next((attr.value for attr in found if attr.name == name), default)

    def attr_column(self, name: str) -> dict[str, Any]:
        """Return one attribute's value by path, for all objects that have it."""
        if not isinstance(self.attrs, SharedAttrs):
            return {p: a.value for p, attrs in self.attrs.items() for a in attrs if a.name == name}
        found: dict[str, Any] = {}
        for (shared, _), values in self.attrs.numbers.items():
            if shared == name:
                found.update(values)
        rest = self.attrs.rest.items()
        return found | {p: a.value for p, attrs in rest for a in attrs if a.name == name}

    def attr_columns(self) -> Iterator[tuple[str, Collection[str]]]:
        """Yield the name of attributes, and the objects that have one; a name may come again."""
        rest = self.attrs
        if isinstance(rest, SharedAttrs):
            yield from ((name, values) for (name, _), values in rest.numbers.items())
            rest = rest.rest
        columns: dict[str, list[str]] = {}
        for path, attrs in rest.items():
            for attr in attrs:
                columns.setdefault(attr.name, []).append(path)
        yield from columns.items()

    def only(self, positions: Sequence[int]) -> Contents:
        """Return these contents with only some of the datasets."""
        return replace(
            self,
            paths=tuple(self.paths[i] for i in positions),
            shapes=tuple(self.shapes[i] for i in positions),
            form_of=tuple(self.form_of[i] for i in positions),
        )

    def positions_in(self, group: str) -> list[int]:
        """Return the positions of the datasets that lie in a group."""
        return [i for i, path in enumerate(self.paths) if path.startswith(group + "/")]

    @property
    def parts(self) -> tuple[Part, ...]:
        """The files that it describes: one, or several that lie end to end."""
        first = Part(
            subject=self.subject,
            fingerprint=self.fingerprint,
            group=self.group,
            numbers=self.numbers,
        )
        return (first, *self.others)

    def within(self, group: str) -> Contents:
        """Return these contents without the group's siblings, and what lies in them.

        Siblings at the root that hold no dataset stay: they tell of the file.
        """
        if not group:
            return self
        mine, holding = group.split("/"), {path.split("/")[0] for path in self.paths}

        def stays(path: str) -> bool:
            parts = path.split("/")
            n = sum(
                1
                for _ in takewhile(lambda pair: pair[0] == pair[1], zip(parts, mine, strict=False))
            )
            return not path or n in (len(parts), len(mine)) or (not n and parts[0] not in holding)

        part = self.only(self.positions_in(group))
        return replace(
            part,
            group=group,
            groups={path: form for path, form in self.groups.items() if stays(path)},
            attrs={path: attrs for path, attrs in self.attrs.items() if stays(path)},
            links={path: link for path, link in self.links.items() if stays(path)},
        )

    def joined(self, others: Sequence[Contents]) -> Contents:
        """Return this form, with what only the others hold added to it."""
        paths, shapes, ids = list(self.paths), list(self.shapes), list(self.form_of)
        forms = {form: i for i, form in enumerate(self.forms)}
        groups, attrs = dict(self.groups), dict(self.attrs)
        mean_nbytes = dict(self.mean_nbytes)
        held, further = set(paths), list(self.others)
        for other in others:
            further += other.parts
            for path, shape, of in zip(other.paths, other.shapes, other.form_of, strict=True):
                if path not in held:
                    held.add(path)
                    paths.append(path)
                    shapes.append(shape)
                    ids.append(forms.setdefault(other.forms[of], len(forms)))
            groups = {**other.groups, **groups}
            attrs = {**other.attrs, **attrs}
            mean_nbytes = {**other.mean_nbytes, **mean_nbytes}
        return replace(
            self,
            complete=self.complete and all(other.complete for other in others),
            others=tuple(further),
            paths=tuple(paths),
            shapes=tuple(shapes),
            form_of=tuple(ids),
            forms=tuple(forms),
            mean_nbytes=mean_nbytes,
            groups=groups,
            attrs=attrs,
        )
