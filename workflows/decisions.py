"""The decision that a held run waits for: validate it, accept it, describe it."""

import asyncio
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.decisions import (
    Decision,
    DecisionTaken,
    OpenDecision,
)
from gpt_image_runs.contracts.problems import InvalidPayload, parse
from workflows.run_status import quote

_NOT_HELD = (
    "The run is not held: there is nothing to decide. A run waits for a decision only in the stage `held`, which the query"
    " `status` shows."
)


class DecisionQueue:
    """Passes a decision from an Update to the run that waits for it."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._answer: asyncio.Future[Decision] | None = None

    async def wait(self) -> Decision:
        """Return the decision once it is accepted. There is no timeout; a cancellation of the run ends the wait."""
        self._answer = asyncio.get_running_loop().create_future()
        return await self._answer

    def validate(self, payload: Any) -> Decision:
        """Parse a decision, given as JSON of unknown origin at any time.

        Raises:
            ApplicationError: type `DecisionRefused`. Nothing has changed.
        """
        self._find_question()
        try:
            return parse(Decision, payload, "decision")
        except InvalidPayload as error:
            raise _refused_error(str(error)) from None

    def accept(self, payload: Any) -> DecisionTaken:
        """Accept a valid decision and return what it leads to. Raises as `validate`."""
        question, decision = self._find_question(), self.validate(payload)
        question.set_result(decision)
        workflow.logger.info(
            "decision_accepted",
            extra={"decision": decision.decision, "actor": decision.actor, "reason": decision.reason},
        )
        if decision.decision == "resend":
            message = "The request is sent once more, unless an earlier one turns out to be answered."
            return DecisionTaken(run_id=self._run_id, decision="resend", stage="generating", message=message)
        message = "The run ends as failed. What may have been paid for stays in the exposure."
        return DecisionTaken(run_id=self._run_id, decision="give_up", stage="failed", message=message)

    def _find_question(self) -> asyncio.Future[Decision]:
        if self._answer is None or self._answer.done():
            raise _refused_error(_NOT_HELD)
        return self._answer


def find_open_decision(error: ActivityError) -> OpenDecision | None:
    """Return the decision that a failed call asks for, None if the call failed for another reason."""
    cause = error.cause
    if not isinstance(cause, ApplicationError) or cause.type != names.UNKNOWN_OUTCOME_HELD:
        return None
    return OpenDecision.model_validate(cause.details[0])


def describe_decision(decision: Decision) -> str:
    """Format a decision as one line: what, by whom, why."""
    words = "Sent again" if decision.decision == "resend" else "Given up"
    return f"{words} by {quote(decision.actor)}: {quote(decision.reason)}"


def describe_end(question: OpenDecision, decision: Decision) -> str:
    """Format why a run that was given up has failed: what may have been paid for, and who decided it."""
    attempts = ", ".join(attempt.attempt_id for attempt in question.attempts)
    return f"{question.message} The attempts are {attempts}. {describe_decision(decision)}"


def _refused_error(message: str) -> ApplicationError:
    return ApplicationError(message, type=names.DECISION_REFUSED, non_retryable=True)
