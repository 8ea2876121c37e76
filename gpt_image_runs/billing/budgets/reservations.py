"""Reserve a tenant's money for an attempt, from before it is sent until its bill has an amount."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from gpt_image_runs.billing.budgets.budgets import refuse_beyond_budget
from gpt_image_runs.billing.budgets.spend import NOTHING, Account, Spend, count_spend, reserve
from gpt_image_runs.billing.records import AttemptOutcome, NewAttempt
from gpt_image_runs.database.tables import provider_attempts


def reserve_worst_case(connection: Connection, tenant: str, new: NewAttempt) -> None:
    """Reserve what an attempt can cost at most, before it is recorded.

    Raises:
        BudgetExceeded: its tenant may not spend that much; the caller has to roll back the transaction.
    """
    account = Account(tenant, new.sent_at, new.simulated)
    counted = count_spend(connection, account, reserve(new.reserved_micro_usd))
    refuse_beyond_budget(connection, tenant, new, counted)


def settle_reservation(connection: Connection, attempt: RowMapping, outcome: AttemptOutcome) -> None:
    """Release what an attempt reserved, where its outcome costs nothing.

    `attempt` is its row before the outcome, with its tenant. Only the answer may show that it was simulated: then the
    reservation moves to simulated money.
    """
    before = reserve(attempt["reserved_micro_usd"])
    after = before if outcome.outcome in {"succeeded", "unknown"} else NOTHING
    was = Account(attempt["tenant"], attempt["sent_at"], attempt["simulated"])
    now = was._replace(simulated=was.simulated if outcome.simulated is None else outcome.simulated)
    if now != was:
        # Real money first: two attempts that move in opposite directions would deadlock on each other's counters.
        for account, change in sorted([(was, NOTHING - before), (now, after)], key=_find_account):
            count_spend(connection, account, change)
    elif after != before:
        count_spend(connection, was, after - before)


def convert_reservation(connection: Connection, entry: Mapping[str, Any], worst_case: int | None) -> None:
    """Replace what an attempt reserved by the amount of its bill; a hold leaves it reserved."""
    if entry["amount_micro_usd"] is not None:
        _book(connection, entry, reserve(worst_case))


def book_correction(connection: Connection, entry: Mapping[str, Any], *, was_pending: bool) -> None:
    """Count a correction's difference as used, on the day of the attempt.

    The first amount after a hold releases what was reserved.
    """
    _book(connection, entry, _reserved_amount(connection, entry) if was_pending else NOTHING)


def _book(connection: Connection, entry: Mapping[str, Any], released: Spend) -> None:
    account = Account(entry["tenant"], entry["sent_at"], entry["simulated"])
    change = Spend(used=entry["amount_micro_usd"]) - released
    if change != NOTHING:
        count_spend(connection, account, change)


def _find_account(counted: tuple[Account, Spend]) -> Account:
    return counted[0]


def _reserved_amount(connection: Connection, entry: Mapping[str, Any]) -> Spend:
    query = select(provider_attempts.c.reserved_micro_usd)
    found = connection.execute(query.where(provider_attempts.c.attempt_id == entry["attempt_id"]))
    return reserve(found.scalar_one())
