"""The objects of a simulated picture: balls, cylinders, tubes, arches, stones and the shadows they throw."""

from collections.abc import Callable

from PIL import Image, ImageDraw, ImageOps

from simulator.colors import Palette, Rgb, draw_glow, draw_ramp, mix

Box = tuple[int, int, int, int]
Painter = Callable[[ImageDraw.ImageDraw, Box], None]


class Stage:
    """A picture on which objects are put, the rear ones first.

    Lengths are in units of the picture's short side. `x` counts from the middle to the right, `y` from the ground up;
    both name the middle of an object's foot.
    """

    def __init__(self, scene: Image.Image, palette: Palette, *, center: float, ground: float) -> None:
        """`scene` is RGBA and is drawn on; `center` and `ground` are where x and y are zero, in pixels."""
        self.palette = palette
        self._scene = scene
        self._unit = min(scene.size)
        self._center = center
        self._ground = ground

    def put_shadow(self, x: float, y: float, width: float) -> None:
        """A soft shadow that lies around (x, y)."""
        size = self._to_pixels(width, width * 0.26)
        shadow = Image.new("RGBA", size, mix(self.palette.floor, "#000000", 0.75))
        shadow.putalpha(draw_glow(60).resize(size, Image.Resampling.BILINEAR))
        self._paste(shadow, x, y - width * 0.13)

    def put_ball(self, x: float, y: float, diameter: float, color: str) -> None:
        """A ball, lit from the upper left."""
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
        """A flat, smooth stone."""
        colors = [mix(color, "#ffffff", 0.55), mix(color, "#ffffff", 0.1), mix(color, "#000000", 0.4)]
        stone = draw_ramp(colors, self._to_pixels(width, height), across=False)
        self._paste_shape(stone, x, y, _paint_ellipse)

    def put_arch(self, x: float, y: float, width: float, height: float, color: str) -> None:
        """A flat arch, such as a niche in the wall."""

        def paint(draw: ImageDraw.ImageDraw, box: Box) -> None:
            draw.ellipse((0, 0, box[2], box[2]), fill=255)
            draw.rectangle((0, box[2] // 2, box[2], box[3]), fill=255)

        colors = [mix(color, "#ffffff", 0.18), mix(color, "#000000", 0.12)]
        self._paste_shape(draw_ramp(colors, self._to_pixels(width, height), across=False), x, y, paint)

    def put_tube(
        self, x: float, y: float, width: float, height: float, color: str, *, rounding: float
    ) -> None:
        """An upright tube: a bottle's body, neck or cap. `rounding` is the corners' radius over the shorter side."""

        def paint(draw: ImageDraw.ImageDraw, box: Box) -> None:
            draw.rounded_rectangle(box, radius=round(min(box[2:]) * rounding), fill=255)

        tube = draw_ramp(_shade_tube(color), self._to_pixels(width, height), across=True)
        self._paste_shape(tube, x, y, paint)

    def put_cylinder(self, x: float, y: float, width: float, height: float, color: str) -> None:
        """An upright cylinder, seen slightly from above."""
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
        """Puts `fill` through a shape with smooth edges: painted twice as large, then averaged down."""
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
