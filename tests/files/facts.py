"""What is to be told of every object of an HDF5 file, by h5py's lowest level."""

from typing import Any

import h5py
import numpy as np
from h5py import h5, h5a, h5d, h5g, h5l, h5o, h5p, h5r, h5s, h5t

Facts = dict[str, Any]
"""What is compared, by the word a difference is told with."""

TYPE_CLASSES = {getattr(h5t, name): name.lower() for name in (
    "INTEGER", "FLOAT", "TIME", "STRING", "BITFIELD", "OPAQUE", "COMPOUND", "REFERENCE", "ENUM",
    "VLEN", "ARRAY", "COMPLEX",
) if hasattr(h5t, name)}  # fmt: skip
LAYOUTS = {h5d.COMPACT: "compact", h5d.CONTIGUOUS: "contiguous", h5d.CHUNKED: "chunked",
           h5d.VIRTUAL: "virtual"}  # fmt: skip
SPACES = {h5s.SCALAR: "scalar", h5s.NULL: "null", h5s.SIMPLE: "simple"}
LINKS = {h5l.TYPE_HARD: "hard", h5l.TYPE_SOFT: "soft", h5l.TYPE_EXTERNAL: "external"}


class ElementType:
    """A type as it lies in the file, equal to another where HDF5 finds no difference, nor we."""

    def __init__(self, kind: h5t.TypeID) -> None:
        self.committed = bool(kind.committed())
        # HDF5 calls variable-length types of two files unequal; decoded anew they are of no file.
        self.kind = h5t.decode(kind.encode())
        # It also takes variable-length UTF-8 and ASCII for one type: described, they are two.
        self.parts = described(self.kind)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ElementType):
            return NotImplemented
        mine, theirs = (self.committed, self.parts), (other.committed, other.parts)
        return mine == theirs and bool(self.kind.equal(other.kind))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{self.parts}{' committed' * self.committed}"


def described(kind: h5t.TypeID) -> tuple[Any, ...]:
    """Tell a type with those that it is made of."""
    words = [
        f"{name}={getattr(kind, f'get_{name}')()}"
        for name in ("order", "sign", "precision", "offset", "pad", "cset", "strpad", "tag")
        if hasattr(kind, f"get_{name}")
    ]
    inner: list[Any] = []
    if isinstance(kind, h5t.TypeStringID):
        inner = ["variable"] * kind.is_variable_str()
    elif isinstance(kind, h5t.TypeCompoundID | h5t.TypeEnumID):
        inner = [member(kind, i) for i in range(kind.get_nmembers())]
    elif isinstance(kind, h5t.TypeArrayID):
        inner = [kind.get_array_dims()]
    if isinstance(kind, h5t.TypeEnumID | h5t.TypeArrayID | h5t.TypeVlenID):
        inner.append(described(kind.get_super()))
    return TYPE_CLASSES[kind.get_class()], kind.get_size(), *words, *inner


def member(kind: h5t.TypeCompoundID | h5t.TypeEnumID, number: int) -> tuple[Any, ...]:
    """Tell one column of a table, or one word of an enumeration."""
    name = kind.get_member_name(number)
    if isinstance(kind, h5t.TypeEnumID):
        return name, kind.get_member_value(number)
    return name, kind.get_member_offset(number), described(kind.get_member_type(number))


def objects(f: h5py.File) -> dict[str, Facts]:
    """Describe each object once, under the first of its paths by name."""
    found: dict[str, Facts] = {}
    paths: dict[int, str] = {}
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        item = h5o.open(f.id, path.encode("utf-8", "surrogateescape"))
        paths.setdefault(h5o.get_info(item).addr, path)
        facts = attribute_facts(item)
        if isinstance(item, h5g.GroupID):
            facts |= group_facts(item)
            waiting += members(item, path, facts, paths)
        elif isinstance(item, h5d.DatasetID):
            facts |= dataset_facts(item)
        else:
            facts |= {"kind": "named type", "type": ElementType(item)}
        found[path] = facts
    return found


def members(group: h5g.GroupID, path: str, facts: Facts, paths: dict[int, str]) -> list[str]:
    """Add each link of a group to its facts; give the paths of the objects not met before."""
    new = []
    for name in names_of(group.links, h5.INDEX_NAME):
        link = group.links.get_info(name)
        kind = LINKS.get(link.type, f"type {link.type}")
        target: Any = None
        if kind == "hard":
            inner = f"{path.rstrip('/')}/{name.decode('utf-8', 'surrogateescape')}"
            address = h5o.get_info(group, name).addr
            if address not in paths:
                paths[address] = inner
                new.append(inner)
            target = paths[address]
        elif kind != f"type {link.type}":
            target = group.links.get_val(name)
        facts[f"link {name!r}"] = (kind, target)
    return new


def names_of(links: h5l.LinkProxy, index: int) -> list[bytes]:
    """List the names of a group's links, by name or in the order they were made."""
    names: list[bytes] = []
    links.iterate(names.append, idx_type=index)
    return names


def group_facts(group: h5g.GroupID) -> Facts:
    """Describe a group without its links, but with their order where that is tracked."""
    tracked = group.get_create_plist().get_link_creation_order()
    facts = {"kind": "group", "link order flags": tracked}
    if tracked & h5p.CRT_ORDER_TRACKED:
        facts["link order"] = names_of(group.links, h5.INDEX_CRT_ORDER)
    return facts


def dataset_facts(dataset: h5d.DatasetID) -> Facts:
    """Describe a dataset without its values."""
    properties = dataset.get_create_plist()
    layout = LAYOUTS[properties.get_layout()]
    facts = {
        "kind": "dataset",
        "type": ElementType(dataset.get_type()),
        "space": space_facts(dataset.get_space()),
        "layout": layout,
        "filters": [properties.get_filter(i) for i in range(properties.get_nfilters())],
        "fill value": fill_value(dataset, properties),
        "fill time": properties.get_fill_time(),
        "allocation time": properties.get_alloc_time(),
        "external files": [
            properties.get_external(i) for i in range(properties.get_external_count())
        ],
    }
    if layout == "chunked":
        facts["chunks"] = properties.get_chunk()
    if layout == "virtual":
        facts["sources"] = [
            (properties.get_virtual_filename(i), properties.get_virtual_dsetname(i))
            for i in range(properties.get_virtual_count())
        ]
    return facts


def space_facts(space: h5s.SpaceID) -> tuple[Any, ...]:
    """Tell a dataspace: its kind, and of a simple one the shape and the largest shape."""
    kind = SPACES[space.get_simple_extent_type()]
    if kind != "simple":
        return (kind,)
    return kind, space.get_simple_extent_dims(), space.get_simple_extent_dims(True)


def fill_value(dataset: h5d.DatasetID, properties: h5p.PropDCID) -> tuple[int, Any]:
    """Tell whether a fill value is set, and its bits where it is."""
    defined = properties.fill_value_defined()
    if defined != h5d.FILL_VALUE_USER_DEFINED:
        return defined, None
    value = np.zeros(1, dataset.dtype)
    properties.get_fill_value(value)
    return defined, bits(value, dataset)


def attribute_facts(item: h5g.GroupID | h5d.DatasetID | h5t.TypeID) -> Facts:
    """Describe each attribute with its value, and their order where that is tracked."""
    names: list[bytes] = []
    h5a.iterate(item, names.append, index_type=h5.INDEX_NAME)
    facts = {f"attribute {name!r}": attribute(item, name) for name in names}
    if isinstance(item, h5t.TypeID):
        return facts
    tracked = item.get_create_plist().get_attr_creation_order()
    facts["attribute order flags"] = tracked
    if tracked & h5p.CRT_ORDER_TRACKED:
        names = []
        h5a.iterate(item, names.append, index_type=h5.INDEX_CRT_ORDER)
        facts["attribute order"] = names
    return facts


def attribute(item: Any, name: bytes) -> tuple[Any, ...]:
    """Describe an attribute: type, dataspace and value."""
    found = h5a.open(item, name)
    kind, space = found.get_type(), space_facts(found.get_space())
    if space[0] == "null":
        return ElementType(kind), space
    if follows_pointers(kind):
        values = np.empty(found.shape, found.dtype)
        found.read(values)
    else:
        values = np.empty(found.shape, f"V{kind.get_size()}")
        found.read(values, mtype=kind)
    return ElementType(kind), space, bits(values, item)


def follows_pointers(kind: h5t.TypeID) -> bool:
    """Tell whether values lie elsewhere, so that the bytes of their elements say nothing."""
    if isinstance(kind, h5t.TypeStringID):
        return bool(kind.is_variable_str())
    elsewhere = (h5t.VLEN, h5t.REFERENCE, h5t.STRING)
    return kind.get_class() in elsewhere or any(kind.detect_class(c) for c in elsewhere)


def bits(value: Any, near: Any) -> Any:
    """Turn a value into what is equal only where every bit is; a reference into what it is to."""
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        return value.shape, [bits(element, near) for element in value.ravel()]
    if isinstance(value, np.void) and value.dtype.hasobject:
        return tuple(bits(value[name], near) for name in value.dtype.names)
    if isinstance(value, np.ndarray | np.generic):
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, h5r.RegionReference) and value:
        region = h5r.get_region(value, near)
        return h5r.get_name(value, near), region.get_select_npoints(), region.get_select_bounds()
    if isinstance(value, h5r.Reference):
        return h5r.get_name(value, near) if value else None
    return value
