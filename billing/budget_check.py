"""Whether an attempt may be sent: what its tenant has used and reserved, and what it needs, against the budgets."""

from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, func, select

from billing.attempt_records import NewAttempt
from billing.errors import BudgetExceeded
from billing.spend import Spend, name_spans
from billing.tables import budgets
from contracts.budgets import Period
from contracts.money import format_usd

_LATEST = select(budgets.c.period, budgets.c.limit_micro_usd).where(
    budgets.c.sequence.in_(
        select(func.max(budgets.c.sequence))
        .where(budgets.c.tenant == bindparam("tenant"))
        .group_by(budgets.c.period)
    )
)


def read_limits(connection: Connection, tenant: str) -> dict[Period, int]:
    """The budgets that a tenant has, in micro-USD, the month's before the day's. A budget that was lifted is none."""
    found = connection.execute(_LATEST, {"tenant": tenant})
    decided = {period: limit for period, limit in found if limit is not None}
    periods: tuple[Period, ...] = ("month", "day")
    return {period: decided[period] for period in periods if period in decided}


def refuse_beyond_budget(
    connection: Connection, tenant: str, new: NewAttempt, counted: Mapping[Period, Spend]
) -> None:
    """Refuses an attempt that could cost more than is left. `counted` is the spend with what it needs reserved already.

    Raises:
        BudgetExceeded: which budget it is, what is used, reserved and needed, and what to do.
    """
    limits = read_limits(connection, tenant)
    if not limits:
        return
    if new.reserved_micro_usd is None:
        raise BudgetExceeded(_explain_unpriced(tenant, new, limits))
    exceeded: dict[Period, int] = {
        period: limit
        for period, limit in limits.items()
        if counted[period].used + counted[period].reserved > limit
    }
    if exceeded:
        raise BudgetExceeded(_explain(tenant, new, exceeded, counted, new.reserved_micro_usd))


def _explain(
    tenant: str,
    new: NewAttempt,
    exceeded: Mapping[Period, int],
    counted: Mapping[Period, Spend],
    needed: int,
) -> str:
    spans, money = name_spans(new.sent_at), "simulated USD" if new.simulated else "USD"
    facts = "; ".join(
        f"of the {period}'s budget of {format_usd(limit)} {money} ({spans[period]}, UTC), {format_usd(counted[period].used)}"
        f" are used and {format_usd(counted[period].reserved - needed)} reserved"
        for period, limit in exceeded.items()
    )
    raised = " ".join(f"--{period} USD" for period in exceeded)
    return (
        f"The budget of tenant {tenant} does not allow this request, it was not sent. It needs up to {format_usd(needed)}"
        f" {money}; {facts}. Raise the budget (`python starter.py budget set {tenant} {raised} --reason TEXT`) or wait for the"
        f" next {' and '.join(exceeded)}, and submit the request again under the same id."
    )


def _explain_unpriced(tenant: str, new: NewAttempt, limits: Mapping[Period, int]) -> str:
    has = " and ".join(
        f"a budget of {format_usd(limit)} USD for the {period}" for period, limit in limits.items()
    )
    return (
        f"Tenant {tenant} has {has}, and no price is known for {new.model} at {new.provider}: nothing can be reserved"
        " for this request, so it was not sent. Add the model to a rate card of your own (RATE_CARD) and submit the"
        " request again under the same id."
    )
