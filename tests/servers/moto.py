"""moto's server: S3 in memory that enforces every condition, and looks at signatures."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import boto3

from tests.servers import Endpoint, Server, s3
from tests.servers.programs import answers, free_port, running

_USER = "h5dask"
_MAY_ALL = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}


@contextmanager
def start(folder: Path) -> Iterator[Endpoint]:
    """Run it with one user, one bucket."""
    port = free_port()
    command = (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port))
    with running(command, folder / "moto.log", partial(answers, port)):
        key, secret = _user(port)
        s3.make_bucket(port, key, secret)
        _look_at_signatures(port)
        yield s3.endpoint(port, key=key, secret=secret)


def _user(port: int) -> tuple[str, str]:
    iam = boto3.client(
        "iam",
        aws_access_key_id=s3.KEY,
        aws_secret_access_key=s3.SECRET,
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
    )
    iam.create_user(UserName=_USER)
    iam.put_user_policy(UserName=_USER, PolicyName="all", PolicyDocument=json.dumps(_MAY_ALL))
    made = iam.create_access_key(UserName=_USER)["AccessKey"]
    return made["AccessKeyId"], made["SecretAccessKey"]


def _look_at_signatures(port: int) -> None:
    """Let nobody in from now on but the user; until then moto asks nobody who they are."""
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/moto-api/reset-auth",
        data=b"0",
        headers={"Content-Type": "text/plain"},
    )
    with urllib.request.urlopen(asked):
        pass


SERVER = Server(start=start, quick=True)
