"""What a bill repeats of its run and of the attempt that was paid: copied from their rows, the one durable truth of both.

No amounts here, and nothing is written.
"""

from typing import Any, NamedTuple

from pydantic import JsonValue
from sqlalchemy import Connection, RowMapping, bindparam, select

from billing.attempt_pricing import PricedFacts
from billing.errors import AttemptMissing, LedgerRefused
from billing.tables import provider_attempts, runs
from contracts.content_marks import strip_marks

_OF_THE_RUN = runs.c["run_id", "tenant", "request_id", "fingerprint", "operation", "requested_model"]
_OF_THE_ATTEMPT = provider_attempts.c[
    "attempt_id", "model", "provider", "provider_request_id", "simulated", "size", "quality", "sent_at"
]
_COPIED = (*_OF_THE_RUN, *_OF_THE_ATTEMPT)
_FOUND = (
    *provider_attempts.c[
        "outcome", "response", "images", "reserved_micro_usd", "output_format", "batch_part", "recovered_at"
    ],
    runs.c.workflow_id,
)
_FIND = (
    select(*_COPIED, *_FOUND)
    .join_from(provider_attempts, runs)
    .where(provider_attempts.c.attempt_id == bindparam("attempt_id"))
)


class PaidAttempt(NamedTuple):
    """What an entry repeats, by its columns; and what the attempt reserved, in micro-USD, None where no price was known.

    `facts` is what its price depends on, `workflow_id` the workflow that its run belongs to. `recovered`: the ledger had lost the
    attempt, and its entry has to say so.
    """

    columns: dict[str, Any]
    reserved_micro_usd: int | None
    facts: PricedFacts
    workflow_id: str
    recovered: bool = False


def copy_paid_attempt(connection: Connection, run_id: str, attempt_id: str) -> PaidAttempt:
    """The columns of a ledger entry that say who asked for what, and what was delivered for it, usage whole and verbatim.

    Both rows are final: a run never changes, and neither does an attempt that succeeded.

    Raises:
        AttemptMissing: there is no such attempt.
        LedgerRefused: it is another run's, or it did not succeed.
    """
    found = connection.execute(_FIND, {"attempt_id": attempt_id}).mappings()
    paid = _refuse_unpaid(found.first(), run_id, attempt_id)
    images = paid["images"] or []
    columns = {
        **{column.name: paid[column.name] for column in _COPIED},
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
            " After a restore from an older copy, run `python starter.py recover --from-store` (docs/restore.md)."
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
