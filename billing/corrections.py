"""Corrections of bills: what a run costs in truth, as a new entry that points at the one which it corrects.

An entry holds the difference to all that was billed for the run so far, which may be negative or zero. The same
correction again finds its first entry. Prices are those of the day on which the request was sent, by today's rate cards.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, RowMapping, select

from billing import flags
from billing.correction_keys import find_known, make_key
from billing.costs import compute_cost
from billing.database import Database
from billing.errors import CorrectionRefused
from billing.heads import append_entry
from billing.ledger import make_cost_columns, utc_now
from billing.nesting import measure_depth
from billing.rate_cards import RateCards
from billing.reservations import book_correction
from billing.run_history import RunHistory, lock_history
from billing.settlements import describe_pending, describe_settlement
from billing.tables import provider_attempts
from billing.usage import UnbillableUsage, find_unpriced_usage, require_usage
from contracts.billing import Cost, CostInput, PriceMode
from contracts.corrections import Correction, Settlement
from contracts.money import format_usd

_DEEPEST_USAGE = 100
"""Levels of a usage that are read: the real one has three, and what checks it gives up at some 250."""
_NOTHING_OWED = Cost(basis="none", amount_usd=format_usd(0), list_cost_usd=format_usd(0))
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
"""What a correction says of the run as the entry before it did."""


class Corrections:
    """Settles runs in one ledger, at the prices of one set of rate cards. Safe to share between threads and processes.

    `on_entry` is told of each correction once it is written, by its columns, and not when it is found again.
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
        """Writes a correction, once. What a reprice cannot price yet is left as it is: its outcome is "pending".

        Raises:
            LedgerUnavailable: try again; nothing was written, or the same call will find what was.
            CorrectionRefused: there is nothing to correct, or the correction would not be true.
        """
        is_written = False
        with self._database.writing() as connection:
            history = lock_history(connection, order.run_id)
            known = find_known(order, history)
            if known is not None:
                return describe_settlement(history, known, outcome="already_settled")
            _refuse_untimely(order, history)
            unpriced = _find_unpriced(connection, history) if order.action == "reprice" else None
            cost = self._compute_cost(order, history.latest, unpriced)
            if cost.amount_usd is None:
                return describe_pending(history, cost.reason)
            row = self._make_row(order, history, cost)
            if append_entry(connection, row):
                book_correction(connection, row, history)
                is_written = True
            history = lock_history(connection, order.run_id)
        if is_written and self._on_entry:
            self._on_entry(row)
        return describe_settlement(history, history.latest, outcome="settled")

    def _compute_cost(self, order: Correction, latest: RowMapping, unpriced: str | None) -> Cost:
        """What the run costs; without an amount only where a reprice has to wait on."""
        if order.action == "reverse":
            return _NOTHING_OWED
        if unpriced is not None:
            return Cost(basis="none", reason=unpriced)
        cost = self._price(order.usage if order.action == "reconcile" else latest["usage"], latest)
        if cost.amount_usd is None and order.action == "reconcile":
            raise _refuse(order, f"{cost.reason}{self._tell_price(latest)}")
        return cost

    def _price(self, usage: Any, latest: RowMapping) -> Cost:
        if measure_depth(usage) > _DEEPEST_USAGE:
            return Cost(basis="none", reason=f"usage has more than {_DEEPEST_USAGE} levels.")
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

    def _tell_price(self, latest: RowMapping) -> str:
        """What to do where it is the price that is missing."""
        known = self._cards.charge_rate(
            latest["provider"], latest["model"], latest["sent_at"], _mode_of(latest)
        )
        return "" if known else " Add it to the RATE_CARD of the worker, and reconcile again."

    def _make_row(self, order: Correction, history: RunHistory, cost: Cost) -> dict[str, Any]:
        latest = history.latest
        row = {**{name: latest[name] for name in _REPEATED}, **make_cost_columns(cost)}
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
    """Why the usage that was kept is not all that was charged for: the entry holds `usage` alone."""
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
            f"It waits for no price: entry {latest['entry_id']} is its {latest['kind']} and has an amount.",
        )
    if order.action == "reprice" and latest["usage"] is None:
        raise _refuse(order, "It has no usage that could be priced: reconcile it with the provider's usage.")


def _refuse(order: Correction, why: str) -> CorrectionRefused:
    done = {"reconcile": "reconciled", "reprice": "repriced", "reverse": "reversed"}[order.action]
    return CorrectionRefused(f"The run {order.run_id} is not {done}, nothing was written: {why}")
