"""What is asked: the provider's own payload, and who asks.

The payload in the provider's documentation is a valid request as it stands. What depends on the model (sizes,
qualities, formats) is the catalogue's business; here is what holds for every model.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from contracts.base import SparseContract
from contracts.images import ImageInput
from contracts.json_pattern import LABEL, NOT_BLANK, PLAIN_TEXT, JsonPattern
from contracts.notify import Notify

Operation = Literal["generate", "edit"]
MissingUsage = Literal["estimate", "hold"]
UnknownOutcome = Literal["resend", "hold"]

NO_CONTENT = {"request_id", "notify"}
"""Fields that are not what is asked: two requests that differ in these alone are the same request."""

TENANT_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
REQUEST_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
LARGEST_PROMPT = 32_000
MOST_PARTIAL_IMAGES = 3
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
        raise ValueError("no boolean")  # noqa: TRY004 - pydantic reads a ValueError; to Python, and so to it, 1 is True
    return value


def _refuse_invisible(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("invisible characters")
    return text


PlainText = Annotated[str, AfterValidator(_refuse_control_characters), JsonPattern(PLAIN_TEXT)]
"""What is written in any language, in either direction."""
Label = Annotated[
    str, AfterValidator(_refuse_invisible), JsonPattern(LABEL), Field(min_length=1, max_length=64)
]
"""What people tell apart by eye: no marks of direction, no joiners, no blanks around it."""
Identifier = Annotated[
    str,
    AfterValidator(_refuse_invisible),
    JsonPattern(f"^$|{LABEL}"),
    Field(max_length=64),
]
"""A label, or an empty text, which the provider reads as absent."""


def _is_written_default(name: str, given: dict[str, Any]) -> bool:
    """Whether a field holds the provider's documented default, where it changes neither the call nor the pictures.

    These values were refused once, so no request that was billed has one in its fingerprint. Defaults that are sent
    to the provider (n 1, size "auto", quality "auto", ...) are not among them: they are part of what is asked.
    """
    value = given[name]
    if name == "stream":
        partial = given.get("partial_images")
        return value is False and not (type(partial) is int and 1 <= partial <= MOST_PARTIAL_IMAGES)
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
    no number. `size` is "auto" or "WxH" in pixels, `output_compression` is percent. With `partial_images` the answer
    is streamed; `stream` says so once more, as the provider's payload does, and changes nothing.
    The provider's defaults that change nothing (`stream` false, `partial_images` 0, ...) count as absent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")]
    prompt: Annotated[
        PlainText,
        AfterValidator(_refuse_blank),
        JsonPattern(NOT_BLANK),
        Field(min_length=1, max_length=LARGEST_PROMPT),
    ]
    n: Annotated[int, Field(ge=1, le=10)] | None = None
    size: Annotated[str, StringConstraints(pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$")] | None = None
    quality: Annotated[str, StringConstraints(pattern=r"^[a-z]{1,16}$")] | None = None
    background: Literal["auto", "opaque", "transparent"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    moderation: Literal["auto", "low"] | None = None
    safety_identifier: Identifier | None = None
    user: Identifier | None = None
    input_fidelity: Literal["low", "high"] | None = None
    images: Annotated[tuple[ImageInput, ...], Field(min_length=1, max_length=16, strict=False)] | None = None
    mask: ImageInput | None = None
    # The schemas of these two admit the defaults 0 and false, which `_drop_written_defaults` removes.
    partial_images: (
        Annotated[
            int,
            Field(ge=1, le=MOST_PARTIAL_IMAGES),
            WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MOST_PARTIAL_IMAGES}),
        ]
        | None
    ) = None
    stream: (
        Annotated[Literal[True], BeforeValidator(_refuse_a_number), WithJsonSchema({"type": "boolean"})]
        | None
    ) = None
    response_format: Literal["b64_json"] | None = None

    tenant: Annotated[str, StringConstraints(pattern=TENANT_PATTERN)] = "default"
    request_id: Annotated[str, StringConstraints(pattern=REQUEST_ID_PATTERN)] | None = None
    missing_usage: MissingUsage | None = None
    unknown_outcome: UnknownOutcome | None = None
    notify: Notify | None = None
    metadata: (
        Annotated[dict[Label, Annotated[PlainText, Field(max_length=512)]], Field(max_length=16)] | None
    ) = None

    @model_validator(mode="before")
    @classmethod
    def _drop_written_defaults(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: given for name, given in value.items() if not _is_written_default(name, value)}

    @property
    def operation(self) -> Operation:
        """What is done: an edit where there are pictures to edit."""
        return "edit" if self.images else "generate"

    @property
    def image_count(self) -> int:
        """How many pictures are asked for."""
        return self.n or 1

    def inputs(self) -> tuple[tuple[str, ImageInput], ...]:
        """Every picture that the request brings, with the name of its field."""
        named = [(f"images.{index}", image) for index, image in enumerate(self.images or ())]
        return (*named, ("mask", self.mask)) if self.mask else tuple(named)
