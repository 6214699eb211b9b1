"""fsspec's storage options in obstore's words; None where one of them has no such word.

Only credentials that are told, in the environment, or not wanted count: what a machine or a
login shell lends is left to each store's own library.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from h5dask.errors import Refused
from h5dask.storage.stores import Options

_OURS = {
    *("asynchronous", "skip_instance_cache", "use_listings_cache", "listings_expiry_time"),
    *("max_paths", "default_block_size", "default_cache_type", "default_fill_cache"),
    *("cache_regions", "max_concurrency", "block_size", "cache_timeout", "consistency"),
}
"""Options that steer how fsspec itself reads, caches or checks: nothing for obstore to know."""
_OUR_CONFIG = {
    *("connect_timeout", "read_timeout", "retries", "max_pool_connections"),
    *("request_checksum_calculation", "response_checksum_validation"),
}
"""botocore's settings of what is decided here: timeouts, attempts and connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What obstore is told of one bucket or container."""

    config: Mapping[str, Any] = field(repr=False)
    client: Mapping[str, Any] = field(default_factory=dict, repr=False)


def for_s3(bucket: str, options: Options) -> Told | None:
    """Return what obstore is told instead of s3fs; None where it can't be told all.

    Parameters
    ----------
    bucket : str
        The bucket's name.
    options : mapping
        What s3fs takes: key, secret, token, anon, endpoint_url, client_kwargs and more.
    """
    left = _wanted(options)
    client_kwargs = dict(left.pop("client_kwargs", None) or {})
    if not _plain_config(left.pop("config_kwargs", None) or {}):
        return None
    verify = client_kwargs.pop("verify", None)
    use_ssl = [left.pop("use_ssl", True), client_kwargs.pop("use_ssl", True)]
    config = {
        "bucket": bucket,
        "endpoint": _first(
            left.pop("endpoint_url", None),
            client_kwargs.pop("endpoint_url", None),
            os.environ.get("AWS_ENDPOINT_URL_S3"),
            os.environ.get("AWS_ENDPOINT_URL"),
        ),
        "region": _first(
            client_kwargs.pop("region_name", None),
            os.environ.get("AWS_REGION"),
            os.environ.get("AWS_DEFAULT_REGION"),
        ),
        "request_payer": left.pop("requester_pays", False) or None,
        # One DELETE an object: every store knows it.
        "disable_bulk_delete": True,
    }
    endpoint = config["endpoint"]
    if endpoint and not re.match("https?://", str(endpoint)):
        raise Refused(
            f"s3://{bucket}: endpoint_url: found {endpoint!r}, expected http:// or https:// in "
            "front"
        )
    credentials = _s3_credentials(left, client_kwargs)
    # Without either, the bucket's region has to be asked for, which botocore does.
    placed = config["endpoint"] or config["region"]
    if left or client_kwargs or credentials is None or not placed or not all(use_ssl):
        return None
    client = _certificates(os.environ.get("AWS_CA_BUNDLE") if verify is None else verify)
    return _told({**config, **credentials}, client)


def for_gcs(bucket: str, options: Options) -> Told | None:
    """Return what obstore is told instead of gcsfs; None where it can't be told all.

    Parameters
    ----------
    bucket : str
        The bucket's name.
    options : mapping
        What gcsfs takes: token="anon" or the path of a service account's file, project. An
        endpoint of another store is left to gcsfs, which speaks the JSON interface that
        stand-ins for Google's store offer.
    """
    left = _wanted(options)
    left.pop("project", None)
    token = left.pop("token", None)
    if left or os.environ.get("STORAGE_EMULATOR_HOST"):
        return None
    if token == "anon":
        return _told({"bucket": bucket, "skip_signature": True}, {})
    path = _first(token, os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"))
    if not isinstance(path, str) or not Path(path).is_file():
        return None
    return _told({"bucket": bucket, "application_credentials": path}, {})


def for_azure(container: str, options: Options) -> Told | None:
    """Return what obstore is told instead of adlfs; None where it can't be told all.

    Parameters
    ----------
    container : str
        The container's name.
    options : mapping
        What adlfs takes: account_name with account_key, sas_token or anon, or
        connection_string.
    """
    left = _wanted(options)
    given = _from_connection_string(left.pop("connection_string", None))
    account = _first(
        left.pop("account_name", None),
        given.pop("account_name", None),
        os.environ.get("AZURE_STORAGE_ACCOUNT_NAME"),
    )
    key = _first(
        left.pop("account_key", None),
        given.pop("account_key", None),
        os.environ.get("AZURE_STORAGE_ACCOUNT_KEY"),
    )
    sas = _first(
        left.pop("sas_token", None),
        given.pop("sas_key", None),
        os.environ.get("AZURE_STORAGE_SAS_TOKEN"),
    )
    anon = left.pop("anon", None)
    if left or not account or not (key or sas or anon is True):
        return None
    config = {
        "container_name": container,
        "account_name": account,
        "account_key": key,
        "sas_key": sas.lstrip("?") if sas and not key else None,
        "skip_signature": True if not (key or sas) else None,
        "endpoint": given.pop("endpoint", None),
    }
    return None if given else _told(config, {})


Translation = Callable[[str, Options], Told | None]


def _told(config: Mapping[str, Any], client: Mapping[str, Any]) -> Told:
    config = {name: value for name, value in config.items() if value is not None}
    bare = str(config.get("endpoint", "")).startswith("http://")
    return Told(config=config, client={**client, **({"allow_http": True} if bare else {})})


def _wanted(options: Options) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in _OURS}


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _plain_config(config: Mapping[str, Any]) -> bool:
    addressing = (config.get("s3") or {}).keys() <= {"addressing_style"} and (
        (config.get("s3") or {}).get("addressing_style", "path") in ("path", "auto")
    )
    signed = config.get("signature_version", "s3v4") == "s3v4"
    return addressing and signed and config.keys() - {"s3", "signature_version"} <= _OUR_CONFIG


def _s3_credentials(left: dict[str, Any], client_kwargs: dict[str, Any]) -> Any:
    """Return obstore's words for the credentials; None where they are to be looked for."""
    key = _first(
        left.pop("key", None),
        left.pop("username", None),
        client_kwargs.pop("aws_access_key_id", None),
    )
    secret = _first(
        left.pop("secret", None),
        left.pop("password", None),
        client_kwargs.pop("aws_secret_access_key", None),
    )
    token = _first(left.pop("token", None), client_kwargs.pop("aws_session_token", None))
    if left.pop("anon", False):
        return {"skip_signature": True}
    if key is None and secret is None and token is None:
        key = os.environ.get("AWS_ACCESS_KEY_ID")
        secret = os.environ.get("AWS_SECRET_ACCESS_KEY")
        token = os.environ.get("AWS_SESSION_TOKEN")
    if not key or not secret:
        return None
    return {"access_key_id": key, "secret_access_key": secret, "session_token": token}


def _certificates(verify: Any) -> dict[str, Any]:
    """Return what obstore is told of certificates: none are checked, or by those of a file."""
    if verify is None or verify is True:
        return {}
    if verify is False:
        return {"allow_invalid_certificates": True}
    state = os.stat(verify)
    return {"root_certificate": _content(verify, state.st_mtime_ns, state.st_size)}


@lru_cache(maxsize=8)
def _content(path: str, mtime_ns: int, nbytes: int) -> bytes:
    """Return what a file holds, the same object as long as it isn't changed."""
    return Path(path).read_bytes()


def _from_connection_string(text: str | None) -> dict[str, str]:
    """Return what a connection string of Azure's says, in obstore's words."""
    words = {
        "AccountName": "account_name",
        "AccountKey": "account_key",
        "SharedAccessSignature": "sas_key",
        "BlobEndpoint": "endpoint",
    }
    pairs = (pair.partition("=") for pair in (text or "").split(";") if pair)
    found = {name: value for name, _, value in pairs}
    protocol, suffix = found.pop("DefaultEndpointsProtocol", ""), found.pop("EndpointSuffix", "")
    told = {words.get(name, name): value for name, value in found.items()}
    if suffix and "endpoint" not in told:
        told["endpoint"] = f"{protocol}://{told.get('account_name')}.blob.{suffix}"
    return told
