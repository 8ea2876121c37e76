"""The ledger's identity: a random id that tells one ledger from another."""

from sqlalchemy import Connection, select

from gpt_image_runs.database.tables import ledger_identity


def read_ledger_id(connection: Connection) -> str:
    """Return the id that the ledger was created with.

    A copy and a restored backup have the id of the original.
    """
    ledger_id: str = connection.execute(select(ledger_identity.c.ledger_id)).scalar_one()
    return ledger_id
