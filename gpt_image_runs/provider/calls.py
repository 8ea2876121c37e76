"""What goes to the provider and what comes back: values only, neither sent nor read here."""

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
    """One attempt: an edit where there are `images`. `model` is the one to call, whatever the request names.

    `client_request_id` (ASCII, up to 512 characters, unique per attempt) is for the provider's support. `on_uploaded` is called
    once the images have been read to their ends: whoever keeps them may let them go, which nobody here does longer.
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
        """All that is needed once the pictures are out of it: they and their base64 would be in memory twice."""
        return replace(self, body=b"")


@dataclass(frozen=True, kw_only=True)
class PartialPicture:
    """A picture that a stream has shown before the finished one: `index` from 0, `encoded` as it came, unread."""

    index: int
    encoded: str = field(repr=False)


def request_options(request: ImageRequest) -> dict[str, Any]:
    """What of a request goes to the provider beside model, prompt and pictures; None is left out."""
    options = {name: getattr(request, name) for name in _OPTIONS}
    return {name: value for name, value in options.items() if value is not None}
