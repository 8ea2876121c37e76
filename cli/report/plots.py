"""Plots of amounts as SVG: columns for days, bars for names. Amounts and lengths are integers; colours are the page's style.

A plot is a picture to a screen reader, with one sentence: the numbers are in the table below it. Texts come escaped.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cli.html import escape, shorten
from gpt_image_runs.contracts.money import format_usd

_WIDTH = 1000
_HEIGHT, _LEFT, _TOP, _BOTTOM = 280, 78, 12, 26
_BAR_LABEL, _BAR_AMOUNT, _BAR_ROW = 250, 150, 30
_MAX_LABEL = 28
_MAX_TICKS = 5
_STEPS = (1, 2, 5)
_SMALLEST_STEP = 100
"""In micro-USD: a hundredth of a cent."""


class Mark(NamedTuple):
    """An amount of a plot. `kind` is a class of the page's style; `name` is for the pointer that rests on it."""

    kind: str
    name: str
    micro_usd: int


class Group(NamedTuple):
    """A column or a bar: marks stacked on each other, and an amount that is drawn as a line to compare with."""

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


class _Scale(NamedTuple):
    """From amounts to lengths: `low` to `high` in micro-USD on `length`."""

    low: int
    high: int
    length: int

    def place(self, micro_usd: int) -> int:
        return (micro_usd - self.low) * self.length // (self.high - self.low)


def draw_columns(groups: Sequence[Group], sentence: str, *, height: int = _HEIGHT) -> str:
    """A column for each group, from left to right."""
    step = _choose_step(groups)
    low, high = _round_out(groups, step)
    scale = _Scale(low, high, height - _TOP - _BOTTOM)
    ground = height - _BOTTOM
    parts = [_draw_tick(tick, ground - scale.place(tick)) for tick in range(low, high + 1, step)]
    slot = (_WIDTH - _LEFT) // max(len(groups), 1)
    for place, group in enumerate(groups):
        left = _LEFT + place * slot
        parts.append(
            f'<text class="below" x="{left + slot // 2}" y="{height - 8}">{escape(group.label)}</text>'
        )
        for mark, start, end in _stack(group):
            top, bottom = ground - scale.place(end), ground - scale.place(start)
            parts.append(_draw_box(mark, left + slot // 6, top, slot * 2 // 3, bottom - top))
        if group.line and group.line.micro_usd:
            y = ground - scale.place(group.line.micro_usd)
            parts.append(_draw_line(group.line, left + 1, y, left + slot - 1, y))
    zero = ground - scale.place(0)
    parts.append(f'<path class="zero" d="M{_LEFT} {zero}H{_WIDTH}"/>')
    return _wrap(parts, height, sentence)


def draw_bars(groups: Sequence[Group], sentence: str) -> str:
    """A bar for each group, from top to bottom, with its name before and its sum behind."""
    low, high = min(0, *(group.lowest for group in groups)), max(1, *(group.highest for group in groups))
    scale = _Scale(low, high, _WIDTH - _BAR_LABEL - _BAR_AMOUNT)
    parts = []
    for place, group in enumerate(groups):
        top = place * _BAR_ROW
        middle = top + _BAR_ROW // 2 + 6
        name = f"<title>{escape(group.label)}</title>{escape(shorten(group.label, _MAX_LABEL))}"
        parts.append(f'<text class="before" x="{_BAR_LABEL - 12}" y="{middle}">{name}</text>')
        for mark, start, end in _stack(group):
            left, right = _BAR_LABEL + scale.place(start), _BAR_LABEL + scale.place(end)
            parts.append(_draw_box(mark, left, top + 5, right - left, _BAR_ROW - 10))
        if group.line and group.line.micro_usd:
            x = _BAR_LABEL + scale.place(group.line.micro_usd)
            parts.append(_draw_line(group.line, x, top + 2, x, top + _BAR_ROW - 2))
        end = _BAR_LABEL + scale.place(group.highest)
        total = sum(mark.micro_usd for mark in group.stacked)
        parts.append(f'<text class="behind" x="{end + 10}" y="{middle}">{format_usd(total)}</text>')
    return _wrap(parts, len(groups) * _BAR_ROW, sentence)


def _stack(group: Group) -> Iterator[tuple[Mark, int, int]]:
    """Each mark with the amounts between which it is drawn: what is negative goes down from zero."""
    up = down = 0
    for mark in group.stacked:
        if mark.micro_usd > 0:
            yield mark, up, up + mark.micro_usd
            up += mark.micro_usd
        elif mark.micro_usd < 0:
            yield mark, down + mark.micro_usd, down
            down += mark.micro_usd


def _choose_step(groups: Sequence[Group]) -> int:
    """1, 2 or 5 of a power of ten, so that there are few ticks."""
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


def _draw_tick(micro_usd: int, y: int) -> str:
    whole, _, rest = format_usd(micro_usd).partition(".")
    cents = rest.rstrip("0")
    text = f"{int(whole):,}" if not cents else f"{whole}.{cents:0<2}"
    return (
        f'<path class="tick" d="M{_LEFT} {y}H{_WIDTH}"/>'
        f'<text class="before" x="{_LEFT - 10}" y="{y + 5}">{text}</text>'
    )


def _draw_box(mark: Mark, x: int, y: int, width: int, height: int) -> str:
    # What is there is seen, be it ever so small.
    return (
        f'<rect class="{mark.kind}" x="{x}" y="{y}" width="{max(width, 1)}" height="{max(height, 1)}">'
        f"<title>{_tell(mark)}</title></rect>"
    )


def _draw_line(mark: Mark, x: int, y: int, to_x: int, to_y: int) -> str:
    return f'<path class="{mark.kind}" d="M{x} {y}L{to_x} {to_y}"><title>{_tell(mark)}</title></path>'


def _tell(mark: Mark) -> str:
    return escape(f"{mark.name}: {format_usd(mark.micro_usd)} USD")


def _wrap(parts: Sequence[str], height: int, sentence: str) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(sentence)}">'
        f"{''.join(parts)}</svg>\n"
    )
