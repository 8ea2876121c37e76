"""The bill of an attempt whose kept answer was read after its run had ended."""

from sqlalchemy import select

from billing.attempt_records import Attempt
from billing.costs import compute_cost
from billing.database import Database
from billing.ledger import Ledger
from billing.nesting import measure_depth
from billing.rate_cards import RateCards
from billing.tables import runs
from contracts.billing import BillingInput, BillingRecord, CostInput
from contracts.request import Operation

# Of the provider's usage, as deep as runs read it.
_MAX_USAGE_DEPTH = 20


def bill_recovered(database: Database, paid: Attempt, cards: RateCards) -> BillingRecord:
    """Write the run's bill by the attempt's own usage, or find the one that it has.

    Without usage the bill is held: the request, which may ask for an estimate, is not known to the ledger.

    Raises:
        LedgerUnavailable: try again.
        LedgerRefused: the attempt was not recorded as paid.
    """
    response = paid.response if isinstance(paid.response, dict) else {}
    usage = response.get("usage")
    is_readable = measure_depth(usage) <= _MAX_USAGE_DEPTH
    cost = compute_cost(
        CostInput(
            provider=paid.provider,
            model=paid.model,
            usage=usage if is_readable else None,
            usage_problem=None if is_readable else "The provider's usage is nested too deeply to be read.",
            missing_usage="hold",
            operation=_find_operation(database, paid.run_id),
            images=len(paid.images or ()),
            size=paid.size,
            quality=paid.quality,
            output_format=paid.output_format,
            sent_at=paid.sent_at,
            mode="batch" if paid.batch_part else None,
        ),
        cards,
    )
    return Ledger(database).record(BillingInput(run_id=paid.run_id, attempt_id=paid.attempt_id, cost=cost))


def _find_operation(database: Database, run_id: str) -> Operation:
    with database.reading() as connection:
        operation = connection.execute(select(runs.c.operation).where(runs.c.run_id == run_id)).scalar()
    return "edit" if operation == "edit" else "generate"
