"""Which parameters each endpoint knows, and of which type. What their values may be is in `validation`."""

from collections.abc import Mapping
from typing import Any

from simulator.errors import refuse, refuse_for_model
from simulator.orders import Endpoint

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
