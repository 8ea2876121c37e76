"""What may have been paid for nothing, on a report's page: it is in no total."""

from collections.abc import Sequence
from datetime import UTC

from billing.exposure_rows import ExposedAttempt, sum_exposure
from cli.report_card import render_card
from cli.report_facts import Facts
from cli.report_plots import Group, Mark, draw_columns
from cli.report_tables import MORE, render_table, show_count, show_usd
from contracts.money import parse_usd

_HEIGHT = 170


def render_exposure(facts: Facts) -> str:
    if not facts.exposed:
        return ""
    by_day = {row.key: parse_usd(row.reserved_usd) for row in sum_exposure(facts.exposed, "day")}
    columns = ("Requests", "At most", "Without a price")
    groups = [
        Group(str(day.day), (Mark("exposed", f"{day}, at most", by_day.get(day.isoformat(), 0)),))
        for day in facts.month.days
    ]
    rows = [
        (day, _list_exposed([attempt for attempt in facts.exposed if _day_of(attempt) == day]))
        for day in by_day
    ]
    total = _list_exposed(facts.exposed)
    plot = draw_columns(
        groups, "Columns of the exposure of each day; the table below has them.", height=_HEIGHT
    )
    table = render_table("Exposure by day", ("Day of sending", *columns), rows, total)
    about = "Requests whose answer was lost: the most that they can have cost. They are in no total above."
    return render_card("Perhaps paid for nothing", about, f"{plot}{table}", with_legend=False)


def _list_exposed(exposed: Sequence[ExposedAttempt]) -> Sequence[str]:
    _, unpriced = count_exposed(exposed)
    return show_count(len(exposed)), show_exposed(exposed), show_count(unpriced)


def show_exposed(exposed: Sequence[ExposedAttempt]) -> str:
    """The worst case; where no price is known at all that is no zero."""
    priced, unpriced = count_exposed(exposed)
    if unpriced and unpriced == len(exposed):
        return "not known"
    return f"{show_usd(priced)}{MORE if unpriced else ''}"


def _day_of(attempt: ExposedAttempt) -> str:
    return attempt.sent_at.astimezone(UTC).date().isoformat()


def count_exposed(exposed: Sequence[ExposedAttempt]) -> tuple[int, int]:
    """The worst case of all that have a price, in micro-USD, and how many have none."""
    priced = [parse_usd(attempt.reserved_usd) for attempt in exposed if attempt.reserved_usd is not None]
    return sum(priced), len(exposed) - len(priced)
