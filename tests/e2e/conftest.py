"""The application on both ledgers and both stores, one of each for a test process; every test uses run ids of its own."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.servers.postgres_server import start_postgres_server
from tests.support.servers.s3_server import BUCKET, run_s3_server, s3_environment
from tests.support.servers.stack import Stack, run_stack, sqlite_url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Run the default: a ledger in an SQLite file, images in a folder."""
    folder = tmp_path_factory.mktemp("stack")
    async with run_stack(sqlite_url(folder), (folder / "images").as_uri()) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_stack() -> AsyncIterator[Stack]:
    """Run as in production: a ledger in PostgreSQL, images in S3."""
    with start_postgres_server() as postgres, run_s3_server() as s3, pytest.MonkeyPatch.context() as patch:
        for name, value in s3_environment(s3).items():
            patch.setenv(name, value)
        async with run_stack(postgres.create_database(), f"s3://{BUCKET}/e2e") as running:
            yield running


@pytest.fixture(params=["stack", "shared_stack"])
def any_stack(request: pytest.FixtureRequest) -> Stack:
    """Run a test on SQLite with files and on PostgreSQL with S3."""
    running: Stack = request.getfixturevalue(request.param)
    return running
