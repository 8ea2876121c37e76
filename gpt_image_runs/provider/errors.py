"""How a request to the provider can fail: one class per kind, named as operators search for it.

* ProviderFailure
  x NotSent                  nothing was sent: free, and safe to repeat
    + ProviderNotConfigured
    + ConnectionFailed
    + TransferBroken
  x Rejected                 answered, not carried out
    + AuthenticationFailed
    + AccessDenied
    + QuotaExhausted
    + BillingLimitReached
    + InvalidRequest
    + ContentRefused
    + ModelNotFound
    + EndpointNotFound
    + ObjectGone
    + UnexpectedRedirect
    + RateLimited
    + RequestOverLimit
    + ServerOverloaded
    + ServerError
    + Conflict
  x PerhapsPaid              sent, and nobody can tell whether it was carried out
    + AnswerLost
    + GatewayError
    + RequestTimeout
    + StreamFailed
    + MalformedAnswer
    + OutputRefused

Which answer becomes which class is decided in `gpt_image_runs.provider.error_mapping`. What to do about it (wait, repeat, give up, put
on the bill) is the caller's business, as is Temporal.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Outcome = Literal["rejected", "not_sent", "unknown"]

LONGEST_MESSAGE = 2_000
"""Characters of the provider's message that are kept."""
MAX_RAW_BODY = 64 * 1024
"""Bytes of an answer's body that are kept where its outcome is unknown."""
_CHARGED = "It was charged, and its usage is on the run's bill."
_SEND_AGAIN = "To send it again, give the request another request_id."


@dataclass(kw_only=True, eq=False, repr=False)
class ProviderFailure(Exception):
    """A request that brought no pictures. `str()` is a sentence that says what is wrong and what to do.

    `provider_message` is the provider's own text, `code`, `provider_type` and `param` are its error's fields,
    `detail` is ours. `raw_body` is kept where the outcome is unknown, `response` is what could be read of a success that
    brought no pictures, without their data: its `usage` says what was charged. No field ever holds the API key.
    """

    outcome: ClassVar[Outcome]
    transient: ClassVar[bool] = False
    summary: ClassVar[str]
    advice: ClassVar[str]

    detail: str = ""
    http_status: int | None = None
    provider_message: str = ""
    code: str | None = None
    provider_type: str | None = None
    param: str | None = None
    provider_request_id: str | None = None
    moderation_categories: tuple[str, ...] = ()
    retry_after_seconds: float | None = None
    told_not_to_retry: bool = False
    raw_body: bytes | None = None
    response: dict[str, Any] | None = None

    @property
    def usage(self) -> Any:
        """What the provider says that it used, verbatim; None where it does not say."""
        return (self.response or {}).get("usage") or None

    @property
    def is_charged(self) -> bool:
        """Whether the provider reports usage of any kind: then the request was charged, whatever else came of it."""
        response = self.response or {}
        return bool(response.get("usage") or response.get("svg_usage"))

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later. Where the outcome is unknown, repeating it may pay twice."""
        return self.transient and not self.told_not_to_retry

    def __str__(self) -> str:
        labels = [
            f"HTTP {self.http_status}" if self.http_status else "",
            self.code or "",
            f"categories {', '.join(self.moderation_categories)}" if self.moderation_categories else "",
            f"request {self.provider_request_id}" if self.provider_request_id else "",
        ]
        known = ", ".join(label for label in labels if label)
        head = f"{self.summary} ({known})" if known else self.summary
        story = ": ".join(part for part in (head, self.detail, self.provider_message) if part)
        return f"{story if story.endswith(('.', '!', '?')) else story + '.'} {self._advise()}"

    def _advise(self) -> str:
        return f"{_CHARGED} {_SEND_AGAIN}" if self.is_charged else self.advice

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"


class NotSent(ProviderFailure):
    """Nothing was sent, so nothing can have been paid."""

    outcome = "not_sent"


class Rejected(ProviderFailure):
    """The provider answered and did not carry the request out."""

    outcome = "rejected"


class PerhapsPaid(ProviderFailure):
    """The request was sent, and nobody can tell whether it was carried out and charged, unless it reports `usage`."""

    outcome = "unknown"

    def _advise(self) -> str:
        if not self.is_charged:
            return self.advice
        _, _, rest = self.advice.partition(". ")  # the first sentence is the doubt
        return f"{_CHARGED} {rest or _SEND_AGAIN}"


class ProviderNotConfigured(NotSent):
    """A setting is missing or cannot work."""

    summary = "The provider is not configured"
    advice = "Correct the setting and start the worker again."


class ConnectionFailed(NotSent):
    """No connection: DNS, refused, TLS, a proxy, or none free in time."""

    summary = "No connection to the provider, nothing was sent"
    advice = "Check the network and OPENAI_BASE_URL; repeating the request is safe."
    transient = True


class TransferBroken(NotSent):
    """A file on its way up or down, or a look at a batch, broke off: none of these is ever paid for."""

    summary = "An exchange with the provider that costs nothing broke off"
    advice = "It can be repeated."
    transient = True


class AuthenticationFailed(Rejected):
    """401: the key is wrong, revoked, or not allowed from this address."""

    summary = "The provider refused the API key"
    advice = "Set OPENAI_API_KEY to a key that is valid there, and start the worker again."


class AccessDenied(Rejected):
    """403: the organization is not verified, the project has no access to the model, or the region is not served."""

    summary = "The provider denies this account the access"
    advice = "Verify the organization, or give its project access to the model, in the provider's console."


class QuotaExhausted(Rejected):
    """The account's credit or spending limit is used up; waiting does not help."""

    summary = "The provider's account has no credit or quota left"
    advice = "Add credit or raise the limit in the provider's console; no request will succeed before."


class BillingLimitReached(Rejected):
    """The account's hard billing limit is reached. It comes as HTTP 400, not 429."""

    summary = "The provider's account has reached its hard billing limit"
    advice = "Raise the limit in the provider's console; no request will succeed before."


class InvalidRequest(Rejected):
    """The provider finds a fault in the request itself."""

    summary = "The provider refused the request"
    advice = "Correct the request; unchanged it will be refused again."


class ContentRefused(Rejected):
    """The safety system refused the prompt or the pictures, before anything was drawn as far as it says."""

    summary = "The provider's safety system refused the request"
    advice = "Change the prompt or the pictures; unchanged it will be refused again."


class ModelNotFound(Rejected):
    """The model does not exist, or no longer."""

    summary = "The provider does not know the model, or has shut it down"
    advice = "Choose a model that is live: `python starter.py models` lists them."


class EndpointNotFound(Rejected):
    """There is no Images API at this address."""

    summary = "The address has no Images API"
    advice = "Check OPENAI_BASE_URL: for OpenAI's own API leave it unset, elsewhere it often ends in /v1."


class ObjectGone(Rejected):
    """404 for a file or a batch that was there: files are deleted 30 days after their batch, or by hand."""

    summary = "The provider has no such file or batch any more"
    advice = "Look for it in the provider's console."


class UnexpectedRedirect(Rejected):
    """A 3xx. It is not followed: a repeated POST would be a second request that nobody counted."""

    summary = "The provider redirected the request, which is not followed"
    advice = "Set OPENAI_BASE_URL to the address that answers itself."


class RateLimited(Rejected):
    """Too many requests, images or tokens in a minute; refused before any work."""

    summary = "The provider's rate limit is reached"
    advice = "The request can be repeated after a while; lower the queue's rate if this happens often."
    transient = True


class RequestOverLimit(Rejected):
    """429 for a request that alone asks for more than a whole minute may have: it never fits, however long one waits."""

    summary = "The request alone is more than the provider's limit for a minute"
    advice = "Ask for fewer pictures or send fewer inputs, or have the account's limit raised."


class ServerOverloaded(Rejected):
    """503, said by the API itself: refused before any work."""

    summary = "The provider is overloaded"
    advice = "The request can be repeated after a while."
    transient = True


class ServerError(Rejected):
    """500 with the API's own error object: the API itself says that it failed and hands out neither picture nor usage."""

    summary = "The provider failed while it worked on the request"
    advice = "The request can be repeated; tell the provider its request id if this goes on."
    transient = True


class Conflict(Rejected):
    """409: the provider could not take a lock."""

    summary = "The provider was busy with something that conflicts with the request"
    advice = "The request can be repeated."
    transient = True


class AnswerLost(PerhapsPaid):
    """The connection broke or the time ran out after sending began: the job may go on there, and be charged."""

    summary = "The request was sent, but its answer was lost"
    advice = "It may have been carried out and charged; repeating it may pay twice."
    transient = True


class GatewayError(PerhapsPaid):
    """502, 504, or a 5xx that is not the API's own: something in between gave up, the API may not have."""

    summary = "A gateway between here and the provider gave up on the request"
    advice = "It may have been carried out and charged; repeating it may pay twice."
    transient = True


class RequestTimeout(PerhapsPaid):
    """408: gateways answer it for a time-out behind them too, where the work may go on."""

    summary = "The provider or a gateway timed out on the request"
    advice = "It may have been carried out and charged; repeating it may pay twice."
    transient = True


class StreamFailed(PerhapsPaid):
    """An error event within a stream: the work had begun, and what was drawn of it may be charged."""

    summary = "The provider failed in the middle of its answer"
    advice = "What was drawn may have been charged; repeating the request may pay twice."
    transient = True


class OutputRefused(PerhapsPaid):
    """The safety system refused the finished picture, or does not say at which stage: drawn, so perhaps charged."""

    summary = "The provider's safety system withheld the picture"
    advice = (
        "It may have been charged. Change the prompt or the pictures; unchanged it will be refused again."
    )


@dataclass(kw_only=True, eq=False, repr=False)
class MalformedAnswer(PerhapsPaid):
    """A success that is none. Not transient: who answers like this once does so again, and charges each time."""

    summary = "The provider answered with success, but the answer cannot be used"
    advice = "It was probably charged. Check that OPENAI_BASE_URL is an OpenAI-compatible Images API."
