"""Restore what the image store and Temporal know into the ledger, and accept what is lost."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from cli.output import Output
from cli.recover.from_temporal import NO_TEMPORAL, KnownRun, RunsInTemporal, open_runs_in_temporal
from cli.session import Session
from gpt_image_runs.billing.ledger.queries import find_unbilled
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.recovery.notes import (
    AcceptedLoss,
    count_entries_behind,
    read_ledger_now,
    read_note,
    write_accepted_loss,
    write_note,
)
from gpt_image_runs.billing.recovery.receipts import (
    AttemptReceipt,
    list_receipts_of_run,
    read_attempt_receipts,
)
from gpt_image_runs.billing.recovery.recovery import (
    Losses,
    bill_restored,
    find_losses,
    find_unbilled_runs,
    has_bill,
    restore_attempt,
    stream_lost,
)
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import AttemptConflict, LedgerRefused, LedgerUnavailable, RunConflict
from gpt_image_runs.images.store import ImageStore

_TELL_EVERY = 500
# Workers of the same ledger wait for a page to be written: a fraction of a second.
_WRITTEN_AT_ONCE = 50
_MAX_PROBLEMS = 50


@dataclass
class Recovered:
    """What was restored. `waiting` counts runs that bill themselves now that their attempt is in the ledger."""

    attempts: int = 0
    entries: int = 0
    waiting: int = 0
    conflicts: int = 0
    problems: list[str] = field(default_factory=list)

    def note_problem(self, problem: str) -> None:
        """Record a problem, as long as there is room to show it."""
        self.conflicts += 1
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(problem)


class Recovery:
    """Restores what was lost into one ledger."""

    def __init__(
        self, database: Database, store: ImageStore, cards: RateCards, session: Session, actor: str
    ) -> None:
        self._database = database
        self._store = store
        self._cards = cards
        self._missing_usage = session.settings.missing_usage
        self._actor = actor
        self.recovered = Recovered()

    async def run(self, runs: RunsInTemporal, output: Output) -> None:
        """Restore attempts first, then the bills of those that were paid.

        Raises:
            LedgerUnavailable, StoreUnavailable: what was restored stays; run it again to continue.
        """
        async for page in _make_pages(self._stream_lost(runs)):
            before = self.recovered.attempts
            await self._take_back(page, runs)
            if (count := self.recovered.attempts) // _TELL_EVERY > before // _TELL_EVERY:
                output.say(f"{count:,} attempts restored so far")
        async for page in _make_pages(self._stream_unbilled()):
            await self._take_back(page, runs)

    async def _stream_lost(self, runs: RunsInTemporal) -> AsyncIterator[AttemptReceipt | None]:
        """Yield what the store knows; then None; then what only Temporal knows, once the former is in the ledger."""
        async for receipt in stream_lost(self._database, self._store):
            if receipt is None:
                self.recovered.note_problem("A receipt in the image store is not readable.")
            else:
                yield receipt
        yield None
        async for found in runs.stream_lost(self._database):
            if isinstance(found, str):
                self.recovered.note_problem(found)
            else:
                yield found

    async def _stream_unbilled(self) -> AsyncIterator[AttemptReceipt]:
        """Yield attempts in the ledger whose bill was lost, also by a recovery that was interrupted."""
        unbilled = await asyncio.to_thread(find_unbilled, self._database, datetime.now(UTC))
        for attempt in (*unbilled.attempts, *unbilled.in_flight):
            if attempt.billed_by:
                continue
            names = await list_receipts_of_run(self._store, attempt.run_id)
            own = [name for name in names if name.attempt_id == attempt.attempt_id]
            async for receipt in read_attempt_receipts(self._store, own):
                if receipt and receipt.is_paid:
                    yield receipt

    async def _take_back(self, page: Sequence[AttemptReceipt], runs: RunsInTemporal) -> None:
        paid = [receipt.run.run_id for receipt in page if receipt.is_paid]
        unbilled = list(await asyncio.to_thread(find_unbilled_runs, self._database, paid))
        known = dict(zip(unbilled, await asyncio.gather(*map(runs.find, unbilled)), strict=True))
        written = await asyncio.to_thread(self._write, page, known)
        self.recovered.attempts += written.attempts
        self.recovered.entries += written.entries
        self.recovered.waiting += written.waiting
        for problem in written.problems:
            self.recovered.note_problem(problem)

    def _write(self, page: Sequence[AttemptReceipt], known: Mapping[str, KnownRun]) -> Recovered:
        """Write a page in one transaction: three commits for each receipt took a minute for some thousands."""
        try:
            with self._database.joining() as ledger:
                return self._write_each(ledger, page, known)
        except LedgerUnavailable:
            # PostgreSQL may have found a deadlock with a worker. Steps of their own hold no lock for another.
            return self._write_each(self._database, page, known)

    def _write_each(
        self, ledger: Database, page: Sequence[AttemptReceipt], known: Mapping[str, KnownRun]
    ) -> Recovered:
        written = Recovered()
        for receipt in page:
            try:
                written.attempts += restore_attempt(ledger, receipt)
                if receipt.is_paid and receipt.run.run_id in known:
                    self._bill(ledger, receipt, known[receipt.run.run_id], written)
            except (AttemptConflict, LedgerRefused, RunConflict) as error:
                written.note_problem(str(error))
        return written

    def _bill(self, ledger: Database, receipt: AttemptReceipt, known: KnownRun, written: Recovered) -> None:
        if known.is_running:
            written.waiting += not has_bill(ledger, receipt.run.run_id)
            return
        record = bill_restored(
            ledger,
            self._cards,
            receipt,
            missing_usage=self._missing_usage,
            entry_id=known.entry_id,
            actor=self._actor,
        )
        written.entries += record is not None


async def _make_pages(
    receipts: AsyncIterator[AttemptReceipt | None] | AsyncIterator[AttemptReceipt],
) -> AsyncIterator[list[AttemptReceipt]]:
    """Group receipts into pages. A None ends a page before the next receipt is fetched."""
    page: list[AttemptReceipt] = []
    async for receipt in receipts:
        if receipt is not None:
            page.append(receipt)
        if page and (receipt is None or len(page) >= _WRITTEN_AT_ONCE):
            yield page
            page = []
    if page:
        yield page


async def recover_from_store(session: Session, output: Output, actor: str, *, ask_temporal: bool) -> int:
    """Restore what is known and print the result. Return the exit status: 1 while anything is missing."""
    store = session.open_store()
    with session.open_ledger() as database:
        cards = RateCards.load(session.settings.rate_card)
        runs = await open_runs_in_temporal(session, store, cards) if ask_temporal else NO_TEMPORAL
        recovery = Recovery(database, store, cards, session, actor)
        await recovery.run(runs, output)
        left = await _settle_note(database, store, runs)
    recovered = recovery.recovered
    document = {
        "status": "incomplete" if left else "ok",
        "recovered": {key: value for key, value in asdict(recovered).items() if key != "problems"},
        "problems": recovered.problems,
        "missing": _document(left),
    }
    output.answer(document, *_describe(recovered, left))
    for problem in recovered.problems:
        output.warn(problem)
    return 1 if left else 0


async def accept_loss(
    session: Session, output: Output, actor: str, reason: str, *, ask_temporal: bool
) -> int:
    """Record that the ledger continues without what is missing, and who decided so."""
    store = session.open_store()
    with session.open_ledger() as database:
        cards = RateCards.load(session.settings.rate_card)
        runs = await open_runs_in_temporal(session, store, cards) if ask_temporal else NO_TEMPORAL
        losses = await find_losses(database, store, await runs.list_billed(database))
        now = await asyncio.to_thread(read_ledger_now, database)
        if losses:
            accepted = AcceptedLoss(
                ledger_id=now.ledger_id,
                accepted_at=datetime.now(UTC),
                actor=actor,
                reason=reason,
                attempts=losses.attempts,
                entries=losses.entries,
            )
            await write_accepted_loss(store, accepted)
            await write_note(store, now)
    document = {"status": "accepted" if losses else "ok", "accepted": _document(losses)}
    words = f"Accepted as lost: attempts {losses.attempts:,}, entries {losses.entries:,}."
    output.answer(document, Text(words if losses else "Nothing is missing, so there is no loss to accept."))
    return 0


async def _settle_note(database: Database, store: ImageStore, runs: RunsInTemporal) -> Losses:
    """Return what is still missing. If nothing is, record the heads again: restored entries have other hashes."""
    now = await asyncio.to_thread(read_ledger_now, database)
    note = await read_note(store, now.ledger_id)
    left = await find_losses(database, store, await runs.list_billed(database))
    behind = await asyncio.to_thread(count_entries_behind, database, note)
    if left.attempts or behind:
        return left
    await write_note(store, now)
    return Losses(accepted=left.accepted)


def _document(losses: Losses) -> dict[str, Any]:
    since = losses.since.isoformat() if losses.since else None
    return {"attempts": losses.attempts, "entries": losses.entries, "since": since}


def _describe(recovered: Recovered, left: Losses) -> list[Text]:
    lines = [Text(f"Restored: attempts {recovered.attempts:,}, entries {recovered.entries:,}.", style="bold")]
    if recovered.waiting:
        lines.append(Text(f"Running workflows that will write their own bill: {recovered.waiting:,}."))
    if left:
        lines.append(
            Text(
                f"Still missing: attempts {left.attempts:,}, entries {left.entries:,}. Corrections are not in receipts: repeat them."
                ' Then run `python starter.py recover --accept-loss --reason "..."`.',
                style="bold red",
            )
        )
    else:
        lines.append(Text("✓ Nothing is missing.", style="bold green"))
    return lines
