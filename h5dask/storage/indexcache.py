"""The metadata pass, remembered between runs: key = URL + fingerprint + version of the index.

Plain numpy and JSON, no pickle; written by rename; bounded; safe to delete and safe when stale.
Where it lies is told in `remembering`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import stat
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from h5dask.chunkindex import ChunkIndex, FileIndex, Filter
from h5dask.contents import ArrayForm, Attr, Contents, GroupForm, SharedAttrs
from h5dask.storage.describe import describe
from h5dask.storage.families import Family
from h5dask.storage.held import Held, walked
from h5dask.storage.remembering import folder, folders
from h5dask.storage.remote import Source

VERSION = 3
"""Version of what is remembered; another one is another key."""
MOST_NBYTES = 2**30
"""Bytes that the folder may hold; the files unused for longest go first."""
_SMALL = 64
"""A file of fewer datasets is described anew: that is as quick as remembering."""
_COLUMNS = ("first", "count", "offset", "stride", "nbytes", "mask")


def described(source: Source, families: Iterable[Family] = ()) -> tuple[Contents, FileIndex]:
    """Return what a file holds and where its bytes lie, from the cache where it is known.

    Parameters
    ----------
    source : Source
        The file and its state.
    families : iterable of Family
        Groups described by known members only; without any, all is described, uncached. So is
        a file object, which can't be asked again.
    """
    families = tuple(families) if source.content is None else ()
    key = _key(source, families)
    if families:
        known = _load(key, source)
        if known is not None:
            return known
    with source.local_path() as file:

        def describing() -> tuple[Contents, FileIndex]:
            return describe(
                file, subject=source.url, fingerprint=source.fingerprint, families=families
            )

        found = walked(file, describing) if isinstance(file, Held) else describing()
    if families and (_worth(found) or not source.is_local):
        _save(key, *found)
    return found


def _worth(found: tuple[Contents, FileIndex]) -> bool:
    return len(found[0].paths) >= _SMALL or any(
        ix.n_stored > 4096 for ix in found[1].chunked.values()
    )


def _key(source: Source, families: tuple[Family, ...]) -> str:
    marks = [(family.pattern.pattern, family.members, family.attrs) for family in families]
    text = json.dumps([VERSION, source.url, source.fingerprint, marks])
    return hashlib.sha256(text.encode()).hexdigest()


def _load(key: str, source: Source) -> tuple[Contents, FileIndex] | None:
    for path in (place / f"{key}.npz" for place in folders()):
        try:
            # Somebody else's is nothing to wait for, as a pipe would be, and nothing to believe.
            number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with open(number, "rb") as file:
                state = os.fstat(number)
                if not stat.S_ISREG(state.st_mode) or state.st_uid != os.geteuid():
                    continue
                with np.load(file, allow_pickle=False) as columns:
                    found = _decode(columns, source, key)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, the file itself says it all
            continue
        with suppress(OSError):
            os.utime(path)
        return found
    return None


def _save(key: str, contents: Contents, index: FileIndex) -> None:
    """Write by rename; a cache that can't be written is done without."""
    target = folder()
    try:
        columns = _encode(contents, index, key)
        target.mkdir(0o700, parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=target, suffix=".part")
        try:
            with os.fdopen(number, "wb") as file:
                np.savez(file, **columns)
            os.replace(name, target / f"{key}.npz")
        except BaseException:
            os.unlink(name)
            raise
        _bound(target)
    except (OSError, TypeError):
        return


def _bound(target: Path) -> None:
    """Delete the files unused for longest until the folder is within its bound."""
    files = []
    for path in target.glob("*.npz"):
        with suppress(FileNotFoundError):  # others delete, too
            files.append(((state := path.stat()).st_mtime, state.st_size, path))
    files.sort()
    total = sum(size for _, size, _ in files)
    for _, size, path in files:
        if total <= MOST_NBYTES:
            return
        with suppress(OSError):
            path.unlink()
        total -= size


def _encode(contents: Contents, index: FileIndex, key: str) -> dict[str, Any]:
    """Lay everything out as numpy columns and one JSON text."""
    head = {
        "key": key,
        "nbytes": contents.nbytes,
        "complete": contents.complete,
        "forms": [_plain(asdict(form)) for form in contents.forms],
        "mean_nbytes": dict(contents.mean_nbytes),
        "links": dict(contents.links),
        "heap_base": index.heap_base,
        "inline": {str(k): _plain(v) for k, v in index.inline.items()},
        "chunked": [(k, ix.shape, ix.chunks, len(ix.first)) for k, ix in index.chunked.items()],
    }
    attrs, columns = _encode_attrs(contents)
    plain = [p for p, form in contents.groups.items() if form == GroupForm()]
    head["attrs"] = attrs
    head["group_forms"] = {
        p: asdict(f) for p, f in contents.groups.items() if f != GroupForm() or p == ""
    }
    joined = {"json": json.dumps(head), "paths": "\0".join(contents.paths)}
    joined["groups"] = "\0".join(contents.groups)
    del plain
    texts = {name: np.frombuffer(text.encode(), np.uint8) for name, text in joined.items()}
    shapes = [n for shape in contents.shapes for n in shape]
    chunked = list(index.chunked.values())
    runs = {
        f"run_{name}": np.concatenate([getattr(ix, name) for ix in chunked] or [np.zeros(0, int)])
        for name in _COLUMNS
    }
    return {
        **texts,
        **columns,
        **{name: _narrow(column) for name, column in runs.items()},
        "ranks": np.array([len(shape) for shape in contents.shapes], np.uint8),
        "sizes": _narrow(np.array(shapes, np.int64)),
        "form_of": _narrow(np.array(contents.form_of, np.int64)),
        "offsets": _narrow(index.offsets),
    }


def _narrow(column: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the column in four bytes where its values allow it."""
    if len(column) and column.min() >= -(2**31) and column.max() < 2**31:
        return column.astype(np.int32)
    return column.astype(np.int64)


def _encode_attrs(contents: Contents) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split attributes: whole numbers that many groups share as columns, the rest as JSON."""
    attrs = contents.attrs
    shared = attrs.numbers if isinstance(attrs, SharedAttrs) else {}
    others = attrs.rest if isinstance(attrs, SharedAttrs) else attrs
    position = {path: i for i, path in enumerate(contents.groups)}
    columns = {}
    for i, values in enumerate(shared.values()):
        at = np.fromiter((position[path] for path in values), np.int64, len(values))
        columns[f"attr_at_{i}"] = _narrow(at)
        columns[f"attr_value_{i}"] = _narrow(np.fromiter(values.values(), np.int64, len(values)))
    rest = {path: [_plain(asdict(attr)) for attr in found] for path, found in others.items()}
    return {"numbers": [(name, _plain(kind)) for name, kind in shared], "rest": rest}, columns


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it; bytes and arrays are tagged."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, bytes):
        return {"b": base64.b64encode(value).decode()}
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype == object:
            return {"o": array.ravel().tolist(), "s": array.shape}
        return {
            "a": base64.b64encode(array.tobytes()).decode(),
            "d": array.dtype.str,
            "s": array.shape,
        }
    return value


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        if "b" in value:
            return base64.b64decode(value["b"])
        shape = tuple(value["s"])
        if "o" in value:
            out = np.empty(shape, object)
            out.ravel()[:] = value["o"]
            return out
        array = np.frombuffer(base64.b64decode(value["a"]), value["d"]).reshape(shape)
        return array[()] if shape == () else array.copy()
    return value


def _decode(columns: Any, source: Source, key: str) -> tuple[Contents, FileIndex]:
    text = {name: columns[name].tobytes().decode() for name in ("json", "paths", "groups")}
    head = json.loads(text["json"])
    if head["key"] != key:
        raise ValueError("another file's")
    paths = tuple(text["paths"].split("\0")) if text["paths"] else ()
    groups = text["groups"].split("\0")
    ranks, sizes = columns["ranks"].tolist(), columns["sizes"].tolist()
    ends = np.cumsum([0, *ranks]).tolist()
    shapes = tuple(tuple(sizes[a:b]) for a, b in pairwise(ends))
    forms = tuple(_form(form) for form in head["forms"])
    own = {
        p: GroupForm(**{**f, "members": tuple(f["members"])})
        for p, f in head["group_forms"].items()
    }
    plain = GroupForm()
    contents = Contents(
        subject=source.url,
        fingerprint=source.fingerprint,
        nbytes=head["nbytes"],
        complete=head["complete"],
        paths=paths,
        shapes=shapes,
        form_of=tuple(columns["form_of"].tolist()),
        forms=forms,
        mean_nbytes=head["mean_nbytes"],
        groups={path: own.get(path, plain) for path in groups},
        attrs=_decode_attrs(head["attrs"], columns, groups),
        links=head["links"],
    )
    inline = {int(k): _value(v) for k, v in head["inline"].items()}
    index = FileIndex(
        columns["offsets"].astype(np.int64), _chunked(head, columns), inline, head["heap_base"]
    )
    unequal = len({len(paths), len(shapes), len(index.offsets), len(contents.form_of)}) > 1
    if unequal or not all(0 <= form < len(forms) for form in set(contents.form_of)):
        raise ValueError("columns of unequal length")
    return contents, index


def _decode_attrs(head: Any, columns: Any, groups: list[str]) -> Mapping[str, tuple[Attr, ...]]:
    shared = {}
    for i, (name, kind) in enumerate(head["numbers"]):
        at, values = columns[f"attr_at_{i}"].tolist(), columns[f"attr_value_{i}"].tolist()
        paths = map(groups.__getitem__, at)
        shared[name, _value(kind)] = dict(zip(paths, values, strict=True))
    rest = {path: tuple(map(_attr, attrs)) for path, attrs in head["rest"].items()}
    return SharedAttrs(rest, shared) if shared else rest


def _attr(attr: dict[str, Any]) -> Attr:
    shape = None if attr["shape"] is None else tuple(attr["shape"])
    value, kind = _value(attr["value"]), _value(attr["type"])
    return Attr(name=attr["name"], value=value, type=kind, shape=shape)


def _form(form: dict[str, Any]) -> ArrayForm:
    filters = tuple(
        Filter(f["id"], f["flags"], tuple(f["values"]), f["name"]) for f in form["filters"]
    )
    return ArrayForm(
        **{
            **form,
            "type": _value(form["type"]),
            "fill": _value(form["fill"]),
            "maxshape": tuple(form["maxshape"]),
            "chunks": None if form["chunks"] is None else tuple(form["chunks"]),
            "filters": filters,
        }
    )


def _chunked(head: Any, columns: Any) -> dict[int, ChunkIndex]:
    found, at = {}, 0
    runs = {name: columns[f"run_{name}"] for name in _COLUMNS}
    for position, shape, chunks, n in head["chunked"]:
        part = {name: column[at : at + n].astype(np.int64) for name, column in runs.items()}
        part["mask"] = part["mask"].astype(np.uint32)
        found[position] = ChunkIndex(tuple(shape), tuple(chunks), **part)
        at += n
    if at != len(runs["first"]) or any(math.prod(ix.chunks) < 1 for ix in found.values()):
        raise ValueError("columns of unequal length")
    return found
