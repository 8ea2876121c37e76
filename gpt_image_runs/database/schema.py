"""The schema version that this code needs, and the one that a database has."""

from sqlalchemy import Connection, inspect, text

from gpt_image_runs.database.errors import LedgerNotReady

# The newest file in `migrations/versions`: known here so that nobody has to load Alembic to compare.
HEAD = "0001"
# Schemas of versions before 0.2.0. The next migration is 0013, so that none of these numbers means two schemas.
UNRELEASED = frozenset(f"{number:04}" for number in range(2, 13))


def read_revision(connection: Connection) -> str | None:
    """Return the schema version of a database, None where it has none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def check_revision(connection: Connection, location: str) -> str | None:
    """Check that this version can use or migrate a database, and return its schema version as `read_revision` does.

    Raises:
        LedgerNotReady: it was made by a version that was never released, or is newer than `HEAD`.
    """
    found = read_revision(connection)
    if found in UNRELEASED or (found == "0001" and not inspect(connection).has_table("ledger_identity")):
        raise LedgerNotReady(
            f"The ledger at {location} was made by a version before 0.2.0 (schema {found}), which was never released."
            " Export what you need with that version, then start with an empty ledger."
        )
    if found is not None and found > HEAD:
        raise LedgerNotReady(
            f"The ledger at {location} has schema {found}, newer than {HEAD}, the one that this version knows."
            " Update this program."
        )
    return found
