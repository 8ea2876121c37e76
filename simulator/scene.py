"""The still life that a simulated picture shows: a lit backdrop and a few studio objects, all chosen by a seed.

How each object is drawn is in `stage`, lettering in `caption`, encoding in `pictures`.
"""

import random
from collections.abc import Callable

from PIL import Image

from simulator.colors import Palette, draw_glow, draw_ramp, mix, mix_hex
from simulator.stage import Stage

_BACKDROP_SIDE = 192


def draw_scene(size: tuple[int, int], palette: Palette, seed: int, *, backdrop: bool) -> Image.Image:
    """A still life of `size` pixels as RGBA; without a backdrop everything around the objects is transparent.

    The same arguments always give the same picture.
    """
    dice = random.Random(seed)  # noqa: S311 - which still life is drawn is no secret
    light_from = dice.uniform(-0.5, 0.0)
    scene = _draw_backdrop(size, palette, light_from) if backdrop else Image.new("RGBA", size)
    stage = Stage(scene, palette, center=size[0] * dice.uniform(0.45, 0.55), ground=size[1] * 0.66)
    _ARRANGEMENTS[seed % len(_ARRANGEMENTS)](stage, dice)
    return scene


def _draw_backdrop(size: tuple[int, int], palette: Palette, light_from: float) -> Image.Image:
    """A seamless sweep of paper, lit from the upper left. Drawn small and enlarged: it holds no edges."""
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


def _arrange_bottle(stage: Stage, dice: random.Random) -> None:
    wall, _, body, accent, _ = stage.palette
    stage.put_shadow(0.06, 0.0, 1.05)
    stage.put_cylinder(0, 0, 0.52, 0.1, mix_hex(wall, body, 0.25))
    stage.put_shadow(0.03, 0.1, 0.4)
    stage.put_tube(0, 0.1, 0.2, 0.3, body, rounding=0.16)
    stage.put_tube(0, 0.17, 0.2, 0.09, mix_hex(wall, "#ffffff", 0.5), rounding=0.02)
    stage.put_tube(0, 0.4, 0.075, 0.05, accent, rounding=0.1)
    stage.put_tube(0, 0.44, 0.1, 0.07, accent, rounding=0.2)
    side = dice.choice((-0.33, 0.33))
    stage.put_shadow(side, -0.05, 0.26)
    stage.put_ball(side, -0.05, dice.uniform(0.1, 0.15), accent)


def _arrange_plinth(stage: Stage, dice: random.Random) -> None:
    wall, _, body, accent, _ = stage.palette
    side = dice.choice((-1, 1))
    stage.put_arch(side * 0.12, 0.02, 0.5, 0.56, mix_hex(wall, accent, 0.35))
    stage.put_shadow(0.04, 0.0, 0.85)
    stage.put_cylinder(0, 0, 0.34, 0.2, mix_hex(wall, "#ffffff", 0.35))
    stage.put_shadow(0.0, 0.19, 0.26)
    stage.put_ball(0, 0.18, dice.uniform(0.24, 0.3), body)
    stage.put_shadow(side * 0.31, -0.06, 0.34)
    stage.put_cylinder(side * 0.3, -0.06, 0.15, dice.uniform(0.06, 0.14), accent)


def _arrange_stones(stage: Stage, dice: random.Random) -> None:
    wall, _, body, accent, _ = stage.palette
    stage.put_ball(dice.uniform(-0.2, 0.2), 0.14, 0.42, mix_hex(wall, accent, 0.5))
    stage.put_shadow(0.05, 0.01, 0.9)
    height, width = 0.0, 0.46
    for color in (body, mix_hex(body, wall, 0.45), accent, mix_hex(body, "#ffffff", 0.5)):
        thickness = width * dice.uniform(0.34, 0.42)
        stage.put_stone(dice.uniform(-0.03, 0.03), height, width, thickness, color)
        height += thickness * 0.88
        width *= dice.uniform(0.68, 0.8)


def _arrange_vessels(stage: Stage, dice: random.Random) -> None:
    wall, floor, body, accent, _ = stage.palette
    side = dice.choice((-1, 1))
    stage.put_arch(0, 0.03, 0.62, 0.6, mix_hex(floor, wall, 0.45))
    stage.put_shadow(0.02, 0.0, 1.1)
    stage.put_cylinder(side * -0.17, 0, 0.2, dice.uniform(0.3, 0.4), mix_hex(wall, body, 0.3))
    stage.put_cylinder(side * 0.1, -0.03, 0.24, dice.uniform(0.18, 0.24), body)
    stage.put_shadow(side * 0.33, -0.06, 0.28)
    stage.put_ball(side * 0.32, -0.06, dice.uniform(0.12, 0.16), accent)
    stage.put_ball(side * -0.34, -0.05, 0.09, accent)


_ARRANGEMENTS: tuple[Callable[[Stage, random.Random], None], ...] = (
    _arrange_bottle,
    _arrange_plinth,
    _arrange_stones,
    _arrange_vessels,
)
