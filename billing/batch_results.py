"""The manifest of a batch: what became of each line, by the ledger as it is today. Nothing is written here."""

from collections import defaultdict
from collections.abc import Iterator

from pydantic import JsonValue, TypeAdapter
from sqlalchemy import Connection, RowMapping, select

from billing.batch_tables import batch_lines
from billing.database import Database
from billing.ledger import state_of_kind
from billing.tables import ledger_entries
from contracts.base import Contract
from contracts.batches import LineState
from contracts.billing import BillingState
from contracts.images import ImageRef
from contracts.money import Usd, format_usd

_PAGE = 500
_SHOWN = batch_lines.c["line", "run_id", "state", "round", "fingerprint", "error_type", "error_message"]
_BILLED = ledger_entries.c[
    "run_id", "fingerprint", "kind", "amount_micro_usd", "usage", "images", "simulated"
]
_IMAGES = TypeAdapter(tuple[ImageRef, ...])


class LineResult(Contract):
    """A line of the manifest. `charge_usd` is what is owed for it, null while that is not known or where nothing was billed."""

    line: int
    run_id: str | None
    state: LineState
    round: int
    pictures: tuple[ImageRef, ...]
    input_tokens: int | None
    output_tokens: int | None
    charge_usd: Usd | None
    billing_state: BillingState | None
    simulated: bool | None
    error_type: str | None
    error: str | None


def list_results(database: Database, batch_id: str) -> Iterator[LineResult]:
    """Every line of a batch in the order of its file, read some hundred at a time."""
    after = 0
    while True:
        with database.reading() as connection:
            query = select(*_SHOWN).where(batch_lines.c.batch_id == batch_id, batch_lines.c.line > after)
            lines = connection.execute(query.order_by(batch_lines.c.line).limit(_PAGE)).mappings().all()
            entries = _find_entries(connection, [line["run_id"] for line in lines if line["run_id"]])
        if not lines:
            return
        for line in lines:
            bills = [
                bill for bill in entries.get(line["run_id"], []) if bill["fingerprint"] == line["fingerprint"]
            ]
            yield _view(line, bills)
        after = lines[-1]["line"]


def _find_entries(connection: Connection, run_ids: list[str]) -> dict[str, list[RowMapping]]:
    query = select(*_BILLED).where(ledger_entries.c.run_id.in_(run_ids)).order_by(ledger_entries.c.sequence)
    entries: dict[str, list[RowMapping]] = defaultdict(list)
    for entry in connection.execute(query).mappings():
        entries[entry["run_id"]].append(entry)
    return entries


def _view(line: RowMapping, entries: list[RowMapping]) -> LineResult:
    # A line that failed may share its run with somebody who had it carried out again: its bill is shown as it is.
    amounts = [entry["amount_micro_usd"] for entry in entries if entry["amount_micro_usd"] is not None]
    usage = next((entry["usage"] for entry in reversed(entries) if entry["usage"] is not None), None)
    return LineResult(
        line=line["line"],
        run_id=line["run_id"],
        state=line["state"],
        round=line["round"],
        pictures=_IMAGES.validate_python(entries[0]["images"]) if entries else (),
        input_tokens=_find_count(usage, "input_tokens"),
        output_tokens=_find_count(usage, "output_tokens"),
        charge_usd=format_usd(sum(amounts)) if amounts else None,
        billing_state=state_of_kind(entries[-1]["kind"]) if entries else None,
        simulated=entries[0]["simulated"] if entries else None,
        error_type=line["error_type"],
        error=line["error_message"],
    )


def _find_count(usage: JsonValue, name: str) -> int | None:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) else None
