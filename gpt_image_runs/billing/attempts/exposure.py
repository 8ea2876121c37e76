"""Attempts that may have been paid for nothing: those whose outcome is unknown. Nothing is written here.

An attempt begins as unknown. One that is open for longer than an attempt can take was lost; a younger one may still be
answered.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Literal

from sqlalchemy import ColumnElement, RowMapping, and_, or_, select

from gpt_image_runs.contracts.base import Contract
from gpt_image_runs.contracts.money import Usd, format_usd, parse_usd
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.tables import provider_attempts, runs

Grouping = Literal["run", "day", "model"]


class ExposedAttempt(Contract):
    """An attempt of unknown outcome. `reserved_usd` is its worst case, null where no price was known.

    The provider's support can search for `client_request_id`. `error_type` says how it ended, null where nothing was heard
    of it.
    """

    attempt_id: str
    run_id: str
    tenant: str
    number: int
    client_request_id: str
    model: str
    provider: str
    provider_request_id: str | None
    simulated: bool
    error_type: str | None
    sent_at: datetime
    finished_at: datetime | None
    reserved_usd: Usd | None


class ExposureRow(Contract):
    """A sum over real or over simulated attempts. `unpriced` of them have no amount in `reserved_usd`."""

    key: str
    simulated: bool
    attempts: int
    unpriced: int
    reserved_usd: Usd


def view_attempt(row: RowMapping) -> ExposedAttempt:
    reserved = row["reserved_micro_usd"]
    return ExposedAttempt(**row, reserved_usd=None if reserved is None else format_usd(reserved))


def sum_exposure(attempts: Iterable[ExposedAttempt], grouping: Grouping) -> tuple[ExposureRow, ...]:
    """Sum attempts by run, day of sending ("2026-11-23", UTC) or model, sorted by key, real before simulated."""
    groups: dict[tuple[str, bool], list[ExposedAttempt]] = defaultdict(list)
    for attempt in attempts:
        groups[_find_key(attempt, grouping), attempt.simulated].append(attempt)
    return tuple(
        _sum_up(key, groups[key, simulated], simulated=simulated) for key, simulated in sorted(groups)
    )


def total_exposure(attempts: Iterable[ExposedAttempt]) -> dict[str, ExposureRow]:
    """Sum all attempts, as "real" and as "simulated". Never add the two."""
    known = list(attempts)
    return {
        name: _sum_up(
            "total", [attempt for attempt in known if attempt.simulated == simulated], simulated=simulated
        )
        for name, simulated in (("real", False), ("simulated", True))
    }


def _find_key(attempt: ExposedAttempt, grouping: Grouping) -> str:
    if grouping == "day":
        return attempt.sent_at.astimezone(UTC).date().isoformat()
    return attempt.run_id if grouping == "run" else attempt.model


def _sum_up(key: str, group: list[ExposedAttempt], *, simulated: bool) -> ExposureRow:
    reserved = [parse_usd(attempt.reserved_usd) for attempt in group if attempt.reserved_usd is not None]
    return ExposureRow(
        key=key,
        simulated=simulated,
        attempts=len(group),
        unpriced=len(group) - len(reserved),
        reserved_usd=format_usd(sum(reserved)),
    )


# How long an attempt may take (`workflows.retry_policies.CALL_ATTEMPT`): one that is open for longer was lost.
MAX_ATTEMPT = timedelta(minutes=11)
# A line of an economy batch waits up to the provider's 24 hours, plus the time to claim it before and to settle it after.
MAX_BATCH_LINE = timedelta(hours=30)

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
    """Attempts that may have been paid for nothing, oldest first; those `in_flight` may still be answered."""

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
    """Find every attempt of unknown outcome.

    `since` is inclusive, `until` exclusive, both of the time of sending.
    """
    attempt = provider_attempts.c
    query = (
        select(*_SHOWN, runs.c.tenant, is_in_progress(now).label("is_in_flight"))
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


def is_in_progress(now: datetime) -> ColumnElement[bool]:
    """Build the condition that an attempt of unknown outcome is young enough to be answered."""
    attempt = provider_attempts.c
    by_itself = and_(attempt.batch_part.is_(None), attempt.sent_at >= now - MAX_ATTEMPT)
    in_batch = and_(attempt.batch_part.is_not(None), attempt.sent_at >= now - MAX_BATCH_LINE)
    return and_(attempt.finished_at.is_(None), or_(by_itself, in_batch))
