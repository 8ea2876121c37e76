"""List what each model of the simulated provider allows, and when the real provider shuts it down. Data only.

A model with a past shutdown date still runs here. DALL-E is not simulated.
"""

from dataclasses import dataclass
from typing import Literal

Family = Literal["1", "1-mini", "1.5", "2", "2.5", "2.6"]

FIXED_SIZES = ("1024x1024", "1536x1024", "1024x1536")
_QUALITIES = ("low", "medium", "high")
_MORE_QUALITIES = (*_QUALITIES, "xhigh", "max")


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model. `sizes` None: any WIDTHxHEIGHT within the limits; no `input_fidelities`: not supported."""

    family: Family
    sizes: tuple[str, ...] | None
    qualities: tuple[str, ...]
    auto_quality: str
    input_fidelities: tuple[str, ...]
    released: str
    shutdown_date: str | None
    reports_output_details: bool = False


def _fixed_size(
    family: Family, released: str, shutdown: str, *fidelities: str, writes_text: bool = False
) -> Model:
    return Model(
        family=family,
        sizes=FIXED_SIZES,
        qualities=_QUALITIES,
        auto_quality="medium",
        input_fidelities=fidelities,
        released=released,
        shutdown_date=shutdown,
        reports_output_details=writes_text,
    )


def _any_size(family: Family, released: str, *, auto_quality: str = "medium") -> Model:
    return Model(
        family=family,
        sizes=None,
        qualities=_QUALITIES if family == "2" else _MORE_QUALITIES,
        auto_quality=auto_quality,
        input_fidelities=(),
        released=released,
        shutdown_date=None,
    )


_GPT_IMAGE_1_5 = _fixed_size("1.5", "2025-12-16", "2026-12-01", "low", "high", writes_text=True)

MODELS: dict[str, Model] = {
    "gpt-image-1": _fixed_size("1", "2025-04-23", "2026-10-23", "low", "high"),
    "gpt-image-1-mini": _fixed_size("1-mini", "2025-10-06", "2026-12-01", "low"),
    "gpt-image-1.5": _GPT_IMAGE_1_5,
    "gpt-image-1.5-2025-12-16": _GPT_IMAGE_1_5,
    "chatgpt-image-latest": _GPT_IMAGE_1_5,
    "gpt-image-2": _any_size("2", "2026-04-21"),
    "gpt-image-2-2026-04-21": _any_size("2", "2026-04-21"),
    "gpt-image-2.5-sunburst": _any_size("2.5", "2026-09-08"),
    "gpt-image-2.5-sunburst-2026-09-08": _any_size("2.5", "2026-09-08"),
    "gpt-image-2.5-flare": _any_size("2.5", "2026-09-08"),
    "gpt-image-2.5-flare-2026-09-08": _any_size("2.5", "2026-09-08"),
    "gpt-image-2.6-sunburst": _any_size("2.6", "2026-11-04", auto_quality="high"),
    "gpt-image-2.6-flare": _any_size("2.6", "2026-11-04"),
}
