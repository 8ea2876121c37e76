"""What a correction's caller is told: where the run stands now. Nothing is decided and nothing is written here."""

from sqlalchemy import RowMapping

from billing.run_history import RunHistory
from contracts.corrections import Outcome, Settlement
from contracts.money import format_usd


def describe_settlement(history: RunHistory, entry: RowMapping, *, outcome: Outcome) -> Settlement:
    """The run after `entry`, which is one of its corrections, and perhaps others after that."""
    latest = history.latest["entry_id"]
    return Settlement(
        run_id=entry["run_id"],
        outcome=outcome,
        state="reconciled",
        total_usd=format_usd(history.sum_up("amount_micro_usd")),
        difference_usd=format_usd(entry["amount_micro_usd"]),
        entry_id=entry["entry_id"],
        corrects=entry["corrects"],
        rate_card=entry["rate_card"],
        reason=entry["reason"],
        superseded_by=None if latest == entry["entry_id"] else latest,
    )


def describe_pending(history: RunHistory, reason: str | None) -> Settlement:
    """The run as it was: it has no amount yet, for this reason."""
    return Settlement(
        run_id=history.latest["run_id"], outcome="pending", state="pending", total_usd=None, reason=reason
    )
