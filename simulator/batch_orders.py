"""What a request for a batch asks, read as strictly as the provider does. Knows no batch."""

from typing import Any, NamedTuple

from simulator.batch_input import ENDPOINTS
from simulator.errors import refuse

_TYPES = {
    "input_file_id": str,
    "endpoint": str,
    "completion_window": str,
    "metadata": dict,
    "output_expires_after": dict,
}
_REQUIRED = ("input_file_id", "endpoint", "completion_window")
_MOST_PAIRS, _LONGEST_KEY, _LONGEST_VALUE = 16, 64, 512
_SHORTEST_EXPIRY, _LONGEST_EXPIRY = 3_600, 2_592_000


class BatchOrder(NamedTuple):
    """A sound request: `url` is the endpoint as it is written on every line."""

    input_file_id: str
    url: str
    metadata: dict[str, str] | None


def read_batch_order(parameters: dict[str, Any]) -> BatchOrder:
    """The order that the parameters make; null counts as left out.

    Raises:
        ApiError: 400, for the first thing that is wrong.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    for name, value in given.items():
        if name not in _TYPES:
            raise refuse(name, "unknown_parameter", f"Unknown parameter: '{name}'.")
        if type(value) is not _TYPES[name]:
            raise refuse(name, "invalid_type", f"Invalid type for '{name}'.")
    for name in _REQUIRED:
        if name not in given:
            raise refuse(name, "missing_required_parameter", f"Missing required parameter: '{name}'.")
    if given["completion_window"] != "24h":
        raise refuse("completion_window", "invalid_value", "Invalid 'completion_window': supported is '24h'.")
    if given["endpoint"] not in ENDPOINTS:
        supported = ", ".join(f"'{url}'" for url in ENDPOINTS)
        raise refuse("endpoint", "invalid_value", f"Invalid 'endpoint': the simulator supports {supported}.")
    _check_metadata(given.get("metadata", {}))
    _check_expiry(given.get("output_expires_after"))
    return BatchOrder(given["input_file_id"], given["endpoint"], given.get("metadata"))


def _check_metadata(metadata: dict[str, Any]) -> None:
    if len(metadata) > _MOST_PAIRS:
        message = f"Invalid 'metadata': at most {_MOST_PAIRS} pairs, but there are {len(metadata)}."
        raise refuse("metadata", "object_above_max_properties", message)
    for name, value in metadata.items():
        if not isinstance(value, str):
            raise refuse(f"metadata.{name[:80]}", "invalid_type", "Invalid 'metadata': values are texts.")
        if not 0 < len(name) <= _LONGEST_KEY or len(value) > _LONGEST_VALUE:
            message = (
                f"Invalid 'metadata': keys up to {_LONGEST_KEY} characters, values up to {_LONGEST_VALUE}."
            )
            raise refuse(f"metadata.{name[:80]}", "string_above_max_length", message)


def _check_expiry(expiry: dict[str, Any] | None) -> None:
    if expiry is None:
        return
    seconds = expiry.get("seconds")
    sound = type(seconds) is int and _SHORTEST_EXPIRY <= seconds <= _LONGEST_EXPIRY
    if set(expiry) != {"anchor", "seconds"} or expiry["anchor"] != "created_at" or not sound:
        message = (
            "Invalid 'output_expires_after': expected {'anchor': 'created_at', 'seconds': N},"
            f" N being {_SHORTEST_EXPIRY} to {_LONGEST_EXPIRY}."
        )
        raise refuse("output_expires_after", "invalid_value", message)
