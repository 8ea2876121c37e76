"""What a ledger has lost: found from receipts and noted heads, and taken back once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.records import AttemptOutcome
from gpt_image_runs.billing.recovery.notes import (
    AcceptedLoss,
    read_ledger_now,
    write_accepted_loss,
    write_note,
)
from gpt_image_runs.billing.recovery.receipts import (
    AttemptReceipt,
    SentAttempt,
    list_receipts_of_run,
    read_attempt_receipts,
    update_outcome,
    write_attempt_receipt,
)
from gpt_image_runs.billing.recovery.recovery import (
    Losses,
    bill_restored,
    find_losses,
    restore_attempt,
    stream_lost,
)
from gpt_image_runs.billing.verification.spend import find_wrong_spend
from gpt_image_runs.billing.verification.verify import LedgerVerification
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import RunConflict
from gpt_image_runs.images.store import ImageStore
from tests.support.ledger.ledger_examples import IDENTITY, SUCCEEDED, begin_attempt, identify

pytestmark = pytest.mark.asyncio

SENT_AT = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
UNKNOWN = AttemptOutcome(outcome="unknown", finished_at=SENT_AT + timedelta(minutes=1))


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore.from_url((tmp_path / "images").as_uri())


def make_receipt(
    database: Database, request_id: str = "req-1", outcome: AttemptOutcome | None = SUCCEEDED, number: int = 1
) -> AttemptReceipt:
    run = identify("acme", request_id)
    return AttemptReceipt(
        ledger_id=read_ledger_now(database).ledger_id,
        run=run,
        attempt=SentAttempt(
            attempt_id=f"att_{request_id}_{number}",
            number=number,
            client_request_id=f"{run.run_id}:{number}:lost",
            workflow_run_id="",
            model="gpt-image-1",
            provider="openai",
            sent_at=SENT_AT,
            reserved_micro_usd=200_000,
            simulated=False,
        ),
        outcome=outcome,
        metadata={"order": request_id},
    )


def verify(database: Database) -> list[str]:
    findings = [*LedgerVerification(database, lambda _checked, _total: None).find()]
    return [finding.what for finding in (*findings, *find_wrong_spend(database))]


async def test_lost_attempts_are_counted_and_taken_back_once(database: Database, store: ImageStore) -> None:
    paid, doubtful = make_receipt(database), make_receipt(database, "req-2", UNKNOWN)
    died = make_receipt(database, "req-3", None)
    begin_attempt(database, identify("acme", "kept"))
    for receipt in (paid, doubtful, died):
        await write_attempt_receipt(store, receipt)
    assert await find_losses(database, store) == Losses(attempts=3, entries=1, since=SENT_AT)

    async for lost in stream_lost(database, store):
        assert lost is not None
        assert restore_attempt(database, lost)
        assert not restore_attempt(database, lost)
    record = bill_restored(database, RateCards.load(), paid, missing_usage="estimate", actor="ada")
    assert record is not None
    assert record.state == "billed"
    assert bill_restored(database, RateCards.load(), paid, missing_usage="estimate") is None

    assert await find_losses(database, store) == Losses()
    log = AttemptLog(database)
    outcomes = {
        run: log.list_attempts(identify("acme", run).run_id)[0] for run in ("req-1", "req-2", "req-3")
    }
    assert [attempt.outcome for attempt in outcomes.values()] == ["succeeded", "unknown", "unknown"]
    assert outcomes["req-3"].finished_at is None
    assert all(attempt.recovered_at for attempt in outcomes.values())
    assert verify(database) == []


async def test_outcome_that_the_ledger_did_not_learn_is_taken_back(
    database: Database, store: ImageStore
) -> None:
    """A copy that was made in the middle of a call knows the attempt, and not what came of it.

    A worker that was killed at that moment leaves the same behind, so it keeps no worker from polling.
    """
    attempt = begin_attempt(database)
    receipt = make_receipt(database).model_copy(
        update={"run": IDENTITY, "attempt": SentAttempt.model_validate(attempt)}
    )
    await write_attempt_receipt(store, receipt)
    assert not await find_losses(database, store)
    assert [restore_attempt(database, lost) async for lost in stream_lost(database, store) if lost] == [True]
    (settled,) = AttemptLog(database).list_attempts(attempt.run_id)
    assert (settled.outcome, settled.recovered_at) == ("succeeded", None)
    assert [lost async for lost in stream_lost(database, store)] == []


async def test_outcome_that_was_found_later_is_in_the_receipt(database: Database, store: ImageStore) -> None:
    """What the request has said stays, and other attempts of the run keep their own outcome."""
    found, other = make_receipt(database, outcome=UNKNOWN), make_receipt(database, outcome=UNKNOWN, number=2)
    for receipt in (found, other):
        await write_attempt_receipt(store, receipt)
    await update_outcome(store, found.run.run_id, found.attempt.attempt_id, SUCCEEDED)

    names = await list_receipts_of_run(store, found.run.run_id)
    assert [receipt async for receipt in read_attempt_receipts(store, names)] == [
        found.model_copy(update={"outcome": SUCCEEDED}),
        other,
    ]


async def test_attempt_takes_the_next_number_where_the_run_has_gone_on(database: Database) -> None:
    begin_attempt(database, identify("acme", "req-1"))
    restore_attempt(database, make_receipt(database))
    attempts = AttemptLog(database).list_attempts(identify("acme", "req-1").run_id)
    assert [(attempt.number, attempt.outcome) for attempt in attempts] == [(1, "unknown"), (2, "succeeded")]
    assert verify(database) == []


async def test_request_id_that_was_used_again_is_refused(database: Database) -> None:
    begin_attempt(database, replace(identify("acme", "req-1"), fingerprint="c3" * 32))
    with pytest.raises(RunConflict):
        restore_attempt(database, make_receipt(database))


async def test_ledger_that_is_behind_its_noted_heads_has_lost_entries(
    database: Database, store: ImageStore
) -> None:
    receipt = make_receipt(database)
    restore_attempt(database, receipt)
    now = read_ledger_now(database)
    bill_restored(database, RateCards.load(), receipt, missing_usage="estimate")
    ahead = read_ledger_now(database)
    await write_note(store, ahead)
    assert not await find_losses(database, store)

    (head,) = ahead.heads
    further = head.model_copy(update={"entries": head.entries + 2, "entry_hash": "f" * 64})
    await write_note(store, now.model_copy(update={"heads": (further,)}))
    assert (await find_losses(database, store)).entries == 2
    # As many entries as noted, and others: the ledger went on after it was restored.
    other = head.model_copy(update={"entry_hash": "f" * 64})
    await write_note(store, now.model_copy(update={"heads": (other,)}))
    assert (await find_losses(database, store)).entries == 1


async def test_accepted_loss_is_not_found_again_and_a_later_one_is(
    database: Database, store: ImageStore
) -> None:
    begin_attempt(database, identify("acme", "kept"))
    await write_attempt_receipt(store, make_receipt(database))
    accepted = AcceptedLoss(
        ledger_id=read_ledger_now(database).ledger_id,
        accepted_at=datetime.now(UTC),
        actor="ada",
        reason="a test",
        attempts=1,
        entries=1,
    )
    await write_accepted_loss(store, accepted)
    assert await find_losses(database, store) == Losses(accepted=1)
    later = replace(SUCCEEDED, finished_at=datetime.now(UTC) + timedelta(seconds=1))
    await write_attempt_receipt(store, make_receipt(database, "req-2", later))
    assert (await find_losses(database, store)).attempts == 1


async def test_receipts_of_another_ledger_count_for_one_that_has_written_nothing(
    database: Database, store: ImageStore
) -> None:
    receipt = make_receipt(database).model_copy(update={"ledger_id": "ldg_another"})
    await write_attempt_receipt(store, receipt)
    assert (await find_losses(database, store)).attempts == 1
    restore_attempt(database, receipt)  # what was taken back does not make it another ledger's
    await write_attempt_receipt(
        store, make_receipt(database, "req-2").model_copy(update={"ledger_id": "ldg_another"})
    )
    assert (await find_losses(database, store)).attempts == 1
    begin_attempt(database, identify("acme", "own"))
    assert not await find_losses(database, store)


async def test_receipt_holds_what_no_utf8_can_and_no_prompt(database: Database, store: ImageStore) -> None:
    strange = replace(SUCCEEDED, response={"usage": {"input_tokens": 1}, "note": "\ud800", "big": 10**30})
    receipt = make_receipt(database, outcome=strange)
    await write_attempt_receipt(store, receipt)
    (name,) = await list_receipts_of_run(store, receipt.run.run_id)
    (read,) = [lost async for lost in stream_lost(database, store)]
    assert (read, name.attempt_id) == (receipt, receipt.attempt.attempt_id)


async def test_damaged_receipt_is_missing(database: Database, store: ImageStore) -> None:
    await write_attempt_receipt(store, make_receipt(database))
    (name,) = await list_receipts_of_run(store, identify("acme", "req-1").run_id)
    await store.put_document(name.key, b"{")
    assert await find_losses(database, store) == Losses(attempts=1, unreadable=1)
