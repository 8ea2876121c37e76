"""The colours of simulated pictures: palettes, mixtures and smooth runs from one colour to the next."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from PIL import Image, ImageColor

Rgb = tuple[int, int, int]


class Palette(NamedTuple):
    """The colours of one picture: two for the room, two for what stands in it, one to write with."""

    wall: str
    floor: str
    body: str
    accent: str
    ink: str


PALETTES = (
    Palette("#efe4d6", "#d8c2a8", "#c4623f", "#2f4a4d", "#3b2a22"),  # sand and terracotta
    Palette("#dfe7da", "#b9c7b1", "#4f6f5b", "#e0a458", "#233128"),  # sage and honey
    Palette("#9db2bf", "#52708a", "#f0ede4", "#e2a76f", "#f4f7f8"),  # dusk blue and apricot
    Palette("#f6e1dc", "#e2b9b0", "#b5574f", "#3e3a4f", "#40262a"),  # blush and plum
    Palette("#2f6b70", "#163b42", "#e7c8a0", "#d96c47", "#f3ead9"),  # deep teal and brass
    Palette("#e4def0", "#bfb2d6", "#6a5a9c", "#f2b5a0", "#2f2747"),  # lilac and peach
    Palette("#f7ecd0", "#e4c77c", "#d98e2b", "#39586b", "#3d2f16"),  # cream and mustard
    Palette("#4a4d54", "#26282d", "#c9ccd1", "#d4a64a", "#eef0f2"),  # graphite and gold
)


@lru_cache(maxsize=512)
def mix(color: str, other: str, share: float) -> Rgb:
    """`color` with `share` (0 to 1) of `other` stirred in; both as "#rrggbb"."""
    red, green, blue = (
        round(mine + (theirs - mine) * share)
        for mine, theirs in zip(ImageColor.getrgb(color), ImageColor.getrgb(other), strict=True)
    )
    return red, green, blue


def mix_hex(color: str, other: str, share: float) -> str:
    """The same mixture as "#rrggbb"."""
    return "#{:02x}{:02x}{:02x}".format(*mix(color, other, share))


def draw_ramp(colors: Sequence[Rgb], size: tuple[int, int], *, across: bool) -> Image.Image:
    """A smooth run of colours over `size` pixels, from left to right if `across`, else from top to bottom."""
    steps = Image.new("RGB", (len(colors), 1) if across else (1, len(colors)))
    steps.putdata(colors)
    return steps.resize(size, Image.Resampling.BICUBIC)


@lru_cache(maxsize=8)
def draw_glow(strength_percent: int) -> Image.Image:
    """A mask of 256 x 256 pixels that fades from its middle to nothing at its border."""
    border = 75  # what is left of the inverted gradient where its circle meets the border
    levels = [
        min(255, max(0, level - border) * strength_percent * 255 // (100 * (255 - border)))
        for level in range(255, -1, -1)
    ]
    return Image.radial_gradient("L").point(levels)
