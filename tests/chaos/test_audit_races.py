"""The audit finds each wrong answer that a caller of a raced id can get."""

import dataclasses
import hashlib
from collections.abc import Callable

import pytest

from tests.chaos.audit import find_violations
from tests.chaos.audit_races import find_wrong_answers
from tests.chaos.evidence import Evidence, Execution
from tests.chaos.figures import list_figures
from tests.chaos.honest_evidence import (
    BILLED,
    IMAGE,
    SHA256,
    make_attempt,
    make_completion,
    make_entry,
    make_payment,
    plan_run,
)
from tests.chaos.plan import Plan
from tests.chaos.races import Answer, Race

OWNER, OTHER = "A cup", "A plate"
PLAN = Plan(seed=0, runs=(), events=(), races=(Race(run=plan_run(BILLED), prompts=(OTHER, OWNER)),))


def hash_prompt(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()


HONEST = Evidence(
    executions=(
        make_completion(BILLED, "billed", "0.010970"),
        Execution(run_id=BILLED, status="FAILED", failure_type="RunConflict"),
    ),
    attempts=(make_attempt(BILLED, 1, "succeeded"),),
    entries=(make_entry(BILLED, 1, "charge", 10_970),),
    spend=tuple(
        {"tenant": "acme", "span": span, "used_micro_usd": 10_970, "reserved_micro_usd": 0}
        for span in ("2026-11", "2026-11-23")
    ),
    books=({**make_payment(BILLED, 1), "prompt_sha256": hash_prompt(OWNER)},),
    pictures={IMAGE["uri"]: (SHA256, 100)},
    answers=(
        Answer(run_id=BILLED, moment=1, prompt=OTHER, status="conflict"),
        Answer(run_id=BILLED, moment=1, prompt=OWNER, status="accepted", entry_id=f"ent-{BILLED}"),
        Answer(run_id=BILLED, moment=2, prompt=OTHER, status="conflict"),
        Answer(run_id=BILLED, moment=2, prompt=OWNER, status="attached", entry_id=f"ent-{BILLED}"),
    ),
)


def change(index: int, **changes: str | None) -> Callable[[Evidence], Evidence]:
    """Change the answer of one caller."""

    def spoil(evidence: Evidence) -> Evidence:
        answers = list(evidence.answers)
        answers[index] = dataclasses.replace(answers[index], **changes)  # type: ignore[arg-type]
        return dataclasses.replace(evidence, answers=tuple(answers))

    return spoil


VIOLATIONS: dict[str, tuple[Callable[[Evidence], Evidence], str]] = {
    "owner refused": (
        change(3, status="conflict", entry_id=None),
        "is the owner's content, was told conflict",
    ),
    "stranger attached": (change(2, status="attached"), "is not the owner's content, was told attached"),
    "another result": (change(3, entry_id="ent-other"), "was promised the owner's result and got ent-other"),
    "no result": (
        change(1, entry_id=None, failure="RunConflict"),
        "was promised the owner's result and got RunConflict",
    ),
    "two bills": (
        lambda evidence: dataclasses.replace(evidence, entries=evidence.entries * 2),
        "was raced for and has 2 bills",
    ),
    "not answered": (
        lambda evidence: dataclasses.replace(evidence, answers=evidence.answers[:3]),
        "3 of 4 callers were answered",
    ),
    "two contents sent": (
        lambda evidence: dataclasses.replace(
            evidence,
            attempts=(*evidence.attempts, make_attempt(BILLED, 2, "unknown")),
            books=(*evidence.books, {**make_payment(BILLED, 2), "prompt_sha256": hash_prompt(OTHER)}),
        ),
        "2 contents were sent to the provider",
    ),
}


def test_honest_race_has_no_violation() -> None:
    assert find_violations(PLAN, HONEST) == []
    figures = dict(list_figures(PLAN, HONEST, {}, {}))
    assert figures["races for one id"] == (
        "1 ids, 4 callers; of the owner's content: 1 accepted, 1 attached, 2 got its result; of others: 2 conflict"
    )


@pytest.mark.parametrize("name", VIOLATIONS)
def test_wrong_answer_is_found(name: str) -> None:
    spoil, said = VIOLATIONS[name]
    violations = list(find_wrong_answers(PLAN, spoil(HONEST)))
    assert any(said in violation for violation in violations), violations
