"""Lines of economy batches in the database: claimed, confirmed and ended by the ledger, on both databases."""

from dataclasses import replace

import pytest

from gpt_image_runs.batches.batches import Batches, count_retries
from gpt_image_runs.batches.economy import EconomyAttempts, end_part, end_round
from gpt_image_runs.batches.lines import BatchLines
from gpt_image_runs.batches.models import NewLine, PricedLine, StartedLine, UnbilledEnd
from gpt_image_runs.batches.results import list_results
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.records import Attempt, AttemptOutcome
from gpt_image_runs.contracts.batches import BatchProgress
from gpt_image_runs.contracts.economy import BATCH_CANCELLED, EconomyOrder
from gpt_image_runs.contracts.names import economy_workflow_id
from gpt_image_runs.database.engine import Database
from tests.support.ledger.ledger_examples import (
    FINISHED_AT,
    HOLD,
    IDENTITY,
    SUCCEEDED,
    describe_attempt,
    identify,
    make_order,
    pay_attempt,
)

PART = "winter/bbbbbbbbbbbb/1/0"
ORDER = EconomyOrder(batch_id="winter", digest="b" * 64, lines=4, pages=1)
CEILING = 250_000


def register(database: Database, most: str | None = None) -> BatchLines:
    """Open a batch with four waiting lines."""
    Batches(database).open(ORDER.model_copy(update={"max_cost_usd": most}), 1)
    lines = [NewLine(line=number, run_id=f"image:acme:winter-{number}") for number in range(1, 5)]
    Batches(database).register("winter", 0, lines)
    return BatchLines(database, "winter", economy=True)


def price(*numbers: int) -> list[PricedLine]:
    return [
        PricedLine(line=number, fingerprint=IDENTITY.fingerprint, ceiling_micro_usd=CEILING)
        for number in numbers
    ]


def claim(database: Database, number: int) -> Attempt:
    """Claim the attempt of a line."""
    identity = replace(identify("acme", f"winter-{number}"), workflow_id=economy_workflow_id("winter"))
    new = replace(describe_attempt(identity.run_id), batch_part=PART)
    return EconomyAttempts(database).claim(identity, new, resends=1).attempt


def begin(database: Database, *numbers: int) -> list[Attempt]:
    """Claim and confirm lines, and return their attempts."""
    lines = BatchLines(database, "winter", economy=True)
    lines.claim(price(*numbers))
    attempts = [claim(database, number) for number in numbers]
    lines.confirm([StartedLine(line=number, workflow_run_id="run") for number in numbers])
    return attempts


def end(database: Database, attempt: Attempt, outcome: str, kind: str) -> None:
    ended = AttemptOutcome(
        outcome=outcome,  # type: ignore[arg-type]  # what the test says
        finished_at=FINISHED_AT,
        error_type=kind,
        error_message=f"It is {outcome}.",
    )
    AttemptLog(database).finish(attempt.attempt_id, ended)


def find(database: Database) -> BatchProgress:
    found = Batches(database).find("winter")
    assert found is not None
    return found


def states(database: Database) -> list[tuple[str, str | None]]:
    return [(line.state, line.error_type) for line in list_results(database, "winter")]


def test_economy_claim_repeated_returns_the_same_lines(database: Database) -> None:
    """After a crash the same lines are claimed, and nothing is reserved twice."""
    lines = register(database, "0.600000")
    first, again = lines.claim(price(1, 2, 3)), lines.claim(price(1, 2, 3))

    assert first == again == ({1, 2}, True)
    assert (find(database).waiting, find(database).running, find(database).reserved_usd) == (2, 2, "0.500000")


def test_economy_claim_leaves_out_lines_that_run_or_have_ended(database: Database) -> None:
    lines = register(database)
    begin(database, 1)
    lines.refuse([UnbilledEnd(line=2, state="failed", error_type="RequestRefused", error_message="no")])

    assert lines.claim(price(1, 2, 3)) == ({3}, False)
    assert states(database)[:2] == [("running", None), ("failed", "RequestRefused")]


def test_passed_lines_end_with_their_reason(database: Database) -> None:
    """One that was paid before is done by its bill, another has failed, and both reservations are free again."""
    lines = register(database)
    lines.claim(price(1, 2, 3))
    Ledger(database).record(make_order(pay_attempt(database, identify("acme", "winter-1"))))
    claim(database, 3)
    passed = [
        UnbilledEnd(line=1, state="failed", error_type="BillMissing", error_message="no"),
        UnbilledEnd(line=2, state="failed", error_type="RunConflict", error_message="no"),
    ]
    for _ in range(2):  # a worker that was killed does it again
        lines.confirm([StartedLine(line=3, workflow_run_id="run")])
        lines.collect_billed()
        lines.end_unbilled(passed)

    assert states(database) == [
        ("done", None),
        ("failed", "RunConflict"),
        ("running", None),
        ("waiting", None),
    ]
    found = find(database)
    assert (found.charged_usd, found.reserved_usd, found.unknown) == ("0.166900", "0.250000", 0)
    assert (found.waiting, found.running, found.done, found.failed) == (1, 1, 1, 1)


def test_end_part_gives_each_line_the_outcome_of_its_attempt(database: Database) -> None:
    register(database)
    paid, refused, stopped, lost = begin(database, 1, 2, 3, 4)
    AttemptLog(database).finish(paid.attempt_id, SUCCEEDED)
    Ledger(database).record(make_order(paid))
    end(database, refused, "rejected", "ModerationBlocked")
    end(database, stopped, "not_sent", BATCH_CANCELLED)
    end(database, lost, "unknown", "ResultMissing")
    for _ in range(2):
        end_part(database, "winter", PART)

    assert states(database) == [
        ("done", None),
        ("failed", "ModerationBlocked"),
        ("cancelled", BATCH_CANCELLED),
        ("failed", "ResultMissing"),
    ]
    found = find(database)
    assert (found.running, found.done, found.failed, found.cancelled) == (0, 1, 2, 1)
    assert (found.charged_usd, found.reserved_usd) == ("0.166900", "0.000000")
    assert (found.unknown, found.exposed_usd) == (1, "0.250000")


def test_end_part_leaves_open_lines_and_other_parts(database: Database) -> None:
    register(database)
    first, _ = begin(database, 1, 2)
    end(database, first, "rejected", "ModerationBlocked")
    end_part(database, "winter", "winter/bbbbbbbbbbbb/1/1")
    others = states(database)
    end_part(database, "winter", PART)

    assert others[:2] == [("running", None), ("running", None)]
    assert states(database)[:2] == [("failed", "ModerationBlocked"), ("running", None)]


def test_line_under_way_in_another_batch_counts_as_unpaid(database: Database) -> None:
    """`retry` starts it without leave to pay twice."""
    lines = register(database)
    lines.claim(price(1))
    claim(database, 1)
    passed = UnbilledEnd(line=1, state="failed", error_type="UnderWay", error_message="no")
    lines.end_unbilled([passed])

    assert (find(database).failed, find(database).unknown, find(database).exposed_usd) == (1, 0, "0.000000")
    assert count_retries(database, "winter") == {"unpaid": 1, "unknown": 0}


def test_held_bill_counts_with_its_worst_case(database: Database) -> None:
    lines = register(database)
    (paid,) = begin(database, 1)
    AttemptLog(database).finish(paid.attempt_id, SUCCEEDED)
    Ledger(database).record(make_order(paid, HOLD))
    lines.collect_billed()

    found = find(database)
    assert (found.done, found.pending, found.charged_usd, found.exposed_usd) == (1, 1, "0.000000", "0.250000")


def test_paid_line_without_a_bill_fails(database: Database) -> None:
    """The bill could not be made, as the file was gone. A retry finds what was paid."""
    register(database)
    (paid,) = begin(database, 1)
    AttemptLog(database).finish(paid.attempt_id, SUCCEEDED)
    end_part(database, "winter", PART)

    assert states(database)[0] == ("failed", "BillMissing")
    assert find(database).running == 0


@pytest.mark.parametrize(("cancelled", "state"), [(False, "capped"), (True, "cancelled")])
def test_end_round_with_waiting_lines_is_capped_or_cancelled(
    database: Database, *, cancelled: bool, state: str
) -> None:
    register(database, "0.300000")
    (first,) = begin(database, 1)
    end(database, first, "rejected", "ModerationBlocked")
    end_part(database, "winter", PART)
    end_round(database, "winter", cancelled=cancelled)

    assert (find(database).state, find(database).waiting) == (state, 3)


def test_batch_unknown_to_a_restored_ledger_claims_all_and_writes_nothing(database: Database) -> None:
    lines = BatchLines(database, "older", economy=True)
    claimed = lines.claim(price(1, 2))
    lines.confirm([StartedLine(line=1, workflow_run_id="run")])
    lines.refuse([UnbilledEnd(line=2, state="failed", error_type="X", error_message="no")])
    lines.collect_billed()
    end_part(database, "older", PART)
    end_round(database, "older", cancelled=False)

    assert claimed == ({1, 2}, False)
    assert Batches(database).find("older") is None
