"""What a tenant has spent, step by step: reserved before sending, released or kept by the outcome, settled by the bill."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.budgets.budgets import Budgets
from gpt_image_runs.billing.ledger.corrections import Corrections
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.records import Attempt, AttemptOutcome
from gpt_image_runs.billing.verification.spend import find_wrong_spend
from gpt_image_runs.contracts.billing import Cost
from gpt_image_runs.contracts.corrections import Correction
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.open import open_database
from tests.support.ledger.ledger_examples import (
    CHARGE,
    ESTIMATE,
    FINISHED_AT,
    HOLD,
    SENT_AT,
    SUCCEEDED,
    describe_attempt,
    identify,
    make_order,
)
from tests.support.runs.spending import ask

LOST = AttemptOutcome(outcome="unknown", finished_at=FINISHED_AT)
REJECTED = AttemptOutcome(outcome="rejected", finished_at=FINISHED_AT)
NOT_SENT = AttemptOutcome(outcome="not_sent", finished_at=FINISHED_AT)
OPEN = ("0.000000", "0.250000")
NOTHING = ("0.000000", "0.000000")
USAGE = {"input_tokens": 50, "output_tokens": 4160}


def spent(database: Database, *, simulated: bool = False) -> tuple[str, str]:
    """Return what acme has used and reserved on the day of the examples; day and month must agree."""
    assert list(find_wrong_spend(database)) == []
    shown = Budgets(database, lambda: SENT_AT).show("acme")
    day, month = ((period.simulated if simulated else period.real) for period in (shown.day, shown.month))
    assert day == month
    return day.used_usd, day.reserved_usd


def finish(database: Database, attempt: Attempt, *outcomes: AttemptOutcome) -> None:
    for outcome in outcomes:
        AttemptLog(database).finish(attempt.attempt_id, outcome)


def bill(database: Database, cost: Cost) -> Attempt:
    """Pay and bill a run."""
    attempt = ask(database)
    finish(database, attempt, SUCCEEDED)
    Ledger(database).record(make_order(attempt, cost))
    return attempt


def correct(database: Database, attempt: Attempt, action: str, **given: Any) -> None:
    order = {"action": action, "run_id": attempt.run_id, "reason": "ticket 7", "actor": "ada", **given}
    later = SENT_AT + timedelta(days=40)
    Corrections(database, RateCards.load(), lambda: later).settle(Correction.model_validate(order))


@pytest.mark.parametrize(
    ("outcomes", "left"),
    [
        ((), OPEN),
        ((REJECTED,), NOTHING),
        ((NOT_SENT,), NOTHING),
        ((LOST,), OPEN),
        ((SUCCEEDED,), OPEN),
        ((REJECTED, REJECTED), NOTHING),
        ((LOST, LOST), OPEN),
        ((LOST, REJECTED), NOTHING),
        ((LOST, NOT_SENT), NOTHING),
        ((LOST, SUCCEEDED), OPEN),
        ((SUCCEEDED, SUCCEEDED), OPEN),
    ],
)
def test_an_outcome_releases_or_keeps_what_is_reserved(
    database: Database, outcomes: tuple[AttemptOutcome, ...], left: tuple[str, str]
) -> None:
    """Rejected and not sent cost nothing; unknown stays reserved, and is released where it is settled so later."""
    finish(database, ask(database), *outcomes)
    assert spent(database) == left


@pytest.mark.parametrize(
    ("cost", "left"),
    [(CHARGE, ("0.166900", "0.000000")), (ESTIMATE, ("0.042240", "0.000000")), (HOLD, OPEN)],
)
def test_a_bill_takes_the_place_of_what_was_reserved(
    database: Database, cost: Cost, left: tuple[str, str]
) -> None:
    """A charge and an estimate are used, once, however often they are recorded; a hold keeps the worst case reserved."""
    attempt = bill(database, cost)
    Ledger(database).record(make_order(attempt, CHARGE))
    assert spent(database) == left


def test_a_bill_that_is_recorded_at_once_counts_once(database_url: str) -> None:
    """Twenty records of one run's bill at the same moment are one amount."""
    databases = [open_database(database_url, create=False) for _ in range(4)]
    attempt = ask(databases[0])
    finish(databases[0], attempt, SUCCEEDED)
    with ThreadPoolExecutor(20) as threads:
        list(threads.map(lambda place: Ledger(databases[place % 4]).record(make_order(attempt)), range(20)))
    assert spent(databases[0]) == ("0.166900", "0.000000")
    for database in databases:
        database.close()


def test_an_outcome_that_comes_twice_at_once_counts_once(database_url: str) -> None:
    """Ten workers that write the same rejection at the same moment release it once."""
    databases = [open_database(database_url, create=False) for _ in range(4)]
    ask(databases[0])
    attempt = ask(databases[0])
    with ThreadPoolExecutor(10) as threads:
        list(threads.map(lambda place: finish(databases[place % 4], attempt, REJECTED), range(10)))
    assert spent(databases[0]) == OPEN
    for database in databases:
        database.close()


@pytest.mark.parametrize(
    ("cost", "action", "given", "left"),
    [
        (HOLD, "reconcile", {"usage": USAGE}, "0.166900"),
        (HOLD, "reverse", {}, "0.000000"),
        (ESTIMATE, "reconcile", {"usage": USAGE}, "0.166900"),
        (CHARGE, "reconcile", {"usage": {**USAGE, "output_tokens": 1056}}, "0.042740"),
        (CHARGE, "reverse", {}, "0.000000"),
    ],
)
def test_a_correction_counts_on_the_day_of_its_request(
    database: Database, cost: Cost, action: str, given: dict[str, Any], left: str
) -> None:
    """A correction of forty days later changes what was used on the day of sending, and releases what a hold kept."""
    attempt = bill(database, cost)
    correct(database, attempt, action, **given)
    correct(database, attempt, action, **given)
    assert spent(database) == (left, "0.000000")


def test_a_correction_of_a_correction_releases_nothing_again(database: Database) -> None:
    """A hold that is settled and then corrected again counts its last amount, beside what another run reserves."""
    ask(database)
    attempt = bill(database, HOLD)
    correct(database, attempt, "reconcile", usage=USAGE)
    correct(database, attempt, "reconcile", usage={**USAGE, "output_tokens": 1056})
    assert spent(database) == ("0.042740", "0.250000")


def test_without_a_price_nothing_is_released(database: Database) -> None:
    """An attempt without a known price is counted, not added, until it has an amount or was rejected."""
    held, rejected, _ = (ask(database, needed=None) for _ in range(3))
    finish(database, held, SUCCEEDED)
    Ledger(database).record(make_order(held, HOLD))
    finish(database, rejected, REJECTED)
    assert spent(database) == NOTHING
    assert Budgets(database, lambda: SENT_AT).show("acme").day.real.unpriced == 2
    correct(database, held, "reconcile", usage=USAGE)
    assert spent(database) == ("0.166900", "0.000000")
    assert Budgets(database, lambda: SENT_AT).show("acme").day.real.unpriced == 1


def test_attempt_found_to_be_simulated_moves_to_simulated_money(database: Database) -> None:
    """Where only the answer tells that it was simulated, its reservation and its bill are those of simulated money."""
    attempt = ask(database)
    finish(database, attempt, replace(SUCCEEDED, simulated=True))
    assert (spent(database), spent(database, simulated=True)) == (NOTHING, OPEN)
    Ledger(database).record(make_order(attempt))
    assert (spent(database), spent(database, simulated=True)) == (NOTHING, ("0.166900", "0.000000"))


def test_a_second_payment_of_a_run_stays_reserved(database: Database) -> None:
    """Of two paid attempts of a run one is billed; the other one was paid too, and keeps its worst case reserved."""
    first, second = ask(database, "twice"), ask(database, "twice")
    for attempt in (first, second):
        finish(database, attempt, SUCCEEDED)
    Ledger(database).record(make_order(second))
    Ledger(database).record(make_order(first))
    assert spent(database) == ("0.166900", "0.250000")


def test_concurrent_runs_of_tenants_and_days_are_counted_apart(database_url: str) -> None:
    """Runs of three tenants on three days, carried out by twenty threads at once, are all counted where they belong."""
    databases = [open_database(database_url, create=False) for _ in range(4)]

    def carry_out(place: int) -> None:
        database = databases[place % 4]
        day = SENT_AT + timedelta(days=place % 3 * 4)
        attempt = ask(database, f"many-{place}", tenant=("acme", "zoo", "moon")[place % 5 % 3], at=day)
        finish(database, attempt, (SUCCEEDED, REJECTED, LOST)[place % 7 % 3])
        if place % 7 % 3 == 0:
            Ledger(database).record(make_order(attempt, (CHARGE, HOLD)[place % 2]))

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(carry_out, range(120)))
    assert list(find_wrong_spend(databases[0])) == []
    for database in databases:
        database.close()


def test_reservations_move_in_both_directions_at_once(database: Database) -> None:
    """Attempts that turn out to be simulated, and others that turn out to be real, never wait for each other in a circle."""
    log = AttemptLog(database)

    def turn(number: int) -> None:
        identity = identify("acme", f"turning-{number}")
        log.claim_run(identity)
        is_simulated = number % 2 == 0
        attempt = log.begin(replace(describe_attempt(identity.run_id), simulated=is_simulated))
        log.finish(attempt.attempt_id, replace(SUCCEEDED, simulated=not is_simulated))

    with ThreadPoolExecutor(10) as threads:
        list(threads.map(turn, range(60)))
    assert list(find_wrong_spend(database)) == []
