"""What may have been paid for nothing, by hand: amounts reserved of attempts that nobody knows the end of."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.attempts.exposure import (
    MAX_ATTEMPT,
    Grouping,
    find_exposure,
    sum_exposure,
    total_exposure,
)
from gpt_image_runs.billing.records import NewAttempt, Outcome
from gpt_image_runs.database.engine import Database
from tests.support.ledger.ledger_examples import SUCCEEDED, describe_attempt, identify
from workflows.retry_policies import CALL_ATTEMPT

NOW = datetime(2026, 11, 24, 0, 30, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)
"""23:30 on the day before."""


def send(
    database: Database,
    request: str = "req-1",
    *,
    tenant: str = "acme",
    at: datetime = LONG_AGO,
    reserved: int | None = 250_000,
    model: str = "gpt-image-1",
    outcome: Outcome | None = None,
    simulated: bool = False,
    batch_part: str | None = None,
) -> str:
    """Begin an attempt; without an `outcome` nothing is heard of it."""
    identity, log = identify(tenant, request), AttemptLog(database)
    log.claim_run(identity)
    new: NewAttempt = replace(
        describe_attempt(identity.run_id),
        sent_at=at,
        reserved_micro_usd=reserved,
        model=model,
        simulated=simulated,
        batch_part=batch_part,
    )
    attempt = log.begin(new)
    if outcome:
        log.finish(attempt.attempt_id, replace(SUCCEEDED, outcome=outcome, error_type="ReadTimeout"))
    return attempt.attempt_id


def test_an_attempt_of_unknown_outcome_is_exposed(database: Database) -> None:
    """Of four outcomes only the unknown one may have been paid for nothing, also in a run that succeeded afterwards."""
    lost = send(database, outcome="unknown")
    send(database, outcome="succeeded")
    send(database, outcome="rejected")
    send(database, outcome="not_sent")

    exposure = find_exposure(database, NOW)

    (attempt,) = exposure.attempts
    assert (attempt.attempt_id, attempt.run_id, attempt.tenant) == (lost, "image:acme:req-1", "acme")
    assert (attempt.reserved_usd, attempt.error_type, attempt.number) == ("0.250000", "ReadTimeout", 1)
    assert exposure.in_flight == ()


def test_open_attempt_is_in_flight_until_it_is_older_than_an_attempt_can_be(database: Database) -> None:
    """An open attempt is in flight for as long as an attempt can take, and then it was lost; one that ended is neither."""
    lost = send(database, at=NOW - timedelta(minutes=11, seconds=1))
    young = send(database, "req-2", at=NOW - timedelta(minutes=11))
    ended = send(database, "req-3", at=NOW - timedelta(seconds=5), outcome="unknown")

    exposure = find_exposure(database, NOW)

    assert [attempt.attempt_id for attempt in exposure.attempts] == [lost, ended]
    assert [attempt.attempt_id for attempt in exposure.in_flight] == [young]


def test_a_line_of_a_batch_waits_for_longer(database: Database) -> None:
    """A line that the provider may carry out within a day is in flight for that day, and lost only after it."""
    lost = send(database, at=NOW - timedelta(hours=30, seconds=1), batch_part="autumn/1/0")
    waiting = send(database, "req-2", at=NOW - timedelta(hours=25), batch_part="autumn/1/0")
    ended = send(database, "req-3", at=NOW - timedelta(hours=2), batch_part="autumn/1/0", outcome="unknown")

    exposure = find_exposure(database, NOW)

    assert [attempt.attempt_id for attempt in exposure.attempts] == [lost, ended]
    assert [attempt.attempt_id for attempt in exposure.in_flight] == [waiting]


def test_an_attempt_takes_as_long_as_the_workflow_lets_it() -> None:
    """What counts as lost is what the workflow has given up."""
    assert MAX_ATTEMPT == CALL_ATTEMPT


@pytest.fixture
def several(database: Database) -> Database:
    """Two attempts of a run at 0.25 and 0.1, one without a price on the next day, and a simulated one."""
    send(database)
    send(database, reserved=100_000)
    send(database, "req-2", tenant="zoo", at=NOW - timedelta(minutes=20), reserved=None, model="gpt-image-9")
    send(database, "req-3", simulated=True, reserved=50_000)
    return database


@pytest.mark.parametrize(
    ("grouping", "expected"),
    [
        (
            "run",
            [
                ("image:acme:req-1", False, 2, 0, "0.350000"),
                ("image:acme:req-3", True, 1, 0, "0.050000"),
                ("image:zoo:req-2", False, 1, 1, "0.000000"),
            ],
        ),
        (
            "day",
            [
                ("2026-11-23", False, 2, 0, "0.350000"),
                ("2026-11-23", True, 1, 0, "0.050000"),
                ("2026-11-24", False, 1, 1, "0.000000"),
            ],
        ),
        (
            "model",
            [
                ("gpt-image-1", False, 2, 0, "0.350000"),
                ("gpt-image-1", True, 1, 0, "0.050000"),
                ("gpt-image-9", False, 1, 1, "0.000000"),
            ],
        ),
    ],
)
def test_exposure_is_summed_up(
    several: Database, grouping: Grouping, expected: list[tuple[object, ...]]
) -> None:
    """Sums by run, day and model; an attempt without a price is counted and adds nothing; simulated ones stay apart."""
    rows = sum_exposure(find_exposure(several, NOW).attempts, grouping)

    assert [
        (row.key, row.simulated, row.attempts, row.unpriced, row.reserved_usd) for row in rows
    ] == expected


def test_the_total_keeps_simulated_attempts_apart(several: Database) -> None:
    """All of it: three real attempts, one of them without a price, and a simulated one."""
    totals = total_exposure(find_exposure(several, NOW).attempts)

    assert {name: (row.attempts, row.unpriced, row.reserved_usd) for name, row in totals.items()} == {
        "real": (3, 1, "0.350000"),
        "simulated": (1, 0, "0.050000"),
    }


@pytest.mark.parametrize(
    ("narrowed", "found"),
    [
        ({"tenant": "zoo"}, 1),
        ({"since": datetime(2026, 11, 24, tzinfo=UTC)}, 1),
        ({"until": datetime(2026, 11, 24, tzinfo=UTC)}, 3),
        ({"since": LONG_AGO, "until": LONG_AGO}, 0),
    ],
)
def test_exposure_is_filtered_by_tenant_and_time(
    several: Database, narrowed: dict[str, Any], found: int
) -> None:
    """By tenant and by the moment of sending: `since` is included, `until` is not."""
    assert len(find_exposure(several, NOW, **narrowed).attempts) == found


def test_exposure_of_an_empty_ledger_is_zero(database: Database) -> None:
    """An empty ledger has totals of no attempts."""
    totals = total_exposure(find_exposure(database, NOW).attempts)

    assert [(row.attempts, row.reserved_usd) for row in totals.values()] == [(0, "0.000000")] * 2
