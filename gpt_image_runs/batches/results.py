"""The results of a batch's lines by the ledger as it is today, and the counts over them. Read only."""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import JsonValue, TypeAdapter
from sqlalchemy import Connection, RowMapping, and_, func, not_, or_, select

from gpt_image_runs.batches.models import LineEnd
from gpt_image_runs.billing.ledger.ledger import state_of_kind
from gpt_image_runs.contracts.base import Contract
from gpt_image_runs.contracts.batches import LineState
from gpt_image_runs.contracts.billing import BillingState
from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.contracts.money import Usd, format_usd
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.tables import batch_lines, ledger_entries, provider_attempts

_PAGE = 500
_SHOWN = batch_lines.c["line", "run_id", "state", "round", "fingerprint", "error_type", "error_message"]
_BILLED = ledger_entries.c[
    "run_id", "fingerprint", "kind", "amount_micro_usd", "usage", "images", "simulated"
]
_IMAGES = TypeAdapter(tuple[ImageRef, ...])


class LineResult(Contract):
    """A line of the manifest. `charge_usd` is what is owed for it, null while that is not known and where nothing was billed.

    `without_picture`: whether it was billed and has no image, null without a bill. `error` says why it has none.
    """

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
    without_picture: bool | None = None


def list_results(database: Database, batch_id: str) -> Iterator[LineResult]:
    """Yield every line of a batch in the order of its file, read some hundred at a time."""
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
    # A failed line may share its run with somebody who has run it again: the bill is shown all the same.
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
        without_picture=not entries[0]["images"] if entries else None,
    )


def _find_count(usage: JsonValue, name: str) -> int | None:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) else None


UNDER_WAY = ("starting", "running")
# The kinds of the first entry of a run: its bill. Later entries correct it.
BILLS = ("charge", "estimate", "hold")
_line, _entry, _attempt = batch_lines.c, ledger_entries.c, provider_attempts.c


_OWN_ENTRY = and_(_entry.run_id == _line.run_id, _entry.fingerprint == _line.fingerprint)


def count_without_picture(connection: Connection, batch_id: str) -> int:
    """Count the lines that were billed and have no image."""
    query = (
        select(func.count())
        .join_from(batch_lines, ledger_entries, _OWN_ENTRY)
        .where(_line.batch_id == batch_id, _line.state == "done")
        .where(_entry.kind.in_(BILLS), _entry.image_count == 0)
    )
    count: int = connection.execute(query.select_from(batch_lines)).scalar_one()
    return count


class Unknown(NamedTuple):
    """The requests of a line whose answer was lost, with their worst case as far as a price is known."""

    requests: int
    reserved_micro_usd: int


def find_billed(connection: Connection, batch_id: str) -> list[LineEnd]:
    """Find the ends of all lines under way whose run has a ledger entry."""
    query = (
        select(
            _line.line,
            _line.ceiling_micro_usd,
            _entry.kind,
            _entry.amount_micro_usd,
            _entry.image_count,
            _attempt.error_type,
            _attempt.error_message,
        )
        .join_from(batch_lines, ledger_entries, _OWN_ENTRY)
        .join(provider_attempts, _attempt.attempt_id == _entry.attempt_id)
        .where(_line.batch_id == batch_id, _line.state.in_(UNDER_WAY))
        .order_by(_line.line, _entry.sequence)
    )
    bills: dict[int, list[RowMapping]] = {}
    for row in connection.execute(query).mappings():
        bills.setdefault(row["line"], []).append(row)
    unknown = find_unknown(connection, batch_id, list(bills)) if bills else {}
    # On PostgreSQL each query has a snapshot of its own: without the batch's lock a line may have ended in between.
    return [_billed_end(entries, unknown[line]) for line, entries in bills.items() if line in unknown]


def find_unknown(connection: Connection, batch_id: str, lines: list[int]) -> dict[int, Unknown]:
    """Find the requests of unknown outcome of those lines that are under way.

    Requests in a provider's batch that has not ended are not counted: their answer is to come, and nothing is sent meanwhile.
    """
    in_a_batch = and_(_attempt.finished_at.is_(None), _attempt.batch_part.is_not(None))
    query = (
        select(
            _line.line,
            func.count(_attempt.attempt_id),
            func.coalesce(func.sum(_attempt.reserved_micro_usd), 0),
        )
        .join_from(
            batch_lines,
            provider_attempts,
            and_(_attempt.run_id == _line.run_id, _attempt.outcome == "unknown", not_(in_a_batch)),
            isouter=True,
        )
        .where(_line.batch_id == batch_id, _line.state.in_(UNDER_WAY), _line.line.in_(lines))
        .group_by(_line.line)
    )
    # PostgreSQL sums integers to a Decimal.
    return {line: Unknown(count, int(reserved)) for line, count, reserved in connection.execute(query)}


def sum_unknown_in_flight(connection: Connection, batch_id: str) -> int:
    """Sum the worst cases of lost answers not yet in the batch's counters, in micro-USD.

    The request that a run has in flight is not counted: its worst case is what the line has reserved.
    """
    mine = (_line.batch_id == batch_id, _line.state.in_(UNDER_WAY))
    later = provider_attempts.alias()
    followed = (
        select(later.c.attempt_id)
        .where(later.c.run_id == _attempt.run_id, later.c.number > _attempt.number)
        .exists()
    )
    lost = (
        select(func.coalesce(func.sum(_attempt.reserved_micro_usd), 0))
        .join_from(batch_lines, provider_attempts, _attempt.run_id == _line.run_id)
        .where(*mine, _attempt.outcome == "unknown", or_(_attempt.finished_at.is_not(None), followed))
    )
    counted = select(func.coalesce(func.sum(_line.exposed_micro_usd), 0)).where(*mine)
    return max(0, int(connection.execute(lost).scalar_one()) - int(connection.execute(counted).scalar_one()))


def _billed_end(entries: list[RowMapping], unknown: Unknown) -> LineEnd:
    """Build the end of a billed line from its entries: the bill first, then corrections."""
    pending = entries[-1]["kind"] == "hold"
    amounts = [entry["amount_micro_usd"] for entry in entries if entry["amount_micro_usd"] is not None]
    held = (entries[0]["ceiling_micro_usd"] or 0) if pending else 0
    has_pictures = entries[0]["image_count"] > 0
    return LineEnd(
        line=entries[0]["line"],
        state="done",
        images=entries[0]["image_count"],
        charged_micro_usd=sum(amounts),
        pending=pending,
        unknown=unknown.requests,
        exposed_micro_usd=unknown.reserved_micro_usd + held,
        error_type=None if has_pictures else entries[0]["error_type"],
        error_message=None if has_pictures else entries[0]["error_message"],
    )
