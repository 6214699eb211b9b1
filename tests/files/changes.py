"""Every single thing in which two files can differ: how to write the one and the other."""

from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t, h5z

from tests.files.elements import ASCII, padded
from tests.files.variant import TEXT, Array, Fill, text

ROWS = np.arange(12, dtype="<f4").reshape(4, 3)


def dataset(values: Any = ROWS, **storage: Any) -> Fill:
    """Write one dataset `x` by h5py's keywords."""
    return lambda f: f.create_dataset("x", data=values, **storage)


def declared(kind: h5t.TypeID, *settings: Callable[[h5p.PropDCID], None]) -> Fill:
    """Declare a dataset `x` without values, by properties that h5py has no keyword for."""

    def fill(f: h5py.File) -> None:
        properties = h5p.create(h5p.DATASET_CREATE)
        for change in settings:
            change(properties)
        h5d.create(f.id, b"x", kind, h5s.create_simple((4, 3)), properties)

    return fill


def attribute(value: Any, **kind: Any) -> Fill:
    """Write one attribute."""
    return lambda f: f.attrs.create("unit", value, **kind)


def members(**links: Any) -> Fill:
    """Write links: arrays, links, or with a text another name of an object."""

    def fill(f: h5py.File) -> None:
        for name, target in links.items():
            f[name] = f[target] if isinstance(target, str) else target

    return fill


def ordered(*names: str, root: bool = True) -> Fill:
    """Write groups within one that tracks their order."""

    def fill(f: h5py.File) -> None:
        group = f.create_group("g", track_order=root)
        for name in names:
            group.create_group(name)

    return fill


def ordered_attributes(*names: str) -> Fill:
    """Write attributes of a dataset that tracks their order."""

    def fill(f: h5py.File) -> None:
        made = f.create_dataset("x", data=ROWS, track_order=True)
        for name in names:
            made.attrs[name] = 1

    return fill


def reference(target: str) -> Fill:
    """Write a reference to one of two datasets."""

    def fill(f: h5py.File) -> None:
        f["a"], f["b"] = ROWS, ROWS
        f.create_dataset("x", data=f[target].ref, dtype=h5py.ref_dtype)

    return fill


def virtual(name: str) -> Fill:
    """Write a dataset of another file's values."""

    def fill(f: h5py.File) -> None:
        rows = h5py.VirtualLayout((4, 3), "<f4")
        rows[:] = h5py.VirtualSource("absent.h5", name, (4, 3))
        f.create_virtual_dataset("x", rows)

    return fill


def rows(*values: list[int]) -> Array:
    """Give rows of unequal length."""
    made = np.empty(len(values), object)
    made[:] = [np.array(row, "u1") for row in values]
    return made


def nan(bits: int) -> Array:
    """Give a NaN of these bits."""
    return np.array([0x3F800000, bits], "<u4").view("<f4")


def deflated(flag: int) -> Callable[[h5p.PropDCID], None]:
    """Set the deflate filter with a flag."""

    def change(properties: h5p.PropDCID) -> None:
        properties.set_chunk((2, 3))
        properties.set_filter(h5z.FILTER_DEFLATE, flag, (4,))

    return change


PICTURES = h5py.vlen_dtype(np.uint8)
FLOAT = h5t.IEEE_F32LE
CHANGES: dict[str, tuple[Fill, Fill, str]] = {
    "byte order": (dataset(), dataset(ROWS.astype(">f4")), "/x: type"),
    "width": (dataset(), dataset(ROWS.astype("<f8")), "/x: type"),
    "sign": (dataset(ROWS.astype("i4")), dataset(ROWS.astype("u4")), "/x: type"),
    "bool": (dataset(np.ones(3, "?")), dataset(np.ones(3, "i1")), "/x: type"),
    "charset": (dataset(text(["a"]), dtype=TEXT), dataset(text(["a"]), dtype=ASCII), "/x: type"),
    "fixed text": (dataset(text(["a"]), dtype=TEXT), dataset(np.array([b"a"])), "/x: type"),
    "length": (dataset(np.array([b"a"])), dataset(np.array([b"a"], "S2")), "/x: type"),
    "padding": (
        declared(padded(h5t.STR_NULLPAD)),
        declared(padded(h5t.STR_SPACEPAD)),
        "/x: type",
    ),
    "fixed charset": (
        dataset(np.array([b"a"], h5py.string_dtype("ascii", 3))),
        dataset(np.array([b"a"], h5py.string_dtype("utf-8", 3))),
        "/x: type",
    ),
    "row type": (
        dataset(rows([1, 2]), dtype=PICTURES),
        dataset(rows([1, 2]), dtype=h5py.vlen_dtype(np.dtype("<u2"))),
        "/x: type",
    ),
    "enumeration": (
        dataset([1], dtype=h5py.enum_dtype({"left": 1})),
        dataset([1], dtype=h5py.enum_dtype({"right": 1})),
        "/x: type",
    ),
    "columns": (
        dataset(np.zeros(2, [("a", "<i4")])),
        dataset(np.zeros(2, [("b", "<i4")])),
        "/x: type",
    ),
    "shape": (dataset(), dataset(ROWS[:3]), "/x: space"),
    "scalar": (dataset(np.float32(1)), dataset(np.ones(1, "f4")), "/x: space"),
    "null": (dataset(h5py.Empty("f4")), dataset(np.float32(0)), "/x: space"),
    "maxshape": (
        dataset(chunks=(2, 3), maxshape=(None, 3)),
        dataset(chunks=(2, 3), maxshape=(9, 3)),
        "/x: space",
    ),
    "layout": (
        declared(FLOAT),
        declared(FLOAT, lambda p: p.set_layout(h5d.COMPACT)),
        "/x: layout",
    ),
    "chunks": (dataset(chunks=(2, 3)), dataset(chunks=(3, 2)), "/x: chunks"),
    "filter": (
        dataset(chunks=(2, 3), compression="gzip"),
        dataset(chunks=(2, 3), compression="lzf"),
        "/x: filters",
    ),
    "filter values": (
        dataset(chunks=(2, 3), compression="gzip", compression_opts=4),
        dataset(chunks=(2, 3), compression="gzip", compression_opts=5),
        "/x: filters",
    ),
    "filter flags": (
        declared(FLOAT, deflated(0)),
        declared(FLOAT, deflated(h5z.FLAG_OPTIONAL)),
        "/x: filters",
    ),
    "filter order": (
        declared(FLOAT, deflated(0), lambda p: p.set_shuffle()),
        declared(FLOAT, lambda p: p.set_shuffle(), deflated(0)),
        "/x: filters",
    ),
    "fill value": (dataset(fillvalue=0.0), dataset(fillvalue=-0.0), "/x: fill value"),
    "fill defined": (dataset(), dataset(fillvalue=0.0), "/x: fill value"),
    "fill text": (
        dataset(text(["a"]), dtype=TEXT, fillvalue="a"),
        dataset(text(["a"]), dtype=TEXT, fillvalue="b"),
        "/x: fill value",
    ),
    "fill time": (
        declared(FLOAT),
        declared(FLOAT, lambda p: p.set_fill_time(h5d.FILL_TIME_NEVER)),
        "/x: fill time",
    ),
    "allocation time": (
        declared(FLOAT),
        declared(FLOAT, lambda p: p.set_alloc_time(h5d.ALLOC_TIME_EARLY)),
        "/x: allocation time",
    ),
    "external files": (
        declared(FLOAT, lambda p: p.set_external(b"a.raw", 0, 48)),
        declared(FLOAT, lambda p: p.set_external(b"b.raw", 0, 48)),
        "/x: external files",
    ),
    "virtual sources": (virtual("a"), virtual("b"), "/x: sources"),
    "value": (dataset(), dataset(np.where(ROWS == 7, 8, ROWS)), "/x: values from (2, 1) on"),
    "payload": (dataset(nan(0x7FC00000)), dataset(nan(0x7FC00001)), "/x: values from (1,) on"),
    "zero's sign": (dataset(np.zeros(2)), dataset(np.array([0.0, -0.0])), "/x: values from (1,)"),
    "text": (dataset(text(["a", "b"])), dataset(text(["a", "c"])), "/x: values from (1,) on"),
    "picture": (
        dataset(rows([1], [2, 3]), dtype=PICTURES),
        dataset(rows([1], [2, 4]), dtype=PICTURES),
        "/x: values from (1,) on",
    ),
    "reference": (reference("a"), reference("b"), "/x: values from () on"),
    "attribute": (dataset(), lambda f: (dataset()(f), attribute(1)(f)), "/: attribute b'unit'"),
    "attribute value": (attribute(np.nan), attribute(-np.nan), "/: attribute b'unit'"),
    "attribute type": (attribute(1), attribute(np.int32(1)), "/: attribute b'unit'"),
    "attribute charset": (attribute("m"), attribute("m", dtype=ASCII), "/: attribute b'unit'"),
    "attribute length": (attribute("m"), attribute(np.bytes_("m")), "/: attribute b'unit'"),
    "attribute text": (attribute("m"), attribute("s"), "/: attribute b'unit'"),
    "attribute shape": (attribute(1), attribute([1]), "/: attribute b'unit'"),
    "attribute null": (attribute(0.0), attribute(h5py.Empty("f8")), "/: attribute b'unit'"),
    "attribute order": (
        ordered_attributes("a", "b"),
        ordered_attributes("b", "a"),
        "/x: attribute order is",
    ),
    "attribute order tracked": (dataset(), dataset(track_order=True), "/x: attribute order flags"),
    "object": (members(x=ROWS), members(x=ROWS, y=ROWS), "/y: only in the second file"),
    "kind": (dataset(), lambda f: f.create_group("x"), "/x: kind"),
    "named type": (dataset(), members(x=np.dtype("f4")), "/x: kind"),
    "shared object": (members(x=ROWS, y="x"), members(x=ROWS, y=ROWS), "/: link b'y'"),
    "soft link": (members(x=ROWS, y="x"), members(x=ROWS, y=h5py.SoftLink("/x")), "/: link b'y'"),
    "soft target": (members(y=h5py.SoftLink("/a")), members(y=h5py.SoftLink("/b")), "/: link"),
    "external target": (
        members(y=h5py.ExternalLink("a.h5", "/x")),
        members(y=h5py.ExternalLink("b.h5", "/x")),
        "/: link b'y'",
    ),
    "link order": (ordered("a", "b"), ordered("b", "a"), "/g: link order is"),
    "link order tracked": (ordered("a"), ordered("a", root=False), "/g: link order flags"),
}
"""By the thing changed: two files, and how the line that tells the difference begins."""
