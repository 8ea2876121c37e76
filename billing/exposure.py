"""What may have been paid for nothing: attempts whose outcome is unknown. Nothing is written here.

An attempt begins as unknown: one that is open for longer than an attempt can take was lost, a younger one may still be
answered.
"""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, or_, select

from billing.database import Database
from billing.exposure_rows import ExposedAttempt, view_attempt
from billing.tables import provider_attempts, runs
from contracts.base import Contract

LONGEST_ATTEMPT = timedelta(minutes=11)
"""As long as an attempt may take (`workflows.policies.CALL_ATTEMPT`): one that is open for longer was lost."""
LONGEST_BATCH_LINE = timedelta(hours=30)
"""A line of an economy batch waits for the provider's 24 hours, beside its claim before and its settling after them."""

_SHOWN = provider_attempts.c[
    "attempt_id",
    "run_id",
    "number",
    "client_request_id",
    "model",
    "provider",
    "provider_request_id",
    "simulated",
    "error_type",
    "sent_at",
    "finished_at",
    "reserved_micro_usd",
]


class Exposure(Contract):
    """Attempts that may have been paid for nothing, the oldest first, and those that may still be answered."""

    attempts: tuple[ExposedAttempt, ...]
    in_flight: tuple[ExposedAttempt, ...]


def find_exposure(
    database: Database,
    now: datetime,
    *,
    tenant: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Exposure:
    """Every attempt of unknown outcome. `since` is included and `until` is not, both of the moment of sending."""
    attempt = provider_attempts.c
    query = (
        select(*_SHOWN, runs.c.tenant, may_be_answered(now).label("is_in_flight"))
        .join_from(provider_attempts, runs)
        .where(attempt.outcome == "unknown")
        .order_by(attempt.sent_at, attempt.attempt_id)
    )
    if tenant is not None:
        query = query.where(runs.c.tenant == tenant)
    if since is not None:
        query = query.where(attempt.sent_at >= since)
    if until is not None:
        query = query.where(attempt.sent_at < until)
    exposed: list[ExposedAttempt] = []
    in_flight: list[ExposedAttempt] = []
    with database.reading() as connection:
        for row in connection.execute(query).mappings():
            (in_flight if row["is_in_flight"] else exposed).append(view_attempt(row))
    return Exposure(attempts=tuple(exposed), in_flight=tuple(in_flight))


def may_be_answered(now: datetime) -> ColumnElement[bool]:
    """Of an attempt of unknown outcome: whether it is still under way, as far as its age tells."""
    attempt = provider_attempts.c
    by_itself = and_(attempt.batch_part.is_(None), attempt.sent_at >= now - LONGEST_ATTEMPT)
    in_batch = and_(attempt.batch_part.is_not(None), attempt.sent_at >= now - LONGEST_BATCH_LINE)
    return and_(attempt.finished_at.is_(None), or_(by_itself, in_batch))
