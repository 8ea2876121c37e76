"""From the provider's answer to pictures and everything that explains their bill. Pure, but takes a core's time:
decoding megabytes belongs in a thread. Whether the bytes are pictures is `imaging.pictures`' business.
"""

import base64
from dataclasses import dataclass, field
from typing import Any

from contracts.request import ImageRequest
from imaging.calls import RawAnswer
from imaging.error_bodies import read_error
from imaging.errors import LARGEST_RAW_BODY, MalformedAnswer
from imaging.provider_json import read_json

_LONGEST_OPTION = 64


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the provider delivered.

    `response` is its whole JSON without the pictures' data, fields that we do not know included; `usage` is that
    field of it, verbatim, whatever it holds. `size`, `quality`, `background`, `output_format` are the effective ones,
    None where neither the answer nor the request names them. `warnings` are sentences for the operator.
    """

    pictures: tuple[bytes, ...] = field(repr=False)
    response: dict[str, Any] = field(repr=False)
    usage: Any
    size: str | None
    quality: str | None
    background: str | None
    output_format: str | None
    warnings: tuple[str, ...] = ()


def read_answer(raw: RawAnswer, request: ImageRequest) -> Answer:
    """Reads a 2xx answer to a request.

    Raises:
        MalformedAnswer: it holds no pictures, or one that is no base64.
    """
    try:
        response = read_json(raw.body)
    except ValueError as error:
        raise _malformed(raw, f"it is no JSON ({error})") from None
    return read_response(raw, response, request)


def read_response(raw: RawAnswer, response: Any, request: ImageRequest) -> Answer:
    """Reads the JSON of an answer, taking the pictures out of it; `raw` is for what is said where it cannot be used.

    Raises:
        MalformedAnswer: as `read_answer`.
    """
    if not isinstance(response, dict):
        raise _malformed(raw, "it is no JSON object")
    encoded = _take_pictures(response)
    if not encoded:
        raise _malformed(raw, "its field data is no list of pictures", response)
    return Answer(
        pictures=tuple(_decode(raw, response, index, text) for index, text in enumerate(encoded)),
        response=response,
        usage=response.get("usage"),
        size=_effective(response, "size", request.size),
        quality=_effective(response, "quality", request.quality),
        background=_effective(response, "background", request.background),
        output_format=_effective(response, "output_format", request.output_format),
        warnings=_compare_count(len(encoded), request.image_count),
    )


def _take_pictures(response: dict[str, Any]) -> list[Any]:
    """Takes the pictures' data out of the response, in place: a stand-in of None for an item that has none."""
    data = response.get("data")
    if not isinstance(data, list):
        return []
    return [item.pop("b64_json", None) if isinstance(item, dict) else None for item in data]


def _decode(raw: RawAnswer, response: dict[str, Any], index: int, text: Any) -> bytes:
    if not isinstance(text, str) or not text:
        raise _malformed(raw, f"data[{index}] has no b64_json", response)
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise _malformed(raw, f"data[{index}].b64_json is no base64", response) from None


def _effective(response: dict[str, Any], name: str, requested: str | None) -> str | None:
    told = response.get(name)
    if isinstance(told, str) and 0 < len(told) <= _LONGEST_OPTION and told != "auto":
        return told
    return None if requested == "auto" else requested


def _compare_count(delivered: int, requested: int) -> tuple[str, ...]:
    if delivered == requested:
        return ()
    return (
        f"{requested} pictures were asked for and {delivered} delivered; all are kept, and the bill follows the usage.",
    )


def _malformed(raw: RawAnswer, detail: str, response: dict[str, Any] | None = None) -> MalformedAnswer:
    return MalformedAnswer(
        detail=detail,
        http_status=raw.http_status,
        # Some gateways answer 200 with an error object.
        provider_message=read_error(response).message,
        provider_request_id=raw.provider_request_id,
        raw_body=raw.body[:LARGEST_RAW_BODY],
        response=response,
    )
