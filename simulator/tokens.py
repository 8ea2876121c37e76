"""Count the tokens of a request and price them, from the published tables and formulas.

Implemented independently of the project's own pricing, so that comparing the two proves something.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from simulator.models import Family

# Text tokens that gpt-image-1.5 writes with each image, billed at their own price.
OUTPUT_TEXT_TOKENS = 40

# Output tokens of each partial image.
PARTIAL_IMAGE_TOKENS = 100

_GPT_IMAGE_1 = {
    "1024x1024": {"low": 272, "medium": 1056, "high": 4160},
    "1024x1536": {"low": 408, "medium": 1584, "high": 6240},
    "1536x1024": {"low": 400, "medium": 1568, "high": 6208},
}
_BASES = {
    "2": {"low": 16, "medium": 48, "high": 96},
    "2.5": {"low": 16, "medium": 24, "high": 48, "xhigh": 64, "max": 96},
}
# gpt-image-2.6 has no published formula. As measured, low and medium cost about three times those of 2.5.
_MEASURED_2_6 = {"low": 3, "medium": 3}

_HIGH_FIDELITY_SQUARE, _HIGH_FIDELITY_OTHER = 4160, 6240
_PATCH_PIXELS, _PATCH_BUDGET = 32, 1536


@dataclass(frozen=True)
class Usage:
    """Tokens of one request, over all of its images. `text_out` is zero for models that write no text."""

    text_in: int
    image_in: int
    image_out: int
    text_out: int

    def to_json(self, *, with_output_details: bool) -> dict[str, object]:
        """Return the provider's usage object."""
        usage: dict[str, object] = {
            "input_tokens": self.text_in + self.image_in,
            "input_tokens_details": {"text_tokens": self.text_in, "image_tokens": self.image_in},
            "output_tokens": self.image_out + self.text_out,
            "total_tokens": self.text_in + self.image_in + self.image_out + self.text_out,
        }
        if with_output_details:
            usage["output_tokens_details"] = {"image_tokens": self.image_out, "text_tokens": self.text_out}
        return usage


def read_usage(usage: Mapping[str, Any]) -> Usage:
    """Parse a usage object written by `Usage.to_json`."""
    inputs = usage["input_tokens_details"]
    text_out = usage.get("output_tokens_details", {}).get("text_tokens", 0)
    return Usage(inputs["text_tokens"], inputs["image_tokens"], usage["output_tokens"] - text_out, text_out)


def count_usage(
    family: Family,
    *,
    prompt: str,
    size: tuple[int, int],
    quality: str,
    n: int,
    input_sizes: Iterable[tuple[int, int]] = (),
    high_fidelity: bool = False,
    partial_images: int = 0,
) -> Usage:
    """Count the usage of one request. n images are billed like n requests, so the input counts n times."""
    image_in = sum(
        count_input_image(family, input_size, high_fidelity=high_fidelity) for input_size in input_sizes
    )
    return Usage(
        text_in=n * count_text(prompt),
        image_in=n * image_in,
        image_out=n * count_output_image(family, size, quality) + partial_images * PARTIAL_IMAGE_TOKENS,
        text_out=n * OUTPUT_TEXT_TOKENS if family == "1.5" else 0,
    )


def count_text(prompt: str) -> int:
    """Estimate what the real tokenizer counts: a token per four bytes, and six around the prompt."""
    return 6 + max(1, math.ceil(len(prompt.encode()) / 4))


def count_output_image(family: Family, size: tuple[int, int], quality: str) -> int:
    """Count the output tokens of one image of `size` pixels."""
    if family in {"1", "1-mini", "1.5"}:
        return _GPT_IMAGE_1["{}x{}".format(*size)][quality]
    base = _BASES["2" if family == "2" else "2.5"][quality]
    width, height = size
    short_side_units = round(Fraction(base * min(size), max(size)))  # an exact half rounds to even
    tokens = math.ceil(Fraction(base * short_side_units * (2_000_000 + width * height), 4_000_000))
    return tokens * (_MEASURED_2_6.get(quality, 1) if family == "2.6" else 1)


def count_input_image(family: Family, size: tuple[int, int], *, high_fidelity: bool) -> int:
    """Count the input tokens of one image to be edited."""
    if family in {"1", "1-mini", "1.5"}:
        extra = _HIGH_FIDELITY_SQUARE if size[0] == size[1] else _HIGH_FIDELITY_OTHER
        return _count_tiles(size) + (extra if high_fidelity else 0)
    return _count_patches(size)


def _count_tiles(size: tuple[int, int]) -> int:
    """Fit into 2048 x 2048, then a short side of 512: 65 tokens, and 129 per tile of 512 pixels."""
    scale = min(Fraction(1), Fraction(2048, max(size)))
    scale *= min(Fraction(1), Fraction(512) / (min(size) * scale))
    tiles = math.ceil(size[0] * scale / 512) * math.ceil(size[1] * scale / 512)
    return 65 + 129 * tiles


def _count_patches(size: tuple[int, int]) -> int:
    """Count patches of 32 pixels, at most 1536.

    Small images are first enlarged towards a long side of 1024, at most two times.
    """
    width, height = (min(side, 3 * min(size)) for side in size)
    enlarge = min(2.0, max(1.0, 1024 / max(width, height)))
    across, down = width * enlarge / _PATCH_PIXELS, height * enlarge / _PATCH_PIXELS
    if math.ceil(across) * math.ceil(down) > _PATCH_BUDGET:
        shrink = math.sqrt(_PATCH_BUDGET / (across * down))
        across, down = across * shrink, down * shrink
        whole = min(math.floor(across) / across, math.floor(down) / down)
        across, down = across * whole, down * whole
    return math.ceil(round(across, 6)) * math.ceil(round(down, 6))


class Prices(NamedTuple):
    """Nano-USD by token class, for one token each or for all tokens used."""

    text_in: int
    image_in: int
    image_out: int
    text_out: int


_PRICES: dict[Family, Prices] = {
    "1": Prices(5_000, 10_000, 40_000, 0),
    "1-mini": Prices(2_000, 2_500, 8_000, 0),
    "1.5": Prices(5_000, 8_000, 32_000, 10_000),
    "2": Prices(5_000, 8_000, 30_000, 0),
    "2.5": Prices(5_000, 8_000, 30_000, 0),
    "2.6": Prices(5_000, 8_000, 30_000, 0),
}


def price_usage(family: Family, usage: Usage, *, in_batch: bool = False) -> int:
    """Return the list price in micro-USD. Half a micro-USD is rounded up."""
    return (sum(price_by_class(family, usage, in_batch=in_batch)) + 500) // 1000


def price_by_class(family: Family, usage: Usage, *, in_batch: bool = False) -> Prices:
    """Return the list price in nano-USD by token class. Batches cost half."""
    prices = _PRICES[family]
    share = 2 if in_batch else 1  # every price is even
    return Prices(
        text_in=usage.text_in * prices.text_in // share,
        image_in=usage.image_in * prices.image_in // share,
        image_out=usage.image_out * prices.image_out // share,
        text_out=usage.text_out * prices.text_out // share,
    )
