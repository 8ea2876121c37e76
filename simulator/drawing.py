"""Draw the still life of a simulated image: a lit backdrop, a few objects and a caption, chosen by a seed."""

import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from PIL import Image, ImageColor, ImageDraw, ImageFont, ImageOps

Rgb = tuple[int, int, int]


class Palette(NamedTuple):
    """The colors of one image: two for the backdrop, two for the objects, one for the caption."""

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
    """Return `color` blended with `share` (0 to 1) of `other`. Both are "#rrggbb"."""
    red, green, blue = (
        round(mine + (theirs - mine) * share)
        for mine, theirs in zip(ImageColor.getrgb(color), ImageColor.getrgb(other), strict=True)
    )
    return red, green, blue


def mix_hex(color: str, other: str, share: float) -> str:
    """Return the same blend as "#rrggbb"."""
    return "#{:02x}{:02x}{:02x}".format(*mix(color, other, share))


def draw_ramp(colors: Sequence[Rgb], size: tuple[int, int], *, across: bool) -> Image.Image:
    """Draw a color gradient of `size` pixels, left to right if `across`, otherwise top to bottom."""
    steps = Image.new("RGB", (len(colors), 1) if across else (1, len(colors)))
    steps.putdata(colors)
    return steps.resize(size, Image.Resampling.BICUBIC)


@lru_cache(maxsize=8)
def draw_glow(strength_percent: int) -> Image.Image:
    """Draw a mask of 256 x 256 pixels that fades from its center to nothing at its border."""
    border = 75  # level of the inverted gradient where its circle meets the border
    levels = [
        min(255, max(0, level - border) * strength_percent * 255 // (100 * (255 - border)))
        for level in range(255, -1, -1)
    ]
    return Image.radial_gradient("L").point(levels)


Box = tuple[int, int, int, int]
Painter = Callable[[ImageDraw.ImageDraw, Box], None]


class Stage:
    """An image on which objects are drawn, the rear ones first.

    Lengths are in units of the image's short side. `x` counts from the center to the right, `y` from the ground up;
    both give the center of an object's foot.
    """

    def __init__(self, scene: Image.Image, palette: Palette, *, center: float, ground: float) -> None:
        """Draw on `scene`, an RGBA image. `center` and `ground` are the pixels where x and y are zero."""
        self.palette = palette
        self._scene = scene
        self._unit = min(scene.size)
        self._center = center
        self._ground = ground

    def put_shadow(self, x: float, y: float, width: float) -> None:
        """Draw a soft shadow around (x, y)."""
        size = self._to_pixels(width, width * 0.26)
        shadow = Image.new("RGBA", size, mix(self.palette.floor, "#000000", 0.75))
        shadow.putalpha(draw_glow(60).resize(size, Image.Resampling.BILINEAR))
        self._paste(shadow, x, y - width * 0.13)

    def put_ball(self, x: float, y: float, diameter: float, color: str) -> None:
        """Draw a ball, lit from the upper left."""
        size = self._to_pixels(diameter, diameter)
        light = Image.radial_gradient("L").transform(size, Image.Transform.EXTENT, (70, 79, 240, 249))
        ball = ImageOps.colorize(
            light,
            black=mix(color, "#ffffff", 0.72),
            mid=mix(color, "#ffffff", 0.06),
            white=mix(color, "#000000", 0.6),
            midpoint=85,
        )
        self._paste_shape(ball, x, y, _paint_ellipse)

    def put_stone(self, x: float, y: float, width: float, height: float, color: str) -> None:
        """Draw a flat, smooth stone."""
        colors = [mix(color, "#ffffff", 0.55), mix(color, "#ffffff", 0.1), mix(color, "#000000", 0.4)]
        stone = draw_ramp(colors, self._to_pixels(width, height), across=False)
        self._paste_shape(stone, x, y, _paint_ellipse)

    def put_arch(self, x: float, y: float, width: float, height: float, color: str) -> None:
        """Draw a flat arch, such as a niche in the wall."""

        def paint(draw: ImageDraw.ImageDraw, box: Box) -> None:
            draw.ellipse((0, 0, box[2], box[2]), fill=255)
            draw.rectangle((0, box[2] // 2, box[2], box[3]), fill=255)

        colors = [mix(color, "#ffffff", 0.18), mix(color, "#000000", 0.12)]
        self._paste_shape(draw_ramp(colors, self._to_pixels(width, height), across=False), x, y, paint)

    def put_tube(
        self, x: float, y: float, width: float, height: float, color: str, *, rounding: float
    ) -> None:
        """Draw an upright tube: a bottle's body, neck or cap.

        `rounding` is the radius of the corners divided by the shorter side.
        """

        def paint(draw: ImageDraw.ImageDraw, box: Box) -> None:
            draw.rounded_rectangle(box, radius=round(min(box[2:]) * rounding), fill=255)

        tube = draw_ramp(_shade_tube(color), self._to_pixels(width, height), across=True)
        self._paste_shape(tube, x, y, paint)

    def put_cylinder(self, x: float, y: float, width: float, height: float, color: str) -> None:
        """Draw an upright cylinder, seen slightly from above."""
        lid = width * 0.26

        def paint(draw: ImageDraw.ImageDraw, box: Box) -> None:
            ellipse = round(lid * self._unit) * 2
            draw.rectangle((0, ellipse // 2, box[2], box[3] - ellipse // 2), fill=255)
            draw.ellipse((0, box[3] - ellipse, box[2], box[3]), fill=255)

        body = draw_ramp(_shade_tube(color), self._to_pixels(width, height + lid), across=True)
        self._paste_shape(body, x, y - lid / 2, paint)
        top_colors = [mix(color, "#ffffff", 0.5), mix(color, "#ffffff", 0.28)]
        top = draw_ramp(top_colors, self._to_pixels(width, lid), across=True)
        self._paste_shape(top, x, y + height - lid / 2, _paint_ellipse)

    def _to_pixels(self, width: float, height: float) -> tuple[int, int]:
        return max(2, round(width * self._unit)), max(2, round(height * self._unit))

    def _paste_shape(self, fill: Image.Image, x: float, y: float, paint: Painter) -> None:
        """Paste `fill` through an antialiased shape: the mask is painted twice as large, then averaged."""
        large = Image.new("L", (fill.width * 2, fill.height * 2))
        paint(ImageDraw.Draw(large), (0, 0, large.width - 1, large.height - 1))
        fill.putalpha(large.reduce(2))
        self._paste(fill, x, y)

    def _paste(self, layer: Image.Image, x: float, y: float) -> None:
        left = round(self._center + x * self._unit - layer.width / 2)
        top = round(self._ground - y * self._unit - layer.height)
        visible = (max(0, -left), max(0, -top), layer.width, layer.height)
        if visible[0] < visible[2] and visible[1] < visible[3]:
            self._scene.alpha_composite(layer.crop(visible), (max(0, left), max(0, top)))


def _paint_ellipse(draw: ImageDraw.ImageDraw, box: Box) -> None:
    draw.ellipse(box, fill=255)


def _shade_tube(color: str) -> list[Rgb]:
    lights = (("#000000", 0.35), ("#ffffff", 0.3), ("#ffffff", 0.12), ("#000000", 0.08), ("#000000", 0.5))
    return [mix(color, other, share) for other, share in lights]


_BACKDROP_SIDE = 192


def draw_scene(size: tuple[int, int], palette: Palette, seed: int, *, backdrop: bool) -> Image.Image:
    """Draw a still life of `size` pixels as RGBA. The same arguments always give the same image.

    Without a backdrop everything around the objects is transparent.
    """
    rng = random.Random(seed)  # noqa: S311 - not a secret
    light_from = rng.uniform(-0.5, 0.0)
    scene = _draw_backdrop(size, palette, light_from) if backdrop else Image.new("RGBA", size)
    stage = Stage(scene, palette, center=size[0] * rng.uniform(0.45, 0.55), ground=size[1] * 0.66)
    _ARRANGEMENTS[seed % len(_ARRANGEMENTS)](stage, rng)
    return scene


def _draw_backdrop(size: tuple[int, int], palette: Palette, light_from: float) -> Image.Image:
    """Draw a seamless paper backdrop, small and then enlarged, because it has no edges."""
    colors = [
        mix(palette.wall, "#000000", 0.12),
        mix(palette.wall, "#ffffff", 0.05),
        mix(palette.wall, "#ffffff", 0.18),
        mix(palette.floor, palette.wall, 0.35),
        mix(palette.floor, "#000000", 0.04),
        mix(palette.floor, "#000000", 0.16),
    ]
    room = draw_ramp(colors, (_BACKDROP_SIDE, _BACKDROP_SIDE), across=False)
    left = round(_BACKDROP_SIDE * light_from)
    room.paste(mix(palette.wall, "#ffffff", 0.75), (left, -90), draw_glow(60))
    return room.resize(size, Image.Resampling.BICUBIC).convert("RGBA")


def _arrange_bottle(stage: Stage, rng: random.Random) -> None:
    wall, _, body, accent, _ = stage.palette
    stage.put_shadow(0.06, 0.0, 1.05)
    stage.put_cylinder(0, 0, 0.52, 0.1, mix_hex(wall, body, 0.25))
    stage.put_shadow(0.03, 0.1, 0.4)
    stage.put_tube(0, 0.1, 0.2, 0.3, body, rounding=0.16)
    stage.put_tube(0, 0.17, 0.2, 0.09, mix_hex(wall, "#ffffff", 0.5), rounding=0.02)
    stage.put_tube(0, 0.4, 0.075, 0.05, accent, rounding=0.1)
    stage.put_tube(0, 0.44, 0.1, 0.07, accent, rounding=0.2)
    side = rng.choice((-0.33, 0.33))
    stage.put_shadow(side, -0.05, 0.26)
    stage.put_ball(side, -0.05, rng.uniform(0.1, 0.15), accent)


def _arrange_plinth(stage: Stage, rng: random.Random) -> None:
    wall, _, body, accent, _ = stage.palette
    side = rng.choice((-1, 1))
    stage.put_arch(side * 0.12, 0.02, 0.5, 0.56, mix_hex(wall, accent, 0.35))
    stage.put_shadow(0.04, 0.0, 0.85)
    stage.put_cylinder(0, 0, 0.34, 0.2, mix_hex(wall, "#ffffff", 0.35))
    stage.put_shadow(0.0, 0.19, 0.26)
    stage.put_ball(0, 0.18, rng.uniform(0.24, 0.3), body)
    stage.put_shadow(side * 0.31, -0.06, 0.34)
    stage.put_cylinder(side * 0.3, -0.06, 0.15, rng.uniform(0.06, 0.14), accent)


def _arrange_stones(stage: Stage, rng: random.Random) -> None:
    wall, _, body, accent, _ = stage.palette
    stage.put_ball(rng.uniform(-0.2, 0.2), 0.14, 0.42, mix_hex(wall, accent, 0.5))
    stage.put_shadow(0.05, 0.01, 0.9)
    height, width = 0.0, 0.46
    for color in (body, mix_hex(body, wall, 0.45), accent, mix_hex(body, "#ffffff", 0.5)):
        thickness = width * rng.uniform(0.34, 0.42)
        stage.put_stone(rng.uniform(-0.03, 0.03), height, width, thickness, color)
        height += thickness * 0.88
        width *= rng.uniform(0.68, 0.8)


def _arrange_vessels(stage: Stage, rng: random.Random) -> None:
    wall, floor, body, accent, _ = stage.palette
    side = rng.choice((-1, 1))
    stage.put_arch(0, 0.03, 0.62, 0.6, mix_hex(floor, wall, 0.45))
    stage.put_shadow(0.02, 0.0, 1.1)
    stage.put_cylinder(side * -0.17, 0, 0.2, rng.uniform(0.3, 0.4), mix_hex(wall, body, 0.3))
    stage.put_cylinder(side * 0.1, -0.03, 0.24, rng.uniform(0.18, 0.24), body)
    stage.put_shadow(side * 0.33, -0.06, 0.28)
    stage.put_ball(side * 0.32, -0.06, rng.uniform(0.12, 0.16), accent)
    stage.put_ball(side * -0.34, -0.05, 0.09, accent)


_ARRANGEMENTS: tuple[Callable[[Stage, random.Random], None], ...] = (
    _arrange_bottle,
    _arrange_plinth,
    _arrange_stones,
    _arrange_vessels,
)


_MAX_TEXT_LENGTH = 400
_MAX_WORD_LENGTH = 40
_MAX_LINES = 4
_MIN_SIDE = 96
_MIN_LETTER_SIZE = 9


def draw_caption(picture: Image.Image, text: str, note: str, palette: Palette, *, on_card: bool) -> None:
    """Write `text`, and the smaller `note` below it, at the bottom of an RGBA image.

    `on_card` draws a card behind the letters, for a background that is transparent or unknown. An image with a side
    below 96 pixels gets no caption.
    """
    if min(picture.size) < _MIN_SIDE:
        return
    unit = min(picture.size)
    margin = unit // 20
    letters, lines = _fit(" ".join(text[:_MAX_TEXT_LENGTH].split()), picture.width - 4 * margin, unit)
    font, small = _load_font(letters), _load_font(max(_MIN_LETTER_SIZE, unit // 54))
    line_height = round(letters * 1.25)
    top = picture.height - margin * 2 - line_height * len(lines) - round(small.size * 1.6)
    if on_card:
        _lay_card(picture, (margin, top - margin, picture.width - margin, picture.height - margin), palette)
    draw = ImageDraw.Draw(picture)
    left = margin * 2
    for index, line in enumerate(lines):
        draw.text((left, top + index * line_height), line, font=font, fill=palette.ink)
    accent = mix(palette.ink, palette.floor, 0.3)
    draw.text((left, top + len(lines) * line_height + small.size * 0.5), note, font=small, fill=accent)


def _lay_card(picture: Image.Image, box: tuple[int, int, int, int], palette: Palette) -> None:
    card = Image.new("RGBA", (box[2] - box[0], box[3] - box[1]))
    shape = (0, 0, card.width - 1, card.height - 1)
    ImageDraw.Draw(card).rounded_rectangle(
        shape, card.height // 8, fill=(*mix(palette.floor, palette.wall, 0.3), 235)
    )
    picture.alpha_composite(card, (box[0], max(0, box[1])))


def _fit(text: str, width: int, unit: int) -> tuple[int, list[str]]:
    """Return the largest letter size in pixels at which the text fits, and its lines at that size."""
    letters, smallest = max(_MIN_LETTER_SIZE, unit // 24), max(_MIN_LETTER_SIZE, unit // 40)
    lines = _wrap(text, width, letters)
    while len(lines) > _MAX_LINES and letters > smallest:
        letters -= max(1, letters // 10)
        lines = _wrap(text, width, letters)
    if len(lines) > _MAX_LINES:
        lines = [*lines[: _MAX_LINES - 1], f"{lines[_MAX_LINES - 1]} ..."]
    return letters, lines


def _wrap(text: str, width: int, letters: int) -> list[str]:
    font = _load_font(letters)
    lines: list[str] = []
    line = ""
    for whole_word in text.split():
        word = whole_word[:_MAX_WORD_LENGTH]
        longer = f"{line} {word}" if line else word
        if line and font.getlength(longer) > width:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line]


@lru_cache(maxsize=64)
def _load_font(letters: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(letters)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("Pillow is built without FreeType: install the pillow wheel from the package index.")
    return font
