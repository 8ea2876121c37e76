"""What was paid and is on no entry."""

from dataclasses import replace
from datetime import timedelta

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.ledger.queries import MAX_BILLING, find_unbilled
from gpt_image_runs.database.engine import Database
from tests.support.ledger.ledger_examples import FINISHED_AT, SUCCEEDED, identify, make_order, pay_attempt
from tests.support.runs.spending import ask

LATER = FINISHED_AT + timedelta(hours=1)


def test_a_paid_attempt_without_an_entry_is_found(database: Database) -> None:
    """Of a billed run, an open one and a paid one without a bill, the last is listed with what it can have cost."""
    Ledger(database).record(make_order(pay_attempt(database, identify("acme", "billed"))))
    ask(database)
    paid = pay_attempt(database, identify("acme", "terminated"))

    (found,) = find_unbilled(database, LATER).attempts

    assert (found.attempt_id, found.run_id, found.tenant) == (
        paid.attempt_id,
        "image:acme:terminated",
        "acme",
    )
    assert (found.reserved_usd, found.billed_by, found.finished_at) == ("0.250000", None, FINISHED_AT)
    assert find_unbilled(database, LATER, tenant="zoo").attempts == ()
    Ledger(database).record(make_order(paid))
    assert find_unbilled(database, LATER).attempts == ()


def test_attempt_paid_within_five_minutes_is_in_flight(database: Database) -> None:
    """An attempt that was paid less than five minutes ago may just be billed."""
    pay_attempt(database)
    assert len(find_unbilled(database, FINISHED_AT + MAX_BILLING).in_flight) == 1
    assert find_unbilled(database, FINISHED_AT + MAX_BILLING).attempts == ()
    after = find_unbilled(database, FINISHED_AT + MAX_BILLING + timedelta(microseconds=1))
    assert (len(after.attempts), after.in_flight) == (1, ())


def test_a_second_payment_of_a_billed_run_is_found(database: Database) -> None:
    """A run that was paid twice names the entry that bills it by the other attempt: nothing will bill this one."""
    first, second = ask(database, "twice"), ask(database, "twice")
    for attempt in (first, second):
        AttemptLog(database).finish(attempt.attempt_id, replace(SUCCEEDED, finished_at=FINISHED_AT))
    entry_id = Ledger(database).record(make_order(second)).entry_id

    (found,) = find_unbilled(database, LATER).attempts

    assert (found.attempt_id, found.billed_by) == (first.attempt_id, entry_id)
