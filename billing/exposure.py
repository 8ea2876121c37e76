"""What may have been paid for nothing: attempts whose outcome is unknown. Nothing is written here.

An attempt begins as unknown: one that is open for longer than an attempt can take was lost, a younger one may still be
answered.
"""

from datetime import datetime, timedelta

from sqlalchemy import select

from billing.database import Database
from billing.exposure_rows import ExposedAttempt, view_attempt
from billing.tables import provider_attempts, runs
from contracts.base import Contract

LONGEST_ATTEMPT = timedelta(minutes=11)
"""As long as an attempt may take (`workflows.policies.CALL_ATTEMPT`): one that is open for longer was lost."""

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
        select(*_SHOWN, runs.c.tenant)
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
    with database.reading() as connection:
        found = [view_attempt(row) for row in connection.execute(query).mappings()]
    return Exposure(
        attempts=tuple(attempt for attempt in found if not _is_in_flight(attempt, now)),
        in_flight=tuple(attempt for attempt in found if _is_in_flight(attempt, now)),
    )


def _is_in_flight(attempt: ExposedAttempt, now: datetime) -> bool:
    return attempt.finished_at is None and now - attempt.sent_at <= LONGEST_ATTEMPT
