"""Map responses and broken connections to failures. Pure: no I/O, no clock.

An error's code decides, then its type, then its message, then the HTTP status: the Images API reports several account and
model problems as HTTP 400.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from random import Random
from typing import Any

import httpx2
import openai

from gpt_image_runs.provider import errors
from gpt_image_runs.provider.body_limits import BodyTooLarge
from gpt_image_runs.provider.errors import LONGEST_MESSAGE
from gpt_image_runs.provider.json_decoding import make_text_storable, read_json

_MAX_LABEL = 200
_MAX_PAGE = 4_000
_MAX_CATEGORIES = 20


@dataclass(frozen=True, kw_only=True)
class ProviderError:
    """The fields of an error body. `is_from_api` is False for errors of proxies and gateways."""

    is_from_api: bool = False
    message: str = ""
    code: str | None = None
    type: str | None = None
    param: str | None = None
    moderation_stage: str | None = None
    moderation_categories: tuple[str, ...] = ()


def read_error_body(body: bytes) -> ProviderError:
    """Parse an error body. If it is not JSON, its text is the message."""
    try:
        return read_error(read_json(body))
    except ValueError:
        return ProviderError(message=_read_page(body))


def read_error(payload: Any) -> ProviderError:
    """Parse an error's JSON: the API's `{"error": {...}}`, or whatever can be found in another structure."""
    if not isinstance(payload, dict):
        return ProviderError(message=_read_message(payload))
    error = payload.get("error")
    if not isinstance(error, dict):
        return ProviderError(message=_read_message(error or payload.get("message") or payload.get("detail")))
    details = error.get("moderation_details")
    details = details if isinstance(details, dict) else {}
    categories = details.get("categories")
    labels = map(_read_label, categories if isinstance(categories, list) else ())
    return ProviderError(
        is_from_api=True,
        message=_read_message(error.get("message")),
        code=_read_label(error.get("code")),
        type=_read_label(error.get("type")),
        param=_read_label(error.get("param")),
        moderation_stage=_read_label(details.get("moderation_stage")),
        moderation_categories=tuple(label for label in labels if label)[:_MAX_CATEGORIES],
    )


def read_provider_request_id(headers: Mapping[str, str]) -> str | None:
    """Return the provider's request id (OpenAI's or Azure's), for its support. Header names in lower case."""
    return _read_label(headers.get("x-request-id") or headers.get("apim-request-id"))


def _read_label(value: Any) -> str | None:
    is_label = isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""
    return make_text_storable(str(value))[:_MAX_LABEL] if is_label else None


def _read_message(value: Any) -> str:
    return value.strip()[:LONGEST_MESSAGE] if isinstance(value, str) else ""


def _read_page(body: bytes) -> str:
    """Extract the text of a page that is not JSON, such as a proxy's HTML."""
    text = make_text_storable(body[:_MAX_PAGE].decode("utf-8", "replace"))
    return _read_message(" ".join(re.sub(r"<[^>]*>", " ", text).split()))


# Longer waits are cut to this: a run that waits for hours looks stuck, and asking again is cheap.
MAX_WAIT_SECONDS = 600.0

_JITTER = 0.25
_NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,12})?", re.ASCII)
_DURATION = re.compile(
    r"(\d{1,9}(?:\.\d{1,9})?) ?(ms|milliseconds?|s|seconds?|m|minutes?|h|hours?)(?![a-z])", re.ASCII
)
_TRY_AGAIN = re.compile(rf"(?:try again|retry) (?:in|after) ((?:{_DURATION.pattern} ?)+)", re.ASCII)


def retry_after_seconds(
    headers: Mapping[str, str], message: str, now: datetime, longest: float = MAX_WAIT_SECONDS
) -> float | None:
    """Return how long the response asks to wait, in seconds, at most `longest`.

    Reads `retry-after-ms`, then `retry-after` (seconds or an HTTP date), then "try again in 1m3s" in the provider's message.
    A date is compared with the response's own `date` header if there is one, because this host's clock (`now`) may be wrong.
    Values that cannot be parsed or lie in the past are ignored. Header names in lower case.
    """
    waits = (
        _read_number(headers.get("retry-after-ms", ""), unit_seconds=0.001),
        _read_number(headers.get("retry-after", ""), unit_seconds=1.0),
        _read_date(headers.get("retry-after", ""), _read_moment(headers.get("date", "")) or now),
        _retry_after_read_message(message),
    )
    wait = next((wait for wait in waits if wait is not None), None)
    return None if wait is None else min(wait, longest)


def with_jitter(seconds: float, random: Random) -> float:
    """Lengthen a wait by up to a quarter, so that workers do not all retry at once. Never shorter than asked."""
    return seconds * (1 + _JITTER * random.random())


def _read_number(text: str, unit_seconds: float) -> float | None:
    # A pattern rather than float(), which also reads "nan", "inf", "-1" and "1_0".
    number = text.strip(" \t")
    return float(number) * unit_seconds if _NUMBER.fullmatch(number) else None


def _read_date(text: str, now: datetime) -> float | None:
    date = _read_moment(text)
    if date is None:
        return None
    try:
        wait = date - now
    except OverflowError:
        return None
    return wait.total_seconds() if wait.total_seconds() >= 0 else None


def _read_moment(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _retry_after_read_message(message: str) -> float | None:
    found = _TRY_AGAIN.search(message.lower())
    if not found:
        return None
    return sum(float(number) * _seconds_of(unit) for number, unit in _DURATION.findall(found[1]))


def _seconds_of(unit: str) -> float:
    if unit.startswith(("ms", "mil")):
        return 0.001
    return {"s": 1.0, "m": 60.0, "h": 3600.0}[unit[0]]


_MAX_CAUSE = 200

_Kind = type[errors.ProviderFailure]

_BY_CODE: dict[str, _Kind] = {
    "moderation_blocked": errors.ContentRefused,
    "content_policy_violation": errors.ContentRefused,
    "image_content_policy_violation": errors.ContentRefused,
    "content_filter": errors.ContentRefused,
    "contentfilter": errors.ContentRefused,
    "billing_hard_limit_reached": errors.BillingLimitReached,
    "billing_not_active": errors.BillingLimitReached,
    "credit_balance_exhausted": errors.QuotaExhausted,
    "organization_spend_limit_exceeded": errors.QuotaExhausted,
    "project_spend_limit_exceeded": errors.QuotaExhausted,
    "organization_usage_limit_exceeded": errors.QuotaExhausted,
    "insufficient_quota": errors.QuotaExhausted,
    "rate_limit_exceeded": errors.RateLimited,
    "slow_down": errors.RateLimited,
    "server_is_overloaded": errors.ServerOverloaded,
    "invalid_api_key": errors.AuthenticationFailed,
    "unsupported_country_region_territory": errors.AccessDenied,
    "model_not_found": errors.ModelNotFound,
    "deploymentnotfound": errors.ModelNotFound,
    "server_error": errors.ServerError,
    "image_generation_failed": errors.ServerError,
}
_BY_TYPE: dict[str, _Kind] = {
    "insufficient_quota": errors.QuotaExhausted,
    "image_generation_server_error": errors.ServerError,
}
_BY_MESSAGE: tuple[tuple[re.Pattern[str], _Kind], ...] = (
    (re.compile(r"organization must be verified"), errors.AccessDenied),
    (re.compile(r"billing hard limit"), errors.BillingLimitReached),
    (re.compile(r"exceeded your current quota"), errors.QuotaExhausted),
    (re.compile(r"the model .{1,200} (?:does not exist|has been deprecated)"), errors.ModelNotFound),
    (re.compile(r"rejected .{0,40}\bsafety system"), errors.ContentRefused),
)
_BY_STATUS: dict[int, _Kind] = {
    401: errors.AuthenticationFailed,
    402: errors.QuotaExhausted,
    403: errors.AccessDenied,
    404: errors.EndpointNotFound,
    405: errors.EndpointNotFound,
    408: errors.RequestTimeout,
    409: errors.Conflict,
    429: errors.RateLimited,
    500: errors.ServerError,
    503: errors.ServerOverloaded,
}
_LIMIT_AND_DEMAND = re.compile(
    r"limit:? ([\d,]{1,20}?),(?: used:? [\d,]{1,20}?,)? requested:? ([\d,]{1,20})", re.ASCII
)
_STATUS = re.compile(r"[45]\d\d", re.ASCII)
_REDIRECTS = range(300, 400)
_FAULTS_OF_THE_REQUEST = range(400, 500)
_FAULTS_OF_THE_SERVER = range(500, 600)
_ANSWERED_FOR_SOMEBODY_ELSE = {HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT}
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
_NOT_SENDABLE = (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.LocalProtocolError)


def classify_answer(
    status: int, headers: Mapping[str, str], body: bytes, now: datetime
) -> errors.ProviderFailure:
    """Build the failure for a response other than 2xx.

    Args:
        status: the HTTP status.
        headers: the response's headers, in any case.
        body: the complete body: the API's error object, or whatever a proxy sends.
        now: compared with a `retry-after` date; must have a time zone.
    """
    lower_headers = {name.lower(): value for name, value in headers.items()}
    error = read_error_body(body)
    kind = _find_kind(status, error)
    return kind(
        http_status=status,
        provider_message=error.message,
        code=error.code,
        provider_type=error.type,
        param=error.param,
        provider_request_id=read_provider_request_id(lower_headers),
        moderation_categories=error.moderation_categories,
        retry_after_seconds=retry_after_seconds(lower_headers, error.message, now),
        # Heeded one way only: no header makes a wrong key or an empty account worth repeating.
        told_not_to_retry=lower_headers.get("x-should-retry") == "false",
        raw_body=body[: errors.MAX_RAW_BODY] if kind.outcome == "unknown" else None,
    )


def is_refusal_of_content(error: ProviderError) -> bool:
    """Return whether the error says that the safety system refused."""
    return _find_by_words(error) is errors.ContentRefused


def classify_error_in_success(
    error: ProviderError, headers: Mapping[str, str], body: bytes
) -> errors.ProviderFailure:
    """Build the failure for a 2xx response that has an error instead of images and usage, as some gateways send it.

    The error's code decides; it may be the HTTP status that the response should have had. An error without a known code is
    treated as a gateway's. None of these is retried: the request may have been processed.
    """
    code = error.code or ""
    status = int(code) if _STATUS.fullmatch(code) else HTTPStatus.OK.value
    kind = _find_kind(status, error)
    return kind(
        detail="an error inside of a success",
        http_status=HTTPStatus.OK.value,
        provider_message=error.message,
        code=error.code,
        provider_type=error.type,
        param=error.param,
        provider_request_id=read_provider_request_id(headers),
        moderation_categories=error.moderation_categories,
        told_not_to_retry=True,
        raw_body=body[: errors.MAX_RAW_BODY] if kind.outcome == "unknown" else None,
    )


def without_doubt(failure: errors.ProviderFailure) -> errors.ProviderFailure:
    """Build the failure for a response that came before the request was sent completely, so it was not processed.

    A gateway error or a 408 then becomes a rejection. More specific failures stay what they are.
    """
    if failure.outcome != "unknown":
        return failure
    return errors.ServerOverloaded(
        detail="it answered before the request was sent whole",
        http_status=failure.http_status,
        provider_message=failure.provider_message,
        code=failure.code,
        provider_type=failure.provider_type,
        param=failure.param,
        provider_request_id=failure.provider_request_id,
        retry_after_seconds=failure.retry_after_seconds,
    )


def classify_error_event(
    body: bytes, headers: Mapping[str, str], *, shown: int, now: datetime
) -> errors.ProviderFailure:
    """Build the failure for an error within a stream, after `shown` partial images.

    Before the first image, a refusal means the same as it does as an HTTP status. Other failures, and every failure after an
    image was drawn, may have been charged.
    """
    error = read_error_body(body)
    told = _refine(_find_by_words(error) or errors.StreamFailed, error)
    kind: _Kind = errors.StreamFailed
    if told in {errors.ContentRefused, errors.OutputRefused}:
        kind = errors.OutputRefused if shown else told
    elif told.outcome == "rejected" and told is not errors.ServerError and not shown:
        kind = told
    drawn = f"after {shown} partial picture{'s' if shown > 1 else ''}" if shown else ""
    return kind(
        detail=drawn,
        http_status=HTTPStatus.OK.value,
        provider_message=error.message,
        code=error.code,
        provider_type=error.type,
        param=error.param,
        provider_request_id=read_provider_request_id(headers),
        moderation_categories=error.moderation_categories,
        retry_after_seconds=retry_after_seconds(headers, error.message, now),
        # An empty account or a faulty request is no other the next time.
        told_not_to_retry=not told.transient,
        raw_body=body[: errors.MAX_RAW_BODY] if kind.outcome == "unknown" else None,
    )


def classify_transport(error: Exception) -> errors.ProviderFailure:
    """Build the failure for a request without a complete response, from `__cause__` of the SDK's error."""
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) and error.__cause__ else error
    name = type(cause).__name__
    if isinstance(cause, _NOT_SENDABLE):
        # Their texts can quote a header, and with it the key.
        return errors.ProviderNotConfigured(detail=f"{name}, a URL or a header is not valid")
    if isinstance(cause, _NEVER_SENT):
        text = make_text_storable(str(cause))[:_MAX_CAUSE]
        return errors.ConnectionFailed(detail=f"{name}, {text}" if text else name)
    return errors.AnswerLost(detail=str(cause) if isinstance(cause, BodyTooLarge) else name)


def _find_kind(status: int, error: ProviderError) -> _Kind:
    if status in _REDIRECTS:
        return errors.UnexpectedRedirect
    # Before the code: whatever such an answer carries, its sender speaks for somebody who has not answered.
    if status in _ANSWERED_FOR_SOMEBODY_ELSE or (status in _FAULTS_OF_THE_SERVER and not error.is_from_api):
        return errors.GatewayError
    kind = (
        _find_by_words(error)
        or _BY_STATUS.get(status)
        or (errors.InvalidRequest if status in _FAULTS_OF_THE_REQUEST else errors.GatewayError)
    )
    if kind is errors.ModelNotFound and status == HTTPStatus.FORBIDDEN:
        return errors.AccessDenied  # it exists, but not for this project
    return _refine(kind, error)


def _find_by_words(error: ProviderError) -> _Kind | None:
    return (
        _BY_CODE.get((error.code or "").lower())
        or _BY_TYPE.get((error.type or "").lower())
        or _find_by_message(error.message)
    )


def _refine(kind: _Kind, error: ProviderError) -> _Kind:
    """Choose a more specific failure from the error's details."""
    if kind is errors.ContentRefused and error.moderation_stage in {"output", "unknown"}:
        return errors.OutputRefused
    if kind is errors.RateLimited and _can_never_fit(error.message):
        return errors.RequestOverLimit
    return kind


def _can_never_fit(message: str) -> bool:
    """Return whether a rate limit's message ("Limit 5, Used 5, Requested 10") says that this request alone is over the limit."""
    found = _LIMIT_AND_DEMAND.search(message.lower())
    if not found:
        return False
    limit, demand = (int(number.replace(",", "") or 0) for number in found.groups())
    return demand > limit


def _find_by_message(message: str) -> _Kind | None:
    text = message.lower()
    return next((kind for pattern, kind in _BY_MESSAGE if pattern.search(text)), None)
