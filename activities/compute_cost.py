"""`compute_cost`: what a run costs, from what the provider reported and the rate cards. Reads nothing else, writes nothing."""

from temporalio import activity

from gpt_image_runs.billing.pricing.cost import compute_cost
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.billing import Cost, CostInput


class CostComputer:
    """Prices runs by the cards that the worker was started with."""

    def __init__(self, cards: RateCards) -> None:
        self._cards = cards

    @activity.defn(name=names.COMPUTE_COST)
    async def compute_cost(self, order: CostInput) -> Cost:
        """The cost by token usage, else by a flagged estimate, else none with a reason. Pure."""
        return compute_cost(order, self._cards)
