"""What stores and their libraries say, in our words: what may pass, and errors that end.

Of an answer only its status and its error code are repeated: texts and addresses hold signatures,
key names and whole pages.
"""

from __future__ import annotations

import email.utils
import errno
import os
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from h5dask.errors import (
    AccessDenied,
    Conflict,
    H5daskError,
    InputChanged,
    NotFound,
    OutOfSpace,
    Refused,
)
from h5dask.storage.stores.trying import Again

_EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), ("s3fs", "s3")),
    **dict.fromkeys(("gs", "gcs"), ("gcsfs", "gcs")),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), ("adlfs", "azure")),
    **dict.fromkeys(("http", "https"), ("aiohttp", "http")),
    **dict.fromkeys(("sftp", "ssh"), ("paramiko", "sftp")),
}
"""By scheme: the library that reaches it, and our extra that installs the library."""
_KNOWN = "s3, gs, az, http, https, sftp, memory, file, and what fsspec.available_protocols() lists"

_PASSING = {408, 425, 429, *range(500, 600)} - {501, 505}
"""Statuses that another attempt may not meet; 501 and 505 mean never."""
_PASSING_CODES = {"RequestTimeout", "SlowDown", "OperationAborted", "InternalError", "ServerBusy"}
_UNKNOWN = {
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthenticationFailed", "InvalidToken"),
    *("InvalidAuthenticationInfo", "UnrecognizedClientException", "InvalidSecurity"),
}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"}
_NO_OBJECT = {"NoSuchKey", "BlobNotFound"}
_ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint"}
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"}
_REFUSED_CREDENTIALS = {"AuthenticationException", "BadHostKeyException", "DefaultCredentialsError"}
_CERTIFICATE = {"ClientConnectorCertificateError", "SSLCertVerificationError"}
_MALFORMED = {"InvalidURL", "InvalidUrlClientError", "ParamValidationError"}
_SILENT = {"TimeoutError", "ConnectTimeoutError", "ReadTimeoutError", "ServerTimeoutError"}
_BROKEN = {
    *("ConnectionError", "HTTPClientError", "ClientConnectionError", "ClientPayloadError"),
    *("ServiceRequestError", "ServiceResponseError", "IncompleteReadError", "EOFError"),
    *("gaierror", "SSHException", "NoValidConnectionsError", "ClientOSError"),
}


def plain(url: str) -> str:
    """Return a URL as errors may show it: without a query or fragment, user or password.

    Examples
    --------
    >>> plain("https://me:secret@host/a.h5?X-Amz-Signature=b7e3")
    'https://host/a.h5'
    >>> plain("s3://bucket/what?.h5")
    's3://bucket/what?.h5'
    """
    scheme, _, rest = url.partition("://")
    if scheme in ("http", "https"):
        parts = urlsplit(url)
        return urlunsplit((scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    host, slash, path = rest.partition("/")
    user, at, place = host.rpartition("@")
    # A store's container may stand before an @; a password never does.
    return url if not at or ":" not in user else f"{scheme}://{place}{slash}{path}"


def by_status(
    url: str,
    status: int,
    *,
    code: str = "",
    writing: bool = False,
    conditional: bool = False,
    after: float = 0.0,
) -> Exception:
    """Return what a refusing answer means: `Again`, or an error of ours.

    Parameters
    ----------
    url : str
        What the error calls the object; without credentials.
    status : int
        The answer's HTTP status.
    code : str
        The store's own word for it, such as NoSuchBucket; "" where it gave none.
    writing : bool
        Whether the request was to change the object.
    conditional : bool
        Whether it was to happen under a condition only.
    after : float
        Seconds that the store asks to be left alone.

    Examples
    --------
    >>> by_status("s3://bucket/a.h5", 503, code="SlowDown")
    Again('503 Service Unavailable (SlowDown)', 0.0)
    >>> by_status("s3://bucket/a.h5", 404, code="NoSuchBucket")
    NotFound('s3://bucket/a.h5: no such bucket; check its name')
    """
    said = f"{_named(status)} ({code})" if code else _named(status)
    if code in _PASSING_CODES or (status in _PASSING and code not in _EXPIRED):
        return Again(said, after)
    if writing and conditional and status in {404, 409, 412} and code not in _NO_BUCKET:
        # 404: it was to replace the one with a mark, and that one is gone.
        return conflict(url)
    if writing and status in {409, 412}:
        return Again(said, after)
    return _refusal(url, status, code, said, writing=writing)


def _refusal(url: str, status: int, code: str, said: str, *, writing: bool) -> H5daskError:
    if status in {404, 410}:
        return NotFound(f"{url}: {_lacking(code)}")
    if status in {401, 403} or code in _EXPIRED | _UNKNOWN:
        return AccessDenied(f"{url}: access denied: {said}; {_to_check(code, writing=writing)}")
    if status in {412, 416}:
        return changed(url, said)
    if code in _ELSEWHERE or (status in {301, 307} and not url.startswith("http")):
        return Refused(
            f"{url}: lies elsewhere: {said}; give its region, as "
            "client_kwargs={'region_name': ...} of storage_options, or its endpoint"
        )
    return Refused(f"{url}: the store refused the request: {said}; check the URL and its options")


def by_error(
    url: str, error: Exception, *, writing: bool = False, conditional: bool = False
) -> Exception:
    """Return what an error of a library's means: `Again`, an error of ours, or the error itself.

    Parameters
    ----------
    url : str
        What the error calls the object; without credentials.
    error : Exception
        What fsspec, botocore, aiohttp, azure.core, gcsfs, paramiko or the system raised.
    writing : bool
        Whether the request was to change the object.
    conditional : bool
        Whether it was to happen under a condition only.

    Examples
    --------
    >>> by_error("sftp://host/a.h5", ConnectionResetError())
    Again('no connection, or a broken one (ConnectionResetError)', 0.0)
    """
    kinds = {kind.__name__ for one in _causes(error) for kind in type(one).__mro__}
    if "HttpProcessingError" in kinds:
        # aiohttp's parser: it was cut, or is none; the status that it names is its own guess.
        return Again(f"an answer that isn't HTTP, or not all of it ({type(error).__name__})")
    if "TooManyRedirects" in kinds:
        return Refused(f"{url}: is redirected without end; check the address")
    for one in _causes(error):
        status, code = _answered(one)
        if status:
            return by_status(url, status, code=code, writing=writing, conditional=conditional)
    found: Exception = error
    if kinds & _CERTIFICATE:
        found = untrusted(url)
    elif kinds & _NO_CREDENTIALS or isinstance(error, PermissionError):
        found = AccessDenied(f"{url}: access denied; {_to_check('', writing=writing)}")
    elif kinds & _REFUSED_CREDENTIALS:
        found = AccessDenied(f"{url}: access denied; check user, password and key")
    elif kinds & _SILENT:
        found = Again(f"no answer in time ({type(error).__name__})")
    elif kinds & _BROKEN:
        found = Again(f"no connection, or a broken one ({type(error).__name__})")
    elif kinds & _MALFORMED:
        found = Refused(f"{url}: isn't an address to ask for; check it")
    elif isinstance(error, OSError):
        found = _by_system(url, error)
    return found


def _by_system(url: str, error: OSError) -> Exception:
    if isinstance(error, FileExistsError):
        return conflict(url)
    if isinstance(error, IsADirectoryError):
        return NotFound(f"{url}: is a folder; name an object in it")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NotFound(f"{url}: {_lacking('')}")
    if error.errno == errno.ENOSPC:
        return OutOfSpace(f"{url}: the store is full; make room, or choose another")
    return Again(os.strerror(error.errno) if error.errno else type(error).__name__)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _answered(error: Any) -> tuple[int, str]:
    """Return the status and error code of the answer that an error stands for; else 0 and ""."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):  # botocore
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = str(response.get("Error", {}).get("Code", ""))
        # For an answer without a body, botocore repeats the status there.
        return int(status), "" if code.isdigit() else code
    for name in ("status", "status_code", "code"):  # aiohttp; azure.core; gcsfs
        told = str(getattr(error, name, ""))
        if told.isdigit() and 300 <= int(told) < 600:
            return int(told), str(getattr(error, "error_code", None) or "")
    return 0, ""


def conflict(url: str) -> Conflict:
    """Return the error of a conditional write whose condition doesn't hold."""
    return Conflict(
        f"{url}: exists already, or was changed by another writer; choose another name, or "
        "allow it to be overwritten"
    )


def changed(url: str, said: str) -> InputChanged:
    """Return the error of an object that isn't the one that was opened."""
    return InputChanged(f"{url}: changed since it was opened ({said}); open it again")


def untrusted(url: str) -> Refused:
    """Return the error of a server that can't show a certificate to be believed."""
    return Refused(
        f"{url}: the server's certificate isn't trusted here; check the address, or name its "
        "authority's certificates"
    )


def compared(url: str, mark: str, found: str, *, whole: bool = False) -> None:
    """Raise where an answer isn't of the object that has a mark.

    Parameters
    ----------
    url : str
        What the error calls the object.
    mark : str
        The mark of the one that was opened; "" where it had none.
    found : str
        The mark of the answer; "" where it has none.
    whole : bool
        Whether a server answered with all its bytes, maybe without looking at a condition.

    Raises
    ------
    InputChanged
        It is of another object.
    Again
        It has no mark: not the object, but some page in between.
    """
    if not mark or found == mark:
        return
    if found:
        raise changed(url, f"then {mark}, now {found}")
    if whole:
        raise Again("200 OK with something else: a page of a proxy's?")


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"status {status}"


def _lacking(code: str) -> str:
    if code in _NO_BUCKET:
        return "no such bucket; check its name"
    if code in _NO_OBJECT:
        return "no such object in the bucket; check the path"
    return "no such object; check the path"


def _to_check(code: str, *, writing: bool) -> str:
    if code in _EXPIRED:
        return "the credentials have expired; renew them"
    if code in _UNKNOWN:
        return "the store doesn't accept these credentials; check key, secret and token"
    if code == "RequestTimeTooSkewed":
        return "this machine's clock is wrong; set it"
    verb = "write" if writing else "read"
    return (
        f"check that credentials are given (storage_options, or the environment) and may {verb} it"
    )


def pause(retry_after: str | None) -> float:
    """Return the seconds that a Retry-After header asks for; 0 where it says nothing.

    Examples
    --------
    >>> pause("7"), pause(None), pause("soon")
    (7.0, 0.0, 0.0)
    """
    if not retry_after:
        return 0.0
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        then = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    return max(0.0, then.timestamp() - time.time())


def missing_extra(url: str, error: Exception) -> H5daskError:
    """Return the error for a URL that no library here can reach.

    Parameters
    ----------
    url : str
        The URL.
    error : Exception
        What fsspec raised: ImportError where a library is missing, ValueError where the scheme
        means nothing to it.

    Examples
    --------
    >>> missing_extra("s3://bucket/x.h5", ImportError("Install s3fs to access S3"))
    NotFound("s3://bucket/x.h5: needs s3fs; pip install 'h5dask[s3]'")
    """
    scheme = url.partition("://")[0]
    if not isinstance(error, ImportError):
        return NotFound(f"{plain(url)}: unknown scheme {scheme!r}; known are {_KNOWN}")
    library, extra = _EXTRAS.get(scheme, ("", ""))
    if extra:
        return NotFound(f"{plain(url)}: needs {library}; pip install 'h5dask[{extra}]'")
    return NotFound(f"{plain(url)}: {error}")
