"""Price quotes: input and output of the activity `quote_price`, which starts nothing."""

from pydantic import Field

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

    operation: Operation = Field(description="What would be done: edit where the request has images.")
    model: str = Field(description="The model that would be called, and whose price applies.")
    requested_model: str = Field(description="The model that was asked for.")
    provider: str = Field(description="Whose calendar of models and whose prices apply.")
    images: int = Field(description="How many pictures.")
    ceiling_usd: Usd | None = Field(
        description="The worst case of one request to the provider, a decimal string with 6 places; null where the model has no price."
    )
    expected_usd: Usd | None = Field(
        description="The estimated price of the pictures, without the prompt; null where there is no sound estimate."
    )
    reason: str | None = Field(description="Why there is no expected price; null where there is one.")
    rate_card: str | None = Field(description="The id of the prices that would be charged by.")
    list_ceiling_usd: Usd | None = Field(description="The worst case at the provider's list price.")
    list_expected_usd: Usd | None = Field(description="The expected price at the provider's list price.")
    list_rate_card: str | None = Field(description="The id of the provider's list prices.")
    warnings: tuple[str, ...] = Field(default=(), description="Sentences for the person who asks.")
