"""A real S3 over HTTP on loopback, with one bucket, and the environment by which programs find it."""

from collections.abc import Iterator
from contextlib import contextmanager

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "pictures"
_REGION = "us-east-1"
_ACCESS_KEY_ID = "test-key"
_SECRET_ACCESS_KEY = "test-secret"


@contextmanager
def run_s3_server() -> Iterator[str]:
    """Run the server on a free port with an empty bucket; yield its URL."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        s3_client(url).create_bucket(Bucket=BUCKET)
        yield url
    finally:
        server.stop()


def s3_environment(url: str) -> dict[str, str]:
    """Return the variables that lead a program to the server at a URL."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ENDPOINT_URL_S3": url,  # would win over the other, where the machine sets it
        "AWS_ACCESS_KEY_ID": _ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": _SECRET_ACCESS_KEY,
        "AWS_REGION": _REGION,
    }


def s3_client(url: str):  # type: ignore[no-untyped-def] # noqa: ANN201 - boto3 makes its classes at run time
    """Open a client of another library, to look at the bucket from outside."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name=_REGION,
        aws_access_key_id=_ACCESS_KEY_ID,
        aws_secret_access_key=_SECRET_ACCESS_KEY,
    )
