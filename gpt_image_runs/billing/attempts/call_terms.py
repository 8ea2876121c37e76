"""Check a call's input against its request: the ids, the model and the worst case.

A `CallInput` comes from a workflow, and anybody who can start one in the namespace can write one. So nothing in it that
money depends on is trusted: the ids, the fingerprint, the model and the worst case are derived again here.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from gpt_image_runs.billing.attempts.runs import RunIdentity
from gpt_image_runs.billing.pricing.quotes import price_ceiling
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.calls import CallInput
from gpt_image_runs.contracts.fingerprints import fingerprint, mark_content
from gpt_image_runs.contracts.problems import Problem, describe_problems, describe_value
from gpt_image_runs.contracts.request import find_request_id
from gpt_image_runs.provider.catalog import Catalog


class TermsRefused(Exception):
    """A call's input contradicts its request. `problems` name the fields; the message lists them all."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(describe_problems(problems))
        self.problems = problems


@dataclass(frozen=True)
class CallTerms:
    """The terms of one provider's calls. `unpriced_models` as in the settings."""

    catalog: Catalog
    cards: RateCards
    unpriced_models: Literal["hold", "refuse"]

    def identify(self, order: CallInput, workflow_id: str) -> RunIdentity:
        """Build the identity of the run that a workflow calls for, from its request.

        Raises:
            TermsRefused: the ids in the input are not those of the request.
        """
        request = order.request
        request_id = find_request_id(request, workflow_id)
        _refuse(
            _differ("tenant", order.tenant, request.tenant),
            _differ("request_id", order.request_id, request_id),
            _differ("run_id", order.run_id, names.run_id_for(request.tenant, order.request_id)),
        )
        return RunIdentity(
            run_id=order.run_id,
            tenant=order.tenant,
            request_id=order.request_id,
            workflow_id=workflow_id,
            fingerprint=mark_content(fingerprint(request), request),
            operation=request.operation,
            requested_model=request.model,
        )

    def find_ceiling(self, order: CallInput, sent_at: datetime) -> int | None:
        """Return the worst case of the call in micro-USD, None where no price is known.

        Raises:
            TermsRefused: the model is not that of the request, or it has no price and the deployment refuses such models.
        """
        _refuse(self._check_model(order))
        ceiling = price_ceiling(self.catalog.provider, order.model, order.request, sent_at, self.cards)
        if ceiling is None and self.unpriced_models == "refuse":
            allowed = (
                f"a model with a price: none is known for {order.model} at {self.catalog.provider} on"
                f" {sent_at.date()}; add it to a rate card of your own (RATE_CARD)"
            )
            _refuse(Problem(field="model", value=describe_value("model", order.model), allowed=allowed))
        return ceiling

    def _check_model(self, order: CallInput) -> Problem | None:
        """Return a problem unless the model is the request's own or a replacement of it."""
        allowed, entry = [order.request.model], self.catalog.find(order.request.model)
        while entry is not None and entry.replacement and entry.replacement not in allowed:
            allowed.append(entry.replacement)
            entry = self.catalog.find(entry.replacement)
        if order.model in allowed:
            return None
        return Problem(
            field="model",
            value=describe_value("model", order.model),
            allowed=f"the request's own model or what replaces it: {', '.join(allowed)}",
        )


def _differ(field: str, handed: str, expected: str | None) -> Problem | None:
    if handed == expected:
        return None
    own = "one that the request or the workflow's id names" if expected is None else expected
    return Problem(
        field=field, value=describe_value(field, handed), allowed=f"what the request itself says: {own}"
    )


def _refuse(*problems: Problem | None) -> None:
    found = tuple(problem for problem in problems if problem is not None)
    if found:
        raise TermsRefused(found)
