"""Find what a ledger has lost since it was restored from an older copy, and recover it from receipts.

A ledger and its receipts are compared page by page, so memory does not grow with either. Recovery is idempotent: rows that
the ledger has are not changed.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.attempts.runs import claim_run
from gpt_image_runs.billing.budgets.spend import Account, count_spend, reserve
from gpt_image_runs.billing.ledger.ledger import Ledger, bill_key
from gpt_image_runs.billing.pricing.cost import compute_cost
from gpt_image_runs.billing.pricing.paid_attempt import limit_usage_size
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.records import Attempt
from gpt_image_runs.billing.recovery.notes import (
    LedgerNow,
    count_lost_entries,
    read_accepted_loss,
    read_ledger_now,
    read_note,
)
from gpt_image_runs.billing.recovery.receipts import (
    AttemptReceipt,
    Documents,
    ReceiptName,
    list_all_receipts,
    list_receipts_of_run,
    mark_ledger,
    read_attempt_receipts,
)
from gpt_image_runs.billing.seals import BEGUN_HASH, hash_begun
from gpt_image_runs.contracts.billing import BillingInput, BillingRecord, CostInput
from gpt_image_runs.contracts.request import MissingUsage, Operation
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import AttemptConflict
from gpt_image_runs.database.tables import ledger_entries, provider_attempts, runs

_ASKED_AT_ONCE = 500


@dataclass(frozen=True)
class Losses:
    """What the image store or Temporal knows and the ledger does not. `unreadable` counts receipts that cannot be read.

    `accepted` is how many missing attempts somebody has accepted as lost; they are not in `attempts`. Neither are runs that only
    Temporal knows as billed although ledger and store were in use after their end: `unwitnessed` has a sentence for each.
    """

    attempts: int = 0
    entries: int = 0
    since: datetime | None = None
    unreadable: int = 0
    accepted: int = 0
    unwitnessed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.attempts or self.entries)

    def describe(self) -> str:
        """Format the losses as a sentence and what to do."""
        since = f" since {self.since.astimezone(UTC).isoformat(timespec='seconds')}" if self.since else ""
        return (
            f"The ledger is older than its image store or its Temporal: {_count(self.attempts, 'attempt')} and"
            f" {_count(self.entries, 'entry', 'entries')} are missing{since}. It was probably restored from an older copy."
            " No worker sends anything until this is settled: run `python starter.py recover --from-store`, see docs/how-to/restore.md."
        )


async def find_losses(
    database: Database, documents: Documents, billed_runs: Mapping[str, datetime] | None = None
) -> Losses:
    """Compare a ledger with all receipts, with its noted heads, and with runs that Temporal proves billed, by id and end.

    A worker writes its receipt before its run goes on. So a run without one that ended before something that this ledger and
    this store both still have is not one that they have lost, whatever Temporal says.

    Raises:
        LedgerUnavailable, StoreUnavailable: one of the two does not answer.
    """
    now = await asyncio.to_thread(read_ledger_now, database)
    accepted = await read_accepted_loss(documents, now.ledger_id)
    attempts = entries = unreadable = given_up = 0
    since: datetime | None = None
    known_by_receipt: set[str] = set()
    async for receipt in _stream_missing(database, documents, now):
        if receipt is None:
            unreadable += 1
        elif accepted and receipt.last_known_at <= accepted.accepted_at:
            given_up += 1
        else:
            attempts += 1
            entries += receipt.is_paid
            since = min(since or receipt.attempt.sent_at, receipt.attempt.sent_at)
            known_by_receipt |= {receipt.run.run_id} & (billed_runs or {}).keys()
    unpaid = await asyncio.to_thread(find_unpaid_runs, database, list(billed_runs or {}))
    unseen = sorted(unpaid - known_by_receipt)
    witness = await find_witness(database, documents) if unseen else None
    unwitnessed = []
    for run_id in unseen:
        ended_at = (billed_runs or {})[run_id]
        if accepted and ended_at <= accepted.accepted_at:
            continue
        if witness and ended_at < witness:
            unwitnessed.append(_describe_unwitnessed(run_id, ended_at))
            continue
        attempts, entries, since = attempts + 1, entries + 1, min(since or ended_at, ended_at)
    note = await read_note(documents, now.ledger_id)
    noted = await asyncio.to_thread(count_lost_entries, database, note, accepted)
    if noted and since is None:
        since = await asyncio.to_thread(_find_last_entry, database)
    lost = attempts + unreadable
    return Losses(lost, max(entries, noted), since, unreadable, given_up, tuple(unwitnessed))


def _read_first(database: Database, query: Select[Any]) -> Row[Any] | None:
    with database.reading() as connection:
        return connection.execute(query.limit(1)).first()


def _describe_unwitnessed(run_id: str, ended_at: datetime) -> str:
    return (
        f"Temporal has the run {run_id!a} as billed at {ended_at.astimezone(UTC).isoformat(timespec='seconds')}. The ledger and"
        " the image store know nothing of it, and both were in use after that: it is not taken for a loss."
    )


async def find_witness(database: Database, documents: Documents) -> datetime | None:
    """Return when the ledger's latest own paid attempt was sent, if the store has its receipt.

    None where there is no such attempt or no receipt.
    """
    attempt = provider_attempts.c
    own = attempt.outcome == "succeeded", attempt.recovered_at.is_(None)
    query = select(attempt.attempt_id, attempt.run_id, attempt.sent_at).where(*own)
    latest = await asyncio.to_thread(_read_first, database, query.order_by(attempt.sent_at.desc()))
    if latest is None:
        return None
    names = await list_receipts_of_run(documents, latest.run_id)
    sent_at: datetime = latest.sent_at
    return sent_at if any(name.attempt_id == latest.attempt_id for name in names) else None


async def stream_lost(database: Database, documents: Documents) -> AsyncIterator[AttemptReceipt | None]:
    """Yield the receipts of attempts that the ledger does not have, or whose outcome it does not know.

    A receipt that cannot be read is None.
    """
    now = await asyncio.to_thread(read_ledger_now, database)
    async for receipt in _stream_missing(database, documents, now, with_outcomes=True):
        yield receipt


async def _stream_missing(
    database: Database, documents: Documents, now: LedgerNow, *, with_outcomes: bool = False
) -> AsyncIterator[AttemptReceipt | None]:
    """Yield the receipts of attempts that the ledger does not have.

    A ledger without any attempt of its own counts as the successor of every ledger that has used the store. An outcome
    that the ledger does not know does not mean a restored copy: a worker that is killed at that moment leaves one too.
    """
    own = mark_ledger(now.ledger_id)
    async for page in list_all_receipts(documents):
        names = [name for name in page if now.is_fresh or name.ledger_mark == own]
        for start in range(0, len(names), _ASKED_AT_ONCE):
            some = names[start : start + _ASKED_AT_ONCE]
            outcomes = await asyncio.to_thread(_read_outcomes, database, some)
            missing = [name for name in some if name.attempt_id not in outcomes]
            async for receipt in read_attempt_receipts(documents, missing):
                yield receipt
            doubtful = [name for name in some if outcomes.get(name.attempt_id) == "unknown"]
            async for receipt in read_attempt_receipts(documents, doubtful if with_outcomes else []):
                if receipt and receipt.outcome and receipt.outcome.outcome != "unknown":
                    yield receipt


def restore_attempt(database: Database, receipt: AttemptReceipt) -> bool:
    """Write an attempt and its run from a receipt, marked as recovered. Return whether anything was missing.

    No budget is checked: the request was sent.

    Raises:
        RunConflict: its request id now belongs to another run.
        AttemptConflict: the ledger has that attempt as another run's.
        LedgerUnavailable: the database does not answer; the same call again continues.
    """
    attempt = receipt.attempt
    with database.writing() as connection:
        claim_run(connection, receipt.run)
        known = _read_outcome(connection, attempt.attempt_id, receipt.run.run_id)
        if known is None:
            _insert_attempt(connection, receipt)
    news = receipt.outcome is not None and known in {None, "unknown"}
    if news and receipt.outcome:
        AttemptLog(database).finish(attempt.attempt_id, receipt.outcome)
    return known is None or (news and not (receipt.outcome and receipt.outcome.outcome == known))


def bill_restored(
    database: Database,
    cards: RateCards,
    receipt: AttemptReceipt,
    *,
    missing_usage: MissingUsage,
    entry_id: str | None = None,
    actor: str | None = None,
) -> BillingRecord | None:
    """Bill a recovered paid attempt; None where its run already has a bill.

    `entry_id` is the id of the lost entry, where it is known. It is not used where another entry has it.
    """
    if has_bill(database, receipt.run.run_id):
        return None
    order = BillingInput(
        run_id=receipt.run.run_id,
        attempt_id=receipt.attempt.attempt_id,
        cost=compute_cost(_build_cost_input(receipt, missing_usage), cards),
        metadata=receipt.metadata,
    )
    known_by = entry_id if entry_id and not _has_entry(database, entry_id) else None
    return Ledger(database).record(order, entry_id=known_by, actor=actor)


def _has_entry(database: Database, entry_id: str) -> bool:
    query = select(ledger_entries.c.sequence).where(ledger_entries.c.entry_id == entry_id)
    with database.reading() as connection:
        return connection.execute(query).first() is not None


def find_unbilled_runs(database: Database, run_ids: Sequence[str]) -> set[str]:
    """Return those runs that have no entry that opens their bill."""
    keys = {bill_key(run_id): run_id for run_id in run_ids}
    query = select(ledger_entries.c.entry_key).where(ledger_entries.c.entry_key.in_(list(keys)))
    with database.reading() as connection:
        return set(run_ids) - {keys[key] for key in connection.execute(query).scalars()}


def has_bill(database: Database, run_id: str) -> bool:
    """Return whether a run has an entry that opens its bill."""
    query = select(ledger_entries.c.sequence).where(ledger_entries.c.entry_key == bill_key(run_id))
    with database.reading() as connection:
        return connection.execute(query).first() is not None


def find_unpaid_runs(database: Database, run_ids: Sequence[str]) -> set[str]:
    """Return those runs for which the ledger has no attempt that succeeded."""
    attempt = provider_attempts.c
    query = select(attempt.run_id).where(attempt.run_id.in_(run_ids), attempt.outcome == "succeeded")
    with database.reading() as connection:
        return set(run_ids) - set(connection.execute(query).scalars())


def _build_cost_input(receipt: AttemptReceipt, missing_usage: MissingUsage) -> CostInput:
    attempt, outcome = receipt.attempt, receipt.outcome
    if outcome is None:
        raise ValueError(f"Attempt {attempt.attempt_id} has no outcome, and cannot be billed.")
    usage, problem = limit_usage_size(outcome.response, attempt.attempt_id)
    return CostInput(
        provider=attempt.provider,
        model=attempt.model,
        usage=usage,
        usage_problem=problem,
        missing_usage=receipt.missing_usage or missing_usage,
        operation="edit" if receipt.run.operation == "edit" else "generate",
        images=len(outcome.images or ()),
        size=outcome.size,
        quality=outcome.quality,
        output_format=outcome.output_format,
        sent_at=attempt.sent_at,
        mode="batch" if attempt.batch_part else None,
        partial_images=receipt.partial_images,
    )


def _insert_attempt(connection: Connection, receipt: AttemptReceipt) -> None:
    attempt = receipt.attempt
    account = Account(receipt.run.tenant, attempt.sent_at, attempt.simulated)
    count_spend(connection, account, reserve(attempt.reserved_micro_usd))
    row: dict[str, Any] = {
        **attempt.model_dump(),
        "run_id": receipt.run.run_id,
        "number": _find_free_number(connection, receipt),
        "recovered_at": datetime.now(UTC),
    }
    row[BEGUN_HASH] = hash_begun(row, connection)
    connection.execute(provider_attempts.insert(), row)


def _find_free_number(connection: Connection, receipt: AttemptReceipt) -> int:
    """Return the attempt's number, or the next free one where the run has used it since."""
    attempt = provider_attempts.c
    of_the_run = attempt.run_id == receipt.run.run_id
    taken = select(attempt.attempt_id).where(of_the_run, attempt.number == receipt.attempt.number)
    if connection.execute(taken).first() is None:
        return receipt.attempt.number
    last: int = connection.execute(select(func.max(attempt.number)).where(of_the_run)).scalar_one()
    return last + 1


def _read_outcomes(database: Database, names: Sequence[ReceiptName]) -> dict[str, str]:
    attempt = provider_attempts.c
    query = select(attempt.attempt_id, attempt.outcome)
    ids = [name.attempt_id for name in names]
    with database.reading() as connection:
        rows = connection.execute(query.where(attempt.attempt_id.in_(ids)))
        return {row.attempt_id: row.outcome for row in rows}


def _read_outcome(connection: Connection, attempt_id: str, run_id: str) -> str | None:
    """Return the outcome of an attempt, None where the ledger does not have it.

    Raises:
        AttemptConflict: it is another run's.
    """
    attempt = provider_attempts.c
    query = select(attempt.outcome, attempt.run_id).where(attempt.attempt_id == attempt_id)
    row = connection.execute(query).first()
    if row is None:
        return None
    if row.run_id != run_id:
        raise AttemptConflict(
            f"Attempt {attempt_id!a} belongs to run {row.run_id!a} in the ledger, and run {run_id!a} claims it."
            " Nothing was taken back."
        )
    outcome: str = row.outcome
    return outcome


def _find_last_entry(database: Database) -> datetime | None:
    query = select(ledger_entries.c.created_at).order_by(ledger_entries.c.sequence.desc()).limit(1)
    with database.reading() as connection:
        last: datetime | None = connection.execute(query).scalar()
    return last


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def bill_recovered(database: Database, paid: Attempt, cards: RateCards) -> BillingRecord:
    """Write the run's bill from the attempt's own usage, or return the one that it has.

    Without usage the bill is held: the request, which may ask for an estimate, is not known to the ledger.

    Raises:
        LedgerUnavailable: try again.
        LedgerRefused: the attempt was not recorded as paid.
    """
    usage, usage_problem = limit_usage_size(paid.response, paid.attempt_id)
    cost = compute_cost(
        CostInput(
            provider=paid.provider,
            model=paid.model,
            usage=usage,
            usage_problem=usage_problem,
            missing_usage="hold",
            operation=_find_operation(database, paid.run_id),
            images=len(paid.images or ()),
            size=paid.size,
            quality=paid.quality,
            output_format=paid.output_format,
            sent_at=paid.sent_at,
            mode="batch" if paid.batch_part else None,
        ),
        cards,
    )
    return Ledger(database).record(BillingInput(run_id=paid.run_id, attempt_id=paid.attempt_id, cost=cost))


def _find_operation(database: Database, run_id: str) -> Operation:
    with database.reading() as connection:
        operation = connection.execute(select(runs.c.operation).where(runs.c.run_id == run_id)).scalar()
    return "edit" if operation == "edit" else "generate"
