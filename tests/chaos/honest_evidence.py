"""A small campaign in which every promise was kept, written down by hand: what the tests of the audit spoil."""

from typing import Any

from tests.chaos.evidence import Evidence, Execution
from tests.chaos.plan import Plan
from tests.chaos.planned_runs import PlannedRun

SHA256 = "ab" * 32
IMAGE: dict[str, Any] = {"uri": "file:///store/one.png", "sha256": SHA256, "bytes": 100}
USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"text_tokens": 9, "image_tokens": 0},
    "output_tokens": 272,
    "total_tokens": 281,
}
BILLED, HELD, FAILED = "image:acme:billed", "image:acme:held", "image:acme:failed"
GIVEN_UP = "image:acme:given-up"


def plan_run(run_id: str, unknown_outcome: str = "resend") -> PlannedRun:
    payload = {
        "model": "gpt-image-1",
        "n": 1,
        "missing_usage": "hold",
        "unknown_outcome": unknown_outcome,
    }
    return PlannedRun(run_id=run_id, mark=run_id, payload=payload, faults=())


def make_attempt(run_id: str, number: int, outcome: str) -> dict[str, Any]:
    return {
        "attempt_id": f"att-{run_id}-{number}",
        "run_id": run_id,
        "number": number,
        "client_request_id": f"{run_id}:{number}",
        "outcome": outcome,
        "reserved_micro_usd": 20_000,
    }


def make_payment(run_id: str, number: int, *, paid: bool = True, fault: str | None = None) -> dict[str, Any]:
    """9 * 10 + 272 * 40 = 10,970 micro-USD by the contract, 9 * 5 + 272 * 40 = 10,925 by the list."""
    return {
        "client_request_id": f"{run_id}:{number}",
        "model": "gpt-image-1",
        "size": "1024x1024",
        "quality": "low",
        "n": 1,
        "fault": fault,
        "paid": paid,
        "usage": USAGE if paid else None,
        "list_price_micro_usd": 10_925 if paid else 0,
    }


def make_entry(run_id: str, number: int, kind: str, amount: int | None) -> dict[str, Any]:
    return {
        "entry_id": f"ent-{run_id}",
        "run_id": run_id,
        "tenant": "acme",
        "request_id": run_id.rpartition(":")[2],
        "attempt_id": f"att-{run_id}-{number}",
        "kind": kind,
        "amount_micro_usd": amount,
        "list_cost_micro_usd": None if amount is None else 10_925,
        "images": [IMAGE],
    }


def make_completion(run_id: str, state: str, amount_usd: str | None) -> Execution:
    result = {
        "images": [IMAGE],
        "cost": {"amount_usd": amount_usd},
        "billing": {"state": state, "entry_id": f"ent-{run_id}"},
    }
    return Execution(run_id=run_id, status="COMPLETED", result=result)


PLAN = Plan(
    seed=0,
    runs=(plan_run(BILLED), plan_run(HELD), plan_run(FAILED), plan_run(GIVEN_UP, "hold")),
    events=(),
)
# A run billed after a rejection, one held for want of usage, one that gave up after three unknown outcomes, and one
# that was given up after it was sent twice.
HONEST = Evidence(
    executions=(
        make_completion(BILLED, "billed", "0.010970"),
        make_completion(HELD, "pending", None),
        Execution(run_id=FAILED, status="FAILED", failure_type="TooManyUnknownOutcomes"),
        Execution(run_id=GIVEN_UP, status="FAILED", failure_type="GivenUp"),
    ),
    attempts=(
        make_attempt(BILLED, 1, "rejected"),
        make_attempt(BILLED, 2, "succeeded"),
        make_attempt(HELD, 1, "succeeded"),
        *(make_attempt(FAILED, number, "unknown") for number in (1, 2, 3)),
        *(make_attempt(GIVEN_UP, number, "unknown") for number in (1, 2)),
    ),
    entries=(make_entry(BILLED, 2, "charge", 10_970), make_entry(HELD, 1, "hold", None)),
    spend=tuple(
        {"tenant": "acme", "span": span, "used_micro_usd": 10_970, "reserved_micro_usd": 120_000}
        for span in ("2026-11", "2026-11-23")
    ),
    books=(
        make_payment(BILLED, 1, paid=False, fault="server_error"),
        make_payment(BILLED, 2),
        make_payment(HELD, 1, fault="missing_usage"),
        make_payment(FAILED, 1, fault="reset_after_payment"),
        make_payment(FAILED, 2, paid=False, fault="reset_before"),
    ),
    pictures={IMAGE["uri"]: (SHA256, 100)},
    resends={GIVEN_UP: 1},
)
