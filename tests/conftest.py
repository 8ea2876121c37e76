"""Servers that several rooms' tests share: one of each per test process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers.s3_server import run_s3_server

pytest_plugins = ["tests.support.ledger.ledger_fixtures", "tests.support.files.image_fixtures"]

# Tests that wait for heartbeats, restarts and whole campaigns come first, so that none of them is what everybody waits for at the end.
SLOW_FOLDERS = ("tests/e2e/durability", "tests/chaos", "tests/e2e/batches", "tests/e2e", "tests/examples")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests by their folder, the slowest folders first."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    folders = (number for number, folder in enumerate(SLOW_FOLDERS) if item.nodeid.startswith(folder))
    return next(folders, len(SLOW_FOLDERS))


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """A real S3 over HTTP; see `tests.support.servers.s3_server` for its bucket and its environment."""
    with run_s3_server() as url:
        yield url


@pytest.fixture(scope="session")
def turn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file for all test processes of this session."""
    return tmp_path_factory.getbasetemp().parent / "turn"
