"""From HTTP to parameters and pictures: a JSON body or a multipart body. What they mean is not decided here."""

import asyncio
import base64
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiohttp import BodyPartReader, web

from simulator.http import ApiError, refuse, refuse_for_model
from simulator.orders import Endpoint
from simulator.uploads import (
    MAX_IMAGE_BYTES,
    MAX_IMAGES,
    MAX_MASK_BYTES,
    Inputs,
    Upload,
    check_uploads,
    too_large,
)

Parameters = Mapping[str, Any]

_COMMON = {
    "prompt": str,
    "model": str,
    "n": int,
    "size": str,
    "quality": str,
    "background": str,
    "output_format": str,
    "output_compression": int,
    "safety_identifier": str,
    "user": str,
    "stream": bool,
    "partial_images": int,
}
TYPES: dict[Endpoint, dict[str, type]] = {
    "generations": {**_COMMON, "moderation": str},
    "edits": {**_COMMON, "input_fidelity": str},
}
"""Every parameter that is known, by endpoint. The files of an edit travel beside them."""

_NOT_SIMULATED = {"complexity", "frame_count", "frame_duration_ms", "svg", "markup"}
_TYPE_NAMES = {
    str: "a string",
    int: "an integer",
    bool: "a boolean",
    float: "a number",
    list: "an array",
    dict: "an object",
}


def check_names_and_types(given: Parameters, types: Mapping[str, type]) -> None:
    """Refuses what is unknown, not simulated, of a wrong type, or missing.

    Raises:
        ApiError: 400, for the first of them.
    """
    for name, value in given.items():
        if name in _NOT_SIMULATED:
            raise refuse_for_model(
                name, "unsupported_parameter", f"The simulator does not support '{name}': leave it out."
            )
        if name not in types:
            raise refuse(name, "unknown_parameter", f"Unknown parameter: '{name}'.")
        # A bool is an int to Python, but not to the provider.
        if type(value) is not types[name]:
            wanted, got = _TYPE_NAMES[types[name]], _TYPE_NAMES[type(value)]
            raise refuse(
                name, "invalid_type", f"Invalid type for '{name}': expected {wanted}, but got {got} instead."
            )
    for name in ("prompt", "model"):
        if name not in given:
            raise refuse(name, "missing_required_parameter", f"Missing required parameter: '{name}'.")


_MAX_FIELD_BYTES = 256 * 1024
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")
_IMAGE_NAMES = {"image", "image[]"}


class Body(NamedTuple):
    """What a request brings: parameters by name, and decoded pictures."""

    parameters: dict[str, Any]
    inputs: Inputs


async def read_json(request: web.Request) -> Body:
    """The parameters of a JSON body.

    Raises:
        ApiError: 400, the body is no JSON object or does not say that it is JSON.
    """
    if request.content_type != "application/json":
        raise _wrong_content_type(request, "application/json")
    try:
        parameters = json.loads(await request.read(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "The body of the request is no valid JSON.", code="invalid_json") from error
    if not isinstance(parameters, dict):
        raise ApiError(400, "The body of the request must be a JSON object.", code="invalid_type")
    return Body(parameters, Inputs())


async def read_multipart(request: web.Request) -> Body:
    """The parameters and pictures of a multipart body, as the openai SDK sends it.

    Raises:
        ApiError: 400, a part is unknown, sent twice, too large, or not what it claims to be.
    """
    if request.content_type != "multipart/form-data":
        raise _wrong_content_type(request, "multipart/form-data")
    parameters: dict[str, Any] = {}
    images: list[Upload] = []
    mask: Upload | None = None
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or not part.name:
                raise ApiError(400, "Every part of the body needs a name.", code="invalid_multipart")
            name = part.name
            if name in _IMAGE_NAMES:
                _refuse_second_image(name, images)
                images.append(await _read_file(part, MAX_IMAGE_BYTES))
            elif name in parameters or (name == "mask" and mask):
                raise refuse(name, "duplicate_parameter", f"Duplicate parameter: '{name}'.")
            elif name == "mask":
                mask = await _read_file(part, MAX_MASK_BYTES)
            else:
                parameters[name] = await _read_field(part)
    except ValueError as error:
        raise ApiError(
            400, "The body of the request is no valid multipart form.", code="invalid_multipart"
        ) from error
    return Body(parameters, await asyncio.to_thread(check_uploads, images, mask))


def _refuse_second_image(name: str, images: list[Upload]) -> None:
    if images and (name == "image" or images[0].param == "image"):
        raise refuse(
            name, "duplicate_parameter", "Several images are sent as 'image[]', each in a part of its own."
        )
    if len(images) > MAX_IMAGES:
        raise refuse("image", "array_above_max_length", f"At most {MAX_IMAGES} images are allowed.")


async def _read_file(part: BodyPartReader, limit: int) -> Upload:
    name = str(part.name)
    if part.filename is None:
        raise refuse(
            name, "invalid_type", f"Invalid type for '{name}': expected a file, but got a string instead."
        )
    content = bytearray()
    while chunk := await part.read_chunk(64 * 1024):
        content += chunk
        if len(content) >= limit:
            raise too_large(name, limit)
    content_type = part.headers.get("Content-Type", "application/octet-stream").partition(";")[0].strip()
    return Upload(name, content_type, bytes(content))


async def _read_field(part: BodyPartReader) -> Any:
    """A plain field, of the type that its parameter has; an unknown one stays text and is refused later."""
    name = str(part.name)
    if part.filename is not None:
        if name in TYPES["edits"]:
            raise refuse(
                name, "invalid_type", f"Invalid type for '{name}': expected a string, but got a file instead."
            )
        return part.filename
    raw = bytearray()
    while chunk := await part.read_chunk(64 * 1024):
        raw += chunk
        if len(raw) > _MAX_FIELD_BYTES:
            raise refuse(name, "string_above_max_length", f"Invalid '{name}': the field is too large.")
    text = raw.decode()
    wanted = TYPES["edits"].get(name)
    if wanted is int and _WHOLE_NUMBER.fullmatch(text):
        return int(text)
    if wanted is bool and text in {"true", "false"}:
        return text == "true"
    return text


def _wrong_content_type(request: web.Request, wanted: str) -> ApiError:
    message = f"Unsupported content type: '{request.content_type}'. This method takes '{wanted}'."
    return ApiError(400, message, code="unsupported_content_type")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_MAX_URL = 20_971_520
_TYPES = {"image/png", "image/jpeg", "image/webp"}


def read_json_edit(body: dict[str, Any]) -> Body:
    """The parameters and the decoded pictures.

    Raises:
        ApiError: 400, a picture is missing, of a wrong form, or none.
    """
    parameters = {name: value for name, value in body.items() if name not in {"images", "mask"}}
    if "image" in parameters:
        raise refuse("image", "unknown_parameter", "Unknown parameter: 'image'. In JSON it is 'images'.")
    images = body.get("images")
    if not isinstance(images, list):
        raise refuse("images", "missing_required_parameter", "Missing required parameter: 'images'.")
    uploads = [_read(f"images[{index}]", image, MAX_IMAGE_BYTES) for index, image in enumerate(images)]
    mask = _read("mask", body["mask"], MAX_MASK_BYTES) if body.get("mask") is not None else None
    return Body(parameters, check_uploads(uploads, mask))


def _read(param: str, given: Any, limit: int) -> Upload:
    if not isinstance(given, dict) or set(given) != {"image_url"} or not isinstance(given["image_url"], str):
        message = f"Invalid '{param}': the simulator takes an object with 'image_url', a data: URL."
        raise refuse(param, "invalid_type", message)
    url = given["image_url"]
    if len(url) > _MAX_URL:
        raise refuse(
            f"{param}.image_url", "string_above_max_length", f"Invalid '{param}.image_url': too long."
        )
    head, _, data = url.partition(",")
    media_type = head.removeprefix("data:").removesuffix(";base64")
    if head != f"data:{media_type};base64" or media_type not in _TYPES:
        raise refuse(f"{param}.image_url", "invalid_value", f"Invalid '{param}.image_url': no data: URL.")
    try:
        content = base64.b64decode(data, validate=True)
    except ValueError as error:
        raise ApiError(400, f"Invalid '{param}.image_url': no base64.", code="invalid_base64") from error
    if len(content) >= limit:
        raise too_large(param, limit)
    return Upload(param, media_type, content)
