"""The page of a month's report: what real runs cost and, apart from it, what simulated ones would have.

It has no script. What a section looks like is in `cli.report_sections`, the page around them in `cli/month_report_page/`.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from billing.month_report import MonthReport
from cli.moments import format_moment
from cli.months import Month
from cli.page_files import PageFiles
from cli.page_text import escape
from cli.report_facts import Facts
from cli.report_sections import render_facts

_FOLDER = Path(__file__).parent / "month_report_page"


def render_report(
    month: Month, report: MonthReport, now: datetime, *, tenant: str | None, table_name: str
) -> str:
    """The whole page. `table_name` is the file of the CSV beside it."""
    of = f" of {tenant}" if tenant else ""
    values = {
        "title": escape(f"Spend{of} in {month.name}"),
        "about": f"Image runs, all amounts in USD, days in UTC. As of <time>{format_moment(now)}</time> UTC"
        f"{'; the month is not over yet' if now < month.until else ''}.",
        "sections": "".join(_list_sections(month, report)),
        "remarks": "".join(f"<li>{remark}</li>\n" for remark in _list_remarks(table_name)),
    }
    return "".join(PageFiles(_FOLDER).render(values))


def _list_sections(month: Month, report: MonthReport) -> Iterator[str]:
    real = Facts.select(month, report, simulated=False)
    if real.is_empty:
        yield f'<p class="empty">No entry of a real run was written in {month.name}.</p>\n'
    else:
        yield render_facts(real)
    simulated = Facts.select(month, report, simulated=True)
    if not simulated.is_empty:
        yield (
            '<section class="reality">\n<h2>Simulated runs: nobody pays these</h2>\n'
            '<p class="about">They were carried out by the simulator of the provider. No amount above includes them.</p>\n'
            f"{render_facts(simulated)}</section>\n"
        )


def _list_remarks(table_name: str) -> Iterator[str]:
    yield (
        "<b>The date that counts</b> is the day on which an entry was written to the ledger, in UTC. A correction (adjustment or"
        " reversal) stands on its own day, in the month in which it was written, with the difference to what was billed before."
        " So the total of a month that is over stays as it is."
    )
    yield (
        "<b>Charged</b> is settled. <b>Estimated</b> is billed by size and quality, as the provider reported no usage, and is"
        " not corrected yet. <b>Total</b> is the two together."
    )
    yield (
        "<b>Pending</b> bills have no amount yet and are in no total. <b>Exposure</b> is the most that requests can have cost"
        " whose answer was lost; it is in no total either, and belongs to the day on which they were sent."
    )
    yield (
        "<b>List cost</b> is what the provider's price list says for the same runs. A + means that for some bills no list price"
        " is known, so that the true cost is higher and the difference lower."
    )
    yield (
        f"<b>{escape(table_name)}</b> beside this page has a row for each day, tenant and model. The same sums on a terminal:"
        " <code>python starter.py costs --by day --since DAY --until DAY</code>."
    )
