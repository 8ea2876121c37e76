"""A ledger, a store or an operator in the way: runs wait where everyone sees it, and what was paid for is kept and billed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import text
from structlog.testing import capture_logs
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import ApplicationError, CancelledError

from gpt_image_runs.contracts.result import RunResult
from tests.support.runs.run_states import pending_failure, status_of, until
from tests.support.servers.stack import CONTRACT, Stack, new_run_id, run_stack, sqlite_url

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def own_stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """Run a stack that a test may break."""
    async with run_stack(sqlite_url(tmp_path), (tmp_path / "images").as_uri()) as running:
        yield running


async def test_paid_run_waits_for_a_ledger_that_refuses_entries(own_stack: Stack) -> None:
    """While the ledger refuses entries a paid run waits, says why, and buys nothing more; then it is billed once."""
    with own_stack.database.writing() as connection:
        connection.execute(
            text(
                "CREATE TRIGGER away BEFORE INSERT ON ledger_entries"
                " BEGIN SELECT RAISE(ABORT, 'the ledger is away'); END"
            )
        )
    handle = await own_stack.start(CONTRACT)

    async def waits() -> bool:
        return "the ledger is away" in await pending_failure(handle)

    await until(waits)
    status = await status_of(handle)
    assert (status.stage, status.attempts) == ("recording", 1)
    assert status.last_error is not None
    assert "the ledger is away" in status.last_error.message
    assert own_stack.entries(handle.id) == ()
    with own_stack.database.writing() as connection:
        connection.execute(text("DROP TRIGGER away"))
    result = RunResult.model_validate(await handle.result())

    assert result.billing.state == "billed"
    assert (await status_of(handle)).last_error is None
    assert len(own_stack.calls(handle.id)) == 1
    assert len(own_stack.entries(handle.id)) == 1


async def test_paid_call_without_recorded_outcome_is_found_by_its_receipt(own_stack: Stack) -> None:
    """A paid call whose outcome cannot be written is found by its receipt later: one call, one charge."""
    with own_stack.database.writing() as connection:
        connection.execute(
            text(
                "CREATE TRIGGER away BEFORE UPDATE ON provider_attempts"
                " BEGIN SELECT RAISE(ABORT, 'the ledger is away'); END"
            )
        )
    handle = await own_stack.start(CONTRACT)

    async def waits() -> bool:
        return "the ledger is away" in await pending_failure(handle)

    await until(waits)
    (attempt,) = own_stack.attempts(handle.id)
    assert attempt.outcome == "unknown"
    with own_stack.database.writing() as connection:
        connection.execute(text("DROP TRIGGER away"))
    result = RunResult.model_validate(await handle.result())

    assert result.provider.attempts == 1
    assert len(own_stack.calls(handle.id)) == 1
    assert [attempt.outcome for attempt in own_stack.attempts(handle.id)] == ["succeeded"]


async def test_receipt_in_a_store_that_is_down_is_waited_for(own_stack: Stack, tmp_path: Path) -> None:
    """A receipt that cannot be read while the store is away is waited for, and not taken for none: one call, one charge."""
    with own_stack.database.writing() as connection:
        connection.execute(
            text(
                "CREATE TRIGGER away BEFORE UPDATE ON provider_attempts"
                " BEGIN SELECT RAISE(ABORT, 'the ledger is away'); END"
            )
        )
    handle = await own_stack.start(CONTRACT)

    async def waits_for_the_ledger() -> bool:
        return "the ledger is away" in await pending_failure(handle)

    async def waits_for_the_store() -> bool:
        return "image store" in await pending_failure(handle)

    await until(waits_for_the_ledger)
    images = tmp_path / "images"
    away = images.rename(tmp_path / "away")
    images.write_text("in the way")
    with own_stack.database.writing() as connection:
        connection.execute(text("DROP TRIGGER away"))
    await until(waits_for_the_store)
    images.unlink()
    away.rename(images)
    result = RunResult.model_validate(await handle.result())

    assert result.provider.attempts == 1
    assert len(own_stack.calls(handle.id)) == 1
    assert [attempt.outcome for attempt in own_stack.attempts(handle.id)] == ["succeeded"]


async def test_rejected_call_without_recorded_outcome_is_not_sent_again(own_stack: Stack) -> None:
    """What the provider refuses for good is not sent again because the ledger is away; the ledger hears of it later."""
    with own_stack.database.writing() as connection:
        connection.execute(
            text(
                "CREATE TRIGGER away BEFORE UPDATE ON provider_attempts"
                " BEGIN SELECT RAISE(ABORT, 'the ledger is away'); END"
            )
        )
    payload = {**CONTRACT, "prompt": "A cup [simulate:moderation_blocked]"}
    run_id = new_run_id()
    failure = await own_stack.fail(payload, run_id=run_id)

    assert failure.type == "ContentRefused"
    assert len(own_stack.calls(run_id)) == 1
    with own_stack.database.writing() as connection:
        connection.execute(text("DROP TRIGGER away"))
    await own_stack.fail(payload, run_id=run_id)
    assert [attempt.outcome for attempt in own_stack.attempts(run_id)] == ["rejected", "rejected"]


async def test_image_that_could_not_be_stored_is_billed_and_not_bought_again(
    own_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store stays away for longer than the call has: the run is billed by the answer's usage and says what is lost."""
    monkeypatch.setattr(
        "activities.provider_call.image_saving._RESERVE_SECONDS", 3600.0
    )  # no patience at all
    own_stack.simulator.script("delay=1", match="A lost cup")
    images, away = tmp_path / "images", tmp_path / "away"
    payload = {**CONTRACT, "prompt": "A lost cup"}
    handle = await own_stack.start(payload)

    async def is_sent() -> bool:
        return own_stack.simulator.in_progress == 1

    await until(is_sent)
    images.rename(away)
    images.write_text("in the way")
    with pytest.raises(WorkflowFailureError) as failed:
        await handle.result()
    images.unlink()
    away.rename(images)
    again = await own_stack.fail(payload, run_id=handle.id)

    assert isinstance(failed.value.cause, ApplicationError)
    assert (failed.value.cause.type, again.type) == ("ImagesNotSaved", "ImagesNotSaved")
    (entry,) = own_stack.entries(handle.id)
    (attempt,) = own_stack.attempts(handle.id)
    assert (attempt.outcome, entry.kind, entry.images) == ("succeeded", "charge", ())
    assert (
        f"The run is billed with {entry.amount_usd} USD, entry {entry.entry_id}" in failed.value.cause.message
    )
    assert len(own_stack.calls(handle.id)) == 1


async def test_image_is_held_until_the_store_is_back(own_stack: Stack, tmp_path: Path) -> None:
    """A picture that arrives while the store is away is held until it is back: one call, and the picture is there."""
    await own_stack.run({**CONTRACT, "prompt": "The store works"})
    own_stack.simulator.script("delay=1", match="A homeless cup")
    images, away = tmp_path / "images", tmp_path / "away"
    with capture_logs() as lines:
        handle = await own_stack.start({**CONTRACT, "prompt": "A homeless cup"})

        async def is_sent() -> bool:
            return own_stack.simulator.in_progress == 1

        async def is_held() -> bool:
            return any(line["event"] == "image_store_unavailable" for line in lines)

        await until(is_sent)
        images.rename(away)
        images.write_text("in the way")
        await until(is_held)
    images.unlink()
    away.rename(images)
    result = RunResult.model_validate(await handle.result())

    assert len(own_stack.calls(handle.id)) == 1
    assert await own_stack.store.read(result.images[0].uri)


async def test_run_without_a_store_waits_and_sends_nothing(own_stack: Stack, tmp_path: Path) -> None:
    """Nothing is bought that could not be kept: a run waits, unsent, until the store is there."""
    images = tmp_path / "images"
    away = images.rename(tmp_path / "away")
    images.write_text("in the way")
    handle = await own_stack.start(CONTRACT)

    async def waits() -> bool:
        return "image store" in await pending_failure(handle)

    await until(waits)
    assert own_stack.calls(handle.id) == []
    images.unlink()
    away.rename(images)

    assert RunResult.model_validate(await handle.result()).billing.state == "billed"
    assert len(own_stack.calls(handle.id)) == 1


async def test_run_cancelled_during_its_call_completes_and_is_billed(stack: Stack) -> None:
    """A run that is cancelled while the provider works is carried out and billed: hanging up would save nothing."""
    stack.simulator.script("delay=1", match="A cancelled cup")
    handle = await stack.start({**CONTRACT, "prompt": "A cancelled cup"})

    async def is_sent() -> bool:
        return len(stack.attempts(handle.id)) == 1

    await until(is_sent)
    await handle.cancel()
    result = RunResult.model_validate(await handle.result())

    assert result.billing.state == "billed"
    assert len(stack.entries(handle.id)) == 1


async def test_run_cancelled_before_it_is_sent_ends_as_cancelled(tmp_path: Path) -> None:
    """A run that is cancelled while it waits for its turn ends as cancelled, and nothing more is sent."""
    run_id = new_run_id()

    async def waits() -> bool:
        return "rate limit" in await pending_failure(handle)

    # A site of its own, as after a rate limit its worker sends nothing for a while.
    async with run_stack(sqlite_url(tmp_path), (tmp_path / "images").as_uri()) as stack:
        handle = await stack.start(
            {**CONTRACT, "prompt": "A cup [simulate:rate_limited,seconds=120]"}, run_id=run_id
        )
        await until(waits)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError) as raised:
            await handle.result()

        assert isinstance(raised.value.cause, CancelledError)
        assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED
        assert len(stack.calls(run_id)) == 1
