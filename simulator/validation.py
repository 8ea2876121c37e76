"""Turn a request's parameters into an order, or into the error that the provider would return.

Stricter than the provider where it is lenient: parameters without an effect are refused.
"""

import re
from typing import Any

from simulator.http import ApiError, refuse, refuse_for_model
from simulator.models import MODELS, Model
from simulator.orders import Endpoint, ImageOrder
from simulator.request_parsing import TYPES, Parameters, check_names_and_types

_AUTO_SIZE = (1024, 1024)
_WIDTH_X_HEIGHT = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")
_STEP, _MAX_EDGE, _MAX_RATIO = 16, 3840, 3
_MIN_PIXELS, _MAX_PIXELS = 655_360, 8_294_400


def read_size(name: str, model: Model) -> tuple[int, int]:
    """Parse a size to width and height in pixels. "auto" is 1024 x 1024.

    Raises:
        ApiError: 400 `invalid_value`.
    """
    if name == "auto":
        return _AUTO_SIZE
    if model.sizes is not None and name not in model.sizes:
        supported = ", ".join(f"'{size}'" for size in ("auto", *model.sizes))
        raise _invalid(name, f"supported values are {supported}")
    if not _WIDTH_X_HEIGHT.fullmatch(name):
        raise _invalid(name, "expected 'auto' or WIDTHxHEIGHT")
    width, height = (int(side) for side in name.split("x"))
    if model.sizes is None:
        _check_limits(name, width, height)
    return width, height


def _check_limits(name: str, width: int, height: int) -> None:
    if width % _STEP or height % _STEP:
        raise _invalid(name, f"width and height must be divisible by {_STEP}")
    if max(width, height) > _MAX_EDGE:
        raise _invalid(name, f"no edge may be longer than {_MAX_EDGE} pixels")
    if max(width, height) > _MAX_RATIO * min(width, height):
        raise _invalid(name, f"the ratio must be between 1:{_MAX_RATIO} and {_MAX_RATIO}:1")
    if width * height < _MIN_PIXELS:
        raise _invalid(name, f"it is below the current minimum pixel budget of {_MIN_PIXELS}")
    if width * height > _MAX_PIXELS:
        raise _invalid(name, f"it is above the current maximum pixel budget of {_MAX_PIXELS}")


def _invalid(name: str, problem: str) -> ApiError:
    return refuse_for_model("size", "invalid_value", f"Invalid size '{name[:80]}': {problem}.")


_MAX_PROMPT_LENGTH = 32_000
_MAX_IDENTIFIER_LENGTH = 64


def read_order(endpoint: Endpoint, parameters: Parameters) -> ImageOrder:
    """Validate the parameters and build the order. A null parameter counts as omitted.

    Raises:
        ApiError: 400, for the first problem.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    check_names_and_types(given, TYPES[endpoint])
    _check_texts(given)
    n = _check_range(given, "n", 1, 10, default=1)
    model = _find_model(given)
    quality = _check_choice(given, "quality", ("auto", *model.qualities))
    fidelity = _check_fidelity(given, model)
    _check_choice(given, "moderation", ("auto", "low"))
    return ImageOrder(
        endpoint=endpoint,
        model_name=given["model"],
        prompt=given["prompt"],
        n=n,
        size=read_size(given.get("size", "auto"), model),
        quality=model.auto_quality if quality == "auto" else quality,
        safety_identifier=given.get("safety_identifier") or given.get("user") or None,
        high_fidelity=fidelity == "high",
        partial_images=_check_stream(given, n),
        **_check_output(given),
    )


def _check_texts(given: Parameters) -> None:
    for name, longest in (
        ("prompt", _MAX_PROMPT_LENGTH),
        ("safety_identifier", _MAX_IDENTIFIER_LENGTH),
        ("user", _MAX_IDENTIFIER_LENGTH),
    ):
        text = given.get(name, "")
        if len(text) > longest:
            message = (
                f"Invalid '{name}': at most {longest} characters are allowed, but there are {len(text)}."
            )
            raise refuse(name, "string_above_max_length", message)
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise refuse(name, "invalid_value", f"Invalid '{name}': it contains half of a surrogate pair.")
    if not given["prompt"]:
        raise refuse(
            "prompt", "empty_string", "Invalid 'prompt': at least 1 character is needed, but it is empty."
        )


def _find_model(given: Parameters) -> Model:
    name = given["model"]
    if name not in MODELS:
        raise refuse_for_model("model", "invalid_value", f"The model '{name}' does not exist.")
    return MODELS[name]


def _check_range(given: Parameters, name: str, lowest: int, highest: int, *, default: int) -> int:
    value: int = given.get(name, default)
    if not lowest <= value <= highest:
        code = "integer_below_min_value" if value < lowest else "integer_above_max_value"
        raise refuse(
            name, code, f"Invalid '{name}': expected {lowest} to {highest}, but got {str(value)[:40]}."
        )
    return value


def _check_choice(given: Parameters, name: str, allowed: tuple[str, ...]) -> str:
    """Return the value, by default the first allowed one."""
    value: str = given.get(name, allowed[0])
    if value not in allowed:
        supported = ", ".join(f"'{choice}'" for choice in allowed)
        raise refuse_for_model(
            name,
            "invalid_value",
            f"Invalid value: '{value[:80]}'. Supported values for '{name}' are: {supported}.",
        )
    return value


def _check_output(given: Parameters) -> dict[str, Any]:
    output_format = _check_choice(given, "output_format", ("png", "jpeg", "webp"))
    background = _check_choice(given, "background", ("auto", "opaque", "transparent"))
    compression = _check_range(given, "output_compression", 0, 100, default=100)
    if background == "transparent" and output_format == "jpeg":
        raise refuse_for_model(
            "background",
            "invalid_transparent_background_output_format",
            "A transparent background requires output_format 'png' or 'webp', not 'jpeg'.",
        )
    if "output_compression" in given and output_format == "png":
        message = "output_compression applies only to output_format 'jpeg' and 'webp': omit it for 'png'."
        raise refuse_for_model("output_compression", "invalid_value", message)
    return {
        "output_format": output_format,
        "output_compression": compression,
        "background": "transparent" if background == "transparent" else "opaque",
    }


def _check_stream(given: Parameters, n: int) -> int | None:
    """Return the number of partial images to stream, or None without a stream."""
    partial_images = _check_range(given, "partial_images", 0, 3, default=0)
    if not given.get("stream"):
        if "partial_images" in given:
            raise refuse("partial_images", "invalid_value", "'partial_images' requires 'stream': true.")
        return None
    if n > 1:
        raise ApiError(400, "Streaming is only supported with n=1.", param="n")
    return partial_images


def _check_fidelity(given: Parameters, model: Model) -> str:
    if "input_fidelity" in given and not model.input_fidelities:
        message = f"The model '{given['model']}' does not support 'input_fidelity': omit it."
        raise refuse_for_model("input_fidelity", "invalid_value", message)
    return _check_choice(given, "input_fidelity", model.input_fidelities or ("low",))
