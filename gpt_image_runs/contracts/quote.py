"""What a request would cost: what goes into the activity `quote_price`, and what comes out. Nothing is started by it."""

from gpt_image_runs.contracts.base import Contract, SparseContract
from gpt_image_runs.contracts.money import Usd
from gpt_image_runs.contracts.request import ImageRequest, Operation


class QuoteInput(SparseContract):
    """A request that may run, and the model at the provider that it would be sent to."""

    request: ImageRequest
    model: str
    provider: str
    warnings: tuple[str, ...] = ()


class Quote(Contract):
    """The price of one request at this moment, by what we charge and beside it at the provider's list price.

    `ceiling_usd` is the worst case of one request to the provider, a bound far above the usual; null where the model has no
    price. A run whose answers are lost sends the request again, and each may have been paid. `expected_usd` is the
    estimated price of the pictures alone; null where there is no sound estimate, and `reason` says why. What the prompt costs comes
    on top and is not estimated; the ceiling has it.
    """

    operation: Operation
    model: str
    requested_model: str
    provider: str
    images: int
    ceiling_usd: Usd | None
    expected_usd: Usd | None
    reason: str | None
    rate_card: str | None
    list_ceiling_usd: Usd | None
    list_expected_usd: Usd | None
    list_rate_card: str | None
    warnings: tuple[str, ...] = ()
