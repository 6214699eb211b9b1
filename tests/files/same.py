"""What differs between two HDF5 files, by h5py's lowest level: everything but addresses.

Left out, because a file that is the same may differ in it: addresses and encoded bytes of chunks,
versions of the file's own structures, times of objects, comments and what a user block holds.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5s

from tests.files.facts import ElementType, Facts, bits, follows_pointers, objects
from tests.files.variant import Array

BLOCK_NBYTES = 4 << 20
"""How much of a dataset is compared at a time."""


def differences(first: Path, second: Path) -> list[str]:
    """Compare two files.

    Parameters
    ----------
    first, second
        The files. Soft and external links, virtual datasets and external storage are compared by
        what they say, and never followed.

    Returns
    -------
    list of str
        One line a difference, which begins with the path of the object; empty where the files
        are the same. An object that only one file has is told once, without what is below it.
    """
    with h5py.File(first, "r") as a, h5py.File(second, "r") as b:
        forms = objects(a), objects(b)
        return list(compared(a, b, *forms))


def compared(
    a: h5py.File, b: h5py.File, left: dict[str, Facts], right: dict[str, Facts]
) -> Iterator[str]:
    """Tell the differences of all objects of two files."""
    for path in left | right:
        if path in left and path in right:
            yield from unequal(path, left[path], right[path])
            if inside(left[path]) and inside(right[path]):
                yield from other_values(path, a[path].id, b[path].id)
        elif path.rpartition("/")[0] in left.keys() & right.keys() | {""}:
            yield f"{path}: only in the {'first' if path in left else 'second'} file"


def inside(facts: Facts) -> bool:
    """Tell whether an object has values of its own, which lie in the file itself."""
    elsewhere = facts.get("layout") == "virtual" or facts.get("external files")
    return facts["kind"] == "dataset" and not elsewhere


def unequal(path: str, left: Facts, right: Facts) -> Iterator[str]:
    """Tell the facts in which one object differs."""
    for name in left | right:
        x, y = left.get(name, "absent"), right.get(name, "absent")
        if x != y:
            yield f"{path}: {name} is {x!r} in the first file and {y!r} in the second"


def other_values(path: str, left: h5d.DatasetID, right: h5d.DatasetID) -> Iterator[str]:
    """Tell the first place where two datasets of one type and shape hold other values."""
    kind = left.get_type()
    if ElementType(kind) != ElementType(right.get_type()) or left.shape != right.shape:
        return
    if left.shape is None or 0 in left.shape:
        return
    for region in regions(left.shape, kind.get_size()):
        x, y = (values(dataset, region) for dataset in (left, right))
        if bits(x, left) != bits(y, right):
            number = first_unequal(x.ravel(), y.ravel(), left, right)
            place = tuple(int(i) for i in np.unravel_index(number, x.shape))
            place = tuple(r.start + i for r, i in zip(region, place, strict=True))
            yield (
                f"{path}: values from {place} on are {x.flat[number]!r} in the first file "
                f"and {y.flat[number]!r} in the second"
            )
            return


def first_unequal(x: Array, y: Array, left: h5d.DatasetID, right: h5d.DatasetID) -> int:
    """Find the first element in which two rows differ, of which some do."""
    if x.dtype.hasobject:
        return next(i for i in range(x.size) if bits(x[i], left) != bits(y[i], right))
    return int((x.view("u1") != y.view("u1")).argmax()) // x.itemsize


def regions(shape: tuple[int, ...], nbytes: int) -> Iterator[tuple[slice, ...]]:
    """Cut a shape into pieces of bounded size, in the order of their first elements."""
    steps = list(shape)
    for axis in range(len(shape)):
        rest = int(np.prod(steps[axis + 1 :], dtype=np.int64)) * nbytes
        steps[axis] = max(1, min(shape[axis], BLOCK_NBYTES // max(rest, 1)))
        if rest <= BLOCK_NBYTES:
            break
    starts = product(*(range(0, n, step) for n, step in zip(shape, steps, strict=True)))
    for corner in starts:
        yield tuple(
            slice(i, min(i + step, n)) for i, step, n in zip(corner, steps, shape, strict=True)
        )


def values(dataset: h5d.DatasetID, region: tuple[slice, ...]) -> Array:
    """Read a region: the file's own bytes where values lie in place, else h5py's objects."""
    kind = dataset.get_type()
    pointers = follows_pointers(kind)
    shape = tuple(r.stop - r.start for r in region)
    found = np.empty(shape, dataset.dtype if pointers else f"V{kind.get_size()}")
    space = h5s.ALL if not shape else dataset.get_space()
    if shape:
        space.select_hyperslab(tuple(r.start for r in region), shape)
    within = h5s.create_simple(shape) if shape else h5s.ALL
    dataset.read(within, space, found, None if pointers else kind)
    return found
