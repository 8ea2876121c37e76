"""The ledger: one bill for each run, written once under a permanent key, and the billing state that follows from it.

Kinds of entries: a `charge` and an `estimate` are amounts, a `hold` is an amount that is not known yet. An `adjustment`
and a `reversal` name the entry that they correct and hold the difference, so that the sum of all entries is what is owed.
"""

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import JsonValue
from sqlalchemy import Connection, RowMapping, bindparam, select

from gpt_image_runs.billing.budgets.reservations import convert_reservation
from gpt_image_runs.billing.ledger.heads import append_entry
from gpt_image_runs.billing.pricing.flags import RECOVERED
from gpt_image_runs.billing.pricing.paid_attempt import PricedFacts, price_paid_attempt
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.billing import Basis, BillingInput, BillingRecord, BillingState, Cost, EntryKind
from gpt_image_runs.contracts.fingerprints import strip_marks
from gpt_image_runs.contracts.money import format_usd, parse_usd
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import AttemptMissing, LedgerRefused, RunConflict
from gpt_image_runs.database.tables import ledger_entries, provider_attempts, runs
from gpt_image_runs.database.types import utc_now

_OF_THE_RUN = runs.c["run_id", "tenant", "request_id", "fingerprint", "operation", "requested_model"]
_OF_THE_ATTEMPT = provider_attempts.c[
    "attempt_id", "model", "provider", "provider_request_id", "simulated", "size", "quality", "sent_at"
]
_ENTRY_COLUMNS = (*_OF_THE_RUN, *_OF_THE_ATTEMPT)
_ATTEMPT_COLUMNS = (
    *provider_attempts.c[
        "outcome", "response", "images", "reserved_micro_usd", "output_format", "batch_part", "recovered_at"
    ],
    runs.c.workflow_id,
)
_FIND = (
    select(*_ENTRY_COLUMNS, *_ATTEMPT_COLUMNS)
    .join_from(provider_attempts, runs)
    .where(provider_attempts.c.attempt_id == bindparam("attempt_id"))
)


class PaidAttempt(NamedTuple):
    """The columns that an entry copies from its run and attempt, and what the attempt reserved.

    `reserved_micro_usd` is None where no price was known. `facts` is what its price depends on, `workflow_id` the workflow
    that its run belongs to. `recovered`: the ledger had lost the attempt, and its entry has to say so.
    """

    columns: dict[str, Any]
    reserved_micro_usd: int | None
    facts: PricedFacts
    workflow_id: str
    recovered: bool = False


def load_paid_attempt(connection: Connection, run_id: str, attempt_id: str) -> PaidAttempt:
    """Load who asked for what and what was delivered, as columns of a ledger entry.

    The usage is whole and verbatim.

    Both rows are final: a run never changes, and neither does an attempt that succeeded.

    Raises:
        AttemptMissing: there is no such attempt.
        LedgerRefused: it is another run's, or it did not succeed.
    """
    found = connection.execute(_FIND, {"attempt_id": attempt_id}).mappings()
    paid = _refuse_unpaid(found.first(), run_id, attempt_id)
    images = paid["images"] or []
    columns = {
        **{column.name: paid[column.name] for column in _ENTRY_COLUMNS},
        "fingerprint": strip_marks(paid["fingerprint"]),
        "usage": _find_usage(paid["response"]),
        "images": images,
        "image_count": len(images),
    }
    facts = PricedFacts(
        attempt_id=attempt_id,
        fingerprint=paid["fingerprint"],
        response=paid["response"],
        is_batch=paid["batch_part"] is not None,
        columns=columns,
        output_format=paid["output_format"],
    )
    return PaidAttempt(
        columns,
        paid["reserved_micro_usd"],
        facts,
        paid["workflow_id"],
        recovered=paid["recovered_at"] is not None,
    )


def _refuse_unpaid(attempt: RowMapping | None, run_id: str, attempt_id: str) -> RowMapping:
    nothing = f"Nothing was recorded for run {run_id}"
    if attempt is None:
        raise AttemptMissing(
            f"{nothing}: there is no attempt {attempt_id} in the ledger. Is this the ledger that the attempt was written to?"
            " After a restore from an older copy, run `python starter.py recover --from-store` (docs/how-to/restore.md)."
        )
    if attempt["run_id"] != run_id:
        raise LedgerRefused(
            f"{nothing}: attempt {attempt_id} belongs to run {attempt['run_id']}. Bill a run by an attempt of its own."
        )
    if attempt["outcome"] != "succeeded":
        raise LedgerRefused(
            f"{nothing}: the outcome of attempt {attempt_id} is {attempt['outcome']}. Only an attempt that succeeded is billed."
        )
    return attempt


def _find_usage(response: JsonValue) -> JsonValue:
    return response.get("usage") if isinstance(response, dict) else None


_KINDS: dict[Basis, EntryKind] = {
    "token_usage": "charge",
    "size_quality_estimate": "estimate",
    "none": "hold",
}
_STATES: dict[EntryKind, BillingState] = {
    "charge": "billed",
    "estimate": "estimated",
    "hold": "pending",
    "adjustment": "reconciled",
    "reversal": "reconciled",
}
_STATE_COLUMNS = (ledger_entries.c.kind, ledger_entries.c.entry_id, ledger_entries.c.reason)
_COST_COLUMNS = ledger_entries.c[
    "amount_micro_usd",
    "basis",
    "flags",
    "rate_card",
    "rates",
    "line_items",
    "list_cost_micro_usd",
    "list_rate_card",
    "list_rates",
]

_FIND_BY_KEY = select(*_STATE_COLUMNS, *_COST_COLUMNS).where(ledger_entries.c.entry_key == bindparam("key"))


def bill_key(run_id: str) -> str:
    """Return the permanent key of a run's bill. A run has one entry with this key."""
    return f"{run_id}#bill"


def make_bill_id(run_id: str, attempt_id: str) -> str:
    """Build the id of a run's bill. A bill that is recovered after a loss gets the same id."""
    return f"ent_{hashlib.sha256(f'{bill_key(run_id)} {attempt_id}'.encode()).hexdigest()[:32]}"


def state_of_kind(kind: EntryKind) -> BillingState:
    """Return the billing state of a run whose latest entry is of that kind."""
    return _STATES[kind]


class Ledger:
    """Write and read the billing of runs. Safe to share between threads and processes.

    `on_entry` is called with the columns of each entry that was written, not with one that is found again.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime] = utc_now,
        on_entry: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._on_entry = on_entry

    def bill(self, order: BillingInput, cards: RateCards, *, workflow_id: str | None = None) -> BillingRecord:
        """Write a run's bill, priced here by the usage of its recorded attempt and by `cards`.

        `order.cost` is never trusted: see `gpt_image_runs.billing.pricing.paid_attempt`. Where the recorded cost differs, the
        record holds it. `workflow_id` is the workflow that asks; None where the caller is not a workflow.

        Raises:
            RunConflict: the run belongs to another workflow.
            LedgerUnavailable, LedgerRefused: as for `record`.
        """

        def price(paid: PaidAttempt) -> Cost:
            _refuse_other_workflow(order.run_id, paid.workflow_id, workflow_id)
            return price_paid_attempt(paid.facts, order.cost, cards)

        return self.record(order, price)

    def record(
        self,
        order: BillingInput,
        price: Callable[[PaidAttempt], Cost] | None = None,
        *,
        entry_id: str | None = None,
        actor: str | None = None,
    ) -> BillingRecord:
        """Write a run's bill, once. The same run again returns the record of its first bill, whatever `order` says.

        Without `price` the cost in `order` is taken as it is. Never do that with a cost that came from a workflow.
        Prices and settings may have changed meanwhile: the record holds the first bill's cost where it differs.

        The facts of the run and of the attempt that was paid are copied in the same transaction.

        `entry_id` and `actor` are for a bill that the ledger had lost: its former id, and who decided.

        Raises:
            AttemptMissing: the ledger does not have the attempt.
            LedgerUnavailable: try again; nothing was written, or the same call will find what was.
            LedgerRefused: the run has no such attempt that succeeded, or the cost contradicts itself.
        """
        key = {"key": bill_key(order.run_id)}
        written: dict[str, Any] | None = None
        with self._database.writing() as connection:
            entry = connection.execute(_FIND_BY_KEY, key).mappings().first()
            if entry is None:
                paid = load_paid_attempt(connection, order.run_id, order.attempt_id)
                cost = order.cost if price is None else price(paid)
                row = self._make_row(order, cost, paid) | _only_set(entry_id=entry_id, actor=actor)
                if append_entry(connection, row):
                    convert_reservation(connection, row, paid.reserved_micro_usd)
                    written = row
                entry = connection.execute(_FIND_BY_KEY, key).mappings().one()
        if written and self._on_entry:
            self._on_entry(written)
        recorded = _read_cost(entry)
        return _make_record(entry).model_copy(update={"cost": None if recorded == order.cost else recorded})

    def state_of(self, run_id: str) -> BillingRecord | None:
        """Return a run's billing record by its latest entry, None where it has no entry."""
        query = select(*_STATE_COLUMNS).where(ledger_entries.c.run_id == run_id)
        with self._database.reading() as connection:
            latest = connection.execute(query.order_by(ledger_entries.c.sequence.desc()).limit(1))
            entry = latest.mappings().first()
        return None if entry is None else _make_record(entry)

    def _make_row(self, order: BillingInput, cost: Cost, paid: PaidAttempt) -> dict[str, Any]:
        if paid.recovered and RECOVERED not in cost.flags:
            cost = cost.model_copy(update={"flags": (*cost.flags, RECOVERED)})
        return {
            "entry_id": make_bill_id(order.run_id, order.attempt_id),
            "entry_key": bill_key(order.run_id),
            "kind": _KINDS[cost.basis],
            **paid.columns,
            **cost_columns(cost),
            "metadata": order.metadata,
            "created_at": self._clock(),
        }


def _refuse_other_workflow(run_id: str, owner: str, workflow_id: str | None) -> None:
    """Raise RunConflict where a run is billed by another workflow than its own.

    A run that was paid as a line of an economy batch may be billed later by a workflow of its own.
    """
    if workflow_id is None or workflow_id == owner or names.is_economy_batch(owner):
        return
    raise RunConflict(
        f"Nothing was recorded for run {run_id}: it belongs to workflow {owner}, and workflow {workflow_id} asked for"
        " its bill. A run is billed by its own workflow."
    )


def cost_columns(cost: Cost) -> dict[str, Any]:
    """Return the columns of an entry that hold its amount and how it was computed."""
    return {
        "amount_micro_usd": _parse_or_none(cost.amount_usd),
        "basis": cost.basis,
        "flags": list(cost.flags),
        "reason": cost.reason,
        "rate_card": cost.rate_card,
        "rates": cost.rates,
        "line_items": [item.model_dump(mode="json") for item in cost.line_items],
        "list_cost_micro_usd": _parse_or_none(cost.list_cost_usd),
        "list_rate_card": cost.list_rate_card,
        "list_rates": cost.list_rates,
    }


def _only_set(**columns: str | None) -> dict[str, Any]:
    return {name: value for name, value in columns.items() if value is not None}


def _read_cost(entry: RowMapping) -> Cost:
    return Cost(
        amount_usd=_format_or_none(entry["amount_micro_usd"]),
        list_cost_usd=_format_or_none(entry["list_cost_micro_usd"]),
        **{name: entry[name] for name in Cost.model_fields if name in entry},
    )


def _format_or_none(micro_usd: int | None) -> str | None:
    return None if micro_usd is None else format_usd(micro_usd)


def _parse_or_none(usd: str | None) -> int | None:
    return None if usd is None else parse_usd(usd)


def _make_record(entry: RowMapping) -> BillingRecord:
    state = _STATES[entry["kind"]]
    return BillingRecord(state=state, entry_id=entry["entry_id"], reason=entry["reason"])
