"""Activities on bills and prices: correct a bill, change a budget, find an earlier run, quote a price."""

import asyncio
from datetime import UTC, datetime

from temporalio import activity

from activities.errors import translate_errors
from gpt_image_runs.billing.attempts.runs import RunIdentity, find_earlier_run
from gpt_image_runs.billing.budgets.budgets import Budgets
from gpt_image_runs.billing.ledger.corrections import Corrections
from gpt_image_runs.billing.pricing.quotes import quote_price
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.budgets import BudgetDecision, TenantBudget
from gpt_image_runs.contracts.corrections import Correction, Settlement
from gpt_image_runs.contracts.quote import Quote, QuoteInput
from gpt_image_runs.contracts.submissions import EarlierRun, EarlierRunInput
from gpt_image_runs.database.engine import Database


class RunSettler:
    """Corrects bills in one ledger."""

    def __init__(self, corrections: Corrections) -> None:
        self._corrections = corrections

    @activity.defn(name=names.SETTLE_RUN)
    async def settle_run(self, correction: Correction) -> Settlement:
        """Write the correction's entry, or find it if it was written before.

        Raises:
            LedgerUnavailable: the database does not answer; retried until it does.
            CorrectionRefused: the correction would be wrong; not retried.
        """
        with translate_errors():
            return await asyncio.to_thread(self._corrections.settle, correction)


class BudgetChanger:
    """Changes budgets in one ledger."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets

    @activity.defn(name=names.CHANGE_BUDGET)
    async def change_budget(self, decision: BudgetDecision) -> TenantBudget:
        """Change a tenant's budget and return it with what is spent. A retried decision is written once.

        Raises:
            LedgerUnavailable: the database does not answer; retried until it does.
        """
        info = activity.info()
        key = f"{info.workflow_id}/{info.workflow_run_id}"
        with translate_errors():
            return await asyncio.to_thread(self._budgets.decide, key, decision)


class EarlierRunFinder:
    """Finds earlier runs in one ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @activity.defn(name=names.FIND_EARLIER_RUN)
    async def find_earlier_run(self, run: EarlierRunInput) -> EarlierRun:
        """Return whether the run's request id was used for other content, and whether the run was paid.

        Raises:
            LedgerUnavailable: the database does not answer; retried until it does.
        """
        with translate_errors():
            return await asyncio.to_thread(find_earlier_run, self._database, RunIdentity(**run.model_dump()))


class PriceQuoter:
    """Quotes prices by the rate cards that this worker also bills by."""

    def __init__(self, cards: RateCards) -> None:
        self._cards = cards

    @activity.defn(name=names.QUOTE_PRICE)
    async def quote_price(self, quote_input: QuoteInput) -> Quote:
        """Return the worst case and the expected price, at today's prices."""
        return quote_price(quote_input, datetime.now(UTC), self._cards)
