"""Parse untrusted JSON into a request, or into everything that is wrong with it."""

import difflib
from collections.abc import Iterable
from itertools import islice
from typing import Any, NamedTuple

from pydantic import ValidationError

from gpt_image_runs.contracts.images import MAX_DATA_URIS, MAX_REFERENCE
from gpt_image_runs.contracts.problems import Problem, describe_value
from gpt_image_runs.contracts.request import ImageRequest

# What each field allows, for messages about a value that it does not.
ALLOWED = {name: field.description or "" for name, field in ImageRequest.model_fields.items()}

NOT_SUPPORTED = {
    "complexity": "nothing: not supported yet, as it may change what is billed",
    "frame_count": "nothing: animated pictures are not supported yet",
    "frame_duration_ms": "nothing: animated pictures are not supported yet",
    "svg": "nothing: svg output is not supported yet, as it bills a second model",
    "markup": "nothing: markup is not supported yet",
    "style": "nothing: GPT Image models have no style option",
    "image": "nothing: name the pictures to edit in images",
}
_NOT_SUPPORTED_FORMATS = {"gif", "svg"}
_MAX_FIELD = 120
# Fields and values, nested ones included; a request that uses everything has some 160. Each may be a problem of its own,
# and too many would not fit into a history and would keep a workflow task busy for too long.
_MAX_PARTS = 300


class Reading(NamedTuple):
    """The result of parsing: the request if it is well-formed, its problems, and the sound part of it.

    `sound` is the request without the fields that have problems, so that rules about the other fields can still report theirs.
    It is None where the model is not valid.
    """

    request: ImageRequest | None
    problems: tuple[Problem, ...]
    sound: ImageRequest | None


def read_request(payload: Any) -> Reading:
    """Parse a request from decoded JSON. Never raise: whatever is wrong is listed in the problems."""
    if isinstance(payload, ImageRequest):
        payload = payload.model_dump(mode="json")
    if not isinstance(payload, dict):
        problem = Problem(
            field="request", value=describe_value("request", payload), allowed="one JSON object"
        )
        return Reading(None, (problem,), None)
    if _has_too_many_parts(payload):
        problem = Problem(
            field="request",
            value=describe_value("request", payload),
            allowed=f"at most {_MAX_PARTS} fields and values in all",
        )
        return Reading(None, (problem,), None)
    given = {str(name): value for name, value in payload.items() if value is not None}
    try:
        request = ImageRequest.model_validate(given)
    except ValidationError as error:
        problems = _problems_of(error)
        return Reading(None, problems, _read_sound_part(given, problems))
    problems = _check_together(request)
    return Reading(None if problems else request, problems, request)


def _has_too_many_parts(payload: Any) -> bool:
    count, rest = 0, [payload]
    while rest and count <= _MAX_PARTS:
        part = rest.pop()
        inner = part.values() if isinstance(part, dict) else part if isinstance(part, (list, tuple)) else ()
        count += len(inner)
        rest.extend(islice(inner, _MAX_PARTS))
    return count > _MAX_PARTS


def _problems_of(error: ValidationError) -> tuple[Problem, ...]:
    problems: dict[str, Problem] = {}
    for detail in error.errors(include_url=False, include_context=False):
        field = _field_of(detail["loc"])
        # pydantic calls a list too short when too few of its items are sound: the items have been told already.
        if field in problems or any(told.startswith(f"{field}.") for told in problems):
            continue
        value = "absent" if detail["type"] == "missing" else describe_value(field, detail["input"])
        problems[field] = Problem(
            field=field, value=value, allowed=_allowed(field, detail["type"], detail["input"])
        )
    return tuple(problems.values())


def _field_of(location: tuple[int | str, ...]) -> str:
    parts = [str(part) for part in location if part not in {"[key]", "constrained-str", "function-after"}]
    # A name that a stranger chose (an unknown field, a key of metadata) is shown like any other value.
    shown = [part if part.isprintable() and part.isascii() else ascii(part) for part in parts]
    return ".".join(shown)[:_MAX_FIELD] or "request"


def _allowed(field: str, kind: str, value: Any) -> str:
    name = field.partition(".")[0]
    if name == "output_format" and isinstance(value, str) and value in _NOT_SUPPORTED_FORMATS:
        return f"png, jpeg or webp ({value} is not supported yet, as it changes what is billed)"
    if kind != "extra_forbidden" or name in ALLOWED:
        return ALLOWED.get(name, "a well-formed request")
    if name in NOT_SUPPORTED:
        return NOT_SUPPORTED[name]
    close = difflib.get_close_matches(name, ALLOWED, n=1)
    return (
        f"nothing: there is no such field, did you mean {close[0]}?"
        if close
        else "nothing: there is no such field"
    )


def _check_together(request: ImageRequest) -> tuple[Problem, ...]:
    """Return the problems that concern several fields, whatever the model."""
    problems = []
    if request.mask and not request.images:
        problems.append(
            Problem(field="mask", value="given", allowed="only with images: a mask belongs to an edit")
        )
    if request.partial_images and request.image_count > 1:
        allowed = "1 with partial_images: the provider streams one picture at a time"
        problems.append(Problem(field="n", value=str(request.image_count), allowed=allowed))
    if request.stream and request.partial_images is None:
        allowed = "true only with partial_images: without them a stream shows nothing before its end"
        problems.append(Problem(field="stream", value="true", allowed=allowed))
    problems += [
        Problem(
            field=field,
            value=f"a text of {len(image.uri):,} characters",
            allowed=f"a reference of up to {MAX_REFERENCE:,} characters, or a data: URI",
        )
        for field, image in request.inputs()
        if not image.is_data_uri and len(image.uri) > MAX_REFERENCE
    ]
    embedded = [(len(image.uri), field) for field, image in request.inputs() if image.is_data_uri]
    characters = sum(length for length, _ in embedded)
    if characters > MAX_DATA_URIS:
        problems.append(
            Problem(
                field="images",
                value=f"data: URIs of {characters:,} characters in all",
                allowed=(
                    f"up to {MAX_DATA_URIS:,} characters in all, and {max(embedded)[1]} alone has {max(embedded)[0]:,};"
                    " upload larger pictures to the image store (`python starter.py upload FILE`) and refer to them"
                ),
            )
        )
    return tuple(problems)


def _read_sound_part(given: dict[str, Any], problems: Iterable[Problem]) -> ImageRequest | None:
    wrong = {problem.field.partition(".")[0] for problem in problems}
    if "model" in wrong:
        return None
    known = {name: value for name, value in given.items() if name in ALLOWED and name not in wrong}
    try:
        return ImageRequest.model_validate({"prompt": "-", **known})
    except ValidationError:
        return None
