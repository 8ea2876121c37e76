"""The prompt as lettering on a simulated picture: wrapped, as large as fits, shortened where it is too long."""

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from simulator.colors import Palette, mix

_LONGEST_TEXT = 400
_LONGEST_WORD = 40
_MOST_LINES = 4
_SMALLEST_SIDE = 96
_SMALLEST_LETTERS = 9


def draw_caption(picture: Image.Image, text: str, note: str, palette: Palette, *, on_card: bool) -> None:
    """Writes `text`, and smaller `note` under it, at the foot of an RGBA picture.

    `on_card` lays a card under the letters, for pictures whose background is transparent or unknown. A picture with
    a side below 96 pixels stays without letters.
    """
    if min(picture.size) < _SMALLEST_SIDE:
        return
    unit = min(picture.size)
    margin = unit // 20
    letters, lines = _fit(" ".join(text[:_LONGEST_TEXT].split()), picture.width - 4 * margin, unit)
    font, small = _load_font(letters), _load_font(max(_SMALLEST_LETTERS, unit // 54))
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
    """The largest letters (in pixels) at which the text fits, and its lines at that size."""
    letters, smallest = max(_SMALLEST_LETTERS, unit // 24), max(_SMALLEST_LETTERS, unit // 40)
    lines = _wrap(text, width, letters)
    while len(lines) > _MOST_LINES and letters > smallest:
        letters -= max(1, letters // 10)
        lines = _wrap(text, width, letters)
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], f"{lines[_MOST_LINES - 1]} ..."]
    return letters, lines


def _wrap(text: str, width: int, letters: int) -> list[str]:
    font = _load_font(letters)
    lines: list[str] = []
    line = ""
    for whole_word in text.split():
        word = whole_word[:_LONGEST_WORD]
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
