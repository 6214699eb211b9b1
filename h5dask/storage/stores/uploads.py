"""One upload to S3 in parts, as it is used here: begun, filled from anywhere, committed or gone.

Requests are repeated until the deadline, but for the one by which the object appears: it may have
succeeded unheard, and when to repeat it is `appearing`'s matter.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import deflate
import fsspec

from h5dask.errors import Conflict, CorruptInput, H5daskError, NotFound
from h5dask.storage.parts import abandoned, new_part
from h5dask.storage.stores import TOKEN, Options
from h5dask.storage.stores.appearing import PROBE, probe, refuses
from h5dask.storage.stores.told import by_error, missing_extra, plain
from h5dask.storage.stores.trying import Again, deadline, persistently, timeout

SCHEMES = ("s3", "s3a")
"""Of URLs that can be uploaded so."""
LEAST_PART = 8 << 20
"""Bytes of a part; S3 takes no fewer than 5 MiB of any but the last ..."""
MOST_PARTS = 9_000
"""... and no more parts than 10,000."""
LARGEST = 5 << 40
"""Bytes of an object."""
_SLOWEST = 1 << 20
"""Bytes a second that are waited for while a part is under way."""
_DAMAGED = {"XAmzContentSHA256Mismatch", "BadDigest", "IncompleteBody"}
"""What S3 says of a body that isn't what was sent."""
_LONGEST_NOTE = 1 << 16
_REMOVALS, _PAUSE = 5, 0.2
"""How often, and after how many seconds, an upload is removed again that still has parts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Upload:
    """An upload under way; whoever has this record may add parts."""

    url: str
    """Of the object that it becomes."""
    number: str = field(repr=False)
    """What the store calls it."""
    token: str = field(repr=False)
    """What the object's metadata will tell, so that it is recognised."""
    options: Options = field(repr=False)
    note: str = field(default="", repr=False)
    """Local path of what tells a later run of it, should this one be killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part that the store has."""

    number: int
    """Its place, from 1."""
    nbytes: int
    """Its size."""
    crc: int
    """CRC-32 of its bytes, as they were sent."""
    etag: str
    """What the store calls its content."""
    summed: bool = False
    """Whether the store has compared that checksum, and so wants it again at the end."""


def part_nbytes(nbytes: int) -> int:
    """Return the size of the parts of an object, the last one apart: whole mebibytes.

    Examples
    --------
    >>> part_nbytes(10**9), part_nbytes(10**12)
    (8388608, 111149056)
    """
    least = -(-nbytes // MOST_PARTS)
    return max(LEAST_PART, -(-least // 2**20) * 2**20)


def offered(url: str) -> bool:
    """Whether the store of a URL takes uploads in parts, of which anybody may make some."""
    return url.partition("://")[0] in SCHEMES


def begin(url: str, options: Options | None, token: str) -> Upload:
    """Begin an upload of what will be an object with this token, and note it on this machine.

    It must be `abort`ed or, once its object is there, `forget`ed.
    """
    upload = _begun(url, options or {}, token)
    note = new_part(url)
    Path(note).write_text(json.dumps({"upload": upload.number, "of": plain(url)}), encoding="utf-8")
    return replace(upload, note=note)


def _begun(url: str, options: Options, token: str) -> Upload:
    made = _call(url, options, "create_multipart_upload", {"Metadata": {TOKEN: token}})
    return Upload(url=url, number=made["UploadId"], token=token, options=dict(options))


def abort_abandoned(url: str, options: Options | None) -> None:
    """Remove the uploads of an object whose writers ran on this machine and are no more.

    What another machine has left is removed by the bucket's own rule for incomplete uploads:
    whether its writer still lives can't be known here.
    """
    for note in abandoned(url):
        with suppress(OSError, ValueError, TypeError, KeyError):
            with open(note, "rb") as file:
                told = json.loads(file.read(_LONGEST_NOTE))
            if told["of"] == plain(url):
                abort(Upload(url=url, number=told["upload"], token="", options=dict(options or {})))


def forget(upload: Upload) -> None:
    """Drop the note of an upload that is done."""
    if upload.note:
        with suppress(OSError):
            os.unlink(upload.note)


def put_part(upload: Upload, number: int, content: bytearray | bytes) -> Part:
    """Send one part; twice the same is as good as once.

    Raises
    ------
    Conflict
        The upload is gone: somebody else has removed it.
    """
    crc = deflate.crc32(content)

    def attempt() -> Part:
        answer = _attempt(
            upload.url,
            upload.options,
            "upload_part",
            {"UploadId": upload.number, "PartNumber": number, "Body": content},
            nbytes=len(content),
        )
        if answer.get("ChecksumCRC32", _encoded(crc)) != _encoded(crc):
            raise Again("the store received other bytes than were sent")
        return Part(
            number=number,
            nbytes=len(content),
            crc=crc,
            etag=answer["ETag"],
            summed="ChecksumCRC32" in answer,
        )

    try:
        return persistently(plain(upload.url), attempt)
    except FileNotFoundError:
        raise gone(upload) from None


def commit(upload: Upload, parts: Sequence[Part], *, absent: bool, mark: str = "") -> None:
    """Let the object appear: one attempt, which may have succeeded where it raises.

    Parameters
    ----------
    upload : Upload
        Filled.
    parts : sequence of Part
        All of them, in their order.
    absent : bool
        Only if there is no such object yet, where the store enforces that; else Conflict.
    mark : str
        Only if there is the one with this mark, likewise.
    """
    condition = {"IfNoneMatch": "*"} if absent else {"IfMatch": mark} if mark else {}
    listed = [
        {"PartNumber": part.number, "ETag": part.etag}
        | ({"ChecksumCRC32": _encoded(part.crc)} if part.summed else {})
        for part in parts
    ]
    _attempt(
        upload.url,
        upload.options,
        "complete_multipart_upload",
        {"UploadId": upload.number, "MultipartUpload": {"Parts": listed}, **condition},
        conditional=bool(condition),
    )


def refuse_incomplete(upload: Upload, parts: Sequence[Part], nbytes: int) -> None:
    """Make sure that the parts, in their order, are all of an object of this size.

    Raises
    ------
    CorruptInput
        One is missing, there twice, or of another size than its place has.
    """
    size = part_nbytes(nbytes)
    wanted = [min(size, nbytes - at) for at in range(0, nbytes, size)]
    found = [(part.number, part.nbytes) for part in parts]
    if found != list(enumerate(wanted, 1)):
        wrong = sorted(set(enumerate(wanted, 1)) ^ set(found)) or found
        raise CorruptInput(
            f"{plain(upload.url)}: part {wrong[0][0]:,} of {len(wanted):,} is missing, there "
            "twice, or of another size; nothing was published; write it again"
        )


def abort(upload: Upload) -> None:
    """Remove an upload and its parts, also those that are still under way; it may be gone."""
    call = upload.url, upload.options
    for _ in range(_REMOVALS):
        try:
            _call(*call, "abort_multipart_upload", {"UploadId": upload.number})
            # A part that arrives meanwhile may stay: S3's reference says to look, and repeat it.
            if not _call(*call, "list_parts", {"UploadId": upload.number}).get("Parts"):
                break
        except NotFound:
            break
        time.sleep(_PAUSE)
    forget(upload)


@contextmanager
def aborted_on_error(upload: Upload) -> Iterator[None]:
    """Remove an upload where the body fails or is interrupted."""
    try:
        yield
    except BaseException:
        with suppress(H5daskError):  # its note stays, and a later run tries again
            abort(upload)
        raise


def keeps_conditions(url: str, options: Options | None) -> bool:
    """Whether the store refuses to commit an upload where an object is; tried out beside one."""
    with probe(url, options) as beside:
        upload = _begun(beside.url, options or {}, "")
        try:
            part = put_part(upload, 1, PROBE)
            return refuses(beside.url, lambda: commit(upload, [part], absent=True))
        finally:
            abort(upload)


def gone(upload: Upload) -> Conflict:
    """Return the error of an upload that somebody else has removed."""
    return Conflict(
        f"{plain(upload.url)}: its upload was removed while it was under way; nothing was "
        "published; write it again"
    )


def _encoded(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(4, "big")).decode()


def _call(
    url: str, options: Options, operation: str, parameters: Mapping[str, Any]
) -> Mapping[str, Any]:
    return persistently(plain(url), lambda: _attempt(url, options, operation, parameters))


def _attempt(
    url: str,
    options: Options,
    operation: str,
    parameters: Mapping[str, Any],
    *,
    nbytes: int = 0,
    conditional: bool = False,
) -> Mapping[str, Any]:
    """Call one operation of S3, once; `nbytes` are sent with it."""
    store, bucket, key = _place(url, options)
    patience = max(timeout(), min(timeout() + nbytes / _SLOWEST, deadline() / 2))
    with _told(url, conditional=conditional):
        answer: Mapping[str, Any] = store.call_s3(
            operation, Bucket=bucket, Key=key, timeout=patience, **parameters
        )
    return answer


def _place(url: str, options: Options) -> tuple[Any, str, str]:
    """Return the filesystem, bucket and key of a URL; the filesystem tries nothing twice."""
    config = {**options.get("config_kwargs", {}), "retries": {"total_max_attempts": 1}}
    try:
        store, path = fsspec.core.url_to_fs(url, **{**options, "config_kwargs": config})
    except (ValueError, ImportError) as error:
        raise missing_extra(url, error) from None
    store.retries = 1
    bucket, key, _ = store.split_path(path)
    return store, bucket, key


@contextmanager
def _told(url: str, *, conditional: bool) -> Iterator[None]:
    """Turn what s3fs raises into our errors."""
    try:
        yield
    except (H5daskError, Again):
        raise
    except Exception as error:  # noqa: BLE001 - s3fs, botocore and aiohttp share no base
        code = _code(error)
        if code in _DAMAGED:
            raise Again(f"the bytes were damaged on the way ({code})") from None
        if code == "NoSuchUpload":
            raise NotFound(f"{plain(url)}: no such upload; begin it anew") from None
        raise by_error(plain(url), error, writing=True, conditional=conditional) from None


def _code(error: Exception) -> str:
    """Return the error code of the answer that an error of s3fs stands for."""
    answer = getattr(error.__cause__ or error, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, Mapping) else ""
