"""Parse JSON and multipart bodies into parameters and images. `validation` decides what they mean."""

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
    file_too_large_error,
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
# Every known parameter by endpoint. The files of an edit are not among them.
TYPES: dict[Endpoint, dict[str, type]] = {
    "generations": {**_COMMON, "moderation": str},
    "edits": {**_COMMON, "input_fidelity": str},
}

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
    """Refuse parameters that are unknown, not simulated, of a wrong type, or missing.

    Raises:
        ApiError: 400, for the first problem.
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
    """The contents of a request: parameters by name, and decoded images."""

    parameters: dict[str, Any]
    inputs: Inputs


async def read_json(request: web.Request) -> Body:
    """Read the parameters of a JSON body.

    Raises:
        ApiError: 400, the body is not a JSON object or its content type is not JSON.
    """
    if request.content_type != "application/json":
        raise wrong_content_type_error(request, "application/json")
    try:
        parameters = json.loads(await request.read(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "The request body is not valid JSON.", code="invalid_json") from error
    if not isinstance(parameters, dict):
        raise ApiError(400, "The request body must be a JSON object.", code="invalid_type")
    return Body(parameters, Inputs())


async def read_multipart(request: web.Request) -> Body:
    """Read the parameters and images of a multipart body, as the openai SDK sends it.

    Raises:
        ApiError: 400, a part is unknown, sent twice, too large, or not of its declared type.
    """
    if request.content_type != "multipart/form-data":
        raise wrong_content_type_error(request, "multipart/form-data")
    parameters: dict[str, Any] = {}
    images: list[Upload] = []
    mask: Upload | None = None
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or not part.name:
                raise ApiError(400, "Every part of the body must have a name.", code="invalid_multipart")
            name = part.name
            if name in _IMAGE_NAMES:
                _check_image_part(name, images)
                images.append(await _read_file(part, MAX_IMAGE_BYTES))
            elif name in parameters or (name == "mask" and mask):
                raise refuse(name, "duplicate_parameter", f"Duplicate parameter: '{name}'.")
            elif name == "mask":
                mask = await _read_file(part, MAX_MASK_BYTES)
            else:
                parameters[name] = await _read_field(part)
    except ValueError as error:
        raise ApiError(
            400, "The request body is not a valid multipart form.", code="invalid_multipart"
        ) from error
    return Body(parameters, await asyncio.to_thread(check_uploads, images, mask))


def _check_image_part(name: str, images: list[Upload]) -> None:
    if images and (name == "image" or images[0].param == "image"):
        raise refuse(name, "duplicate_parameter", "Send several images as 'image[]', each in its own part.")
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
            raise file_too_large_error(name, limit)
    content_type = part.headers.get("Content-Type", "application/octet-stream").partition(";")[0].strip()
    return Upload(name, content_type, bytes(content))


async def _read_field(part: BodyPartReader) -> Any:
    """Read a plain field as its parameter's type. Unknown ones stay text and are refused later."""
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


def wrong_content_type_error(request: web.Request, wanted: str) -> ApiError:
    message = f"Unsupported content type: '{request.content_type}'. This method takes '{wanted}'."
    return ApiError(400, message, code="unsupported_content_type")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON")


_MAX_URL_LENGTH = 20_971_520
_TYPES = {"image/png", "image/jpeg", "image/webp"}


def read_json_edit(body: dict[str, Any]) -> Body:
    """Read the parameters and decoded images of an edit with a JSON body.

    Raises:
        ApiError: 400, an image is missing, of a wrong type, or not readable.
    """
    parameters = {name: value for name, value in body.items() if name not in {"images", "mask"}}
    if "image" in parameters:
        raise refuse("image", "unknown_parameter", "Unknown parameter: 'image'. In JSON use 'images'.")
    images = body.get("images")
    if not isinstance(images, list):
        raise refuse("images", "missing_required_parameter", "Missing required parameter: 'images'.")
    uploads = [_read(f"images[{index}]", image, MAX_IMAGE_BYTES) for index, image in enumerate(images)]
    mask = _read("mask", body["mask"], MAX_MASK_BYTES) if body.get("mask") is not None else None
    return Body(parameters, check_uploads(uploads, mask))


def _read(param: str, given: Any, limit: int) -> Upload:
    if not isinstance(given, dict) or set(given) != {"image_url"} or not isinstance(given["image_url"], str):
        message = f"Invalid '{param}': the simulator expects an object with 'image_url', a data: URL."
        raise refuse(param, "invalid_type", message)
    url = given["image_url"]
    if len(url) > _MAX_URL_LENGTH:
        raise refuse(
            f"{param}.image_url", "string_above_max_length", f"Invalid '{param}.image_url': too long."
        )
    head, _, data = url.partition(",")
    media_type = head.removeprefix("data:").removesuffix(";base64")
    if head != f"data:{media_type};base64" or media_type not in _TYPES:
        raise refuse(f"{param}.image_url", "invalid_value", f"Invalid '{param}.image_url': not a data: URL.")
    try:
        content = base64.b64decode(data, validate=True)
    except ValueError as error:
        raise ApiError(
            400, f"Invalid '{param}.image_url': not valid base64.", code="invalid_base64"
        ) from error
    if len(content) >= limit:
        raise file_too_large_error(param, limit)
    return Upload(param, media_type, content)
