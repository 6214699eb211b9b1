"""What stores and libraries say, in our words."""

import errno
import pickle
import time
from email.utils import formatdate
from typing import Any

import pytest

from h5dask.errors import AccessDenied, Conflict, InputChanged, NotFound, OutOfSpace, Refused
from h5dask.storage.stores.told import by_error, by_status, compared, pause, plain
from h5dask.storage.stores.trying import Again

URL = "s3://bucket/a.h5"


class NoCredentialsError(Exception):
    """As botocore's is called."""


class AuthenticationException(Exception):
    """As paramiko's is called."""


class HttpResponseError(Exception):
    """As azure.core's is called."""

    def __init__(self, status_code: int, error_code: str) -> None:
        super().__init__("https://account/a.h5?sig=b7e3")
        self.status_code, self.error_code = status_code, error_code


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/a.h5?X-Amz-Signature=b7e3#there", "https://host/a.h5"),
        ("https://me:secret@host:81/a.h5", "https://host:81/a.h5"),
        ("sftp://me:secret@host/a@b.h5", "sftp://host/a@b.h5"),
        ("sftp://me@host/a.h5", "sftp://me@host/a.h5"),
        ("abfs://box@account.dfs.core.windows.net/a.h5",) * 2,
        ("s3://bucket/what?is=this#1.h5",) * 2,
        ("memory://a/b.h5",) * 2,
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert plain(url) == shown


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_statuses_that_pass(status: int) -> None:
    found = by_status(URL, status, after=3)
    assert isinstance(found, Again)
    assert found.after == 3
    assert str(status) in found.why


@pytest.mark.parametrize("status", [404, 409, 412])
def test_a_condition_that_does_not_hold(status: int) -> None:
    assert isinstance(by_status(URL, status, writing=True, conditional=True), Conflict)


@pytest.mark.parametrize("status", [409, 412])
def test_a_put_without_a_condition_meets_no_conflict(status: int) -> None:
    assert isinstance(by_status(URL, status, writing=True), Again)


def test_a_bucket_that_is_missing_is_no_conflict() -> None:
    found = by_status(URL, 404, code="NoSuchBucket", writing=True, conditional=True)
    assert isinstance(found, NotFound)


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (NoCredentialsError(), AccessDenied, "check that credentials are given"),
        (AuthenticationException(), AccessDenied, "check user, password and key"),
        (PermissionError(), AccessDenied, "check that credentials are given"),
        (FileNotFoundError(), NotFound, "no such object; check the path"),
        (IsADirectoryError(), NotFound, "is a folder; name an object in it"),
        (FileExistsError(), Conflict, "exists already"),
        (OSError(errno.ENOSPC, "full"), OutOfSpace, "the store is full"),
        (HttpResponseError(404, "ContainerNotFound"), NotFound, "no such bucket"),
        (HttpResponseError(403, "AuthenticationFailed"), AccessDenied, "check key, secret"),
        (HttpResponseError(412, "ConditionNotMet"), InputChanged, "changed since it was opened"),
        (HttpResponseError(400, "InvalidUri"), Refused, "refused the request: 400"),
    ],
)
def test_errors_that_end(error: Exception, expected: type[Exception], words: str) -> None:
    found = by_error(URL, error)
    assert isinstance(found, expected)
    assert str(found).startswith(f"{URL}: ")
    assert words in str(found)
    assert "b7e3" not in str(found)
    assert str(pickle.loads(pickle.dumps(found))) == str(found)


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        ConnectionResetError(),
        ConnectionRefusedError(),
        EOFError(),
        OSError(errno.EBUSY, "SlowDown"),
        HttpResponseError(503, "ServerBusy"),
    ],
)
def test_errors_that_may_pass(error: Exception) -> None:
    assert isinstance(by_error(URL, error), Again)


def test_the_cause_of_an_error_counts() -> None:
    error = FileNotFoundError("nothing there")
    error.__cause__ = HttpResponseError(503, "ServerBusy")
    assert isinstance(by_error(URL, error), Again)


def test_a_fault_of_our_own_stays_what_it_is() -> None:
    fault = TypeError("an unexpected keyword")
    assert by_error(URL, fault) is fault


@pytest.mark.parametrize(("told", "seconds"), [("120", 120), ("soon", 0), ("", 0), (None, 0)])
def test_pauses(told: str | None, seconds: float) -> None:
    assert pause(told) == seconds


def test_a_pause_until_a_time() -> None:
    assert 0 < pause(formatdate(time.time() + 90, usegmt=True)) <= 90
    assert pause(formatdate(time.time() - 90, usegmt=True)) == 0


@pytest.mark.parametrize(
    ("found", "whole", "error"), [("two", True, InputChanged), ("", True, Again)]
)
def test_answers_of_another_object(found: str, whole: bool, error: Any) -> None:
    with pytest.raises(error, match=r"then one, now two|something else"):
        compared(URL, "one", found, whole=whole)


def test_answers_of_the_same_object() -> None:
    compared(URL, "", "two", whole=True)
    compared(URL, "one", "one")
    compared(URL, "one", "")  # part of it, under a condition that the server has looked at
