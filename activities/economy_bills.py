"""What a line of an economy batch costs, and its entry in the ledger: the same billing as for runs by themselves, at batch prices."""

from activities.economy_documents import PlannedLine
from billing.attempt_pricing import carry_usage
from billing.attempt_records import Attempt
from billing.costs import compute_cost
from billing.ledger import Ledger
from billing.rate_cards import RateCards
from contracts.billing import BillingInput, BillingRecord, CostInput


class LineBiller:
    """Bills lines that were paid, by the cards that the worker was started with."""

    def __init__(self, ledger: Ledger, cards: RateCards) -> None:
        self._ledger = ledger
        self._cards = cards

    def bill(self, line: PlannedLine, paid: Attempt) -> BillingRecord:
        """The entry of a line's run: made now, or found where it was made before.

        Raises:
            LedgerUnavailable: try again.
        """
        usage, usage_problem = carry_usage(paid.response, paid.attempt_id)
        cost = compute_cost(
            CostInput(
                provider=paid.provider,
                model=paid.model,
                usage=usage,
                usage_problem=usage_problem,
                missing_usage=line.missing_usage,
                operation=line.operation,
                images=len(paid.images or ()),
                size=paid.size,
                quality=paid.quality,
                output_format=paid.output_format,
                sent_at=paid.sent_at,
                mode="batch",
            ),
            self._cards,
        )
        return self._ledger.bill(
            BillingInput(
                run_id=paid.run_id, attempt_id=paid.attempt_id, cost=cost, metadata=line.metadata or {}
            ),
            self._cards,
        )
