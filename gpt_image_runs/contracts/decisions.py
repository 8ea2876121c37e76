"""The question of a held run, and the argument and answer of the Update `decide`."""

from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, Field

from gpt_image_runs.contracts.base import Contract, SparseContract
from gpt_image_runs.contracts.corrections import Actor, Reason
from gpt_image_runs.contracts.money import Usd

Choice = Literal["resend", "give_up"]


class UnknownAttempt(SparseContract):
    """A request that may have been paid for. `reserved_usd` is its worst case, absent where no price was known.

    `client_request_id` is what the provider's support can look for. `error_type` says how it ended, absent where
    nothing was ever heard of it.
    """

    attempt_id: str = Field(description="The attempt, as the ledger knows it.")
    client_request_id: str = Field(description="What the provider's support can look for.")
    provider_request_id: str | None = Field(
        default=None, description="The provider's own id, where it gave one."
    )
    sent_at: datetime = Field(description="When it was sent.")
    error_type: str | None = Field(
        default=None, description="How it ended; absent where nothing was ever heard of it."
    )
    reserved_usd: Usd | None = Field(
        default=None, description="Its worst case; absent where no price was known."
    )


class OpenDecision(Contract):
    """What a held run asks: to send once more although `attempts` may have been paid for, or to give up.

    `at_most_usd` is the sum of their worst cases, without the `unpriced` ones. `message` says it in a sentence. `sent` is how
    many requests were sent for the run in all, null where that is not known.
    """

    message: str = Field(description="What is to be decided, in a sentence.")
    attempts: tuple[UnknownAttempt, ...] = Field(description="The requests that may have been paid for.")
    at_most_usd: Usd = Field(
        description="The sum of their worst cases, a decimal string with 6 places, without the unpriced ones."
    )
    unpriced: int = Field(description="How many have no known worst case.")
    sent: int | None = Field(
        default=None, description="Requests that were sent for this run in all; null where that is not known."
    )


class Decision(SparseContract):
    """What somebody decides about a held run, and why: `resend` sends once more, `give_up` ends the run as failed."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    decision: Choice = Field(description="resend or give_up")
    reason: Reason
    actor: Actor


class DecisionTaken(Contract):
    """The answer to a decision: the stage that the run is at now, and in a sentence what happens."""

    run_id: str = Field(description="The run's id.")
    decision: Choice = Field(description="What was decided.")
    stage: Literal["generating", "failed"] = Field(description="The stage that the run is at now.")
    message: str = Field(description="What happens, in a sentence.")
