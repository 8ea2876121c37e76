"""Attempts of economy batches in the ledger: claimed once, and never sent twice for one run."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from gpt_image_runs.batches.economy import EconomyAttempts, LineClaim, describe_claim
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.attempts.runs import RunIdentity
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.records import AttemptOutcome, NewAttempt
from gpt_image_runs.billing.verification.spend import find_wrong_spend
from gpt_image_runs.contracts.names import economy_workflow_id
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import BudgetExceeded, LedgerRefused, RunConflict
from tests.support.ledger.ledger_examples import (
    FINISHED_AT,
    IDENTITY,
    SUCCEEDED,
    describe_attempt,
    identify,
    make_order,
)
from tests.support.runs.spending import TEN, WORST_CASE, decide

PART = "summer/0123456789ab/1/0"
IN_BATCH = replace(IDENTITY, workflow_id=economy_workflow_id("summer"))
LOST = AttemptOutcome(outcome="unknown", finished_at=FINISHED_AT)


def line(part: str = PART, identity: RunIdentity = IN_BATCH) -> NewAttempt:
    return replace(describe_attempt(identity.run_id), batch_part=part)


def claim(database: Database, part: str = PART, identity: RunIdentity = IN_BATCH) -> LineClaim:
    return EconomyAttempts(database).claim(identity, line(part, identity), resends=1)


def test_claim_repeated_returns_the_same_attempt(database: Database) -> None:
    first, again = claim(database), claim(database)

    assert first == again
    assert first.standing == "claimed"
    assert (first.attempt.batch_part, first.attempt.outcome, first.attempt.finished_at) == (
        PART,
        "unknown",
        None,
    )
    assert first.attempt.reserved_micro_usd == 250_000
    assert EconomyAttempts(database).list_open(PART) == (first.attempt,)


def test_claim_of_a_paid_run_returns_paid(database: Database) -> None:
    log = AttemptLog(database)
    log.claim_run(IDENTITY)
    log.finish(log.begin(describe_attempt()).attempt_id, SUCCEEDED)

    found = claim(database)
    assert (found.standing, found.attempt.outcome) == ("paid", "succeeded")
    assert "was paid before" in describe_claim(found, IDENTITY.run_id)
    assert len(log.list_attempts(IDENTITY.run_id)) == 1


def test_claim_of_a_run_with_an_open_attempt_returns_under_way(database: Database) -> None:
    claim(database)
    elsewhere = claim(database, "autumn/0123456789ab/1/0")

    log = AttemptLog(database)
    other = identify("acme", "req-2")
    log.claim_run(other)
    log.begin(describe_attempt(other.run_id))
    by_itself = claim(database, identity=replace(other, workflow_id=economy_workflow_id("summer")))

    assert [each.standing for each in (elsewhere, by_itself)] == ["under_way", "under_way"]
    assert "has no outcome yet" in describe_claim(by_itself, other.run_id)


def test_claim_after_a_refusal_makes_the_next_attempt(database: Database) -> None:
    log = AttemptLog(database)
    for number, outcome in enumerate(("rejected", "not_sent"), start=1):
        attempt = claim(database, f"summer/0123456789ab/{number}/0").attempt
        ended = AttemptOutcome(
            outcome=outcome,  # type: ignore[arg-type]  # one of the two
            finished_at=FINISHED_AT,
        )
        log.finish(attempt.attempt_id, ended)

    last = claim(database, "summer/0123456789ab/3/0")
    assert (last.standing, last.attempt.number) == ("claimed", 3)


def test_claim_after_too_many_lost_answers_returns_doubtful(database: Database) -> None:
    log = AttemptLog(database)
    for number in (1, 2):
        attempt = claim(database, f"summer/0123456789ab/{number}/0").attempt
        log.finish(attempt.attempt_id, LOST)

    last = claim(database, "summer/0123456789ab/3/0")
    assert last.standing == "doubtful"
    assert "another request_id" in describe_claim(last, IDENTITY.run_id)


def test_claim_of_other_content_is_a_conflict(database: Database) -> None:
    claim(database)

    with pytest.raises(RunConflict, match="other content"):
        claim(database, identity=replace(IN_BATCH, fingerprint="b2" * 32))


def test_claim_all_conflict_affects_its_line_alone(database: Database) -> None:
    AttemptLog(database).claim_run(replace(IDENTITY, fingerprint="b2" * 32))
    other = replace(identify("acme", "req-2"), workflow_id=IN_BATCH.workflow_id)

    conflict, claimed = EconomyAttempts(database).claim_all(
        [(IN_BATCH, line()), (other, line(identity=other))], resends=1
    )

    assert isinstance(conflict, RunConflict)
    assert isinstance(claimed, LineClaim)
    assert claimed.standing == "claimed"


def test_claim_all_within_a_budget_claims_the_lines_that_fit(database: Database) -> None:
    """Refused lines leave no trace, not even their run; lines that were not carried out free their reservation."""
    decide(database, {"day": TEN})
    runs = [
        replace(identify("acme", f"req-{number:02}"), workflow_id=IN_BATCH.workflow_id)
        for number in range(12)
    ]
    lines = [(run, replace(line(identity=run), reserved_micro_usd=WORST_CASE)) for run in runs]
    attempts, log = EconomyAttempts(database), AttemptLog(database)

    claims = attempts.claim_all(lines, resends=0)
    refused = [claim for claim in claims if isinstance(claim, BudgetExceeded)]
    with database.reading() as connection:
        claimed_runs = connection.execute(text("SELECT count(*) FROM runs")).scalar_one()
    for opened in attempts.list_open(PART):
        log.finish(opened.attempt_id, AttemptOutcome(outcome="not_sent", finished_at=FINISHED_AT))
    again = attempts.claim_all(
        [
            (run, replace(new, batch_part="summer/0/2/0", attempt_id=f"{new.attempt_id}-2"))
            for run, new in lines[10:]
        ],
        resends=0,
    )

    assert (len(claims), len(refused), claimed_runs) == (12, 2, 10)
    assert all(isinstance(claim, LineClaim) for claim in again)
    assert list(find_wrong_spend(database)) == []


def test_run_of_a_batch_is_claimed_by_its_own_workflow_only(database: Database) -> None:
    attempt = claim(database).attempt

    assert AttemptLog(database).claim_run(IDENTITY) == (attempt,)
    other = identify("acme", "req-2")
    AttemptLog(database).claim_run(other)
    with pytest.raises(RunConflict, match="workflow_id"):
        AttemptLog(database).claim_run(replace(other, workflow_id="of-another-team"))


def test_database_refuses_to_change_the_part_of_an_attempt(database: Database) -> None:
    claim(database)

    with pytest.raises(LedgerRefused), database.writing() as connection:
        connection.execute(text("UPDATE provider_attempts SET batch_part = 'autumn/0/1/0'"))


def test_totals_count_the_parts_of_one_round_only(database: Database) -> None:
    log, attempts = AttemptLog(database), EconomyAttempts(database)
    parts = ["summer/d/1/0", "summer/d/1/1", "summer/d/10/0", "summer_d/1/0"]
    claimed = [
        claim(database, part, replace(identify("acme", f"req-{index}"), workflow_id=IN_BATCH.workflow_id))
        for index, part in enumerate(parts)
    ]
    log.finish(claimed[0].attempt.attempt_id, SUCCEEDED)
    log.finish(claimed[2].attempt.attempt_id, replace(SUCCEEDED, images=()))
    for paid in (claimed[0], claimed[2]):
        Ledger(database).record(make_order(replace(paid.attempt, outcome="succeeded")))

    totals = attempts.sum_up("summer/d/1/")
    assert totals.outcomes == {"succeeded": 1, "unknown": 1}
    assert (totals.images, totals.charged_micro_usd, totals.pending) == (1, 166_900, 0)
    assert (totals.without_picture, attempts.sum_up("summer/d/10/").without_picture) == (0, 1)
    assert attempts.sum_up("summer_d/").outcomes == {"unknown": 1}
    assert attempts.find(claimed[1].attempt.attempt_id).sent_at <= datetime.now(UTC)
    with pytest.raises(LedgerRefused):
        attempts.find("att_0")


def test_claims_at_the_same_time_give_the_run_to_one(database: Database) -> None:
    parts = [f"batch-{number}/d/1/0" for number in range(7)]

    def begin_by_itself() -> bool:
        log = AttemptLog(database)
        earlier = log.claim_run(IDENTITY)
        return not earlier and log.begin(describe_attempt()).number == 1

    with ThreadPoolExecutor(8) as pool:
        alone = pool.submit(begin_by_itself)
        claims = list(pool.map(lambda part: claim(database, part), parts))

    claimed = [each.standing == "claimed" for each in claims]
    assert sum([*claimed, alone.result()]) == 1
    assert {each.standing for each in claims} <= {"claimed", "under_way"}
