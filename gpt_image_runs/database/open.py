"""Open a ledger: check its schema, or create or migrate it."""

from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from gpt_image_runs.database.engine import Database, parse_url, quote_driver
from gpt_image_runs.database.errors import LedgerNotReady, LedgerUnavailable
from gpt_image_runs.database.schema import HEAD, check_revision


def open_database(url: str, *, create: bool) -> Database:
    """Open a ledger whose schema is the one that this version needs.

    Args:
        url: `sqlite:///path`, `postgresql://...` or `postgres://...`.
        create: create or migrate the schema where needed, also when several processes start at once. Without it, that
            is left to `python -m gpt_image_runs.database.migrate`.

    Raises:
        LedgerUnavailable: the URL is not valid, or the database cannot be reached or written.
        LedgerNotReady: the schema is older (with `create` False) or newer than this version's, or of a version that was
            never released.
    """
    database = Database(parse_url(url))
    try:
        _bring_to_head(database, create=create)
    except SQLAlchemyError as error:
        database.close()
        raise LedgerUnavailable(
            f"The ledger at {database.location} cannot be used. {quote_driver(error)}"
        ) from error
    except BaseException:
        database.close()
        raise
    return database


def _bring_to_head(database: Database, *, create: bool) -> None:
    found = _find_revision(database)
    if found == HEAD:
        return
    if not create:
        schema = f"schema {found}" if found else "no schema yet"
        raise LedgerNotReady(
            f"The ledger at {database.location} has {schema}, this version needs {HEAD}."
            " Run `python -m gpt_image_runs.database.migrate`."
        )
    from gpt_image_runs.database.migrate import migrate_to_head  # noqa: PLC0415 - Alembic is loaded only to migrate

    migrate_to_head(database)


def _find_revision(database: Database) -> str | None:
    if database.dialect == "sqlite" and not Path(database.url.database or "").exists():
        return None  # only looking must not leave an empty file behind
    with database.reading() as connection:
        return check_revision(connection, database.location)
