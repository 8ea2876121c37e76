"""How many output tokens an image takes, by model, size and quality: for bills without usage, and for ceilings.

The result is None wherever no published rule exists: an unsound estimate is not made.
"""

import re
from fractions import Fraction

# Published in OpenAI's image generation guide, for each of these models alike.
_TABLE_MODELS = frozenset(
    {
        "gpt-image-1",
        "gpt-image-1-mini",
        "gpt-image-1.5",
        "gpt-image-1.5-2025-12-16",
        "chatgpt-image-latest",
    }
)
_TABLE = {
    "1024x1024": {"low": 272, "medium": 1056, "high": 4160},
    "1024x1536": {"low": 408, "medium": 1584, "high": 6240},
    "1536x1024": {"low": 400, "medium": 1568, "high": 6208},
}

# The calculator on OpenAI's documentation site; it gives the published prices of gpt-image-2, and usages seen live.
_BASES_2 = {"low": 16, "medium": 48, "high": 96}
_BASES_2_5 = {"low": 16, "medium": 24, "high": 48, "xhigh": 64, "max": 96}
_FORMULA_BASES = {
    "gpt-image-2": _BASES_2,
    "gpt-image-2-2026-04-21": _BASES_2,
    "gpt-image-2.5-sunburst": _BASES_2_5,
    "gpt-image-2.5-sunburst-2026-09-08": _BASES_2_5,
    "gpt-image-2.5-flare": _BASES_2_5,
    "gpt-image-2.5-flare-2026-09-08": _BASES_2_5,
}
# The size with the most tokens within the formula's limits: square, with exactly the most pixels.
_MAX_SIZE = "2880x2880"
_MAX_PIXELS = 3840 * 2160
_MAX_EDGE = 3840
_MAX_RATIO = 3

_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})", re.ASCII)
# Output tokens of each partial image beside the finished one, by OpenAI's image generation guide.
PARTIAL_IMAGE_TOKENS = 100

_STILL_FORMATS = frozenset({None, "png", "jpeg", "webp"})


def estimate_output_tokens(
    model: str, size: str | None, quality: str | None, output_format: str | None = None
) -> int | None:
    """Estimate the output tokens of one image, None where there is no sound estimate.

    `size` is "WxH" in pixels. An absent or "auto" size or quality cannot be estimated, and no animated or vector
    image (gif, svg). An absent format is the provider's default, png.
    """
    if size is None or quality is None or output_format not in _STILL_FORMATS:
        return None
    if model in _TABLE_MODELS:
        return _TABLE.get(size, {}).get(quality)
    base = _FORMULA_BASES.get(model, {}).get(quality)
    return None if base is None else _apply_formula(base, size)


def known_sizes(model: str) -> tuple[str, ...]:
    """Return sizes, one of which takes the most tokens; none where no rule is known."""
    if model in _TABLE_MODELS:
        return tuple(_TABLE)
    return (_MAX_SIZE,) if model in _FORMULA_BASES else ()


def known_qualities(model: str) -> tuple[str, ...]:
    """Return the qualities with a known rule; none where no rule is known."""
    if model in _TABLE_MODELS:
        return tuple(_TABLE["1024x1024"])
    return tuple(_FORMULA_BASES.get(model, ()))


def _apply_formula(base: int, size: str) -> int | None:
    """Compute base * u * (2,000,000 + pixels) / 4,000,000, rounded up.

    u is base * short / long, rounded half to even.
    """
    matched = _SIZE.fullmatch(size)
    if not matched:
        return None
    short, long = sorted(int(edge) for edge in matched.groups())
    pixels = short * long
    # Beyond the sizes that the provider offers, the formula is not verified; for thin strips it gives zero.
    if long > _MAX_EDGE or pixels > _MAX_PIXELS or long > _MAX_RATIO * short:
        return None
    rounded = round(Fraction(base * short, long))
    return -(-base * rounded * (2_000_000 + pixels) // 4_000_000)
