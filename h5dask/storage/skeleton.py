"""A file without values: every group, attribute and dataset of it, made in one go and closed.

HDF5's library is used here and nowhere later: blocks of numbers follow as bytes, at the places
that `create` returns.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from contextlib import ExitStack, closing, suppress
from typing import Any

from h5py import h5f, h5g, h5p

from h5dask.chunkindex import ChunkIndex
from h5dask.contents import GroupForm
from h5dask.errors import LayoutError
from h5dask.garbage import unsearched
from h5dask.storage.attributes import AttributeWriter
from h5dask.storage.datasets import DatasetWriter
from h5dask.storage.links import Copies, link_creation
from h5dask.storage.objectheader import set_space_times
from h5dask.storage.planned import (
    Plan,
    PlannedArray,
    has_large_attrs,
    meta_block_nbytes,
    metadata_nbytes,
    values_nbytes,
)
from h5dask.storage.remote import translated
from h5dask.storage.space import Reservation, full_disk_told
from h5dask.storage.stamping import alike, stamp, without

__all__ = ["Plan", "PlannedArray", "create"]

_PLAIN_GROUP = GroupForm()


@unsearched()
def create(path: str, plan: Plan, *, sparse: bool = False) -> dict[str, ChunkIndex]:
    """Make a file without values, close it, and return where the values' bytes belong.

    All space that the bytes will take is reserved, unless the file is to be sparse. Datasets whose
    bytes follow are allocated at once and never filled; afterwards the file says of them what
    their form says, so that HDF5 extends them later as it would have done. A plan gives the same
    bytes every time, unless a form records times.

    Parameters
    ----------
    path : str
        Local path; a file that is there is overwritten, and removed where this fails.
    plan : Plan
        What the file holds. Memory: about 2 kB a dataset, and one block of `values` at a time.
    sparse : bool, default False
        Whether places of bytes that follow stay holes, which take no space: such a file is
        never filled, it only says what lies around them.

    Returns
    -------
    dict of str to ChunkIndex
        By path, for each array whose bytes follow. Where an array has filters no chunk is
        allocated: the index says shape and chunk shape only.

    Raises
    ------
    OutOfSpace
        Where the disk, a quota or the limit of file sizes doesn't hold the finished file.
    LayoutError
        Where a value, an attribute or a form isn't one that HDF5 can store.
    Refused
        Where a filter or a kind of storage can't be written here.

    Notes
    -----
    Storage as by h5py: the forms of HDF5 1.0 to 1.8, which every reader of HDF5 understands.
    Many plain groups alike are put there as bytes first; HDF5's library makes the rest.
    """
    with ExitStack() as on_failure:
        on_failure.callback(_remove, path)
        with full_disk_told(path):
            access = _access(plan)
            image = _write_empty(path, plan, access)
            held = alike(plan, image)
            rest = without(plan, held) if held else plan
            access.set_meta_block_size(meta_block_nbytes(rest))
            with Reservation(path, sparse=sparse) as space:
                space.need(len(image))
                stamped = stamp(path, image, held, space) if held else {}
                space.need(metadata_nbytes(rest), values_nbytes(rest))
                datasets = _fill_in(path, rest, access, space)
                set_space_times(path, datasets.times)
                space.finish()
        on_failure.pop_all()
    return datasets.indexes | stamped


def _remove(path: str) -> None:
    # What keeps it from being removed also keeps it from being made, which is told.
    with suppress(OSError):
        os.unlink(path)


def _write_empty(path: str, plan: Plan, access: Any) -> bytes:
    """Write an HDF5 file with nothing in it, made in memory, and return its bytes.

    So the file exists, and space for it can be reserved, before HDF5 has it open.
    """
    root = plan.groups.get("", _PLAIN_GROUP)
    created = h5p.create(h5p.FILE_CREATE)
    created.set_obj_track_times(False)
    created.set_link_creation_order(root.link_order)
    created.set_attr_creation_order(root.attr_order)
    memory = access.copy()
    memory.set_fapl_core(block_size=1 << 16, backing_store=False)
    with closing(h5f.create(b"empty", h5f.ACC_TRUNC, fcpl=created, fapl=memory)) as file:
        h5f.flush(file)
        image: bytes = file.get_file_image()
    with translated(path):
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    with os.fdopen(number, "wb") as out:
        out.write(image)
    return image


def _access(plan: Plan) -> Any:
    access = h5p.create(h5p.FILE_ACCESS)
    # The earliest forms keep the encoding of every type as it came; newer ones would renew it.
    oldest = h5f.LIBVER_V18 if has_large_attrs(plan) else h5f.LIBVER_EARLIEST
    access.set_libver_bounds(oldest, h5f.LIBVER_LATEST)
    access.set_file_locking(False, ignore_when_disabled=True)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    return access


def _fill_in(path: str, plan: Plan, access: Any, space: Reservation) -> DatasetWriter:
    """Make everything in the file, parents first, members in their order of creation."""
    attributes = AttributeWriter(path)
    groups = _GroupWriter(plan, attributes)
    datasets = DatasetWriter(path, attributes, space)
    children = _children(plan)
    arrays = {array.path: array for array in plan.arrays}
    misplaced = next((path for path in arrays if plan.attrs.get(path)), None)
    if misplaced is not None:
        raise LayoutError(
            f"{path}: attributes of '/{misplaced}' are planned as a group's, found a dataset; "
            "give them to its PlannedArray"
        )
    sources = {path: source for source, path in plan.copies}
    with ExitStack() as stack:
        copies = Copies(path, space, [*plan.groups, *arrays, *sources])
        stack.callback(copies.close)
        file = h5f.open(os.fsencode(path), h5f.ACC_RDWR, fapl=access)
        stack.enter_context(closing(file))
        waiting = [(groups.open_root(file), iter(children.get("", ())))]
        while waiting:
            group, members = waiting[-1]
            member = next(members, None)
            if member is None:
                waiting.pop()
            elif member in arrays:
                datasets.create(group, arrays[member])
            elif member in sources:
                copies.copy(sources[member], member, group)
            else:
                created = groups.create(group, member)
                waiting.append((created, iter(children.get(member, ()))))
        copies.finish(file)
    return datasets


def _children(plan: Plan) -> dict[str, list[str]]:
    """Return the paths in each group: first its recorded members in their order, then others."""
    children: dict[str, dict[str, None]] = defaultdict(dict)
    bearers = [path for path, attrs in plan.attrs.items() if attrs]
    paths = [*plan.groups, *bearers, *(array.path for array in plan.arrays)]
    for path in [*paths, *(path for _, path in plan.copies)]:
        child = path
        while child:
            parent = child.rpartition("/")[0]
            if child in children[parent]:
                break
            children[parent][child] = None
            child = parent
    return {parent: _in_order(parent, found, plan) for parent, found in children.items()}


def _in_order(parent: str, found: Iterable[str], plan: Plan) -> list[str]:
    members = plan.groups.get(parent, _PLAIN_GROUP).members
    prefix = f"{parent}/" if parent else ""
    place = {prefix + name: i for i, name in enumerate(members)}
    return sorted(found, key=lambda path: place.get(path, len(place)))


class _GroupWriter:
    """Creates the groups of one file; properties are made once and used again."""

    def __init__(self, plan: Plan, attributes: AttributeWriter) -> None:
        self._plan = plan
        self._attributes = attributes
        self._properties: dict[tuple[int, int], Any] = {}

    def open_root(self, file: Any) -> Any:
        group = h5g.open(file, b"/")
        self._attributes.write(group, "", self._plan.attrs.get("", ()))
        return group

    def create(self, parent: Any, path: str) -> Any:
        form = self._plan.groups.get(path, _PLAIN_GROUP)
        orders = (form.link_order, form.attr_order)
        properties = self._properties.get(orders)
        if properties is None:
            properties = self._properties[orders] = h5p.create(h5p.GROUP_CREATE)
            properties.set_obj_track_times(False)
            properties.set_link_creation_order(form.link_order)
            properties.set_attr_creation_order(form.attr_order)
        name = path.rpartition("/")[2]
        group = h5g.create(parent, name.encode(), lcpl=link_creation(name), gcpl=properties)
        self._attributes.write(group, path, self._plan.attrs.get(path, ()))
        return group
