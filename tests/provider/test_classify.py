"""Which failure an answer or a broken connection is: the provider's table of errors, row by row."""

import json
import ssl
from datetime import UTC, datetime
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_image_runs.provider import errors
from gpt_image_runs.provider.error_mapping import classify_answer, classify_transport

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
USER_ERROR = "image_generation_user_error"
HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1>nginx</body></html>"


def error_body(
    code: str | None = None, kind: str | None = None, message: str = "Something is wrong.", **more: Any
) -> bytes:
    return json.dumps(
        {"error": {"message": message, "type": kind, "param": None, "code": code, **more}}
    ).encode()


def moderation(stage: str) -> dict[str, Any]:
    return {"moderation_details": {"moderation_stage": stage, "categories": ["violence", "self-harm"]}}


ROWS = [
    # Content: never unchanged; perhaps paid where the finished picture was refused.
    (
        400,
        error_body("moderation_blocked", USER_ERROR, **moderation("input")),
        "ContentRefused",
        "rejected",
        False,
    ),
    (400, error_body("moderation_blocked", USER_ERROR), "ContentRefused", "rejected", False),
    (
        400,
        error_body("content_policy_violation", "invalid_request_error"),
        "ContentRefused",
        "rejected",
        False,
    ),
    (400, error_body("image_content_policy_violation"), "ContentRefused", "rejected", False),
    (400, error_body("contentFilter"), "ContentRefused", "rejected", False),
    (
        400,
        error_body(message="Your request was rejected as a result of our safety system."),
        "ContentRefused",
        "rejected",
        False,
    ),
    (
        400,
        error_body("moderation_blocked", USER_ERROR, **moderation("output")),
        "OutputRefused",
        "unknown",
        False,
    ),
    (
        400,
        error_body("moderation_blocked", USER_ERROR, **moderation("unknown")),
        "OutputRefused",
        "unknown",
        False,
    ),
    # Faults of the request.
    (400, error_body("invalid_value", USER_ERROR), "InvalidRequest", "rejected", False),
    (400, error_body("invalid_image_file", USER_ERROR), "InvalidRequest", "rejected", False),
    (
        400,
        error_body("invalid_transparent_background_output_format", USER_ERROR),
        "InvalidRequest",
        "rejected",
        False,
    ),
    (400, error_body("image_too_large", USER_ERROR), "InvalidRequest", "rejected", False),
    (422, b'{"detail": [{"loc": ["body"], "msg": "field required"}]}', "InvalidRequest", "rejected", False),
    (413, b"<html>413 Request Entity Too Large</html>", "InvalidRequest", "rejected", False),
    # Money: no waiting helps, and no header says otherwise.
    (400, error_body("billing_hard_limit_reached", USER_ERROR), "BillingLimitReached", "rejected", False),
    (
        400,
        error_body(message="Billing hard limit has been reached"),
        "BillingLimitReached",
        "rejected",
        False,
    ),
    (429, error_body("credit_balance_exhausted", "insufficient_quota"), "QuotaExhausted", "rejected", False),
    (429, error_body("organization_spend_limit_exceeded"), "QuotaExhausted", "rejected", False),
    (429, error_body("project_spend_limit_exceeded"), "QuotaExhausted", "rejected", False),
    (429, error_body("organization_usage_limit_exceeded"), "QuotaExhausted", "rejected", False),
    (429, error_body("insufficient_quota"), "QuotaExhausted", "rejected", False),
    (429, error_body(None, "insufficient_quota"), "QuotaExhausted", "rejected", False),
    (429, error_body(message="You exceeded your current quota."), "QuotaExhausted", "rejected", False),
    (402, b'{"error": "Insufficient credits"}', "QuotaExhausted", "rejected", False),
    # Too much at once: refused before any work.
    (429, error_body("rate_limit_exceeded", "input-images"), "RateLimited", "rejected", True),
    (429, error_body("slow_down"), "RateLimited", "rejected", True),
    (
        429,
        error_body(
            "rate_limit_exceeded", message="IPM: Limit 5, Used 5, Requested 5. Please try again in 12s."
        ),
        "RateLimited",
        "rejected",
        True,
    ),
    (
        429,
        error_body("rate_limit_exceeded", message="on input-images per min: Limit 5, Used 5, Requested 10."),
        "RequestOverLimit",
        "rejected",
        False,
    ),
    (
        429,
        error_body(
            "rate_limit_exceeded", message="tokens per min (TPM): Limit 100,000, Requested 100,001. Reduce"
        ),
        "RequestOverLimit",
        "rejected",
        False,
    ),
    (429, b"Too Many Requests", "RateLimited", "rejected", True),
    (503, error_body("server_is_overloaded"), "ServerOverloaded", "rejected", True),
    (503, error_body(None), "ServerOverloaded", "rejected", True),
    (503, error_body("slow_down"), "RateLimited", "rejected", True),
    # Faults of the server: the API's own word is believed, that of somebody in between is not.
    (500, error_body("server_error", "server_error"), "ServerError", "rejected", True),
    (500, error_body(None, "image_generation_server_error"), "ServerError", "rejected", True),
    (
        500,
        error_body("image_generation_failed", "image_generation_server_error"),
        "ServerError",
        "rejected",
        True,
    ),
    (500, HTML, "GatewayError", "unknown", True),
    (500, b"", "GatewayError", "unknown", True),
    (500, b'{"statusCode": 500, "message": "Internal server error"}', "GatewayError", "unknown", True),
    (502, HTML, "GatewayError", "unknown", True),
    (502, error_body("server_error"), "GatewayError", "unknown", True),
    (503, b"upstream connect error or disconnect/reset before headers", "GatewayError", "unknown", True),
    (504, b"<html>504 Gateway Time-out</html>", "GatewayError", "unknown", True),
    (504, error_body("moderation_blocked"), "GatewayError", "unknown", True),
    (524, error_body(None), "GatewayError", "unknown", True),
    (408, error_body(None, "timeout"), "RequestTimeout", "unknown", True),
    (409, error_body(None), "Conflict", "rejected", True),
    # The account.
    (401, error_body("invalid_api_key", "invalid_request_error"), "AuthenticationFailed", "rejected", False),
    (401, error_body(message="IP address not authorized"), "AuthenticationFailed", "rejected", False),
    (
        403,
        error_body(
            None,
            "invalid_request_error",
            "Your organization must be verified to use the model `gpt-image-2`.",
        ),
        "AccessDenied",
        "rejected",
        False,
    ),
    (403, error_body("model_not_found"), "AccessDenied", "rejected", False),
    (403, error_body("unsupported_country_region_territory"), "AccessDenied", "rejected", False),
    # The model.
    (404, error_body("model_not_found"), "ModelNotFound", "rejected", False),
    (
        404,
        error_body(message="The model `gpt-image-1` has been deprecated, learn more here: ..."),
        "ModelNotFound",
        "rejected",
        False,
    ),
    (
        400,
        error_body("invalid_value", USER_ERROR, "The model 'dall-e-3' does not exist."),
        "ModelNotFound",
        "rejected",
        False,
    ),
    (404, error_body("DeploymentNotFound"), "ModelNotFound", "rejected", False),
    # The address.
    (404, b"404 page not found", "EndpointNotFound", "rejected", False),
    (405, b'{"detail": "Method Not Allowed"}', "EndpointNotFound", "rejected", False),
    (301, b"", "UnexpectedRedirect", "rejected", False),
    (307, error_body("server_error"), "UnexpectedRedirect", "rejected", False),
]


@pytest.mark.parametrize(("status", "body", "kind", "outcome", "retryable"), ROWS)
def test_every_row_of_the_table_has_its_class(
    *, status: int, body: bytes, kind: str, outcome: str, retryable: bool
) -> None:
    """Each kind of answer becomes the failure that operators search for, with its outcome and whether to repeat it."""
    failure = classify_answer(status, {}, body, NOW)
    assert (type(failure).__name__, failure.outcome, failure.retryable) == (kind, outcome, retryable)


def test_failure_keeps_the_provider_s_fields() -> None:
    """The message, code, type, param, request id, moderation categories and the wait reach the caller."""
    body = error_body(
        "moderation_blocked", USER_ERROR, "Refused.", **moderation("input") | {"param": "prompt"}
    )
    failure = classify_answer(400, {"X-Request-Id": "req_7", "Retry-After": "3"}, body, NOW)
    assert failure.http_status == 400
    assert failure.provider_message == "Refused."
    assert failure.code == "moderation_blocked"
    assert failure.provider_type == USER_ERROR
    assert failure.param == "prompt"
    assert failure.provider_request_id == "req_7"
    assert failure.moderation_categories == ("violence", "self-harm")
    assert failure.retry_after_seconds == 3.0
    assert failure.raw_body is None


def test_a_wait_in_the_message_is_the_last_resort() -> None:
    """Without a header, the rate limit's own sentence says how long to wait."""
    body = error_body("rate_limit_exceeded", message="Limit 5, Used 5, Requested 1. Please try again in 12s.")
    assert classify_answer(429, {}, body, NOW).retry_after_seconds == 12.0


@pytest.mark.parametrize(
    ("status", "code", "header", "retryable"),
    [
        (500, "server_error", "false", False),
        (500, "server_error", "true", True),
        (409, None, "false", False),
        (504, None, "false", False),
        (400, "billing_hard_limit_reached", "true", False),
        (400, "moderation_blocked", "true", False),
        (401, "invalid_api_key", "true", False),
        (429, "insufficient_quota", "true", False),
        (400, "invalid_value", "true", False),
    ],
)
def test_the_retry_header_can_only_forbid(
    *, status: int, code: str | None, header: str, retryable: bool
) -> None:
    """`x-should-retry: false` is heeded; `true` never makes a refusal worth repeating."""
    failure = classify_answer(status, {"x-should-retry": header}, error_body(code), NOW)
    assert failure.retryable is retryable


def test_the_body_is_kept_where_the_outcome_is_unknown() -> None:
    """A gateway's page is evidence, up to 64 KiB of it, and its words are the message."""
    failure = classify_answer(502, {}, HTML + b"x" * 100_000, NOW)
    assert failure.raw_body is not None
    assert len(failure.raw_body) == 65_536
    assert failure.raw_body.startswith(HTML)
    assert failure.provider_message.startswith("502 Bad Gateway 502 Bad Gateway nginx")


def test_a_long_message_is_cut() -> None:
    """No provider fills a history: 2,000 characters of its message are kept."""
    failure = classify_answer(400, {}, error_body(message="x" * 5_000), NOW)
    assert failure.provider_message == "x" * 2_000


def test_azure_names_its_request_id_differently() -> None:
    """Where there is no x-request-id, Azure's own id is kept."""
    assert classify_answer(500, {"apim-request-id": "a-1"}, b"", NOW).provider_request_id == "a-1"


def test_a_message_holds_nothing_that_storage_refuses() -> None:
    """NUL characters and halves of surrogate pairs are replaced, in JSON and elsewhere."""
    body = b'{"error": {"message": "a\\u0000b\\ud800c", "code": "d\\u0000"}}'
    failure = classify_answer(400, {}, body, NOW)
    assert (failure.provider_message, failure.code) == ("a?b?c", "d?")
    assert "\0" not in classify_answer(502, {}, b"a\0b\xff", NOW).provider_message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)
ERROR_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "message": JSON,
        "code": JSON,
        "type": JSON,
        "param": JSON,
        "moderation_details": JSON
        | st.fixed_dictionaries({}, optional={"categories": JSON, "moderation_stage": JSON}),
    },
)


@given(
    st.integers(300, 999),
    st.binary()
    | JSON.map(lambda value: json.dumps(value).encode())
    | ERROR_FIELDS.map(lambda fields: json.dumps({"error": fields}).encode()),
)
def test_any_body_is_classified(status: int, body: bytes) -> None:
    """Whatever is answered becomes a failure whose text can be stored."""
    failure = classify_answer(status, {}, body, NOW)
    assert isinstance(failure, errors.ProviderFailure)
    str(failure).encode()


def broken_by(cause: Exception | None) -> openai.APIConnectionError:
    request = httpx2.Request("POST", "https://provider.example/v1/images/generations")
    timed_out = isinstance(cause, httpx2.TimeoutException)
    error = openai.APITimeoutError(request) if timed_out else openai.APIConnectionError(request=request)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "kind", "outcome", "retryable"),
    [
        (httpx2.ConnectError("All connection attempts failed"), "ConnectionFailed", "not_sent", True),
        (httpx2.ConnectTimeout(""), "ConnectionFailed", "not_sent", True),
        (httpx2.PoolTimeout(""), "ConnectionFailed", "not_sent", True),
        (httpx2.ProxyError("403 Forbidden"), "ConnectionFailed", "not_sent", True),
        (httpx2.ReadTimeout(""), "AnswerLost", "unknown", True),
        (httpx2.ReadError(""), "AnswerLost", "unknown", True),
        (httpx2.WriteTimeout(""), "AnswerLost", "unknown", True),
        (httpx2.WriteError(""), "AnswerLost", "unknown", True),
        (httpx2.CloseError(""), "AnswerLost", "unknown", True),
        (httpx2.RemoteProtocolError("peer closed connection"), "AnswerLost", "unknown", True),
        (httpx2.DecodingError("incorrect header check"), "AnswerLost", "unknown", True),
        (ssl.SSLError("bad record mac"), "AnswerLost", "unknown", True),
        (None, "AnswerLost", "unknown", True),
        (httpx2.UnsupportedProtocol("ftp"), "ProviderNotConfigured", "not_sent", False),
        (
            httpx2.LocalProtocolError("Illegal header value b'Bearer sk-secret'"),
            "ProviderNotConfigured",
            "not_sent",
            False,
        ),
    ],
)
def test_transport_error_decides_whether_the_request_was_sent(
    *, cause: Exception | None, kind: str, outcome: str, retryable: bool
) -> None:
    """Only what fails before sending is free; everything else may have been paid. No text of theirs leaks the key."""
    failure = classify_transport(broken_by(cause))
    assert (type(failure).__name__, failure.outcome, failure.retryable) == (kind, outcome, retryable)
    assert "sk-secret" not in str(failure)


def test_an_error_that_is_not_the_sdks_counts_as_sent() -> None:
    """A time-out of ours, or anything unforeseen, is an answer lost."""
    for error in (TimeoutError(), RuntimeError("unforeseen"), OSError("gone")):
        assert isinstance(classify_transport(error), errors.AnswerLost)
