"""Correct bills: append the difference between what a run costs and what was billed for it.

The difference may be negative or zero. The same correction again finds its first entry. Prices are those of the day on
which the request was sent, by today's rate cards.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, RowMapping, select

from gpt_image_runs.billing.budgets.reservations import book_correction
from gpt_image_runs.billing.ledger.heads import append_entry
from gpt_image_runs.billing.ledger.ledger import cost_columns
from gpt_image_runs.billing.pricing import flags
from gpt_image_runs.billing.pricing.cost import compute_cost
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.pricing.usage import (
    UnbillableUsage,
    find_unpriced_usage,
    measure_depth,
    require_usage,
)
from gpt_image_runs.contracts.billing import Cost, CostInput, PriceMode
from gpt_image_runs.contracts.corrections import Correction, Outcome, Settlement, digest_usage
from gpt_image_runs.contracts.money import format_usd
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import CorrectionRefused
from gpt_image_runs.database.tables import ledger_entries, provider_attempts, runs
from gpt_image_runs.database.types import utc_now


@dataclass(frozen=True)
class RunHistory:
    """A run's entries, oldest first: at least its bill."""

    entries: tuple[RowMapping, ...]

    @property
    def latest(self) -> RowMapping:
        """The entry that decides the run's billing state."""
        return self.entries[-1]

    @property
    def is_pending(self) -> bool:
        """Whether the run has no amount yet."""
        return bool(self.latest["kind"] == "hold")

    @property
    def is_reversed(self) -> bool:
        """Whether all that was billed was taken back."""
        return bool(self.latest["kind"] == "reversal")

    def sum_up(self, column: str) -> int:
        """Sum a column in micro-USD. An entry without an amount adds nothing."""
        return sum(entry[column] for entry in self.entries if entry[column] is not None)

    def find(self, key: str) -> RowMapping | None:
        """Return the entry with that permanent key."""
        return next((entry for entry in self.entries if entry["entry_key"] == key), None)

    def find_last(self, prefix: str) -> RowMapping | None:
        """Return the last entry whose permanent key starts with `prefix`."""
        return next(
            (entry for entry in reversed(self.entries) if entry["entry_key"].startswith(prefix)), None
        )


def lock_history(connection: Connection, run_id: str) -> RunHistory:
    """Return a run's entries and lock the run against other corrections.

    The lock lasts until the transaction ends.

    Raises:
        CorrectionRefused: the run has no entry.
    """
    # Two corrections of one run wait for each other at the run's row. NO KEY UPDATE does not block foreign keys to it.
    # SQLite needs no lock: it has one writer at a time.
    connection.execute(select(runs.c.run_id).where(runs.c.run_id == run_id).with_for_update(key_share=True))
    query = (
        select(ledger_entries).where(ledger_entries.c.run_id == run_id).order_by(ledger_entries.c.sequence)
    )
    entries: tuple[Any, ...] = tuple(connection.execute(query).mappings())
    if not entries:
        raise CorrectionRefused(
            f"The run {run_id} has no entry in the ledger, so there is nothing to correct. Nothing was written."
            " `python starter.py ledger` lists what there is."
        )
    return RunHistory(entries)


def make_key(order: Correction, rate_card: str | None) -> str:
    """Build the permanent key of a correction.

    A reconcile is keyed by its usage, a reprice by the rate card that had the price. A run has one reversal.
    """
    if order.action == "reconcile":
        return f"{order.run_id}#usage:{digest_usage(order.usage)}"
    return f"{order.run_id}#reversal" if order.action == "reverse" else f"{_begin_reprice(order)}{rate_card}"


def find_known(order: Correction, history: RunHistory) -> RowMapping | None:
    """Return the entry that the same correction wrote before, None where there is none.

    A reprice is found whichever rate card it used.
    """
    if order.action == "reprice":
        return history.find_last(_begin_reprice(order))
    return history.find(make_key(order, None))


def _begin_reprice(order: Correction) -> str:
    return f"{order.run_id}#reprice:"


def build_settlement(history: RunHistory, entry: RowMapping, *, outcome: Outcome) -> Settlement:
    """Build the settlement of a run after `entry`, which is one of its corrections."""
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


def build_pending_settlement(history: RunHistory, reason: str | None) -> Settlement:
    """Build the settlement of a run that has no amount yet, with the reason."""
    return Settlement(
        run_id=history.latest["run_id"], outcome="pending", state="pending", total_usd=None, reason=reason
    )


# Levels of a usage that are read: the real one has three, and its validation fails at some 250.
_MAX_USAGE_DEPTH = 100
_NOTHING_OWED = Cost(basis="none", amount_usd=format_usd(0), list_cost_usd=format_usd(0))
# Columns that a correction copies from the entry before it.
_REPEATED = (
    "run_id",
    "tenant",
    "request_id",
    "attempt_id",
    "operation",
    "requested_model",
    "model",
    "provider",
    "provider_request_id",
    "simulated",
    "images",
    "image_count",
    "size",
    "quality",
    "metadata",
    "fingerprint",
    "sent_at",
)


class Corrections:
    """Settle runs in one ledger, at the prices of one set of rate cards. Safe to share between threads and processes.

    `on_entry` is called with the columns of each correction that was written, not with one that is found again.
    """

    def __init__(
        self,
        database: Database,
        cards: RateCards,
        clock: Callable[[], datetime] = utc_now,
        on_entry: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        self._database = database
        self._cards = cards
        self._clock = clock
        self._on_entry = on_entry

    def settle(self, order: Correction) -> Settlement:
        """Write a correction, once. A reprice that finds no price leaves the run pending.

        Raises:
            LedgerUnavailable: try again; nothing was written, or the same call will find what was.
            CorrectionRefused: there is nothing to correct, or the correction would not be true.
        """
        is_written = False
        with self._database.writing() as connection:
            history = lock_history(connection, order.run_id)
            known = find_known(order, history)
            if known is not None:
                return build_settlement(history, known, outcome="already_settled")
            _refuse_untimely(order, history)
            unpriced = _find_unpriced(connection, history) if order.action == "reprice" else None
            cost = self._compute_cost(order, history.latest, unpriced)
            if cost.amount_usd is None:
                return build_pending_settlement(history, cost.reason)
            row = self._make_row(order, history, cost)
            if append_entry(connection, row):
                book_correction(connection, row, was_pending=history.is_pending)
                is_written = True
            history = lock_history(connection, order.run_id)
        if is_written and self._on_entry:
            self._on_entry(row)
        return build_settlement(history, history.latest, outcome="settled")

    def _compute_cost(self, order: Correction, latest: RowMapping, unpriced: str | None) -> Cost:
        """Compute the run's cost. It has no amount only where a reprice finds no price yet."""
        if order.action == "reverse":
            return _NOTHING_OWED
        if unpriced is not None:
            return Cost(basis="none", reason=unpriced)
        cost = self._price(order.usage if order.action == "reconcile" else latest["usage"], latest)
        if cost.amount_usd is None and order.action == "reconcile":
            raise _refuse(order, f"{cost.reason}{self._missing_price_advice(latest)}")
        return cost

    def _price(self, usage: Any, latest: RowMapping) -> Cost:
        if measure_depth(usage) > _MAX_USAGE_DEPTH:
            return Cost(basis="none", reason=f"usage has more than {_MAX_USAGE_DEPTH} levels.")
        try:
            require_usage(usage)
        except UnbillableUsage as problem:
            return Cost(basis="none", reason=str(problem))
        return compute_cost(
            CostInput(
                provider=latest["provider"],
                model=latest["model"],
                usage=usage,
                missing_usage="hold",
                operation=latest["operation"],
                images=latest["image_count"],
                sent_at=latest["sent_at"],
                mode=_mode_of(latest),
            ),
            self._cards,
        )

    def _missing_price_advice(self, latest: RowMapping) -> str:
        known = self._cards.charge_rate(
            latest["provider"], latest["model"], latest["sent_at"], _mode_of(latest)
        )
        return "" if known else " Add it to the RATE_CARD of the worker, and reconcile again."

    def _make_row(self, order: Correction, history: RunHistory, cost: Cost) -> dict[str, Any]:
        latest = history.latest
        row = {**{name: latest[name] for name in _REPEATED}, **cost_columns(cost)}
        for column in ("amount_micro_usd", "list_cost_micro_usd"):
            if row[column] is not None:
                row[column] -= history.sum_up(column)
        return row | {
            "entry_id": f"ent_{uuid4().hex}",
            "entry_key": make_key(order, cost.rate_card),
            "kind": "reversal" if order.action == "reverse" else "adjustment",
            "usage": {"reconcile": order.usage, "reprice": latest["usage"], "reverse": None}[order.action],
            "reason": order.reason,
            "actor": order.actor,
            "corrects": latest["entry_id"],
            "created_at": self._clock(),
        }


def _mode_of(entry: RowMapping) -> PriceMode:
    return "batch" if flags.BATCH_PRICE in entry["flags"] else "standard"


def _find_unpriced(connection: Connection, history: RunHistory) -> str | None:
    """Return why the recorded usage is not all that was charged: the entry holds only `usage`."""
    attempt = provider_attempts.c
    query = select(attempt.response).where(attempt.attempt_id == history.latest["attempt_id"])
    return find_unpriced_usage(connection.execute(query).scalar())


def _refuse_untimely(order: Correction, history: RunHistory) -> None:
    latest = history.latest
    if history.is_reversed:
        raise _refuse(order, f"It was reversed by entry {latest['entry_id']}, and stays so.")
    if order.action == "reprice" and not history.is_pending:
        raise _refuse(
            order,
            f"It does not wait for a price: entry {latest['entry_id']} is its {latest['kind']} and has an amount.",
        )
    if order.action == "reprice" and latest["usage"] is None:
        raise _refuse(order, "It has no usage that could be priced: reconcile it with the provider's usage.")


def _refuse(order: Correction, why: str) -> CorrectionRefused:
    done = {"reconcile": "reconciled", "reprice": "repriced", "reverse": "reversed"}[order.action]
    return CorrectionRefused(f"The run {order.run_id} is not {done}, nothing was written: {why}")
