"""Which version of the schema this code needs, and which one a database has. Migrating is `gpt_image_runs.database.migrate`'s."""

from sqlalchemy import Connection, inspect, text

from gpt_image_runs.database.errors import LedgerNotReady

HEAD = "0012"
"""The newest file in `billing/migrations/versions`: known here so that nobody has to load Alembic to compare."""


def read_revision(connection: Connection) -> str | None:
    """The schema that a database has, None where it has none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def refuse_newer(found: str | None, location: str) -> None:
    """Refuses a schema that a later version of this program has made.

    Raises:
        LedgerNotReady: it is newer than `HEAD`.
    """
    if found is not None and found > HEAD:
        raise LedgerNotReady(
            f"The ledger at {location} has schema {found}, newer than {HEAD}, the one that this version knows."
            " Update this program."
        )
