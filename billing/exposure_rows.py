"""What a report of exposure consists of, and its sums. Pure, no queries here.

An attempt holds the worst case of its price from before it was sent. Where no price was known it is counted, and adds
no amount: never a zero. Simulated attempts are in sums of their own and never added to real ones.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import RowMapping

from contracts.base import Contract
from contracts.money import Usd, format_usd, parse_usd

Grouping = Literal["run", "day", "model"]


class ExposedAttempt(Contract):
    """An attempt of unknown outcome. `reserved_usd` is its worst case, null where no price was known.

    `client_request_id` is what the provider's support can look for. `error_type` says how it ended, null where nothing was
    ever heard of it.
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
    """A sum of attempts, of real ones or of simulated ones. `unpriced` of them have no amount in `reserved_usd`."""

    key: str
    simulated: bool
    attempts: int
    unpriced: int
    reserved_usd: Usd


def view_attempt(row: RowMapping) -> ExposedAttempt:
    """One attempt."""
    reserved = row["reserved_micro_usd"]
    return ExposedAttempt(**row, reserved_usd=None if reserved is None else format_usd(reserved))


def sum_exposure(attempts: Iterable[ExposedAttempt], grouping: Grouping) -> tuple[ExposureRow, ...]:
    """Sums by run, day of sending ("2026-11-23", UTC) or model, in the order of their keys, real before simulated."""
    groups: dict[tuple[str, bool], list[ExposedAttempt]] = defaultdict(list)
    for attempt in attempts:
        groups[_find_key(attempt, grouping), attempt.simulated].append(attempt)
    return tuple(
        _sum_up(key, groups[key, simulated], simulated=simulated) for key, simulated in sorted(groups)
    )


def total_exposure(attempts: Iterable[ExposedAttempt]) -> dict[str, ExposureRow]:
    """The sums of everything: "real" and "simulated", which must never be added."""
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
