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

# Characters of the provider's message that are stored.
LONGEST_MESSAGE = 2_000
# Bytes of a response's body that are stored if its outcome is unknown.
MAX_RAW_BODY = 64 * 1024
_CHARGED = "It was charged, and its usage is on the run's bill."
_SEND_AGAIN = "To send it again, give the request another request_id."


@dataclass(kw_only=True, eq=False, repr=False)
class ProviderFailure(Exception):
    """A request that returned no images. `str()` says what is wrong and what to do.

    `provider_message` is the provider's own text; `code`, `provider_type` and `param` are the fields of its error; `detail` is
    ours. `raw_body` is set if the outcome is unknown. `response` is what could be parsed of a success without images; its `usage`
    says what was charged. No field ever contains the API key.
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
        """The provider's reported usage, unchanged; None if there is none."""
        return (self.response or {}).get("usage") or None

    @property
    def is_charged(self) -> bool:
        """Whether the provider reports usage: the request was then charged, whatever its outcome."""
        response = self.response or {}
        return bool(response.get("usage") or response.get("svg_usage"))

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later. If the outcome is unknown, repeating it may pay twice."""
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
    """The provider answered and did not process the request."""

    outcome = "rejected"


class PerhapsPaid(ProviderFailure):
    """The request was sent; unless it reports `usage`, it is not known whether it was processed and charged."""

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
    """A file transfer or a status request broke off. These are never charged."""

    summary = "A request to the provider that is free of charge broke off"
    advice = "Repeating it is safe."
    transient = True


class AuthenticationFailed(Rejected):
    """401: the key is wrong, revoked, or not allowed from this address."""

    summary = "The provider refused the API key"
    advice = "Set OPENAI_API_KEY to a key that is valid there, and start the worker again."


class AccessDenied(Rejected):
    """403: the organization is not verified, the project has no access to the model, or the region is not served."""

    summary = "The provider denies access to this account"
    advice = "Verify the organization, or give its project access to the model, in the provider's console."


class QuotaExhausted(Rejected):
    """The account's credit or spending limit is used up; waiting does not help."""

    summary = "The provider's account has no credit or quota left"
    advice = "Add credit or raise the limit in the provider's console; no request will succeed until then."


class BillingLimitReached(Rejected):
    """The account's hard billing limit is reached. It comes as HTTP 400, not 429."""

    summary = "The provider's account has reached its hard billing limit"
    advice = "Raise the limit in the provider's console; no request will succeed until then."


class InvalidRequest(Rejected):
    """The provider rejected the request's content or parameters."""

    summary = "The provider refused the request"
    advice = "Correct the request; unchanged it will be refused again."


class ContentRefused(Rejected):
    """The safety system refused the prompt or the images before an image was generated, as far as it says."""

    summary = "The provider's safety system refused the request"
    advice = "Change the prompt or the images; unchanged it will be refused again."


class ModelNotFound(Rejected):
    """The model does not exist, or was shut down."""

    summary = "The provider does not know the model, or has shut it down"
    advice = "Choose a model that is live: `python starter.py models` lists them."


class EndpointNotFound(Rejected):
    """The address does not serve an Images API."""

    summary = "The address has no Images API"
    advice = "Check OPENAI_BASE_URL: for OpenAI's own API leave it unset, elsewhere it often ends in /v1."


class ObjectGone(Rejected):
    """404 for a file or a batch that was there: files are deleted 30 days after their batch, or by hand."""

    summary = "The provider no longer has the file or batch"
    advice = "Look for it in the provider's console."


class UnexpectedRedirect(Rejected):
    """A 3xx response. It is not followed: a repeated POST would be a second, unrecorded request."""

    summary = "The provider redirected the request, which is not followed"
    advice = "Set OPENAI_BASE_URL to the address that answers itself."


class RateLimited(Rejected):
    """Too many requests, images or tokens in a minute; refused before any work."""

    summary = "The provider's rate limit is reached"
    advice = "The request can be repeated after a while; lower the queue's rate if this happens often."
    transient = True


class RequestOverLimit(Rejected):
    """429 for a request that alone exceeds the limit for a whole minute, so waiting does not help."""

    summary = "The request alone exceeds the provider's limit for a minute"
    advice = "Request fewer images, send fewer inputs, or have the account's limit raised."


class ServerOverloaded(Rejected):
    """503 from the API itself: refused before any work."""

    summary = "The provider is overloaded"
    advice = "The request can be repeated after a while."
    transient = True


class ServerError(Rejected):
    """500 with the API's own error object: it failed and returned neither image nor usage."""

    summary = "The provider failed while it worked on the request"
    advice = "The request can be repeated. If this continues, send its request id to the provider's support."
    transient = True


class Conflict(Rejected):
    """409: the provider could not acquire a lock."""

    summary = "The provider was busy with a conflicting operation"
    advice = "The request can be repeated."
    transient = True


class AnswerLost(PerhapsPaid):
    """The connection broke or timed out after sending began: the provider may finish the request and charge for it."""

    summary = "The request was sent, but its answer was lost"
    advice = "It may have been carried out and charged; repeating it may pay twice."
    transient = True


class GatewayError(PerhapsPaid):
    """502, 504, or another 5xx that is not the API's own: a gateway gave up, but the API may have finished."""

    summary = "A gateway between here and the provider gave up on the request"
    advice = "It may have been carried out and charged; repeating it may pay twice."
    transient = True


class RequestTimeout(PerhapsPaid):
    """408: gateways also send it when a server behind them times out, and that server may have finished."""

    summary = "The provider or a gateway timed out on the request"
    advice = "It may have been carried out and charged; repeating it may pay twice."
    transient = True


class StreamFailed(PerhapsPaid):
    """An error event within a stream: work had begun, and what was drawn may be charged."""

    summary = "The provider failed in the middle of its answer"
    advice = "What was drawn may have been charged; repeating the request may pay twice."
    transient = True


class OutputRefused(PerhapsPaid):
    """The safety system refused the finished image, or does not say at which stage: it may have been charged."""

    summary = "The provider's safety system withheld the image"
    advice = "It may have been charged. Change the prompt or the images; unchanged it will be refused again."


@dataclass(kw_only=True, eq=False, repr=False)
class MalformedAnswer(PerhapsPaid):
    """A success response that cannot be used. Not transient: such a server would respond the same way and charge again."""

    summary = "The provider answered with success, but the answer cannot be used"
    advice = "It was probably charged. Check that OPENAI_BASE_URL is an OpenAI-compatible Images API."
