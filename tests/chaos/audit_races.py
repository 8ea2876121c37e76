"""The audit of races: who owns a request id is what the provider was sent under it, and every caller was answered accordingly."""

import hashlib
from collections.abc import Iterator

from tests.chaos.evidence import Evidence
from tests.chaos.plan import Plan
from tests.chaos.races import MOMENTS, Answer, Race

_OWNER = {"accepted", "attached"}


def find_wrong_answers(plan: Plan, evidence: Evidence) -> Iterator[str]:
    """Check that callers of the owner's content got its result, and all others a conflict."""
    for race in plan.races:
        answers = [answer for answer in evidence.answers if answer.run_id == race.run.run_id]
        yield from _examine_race(race, answers, evidence)


def find_owner(race: Race, evidence: Evidence) -> set[str]:
    """Return the prompts that reached the provider under the race's id, by the provider's own books."""
    sent = {
        attempt["client_request_id"] for attempt in evidence.attempts if attempt["run_id"] == race.run.run_id
    }
    hashes = {payment["prompt_sha256"] for payment in evidence.books if payment["client_request_id"] in sent}
    return {prompt for prompt in race.prompts if hashlib.sha256(prompt.encode()).hexdigest() in hashes}


def _examine_race(race: Race, answers: list[Answer], evidence: Evidence) -> Iterator[str]:
    run_id = race.run.run_id
    entries = [entry["entry_id"] for entry in evidence.entries if entry["run_id"] == run_id]
    if len(entries) > 1:
        yield f"{run_id} was raced for and has {len(entries)} bills."
    expected = len(race.prompts) * (MOMENTS if entries else 1)
    if len(answers) != expected:
        yield f"{run_id} was raced for, and {len(answers)} of {expected} callers were answered."
    owners = find_owner(race, evidence)
    if len(owners) != 1:
        yield f"{run_id} was raced for, and {len(owners)} contents were sent to the provider under it."
        return
    for answer in answers:
        yield from _examine_answer(answer, next(iter(owners)), entries)


def _examine_answer(answer: Answer, owner: str, entries: list[str]) -> Iterator[str]:
    who = f"{answer.run_id}: a caller of {answer.prompt!r} in moment {answer.moment}"
    if answer.prompt != owner:
        if answer.status != "conflict":
            yield f"{who}, which is not the owner's content, was told {answer.status}."
    elif answer.status not in _OWNER:
        yield f"{who}, which is the owner's content, was told {answer.status}."
    elif entries and answer.entry_id not in entries:
        yield f"{who} was promised the owner's result and got {answer.entry_id or answer.failure}."
