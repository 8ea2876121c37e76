"""A line of a batch's result files: what came of one request, or that nobody can read it. Pure, but takes a core's time."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from imaging.classify import classify_answer
from imaging.error_bodies import read_error
from imaging.errors import ProviderFailure
from imaging.provider_json import read_json

_NOT_CARRIED_OUT = {"batch_expired", "batch_cancelled"}


@dataclass(frozen=True, kw_only=True)
class LineResult:
    """What a line says. Of `response` (a success), `failure` (answered with an error) and `untouched` (a code and the
    provider's words: never carried out, and not charged) exactly one is there.
    """

    custom_id: str
    provider_request_id: str | None = None
    response: Any = field(default=None, repr=False)
    failure: ProviderFailure | None = None
    untouched: tuple[str, str] | None = None


def read_result_line(data: bytes) -> LineResult | None:
    """Reads a line, None where it is none of a result file."""
    try:
        line = read_json(data)
    except ValueError:
        return None
    if not isinstance(line, dict) or not isinstance(line.get("custom_id"), str):
        return None
    custom_id, response = line["custom_id"], line.get("response")
    if not isinstance(response, dict) or not isinstance(response.get("status_code"), int):
        return _read_error(custom_id, line)
    status, request_id = response["status_code"], response.get("request_id")
    told_id = request_id[:200] if isinstance(request_id, str) else None
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        # Something that is no JSON object is told from "nothing" by what reads it.
        body = response.get("body")
        return LineResult(
            custom_id=custom_id, provider_request_id=told_id, response={} if body is None else body
        )
    headers = {"x-request-id": told_id} if told_id else {}
    body = json.dumps(response.get("body")).encode()
    failure = classify_answer(status, headers, body, datetime.now(UTC))
    return LineResult(custom_id=custom_id, provider_request_id=told_id, failure=failure)


def _read_error(custom_id: str, line: dict[str, Any]) -> LineResult | None:
    """A line without an answer: never carried out, or failed inside of the provider."""
    error = read_error({"error": line.get("error")})
    if not error.code and not error.message:
        return None
    if error.code in _NOT_CARRIED_OUT:
        return LineResult(custom_id=custom_id, untouched=(error.code, error.message))
    body = json.dumps({"error": line["error"]}).encode()
    failure = classify_answer(HTTPStatus.INTERNAL_SERVER_ERROR, {}, body, datetime.now(UTC))
    return LineResult(custom_id=custom_id, failure=failure)
