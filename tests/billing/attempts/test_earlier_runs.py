"""What is known of a run before it starts."""

from dataclasses import replace

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.attempts.runs import find_earlier_run
from gpt_image_runs.contracts.submissions import EarlierRun
from gpt_image_runs.database.engine import Database
from tests.support.ledger.ledger_examples import IDENTITY, begin_attempt, identify, pay_attempt

MARKED = replace(IDENTITY, fingerprint=f"{'a1' * 32} prompt:222222 size:333333")


def test_earlier_run_of_an_unused_request_id_is_empty_and_leaves_no_trace(database: Database) -> None:
    """Of a request id that was never used nothing is known, and looking leaves nothing behind."""
    assert find_earlier_run(database, IDENTITY) == EarlierRun()
    assert AttemptLog(database).claim_run(replace(IDENTITY, fingerprint="b2" * 32)) == ()


def test_earlier_run_is_paid_once_an_attempt_has_succeeded(database: Database) -> None:
    """A run is paid once an attempt of it has succeeded, and not while one is open."""
    run = identify("acme", "twice")
    begin_attempt(database, run)
    assert find_earlier_run(database, run) == EarlierRun(is_owner=True, paid=False)

    pay_attempt(database, run)
    assert find_earlier_run(database, run) == EarlierRun(is_owner=True, paid=True)
    assert find_earlier_run(database, IDENTITY) == EarlierRun()


def test_earlier_run_with_other_content_names_the_conflict_and_its_fields(database: Database) -> None:
    """Other content under a known request id is told as its run would be refused, with the fields that the marks tell apart."""
    AttemptLog(database).claim_run(MARKED)

    other = replace(MARKED, fingerprint=f"{'b2' * 32} prompt:222222 size:444444 user:555555")
    found = find_earlier_run(database, other)

    assert found.conflict is not None
    assert "other content (other in size, user)" in found.conflict
    assert found.differences == ("size", "user")
    assert not found.paid
    assert find_earlier_run(database, IDENTITY) == EarlierRun(is_owner=True)
