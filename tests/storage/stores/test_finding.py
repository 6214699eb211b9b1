"""Which library reaches an object, and what is said where none does."""

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import fsspec
import pytest

from h5dask.errors import NotFound, Refused
from h5dask.storage.stores import clients
from h5dask.storage.stores.finding import object_at
from h5dask.storage.stores.told import missing_extra
from h5dask.storage.stores.translating import for_azure, for_gcs, for_s3

TOLD = {"key": "the-key", "secret": "the-secret", "endpoint_url": "http://127.0.0.1:1"}
ENVIRONMENT = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"),
    *("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST"),
    *("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN"),
    *("AWS_CA_BUNDLE", "AZURE_STORAGE_CONNECTION_STRING"),
)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


def library(url: str, options: dict[str, Any]) -> str:
    return type(object_at(url, options)).__name__


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        ("s3://bucket/a.h5", TOLD, "WithObstore"),
        ("s3a://bucket/a.h5", TOLD, "WithObstore"),
        ("s3://bucket/a.h5", {"anon": True, "endpoint_url": "http://127.0.0.1:1"}, "WithObstore"),
        ("s3://bucket/a.h5", {**TOLD, "profile": "work"}, "WithS3fs"),
        ("s3://bucket/a.h5", {**TOLD, "s3_additional_kwargs": {"ACL": "private"}}, "WithS3fs"),
        ("s3://bucket/a.h5", {"endpoint_url": "http://127.0.0.1:1"}, "WithS3fs"),
        ("s3://bucket/a.h5", {"key": "the-key", "secret": "the-secret"}, "WithS3fs"),
        ("s3://bucket/a//b.h5", TOLD, "WithS3fs"),
        ("s3://bucket/../b.h5", TOLD, "WithS3fs"),
        ("gs://bucket/a.h5", {"token": "anon"}, "WithObstore"),
        ("gs://bucket/a.h5", {"token": "anon", "endpoint_url": "http://x"}, "WithFsspec"),
        ("gs://bucket/a.h5", {}, "WithFsspec"),
        ("az://box/a.h5", {"account_name": "me", "account_key": "a2V5"}, "WithObstore"),
        ("abfs://box@me.dfs.core.windows.net/a.h5", {"sas_token": "?sv=1"}, "WithObstore"),
        ("az://box/a.h5", {"account_name": "me"}, "WithFsspec"),
        ("http://127.0.0.1:1/a.h5", {}, "WithHttp"),
        ("https://127.0.0.1:1/a.h5", {"headers": {"X": "1"}}, "WithHttp"),
        ("memory://a.h5", {}, "WithFsspec"),
        ("sftp://127.0.0.1/a.h5", {}, "WithFsspec"),
    ],
)
def test_the_library_that_can_be_told_all(url: str, options: dict[str, Any], expected: str) -> None:
    assert library(url, options) == expected


def test_credentials_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    assert library("s3://bucket/a.h5", {}) == "WithObstore"
    told = for_s3("bucket", {})
    assert told is not None
    assert told.config["region"] == "eu-west-3"


def test_without_obstore(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "h5dask.storage.stores.finding.find_spec",
        lambda name: None if name == "obstore" else found(name),
    )
    assert library("s3://bucket/a.h5", TOLD) == "WithS3fs"
    assert library("az://box/a.h5", {"account_name": "me", "account_key": "a2V5"}) == "WithFsspec"


def test_what_s3fs_takes_in_other_words(tmp_path: Path) -> None:
    authority = tmp_path / "authority.pem"
    authority.write_bytes(b"PEM")
    told = for_s3(
        "bucket",
        {
            "username": "the-key",
            "password": "the-secret",
            "token": "the-token",
            "requester_pays": True,
            "client_kwargs": {
                "endpoint_url": "https://store.test",
                "region_name": "eu-west-3",
                "verify": str(authority),
            },
            "config_kwargs": {"s3": {"addressing_style": "path"}, "read_timeout": 5},
            "use_listings_cache": False,
        },
    )
    assert told is not None
    assert told.config == {
        "bucket": "bucket",
        "endpoint": "https://store.test",
        "region": "eu-west-3",
        "request_payer": True,
        "disable_bulk_delete": True,
        "access_key_id": "the-key",
        "secret_access_key": "the-secret",
        "session_token": "the-token",
    }
    assert told.client == {"root_certificate": b"PEM"}


@pytest.mark.parametrize(
    "untold",
    [
        {"config_kwargs": {"s3": {"addressing_style": "virtual"}}},
        {"config_kwargs": {"s3": {"use_accelerate_endpoint": True}}},
        {"config_kwargs": {"signature_version": "s3"}},
        {"config_kwargs": {"proxies": {"http": "http://x"}}},
        {"client_kwargs": {"api_version": "2006-03-01"}},
        {"use_ssl": False, "endpoint_url": None},
        {"version_aware": True},
    ],
)
def test_what_only_s3fs_understands(untold: dict[str, Any]) -> None:
    assert for_s3("bucket", {**TOLD, **untold}) is None


def test_a_service_account_of_google(tmp_path: Path) -> None:
    account = tmp_path / "account.json"
    account.write_text("{}")
    told = for_gcs("bucket", {"token": str(account), "project": "mine"})
    assert told is not None
    assert told.config == {"bucket": "bucket", "application_credentials": str(account)}
    assert for_gcs("bucket", {"token": str(tmp_path / "missing.json")}) is None
    assert for_gcs("bucket", {"token": "cloud"}) is None


def test_a_connection_string_of_azure() -> None:
    text = "DefaultEndpointsProtocol=http;AccountName=me;AccountKey=a2V5==;"
    told = for_azure("box", {"connection_string": text + "BlobEndpoint=http://127.0.0.1:1/me;"})
    assert told is not None
    assert told.config == {
        "container_name": "box",
        "account_name": "me",
        "account_key": "a2V5==",
        "endpoint": "http://127.0.0.1:1/me",
    }
    assert told.client == {"allow_http": True}
    told = for_azure("box", {"connection_string": text + "EndpointSuffix=core.chinacloudapi.cn"})
    assert told is not None
    assert told.config["endpoint"] == "http://me.blob.core.chinacloudapi.cn"
    assert for_azure("box", {"connection_string": text + "QueueEndpoint=http://x"}) is None


@pytest.mark.parametrize(
    ("scheme", "module", "extra"),
    [
        ("s3", "s3fs", "s3"),
        ("gs", "gcsfs", "gcs"),
        ("az", "adlfs", "azure"),
        ("sftp", "paramiko", "sftp"),
        ("https", "aiohttp", "http"),
    ],
)
def test_a_library_that_is_missing(scheme: str, module: str, extra: str) -> None:
    error = missing_extra(f"{scheme}://bucket/x.h5", ImportError(f"Install {module}"))
    expected = f"{scheme}://bucket/x.h5: needs {module}; pip install 'h5dask[{extra}]'"
    assert str(error) == expected


def test_missing_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(scheme: str) -> Any:
        raise ImportError(f"Install the library for {scheme}")

    monkeypatch.setattr(fsspec, "get_filesystem_class", refuse)
    with pytest.raises(NotFound, match=r"sftp://host/x\.h5: needs paramiko; pip install"):
        object_at("sftp://host/x.h5")


def test_aiohttp_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "h5dask.storage.stores.finding.find_spec",
        lambda name: None if name == "aiohttp" else found(name),
    )
    with pytest.raises(NotFound, match=r"x\.h5: needs aiohttp; pip install 'h5dask\[http\]'"):
        object_at("http://host/x.h5?signed=1")


def test_an_unknown_scheme() -> None:
    with pytest.raises(NotFound, match=r"unknown scheme 'ftq'; known are s3, gs, az, http"):
        object_at("ftq://host/x.h5")


def test_credentials_are_shown_nowhere() -> None:
    secrets = ("the-key", "the-secret", "the-token", "b7e3")
    found = [
        object_at("s3://bucket/a.h5", {**TOLD, "token": "the-token"}),
        object_at("s3://bucket/a.h5", {**TOLD, "profile": "work"}),
        object_at("https://the-key:the-secret@host/a.h5?X-Amz-Signature=b7e3"),
        object_at("sftp://me:the-secret@host/a.h5", {"password": "the-secret"}),
    ]
    for one in found:
        shown = repr(one) + one.url + repr(list(clients._clients))
        assert not [secret for secret in secrets if secret in shown]


def test_one_client_for_all_objects_of_a_bucket() -> None:
    one, two = (object_at(f"s3://bucket/{name}.h5", TOLD) for name in "ab")
    other = object_at("s3://bucket/a.h5", {**TOLD, "secret": "another"})
    assert one.client is two.client  # type: ignore[attr-defined]
    assert one.client is not other.client  # type: ignore[attr-defined]


def test_clients_are_bounded() -> None:
    for i in range(clients._HELD + 9):
        clients.held(f"one of {i}", object)
    assert len(clients._clients) == clients._HELD
    last = clients.held(f"one of {clients._HELD + 8}", object)
    assert clients.held(f"one of {clients._HELD + 8}", object) is last
    clients.forget(f"one of {clients._HELD + 8}")
    assert clients.held(f"one of {clients._HELD + 8}", object) is not last


def test_errors_survive_pickling() -> None:
    error = missing_extra("s3://bucket/x.h5", ImportError())
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("s3://lab", None, "s3://lab: names no object; write s3://lab/KEY"),
        ("gs://", None, "names no object; write gs://BUCKET/KEY"),
        ("s3://lab/a.h5", "key", "storage_options: found str, expected a mapping"),
        ("s3://lab/a.h5", {"endpoint_url": "host:9"}, "endpoint_url: found 'host:9'"),
    ],
)
def test_what_cannot_be_reached(url: str, options: Any, words: str) -> None:
    with pytest.raises(Refused, match=words):
        object_at(url, options)


def test_an_option_that_a_library_does_not_know() -> None:
    found = object_at("s3://lab/a.h5", {"key": "a", "secret": "b", "endpoint": "http://host"})
    with pytest.raises(Refused, match="storage_options: 'endpoint' isn't an option"):
        found.head()
