"""What goes into the workflow `BudgetChange` and its activity `change_budget`, and what comes out: budgets and their state."""

import hashlib
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, ValidationError

from gpt_image_runs.contracts.base import PLAIN_USD, Contract, JsonPattern
from gpt_image_runs.contracts.corrections import Actor, Reason
from gpt_image_runs.contracts.money import Usd, format_usd, parse_usd
from gpt_image_runs.contracts.problems import describe_value
from gpt_image_runs.contracts.request import TENANT_PATTERN

Period = Literal["month", "day"]

_MAX_MICRO_USD = 10**15
"""A billion USD: far above any budget, and far below what a database can count."""

ALLOWED = {
    "tenant": "1 to 63 characters of a-z, 0-9, dot, hyphen and underscore, such as acme",
    "limits": "an object with month, day or both, and nothing else",
    "limits.month": "an amount in USD from 0 to a billion, as a text such as 250.00, or null to lift the budget",
    "limits.day": "an amount in USD from 0 to a billion, as a text such as 20.00, or null to lift the budget",
    "reason": "a text of 1 to 500 characters, not blank, without control characters",
    "actor": "who decides: a text of 1 to 128 characters, not blank, without control characters",
}


def _read_limit(usd: str) -> str:
    micro_usd = parse_usd(usd)
    if not 0 <= micro_usd <= _MAX_MICRO_USD:
        raise ValueError("a budget is from 0 to a billion USD")
    return format_usd(micro_usd)


Limit = Annotated[str, AfterValidator(_read_limit), JsonPattern(PLAIN_USD)]
"""The most that may be spent: a decimal string in USD with up to 6 places, kept with 6."""


class BudgetDecision(Contract):
    """What somebody decides about a tenant's budget, and why.

    `limits` has the periods that are decided: an amount, or None where the budget of that period is lifted. A period that
    is not named keeps the budget that it has.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    tenant: Annotated[str, StringConstraints(pattern=TENANT_PATTERN)]
    limits: Annotated[dict[Period, Limit | None], Field(min_length=1)]
    reason: Reason
    actor: Actor

    @property
    def workflow_id(self) -> str:
        """The id of the workflow that carries it out: the same decision is under way once."""
        said = ",".join(f"{period}={limit}" for period, limit in sorted(self.limits.items()))
        return f"budget:{self.tenant}:{hashlib.sha256(said.encode()).hexdigest()[:16]}"


class PeriodSpend(Contract):
    """What a tenant has spent in a month or a day. `left_usd` is null where there is no budget, and may be negative.

    `reserved_usd` is the worst case of requests that are under way, whose outcome is unknown, or whose bill has no
    amount yet; of `unpriced` more, no price was known.
    """

    used_usd: Usd
    reserved_usd: Usd
    unpriced: int
    left_usd: Usd | None


class PeriodBudget(Contract):
    """The budget of one period, and how far it is spent. `limit_usd` is null where there is none.

    `span` is the month ("2026-11") or the day ("2026-11-23"), of UTC. Real and simulated money are never added: the budget
    holds for each.
    """

    period: Period
    span: str
    limit_usd: Usd | None
    reason: str | None
    actor: str | None
    decided_at: datetime | None
    real: PeriodSpend
    simulated: PeriodSpend


class TenantBudget(Contract):
    """What a tenant may spend, and has spent, this month and today."""

    tenant: str
    month: PeriodBudget
    day: PeriodBudget


class MalformedDecision(ValueError):
    """A decision that cannot be read; the message lists every problem."""


def read_decision(payload: Any) -> BudgetDecision:
    """Reads a decision about a budget from parsed JSON that anybody may have sent.

    Raises:
        MalformedDecision: with all that is wrong.
    """
    if not isinstance(payload, dict):
        raise MalformedDecision(f"The decision is {describe_value('decision', payload)}, no JSON object.")
    try:
        return BudgetDecision.model_validate(payload)
    except ValidationError as error:
        raise MalformedDecision(_describe(error)) from None


def _describe(error: ValidationError) -> str:
    problems = {}
    for detail in error.errors(include_url=False, include_context=False):
        place = [str(part) for part in detail["loc"] if part != "[key]"]
        name = ".".join(place)
        value = "absent" if detail["type"] == "missing" else describe_value(name, detail["input"])
        problems[name] = f"{name} is {value}; allowed: {ALLOWED.get(name, ALLOWED[place[0]])}."
    return " ".join(problems.values())
