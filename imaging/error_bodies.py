"""What a failed answer says, whoever wrote it: the API, a gateway, a proxy's HTML page. Judges nothing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imaging.errors import LONGEST_MESSAGE
from imaging.provider_json import make_text_storable, read_json

_LONGEST_LABEL = 200
_LONGEST_PAGE = 4_000
_MOST_CATEGORIES = 20


@dataclass(frozen=True, kw_only=True)
class ProviderError:
    """An error body's fields. `is_from_api` tells the API's own error object from what stands in between."""

    is_from_api: bool = False
    message: str = ""
    code: str | None = None
    type: str | None = None
    param: str | None = None
    moderation_stage: str | None = None
    moderation_categories: tuple[str, ...] = ()


def read_error_body(body: bytes) -> ProviderError:
    """The fields of an error body; where it is no JSON, its words are the message."""
    try:
        return read_error(read_json(body))
    except ValueError:
        return ProviderError(message=_read_page(body))


def read_error(payload: Any) -> ProviderError:
    """The fields of an error's JSON: the API's `{"error": {...}}`, or as much as there is of something else."""
    if not isinstance(payload, dict):
        return ProviderError(message=_read_message(payload))
    error = payload.get("error")
    if not isinstance(error, dict):
        return ProviderError(message=_read_message(error or payload.get("message") or payload.get("detail")))
    details = error.get("moderation_details")
    details = details if isinstance(details, dict) else {}
    categories = details.get("categories")
    labels = map(_read_label, categories if isinstance(categories, list) else ())
    return ProviderError(
        is_from_api=True,
        message=_read_message(error.get("message")),
        code=_read_label(error.get("code")),
        type=_read_label(error.get("type")),
        param=_read_label(error.get("param")),
        moderation_stage=_read_label(details.get("moderation_stage")),
        moderation_categories=tuple(label for label in labels if label)[:_MOST_CATEGORIES],
    )


def read_provider_request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's id of a request (OpenAI's, else Azure's), for its support. Header names in lower case."""
    return _read_label(headers.get("x-request-id") or headers.get("apim-request-id"))


def _read_label(value: Any) -> str | None:
    is_label = isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""
    return make_text_storable(str(value))[:_LONGEST_LABEL] if is_label else None


def _read_message(value: Any) -> str:
    return value.strip()[:LONGEST_MESSAGE] if isinstance(value, str) else ""


def _read_page(body: bytes) -> str:
    """The words of a page that is no JSON, such as a proxy's HTML."""
    text = make_text_storable(body[:_LONGEST_PAGE].decode("utf-8", "replace"))
    return _read_message(" ".join(re.sub(r"<[^>]*>", " ", text).split()))
