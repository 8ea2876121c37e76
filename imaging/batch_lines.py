"""A line of a batch's input file: a request with its pictures as the JSON body of the image endpoints. Pure.

CPU work for edits, whose pictures travel as base64: call it in a thread.
"""

import base64
import json
from typing import Any

from contracts.problems import Problem
from contracts.request import ImageRequest
from imaging.batches import LARGEST_FILE, LONGEST_URL, Endpoint
from imaging.calls import request_options
from imaging.inputs import InputPicture, Inputs


def endpoint_of(request: ImageRequest) -> Endpoint:
    """Where a request would go by itself."""
    return "/v1/images/edits" if request.operation == "edit" else "/v1/images/generations"


def write_request_line(custom_id: str, request: ImageRequest, model: str, inputs: Inputs) -> bytes:
    """The line, its newline included. The same arguments always give the same bytes."""
    body: dict[str, Any] = {"model": model, "prompt": request.prompt, **request_options(request)}
    if inputs.images:
        body["images"] = [{"image_url": _write_url(picture)} for picture in inputs.images]
    if inputs.mask:
        body["mask"] = {"image_url": _write_url(inputs.mask)}
    line = {"custom_id": custom_id, "method": "POST", "url": endpoint_of(request), "body": body}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def check_fit(inputs: Inputs) -> tuple[Problem, ...]:
    """What is too large to travel as JSON, although it could be sent by itself."""
    named = [(f"images.{index}", picture) for index, picture in enumerate(inputs.images)]
    named += [("mask", inputs.mask)] if inputs.mask else []
    most = (LONGEST_URL - 30) // 4 * 3
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
    if not problems and total > LARGEST_FILE - 1024 * 1024:
        allowed = "up to 199 MB with all pictures as base64 in an economy batch; send it without --economy"
        problems.append(Problem(field="images", value=f"{total:,} bytes as base64", allowed=allowed))
    return tuple(problems)


def _write_url(picture: InputPicture) -> str:
    return f"data:{picture.media_type};base64,{base64.b64encode(picture.data).decode()}"
