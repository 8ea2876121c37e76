"""Define a validated request, with the provider's defaults filled in."""

from dataclasses import dataclass
from typing import Literal

from simulator.models import MODELS, Model
from simulator.tokens import Usage, count_usage

Endpoint = Literal["generations", "edits"]


@dataclass(frozen=True, kw_only=True)
class ImageOrder:
    """One validated request. `size` is in pixels; size, quality and background are never "auto".

    `partial_images` None is a single response, a number (also 0) is a stream.
    """

    endpoint: Endpoint
    model_name: str
    prompt: str
    n: int
    size: tuple[int, int]
    quality: str
    background: Literal["opaque", "transparent"]
    output_format: str
    output_compression: int
    high_fidelity: bool
    safety_identifier: str | None
    partial_images: int | None = None

    @property
    def model(self) -> Model:
        """The model's limits."""
        return MODELS[self.model_name]

    @property
    def size_name(self) -> str:
        """The size as the provider writes it, such as "1536x1024"."""
        return "{}x{}".format(*self.size)

    def count_usage(self, input_sizes: list[tuple[int, int]]) -> Usage:
        """Count the tokens of the request for input images of these sizes."""
        return count_usage(
            self.model.family,
            prompt=self.prompt,
            size=self.size,
            quality=self.quality,
            n=self.n,
            input_sizes=input_sizes,
            high_fidelity=self.high_fidelity,
            partial_images=self.partial_images or 0,
        )
