"""An HDF5 file -> what it holds and where its bytes lie, in one metadata pass by HDF5's library.

Links are recorded and never followed; no value is read but attributes, compact datasets and a
few texts that are measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
from h5py import h5d, h5g, h5l, h5o

from h5dask.chunkindex import FileIndex
from h5dask.contents import Contents, SharedAttrs
from h5dask.errors import CorruptInput, Refused
from h5dask.storage import library, soundness
from h5dask.storage.families import Family
from h5dask.storage.held import Held
from h5dask.storage.mapped import mapped
from h5dask.storage.ranges import InMemory
from h5dask.storage.remote import translated
from h5dask.storage.vectors import FORMATS as VECTORS
from h5dask.storage.visiting import (
    Walk,
    describe_dataset,
    describe_group,
    describe_member,
    describe_plain,
    family_of,
    target,
)

MAX_DEPTH = 64
"""Levels of groups; more is refused."""
_DAMAGED = (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError)
"""What HDF5, h5py and numpy raise over metadata that can't be."""
_WAY_OUT = "check the path and the download"
_READ_ELSEWHERE = {
    **{
        ending: f"{ending} holds vectors: open_vectors reads it"
        for ending in (*VECTORS, ".parquet")
    },
    ".npy": ".npy holds vectors, which open_vectors reads, or ids, which h5dask recall reads",
    **{ending: f"{ending} holds ids: h5dask recall reads it" for ending in (".ivecs", ".bin")},
}
"""What reads other files, by how their names end."""


def describe(
    file: str | BinaryIO | Held, *, subject: str, fingerprint: str, families: Iterable[Family] = ()
) -> tuple[Contents, FileIndex]:
    """Return what an HDF5 file holds and where its bytes lie.

    Parameters
    ----------
    file : str, binary file or Held
        A local path, a file object over bytes that are in memory already, or the bytes of an
        object that are here: see `held.walked`.
    subject, fingerprint : str
        The file's name for messages, and its state.
    families : iterable of Family
        Groups that are described by their known members only. Without any, all is described.

    Returns
    -------
    contents : Contents
        Paths, shapes, forms, attributes, links.
    index : FileIndex
        Byte ranges.

    Raises
    ------
    NotFound, AccessDenied
        The file is gone, or can't be read by this user.
    CorruptInput
        The file isn't HDF5, or its metadata is damaged.
    Refused
        The file exceeds a limit on objects, depth or chunks.
    """
    walk = Walk(subject, tuple(families), -1)
    try:
        with library.opened(file) as opened, mapped(file) as view:
            if opened.id.get_create_plist().get_sizes() == (8, 8):
                walk.heap_base = opened.id.get_create_plist().get_userblock()
                walk.heaps = _heaps(file, view, walk.heap_base)
            walk.view = view
            walk.values = InMemory(subject, view) if view is not None else None
            if isinstance(file, Held):
                walk.view, walk.values = file.view, file
                walk.missed, walk.there = file.missed, file.there
            nbytes = walk.nbytes = opened.id.get_filesize()
            _walk(opened.id, walk)
        offsets = np.array(walk.offsets, np.int64)
    except (FileNotFoundError, PermissionError):
        with translated(subject):
            raise
    except (Refused, CorruptInput):
        raise
    except _DAMAGED as error:
        if "signature not found" in str(error):
            raise CorruptInput(f"{subject}: {_stranger(file, subject)}") from None
        raise CorruptInput(_unreadable(subject, walk.at, error)) from None
    contents = Contents(
        subject=subject,
        fingerprint=fingerprint,
        nbytes=nbytes,
        complete=walk.complete,
        paths=tuple(walk.paths),
        shapes=tuple(walk.shapes),
        form_of=tuple(walk.form_of),
        forms=tuple(walk.forms),
        mean_nbytes=walk.mean_nbytes,
        groups=walk.groups,
        attrs=SharedAttrs(walk.attrs, walk.numbers) if walk.numbers else walk.attrs,
        links=walk.links,
    )
    return contents, FileIndex(offsets, walk.chunked, walk.inline, walk.heap_base)


def _heaps(
    file: str | BinaryIO | Held, view: memoryview | None, base: int
) -> soundness.Heaps | None:
    if isinstance(file, Held):
        return soundness.Heaps(file.view, base, file.there)
    return None if view is None else soundness.Heaps(view, base)


def _stranger(file: str | BinaryIO | Held, subject: str) -> str:
    """Return what a file is that isn't HDF5, as far as its ending and first bytes tell."""
    first = b""
    if isinstance(file, Held):
        first = bytes(file.view[: min(16, file.nbytes)])
    elif isinstance(file, str):
        with suppress(OSError), open(file, "rb") as opened:
            first = opened.read(16)
    _, dot, ending = subject.rpartition(".")
    kind = "(no HDF5 signature)"
    way_out = _READ_ELSEWHERE.get(f"{dot}{ending}".lower(), _WAY_OUT)
    if first.lstrip().startswith(b"<"):
        kind, way_out = "but a web page or XML; its server may want a login", _WAY_OUT
    elif not first and isinstance(file, (str, Held)):
        kind, way_out = "but empty", _WAY_OUT
    return f"not an HDF5 file {kind}; {way_out}"


def _unreadable(subject: str, path: str, error: Exception) -> str:
    text = str(error)
    if "truncated" in text:
        return f"{subject}: truncated HDF5 file ({text}); copy or download it again"
    what = f"/{path}: HDF5 can't read it" if path else "HDF5 can't read its structure"
    return f"{subject}: {what} ({text}); copy or download the file again"


def _walk(root: Any, walk: Walk) -> None:
    """Visit every object once, without recursion; links are only recorded."""
    top = h5g.open(root, b"/")
    walk.seen[h5o.get_info(top).addr] = ""
    stack: list[tuple[str, Any]] = [("", top)]
    while stack:
        path, group = stack.pop()
        if path.count("/") >= MAX_DEPTH:
            top = "/".join(path.split("/")[:3])
            raise Refused(
                f"{walk.subject}: /{top}/... lies {MAX_DEPTH} groups deep or deeper, at most "
                f"{MAX_DEPTH - 1} are read; move what is in it to a group further up"
            )
        names = describe_group(path, group, walk)
        inner = []
        for name in names:
            walk.at = child = f"{path}/{name}" if path else name
            try:
                below = _visit(child, name, group, walk)
            except _DAMAGED:
                if not walk.missed:
                    raise
                continue  # the others tell of what they lack too, and all of it is fetched at once
            if below is not None:
                inner.append((child, below))
        stack.extend(reversed(inner))


def _visit(child: str, name: str, group: Any, walk: Walk) -> Any:
    """Record one member of a group; what is a group of its own is returned, to be gone through."""
    info = group.links.get_info(name.encode())
    if info.type != h5l.TYPE_HARD:
        walk.links[child] = target(group, name, info.type)
        return None
    if info.u in walk.seen:
        walk.links[child] = f"hard:/{walk.seen[info.u]}"
        return None
    walk.seen[info.u] = child
    family = family_of(walk, child)
    if family is not None and describe_plain(child, info.u, family, walk):
        return None
    opened = h5o.open(group, name.encode())
    if isinstance(opened, h5g.GroupID):
        if family is None:
            return opened
        describe_member(child, opened, family, walk)
    elif isinstance(opened, h5d.DatasetID):
        describe_dataset(child, opened, walk)
    else:
        walk.links[child] = "type:"
    return None
