"""References to pictures: stored ones, pictures to edit, and partial images."""

from typing import Any, Literal

from pydantic import ConfigDict, Field, GetJsonSchemaHandler, model_validator

from gpt_image_runs.contracts.base import Contract, SparseContract

MediaType = Literal["image/png", "image/jpeg", "image/webp"]

# All `data:` URIs of one request together, in characters: they travel through Temporal's history. The same for every way
# in: the argument of a run, of `submit` and of `PriceQuote`, a line of a batch, and the schema. Temporal carries 2 MiB in
# one value and 4 MB in one call, and an Update that comes with a start carries the request twice.
MAX_DATA_URIS = 1024 * 1024
# Characters of a reference into the image store; the longest that the store makes has some 700.
MAX_REFERENCE = 2_000

_DESCRIBED_BY_AN_IMAGE_REF = ("media_type", "bytes", "width", "height")
_SPELLING: dict[str, Any] = {
    "type": "string",
    "minLength": 1,
    "anyOf": [
        {"maxLength": MAX_REFERENCE},
        {"pattern": "^[Dd][Aa][Tt][Aa]:", "maxLength": MAX_DATA_URIS},
    ],
}


def is_data_uri(text: str) -> bool:
    """Return whether a text is a data: URI, whose scheme may be in upper or lower case."""
    return text[:5].lower() == "data:"


class ImageRef(Contract):
    """A picture in the image store. `bytes` is its size, `width` and `height` are pixels."""

    uri: str = Field(description="Where the picture is in the image store.")
    sha256: str = Field(description="The SHA-256 of its bytes, in hex.")
    media_type: MediaType = Field(description="What its bytes are.")
    bytes: int = Field(description="Its size in bytes.")
    width: int = Field(description="Pixels.")
    height: int = Field(description="Pixels.")


class PartialImage(Contract):
    """A picture that is not finished yet, shown while the provider draws. It is not a result, and no bill includes it.

    `attempt_id` is the request to the provider that it belongs to, `index` its place in the order of drawing, from 0.
    """

    attempt_id: str = Field(
        description="The request to the provider that it belongs to, as the ledger knows it."
    )
    index: int = Field(description="Its place in the order of drawing, from 0.")
    image: ImageRef = Field(description="The picture.")


class ImageInput(SparseContract):
    """A picture to edit, or a mask: a reference into the image store or a small `data:` URI.

    Written as a string, as the provider's `{"image_url": ...}`, or as the image ref of an earlier result. Where a
    `sha256` is given, the bytes have to match it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    uri: str = Field(min_length=1)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="before")
    @classmethod
    def _from_any_spelling(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"uri": value}
        if isinstance(value, dict) and set(value) == {"image_url"}:
            return {"uri": value["image_url"]}
        if isinstance(value, dict) and "uri" in value:
            return {name: part for name, part in value.items() if name not in _DESCRIBED_BY_AN_IMAGE_REF}
        return value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the schema of all three spellings; pydantic sees only the one they are converted to."""
        whole = handler.resolve_ref_schema(handler(core_schema))
        described: dict[str, Any] = {name: {} for name in _DESCRIBED_BY_AN_IMAGE_REF}
        by_reference = {
            "type": "object",
            "properties": {"uri": _SPELLING, "sha256": whole["properties"]["sha256"], **described},
            "required": ["uri"],
            "additionalProperties": False,
        }
        as_the_provider_has_it = {
            "type": "object",
            "properties": {"image_url": _SPELLING},
            "required": ["image_url"],
            "additionalProperties": False,
        }
        return {
            "description": whole["description"],
            "anyOf": [_SPELLING, as_the_provider_has_it, by_reference],
        }

    @property
    def is_data_uri(self) -> bool:
        """Whether the picture travels in the request itself."""
        return is_data_uri(self.uri)
