"""Servers that several rooms' tests share: one of each per test process."""

from collections.abc import Iterator
from itertools import chain, groupby
from pathlib import Path

import pytest

from tests.support.servers.s3_server import run_s3_server

pytest_plugins = ["tests.support.ledger.ledger_fixtures", "tests.support.files.image_fixtures"]

# Tests that wait for heartbeats, restarts and whole campaigns come first, so that none of them is what everybody waits for at the end.
SLOW_FOLDERS = ("tests/e2e/durability", "tests/chaos", "tests/e2e/batches", "tests/e2e", "tests/examples")


# As many test processes as `make test` starts. Each gets an equal part of the list at first, so each part begins with slow files.
PROCESSES = 4


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests so that every test process begins with its share of the slow files."""
    items.sort(key=_rank)
    slow = [item for item in items if _rank(item) < len(SLOW_FOLDERS)]
    rest = items[len(slow) :]
    parts: list[list[pytest.Item]] = [[] for _ in range(PROCESSES)]
    for number, (_, tests) in enumerate(groupby(slow, key=lambda item: item.path)):
        parts[number % PROCESSES] += tests
    size = len(items) // PROCESSES
    for part in parts:
        missing = max(size - len(part), 0)
        part.extend(rest[:missing])
        rest = rest[missing:]
    items[:] = [*chain.from_iterable(parts), *rest]


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
