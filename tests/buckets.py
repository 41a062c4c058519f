"""A real HTTP server that speaks S3, in a process of its own, and buckets in it."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import session

from veza.gateways.objects import Objects
from veza.gateways.objects.links import Links
from veza.gateways.objects.local import LocalObjects
from veza.gateways.objects.s3 import Bucket, S3Objects

SECRET = b"a secret of thirty-two bytes long."
STORES = ("local", "s3")


def now() -> datetime:
    return datetime.now(UTC)


def links(base_url: str = "https://veza.example") -> Links:
    return Links(SECRET, base_url, now)


def open_local(folder: Path) -> AbstractAsyncContextManager[LocalObjects]:
    return LocalObjects.open(folder, links())


@dataclass
class S3:
    """The server. ``client`` goes past our own code."""

    url: str

    def client(self) -> Any:
        return boto3.session.Session().client(
            "s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )

    def bucket(self) -> Bucket:
        """A new one, empty."""
        name = f"veza-{secrets.token_hex(4)}"
        self.client().create_bucket(Bucket=name)
        return Bucket(name, self.url, "us-east-1", "a", "b")


@contextmanager
def one_description() -> Iterator[None]:
    """The SDK reads once what S3 is like, which takes it 60 ms, and not for every client that a test makes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(session, "create_loader", cache(session.create_loader))
        yield


@contextmanager
def s3_server() -> Iterator[S3]:
    """moto's server: what is kept in it is gone with it."""
    command = [sys.executable, "-W", "ignore", "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            yield S3(_address(process, said.fileno()))
        finally:
            process.kill()


def _address(process: subprocess.Popen[bytes], said: int) -> str:
    """Where it listens, once it says so."""
    while process.poll() is None:
        if found := re.search(rb"http://127\.0\.0\.1:\d+", os.pread(said, 10_000, 0)):
            return found[0].decode()
        time.sleep(0.02)  # a file has no bell
    raise AssertionError(os.pread(said, 10_000, 0))


@asynccontextmanager
async def open_bucket(bucket: Bucket) -> AsyncIterator[S3Objects]:
    with tempfile.TemporaryDirectory(prefix="veza-parts-") as folder:
        async with S3Objects.open(bucket, Path(folder), now) as objects:
            yield objects


@asynccontextmanager
async def open_store(kind: str, folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Objects]:
    """A store of that kind, empty: the S3 server is started when it is first asked for."""
    if kind == "local":
        async with open_local(folder) as local:
            yield local
    else:
        server: S3 = request.getfixturevalue("s3")
        async with open_bucket(server.bucket()) as bucket:
            yield bucket
