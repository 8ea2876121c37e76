"""Which pictures the entries of the ledger promise. Where they lie, and whether they are there, is not known here."""

from typing import NamedTuple

from sqlalchemy import Text, select, type_coerce
from sqlalchemy.types import NullType

from billing.database import Database
from billing.snapshots import reading_verbatim
from billing.tables import ledger_entries, provider_attempts, runs

_COLUMNS = ledger_entries.c["sequence", "tenant", "run_id", "entry_id"]


class PromisedPictures(NamedTuple):
    """The pictures of one entry: its image refs as JSON, which may be damaged."""

    sequence: int
    tenant: str
    run_id: str
    entry_id: str
    images: str


def read_promised_pictures(database: Database, *, after: int, limit: int) -> list[PromisedPictures]:
    """The pictures of the next `limit` entries after that number, in order; none where there are no more entries."""
    with reading_verbatim(database) as connection:
        query = select(*_COLUMNS, type_coerce(ledger_entries.c.images, NullType()))
        page = query.where(ledger_entries.c.sequence > after).order_by(ledger_entries.c.sequence).limit(limit)
        return [PromisedPictures._make(row) for row in connection.execute(page)]


def find_makers(database: Database, sha256: str) -> set[str]:
    """The tenants whose attempts have delivered a picture of that sha256. Reads all attempts: asked once per picture."""
    query = (
        select(runs.c.tenant)
        .join(provider_attempts, provider_attempts.c.run_id == runs.c.run_id)
        .where(type_coerce(provider_attempts.c.images, Text).contains(sha256, autoescape=True))
        .distinct()
    )
    with database.reading() as connection:
        return set(connection.execute(query).scalars())
