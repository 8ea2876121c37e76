"""Tenants that spend, for tests: requests that ask for their turn, and budgets that are decided. No test here."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from itertools import count

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.budgets.budgets import Budgets
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.records import Attempt
from gpt_image_runs.contracts.budgets import BudgetDecision
from gpt_image_runs.contracts.money import format_usd
from gpt_image_runs.database.engine import Database
from tests.support.ledger.ledger_examples import (
    CHARGE,
    SENT_AT,
    SUCCEEDED,
    describe_attempt,
    identify,
    make_order,
)

# Micro-USD that an attempt of the examples reserves.
WORST_CASE = 250_000
# Ten requests fit into it however they overlap, and no eleventh: ten bills and one worst case are 2,650,000.
TEN = 10 * WORST_CASE
BILL = CHARGE.model_copy(update={"amount_usd": "0.240000"})
numbers = count()


def decide(database: Database, limits: Mapping[str, int | None], *, tenant: str = "acme") -> None:
    """Budgets in micro-USD."""
    decision = {period: None if limit is None else format_usd(limit) for period, limit in limits.items()}
    Budgets(database).decide(
        f"decision-{next(numbers)}",
        BudgetDecision.model_validate(
            {"tenant": tenant, "limits": decision, "reason": "a trial", "actor": "ada"}
        ),
    )


def ask(
    database: Database,
    request_id: str | None = None,
    *,
    tenant: str = "acme",
    at: datetime = SENT_AT,
    needed: int | None = WORST_CASE,
    simulated: bool = False,
) -> Attempt:
    """Begin the first attempt of a new run."""
    identity, log = identify(tenant, request_id or f"asked-{next(numbers)}"), AttemptLog(database)
    log.claim_run(identity)
    new = replace(describe_attempt(identity.run_id), sent_at=at, reserved_micro_usd=needed)
    return log.begin(replace(new, simulated=simulated))


def spend_and_bill(database: Database, request_id: str) -> None:
    """Reserve, pay and bill a run."""
    attempt = ask(database, request_id)
    AttemptLog(database).finish(attempt.attempt_id, SUCCEEDED)
    Ledger(database).record(make_order(attempt, BILL))
