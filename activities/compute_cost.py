"""The activity `compute_cost`: compute what a run costs from the reported usage and the rate cards. Pure."""

from temporalio import activity

from gpt_image_runs.billing.pricing.cost import compute_cost
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.billing import Cost, CostInput


class CostComputer:
    """Computes costs by the rate cards that the worker was started with."""

    def __init__(self, cards: RateCards) -> None:
        self._cards = cards

    @activity.defn(name=names.COMPUTE_COST)
    async def compute_cost(self, cost_input: CostInput) -> Cost:
        """Return the cost by token usage, else a flagged estimate, else no amount with a reason."""
        return compute_cost(cost_input, self._cards)
