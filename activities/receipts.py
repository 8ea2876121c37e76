"""Receipts: what came of an attempt, kept in the image store beside the pictures while the ledger does not know.

A worker that dies between the answer and its record, or a ledger that is away at that moment, loses nothing: the next
attempt of the run finds the receipt and settles the attempt by it.
"""

import structlog
from pydantic import TypeAdapter, ValidationError

from billing.attempt_records import AttemptOutcome
from imaging.store import ImageStore
from imaging.store_errors import StoreUnavailable

log = structlog.get_logger("receipts")

_OUTCOME = TypeAdapter(AttemptOutcome)


async def write_receipt(store: ImageStore, attempt_id: str, outcome: AttemptOutcome) -> None:
    """Keeps the outcome of an attempt; where the store is away, the ledger alone has to hold it."""
    try:
        await store.put_document(_key(attempt_id), _OUTCOME.dump_json(outcome))
    except (StoreUnavailable, ValueError) as error:
        log.warning("No receipt was kept.", attempt_id=attempt_id, error=str(error))


async def read_receipt(store: ImageStore, attempt_id: str) -> AttemptOutcome | None:
    """The outcome of an attempt that nobody recorded, None where the worker died before it had one."""
    receipt = await store.read_document(_key(attempt_id))
    try:
        return None if receipt is None else _OUTCOME.validate_json(receipt)
    except ValidationError:
        return None


def _key(attempt_id: str) -> str:
    return f"receipts/{attempt_id}.json"
