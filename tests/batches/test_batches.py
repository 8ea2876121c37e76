"""Batches of runs in the database: registered, claimed, ended, retried and listed, on both databases."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event

from gpt_image_runs.batches.batches import Batches, count_retries
from gpt_image_runs.batches.lines import BatchLines
from gpt_image_runs.batches.models import NewLine, PricedLine, StartedLine, UnbilledEnd
from gpt_image_runs.batches.results import find_billed, list_results
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.records import Attempt
from gpt_image_runs.contracts.batches import BatchOrder, BatchProgress
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import BatchConflict
from tests.support.ledger.ledger_examples import (
    CHARGE,
    FINISHED_AT,
    HOLD,
    IDENTITY,
    SUCCEEDED,
    begin_attempt,
    identify,
    make_order,
    pay_attempt,
)

ORDER = BatchOrder(batch_id="autumn", digest="a" * 64, lines=4, pages=2)
ASKED = IDENTITY.fingerprint


def register(database: Database, order: BatchOrder = ORDER) -> BatchProgress:
    """Register two pages of two lines."""
    batches = Batches(database)
    for page in range(batches.open(order), order.pages):
        numbers = (2 * page + 1, 2 * page + 2)
        lines = [NewLine(line=number, run_id=f"image:acme:autumn-{number:06d}") for number in numbers]
        batches.register(order.batch_id, page, lines)
    return find(database)


def find(database: Database) -> BatchProgress:
    found = Batches(database).find("autumn")
    assert found is not None
    return found


def price(*numbers: int, ceiling: int | None = 100) -> list[PricedLine]:
    return [PricedLine(line=number, fingerprint=ASKED, ceiling_micro_usd=ceiling) for number in numbers]


def start(database: Database, *numbers: int) -> None:
    lines = BatchLines(database, "autumn")
    lines.claim(price(*numbers))
    lines.confirm([StartedLine(line=number, workflow_run_id=f"run-{number}") for number in numbers])


def fail(*numbers: int, kind: str = "RateLimited") -> list[UnbilledEnd]:
    return [
        UnbilledEnd(line=number, state="failed", error_type=kind, error_message="no") for number in numbers
    ]


def counts_of(progress: BatchProgress) -> tuple[int, ...]:
    names = ("waiting", "running", "done", "failed", "cancelled", "skipped")
    return tuple(getattr(progress, name) for name in names)


def bill(database: Database, number: int, cost: Any = CHARGE, **learned: Any) -> None:
    attempt = pay_attempt(database, identify("acme", f"autumn-{number:06d}"), **learned)
    Ledger(database).record(make_order(attempt, cost))


def lose(database: Database, number: int) -> Attempt:
    """Record a request whose answer was lost, of at most 250,000 micro-USD."""
    attempt = begin_attempt(database, identify("acme", f"autumn-{number:06d}"))
    lost = replace(SUCCEEDED, outcome="unknown", finished_at=FINISHED_AT, images=None, response=None)
    AttemptLog(database).finish(attempt.attempt_id, lost)
    return attempt


def lines_of(found: Sequence[Any]) -> list[int]:
    return [line.line for line in found]


def test_registration_repeated_changes_nothing(database: Database) -> None:
    registered = register(database)
    batches = Batches(database)
    batches.register("autumn", 0, [NewLine(line=1, run_id="image:acme:autumn-000001")])

    assert batches.open(ORDER) == 2
    assert register(database).state == registered.state == "running"
    assert counts_of(find(database)) == (4, 0, 0, 0, 0, 0)
    assert lines_of(BatchLines(database, "autumn").list_waiting(3)) == [1, 2, 3]


def test_registration_interrupted_continues_with_the_next_page(database: Database) -> None:
    batches = Batches(database)
    batches.open(ORDER)
    batches.register("autumn", 0, [NewLine(line=1, run_id="image:acme:autumn-000001")])

    assert find(database).state == "registering"
    assert batches.open(ORDER) == 1


def test_skipped_line_is_in_the_results_with_its_problem(database: Database) -> None:
    batches = Batches(database)
    batches.open(ORDER.model_copy(update={"lines": 1, "pages": 1}))
    batches.register("autumn", 0, [NewLine(line=7, run_id=None, problem="n is 0")])

    (result,) = list_results(database, "autumn")
    assert counts_of(find(database)) == (0, 0, 0, 0, 0, 1)
    assert (result.line, result.state, result.error_type, result.error) == (
        7,
        "skipped",
        "RequestRefused",
        "n is 0",
    )


def test_open_with_other_lines_or_impossible_round_is_a_conflict(database: Database) -> None:
    register(database)
    with pytest.raises(BatchConflict, match="stands for other lines already"):
        Batches(database).open(ORDER.model_copy(update={"digest": "b" * 64}))
    with pytest.raises(BatchConflict, match="is in round 1, and 3 cannot follow"):
        Batches(database).open(ORDER.model_copy(update={"round": 3, "retry": "unpaid"}))


def test_claim_stays_within_the_cost_limit(database: Database) -> None:
    """Lines are claimed in order while charges, reservations and the next worst case fit, to the micro-dollar."""
    register(database, ORDER.model_copy(update={"max_cost_usd": "0.000300"}))
    lines = BatchLines(database, "autumn")

    first = lines.claim([*price(1), *price(2, ceiling=201), *price(3)])
    second = lines.claim([*price(2, ceiling=200), *price(3)])
    again = lines.claim(price(1, 2))

    assert (first.lines, first.capped) == ({1}, True)
    assert (second.lines, second.capped) == ({2}, True)
    assert (again.lines, again.capped) == (set(), False)
    assert (find(database).reserved_usd, find(database).running) == ("0.000300", 2)


def test_line_without_known_price_is_claimed_only_without_a_limit(database: Database) -> None:
    register(database, ORDER.model_copy(update={"max_cost_usd": "9.000000"}))
    assert BatchLines(database, "autumn").claim(price(1, ceiling=None)).lines == set()
    Batches(database).open(ORDER)
    assert BatchLines(database, "autumn").claim(price(1, ceiling=None)).lines == {1}


def test_released_line_waits_again_and_frees_its_reservation(database: Database) -> None:
    register(database)
    lines = BatchLines(database, "autumn")
    lines.claim(price(1, 2))
    lines.confirm([StartedLine(line=1, workflow_run_id="run-1")])

    assert lines_of(lines.list_starting()) == [2]
    lines.release([1, 2])
    assert counts_of(find(database)) == (3, 1, 0, 0, 0, 0)
    assert find(database).reserved_usd == "0.000100"


def test_billed_line_is_done_and_counted_once(database: Database) -> None:
    register(database)
    start(database, 1, 2)
    bill(database, 1)
    ends = BatchLines(database, "autumn")

    assert (ends.collect_billed(), ends.collect_billed()) == (1, 0)
    progress = find(database)
    assert counts_of(progress) == (2, 1, 1, 0, 0, 0)
    assert (progress.charged_usd, progress.reserved_usd, progress.images) == ("0.166900", "0.000100", 1)


def test_line_billed_without_a_picture_is_counted_and_names_the_error(database: Database) -> None:
    register(database)
    start(database, 1, 2, 3, 4)
    withheld = {"images": (), "error_type": "OutputRefused", "error_message": "The picture was withheld."}
    bill(database, 1)
    bill(database, 2, **withheld)
    bill(database, 3, HOLD, **withheld)
    ends = BatchLines(database, "autumn")
    ends.collect_billed()
    assert find(database).without_picture is None
    ends.end_unbilled(fail(4))

    settled = ends.settle("start", capped=False)
    first, second, third, failed = list_results(database, "autumn")

    assert settled == find(database)
    assert (settled.state, settled.done, settled.images, settled.without_picture) == ("done", 3, 1, 2)
    lines = (first, second, third, failed)
    assert [line.without_picture for line in lines] == [False, True, True, None]
    assert [line.error_type for line in lines] == [None, "OutputRefused", "OutputRefused", "RateLimited"]
    assert (second.error, second.charge_usd) == ("The picture was withheld.", "0.166900")


def test_line_ended_by_another_step_meanwhile_is_ended_once(database: Database) -> None:
    register(database)
    start(database, 1)
    bill(database, 1)
    ends, others = BatchLines(database, "autumn"), []
    with database.reading() as connection:

        @event.listens_for(connection, "after_cursor_execute", once=True)
        def end_it(*_: object) -> None:
            others.append(ends.collect_billed())

        find_billed(connection, "autumn")

    assert (others, ends.collect_billed()) == ([1], 0)
    assert counts_of(find(database)) == (3, 0, 1, 0, 0, 0)


def test_bill_for_other_content_does_not_end_the_line(database: Database) -> None:
    register(database)
    lines = BatchLines(database, "autumn")
    lines.claim([PricedLine(line=1, fingerprint="b2" * 32, ceiling_micro_usd=100)])
    bill(database, 1)

    assert BatchLines(database, "autumn").collect_billed() == 0
    assert next(list_results(database, "autumn")).charge_usd is None


def test_pending_bill_counts_with_its_worst_case(database: Database) -> None:
    register(database, ORDER.model_copy(update={"max_cost_usd": "0.000350"}))
    start(database, 1)
    bill(database, 1, HOLD)
    BatchLines(database, "autumn").collect_billed()

    progress = find(database)
    assert (progress.done, progress.pending, progress.charged_usd) == (1, 1, "0.000000")
    assert progress.exposed_usd == "0.000100"
    assert BatchLines(database, "autumn").claim(price(2, 3, 4)).lines == {2, 3}


def test_lost_answer_counts_once_against_the_limit(database: Database) -> None:
    """It counts while its run goes on, and is not counted again when the run has ended."""
    register(database, ORDER.model_copy(update={"max_cost_usd": "0.250250"}))
    start(database, 1)
    lose(database, 1)
    lines, ends = BatchLines(database, "autumn"), BatchLines(database, "autumn")

    assert lines.claim(price(2, 3)).lines == {2}
    ends.end_unbilled(fail(1))
    progress = find(database)
    assert (progress.failed, progress.unknown, progress.exposed_usd) == (1, 1, "0.250000")
    assert lines.claim(price(3, ceiling=150)).lines == {3}


def test_fail_fast_batch_stops_after_a_failure(database: Database) -> None:
    register(database, ORDER.model_copy(update={"fail_fast": True}))
    start(database, 1, 2)
    ends = BatchLines(database, "autumn")
    ends.end_unbilled(fail(1))

    assert BatchLines(database, "autumn").claim(price(3)).lines == set()
    assert ends.settle("start", capped=False).state == "running"
    ends.end_unbilled(fail(2))
    stopped = ends.settle("start", capped=False)
    assert (stopped.state, stopped.waiting) == ("stopped", 2)
    assert "2 lines were not started" in (stopped.reason or "")


@pytest.mark.parametrize(
    ("wish", "capped", "state"),
    [("start", False, "running"), ("start", True, "capped"), ("hold", False, "paused"), ("cancel", False, "cancelled")],
)  # fmt: skip
def test_batch_with_waiting_lines_gets_the_state_of_the_request(
    database: Database, wish: Any, state: str, *, capped: bool
) -> None:
    register(database)
    assert BatchLines(database, "autumn").settle(wish, capped=capped).state == state


def test_new_round_restarts_only_the_lines_it_names(database: Database) -> None:
    register(database)
    start(database, 1, 2, 3, 4)
    bill(database, 1)
    lose(database, 2)
    ends = BatchLines(database, "autumn")
    ends.collect_billed()
    ends.end_unbilled([*fail(2, kind="TooManyUnknownOutcomes"), *fail(3, 4)])
    before = count_retries(database, "autumn")
    second = ORDER.model_copy(update={"round": 2, "retry": "unpaid"})
    batches = Batches(database)
    batches.open(second)
    batches.open(second)

    assert before == {"unpaid": 2, "unknown": 1}
    assert counts_of(find(database)) == (2, 0, 1, 1, 0, 0)
    assert lines_of(BatchLines(database, "autumn").list_waiting(9)) == [3, 4]
    batches.open(ORDER.model_copy(update={"round": 3, "retry": "unknown"}))
    waiting = BatchLines(database, "autumn").list_waiting(9)
    assert [line.run_id for line in waiting] == [
        "image:acme:autumn-000002.3",
        "image:acme:autumn-000003",
        "image:acme:autumn-000004",
    ]
    assert (find(database).unknown, find(database).exposed_usd) == (1, "0.250000")


def test_line_with_a_late_answer_keeps_its_run_id(database: Database) -> None:
    """Under a new run id the picture would be bought twice."""
    register(database)
    start(database, 1, 2)
    late, _ = lose(database, 1), lose(database, 2)
    BatchLines(database, "autumn").end_unbilled(fail(1, 2, kind="TooManyUnknownOutcomes"))
    AttemptLog(database).finish(late.attempt_id, SUCCEEDED)
    Batches(database).open(ORDER.model_copy(update={"round": 2, "retry": "unknown"}))

    waiting = BatchLines(database, "autumn").list_waiting(2)
    assert [line.run_id for line in waiting] == ["image:acme:autumn-000001", "image:acme:autumn-000002.2"]


def test_refused_line_keeps_its_lost_answer(database: Database) -> None:
    """A line that may have been paid is not started again unless asked for."""
    register(database)
    start(database, 1)
    lose(database, 1)
    ends = BatchLines(database, "autumn")
    ends.end_unbilled(fail(1))
    Batches(database).open(ORDER.model_copy(update={"round": 2, "retry": "unknown"}))
    ends.refuse(fail(1, kind="RequestRefused"))

    assert count_retries(database, "autumn") == {"unpaid": 0, "unknown": 1}
    Batches(database).open(ORDER.model_copy(update={"round": 3, "retry": "unknown"}))
    start(database, 1)
    ends.end_unbilled(fail(1))
    assert (find(database).unknown, find(database).exposed_usd) == (1, "0.250000")


def test_stale_lines_are_returned_once_per_interval(database: Database) -> None:
    register(database)
    start(database, 1, 2, 3)
    lines = BatchLines(database, "autumn")

    assert lines.claim_stale(timedelta(minutes=3), 2, attached=False) == []
    assert len(lines.claim_stale(timedelta(0), 2, attached=False)) == 2
    assert lines.claim_stale(timedelta(0), 9, attached=True) == []


def test_lines_checked_in_the_future_are_stale(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose clock was a day ahead must not keep lines unchecked for a day."""

    class Ahead(datetime):
        """A clock that is a day ahead."""

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(days=1)

    register(database)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("gpt_image_runs.batches.lines.datetime", Ahead)
        start(database, 1, 2)
    lines = BatchLines(database, "autumn")

    assert len(lines.claim_stale(timedelta(minutes=3), 9, attached=False)) == 2
    assert lines.claim_stale(timedelta(minutes=3), 9, attached=False) == []


def test_list_has_the_newest_batch_first(database: Database) -> None:
    for name in ("one", "two", "three"):
        Batches(database).open(ORDER.model_copy(update={"batch_id": name}))

    assert [batch.batch_id for batch in Batches(database).list(limit=2)] == ["three", "two"]


def test_results_of_several_pages_have_each_line_once_in_order(database: Database) -> None:
    batches = Batches(database)
    batches.open(ORDER.model_copy(update={"lines": 1_200, "pages": 3}))
    for page in range(3):
        numbers = range(400 * page + 1, 400 * page + 401)
        batches.register(
            "autumn", page, [NewLine(line=n, run_id=f"image:acme:autumn-{n:06d}") for n in numbers]
        )

    assert [result.line for result in list_results(database, "autumn")] == list(range(1, 1_201))
