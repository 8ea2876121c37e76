"""Batches of runs on a real Temporal server, databases and HTTP."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError

from gpt_image_runs.batches.lines import BatchLines
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.batches import BatchProgress
from gpt_image_runs.contracts.money import format_usd, parse_usd
from tests.support.runs.batch_runs import (
    CHEAP,
    WORST_WAIT_SECONDS,
    BatchHandle,
    calls_of,
    find,
    name_of,
    new_batch_id,
    results_of,
    start_batch,
    start_requests,
    sum_paid,
    until,
)
from tests.support.servers.stack import Stack, event_names

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def end_of(handle: BatchHandle) -> BatchProgress:
    async with asyncio.timeout(120):
        return BatchProgress.model_validate(await handle.result())


def states_of(stack: Stack, batch_id: str) -> list[str]:
    return [result.state for result in results_of(stack, batch_id)]


async def test_batch_of_sixty_lines_has_sixty_runs_and_bills(any_stack: Stack) -> None:
    """The bills equal the provider's own records."""
    handle = await start_batch(any_stack, [f"Cup number {number}" for number in range(60)])
    ended = await end_of(handle)

    batch_id = name_of(handle)
    calls, results = calls_of(any_stack, batch_id), results_of(any_stack, batch_id)
    assert (ended.state, ended.done, ended.images, ended.running, ended.waiting) == ("done", 60, 60, 0, 0)
    assert [call.paid for call in calls] == [True] * 60
    assert parse_usd(ended.charged_usd) == sum_paid(calls)
    assert (ended.reserved_usd, ended.exposed_usd) == ("0.000000", "0.000000")
    assert [result.line for result in results] == list(range(1, 61))
    assert {result.billing_state for result in results} == {"billed"}
    assert sum(parse_usd(result.charge_usd or "0") for result in results) == sum_paid(calls)
    assert len({picture.sha256 for result in results for picture in result.pictures}) == 60
    found = [run async for run in any_stack.client.list_workflows(f'Batch = "{batch_id}"')]
    assert {run.id for run in found} == {result.run_id for result in results}
    described = await any_stack.client.get_workflow_handle(results[0].run_id or "").describe()
    assert described.raw_description.workflow_execution_info.priority.priority_key == 4


async def test_batch_history_does_not_grow_with_its_lines(stack: Stack) -> None:
    handle = await start_batch(stack, [f"Cup number {number}" for number in range(40)])
    await end_of(handle)

    history = await handle.fetch_history()
    assert len(history.events) <= 30
    assert sum(event.ByteSize() for event in history.events) <= 12_000
    assert "START_CHILD_WORKFLOW_EXECUTION_INITIATED" not in event_names(list(history.events))


async def test_batch_started_again_pays_nothing_and_changed_is_a_conflict(stack: Stack) -> None:
    batch_id = new_batch_id()
    first = await end_of(await start_batch(stack, ["one", "two"], batch_id=batch_id))
    again = await end_of(await start_batch(stack, ["one", "two"], batch_id=batch_id))
    with pytest.raises(WorkflowFailureError) as raised:
        await end_of(await start_batch(stack, ["one", "three"], batch_id=batch_id))

    cause = raised.value.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == names.BATCH_CONFLICT
    assert f"The batch {batch_id} stands for other lines already" in cause.message
    assert (again.state, again.charged_usd, again.done) == ("done", first.charged_usd, 2)
    assert len(calls_of(stack, batch_id)) == 2


async def test_window_limits_the_runs_under_way(stack: Stack) -> None:
    prompts = [f"Cup number {number} [simulate:delay=0.3]" for number in range(12)]
    handle = await start_batch(stack, prompts, window=3)
    batch_id, most = name_of(handle), 0
    while not ((progress := find(stack, batch_id)) and progress.has_ended):
        most = max(most, progress.running if progress else 0)
        await asyncio.sleep(0.02)

    assert 1 <= most <= 3
    assert progress.done == 12


async def test_paused_batch_starts_nothing_until_it_is_resumed(stack: Stack) -> None:
    prompts = [f"Cup number {number} [simulate:delay=0.2]" for number in range(16)]
    handle = await start_batch(stack, prompts, window=2)
    batch_id = name_of(handle)
    await until(stack, batch_id, lambda progress: progress.done >= 2)

    await handle.signal(names.SIGNAL_PAUSE)
    paused = await until(
        stack, batch_id, lambda progress: progress.state == "paused" and not progress.running
    )
    async with asyncio.timeout(
        WORST_WAIT_SECONDS
    ):  # the query tells what the database says once a step has ended
        while (await handle.query(names.QUERY_PROGRESS))["state"] != "paused":
            await asyncio.sleep(0.05)
    sent = len(calls_of(stack, batch_id))
    await asyncio.sleep(2)  # nothing can be awaited that is not to happen

    assert paused.waiting > 0
    assert len(calls_of(stack, batch_id)) == sent == paused.done
    await handle.signal(names.SIGNAL_RESUME)
    assert (await end_of(handle)).done == 16
    assert len(calls_of(stack, batch_id)) == 16


@pytest.mark.parametrize("by", ["signal", "web-ui"])
async def test_cancelled_batch_bills_what_was_sent_and_can_continue(stack: Stack, by: str) -> None:
    prompts = [f"Cup number {number} [simulate:delay=6]" for number in range(60)]
    handle = await start_batch(stack, prompts, window=50)
    batch_id = name_of(handle)
    # All runs of the first chunk exist, and more of them than can be sent at once.
    lines = BatchLines(stack.database, batch_id)
    while stack.simulator.in_progress < stack.settings.provider_concurrency or not lines.list_running():
        await asyncio.sleep(0.02)

    await (handle.signal(names.SIGNAL_CANCEL) if by == "signal" else handle.cancel())
    ended = await end_of(handle)

    calls = calls_of(stack, batch_id)
    assert (ended.state, ended.running) == ("cancelled", 0)
    assert ended.done + ended.cancelled + ended.waiting == 60
    assert ended.waiting > 0
    assert ended.cancelled > 0
    assert len(calls) == ended.done < 60
    assert parse_usd(ended.charged_usd) == sum_paid(calls)
    going_on = await end_of(
        await start_batch(stack, prompts, batch_id=batch_id, round=2, retry="unpaid", window=50)
    )
    assert (going_on.state, going_on.done, going_on.cancelled) == ("done", 60, 0)
    assert sum(call.paid for call in calls_of(stack, batch_id)) == 60


async def test_cost_limit_holds_and_a_higher_one_continues(any_stack: Stack) -> None:
    batch_id, prompts = new_batch_id(), [f"Cup number {number}" for number in range(30)]
    limit = 70_000
    first = await end_of(
        await start_batch(any_stack, prompts, batch_id=batch_id, max_cost_usd=format_usd(limit))
    )

    paid = sum_paid(calls_of(any_stack, batch_id))
    assert (first.state, first.running, first.failed) == ("capped", 0, 0)
    (attempt,) = any_stack.attempts(results_of(any_stack, batch_id)[0].run_id or "")
    assert paid == parse_usd(first.charged_usd) <= limit
    assert paid + (attempt.reserved_micro_usd or 0) > limit
    assert first.done + first.waiting == 30
    again = await end_of(
        await start_batch(any_stack, prompts, batch_id=batch_id, max_cost_usd=format_usd(limit * 10))
    )
    assert (again.state, again.done) == ("done", 30)
    assert len(calls_of(any_stack, batch_id)) == 30


async def test_lost_answer_counts_against_the_limit(stack: Stack) -> None:
    batch_id = new_batch_id()
    prompts = [f"Lost cup of {batch_id}", *(f"Cup number {number}" for number in range(9))]
    for _ in range(3):
        stack.simulator.script("reset_after_payment", match=prompts[0])
    ended = await end_of(
        await start_batch(stack, prompts, batch_id=batch_id, window=1, max_cost_usd="0.050000")
    )

    assert (ended.state, ended.failed, ended.unknown) == ("capped", 1, 3)
    assert parse_usd(ended.exposed_usd) > 3 * 5_000
    assert sum_paid(calls_of(stack, batch_id)) <= 50_000
    assert parse_usd(ended.charged_usd) + parse_usd(ended.exposed_usd) <= 50_000


async def test_fail_fast_stops_after_a_failure(stack: Stack) -> None:
    prompts = ["one", "two [simulate:moderation_blocked]", "three", "four"]
    patient = await end_of(await start_batch(stack, prompts, window=1))
    hasty_handle = await start_batch(stack, prompts, window=1, fail_fast=True)
    hasty = await end_of(hasty_handle)

    assert (patient.state, patient.done, patient.failed) == ("done", 3, 1)
    assert (hasty.state, hasty.done, hasty.failed, hasty.waiting) == ("stopped", 1, 1, 2)
    assert states_of(stack, name_of(hasty_handle)) == ["done", "failed", "waiting", "waiting"]
    failed = results_of(stack, name_of(hasty_handle))[1]
    assert failed.error_type == "ContentRefused"
    assert len(calls_of(stack, name_of(hasty_handle))) == 2


async def test_retry_starts_unpaid_lines_and_unknown_ones_only_when_asked(any_stack: Stack) -> None:
    stack, batch_id = any_stack, new_batch_id()
    prompts = [f"{word} cup of {batch_id}" for word in ("Sound", "Blocked", "Lost")]
    stack.simulator.script("moderation_blocked", match=prompts[1])
    for _ in range(3):
        stack.simulator.script("reset_after_payment", match=prompts[2])
    rounds: list[dict[str, Any]] = [
        {},
        {"round": 2, "retry": "unpaid"},
        {"round": 3, "retry": "unknown"},
        {"round": 3, "retry": "unknown"},
    ]
    ends = [
        await end_of(await start_batch(stack, prompts, batch_id=batch_id, **options)) for options in rounds
    ]

    assert [(end.done, end.failed, end.unknown) for end in ends] == [
        (1, 2, 3),
        (2, 1, 3),
        (3, 0, 3),
        (3, 0, 3),
    ]
    assert [end.round for end in ends] == [1, 2, 3, 3]
    calls = calls_of(stack, batch_id)
    per_line = [
        sum(f"{batch_id}-{line:06d}" in str(call.client_request_id) for call in calls) for line in (1, 2, 3)
    ]
    assert per_line == [1, 2, 4]
    assert [result.run_id for result in results_of(stack, batch_id)] == [
        f"image:default:{batch_id}-000001",
        f"image:default:{batch_id}-000002",
        f"image:default:{batch_id}-000003.3",
    ]


async def test_existing_run_is_attached_unless_its_content_differs(stack: Stack) -> None:
    batch_id = new_batch_id()
    before = {**CHEAP, "prompt": "A cup", "request_id": f"{batch_id}-before"}
    running = {**CHEAP, "prompt": "A slow cup [simulate:delay=2]", "request_id": f"{batch_id}-running"}
    await stack.run(before, run_id=f"image:default:{batch_id}-before")
    slow = await stack.start(running, run_id=f"image:default:{batch_id}-running")
    handle = await start_requests(
        stack, [before, running, {**before, "prompt": "Another"}], batch_id=batch_id
    )
    ended = await end_of(handle)
    await slow.result()

    assert (ended.state, ended.done, ended.failed) == ("done", 2, 1)
    assert len(calls_of(stack, batch_id)) == 2
    (conflict,) = [result for result in results_of(stack, batch_id) if result.state == "failed"]
    assert (conflict.line, conflict.error_type, conflict.charge_usd) == (3, "RunConflict", None)
    assert "stands for other content already" in (conflict.error or "")


async def start_foreign(
    stack: Stack, request: dict[str, Any], delay: timedelta = timedelta(hours=2)
) -> WorkflowHandle[Any, Any]:
    """Start an execution under the request's id that has done nothing yet."""
    return await stack.client.start_workflow(
        names.WORKFLOW,
        {**request, "prompt": "A plate of somebody else"},
        id=f"image:default:{request['request_id']}",
        task_queue=names.RUNS_QUEUE,
        start_delay=delay,
    )


async def until_found_foreign(stack: Stack, batch_id: str) -> None:
    """Wait until the batch has tried to start its line beside the open execution."""
    await until(stack, batch_id, lambda progress: progress.running == 1)
    # Its second line is started together with the first, and ends.
    await until(stack, batch_id, lambda progress: progress.done == 1 or progress.failed > 0)


@pytest.mark.parametrize("owned", [True, False], ids=["owned", "free"])
async def test_line_waits_for_an_open_execution_of_other_content(any_stack: Stack, *, owned: bool) -> None:
    """The ledger, not the execution, says whose the request id is."""
    stack, batch_id = any_stack, new_batch_id()
    line = {**CHEAP, "prompt": f"A cup of {batch_id}", "request_id": f"{batch_id}-owned"}
    if owned:
        stack.simulator.script("moderation_blocked", match=line["prompt"])
        await stack.fail(line, run_id=f"image:default:{batch_id}-owned")
    foreign = await start_foreign(stack, line)
    handle = await start_requests(stack, [line, {**CHEAP, "prompt": "Another cup"}], batch_id=batch_id)
    await until_found_foreign(stack, batch_id)
    progress = find(stack, batch_id)
    assert progress
    assert (progress.done, progress.failed) == (1, 0)
    await foreign.terminate()

    ended = await end_of(handle)

    assert (ended.state, ended.done, ended.failed) == ("done", 2, 0)
    assert len(stack.entries(foreign.id)) == 1


async def test_billed_line_does_not_wait_for_an_execution_of_other_content(stack: Stack) -> None:
    batch_id = new_batch_id()
    line = {**CHEAP, "prompt": "A cup that is billed", "request_id": f"{batch_id}-billed"}
    await stack.run(line, run_id=f"image:default:{batch_id}-billed")
    foreign = await start_foreign(stack, line)
    ended = await end_of(await start_requests(stack, [line], batch_id=batch_id))
    await foreign.terminate()

    assert (ended.state, ended.done, ended.failed) == ("done", 1, 0)
    assert len(stack.calls(foreign.id)) == 1


async def test_line_whose_request_id_is_claimed_meanwhile_is_refused(stack: Stack) -> None:
    batch_id = new_batch_id()
    line = {**CHEAP, "prompt": "A cup that comes too late", "request_id": f"{batch_id}-late"}
    foreign = await start_foreign(stack, line, timedelta(seconds=3))
    ended = await end_of(
        await start_requests(stack, [line, {**CHEAP, "prompt": "Another cup"}], batch_id=batch_id)
    )
    await foreign.result()

    assert (ended.state, ended.done, ended.failed) == ("done", 1, 1)
    (conflict,) = [result for result in results_of(stack, batch_id) if result.state == "failed"]
    assert conflict.error_type == names.RUN_CONFLICT
    assert len(stack.calls(foreign.id)) == 1


async def test_cancelled_batch_leaves_runs_of_others_running(stack: Stack) -> None:
    batch_id = new_batch_id()
    theirs = {**CHEAP, "prompt": "Their cup [simulate:delay=4]", "request_id": f"{batch_id}-theirs"}
    run = await stack.start(theirs, run_id=f"image:default:{batch_id}-theirs")
    while not stack.calls(run.id) and not stack.simulator.in_progress:
        await asyncio.sleep(0.02)
    handle = await start_requests(stack, [theirs], batch_id=batch_id)
    await until(stack, batch_id, lambda progress: progress.running == 1)
    await asyncio.sleep(1)  # the line is reserved first, and then attached to the run
    await handle.signal(names.SIGNAL_CANCEL)
    ended = await end_of(handle)
    result = await run.result()

    assert (ended.state, ended.cancelled, ended.running) == ("cancelled", 1, 0)
    assert results_of(stack, batch_id)[0].error_type == "LeftToOthers"
    assert result["status"] == "completed"
    assert len(calls_of(stack, batch_id)) == 1


async def test_terminated_run_fails_its_line_only(stack: Stack) -> None:
    prompts = [f"Cup {name} [simulate:delay=4]" for name in ("one", "two", "three")]
    handle = await start_batch(stack, prompts)
    batch_id = name_of(handle)
    await until(stack, batch_id, lambda progress: progress.running == 3)
    while stack.simulator.in_progress < 3:
        await asyncio.sleep(0.02)
    await stack.client.get_workflow_handle(f"image:default:{batch_id}-000001").terminate()
    ended = await end_of(handle)

    assert (ended.state, ended.done, ended.failed) == ("done", 2, 1)
    assert results_of(stack, batch_id)[0].error_type == "Terminated"
    again = await end_of(await start_batch(stack, prompts, batch_id=batch_id, round=2, retry="unknown"))
    assert (again.done, again.failed) == (3, 0)
    assert sum(call.paid for call in calls_of(stack, batch_id)) == 3


async def test_batch_continues_as_new_without_repeating_anything(stack: Stack) -> None:
    prompts = [f"Cup number {number} [simulate:delay=0.5]" for number in range(20)]
    handle = await start_batch(stack, prompts, window=1, step_seconds=1, longest_history=20)
    batch_id = name_of(handle)
    await until(stack, batch_id, lambda progress: progress.done >= 4)
    await handle.signal(names.SIGNAL_PAUSE)
    await until(stack, batch_id, lambda progress: progress.state == "paused")
    await stack.client.get_workflow_handle(handle.id).signal(names.SIGNAL_RESUME)
    ended = await end_of(handle)

    runs = [run async for run in stack.client.list_workflows(f'WorkflowId = "{handle.id}"')]
    assert sum(run.status is WorkflowExecutionStatus.CONTINUED_AS_NEW for run in runs) >= 2
    assert max(run.history_length for run in runs) < 60
    assert (ended.state, ended.done) == ("done", 20)
    assert len(calls_of(stack, batch_id)) == 20


@pytest.mark.parametrize(
    ("order", "why"),
    [
        (None, "The batch is None, not a JSON object."),
        ({"batch_id": "x"}, "digest is absent; allowed: the SHA-256"),
        ({"batch_id": "a b", "digest": "0" * 64, "lines": 1, "pages": 1}, "batch_id is 'a b'; allowed: 1 to 64"),
        ({"batch_id": "x", "digest": "0" * 64, "lines": 1, "pages": 1, "window": 0}, "window is 0; allowed: runs"),
        ({"batch_id": "x", "digest": "0" * 64, "lines": 1, "pages": 1, "windwo": 1}, "'windwo' is 1; allowed: nothing"),
        ({"batch_id": "x", "digest": "0" * 64, "lines": 1, "pages": 1, "max_cost_usd": "1"}, "max_cost_usd is '1'"),
    ],
)  # fmt: skip
async def test_invalid_order_is_refused_with_every_problem(stack: Stack, order: Any, why: str) -> None:
    handle = await stack.client.start_workflow(
        names.BATCH, order, id=f"batch:{new_batch_id()}", task_queue=names.RUNS_QUEUE
    )
    with pytest.raises(WorkflowFailureError) as raised:
        await handle.result()

    cause = raised.value.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == names.REQUEST_REFUSED
    assert why in cause.message
