"""Settings that cannot be used, in words for the person who set them. Pure."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

_PATTERNS = {
    "worker_deployment_name": "Write a name of letters, digits, hyphens and underscores, such as image-runs",
    "worker_build_id": "Write letters, digits, dots, hyphens, underscores or plus signs, such as 1.4.2 or a commit",
}


def explain(error: ValidationError, properties: Mapping[str, Any]) -> str:
    """A line for each variable: its name, its value unless it is a secret, and what is allowed.

    `properties` are those of the settings' JSON Schema, which knows both bounds of a number.
    """
    return "\n".join(
        f"{'_'.join(map(str, detail['loc'])).upper()} is {_show(detail)}. {_explain(detail, properties)}."
        for detail in error.errors(include_url=False)
    )


def _show(detail: Mapping[str, Any]) -> str:
    value = repr(detail["input"])
    secret = any(word in str(part) for part in detail["loc"] for word in ("key", "secret")) or "@" in value
    return "not usable" if secret else value[:120]


def _explain(detail: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """What to write instead, in words of people where pydantic's are those of programmers."""
    field = str(detail["loc"][0])
    match detail["type"]:
        case "value_error":
            return str(detail["ctx"]["error"])
        case "string_pattern_mismatch":
            return _PATTERNS.get(
                field, "Write a name of small letters, digits, dots and hyphens, such as openai"
            )
        case "literal_error":
            return f"Write {detail['ctx']['expected']}"
        case "bool_parsing":
            return "Write true or false"
        case "greater_than_equal" | "less_than_equal" | "int_parsing":
            return f"Write a whole number{_bounds(properties[field])}"
    return str(detail["msg"])


def _bounds(described: Mapping[str, Any]) -> str:
    limits = described.get("anyOf", [described])[0]  # of what may be unset, the first kind is the number
    return f" from {limits['minimum']} to {limits['maximum']}"
