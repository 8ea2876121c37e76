"""Tenant budgets: input and output of the workflow `BudgetChange` and its activity `change_budget`."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from gpt_image_runs.contracts.base import PLAIN_USD, Contract, JsonPattern
from gpt_image_runs.contracts.corrections import Actor, Reason
from gpt_image_runs.contracts.money import Usd, format_usd, parse_usd
from gpt_image_runs.contracts.request import TENANT_PATTERN

Period = Literal["month", "day"]

# A billion USD: far above any budget, and far below the database's integer limit.
_MAX_MICRO_USD = 10**15


def _read_limit(usd: str) -> str:
    micro_usd = parse_usd(usd)
    if not 0 <= micro_usd <= _MAX_MICRO_USD:
        raise ValueError("a budget is from 0 to a billion USD")
    return format_usd(micro_usd)


# The most that may be spent: a decimal string in USD with up to 6 places, kept with 6.
Limit = Annotated[str, AfterValidator(_read_limit), JsonPattern(PLAIN_USD)]


class BudgetDecision(Contract):
    """What somebody decides about a tenant's budget, and why.

    `limits` has the periods that are decided: an amount, or None where the budget of that period is lifted. A period that
    is not named keeps the budget that it has.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)
    nested_descriptions: ClassVar[Mapping[str, str]] = {
        "limits.month": "an amount in USD from 0 to a billion, as a text such as 250.00, or null to lift the budget",
        "limits.day": "an amount in USD from 0 to a billion, as a text such as 20.00, or null to lift the budget",
    }

    tenant: Annotated[str, StringConstraints(pattern=TENANT_PATTERN)] = Field(
        description="1 to 63 characters of a-z, 0-9, dot, hyphen and underscore, such as acme"
    )
    limits: Annotated[dict[Period, Limit | None], Field(min_length=1)] = Field(
        description="an object with month, day or both, and nothing else"
    )
    reason: Reason
    actor: Actor

    @property
    def workflow_id(self) -> str:
        """The id of its workflow, so that the same decision is carried out only once at a time."""
        said = ",".join(f"{period}={limit}" for period, limit in sorted(self.limits.items()))
        return f"budget:{self.tenant}:{hashlib.sha256(said.encode()).hexdigest()[:16]}"


class PeriodSpend(Contract):
    """What a tenant has spent in a month or a day. `left_usd` is null where there is no budget, and may be negative.

    `reserved_usd` is the worst case of requests that are under way, whose outcome is unknown, or whose bill has no
    amount yet; of `unpriced` more, no price was known.
    """

    used_usd: Usd = Field(description="What is spent, a decimal string with 6 places.")
    reserved_usd: Usd = Field(description="The worst case of what is under way, lost, or not billed yet.")
    unpriced: int = Field(description="Requests more whose price is not known.")
    left_usd: Usd | None = Field(
        description="What is left of the budget; below zero where it was lowered; null where there is none."
    )


class PeriodBudget(Contract):
    """The budget of one period, and how far it is spent. `limit_usd` is null where there is none.

    `span` is the month ("2026-11") or the day ("2026-11-23"), of UTC. Real and simulated money are never added: the budget
    holds for each.
    """

    period: Period = Field(description="month or day.")
    span: str = Field(description="The month (2026-11) or the day (2026-11-23), of UTC.")
    limit_usd: Usd | None = Field(
        description="The most that may be spent, a decimal string with 6 places; null where there is no budget."
    )
    reason: str | None = Field(description="Why it was decided; null where it never was.")
    actor: str | None = Field(description="Who decided it.")
    decided_at: datetime | None = Field(description="When.")
    real: PeriodSpend = Field(description="What real money was spent; the budget holds for it.")
    simulated: PeriodSpend = Field(
        description="What the simulator was asked for; the budget holds for it likewise, and the two are never added."
    )


class TenantBudget(Contract):
    """What a tenant may spend, and has spent, this month and today."""

    tenant: str = Field(description="Whose budget it is.")
    month: PeriodBudget = Field(description="That of this month.")
    day: PeriodBudget = Field(description="That of today.")
