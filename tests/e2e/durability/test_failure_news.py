"""Why a run waits: told to it by each kind of failure, shown by its status and on its page, and forgotten with the answer."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from temporalio.client import WorkflowFailureError, WorkflowHandle

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.result import FailedAttempt, RunResult, RunStatus
from tests.support.runs.commands import type_command
from tests.support.runs.run_states import (
    WORST_WAIT_SECONDS,
    decide,
    details_of,
    raw,
    status_of,
    until,
    until_held,
)
from tests.support.servers.stack import CONTRACT, Stack, event_names, new_run_id, run_stack, sqlite_url

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def until_failed(handle: WorkflowHandle[Any, Any], kind: str) -> RunStatus:
    """Wait for a status with a failure of this type, and return it."""

    async def is_told() -> bool:
        error = (await status_of(handle)).last_error
        return error is not None and error.error_type == kind

    await until(is_told)
    return await status_of(handle)


async def test_run_waiting_for_the_provider_shows_the_failure_and_the_next_request(tmp_path: Path) -> None:
    """A run that the provider refused for now tells so with its request and the time of the next one; a run that was not even
    sent, as its worker pauses, tells that; both until their answers are there.
    """
    # A stack of its own, as its worker sends nothing for a while.
    async with run_stack(sqlite_url(tmp_path), (tmp_path / "images").as_uri()) as stack:
        stack.simulator.script("rate_limited,seconds=6", match="first")
        first = await stack.start({**CONTRACT, "prompt": "The first cup"})
        refused = await until_failed(first, "RateLimited")
        second = await stack.start({**CONTRACT, "prompt": "The second cup"})
        paused = await until_failed(second, "ProviderPaused")
        pages = [await details_of(first), await details_of(second)]
        results = [RunResult.model_validate(await handle.result()) for handle in (first, second)]
        done = [await status_of(first), await status_of(second)]
        signals = event_names(await stack.events(first.id)).count("WORKFLOW_EXECUTION_SIGNALED")
        (attempt, paid), (only,) = stack.attempts(first.id), stack.attempts(second.id)

    error = refused.last_error
    assert error is not None
    assert (refused.stage, refused.attempts, error.failures, error.attempt_id) == (
        "generating",
        1,
        1,
        attempt.attempt_id,
    )
    assert "rate limit" in error.message
    assert error.tried_again_at is not None
    assert (error.tried_again_at - error.failed_at).total_seconds() >= 6
    assert "1 request sent; 1 attempt failed; the next is due at" in pages[0]
    assert "RateLimited: " in pages[0]
    assert paused.last_error is not None
    assert (paused.attempts, paused.last_error.attempt_id) == (0, None)
    assert "Nothing was sent" in paused.last_error.message
    assert "0 requests sent; 1 attempt failed; the next is due at" in pages[1]
    assert [(status.stage, status.last_error) for status in done] == [("completed", None)] * 2
    assert [status.attempts for status in done] == [result.provider.attempts for result in results] == [2, 1]
    assert [paid.outcome, only.outcome] == ["succeeded", "succeeded"]
    assert signals <= 2


async def test_run_waiting_for_the_ledger_shows_that_nothing_was_sent(tmp_path: Path) -> None:
    """A run whose request cannot be written down tells of the ledger, and that nothing was sent, as `show` does; then it is
    carried out.
    """
    async with run_stack(sqlite_url(tmp_path), (tmp_path / "images").as_uri()) as stack:
        with stack.database.writing() as connection:
            connection.execute(
                text(
                    "CREATE TRIGGER away BEFORE INSERT ON provider_attempts"
                    " BEGIN SELECT RAISE(ABORT, 'the ledger is away'); END"
                )
            )
        handle = await stack.start(CONTRACT)

        async def is_told() -> bool:
            return (await status_of(handle)).last_error is not None

        await until(is_told)
        waits = await status_of(handle)
        shown = await type_command(stack, tmp_path, "show", handle.id)
        with stack.database.writing() as connection:
            connection.execute(text("DROP TRIGGER away"))
        result = RunResult.model_validate(await handle.result())

        assert waits.last_error is not None
        assert "the ledger is away" in waits.last_error.message
        assert (waits.attempts, waits.last_error.attempt_id) == (0, None)
        assert (result.billing.state, result.provider.attempts) == ("billed", 1)
        assert "the ledger is away" not in await details_of(handle)
        assert shown.status == 0
        assert "0 requests sent; " in shown.out
        assert "the ledger is away" in shown.out


async def test_failed_run_keeps_its_last_error(stack: Stack) -> None:
    """The status and the page of a run that failed have the failure's type and words, and how many requests were sent."""
    run_id = new_run_id()
    failure = await stack.fail({**CONTRACT, "prompt": "A cup [simulate:moderation_blocked]"}, run_id=run_id)
    handle = stack.client.get_workflow_handle(run_id)
    status, page = await status_of(handle), await details_of(handle)

    (attempt,) = stack.attempts(run_id)
    assert status.last_error is not None
    assert (status.last_error.error_type, status.last_error.message) == ("ContentRefused", failure.message)
    assert (status.attempts, status.last_error.attempt_id) == (1, attempt.attempt_id)
    assert (status.tenant, status.stage, status.last_error.tried_again_at) == ("default", "failed", None)
    assert "1 request sent" in page
    assert page.count("Change the prompt or the images") == 1


async def test_held_run_shows_no_earlier_error_as_its_reason(stack: Stack) -> None:
    """Once a run is held, an earlier error of its call is no reason to wait any more, and counts as a request that was sent."""
    prompt = "A cup that fails in two ways"
    stack.simulator.script("server_error", match=prompt)
    stack.simulator.script("reset_after_payment", match=prompt)
    handle = await stack.start({**CONTRACT, "prompt": prompt, "unknown_outcome": "hold"})
    held = await until_held(handle)
    signals = event_names(await stack.events(handle.id)).count("WORKFLOW_EXECUTION_SIGNALED")
    await decide(handle, {"decision": "give_up", "actor": "ada", "reason": "ticket 7"})
    with pytest.raises(WorkflowFailureError):
        await handle.result()

    assert signals == 1
    assert (held.attempts, held.last_error) == (2, None)
    assert held.open_decision is not None
    assert len(held.open_decision.attempts) == 1


async def test_invalid_failure_signals_change_neither_status_nor_details(stack: Stack) -> None:
    """What is no failure, is too long or comes while nothing is tried moves neither the status nor the page, and stops no run."""
    prompt = "A cup among strangers"
    stack.simulator.script("reset_after_payment", match=prompt)
    stack.simulator.script("delay=3", match=prompt)
    handle = await stack.start({**CONTRACT, "prompt": prompt, "unknown_outcome": "hold"})
    held = await until_held(handle)
    told = FailedAttempt(
        error_type="Made|Up", message="[x](http://bad)", failed_at=datetime.now(UTC), failures=3
    )
    known = told.model_dump(mode="json")

    await handle.signal(names.SIGNAL_ATTEMPT_FAILED, known)  # the run is held
    assert await status_of(handle) == held
    assert held.attempts == 1
    await decide(handle)

    async def is_sent() -> bool:
        return len(stack.attempts(handle.id)) == 2

    await until(is_sent)
    sent = await status_of(handle)
    wrong: list[list[Any]] = [[], [5], [{}], [known] * 2, [raw(b"{")], [{**known, "failures": "x" * 5000}]]
    wrong += [
        [{**known, "message": "a" * 1_000_000}],
        [{**known, "failed_at": "0001-01-01T00:00:00+23:00"}],
        [{**known, "tried_again_at": "9999-12-31T23:59:59-23:00"}],
        [{**known, "failed_at": "2026-11-23T12:00:00"}],
        [{**known, "failures": 10**400}],
    ]
    for arguments in wrong:
        await handle.signal(names.SIGNAL_ATTEMPT_FAILED, args=arguments)
    assert await status_of(handle) == sent
    await handle.signal(names.SIGNAL_ATTEMPT_FAILED, known)
    assert (await status_of(handle)).last_error == told
    assert "Made/Up: (x)(http://bad)" in await details_of(handle)
    result = RunResult.model_validate(await handle.result())

    assert (result.billing.state, result.provider.attempts) == ("billed", 2)
    assert (await status_of(handle)).last_error is None
    assert "WORKFLOW_TASK_FAILED" not in event_names(await stack.events(handle.id))


async def test_run_with_oversize_signals_goes_on_and_is_billed(stack: Stack) -> None:
    """Signals that take a second each to read are not read: a run that has many in its history goes on, and is billed."""
    prompt = "A cup that is shouted at"
    stack.simulator.script("delay=3", match=prompt)
    handle = await stack.start({**CONTRACT, "prompt": prompt})

    async def is_sent() -> bool:
        return len(stack.attempts(handle.id)) == 1

    await until(is_sent)
    shout = raw(b"[" + b",".join([b"{}"] * 640_000) + b"]")
    kinds = (names.SIGNAL_ATTEMPT_FAILED, names.SIGNAL_PARTIAL_IMAGE) * 6
    await asyncio.gather(*(handle.signal(kind, shout) for kind in kinds))
    async with asyncio.timeout(WORST_WAIT_SECONDS):
        result = RunResult.model_validate(await handle.result())

    assert (result.billing.state, result.provider.attempts) == ("billed", 1)
    failures = [
        event.workflow_task_failed_event_attributes.failure.message
        for event in await stack.events(handle.id)
        if event.HasField("workflow_task_failed_event_attributes")
    ]
    assert not any(failures)  # the server may end a task that holds too much back, without a word
