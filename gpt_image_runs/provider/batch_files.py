"""Lines of a batch's files: write a request with its images as JSON, and read a result. Pure.

Edits take CPU time, because their images are encoded as base64: call these functions in a thread.
"""

import base64
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from gpt_image_runs.contracts.problems import Problem
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.images.inputs import InputPicture, Inputs
from gpt_image_runs.provider.batch_api import MAX_FILE, MAX_URL, Endpoint
from gpt_image_runs.provider.calls import request_options
from gpt_image_runs.provider.error_mapping import classify_answer, read_error
from gpt_image_runs.provider.errors import ProviderFailure
from gpt_image_runs.provider.json_decoding import read_json


def endpoint_of(request: ImageRequest) -> Endpoint:
    """Return the endpoint that the request would use outside of a batch."""
    return "/v1/images/edits" if request.operation == "edit" else "/v1/images/generations"


def write_request_line(custom_id: str, request: ImageRequest, model: str, inputs: Inputs) -> bytes:
    """Write a line of the input file, newline included. The same arguments always give the same bytes."""
    body: dict[str, Any] = {"model": model, "prompt": request.prompt, **request_options(request)}
    if inputs.images:
        body["images"] = [{"image_url": _write_url(picture)} for picture in inputs.images]
    if inputs.mask:
        body["mask"] = {"image_url": _write_url(inputs.mask)}
    line = {"custom_id": custom_id, "method": "POST", "url": endpoint_of(request), "body": body}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def check_fit(inputs: Inputs) -> tuple[Problem, ...]:
    """Check which images are too large to be sent as JSON, although an edit outside of a batch could send them."""
    named = [(f"images.{index}", picture) for index, picture in enumerate(inputs.images)]
    named += [("mask", inputs.mask)] if inputs.mask else []
    most = (MAX_URL - 30) // 4 * 3
    problems = [
        Problem(
            field=field,
            value=f"{len(picture.data):,} bytes",
            allowed=f"up to {most:,} bytes in an economy batch; send it without --economy",
        )
        for field, picture in named
        if len(picture.data) > most
    ]
    total = sum(-(-len(picture.data) // 3) * 4 for _, picture in named)
    if not problems and total > MAX_FILE - 1024 * 1024:
        allowed = "up to 199 MB with all pictures as base64 in an economy batch; send it without --economy"
        problems.append(Problem(field="images", value=f"{total:,} bytes as base64", allowed=allowed))
    return tuple(problems)


def _write_url(picture: InputPicture) -> str:
    return f"data:{picture.media_type};base64,{base64.b64encode(picture.data).decode()}"


_NOT_CARRIED_OUT = {"batch_expired", "batch_cancelled"}


@dataclass(frozen=True, kw_only=True)
class LineResult:
    """The result of one line.

    Exactly one of these is set: `response` (success), `failure` (the provider answered with an error), and `untouched` (not
    processed and not charged: the error's code and message).
    """

    custom_id: str
    provider_request_id: str | None = None
    response: Any = field(default=None, repr=False)
    failure: ProviderFailure | None = None
    untouched: tuple[str, str] | None = None


def read_result_line(data: bytes) -> LineResult | None:
    """Parse a line of a result file; return None if it is not one."""
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
    """Parse a line without a response: it was never processed, or failed inside the provider."""
    error = read_error({"error": line.get("error")})
    if not error.code and not error.message:
        return None
    if error.code in _NOT_CARRIED_OUT:
        return LineResult(custom_id=custom_id, untouched=(error.code, error.message))
    body = json.dumps({"error": line["error"]}).encode()
    failure = classify_answer(HTTPStatus.INTERNAL_SERVER_ERROR, {}, body, datetime.now(UTC))
    return LineResult(custom_id=custom_id, failure=failure)
