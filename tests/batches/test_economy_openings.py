"""Economy batches opened and resumed for their rounds, on both databases."""

import pytest

from gpt_image_runs.batches.batches import Batches
from gpt_image_runs.batches.economy import end_round
from gpt_image_runs.batches.lines import BatchLines
from gpt_image_runs.batches.models import NewLine, PricedLine, UnbilledEnd
from gpt_image_runs.contracts.batches import BatchOrder, BatchProgress
from gpt_image_runs.contracts.economy import EconomyOrder, EconomyRetry
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import BatchConflict

ORDER = EconomyOrder(batch_id="winter", digest="b" * 64, lines=4, pages=2, max_cost_usd="1.000000")


def take_up(database: Database, number: int, retry: EconomyRetry | None, most: str | None = None) -> int:
    changed = {"retry": retry, "max_cost_usd": most}
    return Batches(database).open(ORDER.model_copy(update=changed), number)


def find(database: Database) -> BatchProgress:
    found = Batches(database).find("winter")
    assert found is not None
    return found


def open_with_ends(database: Database) -> None:
    """Open round 1: lines 1 and 2 have failed, 2 may have been paid, 3 is skipped, 4 waits."""
    for page in range(Batches(database).open(ORDER, 1), ORDER.pages):
        numbers = (2 * page + 1, 2 * page + 2)
        run_ids = [None if number == 3 else f"image:acme:winter-{number}" for number in numbers]
        Batches(database).register(
            "winter",
            page,
            [NewLine(line=line, run_id=run) for line, run in zip(numbers, run_ids, strict=True)],
        )
    BatchLines(database, "winter", economy=True).refuse(
        [UnbilledEnd(line=line, state="failed", error_type="X", error_message="no") for line in (1, 2)]
    )
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE batch_lines SET unknown = 1 WHERE line = 2")


def test_open_repeated_continues_with_the_first_missing_page(database: Database) -> None:
    assert Batches(database).open(ORDER, 1) == 0
    Batches(database).register("winter", 0, [NewLine(line=1, run_id="image:acme:a")])
    assert Batches(database).open(ORDER, 1) == 1
    assert find(database).state == "registering"
    Batches(database).register("winter", 1, [NewLine(line=2, run_id="image:acme:b")])
    assert Batches(database).open(ORDER, 1) == ORDER.pages

    found = find(database)
    assert (found.economy, found.state, found.waiting, found.max_cost_usd) == (True, "running", 2, "1.000000")
    assert len(Batches(database).list()) == 1


@pytest.mark.parametrize(
    ("retry", "waiting"), [("waiting", 1), ("unpaid", 2), ("unknown", 3), (None, 3)], ids=str
)
def test_round_restarts_the_lines_that_retry_names(
    database: Database, retry: EconomyRetry | None, waiting: int
) -> None:
    """Other programs, which name none, get all lines that are not paid."""
    open_with_ends(database)
    take_up(database, 2, retry)

    found = find(database)
    assert (found.round, found.state) == (2, "running")
    assert (found.waiting, found.failed, found.skipped) == (waiting, 3 - waiting, 1)


def test_round_opened_again_changes_no_line(database: Database) -> None:
    """A step that is retried after a crash leaves lines alone that have failed since."""
    open_with_ends(database)
    take_up(database, 2, "unpaid")
    BatchLines(database, "winter", economy=True).refuse(
        [UnbilledEnd(line=1, state="failed", error_type="X", error_message="no")]
    )
    take_up(database, 2, "unpaid")
    take_up(database, 1, "unknown")

    assert (find(database).round, find(database).waiting, find(database).failed) == (2, 1, 2)


def test_limit_stays_until_another_is_given(database: Database) -> None:
    open_with_ends(database)
    take_up(database, 2, "waiting")
    before = find(database).max_cost_usd
    take_up(database, 3, "waiting", "2.500000")

    assert (before, find(database).max_cost_usd) == ("1.000000", "2.500000")


def test_new_round_clears_the_end_and_its_reason(database: Database) -> None:
    open_with_ends(database)
    end_round(database, "winter", cancelled=False)
    ended = find(database)
    take_up(database, 2, "waiting")

    assert (ended.state, ended.reason) == (
        "capped",
        "The next line could pass --max-cost; 1 lines were not started.",
    )
    assert (find(database).state, find(database).reason) == ("running", None)


def test_open_with_other_kind_or_other_lines_is_a_conflict(database: Database) -> None:
    standard = BatchOrder(batch_id="spring", digest="b" * 64, lines=4, pages=2)
    Batches(database).open(standard)
    open_with_ends(database)
    before = Batches(database).list()

    with pytest.raises(BatchConflict, match="at the standard price already"):
        Batches(database).open(ORDER.model_copy(update={"batch_id": "spring"}), 1)
    with pytest.raises(BatchConflict, match="is an economy batch already"):
        Batches(database).open(standard.model_copy(update={"batch_id": "winter"}))
    with pytest.raises(BatchConflict, match="stands for other lines already"):
        Batches(database).open(ORDER.model_copy(update={"digest": "c" * 64}), 2)
    assert Batches(database).list() == before


def test_claim_survives_a_resumed_round(database: Database) -> None:
    """Lines claimed before a crash are claimed still when the batch is opened again in the same round."""
    open_with_ends(database)
    asked = [PricedLine(line=4, fingerprint="a" * 64, ceiling_micro_usd=400_000)]
    BatchLines(database, "winter", economy=True).claim(asked)
    take_up(database, 1, "unknown")

    assert BatchLines(database, "winter", economy=True).claim(asked).lines == {4}
    assert (find(database).running, find(database).reserved_usd) == (1, "0.400000")
