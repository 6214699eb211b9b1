"""Checksums that a server sends along with bytes, and whether those are what it sent."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping

from h5dask.storage.stores.trying import Again

_MADE_BY = {"md5": hashlib.md5, "sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
_OF_THE_WHOLE = {"Content-MD5": "md5", "x-amz-checksum-sha256": "sha-256"}
"""Headers of one checksum: of the object, whatever part of it is sent."""
_NAMED = {"Content-Digest": False, "Repr-Digest": True, "Digest": True, "x-goog-hash": True}
"""Headers of several with their names, and whether they are of the object: RFC 9530, 3230."""


def check(headers: Mapping[str, str], body: bytes, *, whole: bool) -> None:
    """Raise `Again` where bytes aren't those of which a server sent a checksum.

    Parameters
    ----------
    headers : mapping
        Of the answer.
    body : bytes
        What came.
    whole : bool
        Whether that is all of the object: else only a checksum of the message tells of it.

    Examples
    --------
    >>> check({"Content-MD5": "kAFQmDzST7DWlj99KOF/cg=="}, b"abc", whole=True)
    >>> check({"Content-MD5": "kAFQmDzST7DWlj99KOF/cg=="}, b"abd", whole=True)
    Traceback (most recent call last):
        ...
    h5dask.storage.stores.trying.Again: ('3 bytes that their md5 checksum denies', 0.0)
    """
    for name, told in _told(headers, whole=whole):
        try:
            expected = base64.b64decode(told, validate=True)
        except (binascii.Error, ValueError):
            continue  # not a checksum of bytes: of S3, one of parts, such as "...-5"
        made = _MADE_BY[name]()
        if len(expected) != made.digest_size:
            continue
        made.update(body)
        if made.digest() != expected:
            raise Again(f"{len(body)} bytes that their {name} checksum denies")


def _told(headers: Mapping[str, str], *, whole: bool) -> Iterator[tuple[str, str]]:
    """Yield the algorithm and the checksum, in base64, of each that covers the bytes."""
    for header, name in _OF_THE_WHOLE.items():
        if whole and header in headers:
            yield name, headers[header].strip()
    for header, of_the_object in _NAMED.items():
        if whole or not of_the_object:
            for name, told in re.findall(r"([\w-]+)=:?([\w+/]+=*):?", headers.get(header, "")):
                if name.lower() in _MADE_BY:
                    yield name.lower(), told
