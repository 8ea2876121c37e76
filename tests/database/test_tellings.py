"""Callbacks for metrics: each outcome and each entry is reported once, and only if it was written."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.ledger.corrections import Corrections
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.records import EndedAttempt
from gpt_image_runs.contracts.corrections import Correction
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import AttemptConflict, LedgerRefused
from tests.support.ledger.ledger_examples import (
    HOLD,
    SENT_AT,
    SUCCEEDED,
    begin_attempt,
    make_order,
    pay_attempt,
)


def test_each_new_outcome_is_reported_once(database: Database) -> None:
    """An unknown outcome that is settled later is reported twice; a repeated or a conflicting one is not."""
    told: list[EndedAttempt] = []
    log, attempt = AttemptLog(database, on_end=told.append), begin_attempt(database)
    lost = replace(SUCCEEDED, outcome="unknown")
    for outcome in (lost, lost, SUCCEEDED, SUCCEEDED):
        log.finish(attempt.attempt_id, outcome)
    with pytest.raises(AttemptConflict):
        log.finish(attempt.attempt_id, replace(SUCCEEDED, outcome="rejected"))

    assert told == [
        EndedAttempt(model="gpt-image-1", sent_at=SENT_AT, simulated=False, outcome=lost),
        EndedAttempt(model="gpt-image-1", sent_at=SENT_AT, simulated=False, outcome=SUCCEEDED),
    ]


def test_outcome_is_reported_as_the_response_says_simulated_or_not(database: Database) -> None:
    told: list[EndedAttempt] = []
    attempt = begin_attempt(database)
    AttemptLog(database, on_end=told.append).finish(attempt.attempt_id, replace(SUCCEEDED, simulated=True))

    assert [ended.simulated for ended in told] == [True]


def test_each_entry_is_reported_once_and_a_refused_one_never(database: Database) -> None:
    told: list[Mapping[str, Any]] = []
    ledger = Ledger(database, on_entry=told.append)
    order = make_order(pay_attempt(database))
    ledger.record(order)
    ledger.record(order)
    with pytest.raises(LedgerRefused):
        ledger.record(order.model_copy(update={"run_id": "image:acme:unheard-of"}))

    assert [(entry["kind"], entry["amount_micro_usd"], entry["image_count"]) for entry in told] == [
        ("charge", 166_900, 1)
    ]


def test_repeated_correction_is_reported_once(database: Database) -> None:
    told: list[Mapping[str, Any]] = []
    attempt = pay_attempt(database)
    Ledger(database).record(make_order(attempt, HOLD))
    usage: dict[str, Any] = {"input_tokens": 50, "output_tokens": 4160}
    order = Correction(run_id=attempt.run_id, action="reconcile", usage=usage, reason="4711", actor="ada")
    corrections = Corrections(database, RateCards.load(), on_entry=told.append)
    corrections.settle(order)
    corrections.settle(order)

    assert [(entry["kind"], entry["amount_micro_usd"]) for entry in told] == [("adjustment", 166_900)]
