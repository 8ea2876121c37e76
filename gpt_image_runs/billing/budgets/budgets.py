"""The budgets of tenants: set by appending a row, shown beside what is spent, and checked before an attempt is sent."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, func, select

from gpt_image_runs.billing.budgets.spend import NOTHING, Spend, name_spans
from gpt_image_runs.billing.records import NewAttempt
from gpt_image_runs.billing.seals import append_seal, hash_numbered, lock_chain
from gpt_image_runs.contracts.budgets import BudgetDecision, Period, PeriodBudget, PeriodSpend, TenantBudget
from gpt_image_runs.contracts.money import format_usd, parse_usd
from gpt_image_runs.database.engine import Database, insert_once
from gpt_image_runs.database.errors import BudgetExceeded
from gpt_image_runs.database.tables import budgets, tenant_spend
from gpt_image_runs.database.types import utc_now


class Budgets:
    """The budgets of one ledger. Safe to share between threads and processes."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    def decide(self, key: str, decision: BudgetDecision) -> TenantBudget:
        """Record a decision, once for each `key`, and return the budget that counts from now on.

        Raises:
            LedgerUnavailable: try again; nothing was written, or the same call will find what was.
        """
        now = self._clock()
        with self._database.writing() as connection:
            lock_chain(connection, decision.tenant)
            for period, limit in decision.limits.items():
                budget_key = f"{key}#{period}"
                if _is_written(connection, budget_key):
                    continue
                row = {
                    "budget_key": budget_key,
                    "tenant": decision.tenant,
                    "period": period,
                    "limit_micro_usd": None if limit is None else parse_usd(limit),
                    "reason": decision.reason,
                    "actor": decision.actor,
                    "created_at": now,
                }
                if insert_once(connection, budgets, row, key="budget_key"):
                    content_hash = hash_numbered(budgets, row, connection)
                    append_seal(connection, decision.tenant, "budget", budget_key, content_hash)
            return _show(connection, decision.tenant, now)

    def show(self, tenant: str) -> TenantBudget:
        """Return what a tenant may spend and has spent, this month and today (UTC).

        A tenant without a budget has one without limits.
        """
        with self._database.reading() as connection:
            return _show(connection, tenant, self._clock())

    def list_all(self) -> tuple[TenantBudget, ...]:
        """Return the budgets of all tenants that have one, sorted by name."""
        now = self._clock()
        with self._database.reading() as connection:
            latest = select(func.max(budgets.c.sequence)).group_by(budgets.c.tenant, budgets.c.period)
            limited = select(budgets.c.tenant).where(
                budgets.c.sequence.in_(latest), budgets.c.limit_micro_usd.is_not(None)
            )
            tenants = sorted(set(connection.execute(limited).scalars()))
            return tuple(_show(connection, tenant, now) for tenant in tenants)


def _is_written(connection: Connection, budget_key: str) -> bool:
    query = select(budgets.c.sequence).where(budgets.c.budget_key == budget_key)
    return connection.execute(query).first() is not None


def _show(connection: Connection, tenant: str, now: datetime) -> TenantBudget:
    spans = name_spans(now)
    latest = select(func.max(budgets.c.sequence)).where(budgets.c.tenant == tenant).group_by(budgets.c.period)
    rows = connection.execute(select(budgets).where(budgets.c.sequence.in_(latest))).mappings()
    decided = {row["period"]: row for row in rows}
    counters = select(tenant_spend).where(
        tenant_spend.c.tenant == tenant, tenant_spend.c.span.in_(spans.values())
    )
    spend = {
        (row["span"], row["simulated"]): Spend(
            row["used_micro_usd"], row["reserved_micro_usd"], row["unpriced"]
        )
        for row in connection.execute(counters).mappings()
    }
    shown = {period: _view(period, span, decided.get(period), spend) for period, span in spans.items()}
    return TenantBudget(tenant=tenant, month=shown["month"], day=shown["day"])


def _view(
    period: Period, span: str, decided: RowMapping | None, spend: Mapping[tuple[str, bool], Spend]
) -> PeriodBudget:
    said: Mapping[Any, Any] = {} if decided is None else decided
    limit = said.get("limit_micro_usd")
    return PeriodBudget(
        period=period,
        span=span,
        limit_usd=None if limit is None else format_usd(limit),
        reason=said.get("reason"),
        actor=said.get("actor"),
        decided_at=said.get("created_at"),
        real=_view_spend(spend.get((span, False), NOTHING), limit),
        simulated=_view_spend(spend.get((span, True), NOTHING), limit),
    )


def _view_spend(spend: Spend, limit: int | None) -> PeriodSpend:
    return PeriodSpend(
        used_usd=format_usd(spend.used),
        reserved_usd=format_usd(spend.reserved),
        unpriced=spend.unpriced,
        left_usd=None if limit is None else format_usd(limit - spend.used - spend.reserved),
    )


_LATEST = select(budgets.c.period, budgets.c.limit_micro_usd).where(
    budgets.c.sequence.in_(
        select(func.max(budgets.c.sequence))
        .where(budgets.c.tenant == bindparam("tenant"))
        .group_by(budgets.c.period)
    )
)


def read_limits(connection: Connection, tenant: str) -> dict[Period, int]:
    """Return a tenant's limits in micro-USD, the month's before the day's.

    A budget that was lifted is left out.
    """
    found = connection.execute(_LATEST, {"tenant": tenant})
    decided = {period: limit for period, limit in found if limit is not None}
    periods: tuple[Period, ...] = ("month", "day")
    return {period: decided[period] for period in periods if period in decided}


def refuse_beyond_budget(
    connection: Connection, tenant: str, new: NewAttempt, counted: Mapping[Period, Spend]
) -> None:
    """Raise BudgetExceeded where an attempt could cost more than is left.

    `counted` is the spend with what the attempt needs already reserved.

    Raises:
        BudgetExceeded: names the budget, what is used, reserved and needed, and what to do.
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
        f"The budget of tenant {tenant} does not allow this request; nothing was sent. It needs up to {format_usd(needed)}"
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
