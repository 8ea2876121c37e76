"""The health of a whole ledger, in a handful of numbers for graphs and alerts. Nothing is written here.

Each worker asks now and then, so every query reads only what is pending, lost or limited: final bills are not read, however
many there are. Real and simulated money are counted apart.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

from sqlalchemy import Connection, String, and_, case, cast, func, literal, select

from gpt_image_runs.billing.attempts.exposure import is_in_progress
from gpt_image_runs.billing.budgets.spend import name_spans
from gpt_image_runs.contracts.budgets import Period
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.tables import (
    IS_UNKNOWN,
    IS_WAITING,
    budgets,
    ledger_entries,
    provider_attempts,
    tenant_spend,
)

NEARLY_USED_PERCENT = 80


@dataclass(frozen=True, kw_only=True)
class MoneyStanding:
    """Bills that are not final, and attempts that may have been paid for nothing; of real or of simulated money.

    `exposed_micro_usd` is the worst case of the `exposed` attempts, without the `unpriced` ones, which have none.
    """

    pending: int = 0
    oldest_pending: datetime | None = None
    estimated: int = 0
    estimated_micro_usd: int = 0
    exposed: int = 0
    exposed_micro_usd: int = 0
    unpriced: int = 0


@dataclass(frozen=True, kw_only=True)
class BudgetStanding:
    """How many tenants have a budget for a period, and how much of it they have used.

    `nearly_used` used at least 80 %, `used_up` all of it; `highest_percent` is the most that one used. Reserved money
    counts as used. Real money only.
    """

    budgets: int = 0
    nearly_used: int = 0
    used_up: int = 0
    highest_percent: int = 0


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The health of a ledger at one moment. The key of `money` is whether it is simulated."""

    money: dict[bool, MoneyStanding]
    budgets: dict[Period, BudgetStanding]


def read_standing(database: Database, now: datetime) -> Standing:
    """Read the health of the ledger.

    Raises:
        LedgerUnavailable: the database does not answer.
    """
    with database.reading() as connection:
        waiting, exposed = _count_waiting(connection), _count_exposed(connection, now)
        uses = _read_uses(connection, now)
    return Standing(
        money={
            simulated: MoneyStanding(**waiting.get(simulated, {}), **exposed.get(simulated, {}))
            for simulated in (False, True)
        },
        budgets={period: _sum_up(uses[period]) for period in get_args(Period)},
    )


def _count_waiting(connection: Connection) -> dict[bool, dict[str, Any]]:
    entry, correction = ledger_entries.c, ledger_entries.alias()
    corrected = select(correction.c.sequence).where(correction.c.corrects == entry.entry_id).exists()
    query = (
        select(
            entry.kind,
            entry.simulated,
            func.count().label("bills"),
            func.sum(entry.amount_micro_usd).label("micro_usd"),
            func.min(entry.created_at, type_=entry.created_at.type).label("oldest"),
        )
        .where(IS_WAITING, ~corrected)
        .group_by(entry.kind, entry.simulated)
    )
    counted: dict[bool, dict[str, Any]] = {False: {}, True: {}}
    for row in connection.execute(query):
        counted[row.simulated] |= (
            {"pending": row.bills, "oldest_pending": row.oldest}
            if row.kind == "hold"
            else {"estimated": row.bills, "estimated_micro_usd": int(row.micro_usd)}
        )
    return counted


def _count_exposed(connection: Connection, now: datetime) -> dict[bool, dict[str, Any]]:
    attempt = provider_attempts.c
    query = (
        select(
            attempt.simulated,
            func.count().label("attempts"),
            func.count(attempt.reserved_micro_usd).label("priced"),
            func.sum(attempt.reserved_micro_usd).label("micro_usd"),
        )
        .where(IS_UNKNOWN, ~is_in_progress(now))
        .group_by(attempt.simulated)
    )
    return {
        row.simulated: {
            "exposed": row.attempts,
            "exposed_micro_usd": int(row.micro_usd or 0),
            "unpriced": row.attempts - row.priced,
        }
        for row in connection.execute(query)
    }


def _read_uses(connection: Connection, now: datetime) -> dict[Period, list[tuple[int, int]]]:
    """Return what is used and reserved, and the limit, of each budget that counts."""
    spans = name_spans(now)
    latest = select(func.max(budgets.c.sequence)).group_by(budgets.c.tenant, budgets.c.period)
    span = case(
        *((budgets.c.period == period, cast(literal(name), String)) for period, name in spans.items())
    )
    spend = tenant_spend.c
    query = (
        select(
            budgets.c.period,
            budgets.c.limit_micro_usd,
            func.coalesce(spend.used_micro_usd + spend.reserved_micro_usd, 0),
        )
        .outerjoin_from(
            budgets,
            tenant_spend,
            and_(spend.tenant == budgets.c.tenant, spend.span == span, spend.simulated.is_(False)),
        )
        .where(budgets.c.sequence.in_(latest), budgets.c.limit_micro_usd.is_not(None))
    )
    uses: dict[Period, list[tuple[int, int]]] = {period: [] for period in spans}
    for period, limit, used in connection.execute(query):
        uses[period].append((used, limit))
    return uses


def _sum_up(uses: list[tuple[int, int]]) -> BudgetStanding:
    # A budget of nothing is used up from the start.
    percents = [used * 100 // limit if limit else 100 for used, limit in uses]
    return BudgetStanding(
        budgets=len(percents),
        nearly_used=sum(percent >= NEARLY_USED_PERCENT for percent in percents),
        used_up=sum(percent >= 100 for percent in percents),  # noqa: PLR2004  all of it
        highest_percent=max(percents, default=0),
    )
