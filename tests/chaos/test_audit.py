"""The audit finds each way in which a promise can be broken, and nothing where all were kept."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.audit import find_violations
from tests.chaos.evidence import Evidence, Execution, Row
from tests.chaos.figures import list_figures
from tests.chaos.honest_evidence import (
    BILLED,
    FAILED,
    GIVEN_UP,
    HELD,
    HONEST,
    IMAGE,
    PLAN,
    make_attempt,
    make_completion,
    make_entry,
    make_payment,
)

Spoil = Callable[[Evidence], Evidence]


def replace_part(evidence: Evidence, part: str, rows: Any) -> Evidence:
    return dataclasses.replace(evidence, **{part: rows})


def change(part: str, index: int, **changes: Any) -> Spoil:
    """Change one row of one source."""

    def spoil(evidence: Evidence) -> Evidence:
        rows: list[Row] = list(getattr(evidence, part))
        rows[index] = {**rows[index], **changes}
        return replace_part(evidence, part, tuple(rows))

    return spoil


def add(part: str, row: object) -> Spoil:
    """Add a row to one source."""
    return lambda evidence: replace_part(evidence, part, (*getattr(evidence, part), row))


def drop(part: str, index: int) -> Spoil:
    """Remove a row from one source."""

    def spoil(evidence: Evidence) -> Evidence:
        rows = list(getattr(evidence, part))
        del rows[index]
        return replace_part(evidence, part, tuple(rows))

    return spoil


def exchange(index: int, execution: Execution) -> Spoil:
    """Temporal tells of another end."""

    def spoil(evidence: Evidence) -> Evidence:
        executions = list(evidence.executions)
        executions[index] = execution
        return dataclasses.replace(evidence, executions=tuple(executions))

    return spoil


def failed(kind: str) -> Execution:
    return Execution(run_id=FAILED, status="FAILED", failure_type=kind, failure="why")


VIOLATIONS: dict[str, tuple[Spoil, str]] = {
    "unknown to Temporal": (drop("executions", 0), f"{BILLED} was accepted, and Temporal does not know it"),
    "hangs": (exchange(0, Execution(run_id=BILLED, status="RUNNING")), f"{BILLED} hangs"),
    "terminated": (exchange(2, Execution(run_id=FAILED, status="TERMINATED")), "ended as TERMINATED"),
    "never submitted": (
        add("attempts", make_attempt("image:x:y", 1, "rejected")),
        "image:x:y was never submitted",
    ),
    "failed without reason": (
        exchange(2, failed("LedgerUnavailable")),
        "failed by LedgerUnavailable, which is no reason",
    ),
    "failure without trace": (exchange(2, failed("ContentRefused")), "its attempts do not show it"),
    "gave up early": (drop("attempts", 5), "gave up after 2 unknown outcomes"),
    "sent again by itself": (
        lambda evidence: dataclasses.replace(evidence, resends={}),
        f"{GIVEN_UP} was to be held, and has 2 unknown outcomes after 0 decisions",
    ),
    "gave up by itself": (
        exchange(3, Execution(run_id=GIVEN_UP, status="FAILED", failure_type="TooManyUnknownOutcomes")),
        f"{GIVEN_UP} failed by TooManyUnknownOutcomes, which is no reason",
    ),
    "failed afterwards": (
        add("executions", Execution(run_id=BILLED, status="FAILED", failure_type="ContentRefused")),
        f"{BILLED} failed when it was submitted again",
    ),
    "never billed": (drop("entries", 0), f"{BILLED} completed and was never billed"),
    "billed in vain": (
        add("entries", make_entry(FAILED, 1, "charge", 10_970)),
        f"{FAILED} never completed and was billed",
    ),
    "charged twice": (
        add("entries", {**make_entry(BILLED, 2, "charge", 10_970), "entry_id": "ent-again"}),
        f"{BILLED} has 2 entries",
    ),
    "request charged twice": (
        change("entries", 1, request_id="billed"),
        "Request billed of acme was billed 2 times",
    ),
    "told another amount": (exchange(0, make_completion(BILLED, "billed", "0.010971")), f"{BILLED} was told"),
    "told another state": (exchange(1, make_completion(HELD, "billed", None)), f"{HELD} was told"),
    "picture missing": (
        lambda evidence: dataclasses.replace(evidence, pictures={}),
        f"was promised {IMAGE['uri']}, which is not there",
    ),
    "picture damaged": (
        lambda evidence: dataclasses.replace(evidence, pictures={IMAGE["uri"]: ("cd" * 32, 100)}),
        "whose bytes are others",
    ),
    "a picture too few": (
        exchange(
            0,
            dataclasses.replace(
                HONEST.executions[0], result={**(HONEST.executions[0].result or {}), "images": []}
            ),
        ),
        "asked for 1 pictures and was promised 0",
    ),
    "answer not adopted": (
        lambda evidence: dataclasses.replace(evidence, receipts=frozenset({f"att-{FAILED}-1"})),
        "was kept and never adopted",
    ),
    "hidden request": (
        drop("attempts", 0),
        f"{BILLED}:1 reached the provider, and no attempt was written down",
    ),
    "hidden resend": (add("books", make_payment(BILLED, 2)), f"{BILLED}:2 was sent 2 times"),
    "paid and rejected": (change("books", 0, paid=True), f"LOST: {BILLED}:1 was paid"),
    "paid twice": (change("attempts", 3, outcome="succeeded"), f"LOST: {FAILED}:1 was paid"),
    "success out of thin air": (
        drop("books", 2),
        f"{HELD}:1 succeeded, and the provider's books do not know it",
    ),
    "billed by a rejection": (
        change("entries", 0, attempt_id=f"att-{BILLED}-1"),
        "no attempt of its own that succeeded",
    ),
    "billed by another run": (
        change("entries", 0, attempt_id=f"att-{HELD}-1"),
        "no attempt of its own that succeeded",
    ),
    "reserved too little": (
        change("attempts", 3, reserved_micro_usd=10_969),
        "may have cost 10970 micro-USD, and 10969 were",
    ),
    "reserved nothing": (change("attempts", 3, reserved_micro_usd=None), "and None were reserved"),
    "a micro-dollar off": (change("entries", 0, amount_micro_usd=10_969), "come to ('charge', 10970)"),
    "silently zero": (change("entries", 1, kind="charge", amount_micro_usd=0), "come to ('hold', None)"),
    "reservation not released": (
        change("spend", 1, reserved_micro_usd=140_000),
        "acme has used and reserved [10970, 120000] micro-USD, and its counters of days say [10970, 140000]",
    ),
    "spend forgotten": (drop("spend", 0), "and its counters of months say [0, 0]"),
    "list cost off": (change("entries", 0, list_cost_micro_usd=10_926), "the provider's own price is 10925"),
}


def test_honest_campaign_has_no_violation() -> None:
    assert find_violations(PLAN, HONEST) == []


@pytest.mark.parametrize("name", VIOLATIONS)
def test_broken_promise_is_found_and_named(name: str) -> None:
    spoil, said = VIOLATIONS[name]
    violations = find_violations(PLAN, spoil(HONEST))
    assert any(said in violation for violation in violations), violations


def test_figures_name_paid_billed_and_lost_amounts() -> None:
    """The table tells what was paid, billed and possibly paid for nothing; a payment that nobody knows of is lost."""
    figures = dict(list_figures(PLAN, HONEST, {"worker SIGKILL": 1}, {}))
    assert figures["paid"] == "3 x, 0.032910 USD"
    assert figures["billed"] == "2 x, 0.010970 USD"
    assert figures["exposure"] == "5 x, 0.100000 USD reserved"
    assert figures["of it really paid"] == "1 x, 0.010970 USD"
    assert figures["lost"] == "0"
    assert dict(list_figures(PLAN, drop("entries", 0)(HONEST), {}, {}))["lost"] == "1"
