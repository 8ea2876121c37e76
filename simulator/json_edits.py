"""The JSON body of an edit, as lines of a batch have it: pictures as `{"image_url": "data:..."}`. CPU work: call it in a thread."""

import base64
from typing import Any

from simulator.errors import ApiError, refuse
from simulator.reading import Body
from simulator.uploads import LARGEST_IMAGE_BYTES, LARGEST_MASK_BYTES, Upload, check_uploads, too_large

_LONGEST_URL = 20_971_520
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
    uploads = [_read(f"images[{index}]", image, LARGEST_IMAGE_BYTES) for index, image in enumerate(images)]
    mask = _read("mask", body["mask"], LARGEST_MASK_BYTES) if body.get("mask") is not None else None
    return Body(parameters, check_uploads(uploads, mask))


def _read(param: str, given: Any, limit: int) -> Upload:
    if not isinstance(given, dict) or set(given) != {"image_url"} or not isinstance(given["image_url"], str):
        message = f"Invalid '{param}': the simulator takes an object with 'image_url', a data: URL."
        raise refuse(param, "invalid_type", message)
    url = given["image_url"]
    if len(url) > _LONGEST_URL:
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
