"""`settle_run`: one correction of a run's bill into the ledger, once."""

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
    async def settle_run(self, order: Correction) -> Settlement:
        """The correction's entry: made now, or found where it was made before.

        Raises:
            LedgerUnavailable: the database does not answer; Temporal tries again until it does.
            CorrectionRefused: the correction would not be true; not tried again.
        """
        with translate_errors():
            return await asyncio.to_thread(self._corrections.settle, order)


class BudgetChanger:
    """Decides budgets in one ledger."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets

    @activity.defn(name=names.CHANGE_BUDGET)
    async def change_budget(self, decision: BudgetDecision) -> TenantBudget:
        """What the tenant may spend from now on, and has spent. A decision that is tried again is written once.

        Raises:
            LedgerUnavailable: the database does not answer; Temporal tries again until it does.
        """
        info = activity.info()
        key = f"{info.workflow_id}/{info.workflow_run_id}"
        with translate_errors():
            return await asyncio.to_thread(self._budgets.decide, key, decision)


class EarlierRunFinder:
    """Looks into one ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @activity.defn(name=names.FIND_EARLIER_RUN)
    async def find_earlier_run(self, order: EarlierRunInput) -> EarlierRun:
        """Whether the run's request id stands for other content, and whether it was paid.

        Raises:
            LedgerUnavailable: the database does not answer; Temporal tries again until it does.
        """
        with translate_errors():
            return await asyncio.to_thread(
                find_earlier_run, self._database, RunIdentity(**order.model_dump())
            )


class PriceQuoter:
    """Quotes prices by the cards that the worker was started with: those that it would bill by."""

    def __init__(self, cards: RateCards) -> None:
        self._cards = cards

    @activity.defn(name=names.QUOTE_PRICE)
    async def quote_price(self, order: QuoteInput) -> Quote:
        """The worst case and the expected price, at today's prices."""
        return quote_price(order, datetime.now(UTC), self._cards)
