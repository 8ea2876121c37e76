"""Both kinds of image store on real parts, and a provider that answers what a test says."""

import socket
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.provider.client import ImageClient, ProviderSettings, open_client
from tests.support.servers.s3_server import BUCKET, s3_environment
from tests.support.servers.scripted_provider import KEY, ScriptedProvider, run_scripted_provider


@pytest.fixture
def local_store(tmp_path: Path) -> ImageStore:
    """Open a store in a folder of its own."""
    return ImageStore.from_url((tmp_path / "store").as_uri())


@pytest.fixture
def s3_store(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> ImageStore:
    """Open a store below a prefix of its own, on the shared S3 server."""
    for name, value in s3_environment(s3_url).items():
        monkeypatch.setenv(name, value)
    return ImageStore.from_url(f"s3://{BUCKET}/{uuid.uuid4().hex}")


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest) -> ImageStore:
    """Run a test on both kinds of stores."""
    opened: ImageStore = request.getfixturevalue(f"{request.param}_store")
    return opened


@pytest.fixture
def unused_port() -> int:
    """Choose a port of loopback on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    """Run a scripted provider."""
    async with run_scripted_provider() as provider:
        yield provider


@pytest.fixture
async def client(provider: ScriptedProvider) -> AsyncIterator[ImageClient]:
    """Open a client whose requests go to the scripted provider."""
    async with open_client(ProviderSettings(api_key=KEY, base_url=f"{provider.url}/v1")) as client:
        yield client
