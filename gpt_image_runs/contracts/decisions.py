"""What a held run asks, and what somebody decides: the argument and the answer of the Update `decide`."""

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError

from gpt_image_runs.contracts import corrections
from gpt_image_runs.contracts.base import Contract, SparseContract
from gpt_image_runs.contracts.corrections import Actor, Reason
from gpt_image_runs.contracts.money import Usd
from gpt_image_runs.contracts.problems import describe_value

Choice = Literal["resend", "give_up"]

ALLOWED = {
    "decision": "resend or give_up",
    "reason": corrections.ALLOWED["reason"],
    "actor": corrections.ALLOWED["actor"],
}


class UnknownAttempt(SparseContract):
    """A request that may have been paid for. `reserved_usd` is its worst case, absent where no price was known.

    `client_request_id` is what the provider's support can look for. `error_type` says how it ended, absent where
    nothing was ever heard of it.
    """

    attempt_id: str
    client_request_id: str
    provider_request_id: str | None = None
    sent_at: datetime
    error_type: str | None = None
    reserved_usd: Usd | None = None


class OpenDecision(Contract):
    """What a held run asks: to send once more although `attempts` may have been paid for, or to give up.

    `at_most_usd` is the sum of their worst cases, without the `unpriced` ones. `message` says it in a sentence. `sent` is how
    many requests were sent for the run in all, null where that is not known.
    """

    message: str
    attempts: tuple[UnknownAttempt, ...]
    at_most_usd: Usd
    unpriced: int
    sent: int | None = None


class Decision(SparseContract):
    """What somebody decides about a held run, and why: `resend` sends once more, `give_up` ends the run as failed."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    decision: Choice
    reason: Reason
    actor: Actor


class DecisionTaken(Contract):
    """The answer to a decision: the stage that the run is at now, and in a sentence what happens."""

    run_id: str
    decision: Choice
    stage: Literal["generating", "failed"]
    message: str


class MalformedDecision(ValueError):
    """A decision that cannot be read; the message lists every problem."""


def read_decision(payload: Any) -> Decision:
    """Reads a decision from parsed JSON that anybody may have sent.

    Raises:
        MalformedDecision: with all that is wrong.
    """
    if not isinstance(payload, dict):
        raise MalformedDecision(f"The decision is {describe_value('decision', payload)}, no JSON object.")
    try:
        return Decision.model_validate(payload)
    except ValidationError as error:
        problems = {
            str(detail["loc"][0]): "absent"
            if detail["type"] == "missing"
            else describe_value("decision", detail["input"])
            for detail in error.errors(include_url=False, include_context=False)
        }
        sentences = [f"{field} is {value}; allowed: {ALLOWED[field]}." for field, value in problems.items()]
        raise MalformedDecision(" ".join(sentences)) from None
