"""What an operator reads of a correction: a line for the timeline, and markdown for the top of its page. Pure."""

from contracts.corrections import Correction, Settlement
from workflows.details import quote

_OUTCOMES = {
    "settled": "Settled",
    "already_settled": "Settled before",
    "pending": "Still pending: nothing was written",
}


def describe_correction(correction: Correction) -> str:
    """One line: what is done to which run, and who decided it."""
    return f"{correction.action} {correction.run_id} by {quote(correction.actor)}"


def describe_settlement(correction: Correction, settlement: Settlement) -> str:
    """The outcome and the amounts in one line; who decided it and why; and what an operator should know."""
    difference = f"difference {settlement.difference_usd} USD" if settlement.difference_usd else None
    total = f"total {settlement.total_usd} USD" if settlement.total_usd else None
    facts = [f"**{_OUTCOMES[settlement.outcome]}**", total, difference, settlement.state]
    notes = [f"{describe_correction(correction)}: {quote(correction.reason)}"]
    if settlement.outcome == "pending" and settlement.reason:
        notes.append(f"**Reason:** {quote(settlement.reason)}")
    if settlement.superseded_by:
        notes.append(f"**Note:** corrected again since, by entry {settlement.superseded_by}")
    return "\n\n".join([" · ".join(filter(None, facts)), *notes])


def describe_end(message: str) -> str:
    """A correction that was not made."""
    return f"**Refused: nothing was written**\n\n**Reason:** {quote(message)}"
