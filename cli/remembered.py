"""What the ledger knows of a run: also after Temporal has forgotten it, and after its bill was corrected."""

from collections.abc import Iterable
from dataclasses import dataclass

from billing.attempt_records import Attempt
from billing.attempts import AttemptLog
from billing.errors import LedgerError
from billing.ledger import Ledger
from billing.report_rows import EntryView
from billing.reports import list_entries
from cli.session import Session
from contracts.money import format_usd, parse_usd
from contracts.result import ResultBilling, ResultCost, ResultProvider, RunResult

_BILLS = ("charge", "estimate", "hold")


@dataclass(frozen=True, slots=True)
class RememberedRun:
    """What the ledger knows of a run: its bill, if it has one, and the requests that were sent for it."""

    result: RunResult | None
    attempts: tuple[Attempt, ...]


def find_in_ledger(run_id: str, session: Session) -> RememberedRun | None:
    """The run as the ledger knows it, None where it does not.

    Raises:
        LedgerError: the ledger is not there.
    """
    with session.open_ledger() as database:
        entries = list_entries(database, run_id=run_id)
        attempts = AttemptLog(database).list_attempts(run_id)
        record = Ledger(database).state_of(run_id)
    bill = next((entry for entry in entries if entry.kind in _BILLS), None)
    if bill is None or record is None:
        return RememberedRun(None, attempts) if attempts else None
    billing = ResultBilling(state=record.state, entry_id=record.entry_id, reason=record.reason)
    return RememberedRun(_rebuild_result(bill, entries, billing, attempts), attempts)


def with_corrections(result: RunResult, session: Session) -> RunResult:
    """The result of a run with what the ledger says of its bill today: corrections come after a run's end."""
    try:
        remembered = find_in_ledger(result.run_id, session)
    except LedgerError:
        return result  # as the run ended; who has no ledger at hand still gets the pictures
    today = remembered.result if remembered else None
    if today is None or today.billing.state != "reconciled":
        return result
    return result.model_copy(update={"usage": today.usage, "cost": today.cost, "billing": today.billing})


def _rebuild_result(
    bill: EntryView, entries: tuple[EntryView, ...], billing: ResultBilling, attempts: tuple[Attempt, ...]
) -> RunResult:
    """A run's result out of its entries, the newest first. Corrections are differences: what is owed is the sum."""
    latest = entries[0]
    return RunResult(
        run_id=bill.run_id,
        operation="edit" if bill.operation == "edit" else "generate",
        model=bill.model,
        requested_model=bill.requested_model,
        images=bill.images,
        usage=bill.usage if latest.usage is None else latest.usage,
        cost=ResultCost(
            amount_usd=_sum_up(entry.amount_usd for entry in entries),
            basis=latest.basis,
            flags=latest.flags,
            rate_card=latest.rate_card,
            list_cost_usd=_sum_up(entry.list_cost_usd for entry in entries),
            line_items=latest.line_items,
        ),
        billing=billing,
        provider=ResultProvider(
            name=bill.provider,
            request_id=bill.provider_request_id,
            attempts=len(attempts),
            simulated=bill.simulated,
        ),
        warnings=tuple(
            attempt.error_message
            for attempt in attempts
            if attempt.attempt_id == bill.attempt_id and attempt.error_message
        ),
    )


def _sum_up(amounts: Iterable[str | None]) -> str | None:
    known = [parse_usd(amount) for amount in amounts if amount is not None]
    return format_usd(sum(known)) if known else None
