"""How corrections that have ended look: one in lines, many in a table, both as JSON; and the exit status that follows."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from cli.failures import FAILED, REFUSED, CommandFailed, RequestRefused
from cli.output import make_table
from cli.run_view import describe_lines
from cli.settling import Ending
from contracts.corrections import Settlement

_TITLES = {"settled": "✓ {} is settled", "already_settled": "✓ {} was settled before"}
_COUNTED = ("settled", "already_settled", "pending", "refused", "failed")


def refuse_unsettled(ending: Ending) -> Settlement:
    """The settlement of the one run that a command was about.

    Raises:
        CommandFailed: it was refused, it still waits, or it failed.
    """
    settlement, run_id = ending.settlement, ending.correction.run_id
    if ending.problem or settlement is None:
        end = CommandFailed if ending.outcome == "failed" else RequestRefused
        raise end(ending.problem or "", run_id=run_id)
    if settlement.outcome == "pending":
        raise RequestRefused(
            f"The run {run_id} is still pending, nothing was written: {settlement.reason}", run_id=run_id
        )
    return settlement


def describe_settlement(settlement: Settlement, link: str | None) -> Text:
    """A settled run: what is owed now, and the entry that says so."""
    rows = [
        ("owed", f"{settlement.total_usd} USD"),
        ("difference", f"{settlement.difference_usd} USD"),
        ("entry", f"{settlement.entry_id}, corrects {settlement.corrects}"),
        ("rates", settlement.rate_card or ""),
        ("reason", settlement.reason or ""),
        ("Web UI", link or ""),
    ]
    return describe_lines(_TITLES[settlement.outcome].format(settlement.run_id), rows, style="bold green")


def document_endings(endings: Sequence[Ending]) -> dict[str, Any]:
    """What became of many: how many of each outcome, and every run with its settlement or its problem."""
    counts = _count(endings)
    runs = [
        {
            "run_id": ending.correction.run_id,
            "outcome": ending.outcome,
            "problem": ending.problem,
            "settlement": ending.settlement and ending.settlement.model_dump(mode="json"),
        }
        for ending in endings
    ]
    return {**counts, "runs": runs}


def tabulate_endings(endings: Sequence[Ending]) -> tuple[RenderableType, ...]:
    """The same for people: a row for each run, and a line with the counts."""
    if not endings:
        return (Text("Nothing to settle.", style="bold"),)
    numbers = ("Difference USD", "Owed USD")
    table = make_table("Run", "Outcome", *numbers, right=numbers)
    for ending in endings:
        settlement = ending.settlement
        amounts = (settlement.difference_usd, settlement.total_usd) if settlement else (None, None)
        outcome = ending.outcome.replace("_", " ")
        table.add_row(Text(ending.correction.run_id), outcome, *(amount or "" for amount in amounts))
        why = ending.problem or (settlement.reason if settlement and ending.outcome == "pending" else None)
        if why:
            table.add_row(Text(why, style="dim"), "", "", "")
    told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in _count(endings).items() if count)
    return table, Text(f"{told}.", style="bold")


def find_status(endings: Sequence[Ending]) -> int:
    """The exit status: 1 where a correction failed, 2 where one was refused, else 0."""
    counts = _count(endings)
    return FAILED if counts["failed"] else REFUSED if counts["refused"] else 0


def _count(endings: Sequence[Ending]) -> dict[str, int]:
    counts = Counter(ending.outcome for ending in endings)
    return {name: counts[name] for name in _COUNTED}
