"""What every server of S3 here has in common: its options, and a bucket to begin with."""

from __future__ import annotations

from dataclasses import replace

from tests.servers import Endpoint, Options

BUCKET = "h5dask-tests"
KEY, SECRET = "h5daskkey", "h5dasksecret"
"""Credentials of servers that are told theirs."""


def options(port: int, key: str = KEY, secret: str = SECRET) -> Options:
    """Return what s3fs takes to reach a server on a port of this machine."""
    return {
        "key": key,
        "secret": secret,
        "endpoint_url": f"http://127.0.0.1:{port}",
        "client_kwargs": {"region_name": "us-east-1"},
        "config_kwargs": {"s3": {"addressing_style": "path"}},
    }


def endpoint(port: int, *, key: str = KEY, secret: str = SECRET) -> Endpoint:
    """Return the bucket of a server, which must be there."""
    return Endpoint(
        url=f"s3://{BUCKET}/made",
        options=options(port, key, secret),
        wrong=options(port, key, "not-the-secret"),
        port=port,
    )


def through(found: Endpoint, port: int) -> Endpoint:
    """Return the same bucket as it is reached by a proxy on another port."""
    address = f"http://127.0.0.1:{port}"
    return replace(
        found,
        options={**found.options, "endpoint_url": address},
        wrong={**found.wrong, "endpoint_url": address},
        behind=found.url,
        behind_options=found.options,
        port=port,
    )


def make_bucket(port: int, key: str = KEY, secret: str = SECRET) -> None:
    """Make the bucket, as anybody would who has boto3."""
    import boto3

    given = options(port, key, secret)
    boto3.client(
        "s3",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        endpoint_url=given["endpoint_url"],
        region_name="us-east-1",
    ).create_bucket(Bucket=BUCKET)
