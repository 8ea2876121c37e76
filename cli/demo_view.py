"""What the demo shows in the end: a table of its runs, the ledger's total, and where each run is in the Web UI."""

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from billing.report_rows import CostTotals
from cli.output import Output, make_table
from cli.run_view import describe_tokens, shorten_path
from contracts.result import RunResult

_WIDTH_FOR_ONE_LINE_EACH = 119


@dataclass(frozen=True, slots=True)
class DemoRun:
    """A run of the demo that is done, its pictures as files, and its page in the Web UI."""

    result: RunResult
    files: tuple[Path, ...]
    link: str | None


def show_demo(runs: list[DemoRun], totals: CostTotals, output: Output) -> None:
    """Gives the demo's answer."""
    document = {
        "status": "completed",
        "runs": [
            run.result.model_dump(mode="json")
            | {"files": [str(file) for file in run.files], "web_ui": run.link}
            for run in runs
        ],
        "totals": totals.model_dump(mode="json"),
    }
    table = _tabulate_wide(runs) if output.width >= _WIDTH_FOR_ONE_LINE_EACH else _tabulate_narrow(runs)
    output.answer(document, table, _describe_totals(totals), _list_links(runs))


def _tabulate_wide(runs: list[DemoRun]) -> Table:
    columns = ("Run", "Picture", "Tokens", "Charge USD", "Basis", "Billing")
    table = make_table(*columns, right=("Charge USD",), whole=("Run", "Charge USD", "Billing"))
    for run in runs:
        table.add_row(
            run.result.run_id,
            _name_files(run),
            describe_tokens(run.result.usage),
            _style_charge(run),
            run.result.cost.basis,
            _style_state(run),
        )
    return table


def _tabulate_narrow(runs: list[DemoRun]) -> Table:
    """Two lines for each run: six columns do not fit into 80 characters."""
    columns = ("Run\nPicture", "Tokens", "Charge USD", "Basis\nBilling")
    table = make_table(*columns, right=("Charge USD",), whole=("Tokens", "Charge USD"))
    for run in runs:
        table.add_row(
            f"{run.result.run_id}\n{_name_files(run)}",
            describe_tokens(run.result.usage).replace(", ", "\n").replace("usage ", "usage\n"),
            _style_charge(run),
            Text(f"{run.result.cost.basis}\n").append_text(_style_state(run)),
        )
        table.add_section()
    return table


def _name_files(run: DemoRun) -> str:
    return "\n".join(shorten_path(file) for file in run.files)


def _style_charge(run: DemoRun) -> Text:
    return Text(run.result.cost.amount_usd or "not known yet", style="bold")


def _style_state(run: DemoRun) -> Text:
    state = run.result.billing.state
    return Text(state, style="green" if state == "billed" else "yellow")


def _describe_totals(totals: CostTotals) -> Text:
    lines = []
    for row in (totals.real, totals.simulated):
        if row.runs:
            simulated = ", simulated: no money was spent" if row.simulated else ""
            lines.append(f"The ledger's total: {row.total_usd} USD for {row.runs:,} runs{simulated}")
            lines.append(
                f"  {row.charged_usd} charged, {row.estimated_usd} estimated, {row.pending:,} pending"
            )
    return Text("\n".join([*lines, ""]))


def _list_links(runs: list[DemoRun]) -> Text:
    text = Text("In the Web UI, while `make up` runs:")
    for run in runs:
        text.append(f"\n  {run.link}", style="cyan")
    return text
