"""Migrate a ledger's schema: for `open_database(create=True)`, and as `python -m gpt_image_runs.database.migrate`.

The migrations themselves are in `migrations/versions`.
"""

import argparse
import os
import sys
import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from gpt_image_runs.database.engine import Database, parse_url, prepare_sqlite_file
from gpt_image_runs.database.errors import LedgerError
from gpt_image_runs.database.schema import HEAD, check_revision

# Any number that no other program uses on the same database.
_ADVISORY_LOCK = 7_214_059_033_120_867_001

_alembic_is_in_use = threading.Lock()  # its `context` and `op` belong to the whole process


def migrate_to_head(database: Database) -> str | None:
    """Migrate a database to `HEAD`; return the schema that it had before, None if it had none.

    It runs in one transaction under a lock, so that concurrent processes migrate once and completely.

    Raises:
        LedgerUnavailable: the database cannot be reached or written.
        LedgerNotReady: its schema is newer than `HEAD`, or of a version that was never released.
    """
    prepare_sqlite_file(database.url)
    with _alembic_is_in_use, database.writing() as connection:
        if database.dialect == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
        found = check_revision(connection, database.location)
        if found != HEAD:
            command.upgrade(_configure_alembic(connection), "head")
    return found


def _configure_alembic(connection: Connection) -> Config:
    config = Config()
    folder = str(Path(__file__).with_name("migrations"))
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0 where the ledger is up to date, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m gpt_image_runs.database.migrate", description="Bring the ledger's schema up to date."
    )
    parser.add_argument("--url", default=os.environ.get("DATABASE_URL"), help="default: DATABASE_URL")
    url = parser.parse_args(arguments).url
    if not url:
        return _fail("Which ledger? Set DATABASE_URL, or give --url.")
    try:
        database = Database(parse_url(url))
        try:
            before = migrate_to_head(database)
        finally:
            database.close()
    except LedgerError as error:
        return _fail(str(error))
    change = "already has" if before == HEAD else f"was migrated from {before or 'nothing'} to"
    sys.stdout.write(f"The ledger at {database.location} {change} schema {HEAD}.\n")
    return 0


def _fail(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
