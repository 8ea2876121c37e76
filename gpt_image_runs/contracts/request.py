"""The image request: the provider's own payload, and who sends it.

The payload in the provider's documentation is a valid request. The rules here apply to every model; those that depend on the model
(sizes, qualities, formats) are in the catalog.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.base import LABEL, NOT_BLANK, PLAIN_TEXT, JsonPattern, SparseContract
from gpt_image_runs.contracts.images import ImageInput

MAX_URL = 2_048
_HOST = r"([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
_REST = r"[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*"
# Deliberately narrow: no credentials, no fragment, and nothing that two parsers could read as two different hosts.
URL_PATTERN = rf"^https?://{_HOST}(:[0-9]{{1,5}})?([/?]{_REST})?$"

# An https address. The pattern also matches http, which a setting may allow to this host for tests.
Destination = Annotated[str, StringConstraints(pattern=URL_PATTERN, max_length=MAX_URL)]


class Notify(SparseContract):
    """Where a run's end is told, written as an object with a `url`, or as the URL alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    url: Destination

    @model_validator(mode="before")
    @classmethod
    def _from_any_spelling(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the schema of both spellings; pydantic sees only the one they are converted to."""
        whole = handler.resolve_ref_schema(handler(core_schema))
        spelling = {"type": "string", "maxLength": MAX_URL, "pattern": URL_PATTERN}
        as_an_object = {
            "type": "object",
            "properties": {"url": spelling},
            "required": ["url"],
            "additionalProperties": False,
        }
        return {"description": whole["description"], "anyOf": [spelling, as_an_object]}


Operation = Literal["generate", "edit"]
MissingUsage = Literal["estimate", "hold"]
UnknownOutcome = Literal["resend", "hold"]

# Fields that are not content: two requests that differ only in these are the same request.
NO_CONTENT = {"request_id", "notify"}

TENANT_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
REQUEST_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
MAX_PROMPT = 32_000
MAX_PARTIAL_IMAGES = 3
_DEFAULT_COMPRESSION = 100

_CONTROLS = frozenset(map(chr, [*range(0x20), *range(0x7F, 0xA0)])) - set("\t\n\r")


def _refuse_control_characters(text: str) -> str:
    text.encode()  # half a surrogate pair can be written in JSON, but neither sent nor stored; raises a ValueError
    if _CONTROLS.intersection(text):
        raise ValueError("control characters")
    return text


def _refuse_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("blank")
    return text


def _refuse_a_number(value: Any) -> Any:
    if not isinstance(value, bool):
        raise ValueError("not a boolean")  # noqa: TRY004 - pydantic reads a ValueError; to Python, and so to it, 1 is True
    return value


def _refuse_invisible(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("invisible characters")
    return text


# Text in any language and direction.
PlainText = Annotated[str, AfterValidator(_refuse_control_characters), JsonPattern(PLAIN_TEXT)]
# Names that people tell apart by eye: no direction marks, joiners or surrounding spaces.
Label = Annotated[
    str, AfterValidator(_refuse_invisible), JsonPattern(LABEL), Field(min_length=1, max_length=64)
]
# A label, or an empty text, which the provider reads as absent.
Identifier = Annotated[
    str,
    AfterValidator(_refuse_invisible),
    JsonPattern(f"^$|{LABEL}"),
    Field(max_length=64),
]


def _is_written_default(name: str, given: dict[str, Any]) -> bool:
    """Return whether a field holds a documented default that changes neither the call nor the pictures.

    Earlier versions refused these values, so no billed request has one in its fingerprint. Defaults that are sent to the
    provider (n 1, size "auto", quality "auto", ...) are not among them: they are part of the content.
    """
    value = given[name]
    if name == "stream":
        partial = given.get("partial_images")
        return value is False and not (type(partial) is int and 1 <= partial <= MAX_PARTIAL_IMAGES)
    if name == "partial_images":
        return type(value) is int and value == 0
    if name == "output_compression":
        is_default = type(value) is int and value == _DEFAULT_COMPRESSION
        return is_default and given.get("output_format") in (None, "png")
    if name == "moderation":
        return bool(value == "auto" and given.get("images"))
    if name == "response_format":
        return bool(value == "b64_json")
    return name in {"safety_identifier", "user"} and value == ""


class ImageRequest(SparseContract):
    """One image request. With `images` it is an edit, without it is a generation.

    Fields that are None are not sent to the provider, which then applies its own defaults. Types are strict: "1" is
    not a number. `size` is "auto" or "WxH" in pixels, `output_compression` is percent. With `partial_images` the answer
    is streamed; `stream` says so once more, as the provider's payload does, and changes nothing.
    The provider's defaults that change nothing (`stream` false, `partial_images` 0, ...) count as absent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")] = Field(
        description="the name of a model, such as gpt-image-2"
    )
    prompt: Annotated[
        PlainText,
        AfterValidator(_refuse_blank),
        JsonPattern(NOT_BLANK),
        Field(min_length=1, max_length=MAX_PROMPT),
    ] = Field(description="a text of 1 to 32,000 characters, not blank, without control characters")
    n: Annotated[int, Field(ge=1, le=10)] | None = Field(
        default=None, description="a whole number from 1 to 10"
    )
    size: Annotated[str, StringConstraints(pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$")] | None = (
        Field(default=None, description='"auto" or WIDTHxHEIGHT in pixels, such as 1024x1024')
    )
    quality: Annotated[str, StringConstraints(pattern=r"^[a-z]{1,16}$")] | None = Field(
        default=None, description="auto, low, medium or high (xhigh and max on some models)"
    )
    background: Literal["auto", "opaque", "transparent"] | None = Field(
        default=None, description="auto, opaque or transparent"
    )
    output_format: Literal["png", "jpeg", "webp"] | None = Field(
        default=None, description="png, jpeg or webp"
    )
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None, description="a whole number from 0 to 100"
    )
    moderation: Literal["auto", "low"] | None = Field(default=None, description="auto or low")
    safety_identifier: Identifier | None = Field(
        default=None, description="up to 64 visible characters, no blanks around them"
    )
    user: Identifier | None = Field(
        default=None, description="up to 64 visible characters, no blanks around them"
    )
    input_fidelity: Literal["low", "high"] | None = Field(default=None, description="low or high")
    images: Annotated[tuple[ImageInput, ...], Field(min_length=1, max_length=16, strict=False)] | None = (
        Field(default=None, description="1 to 16 references into the image store, or small data: URIs")
    )
    mask: ImageInput | None = Field(
        default=None, description="a reference into the image store, or a small data: URI"
    )
    # The schemas of these two admit the defaults 0 and false, which `_drop_written_defaults` removes.
    partial_images: (
        Annotated[
            int,
            Field(ge=1, le=MAX_PARTIAL_IMAGES),
            WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MAX_PARTIAL_IMAGES}),
        ]
        | None
    ) = Field(
        default=None,
        description="a whole number from 1 to 3, with one picture asked for; or 0, which is the same as absent",
    )
    stream: (
        Annotated[Literal[True], BeforeValidator(_refuse_a_number), WithJsonSchema({"type": "boolean"})]
        | None
    ) = Field(
        default=None,
        description="true with partial_images 1 to 3, or false without them, which is the same as absent",
    )
    response_format: Literal["b64_json"] | None = Field(
        default=None,
        description="b64_json, which is the same as absent: GPT Image models always answer with the picture itself",
    )

    tenant: Annotated[str, StringConstraints(pattern=TENANT_PATTERN)] = Field(
        default="default",
        description="1 to 63 characters of a-z, 0-9, dot, hyphen and underscore, the first a letter or digit",
    )
    request_id: Annotated[str, StringConstraints(pattern=REQUEST_ID_PATTERN)] | None = Field(
        default=None,
        description="1 to 128 characters of A-Z, a-z, 0-9, dot, hyphen and underscore, the first a letter or digit",
    )
    missing_usage: MissingUsage | None = Field(default=None, description="estimate or hold")
    unknown_outcome: UnknownOutcome | None = Field(default=None, description="resend or hold")
    notify: Notify | None = Field(
        default=None,
        description="where the run's end is told: an object with a url, an https address of up to 2,048 characters without"
        " credentials and without a fragment; or that address alone",
    )
    metadata: (
        Annotated[dict[Label, Annotated[PlainText, Field(max_length=512)]], Field(max_length=16)] | None
    ) = Field(
        default=None,
        description="at most 16 texts of up to 512 characters, without control characters, by names of 1 to 64 visible ones",
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_written_defaults(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: given for name, given in value.items() if not _is_written_default(name, value)}

    @property
    def operation(self) -> Operation:
        """The operation: an edit where there are pictures to edit."""
        return "edit" if self.images else "generate"

    @property
    def image_count(self) -> int:
        """The number of pictures requested."""
        return self.n or 1

    def inputs(self) -> tuple[tuple[str, ImageInput], ...]:
        """Return every picture in the request with the name of its field."""
        named = [(f"images.{index}", image) for index, image in enumerate(self.images or ())]
        return (*named, ("mask", self.mask)) if self.mask else tuple(named)


def find_request_id(request: ImageRequest, workflow_id: str) -> str | None:
    """Return the request's id, else what follows image:TENANT: in the workflow's id, or all of it; None if neither is valid."""
    if request.request_id is not None:
        return request.request_id
    candidate = workflow_id.removeprefix(names.run_id_for(request.tenant, ""))
    return candidate if re.fullmatch(REQUEST_ID_PATTERN, candidate) else None


def find_run_id(request: ImageRequest, workflow_id: str) -> str | None:
    """Return the id of the run that a workflow of this id makes of a request; None where it has no request id."""
    request_id = find_request_id(request, workflow_id)
    return None if request_id is None else names.run_id_for(request.tenant, request_id)


# The server appends the scheduled time to the id of the workflow that a schedule starts.
_SERVER_SUFFIX = re.compile(r"-[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$", re.ASCII)
_STAMP = "%Y%m%dT%H%M%SZ"
_STAMP_LENGTH = len("-20261128T020000Z")
MAX_SCHEDULED_REQUEST_ID = 128 - _STAMP_LENGTH
MAX_SCHEDULED_BATCH_ID = 64 - _STAMP_LENGTH


def strip_scheduled_time(workflow_id: str) -> str:
    """Return the workflow id set in a schedule: "image:acme:nightly" for "image:acme:nightly-2026-11-28T02:00:00Z"."""
    return _SERVER_SUFFIX.sub("", workflow_id)


def derive_scheduled_id(base: str, scheduled_at: datetime) -> str:
    """Build the request or batch id of one scheduled time: "nightly-20261128T020000Z"."""
    return f"{base}-{scheduled_at.astimezone(UTC):{_STAMP}}"


def find_tenant(payload: Any, workflow_id: str) -> str | None:
    """Return the tenant of a request, also of one that is refused; None if it is unknown.

    The request's own field counts first, then the workflow's id; a request without a tenant belongs to the default one.
    """
    named = payload.get("tenant") if isinstance(payload, dict) else None
    if isinstance(named, str) and re.fullmatch(TENANT_PATTERN, named):
        return named
    parts = strip_scheduled_time(workflow_id).split(":")
    if len(parts) == 3 and parts[0] == "image" and re.fullmatch(TENANT_PATTERN, parts[1]):  # noqa: PLR2004
        return parts[1]
    is_unnamed = isinstance(payload, dict) and named is None
    return str(ImageRequest.model_fields["tenant"].default) if is_unnamed else None


def describe_call(model: str, operation: str, size: str | None, quality: str | None, count: int) -> str:
    """Format one line for the timeline: what is requested from the provider, without the prompt."""
    pictures = "1 picture" if count == 1 else f"{count} pictures"
    return f"{operation} {pictures} with {model}, size {size or 'auto'}, quality {quality or 'auto'}"
