"""Faults that answer with an error: the status, headers and body of each."""

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import NamedTuple

from simulator.errors import IMAGE_ERROR, SCHEMA_ERROR, ApiError
from simulator.faults import Fault, FaultKind

_SERVER_ERROR = "server_error"


class _Answer(NamedTuple):
    status: int
    error_type: str
    code: str | None
    message: str
    param: str | None = None


_ANSWERS = {
    FaultKind.RATE_LIMITED: _Answer(
        429,
        "requests",
        "rate_limit_exceeded",
        "Rate limit reached for {model} on images per min (IPM): Limit 5, Used 5, Requested 1. "
        "Please try again in {seconds:g}s.",
    ),
    FaultKind.SLOW_DOWN: _Answer(
        429, "requests", "slow_down", "Your traffic grows too fast. Slow down and try again in {seconds:g}s."
    ),
    FaultKind.INSUFFICIENT_QUOTA: _Answer(
        429,
        "insufficient_quota",
        "insufficient_quota",
        "You exceeded your current quota: check plan and billing.",
    ),
    FaultKind.BILLING_HARD_LIMIT: _Answer(
        400, IMAGE_ERROR, "billing_hard_limit_reached", "Billing hard limit has been reached"
    ),
    FaultKind.MODERATION_BLOCKED: _Answer(
        400, IMAGE_ERROR, "moderation_blocked", "Your request was rejected by the safety system."
    ),
    FaultKind.INVALID_API_KEY: _Answer(
        401, SCHEMA_ERROR, "invalid_api_key", "Incorrect API key provided: sk-sim***."
    ),
    FaultKind.NOT_VERIFIED: _Answer(
        403,
        SCHEMA_ERROR,
        None,
        "Your organization must be verified to use the model `{model}`. "
        "If you just verified, it can take up to 15 minutes for access to propagate.",
    ),
    FaultKind.MODEL_NOT_FOUND: _Answer(
        404, SCHEMA_ERROR, "model_not_found", "The model `{model}` has been deprecated.", "model"
    ),
    FaultKind.NO_ACCESS_MODEL: _Answer(
        403,
        SCHEMA_ERROR,
        "model_not_found",
        "Project `proj_simulator` does not have access to model `{model}`.",
    ),
    FaultKind.SERVER_ERROR: _Answer(
        500, _SERVER_ERROR, _SERVER_ERROR, "The server had an error: please try again."
    ),
    FaultKind.OVERLOADED: _Answer(
        503, _SERVER_ERROR, "server_is_overloaded", "The server is overloaded: try later."
    ),
    FaultKind.CONFLICT: _Answer(409, SCHEMA_ERROR, "conflict", "The request conflicts with another one."),
    FaultKind.UNPROCESSABLE: _Answer(
        422, SCHEMA_ERROR, "unprocessable_entity", "The request cannot be processed."
    ),
    FaultKind.REQUEST_TIMEOUT: _Answer(
        408, SCHEMA_ERROR, "request_timeout", "The request took too long to arrive."
    ),
}


def build_refusal(fault: Fault, model: str) -> ApiError | None:
    """The error that a fault answers with, None if it does something else. Nothing is paid for it."""
    if fault.kind is FaultKind.ERROR_IN_SUCCESS:
        return ApiError(200, "The gateway says no.", error_type="upstream_error", code=fault.error)
    answer = _ANSWERS.get(fault.kind)
    if answer is None:
        return None
    blocked = {"moderation_details": {"moderation_stage": "input", "categories": ["violence"]}}
    return ApiError(
        answer.status,
        answer.message.format(model=model, seconds=fault.seconds),
        error_type=answer.error_type,
        code=fault.code if fault.kind is FaultKind.INSUFFICIENT_QUOTA else answer.code,
        param=answer.param,
        headers=_wait_headers(fault) if "header" in fault.kind.options else None,
        details=blocked if fault.kind is FaultKind.MODERATION_BLOCKED else None,
    )


def _wait_headers(fault: Fault) -> dict[str, str]:
    """How long to wait, in the spelling that was asked for; whole seconds are rounded up."""
    if fault.header == "retry-after-ms":
        return {"retry-after-ms": str(math.ceil(fault.seconds * 1000))}
    if fault.header == "http-date":
        then = datetime.now(UTC) + timedelta(seconds=math.ceil(fault.seconds))
        return {"retry-after": format_datetime(then, usegmt=True)}
    return {"retry-after": str(math.ceil(fault.seconds))} if fault.header == "retry-after" else {}
