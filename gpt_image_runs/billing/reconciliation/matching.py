"""Match attempts with the provider's counts by the minute. Pure, except for `list_compared_attempts`, which reads the ledger.

The provider counts requests without naming ours, and does not say whether in the minute in which one began or ended. So each
attempt gets the stretch of time in which it may have been counted, and overlapping stretches make one window. Within a
window the provider's count is what succeeded plus whatever unknown attempts were executed. Where the count equals one of
these bounds, the outcome of each attempt is known exactly.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy import ColumnElement, RowMapping, select

from gpt_image_runs.billing.pricing import flags
from gpt_image_runs.billing.records import Outcome
from gpt_image_runs.contracts.provider_reconciliation import Doubt, RequestCount
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.tables import ledger_entries, provider_attempts

_OF_THE_ATTEMPT = provider_attempts.c[
    "attempt_id", "run_id", "model", "outcome", "sent_at", "finished_at", "reserved_micro_usd"
]
_OF_THE_ENTRY = ledger_entries.c["attempt_id", "kind", "basis", "flags", "list_cost_micro_usd", "image_count"]


@dataclass(frozen=True, kw_only=True)
class ComparedAttempt:
    """One request that was sent. `list_cost_micro_usd` is the sum of its entries, None where it is not known.

    `exact`: the list cost follows from tokens that the provider reported in full; otherwise something was assumed.
    """

    attempt_id: str
    run_id: str
    model: str
    outcome: Outcome
    sent_at: datetime
    finished_at: datetime | None
    reserved_micro_usd: int | None
    billed: bool = False
    list_cost_micro_usd: int | None = None
    exact: bool = False
    images: int = 0


def list_compared_attempts(
    database: Database, provider: str, since: datetime, until: datetime
) -> tuple[ComparedAttempt, ...]:
    """List what was sent to a provider from `since` until before `until`, in that order.

    Attempts that were certainly never sent are left out. A reversal refunds a customer, not the provider, and does not count.
    """
    sent: list[ColumnElement[bool]] = [
        provider_attempts.c.provider == provider,
        provider_attempts.c.sent_at >= since,
        provider_attempts.c.sent_at < until,
        provider_attempts.c.outcome != "not_sent",
    ]
    attempts = select(*_OF_THE_ATTEMPT).where(*sent).order_by(provider_attempts.c.sent_at)
    entries = (
        select(*_OF_THE_ENTRY)
        .join_from(ledger_entries, provider_attempts)
        .where(*sent, ledger_entries.c.kind != "reversal")
        .order_by(ledger_entries.c.sequence)
    )
    by_attempt: dict[str, list[RowMapping]] = {}
    with database.reading() as connection:
        for entry in connection.execute(entries).mappings():
            by_attempt.setdefault(entry["attempt_id"], []).append(entry)
        rows = connection.execute(attempts).mappings().all()
    return tuple(_read_attempt(row, by_attempt.get(row["attempt_id"], [])) for row in rows)


def _read_attempt(row: RowMapping, entries: Sequence[RowMapping]) -> ComparedAttempt:
    """Build an attempt from its row and its entries, oldest first.

    A correction holds the difference, so list costs add up; the last entry decides everything else.
    """
    if not entries:
        return ComparedAttempt(**row)
    last = entries[-1]
    listed = [entry["list_cost_micro_usd"] for entry in entries]
    is_known = last["list_cost_micro_usd"] is not None
    return ComparedAttempt(
        **row,
        billed=True,
        list_cost_micro_usd=sum(amount for amount in listed if amount is not None) if is_known else None,
        exact=last["basis"] == "token_usage" and not {*last["flags"]} - {flags.BATCH_PRICE},
        images=last["image_count"],
    )


# More than an attempt may take, so that no attempt of the day is cut off at midnight.
MARGIN = timedelta(minutes=15)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A stretch of time: `since` is inclusive, `until` exclusive."""

    since: datetime
    until: datetime

    def overlaps(self, other: "Stretch") -> bool:
        """Return whether the two have a moment in common."""
        return self.since < other.until and other.since < self.until

    def contains(self, other: "Stretch") -> bool:
        """Return whether the other lies within this one."""
        return self.since <= other.since and other.until <= self.until

    def holds(self, moment: datetime) -> bool:
        """Return whether the moment lies within this one."""
        return self.since <= moment < self.until


def stretch_of(day: date) -> Stretch:
    """Return the stretch of a day in UTC."""
    midnight = datetime.combine(day, time(), UTC)
    return Stretch(since=midnight, until=midnight + timedelta(days=1))


def stretch_to_ask(day: date) -> Stretch:
    """Return the stretch whose attempts and counts are needed to compare a day."""
    whole = stretch_of(day)
    return Stretch(since=whole.since - MARGIN, until=whole.until + MARGIN)


MINUTE = timedelta(minutes=1)
# How far the provider's clock and ours may differ: far more than clocks do, and no more than its buckets.
CLOCK_TOLERANCE = MINUTE
# How long a request may be processed: as long as an attempt may take (see `workflows.retry_policies`).
MAX_CALL = timedelta(minutes=11)


@dataclass
class CountWindow:
    """A model's attempts and the provider's counts in the same stretch of time.

    Those `at_edge` succeeded, and may have been counted before or after the time that the counts were asked for.
    """

    stretch: Stretch
    succeeded: list[ComparedAttempt] = field(default_factory=list)
    at_edge: list[ComparedAttempt] = field(default_factory=list)
    unknown: list[ComparedAttempt] = field(default_factory=list)
    rejected: list[ComparedAttempt] = field(default_factory=list)
    counted: int = 0

    @property
    def doubt(self) -> Doubt:
        """What became of the unknown attempts; the same for all of them, as they cannot be told apart."""
        if self._least >= len(self.unknown):
            return "paid_for_nothing"
        # Counts that lack answered requests are not complete yet, so they prove nothing about the others.
        return "perhaps_paid" if self._most else "probably_not_paid"

    @property
    def surplus(self) -> int:
        """Requests counted beyond all that may have been executed; negative where some that succeeded are not counted."""
        return max(0, self._least - len(self.unknown)) or min(0, self._most)

    @property
    def _most(self) -> int:
        """How many unknown attempts the count leaves room for, however many there are."""
        return self.counted - len(self.succeeded)

    @property
    def _least(self) -> int:
        return self._most - len(self.at_edge)


def find_stretch(attempt: ComparedAttempt) -> Stretch:
    """Return when the provider may have counted an attempt: whole minutes from sending to answer.

    An attempt of unknown outcome may have been processed until long after we last heard of it.
    """
    longest = attempt.sent_at + MAX_CALL
    is_over = attempt.outcome != "unknown" and attempt.finished_at is not None
    end = min(attempt.finished_at or longest, longest) if is_over else longest
    since, until = attempt.sent_at - CLOCK_TOLERANCE, end + CLOCK_TOLERANCE
    return Stretch(since=_floor(since), until=_floor(until) + MINUTE)


def find_windows(
    attempts: Iterable[ComparedAttempt], counts: Iterable[RequestCount], asked: Stretch
) -> tuple[CountWindow, ...]:
    """Build the windows of one model, earliest first. `asked` is the time for which the counts are complete."""
    parts: list[tuple[Stretch, ComparedAttempt | int]] = [
        (find_stretch(attempt), attempt) for attempt in attempts
    ]
    parts += [
        (Stretch(since=count.start, until=count.start + MINUTE), count.requests)
        for count in counts
        if count.requests
    ]
    windows: list[CountWindow] = []
    for stretch, part in sorted(parts, key=lambda each: each[0].since):
        if not windows or not windows[-1].stretch.overlaps(stretch):
            windows.append(CountWindow(stretch))
        window = windows[-1]
        until = max(window.stretch.until, stretch.until)
        window.stretch = Stretch(since=window.stretch.since, until=until)
        _put(part, window, is_inside=asked.contains(stretch))
    return tuple(windows)


def _put(part: ComparedAttempt | int, window: CountWindow, *, is_inside: bool) -> None:
    if isinstance(part, int):
        window.counted += part
    elif part.outcome == "unknown":
        window.unknown.append(part)
    elif part.outcome == "succeeded":
        (window.succeeded if is_inside else window.at_edge).append(part)
    else:
        window.rejected.append(part)


def _floor(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)
