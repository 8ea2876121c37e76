import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.ledger.heads import append_entry
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.reports.entries import list_entries
from gpt_image_runs.contracts.billing import BillingInput, Cost, LineItem
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import AttemptMissing, LedgerRefused
from gpt_image_runs.database.open import open_database
from gpt_image_runs.database.tables import ledger_entries
from tests.support.ledger.ledger_examples import (
    CHARGE,
    ESTIMATE,
    HOLD,
    IDENTITY,
    IMAGE,
    SUCCEEDED,
    begin_attempt,
    identify,
    make_order,
    pay_attempt,
)
from tests.support.servers.ledger_processes import run_at_once

RECORD_WHEN_TOLD = """
import json, sys
from gpt_image_runs.database.open import open_database
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.contracts.billing import BillingInput

ledger = Ledger(open_database(sys.argv[1], create=False))
order = BillingInput.model_validate_json(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
print(ledger.record(order).entry_id)
"""


def read_entry(database: Database) -> dict[str, Any]:
    """Return the only row of the ledger, without its number."""
    with database.reading() as connection:
        row: dict[str, Any] = dict(connection.execute(ledger_entries.select()).mappings().one())
    del row["sequence"]
    return row


def correct(database: Database, corrected: str, kind: str, amount_micro_usd: int, number: int = 1) -> str:
    """Write a correction as a reconciliation would: a copy of the entry that it corrects."""
    with database.writing() as connection:
        entry = ledger_entries.select().where(ledger_entries.c.entry_id == corrected)
        row: dict[str, Any] = dict(connection.execute(entry).mappings().one())
        del row["sequence"]
        entry_id = f"ent_{kind}_{number}"
        row |= {"entry_id": entry_id, "entry_key": f"{row['run_id']}#{kind}-{number}", "kind": kind}
        row |= {"amount_micro_usd": amount_micro_usd, "corrects": corrected, "reason": "reconciled by hand"}
        assert append_entry(connection, row)
    return entry_id


@pytest.mark.parametrize(
    ("cost", "kind", "state"),
    [(CHARGE, "charge", "billed"), (ESTIMATE, "estimate", "estimated"), (HOLD, "hold", "pending")],
)
def test_a_run_is_billed_by_its_basis(database: Database, cost: Cost, kind: str, state: str) -> None:
    """Token usage makes a charge, an estimate an estimate, and no basis a hold that says why it is pending."""
    ledger = Ledger(database)
    record = ledger.record(make_order(pay_attempt(database), cost))
    (entry,) = list_entries(database)
    assert (entry.kind, entry.amount_usd, entry.basis) == (kind, cost.amount_usd, cost.basis)
    assert (record.state, record.entry_id, record.reason) == (state, entry.entry_id, cost.reason)
    assert ledger.state_of(IDENTITY.run_id) == record


def test_a_run_without_entry_has_no_state(database: Database) -> None:
    """A run that nothing was recorded for is no pending one."""
    begin_attempt(database)
    assert Ledger(database).state_of(IDENTITY.run_id) is None


def test_a_zero_that_was_reported_is_a_charge(database: Database) -> None:
    """A bill of zero is an amount like any other, and no hold."""
    record = Ledger(database).record(
        make_order(pay_attempt(database), CHARGE.model_copy(update={"amount_usd": "0.000000"}))
    )
    assert record.state == "billed"
    assert list_entries(database)[0].amount_usd == "0.000000"


def test_a_run_is_billed_once(database: Database) -> None:
    """The same run again, even with another amount, returns the record and the cost of the first entry, which stands."""
    ledger = Ledger(database)
    attempt = pay_attempt(database)
    first = ledger.record(make_order(attempt, HOLD))
    again = ledger.record(make_order(attempt, CHARGE))
    assert again == first.model_copy(update={"cost": HOLD})
    assert ledger.record(make_order(attempt, HOLD)) == first
    assert [(entry.kind, entry.amount_usd) for entry in list_entries(database)] == [("hold", None)]


def test_an_entry_explains_its_amount(database: Database) -> None:
    """Usage, rates and line items read back verbatim: key order, integers of any size, unknown fields and NULs."""
    usage: dict[str, Any] = {
        "output_tokens": 4160,
        "input_tokens": 10**40,
        "new\x00field": [None, {"b": 1, "a": "é\ud83d"}],
    }
    cost = Cost(
        amount_usd="9007199254.740993",  # one more than a float can tell apart
        basis="token_usage",
        flags=("reported_zero", "second"),
        rate_card="charge-2026-11-04",
        rates={"output": "40", "input": "10"},
        line_items=(
            LineItem(token_class="input", tokens=50, usd_per_million="10", amount_usd="0.000500"),
            LineItem(token_class="output", tokens=4160, usd_per_million="40", amount_usd="0.166400"),
        ),
        list_cost_usd="0.166850",
        list_rate_card="list-2026-11-04",
        list_rates={"text_in": "5"},
    )
    Ledger(database).record(make_order(pay_attempt(database, response={"usage": usage}), cost))
    (entry,) = list_entries(database)
    read = Cost.model_validate({name: value for name, value in entry if name in Cost.model_fields})
    assert read == cost
    assert list(entry.rates) == ["output", "input"]
    assert json.dumps(entry.usage) == json.dumps(usage)


def test_entry_copies_its_run_and_attempt(database: Database) -> None:
    """An entry repeats its run and the attempt that was paid, so that nobody has to ask Temporal, which forgets."""
    identity = replace(IDENTITY, operation="edit", requested_model="gpt-image-1.5")
    begin_attempt(database, identity)
    attempt = pay_attempt(database, identity, model="gpt-image-2", simulated=True)
    Ledger(database).record(make_order(attempt))
    (entry,) = list_entries(database)
    told = {
        "run_id": "image:acme:req-1",
        "tenant": "acme",
        "request_id": "req-1",
        "fingerprint": "a1" * 32,
        "operation": "edit",
        "requested_model": "gpt-image-1.5",
        "attempt_id": attempt.attempt_id,
        "model": "gpt-image-2",
        "provider": "openai",
        "provider_request_id": "req_0123",
        "simulated": True,
        "usage": {"input_tokens": 50, "output_tokens": 4160},
        "images": [IMAGE.model_dump()],
        "image_count": 1,
        "size": "1024x1024",
        "quality": "high",
        "metadata": {"order": "4711"},
        "sent_at": "2026-11-23T08:30:00.123456Z",
        "corrects": None,
        "entry_key": "image:acme:req-1#bill",
    }
    assert {name: entry.model_dump(mode="json")[name] for name in told} == told
    assert entry.entry_id.startswith("ent_")


@pytest.mark.parametrize("response", [None, {"created": 1}, {"usage": None}, ["usage"]])
def test_absent_usage_is_not_a_null_object(database: Database, response: Any) -> None:
    """Usage that the provider did not send reads back as absent, whatever the answer was."""
    Ledger(database).record(make_order(pay_attempt(database, response=response), HOLD))
    with database.reading() as connection:
        assert connection.execute(select(ledger_entries.c.usage.is_(None))).scalar()


def test_threads_that_record_the_same_run_make_one_entry(database: Database) -> None:
    """Twenty at once, each with an amount of its own: one entry, and everybody is told of that one."""
    ledger = Ledger(database)
    attempt = pay_attempt(database)
    orders = [
        make_order(attempt, CHARGE.model_copy(update={"amount_usd": f"0.{number:06}"}))
        for number in range(20)
    ]
    with ThreadPoolExecutor(20) as threads:
        records = list(threads.map(ledger.record, orders))
    (entry,) = list_entries(database)
    assert {record.entry_id for record in records} == {entry.entry_id}
    told = {(record.cost or order.cost).amount_usd for record, order in zip(records, orders, strict=True)}
    assert told == {entry.amount_usd}


def test_processes_that_record_the_same_run_make_one_entry(database: Database, database_url: str) -> None:
    """Two processes at once get the same entry."""
    order = make_order(pay_attempt(database)).model_dump_json()
    done = run_at_once(RECORD_WHEN_TOLD, database_url, order, count=2)
    told = {process.stdout.strip() for process in done}
    assert told == {entry.entry_id for entry in list_entries(database)}


def test_a_key_that_another_transaction_takes_is_waited_for(database: Database, database_url: str) -> None:
    """`append_entry` says whether it wrote, and on PostgreSQL waits for who is writing the same key."""
    Ledger(database).record(make_order(pay_attempt(database, identify("zoo", "req-1"))))
    attempt = pay_attempt(database)
    row = read_entry(database) | {"run_id": attempt.run_id, "attempt_id": attempt.attempt_id}
    row |= {"tenant": "acme", "entry_id": "ent_first", "entry_key": "image:acme:req-1#bill"}
    other = open_database(database_url, create=False)
    with ThreadPoolExecutor(1) as thread:
        with database.writing() as connection:
            assert append_entry(connection, row)
            second = thread.submit(Ledger(other).record, make_order(attempt))
        assert second.result(timeout=30).entry_id == "ent_first"
    if database.dialect == "postgresql":
        with other.writing() as connection:
            assert not append_entry(connection, {**row, "entry_id": "ent_other"})
    other.close()


REFUSALS = (
    (
        "image:acme:req-1",
        "att_0",
        (
            "there is no attempt att_0 in the ledger. Is this the ledger that the attempt was written to?"
            " After a restore from an older copy, run `python starter.py recover --from-store` (docs/how-to/restore.md)."
        ),
    ),
    (
        "image:zoo:req-1",
        "{paid}",
        "attempt {paid} belongs to run image:acme:req-1. Bill a run by an attempt of its own.",
    ),
    (
        "image:acme:nobody",
        "{paid}",
        "attempt {paid} belongs to run image:acme:req-1. Bill a run by an attempt of its own.",
    ),
    (
        "image:acme:req-1",
        "{rejected}",
        "the outcome of attempt {rejected} is rejected. Only an attempt that succeeded is billed.",
    ),
    (
        "image:acme:req-1",
        "{under_way}",
        "the outcome of attempt {under_way} is unknown. Only an attempt that succeeded is billed.",
    ),
)


def test_bill_without_a_paid_attempt_of_the_run_is_refused(database: Database) -> None:
    """Without an attempt of the run's own that succeeded there is no entry, and the sentence says what is missing."""
    begin_attempt(database, identify("zoo", "req-1"))
    ids = {
        "paid": pay_attempt(database).attempt_id,
        "rejected": pay_attempt(database, outcome="rejected").attempt_id,
        "under_way": begin_attempt(database).attempt_id,
    }
    for run_id, attempt_id, why in REFUSALS:
        order = BillingInput(run_id=run_id, attempt_id=attempt_id.format(**ids), cost=CHARGE)
        with pytest.raises((AttemptMissing, LedgerRefused)) as refusal:
            Ledger(database).record(order)
        assert str(refusal.value) == f"Nothing was recorded for run {run_id}: {why.format(**ids)}"
    assert list_entries(database) == ()


def test_a_refused_bill_is_made_once_its_attempt_is_settled(database: Database) -> None:
    """The same order again succeeds as soon as the ledger knows that the attempt was paid."""
    attempt = begin_attempt(database)
    with pytest.raises(LedgerRefused):
        Ledger(database).record(make_order(attempt))
    AttemptLog(database).finish(attempt.attempt_id, SUCCEEDED)
    assert Ledger(database).record(make_order(attempt)).state == "billed"


def test_a_cost_that_contradicts_itself_is_refused(database: Database) -> None:
    """A charge without an amount and a hold without a reason never reach the ledger."""
    attempt = pay_attempt(database)
    for cost in (Cost(basis="token_usage"), Cost(basis="none")):
        with pytest.raises(LedgerRefused):
            Ledger(database).record(make_order(attempt, cost))
    assert list_entries(database) == ()


@pytest.mark.parametrize(("cost", "amount_micro_usd"), [(HOLD, 166_900), (ESTIMATE, -340)])
def test_adjustment_makes_the_run_reconciled(database: Database, cost: Cost, amount_micro_usd: int) -> None:
    """An adjustment of a hold or an estimate makes the run reconciled, and is the entry that says so."""
    ledger = Ledger(database)
    attempt = pay_attempt(database)
    first = ledger.record(make_order(attempt, cost))
    adjustment = correct(database, first.entry_id, "adjustment", amount_micro_usd)
    state = ledger.state_of(IDENTITY.run_id)
    assert state is not None
    assert (state.state, state.entry_id, state.reason) == ("reconciled", adjustment, "reconciled by hand")
    assert ledger.record(make_order(attempt, cost)) == first


def test_state_of_a_run_ignores_entries_of_other_runs(database: Database) -> None:
    """What happens to one run says nothing of another."""
    ledger = Ledger(database)
    held = ledger.record(make_order(pay_attempt(database), HOLD))
    billed = ledger.record(make_order(pay_attempt(database, identify("zoo", "req-1"))))
    correct(database, billed.entry_id, "reversal", -166_900)
    assert ledger.state_of(IDENTITY.run_id) == held


def test_entries_are_in_the_order_of_their_numbers(database: Database) -> None:
    """Every entry has a number above all entries before it."""
    ledger = Ledger(database)
    ids = [
        ledger.record(make_order(pay_attempt(database, identify("acme", f"req-{number}")))).entry_id
        for number in range(3)
    ]
    with database.reading() as connection:
        in_order = select(ledger_entries.c.entry_id).order_by(ledger_entries.c.sequence)
        assert list(connection.execute(in_order).scalars()) == ids
        assert connection.execute(select(func.min(ledger_entries.c.sequence))).scalar() == 1
