"""Fixtures of pipelines."""

from tests.bucket import bucket, moto_server

__all__ = ["bucket", "moto_server"]
