"""The audit of money: each payment in the provider's books against the ledger, and each amount against the true usage."""

from collections import Counter
from collections.abc import Iterator, Mapping

from tests.chaos.evidence import Evidence, Row
from tests.chaos.plan import Plan
from tests.chaos.planned_runs import USAGE
from tests.chaos.prices import charge_micro_usd, estimate_micro_usd

_UNREPORTED = frozenset(USAGE)


def find_wrong_payments(evidence: Evidence) -> Iterator[str]:
    """Check that every request is an attempt, and every paid one is billed or listed as unknown."""
    attempts = {attempt["client_request_id"]: attempt for attempt in evidence.attempts}
    billed = {entry["attempt_id"] for entry in evidence.entries}
    for name, count in Counter(payment["client_request_id"] for payment in evidence.books).items():
        if count > 1:
            yield f"{name} was sent {count} times: a request that nobody wrote down."
    for payment in evidence.books:
        yield from _examine_payment(payment, attempts.get(payment["client_request_id"]), billed)
    paid = {payment["client_request_id"] for payment in evidence.books if payment["paid"]}
    for attempt in evidence.attempts:
        if attempt["outcome"] == "succeeded" and attempt["client_request_id"] not in paid:
            yield f"{attempt['client_request_id']} succeeded, and the provider's books do not know it."
    yield from _find_wrong_bills(evidence)


def _examine_payment(payment: Row, attempt: Row | None, billed: set[str]) -> Iterator[str]:
    name = payment["client_request_id"]
    if attempt is None:
        yield f"{name} reached the provider, and no attempt was written down."
    elif payment["paid"] and attempt["outcome"] != "unknown" and attempt["attempt_id"] not in billed:
        yield (
            f"LOST: {name} was paid ({payment['list_price_micro_usd']} micro-USD), its attempt is"
            f" {attempt['outcome']}, and no entry bills it."
        )
    elif payment["paid"] and attempt["outcome"] == "unknown":
        yield from _examine_reserve(payment, attempt)


def _examine_reserve(payment: Row, attempt: Row) -> Iterator[str]:
    """Check that the reserve for an unknown outcome covers what it really cost."""
    charge = charge_micro_usd(payment["model"], payment["usage"])
    reserved = attempt["reserved_micro_usd"]
    if reserved is None or reserved < charge:
        yield f"{attempt['client_request_id']} may have cost {charge} micro-USD, and {reserved} were reserved."


def _find_wrong_bills(evidence: Evidence) -> Iterator[str]:
    attempts = {attempt["attempt_id"]: attempt for attempt in evidence.attempts}
    for entry in evidence.entries:
        attempt = attempts.get(entry["attempt_id"])
        if attempt is None or attempt["run_id"] != entry["run_id"] or attempt["outcome"] != "succeeded":
            yield f"{entry['run_id']} is billed by {entry['attempt_id']}, which is no attempt of its own that succeeded."
    requests = Counter((entry["tenant"], entry["request_id"]) for entry in evidence.entries)
    for (tenant, request_id), count in requests.items():
        if count > 1:
            yield f"Request {request_id} of {tenant} was billed {count} times."


def find_wrong_amounts(plan: Plan, evidence: Evidence) -> Iterator[str]:
    """Check every entry's amount against the provider's books, to the micro-dollar."""
    payments = {payment["client_request_id"]: payment for payment in evidence.books if payment["paid"]}
    names = {attempt["attempt_id"]: attempt["client_request_id"] for attempt in evidence.attempts}
    payloads = {run.run_id: run.payload for run in plan.all_runs}
    for entry in evidence.entries:
        payment = payments.get(names.get(entry["attempt_id"], ""))
        if payment is None or entry["run_id"] not in payloads:
            continue  # told elsewhere
        expected = expect_bill(payment, payloads[entry["run_id"]])
        found = (entry["kind"], entry["amount_micro_usd"])
        if found != expected:
            yield f"{entry['run_id']} is billed {found}, and the provider's books come to {expected}."
        listed = entry["list_cost_micro_usd"]
        if expected[0] == "charge" and listed != payment["list_price_micro_usd"]:
            yield f"{entry['run_id']} has list cost {listed}, the provider's own price is {payment['list_price_micro_usd']}."


def expect_bill(payment: Row, payload: Mapping[str, object]) -> tuple[str, int | None]:
    """Return the kind and amount of the entry that a payment must have: charge, estimate or hold."""
    if payment["fault"] not in _UNREPORTED:
        return "charge", charge_micro_usd(payment["model"], payment["usage"])
    estimate = estimate_micro_usd(payment["model"], payment["size"], payment["quality"], payment["n"])
    if payload["missing_usage"] == "hold" or estimate is None:
        return "hold", None
    return "estimate", estimate
