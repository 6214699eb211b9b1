"""Objects and links carried from one HDF5 file to another as they are. No link is followed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5g, h5l, h5o, h5p, h5r, h5t

from h5dask.errors import NotFound, Refused
from h5dask.storage import library
from h5dask.storage.space import Reservation

_METADATA_NBYTES = 64 << 10
"""Room taken for the headers of a copied object beside its stored bytes."""


def link_creation(name: str | bytes) -> Any:
    """Return the properties under which h5py links an object of this name."""
    return _ASCII if name.isascii() else _UTF8


def _properties(charset: int) -> Any:
    properties = h5p.create(h5p.LINK_CREATE)
    properties.set_char_encoding(charset)
    return properties


_ASCII, _UTF8 = _properties(h5t.CSET_ASCII), _properties(h5t.CSET_UTF8)


class Copies:
    """Copies objects and links out of source files, each opened once.

    Soft and external links are made anew with the text they have, external and virtual datasets
    keep naming their files, and an object that a source links twice becomes a second hard link
    where the first lies in the new file under the same path.

    Parameters
    ----------
    subject : str
        The new file's name, for messages.
    space : Reservation
        Where room for each copy is taken before HDF5 writes it.
    paths : iterable of str
        Paths that the new file holds in any case.
    """

    def __init__(self, subject: str, space: Reservation, paths: Iterable[str]) -> None:
        self._subject = subject
        self._space = space
        self._paths = tuple(paths)
        self._files: dict[str, h5py.File] = {}
        self._known: dict[str, Mapping[int, str]] = {}
        self._late: list[tuple[Any, bytes, str]] = []
        self._references: list[tuple[str, str]] = []

    def close(self) -> None:
        """Close the source files."""
        for file in self._files.values():
            file.close()

    def copy(self, source: str, path: str, target: Any) -> None:
        """Carry what `source` has at `path` over to the group `target`, under the same name.

        Raises
        ------
        NotFound
            Where there is nothing at that path, or a link would have to be followed to reach it.
        Refused
            Where it is a link that only its own program understands.
        OutOfSpace
            Where the disk is full.
        """
        parent, name = self._parent(source, path)
        kind = parent.links.get_info(name).type
        created = link_creation(path)
        if kind == h5l.TYPE_SOFT:
            target.links.create_soft(name, parent.links.get_val(name), lcpl=created)
        elif kind == h5l.TYPE_EXTERNAL:
            file, inside = parent.links.get_val(name)
            target.links.create_external(name, file, inside, lcpl=created)
        elif kind == h5l.TYPE_HARD:
            self._copy_object(source, parent, name, target, path)
        else:
            raise Refused(
                f"{source}: '/{path}' is a link of a kind that a program defined for itself; "
                "drop it before writing"
            )

    def finish(self, file: Any) -> None:
        """Make the hard links and references to objects that were created meanwhile.

        Raises
        ------
        Refused
            Where a reference means an object that the new file doesn't hold at the same path.
        """
        for target, name, path in self._late:
            h5o.link(h5o.open(file, f"/{path}".encode()), target, name, lcpl=link_creation(name))
        for source, path in self._references:
            self._refer_anew(source, path, file)

    def _refer_anew(self, source: str, path: str, file: Any) -> None:
        """Give a copied dataset of references the same meaning in the new file."""
        parent, name = self._parent(source, path)
        old = h5py.Dataset(h5d.open(parent, name))
        new = np.empty(old.shape, old.dtype)
        for at in np.ndindex(old.shape):
            new[at] = self._reference(old[at], old.id, file, f"{source}: '/{path}'")
        h5py.Dataset(h5d.open(file, f"/{path}".encode()))[...] = new

    def _reference(self, old: Any, dataset: Any, file: Any, subject: str) -> Any:
        if not old:
            return old
        name = h5r.get_name(old, dataset)
        if name is None or not h5py.Group(h5g.open(file, b"/")).get(name, getlink=True):
            raise Refused(
                f"{subject} refers to {(name or b'an object without a path').decode()!r}, which "
                f"{self._subject} doesn't hold; drop the references, or keep what they refer to"
            )
        if isinstance(old, h5r.RegionReference):
            return h5r.create(file, name, h5r.DATASET_REGION, h5r.get_region(old, dataset))
        return h5r.create(file, name, h5r.OBJECT)

    def _copy_object(self, source: str, parent: Any, name: bytes, target: Any, path: str) -> None:
        opened = h5o.open(parent, name)
        found = h5o.get_info(opened)
        first = self._first_path(source, found.addr) if found.rc > 1 else None
        if first is not None and first != path:
            self._late.append((target, name, first))
            return
        if isinstance(opened, h5d.DatasetID) and opened.get_type().detect_class(h5t.REFERENCE):
            self._note_references(source, path, opened.get_type())
        self._space.need(_stored_nbytes(opened, source))
        h5o.copy(parent, name, target, name, lcpl=link_creation(path))

    def _note_references(self, source: str, path: str, kind: Any) -> None:
        # HDF5 copies references as null: what they mean is an address in the file they lie in.
        if kind.get_class() != h5t.REFERENCE:
            raise Refused(
                f"{source}: '/{path}' holds HDF5 references inside values of another type, which "
                "mean places in that file; drop it before writing"
            )
        self._references.append((source, path))

    def _first_path(self, source: str, address: int) -> str | None:
        """Return the path under which the new file holds the object at this address, if any."""
        if source not in self._known:
            known = {h5o.get_info(h5g.open(self._files[source].id, b"/")).addr: ""}
            for path in filter(None, self._paths):
                try:
                    parent, name = self._parent(source, path)
                except NotFound:
                    continue
                if parent.links.get_info(name).type == h5l.TYPE_HARD:
                    known.setdefault(parent.links.get_info(name).u, path)
            self._known[source] = known
        return self._known[source].get(address)

    def _parent(self, source: str, path: str) -> tuple[Any, bytes]:
        """Return the group that holds the last name of a path, reached by hard links only."""
        if source not in self._files:
            self._files[source] = library.opened(source)
        *folders, name = (part.encode() for part in path.split("/"))
        group = h5g.open(self._files[source].id, b"/")
        for folder in folders:
            is_hard = group.links.exists(folder) and (
                group.links.get_info(folder).type == h5l.TYPE_HARD
            )
            opened = h5o.open(group, folder) if is_hard else None
            if not isinstance(opened, h5g.GroupID):
                raise self._absent(source, path)
            group = opened
        if not group.links.exists(name):
            raise self._absent(source, path)
        return group, name

    def _absent(self, source: str, path: str) -> NotFound:
        return NotFound(
            f"{source}: nothing at '/{path}' to carry over to {self._subject} "
            "without following a link; open the file again and write anew"
        )


def _stored_nbytes(opened: Any, source: str) -> int:
    """Return room for a copy of an object: as stored, all of its file where that isn't known."""
    if isinstance(opened, h5d.DatasetID):
        kind = opened.get_type()
        variable = kind.detect_class(h5t.VLEN) or kind.detect_class(h5t.STRING)
        stored = os.path.getsize(source) if variable else opened.get_storage_size()
        return int(stored) + _METADATA_NBYTES
    if isinstance(opened, h5g.GroupID):
        return os.path.getsize(source)
    return _METADATA_NBYTES
