"""Plots of amounts as SVG shapes: columns for days, bars for names. Amounts and lengths are integers.

The page's template writes the shapes and the page's style gives them colors. A screen reader reads a plot as a picture with one
sentence: the numbers are in the table below it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cli.html import shorten
from gpt_image_runs.contracts.money import format_usd

_WIDTH = 1000
_HEIGHT, _LEFT, _TOP, _BOTTOM = 280, 78, 12, 26
_BAR_LABEL, _BAR_AMOUNT, _BAR_ROW = 250, 150, 30
_MAX_LABEL = 28
_MAX_TICKS = 5
_STEPS = (1, 2, 5)
# In micro-USD: a hundredth of a cent.
_SMALLEST_STEP = 100


class Mark(NamedTuple):
    """One amount in a plot. `kind` is a class of the page's style, `name` is shown while the pointer rests on it."""

    kind: str
    name: str
    micro_usd: int


class Group(NamedTuple):
    """A column or a bar: marks stacked on each other, and an amount drawn as a line to compare with."""

    label: str
    stacked: tuple[Mark, ...]
    line: Mark | None = None

    @property
    def highest(self) -> int:
        """The end of what is stacked upwards, or of the line."""
        return max(sum(mark.micro_usd for mark in self.stacked if mark.micro_usd > 0), self._line)

    @property
    def lowest(self) -> int:
        """The end of what is stacked downwards, below zero."""
        return min(sum(mark.micro_usd for mark in self.stacked if mark.micro_usd < 0), self._line)

    @property
    def _line(self) -> int:
        return self.line.micro_usd if self.line else 0


class Shape(NamedTuple):
    """One SVG element: its tag and attributes, the text inside, and the title shown while the pointer rests on it."""

    tag: str
    attributes: dict[str, str | int]
    text: str = ""
    title: str | None = None


class Plot(NamedTuple):
    """The shapes of one plot in drawing order, its size, and the sentence for a screen reader."""

    sentence: str
    width: int
    height: int
    shapes: list[Shape]


class _Scale(NamedTuple):
    """Map amounts from `low` to `high` in micro-USD to positions from 0 to `length`."""

    low: int
    high: int
    length: int

    def place(self, micro_usd: int) -> int:
        return (micro_usd - self.low) * self.length // (self.high - self.low)


def draw_columns(groups: Sequence[Group], sentence: str, *, height: int = _HEIGHT) -> Plot:
    """Draw a column for each group, from left to right."""
    step = _choose_step(groups)
    low, high = _round_out(groups, step)
    scale = _Scale(low, high, height - _TOP - _BOTTOM)
    ground = height - _BOTTOM
    shapes: list[Shape] = []
    for tick in range(low, high + 1, step):
        y = ground - scale.place(tick)
        shapes.append(_path("tick", f"M{_LEFT} {y}H{_WIDTH}"))
        shapes.append(_text("before", _LEFT - 10, y + 5, _format_tick(tick)))
    slot = (_WIDTH - _LEFT) // max(len(groups), 1)
    for place, group in enumerate(groups):
        left = _LEFT + place * slot
        shapes.append(_text("below", left + slot // 2, height - 8, group.label))
        for mark, start, end in _stack(group):
            top, bottom = ground - scale.place(end), ground - scale.place(start)
            shapes.append(_box(mark, left + slot // 6, top, slot * 2 // 3, bottom - top))
        if group.line and group.line.micro_usd:
            y = ground - scale.place(group.line.micro_usd)
            shapes.append(_line(group.line, left + 1, y, left + slot - 1, y))
    shapes.append(_path("zero", f"M{_LEFT} {ground - scale.place(0)}H{_WIDTH}"))
    return Plot(sentence, _WIDTH, height, shapes)


def draw_bars(groups: Sequence[Group], sentence: str) -> Plot:
    """Draw a bar for each group, from top to bottom, with its name before and its sum behind."""
    low, high = min(0, *(group.lowest for group in groups)), max(1, *(group.highest for group in groups))
    scale = _Scale(low, high, _WIDTH - _BAR_LABEL - _BAR_AMOUNT)
    shapes: list[Shape] = []
    for place, group in enumerate(groups):
        top = place * _BAR_ROW
        middle = top + _BAR_ROW // 2 + 6
        label = shorten(group.label, _MAX_LABEL)
        shapes.append(_text("before", _BAR_LABEL - 12, middle, label, title=group.label))
        for mark, start, end in _stack(group):
            left, right = _BAR_LABEL + scale.place(start), _BAR_LABEL + scale.place(end)
            shapes.append(_box(mark, left, top + 5, right - left, _BAR_ROW - 10))
        if group.line and group.line.micro_usd:
            x = _BAR_LABEL + scale.place(group.line.micro_usd)
            shapes.append(_line(group.line, x, top + 2, x, top + _BAR_ROW - 2))
        end = _BAR_LABEL + scale.place(group.highest)
        total = sum(mark.micro_usd for mark in group.stacked)
        shapes.append(_text("behind", end + 10, middle, format_usd(total)))
    return Plot(sentence, _WIDTH, len(groups) * _BAR_ROW, shapes)


def _stack(group: Group) -> Iterator[tuple[Mark, int, int]]:
    """Yield each mark with the amounts it is drawn between. Negative amounts go down from zero."""
    up = down = 0
    for mark in group.stacked:
        if mark.micro_usd > 0:
            yield mark, up, up + mark.micro_usd
            up += mark.micro_usd
        elif mark.micro_usd < 0:
            yield mark, down + mark.micro_usd, down
            down += mark.micro_usd


def _choose_step(groups: Sequence[Group]) -> int:
    """Return 1, 2 or 5 times a power of ten, so that there are at most `_MAX_TICKS` steps."""
    span = max((group.highest for group in groups), default=0) - min(
        (group.lowest for group in groups), default=0
    )
    power = _SMALLEST_STEP
    while True:
        for step in _STEPS:
            if span <= step * power * _MAX_TICKS:
                return step * power
        power *= 10


def _round_out(groups: Sequence[Group], step: int) -> tuple[int, int]:
    low = min((group.lowest for group in groups), default=0) // step * step
    high = -(-max((group.highest for group in groups), default=0) // step) * step
    return low, high if high > low else low + step


def _format_tick(micro_usd: int) -> str:
    whole, _, rest = format_usd(micro_usd).partition(".")
    cents = rest.rstrip("0")
    return f"{int(whole):,}" if not cents else f"{whole}.{cents:0<2}"


def _text(kind: str, x: int, y: int, text: str, *, title: str | None = None) -> Shape:
    return Shape("text", {"class": kind, "x": x, "y": y}, text, title)


def _path(kind: str, d: str, *, title: str | None = None) -> Shape:
    return Shape("path", {"class": kind, "d": d}, title=title)


def _box(mark: Mark, x: int, y: int, width: int, height: int) -> Shape:
    # At least one unit each way: an amount that is not zero stays visible, however small it is.
    attributes: dict[str, str | int] = {"x": x, "y": y, "width": max(width, 1), "height": max(height, 1)}
    return Shape("rect", {"class": mark.kind, **attributes}, title=_describe(mark))


def _line(mark: Mark, x: int, y: int, to_x: int, to_y: int) -> Shape:
    return _path(mark.kind, f"M{x} {y}L{to_x} {to_y}", title=_describe(mark))


def _describe(mark: Mark) -> str:
    return f"{mark.name}: {format_usd(mark.micro_usd)} USD"
