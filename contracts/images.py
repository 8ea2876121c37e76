"""What stands for a picture everywhere but in the store."""

from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from contracts.base import Contract, SparseContract

MediaType = Literal["image/png", "image/jpeg", "image/webp"]


class ImageRef(Contract):
    """A picture in the image store. `bytes` is its size, `width` and `height` are pixels."""

    uri: str
    sha256: str
    media_type: MediaType
    bytes: int
    width: int
    height: int


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
            described_by_an_image_ref = {"media_type", "bytes", "width", "height"}
            return {name: part for name, part in value.items() if name not in described_by_an_image_ref}
        return value

    @property
    def is_data_uri(self) -> bool:
        """Whether the picture travels in the request itself."""
        return self.uri.startswith("data:")
