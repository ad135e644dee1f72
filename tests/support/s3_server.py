"""An S3 server on loopback (moto), in this process or in a child: ``python -m tests.support.s3_server [PORT]``."""

from __future__ import annotations

import logging
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

REGION = "us-east-1"  # the one in which a bucket may be made without naming it


def _new_bucket() -> str:
    return f"hardquery-{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True)
class S3:
    """A server and a bucket of its own in it, which ``create`` makes."""

    endpoint_url: str
    bucket: str = field(default_factory=_new_bucket)

    @property
    def root(self) -> str:
        """The bucket's address, without a slash at the end."""
        return f"s3://{self.bucket}"

    @property
    def environment(self) -> dict[str, str]:
        """What boto3, and so every command, needs to talk to the server, whatever this machine's AWS settings are."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
        }

    @property
    def flags(self) -> list[str]:
        """The same as options of a pipeline, which workers on other machines are given too."""
        return [
            f"--s3_endpoint_url={self.endpoint_url}",
            "--s3_access_key_id=test",
            "--s3_secret_access_key=test",
            f"--s3_region_name={REGION}",
        ]

    def client(self) -> Any:
        """A boto3 client, to look at the bucket behind the back of what is tested."""
        return _client(self.endpoint_url)

    def create(self) -> S3:
        """Make the bucket."""
        self.client().create_bucket(Bucket=self.bucket)
        return self

    def put(self, key: str, data: bytes = b"") -> str:
        """Write an object; returns its address."""
        self.client().put_object(Bucket=self.bucket, Key=key, Body=data)
        return f"{self.root}/{key}"

    def objects(self) -> dict[str, bytes]:
        """All objects by key."""
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        keys = [found["Key"] for page in pages for found in page.get("Contents", ())]
        return {key: client.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys}


@lru_cache(maxsize=8)  # each takes 60 ms of CPU to set up
def _client(endpoint_url: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


@contextmanager
def serving(port: int = 0) -> Iterator[S3]:
    """A server in a thread of this process; port 0 takes a free one."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs every request
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield S3(f"http://{host}:{port}").create()
    finally:
        server.stop()


@contextmanager
def serving_in_child(port: int = 0) -> Iterator[S3]:
    """A server in a child process, which outlives whatever else is killed and ends with the block or with us."""
    command = [sys.executable, "-m", "tests.support.s3_server", str(port)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=Path(__file__).parents[2]) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            yield S3(child.stdout.readline().strip()).create()
        finally:
            child.stdin.close()  # the child ends at the end of its input


def main() -> None:
    """Serve until standard input ends; the first line of the output is the endpoint's URL."""
    with serving(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as s3:
        print(s3.endpoint_url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
