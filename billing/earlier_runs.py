"""What the ledger knows of a run before it starts: whether its request id is free, and whether it was paid. Nothing is written."""

from sqlalchemy import Connection, select

from billing.database import Database
from billing.runs import RunIdentity, explain_conflict, find_run, is_same
from billing.tables import provider_attempts
from contracts.content_marks import name_differences
from contracts.submissions import EarlierRun


def find_earlier_run(database: Database, asked: RunIdentity) -> EarlierRun:
    """What a run of this identity would find; `AttemptLog.claim_run` decides when it comes to it."""
    with database.reading() as connection:
        known = find_run(connection, asked)
        if known is None:
            return EarlierRun()
        if not is_same(known, asked):
            return EarlierRun(
                conflict=explain_conflict(asked, known),
                differences=name_differences(known.fingerprint, asked.fingerprint),
            )
        return EarlierRun(is_owner=True, paid=_was_paid(connection, known.run_id))


def _was_paid(connection: Connection, run_id: str) -> bool:
    attempt = provider_attempts.c
    query = select(attempt.attempt_id).where(attempt.run_id == run_id, attempt.outcome == "succeeded")
    return connection.execute(query.limit(1)).first() is not None
