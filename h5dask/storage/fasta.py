"""FASTA as bytes: the records of files one after the other, and pieces of text as one new file.

What letters stand for, and what headers tell, isn't known here.
"""

from __future__ import annotations

import codecs
import io
import os
import string
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from h5dask.errors import CorruptInput, LayoutError, Refused
from h5dask.storage.parts import new_part, remove_abandoned
from h5dask.storage.publishing import publish
from h5dask.storage.remote import Source, UrlPath, expand, resolved, translated
from h5dask.storage.space import full_disk_told

_PIECE = 2**20
"""Bytes that are read at once."""
_LONGEST = 2**24
"""Bytes that a line may have."""
_SPACES = b" \t"
_SMALL, _CAPITAL = string.ascii_lowercase.encode(), string.ascii_uppercase.encode()
_LETTERS = _SMALL + _CAPITAL + b"*-./" + _SPACES
_CAPITALS = bytes.maketrans(_SMALL, _CAPITAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One sequence, as its file has it."""

    where: str
    """File and line of its header, as messages begin."""
    name: str
    """The first word of its header."""
    description: str
    """What follows it in the header; may be empty."""
    letters: bytes = b""
    """A to Z, `*`, `-`, `.` and `/`, from all its lines; may be empty."""


def records(
    urlpath: UrlPath | Iterable[UrlPath], storage_options: Mapping[str, Any] | None = None
) -> Iterator[Record]:
    r"""Yield the records of FASTA files, read line by line.

    Lines end with a line feed, alone or after a carriage return. Blank lines and those that begin
    with a semicolon are left out, so are spaces and tabs between letters; small letters become
    capitals. A record without letters is an empty sequence.

    Parameters
    ----------
    urlpath : str, path, file object, or list of them
        Local path, fsspec URL or glob; the records of several files come one after the other.
    storage_options : mapping, optional
        Options of the fsspec filesystem.

    Yields
    ------
    Record
        One at a time. Memory: its letters twice, and 4 MiB.

    Raises
    ------
    NotFound
        A file isn't there.
    LayoutError
        A file holds no record, text before the first one, or a header without a name.
    CorruptInput
        A header is no text in UTF-8, or a line holds what are no letters; the line is named.
    Refused
        A line has more than 16 MiB.
    InputChanged
        A file changed while it was read.

    Examples
    --------
    >>> import io
    >>> [one] = records(io.BytesIO(b">5L33, score=1.5\nMKV\nla*\n"))
    >>> one.name, one.description, one.letters
    ('5L33,', 'score=1.5', b'MKVLA*')
    """
    for source in expand(urlpath, storage_options):
        yield from _records(source)


def write_records(
    pieces: Iterable[bytes],
    urlpath: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    r"""Write pieces of text end to end as one file, whole or not at all.

    Parameters
    ----------
    pieces : iterable of bytes
        Asked for one after the other, each when the one before is written; large ones are best.
    urlpath : str or path
        Local path, or fsspec URL (written by way of a local temporary file).
    overwrite : bool, default False
        Whether a local file is replaced; in a store one always is.
    storage_options : mapping, optional
        Options of the fsspec filesystem.

    Raises
    ------
    NotFound
        The target's folder isn't there.
    Conflict
        The target is there already.
    OutOfSpace
        The disk is full; nothing is left behind.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_records([b">a\nMK\n", b">b\nV\n"], f"{folder}/two.fasta")
    ...     [one.letters for one in records(f"{folder}/two.fasta")]
    [b'MK', b'V']
    """
    url = resolved(urlpath)
    remove_abandoned(url)
    part = new_part(url)
    try:
        _append(b"", part, url)
        for piece in pieces:
            _append(piece, part, url)
        publish(part, url, storage_options, overwrite=overwrite)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(part)


def _append(piece: bytes, part: str, url: str) -> None:
    """Add to a file; what fails is told of its target."""
    with translated(url), full_disk_told(url), open(part, "ab") as file:
        file.write(piece)


def _records(source: Source) -> Iterator[Record]:
    record: Record | None = None
    lines: list[bytes] = []
    for number, line in _lines(source):
        if line.startswith(b">"):
            if record is not None:
                yield replace(record, letters=b"".join(lines))
            record, lines = _begun(line, _where(source, number)), []
        elif record is None:
            where = _where(source, number)
            raise LayoutError(
                f"{where}: found {_text(line, where)[:40]!r} before the first record; expected "
                "FASTA, whose records begin with '>' and a name; name such a file"
            )
        elif odd := line.translate(None, _LETTERS):
            raise CorruptInput(
                f"{_where(source, number)}: found {odd[:20].decode(errors='backslashreplace')!r} "
                f"among the letters of {record.name!r}; expected A to Z, '*', '-', '.' or '/'; "
                "correct the line"
            )
        else:
            lines.append(line.translate(_CAPITALS, _SPACES))
    if record is None:
        raise LayoutError(
            f"{source.url}: found no record; expected FASTA, whose records begin with '>' and a "
            "name; copy or download it again"
        )
    yield replace(record, letters=b"".join(lines))


def _where(source: Source, number: int) -> str:
    return f"{source.url}: line {number:,}"


def _lines(source: Source) -> Iterator[tuple[int, bytes]]:
    """Yield each line that is neither blank nor a comment, and its number from 1."""
    for number, line in enumerate(_every_line(source), 1):
        text = line.removeprefix(codecs.BOM_UTF8).strip()
        if text and not text.startswith(b";"):
            yield number, text


def _every_line(source: Source) -> Iterator[bytes]:
    left = b""
    size = source.nbytes
    with source.open() as file:
        for start in range(0, size, _PIECE):
            piece = bytearray(min(_PIECE, size - start))
            file.read_into(start, memoryview(piece))
            text = left + piece
            end = text.rfind(b"\n") + 1
            yield from io.BytesIO(text[:end])
            left = text[end:]
            if len(left) > _LONGEST:
                raise Refused(
                    f"{source.url}: found a line of more than {_LONGEST:,} bytes, which is the "
                    "most here; break the letters into lines, or name a file of FASTA"
                )
    yield left


def _begun(line: bytes, where: str) -> Record:
    """Return the record that a header begins."""
    if b"\r" in line:
        raise LayoutError(
            f"{where}: found carriage returns within the line; expected lines that end with a "
            "line feed; convert the file, for instance with tr '\\r' '\\n'"
        )
    name, *description = _text(line[1:], where).split(maxsplit=1) or [""]
    if not name:
        raise LayoutError(
            f"{where}: found a header without a name; expected '>' and a name; name the record"
        )
    return Record(where=where, name=name, description="".join(description))


def _text(line: bytes, where: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise CorruptInput(
            f"{where}: found {line[:20]!r}, which is no text in UTF-8; expected FASTA; unpack a "
            "compressed file, convert one in another encoding"
        ) from None
