"""Effects of faults: error responses with their status, headers and body, and damaged success responses."""

import base64
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, NamedTuple

from simulator.faults import Fault, FaultKind
from simulator.http import IMAGE_ERROR, SCHEMA_ERROR, ApiError

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
    """Build the error response of a fault, which is never paid. None if the fault does something else."""
    if fault.kind is FaultKind.ERROR_IN_SUCCESS:
        return ApiError(
            200, "The gateway refused the request.", error_type="upstream_error", code=fault.error
        )
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
        headers=_build_wait_headers(fault) if "header" in fault.kind.options else None,
        details=blocked if fault.kind is FaultKind.MODERATION_BLOCKED else None,
    )


def _build_wait_headers(fault: Fault) -> dict[str, str]:
    if fault.header == "retry-after-ms":
        return {"retry-after-ms": str(math.ceil(fault.seconds * 1000))}
    if fault.header == "http-date":
        then = datetime.now(UTC) + timedelta(seconds=math.ceil(fault.seconds))
        return {"retry-after": format_datetime(then, usegmt=True)}
    return {"retry-after": str(math.ceil(fault.seconds))} if fault.header == "retry-after" else {}


# The provider's response body as parsed JSON.
Document = dict[str, Any]

_OVERSIZE_BYTES = 3 * 1024 * 1024
_NO_PICTURE = base64.b64encode(b"This is not an image, but it was paid for.").decode()


def spoil_document(document: Document, fault: Fault) -> None:
    """Damage a response body in place as the fault says. Other kinds of faults change nothing."""
    if fault.kind in _SPOILERS:
        _SPOILERS[fault.kind](document, fault)


def _drop_data(document: Document, _: Fault) -> None:
    del document["data"]


def _break_base64(document: Document, _: Fault) -> None:
    document["data"] = [{"b64_json": "!" + picture["b64_json"][:41]} for picture in document["data"]]


def _replace_pictures(document: Document, _: Fault) -> None:
    document["data"] = [{"b64_json": _NO_PICTURE} for _ in document["data"]]


def _drop_picture(document: Document, _: Fault) -> None:
    document["data"] = document["data"][:-1]


def _respell_base64(document: Document, fault: Fault) -> None:
    for picture in document["data"]:
        text = picture["b64_json"]
        wrapped = base64.encodebytes(base64.b64decode(text)).decode()
        spelled = {
            "wrapped": wrapped,
            "crlf": wrapped.replace("\n", "\r\n"),
            "newline": f"{text}\n",
            "url_safe": text.translate(str.maketrans("+/", "-_")),
            "unpadded": text.rstrip("="),
            "data_uri": f"Data:image/png;charset=binary;base64,{text}",
            "data_uri_in_url": f"data:image/png;base64,{text}",
        }[fault.spelling]
        picture.clear()
        picture["url" if fault.spelling == "data_uri_in_url" else "b64_json"] = spelled


def _link_pictures(document: Document, _: Fault) -> None:
    document["data"] = [{"url": f"https://img.example.net/a/{n}.png"} for n in range(len(document["data"]))]


def _lose_picture(document: Document, fault: Fault) -> None:
    filtered = {"violence": {"filtered": True, "severity": "high"}}
    damaged = document["data"][-1]["b64_json"][:400]
    document["data"][-1] = {
        "null": None,
        "filter": {"content_filter_results": filtered, "b64_json": None, "url": None},
        "damaged": {"b64_json": damaged},
        "empty": {"b64_json": ""},
    }[fault.instead]


def _drop_usage(document: Document, _: Fault) -> None:
    del document["usage"]


def _null_usage(document: Document, _: Fault) -> None:
    document["usage"] = None


def _zero_usage(document: Document, _: Fault) -> None:
    document["usage"] = {
        "input_tokens": 0,
        "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
        "output_tokens": 0,
        "total_tokens": 0,
    }


def _drop_usage_field(document: Document, fault: Fault) -> None:
    document["usage"].pop(fault.field, None)


def _leave_one_count(document: Document, fault: Fault) -> None:
    kept = "output_tokens" if fault.field == "input_tokens" else "input_tokens"
    document["usage"] = {kept: document["usage"][kept]}


def _mix_names(document: Document, _: Fault) -> None:
    usage = document["usage"]
    document["usage"] = {
        "input_tokens": 0,
        "output_tokens": 0,
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage["output_tokens"],
    }


def _deform_usage(document: Document, fault: Fault) -> None:
    tokens = document["usage"]["output_tokens"]
    if fault.form == "list":
        document["usage"] = [tokens]
        return
    forms = {
        "negative": -tokens,
        "string": str(tokens),
        "float": tokens + 0.5,
        "bool": True,
        "absurd": 10**13,
    }
    document["usage"]["output_tokens"] = forms[fault.form]


def _inflate_usage(document: Document, _: Fault) -> None:
    document["usage"]["trace"] = "x" * _OVERSIZE_BYTES


_SPOILERS: dict[FaultKind, Callable[[Document, Fault], None]] = {
    FaultKind.NO_DATA: _drop_data,
    FaultKind.BAD_BASE64: _break_base64,
    FaultKind.NOT_AN_IMAGE: _replace_pictures,
    FaultKind.WRONG_COUNT: _drop_picture,
    FaultKind.ODD_BASE64: _respell_base64,
    FaultKind.URL_ONLY: _link_pictures,
    FaultKind.LOST_PICTURE: _lose_picture,
    FaultKind.MISSING_USAGE: _drop_usage,
    FaultKind.NULL_USAGE: _null_usage,
    FaultKind.ZERO_USAGE: _zero_usage,
    FaultKind.PARTIAL_USAGE: _drop_usage_field,
    FaultKind.SPARSE_USAGE: _leave_one_count,
    FaultKind.MIXED_USAGE: _mix_names,
    FaultKind.MALFORMED_USAGE: _deform_usage,
    FaultKind.OVERSIZE_USAGE: _inflate_usage,
}
