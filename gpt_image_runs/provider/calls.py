"""Values that go to the provider and come back. Nothing is sent or parsed here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from gpt_image_runs.contracts.images import MediaType
from gpt_image_runs.contracts.request import ImageRequest

_OPTIONS = (
    "n",
    "size",
    "quality",
    "background",
    "output_format",
    "output_compression",
    "moderation",
    "safety_identifier",
    "user",
    "input_fidelity",
    "partial_images",
)


@dataclass(frozen=True, kw_only=True)
class FilePart:
    """A picture to send, checked to be what `media_type` says."""

    data: bytes = field(repr=False)
    media_type: MediaType


@dataclass(frozen=True, kw_only=True)
class ProviderCall:
    """One attempt; an edit if it has `images`. `model` is the one to call, whatever the request names.

    `client_request_id` (ASCII, up to 512 characters, unique per attempt) is for the provider's support. `on_uploaded` is called
    once all images were read, so that the caller can release them.
    """

    request: ImageRequest = field(repr=False)
    model: str
    images: Sequence[FilePart] = ()
    mask: FilePart | None = None
    client_request_id: str
    on_uploaded: Callable[[], None] | None = None


@dataclass(frozen=True, kw_only=True)
class RawAnswer:
    """A 2xx as it came. Header names are in lower case; `sent_at` is when the request was about to be sent."""

    body: bytes = field(repr=False)
    headers: Mapping[str, str]
    http_status: int
    provider_request_id: str | None
    latency_ms: int
    simulated: bool
    sent_at: datetime

    def without_body(self) -> "RawAnswer":
        """Return the response without its body, to free memory once the images were decoded."""
        return replace(self, body=b"")


@dataclass(frozen=True, kw_only=True)
class PartialPicture:
    """A preview from a stream: `index` counts from 0, `encoded` is its base64 as received."""

    index: int
    encoded: str = field(repr=False)


def request_options(request: ImageRequest) -> dict[str, Any]:
    """Return the request's options other than model, prompt and images. Options that are None are left out."""
    options = {name: getattr(request, name) for name in _OPTIONS}
    return {name: value for name, value in options.items() if value is not None}
