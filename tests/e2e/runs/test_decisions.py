"""Runs that are held after an unknown outcome, until somebody decides: nothing is sent before, and once after."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.api.common.v1 import Payload
from temporalio.client import (
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowUpdateFailedError,
)
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError, CancelledError

from gpt_image_runs.billing.records import AttemptOutcome
from gpt_image_runs.billing.recovery.receipts import update_outcome
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.decisions import Decision, DecisionTaken
from gpt_image_runs.contracts.result import RunResult
from tests.support.files.picture_files import make_picture
from tests.support.runs.run_states import GIVE_UP, RESEND, decide, held, status_of, until, until_held
from tests.support.servers.stack import CONTRACT, Stack, event_names, new_run_id, run_stack, sqlite_url

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOT_HELD = "The run is not held"


async def refuse(handle: WorkflowHandle[Any, Any], *arguments: Any) -> str:
    """Send an Update that must be rejected, and return why."""
    with pytest.raises(WorkflowUpdateFailedError) as raised:
        await handle.execute_update(names.UPDATE_DECIDE, args=list(arguments))
    cause = raised.value.cause
    assert isinstance(cause, ApplicationError)
    return cause.message


async def list_waiting(stack: Stack, run_id: str) -> list[str]:
    """List the runs that wait for a decision, as an operator does."""
    query = f'WaitsFor = "decision" AND WorkflowId = "{run_id}"'
    return [execution.id async for execution in stack.client.list_workflows(query)]


async def test_held_run_sent_again_is_billed_once(any_stack: Stack) -> None:
    """A run whose paid answer was lost sends nothing until somebody decides; then it pays once more, and bills once."""
    any_stack.simulator.script("reset_after_payment", match="A cup in doubt")
    handle = await any_stack.start(held("A cup in doubt"))
    status = await until_held(handle)

    (lost,) = any_stack.attempts(handle.id)
    assert status.stage == "held"
    assert status.open_decision is not None
    (attempt,) = status.open_decision.attempts
    assert (attempt.attempt_id, attempt.client_request_id) == (lost.attempt_id, lost.client_request_id)
    assert (attempt.error_type, attempt.reserved_usd) == ("AnswerLost", "0.167540")
    assert status.open_decision.at_most_usd == "0.167540"
    assert "1 request was sent whose outcome is unknown: it may have cost up to 0.167540 USD." in (
        status.reason or ""
    )
    assert len(any_stack.calls(handle.id)) == 1

    taken = await decide(handle)
    result = RunResult.model_validate(await handle.result())

    assert (taken.run_id, taken.decision, taken.stage) == (handle.id, "resend", "generating")
    assert [call.paid for call in any_stack.calls(handle.id)] == [True, True]
    assert [attempt.outcome for attempt in any_stack.attempts(handle.id)] == ["unknown", "succeeded"]
    assert result.provider.attempts == 2
    (entry,) = any_stack.entries(handle.id)
    assert entry.attempt_id == any_stack.attempts(handle.id)[1].attempt_id
    assert "Sent again by ada: ticket 7" in (await status_of(handle)).warnings


async def test_held_run_given_up_fails_with_its_exposure(any_stack: Stack) -> None:
    """A held run that is given up fails with the exposure, the actor and the reason; its attempt stays unknown."""
    any_stack.simulator.script("reset_after_payment", match="A cup for nothing")
    handle = await any_stack.start(held("A cup for nothing"))
    await until_held(handle)
    taken = await decide(handle, GIVE_UP)
    with pytest.raises(WorkflowFailureError) as raised:
        await handle.result()

    failure = raised.value.cause
    assert isinstance(failure, ApplicationError)
    (attempt,) = any_stack.attempts(handle.id)
    assert (taken.decision, taken.stage) == ("give_up", "failed")
    assert failure.type == "GivenUp"
    assert "up to 0.167" in failure.message
    assert f"The attempts are {attempt.attempt_id}. Given up by ada: ticket 7" in failure.message
    assert failure.details[0]["attempts"][0]["attempt_id"] == attempt.attempt_id
    assert failure.details[1] == GIVE_UP
    assert attempt.outcome == "unknown"
    assert len(any_stack.calls(handle.id)) == 1
    assert any_stack.entries(handle.id) == ()
    status = await status_of(handle)
    assert (status.stage, status.open_decision) == ("failed", None)


async def test_given_up_run_submitted_again_is_held_before_it_sends(stack: Stack) -> None:
    """What may have been paid for is not forgotten: the same request again is held before it sends anything."""
    stack.simulator.script("reset_after_payment", match="A cup taken up again")
    payload, run_id = held("A cup taken up again"), new_run_id()
    first = await stack.start(payload, run_id=run_id)
    await until_held(first)
    await decide(first, GIVE_UP)
    with pytest.raises(WorkflowFailureError):
        await first.result()

    again = await stack.start(payload, run_id=run_id)
    await until_held(again)
    assert len(stack.calls(run_id)) == 1
    await decide(again)

    assert RunResult.model_validate(await again.result()).billing.state == "billed"
    assert len(stack.calls(run_id)) == 2


@pytest.mark.parametrize("fault", ["malformed_json", "gateway_timeout=true", "request_timeout", "truncated"])
async def test_every_unknown_outcome_holds_the_run(stack: Stack, fault: str) -> None:
    """Whatever leaves the outcome unknown holds the run at once, also where trying again by itself would be hopeless."""
    prompt = f"A cup after {fault}"
    stack.simulator.script(fault, match=prompt)
    handle = await stack.start(held(prompt))
    await until_held(handle)

    assert len(stack.attempts(handle.id)) == 1
    await decide(handle)
    assert RunResult.model_validate(await handle.result()).billing.state == "billed"


async def test_second_unknown_outcome_holds_the_run_again(stack: Stack) -> None:
    """A decision allows one request: where that is lost too, the run is held again, and both are told."""
    stack.simulator.script("reset_after_payment", "server_error", "truncated", match="A cup in doubt again")
    handle = await stack.start(held("A cup in doubt again"))
    await until_held(handle)
    await decide(handle)
    status = await until_held(handle, attempts=2)

    outcomes = [attempt.outcome for attempt in stack.attempts(handle.id)]
    assert outcomes == ["unknown", "rejected", "unknown"]
    assert status.open_decision is not None
    assert [attempt.error_type for attempt in status.open_decision.attempts] == ["AnswerLost", "AnswerLost"]
    assert "2 requests were sent whose outcome is unknown" in status.open_decision.message
    await decide(handle)

    assert RunResult.model_validate(await handle.result()).provider.attempts == 4
    assert len(stack.entries(handle.id)) == 1


async def test_held_run_is_found_by_waits_for(stack: Stack) -> None:
    """While a run waits for a decision it is found by the search attribute WaitsFor, and by no other query after."""
    stack.simulator.script("reset_after_payment", match="A cup that is looked for")
    handle = await stack.start(held("A cup that is looked for"))
    await until_held(handle)

    async def is_listed() -> bool:
        return await list_waiting(stack, handle.id) == [handle.id]

    async def is_not_listed() -> bool:
        return await list_waiting(stack, handle.id) == []

    await until(is_listed)
    await decide(handle)
    await handle.result()
    await until(is_not_listed)


async def test_held_run_adds_no_history_events(stack: Stack) -> None:
    """A held run has no timer and no activity; looking at it and refused decisions leave no event."""
    stack.simulator.script("reset_after_payment", match="A cup that rests")
    handle = await stack.start(held("A cup that rests"))
    await until_held(handle)
    before = event_names(await stack.events(handle.id))
    for _ in range(3):
        await refuse(handle, {**RESEND, "decision": "wait"})
        await status_of(handle)

    assert event_names(await stack.events(handle.id)) == before
    assert "TIMER_STARTED" not in before
    assert (await handle.describe()).raw_description.pending_activities == []
    await decide(handle)
    await handle.result()
    assert sum(event.ByteSize() for event in await stack.events(handle.id)) < 16_000


async def test_decision_on_a_run_that_is_not_held_is_rejected(stack: Stack) -> None:
    """A decision is refused, without a trace, before a run is held, after it was decided on, and where it never is held."""
    stack.simulator.script("delay=1", match="A cup that is fine")
    handle = await stack.start(held("A cup that is fine"))

    async def is_sent() -> bool:
        return len(stack.attempts(handle.id)) == 1

    await until(is_sent)
    assert NOT_HELD in await refuse(handle, RESEND)
    assert (await status_of(handle)).stage == "generating"
    assert RunResult.model_validate(await handle.result()).provider.attempts == 1

    stack.simulator.script("reset_after_payment", "delay=3", match="A cup decided on")
    second = await stack.start(held("A cup decided on"))
    await until_held(second)
    # Whichever comes first is taken. Were one to give the run up, it might end before the other is heard at all.
    answers = await asyncio.gather(decide(second), decide(second), return_exceptions=True)
    (taken,) = [answer for answer in answers if isinstance(answer, DecisionTaken)]
    (refused,) = [answer for answer in answers if isinstance(answer, WorkflowUpdateFailedError)]
    assert taken.decision == "resend"
    assert NOT_HELD in str(refused.cause)
    assert RunResult.model_validate(await second.result()).provider.attempts == 2
    for run, accepted in ((handle, 0), (second, 1)):
        kinds = event_names(await stack.events(run.id))
        assert kinds.count("WORKFLOW_EXECUTION_UPDATE_ACCEPTED") == accepted


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "The decision is None, not a JSON object."),
        (("resend",), "The decision is 'resend', not a JSON object."),
        (([RESEND],), "The decision is a list of 1, not a JSON object."),
        (({},), "decision is absent; allowed: resend or give_up. reason is absent; allowed: "),
        (({**RESEND, "decision": "retry"},), "decision is 'retry'; allowed: resend or give_up."),
        (({**RESEND, "decision": True},), "decision is true; allowed: resend or give_up."),
        (({**RESEND, "actor": ""},), "actor is ''; allowed: who decides"),
        (({**RESEND, "actor": "a" * 129},), "actor is 'aaa"),
        (({**RESEND, "actor": {"name": "ada"}},), "actor is an object of 1; allowed: who decides"),
        (({**RESEND, "reason": " \n"},), "reason is ' \\n'; allowed: a text of 1 to 500 characters"),
        (({**RESEND, "reason": "x" * 501},), "reason is 'xxx"),
        (({**RESEND, "reason": "\x1b[2J"},), "reason is '\\x1b[2J'; allowed: "),
        ((RESEND, RESEND), "The Update decide takes one argument, and 2 were given."),
        ((RESEND, 1, 2), "The Update decide takes one argument, and 3 were given."),
    ],
)
async def test_malformed_decision_is_rejected(
    held_run: WorkflowHandle[Any, Any], arguments: Any, why: str
) -> None:
    """What is no decision is refused in words, and the run waits on."""
    assert (await refuse(held_run, *arguments)).startswith(why)
    assert (await status_of(held_run)).stage == "held"


@pytest.mark.parametrize(
    "payload",
    [
        Payload(metadata={"encoding": b"json/plain"}, data=b"{"),
        Payload(metadata={"encoding": b"json/plain"}, data=b'{"decision": "resend", "decision": "give_up"}'),
        Payload(metadata={"encoding": b"json/plain"}, data=b"[" * 100_000),
        Payload(metadata={"encoding": b"json/plain"}, data=b'{"decision": NaN}'),
        Payload(
            metadata={"encoding": b"json/plain"},
            data=json.dumps({**RESEND, "reason": "?"}).encode().replace(b"?", b"\\ud800"),
        ),
        Payload(metadata={"encoding": b"json/plain"}, data=b"\xff\xfe"),
        Payload(metadata={"encoding": b"binary/plain"}, data=b"resend"),
        Payload(metadata={"encoding": b"binary/protobuf", "messageType": b"x.Y"}, data=b"\x00"),
        Payload(metadata={}, data=b"resend"),
    ],
)
async def test_decision_that_is_not_json_is_rejected(
    held_run: WorkflowHandle[Any, Any], payload: Payload
) -> None:
    """Bytes of any kind, alone or beside a decision, are refused; the workflow's task does not fail by them."""
    assert await refuse(held_run, RawValue(payload))
    assert await refuse(held_run, RESEND, RawValue(payload))
    assert (await status_of(held_run)).stage == "held"
    assert "WORKFLOW_TASK_FAILED" not in event_names(list((await held_run.fetch_history()).events))


async def test_held_run_takes_a_decision_after_rejected_ones(
    stack: Stack, held_run: WorkflowHandle[Any, Any]
) -> None:
    """After all that was refused, a decision is taken as ever."""
    await decide(held_run, Decision(decision="resend", actor="ada", reason="ticket 7"))

    assert RunResult.model_validate(await held_run.result()).billing.state == "billed"
    assert len(stack.calls(held_run.id)) == 2


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def held_run(stack: Stack) -> WorkflowHandle[Any, Any]:
    """Start a run and wait until it is held."""
    stack.simulator.script("reset_after_payment", match="A cup that is held")
    handle = await stack.start(held("A cup that is held"))
    await until_held(handle)
    return handle


async def test_held_run_that_is_cancelled_sends_nothing(stack: Stack) -> None:
    """A held run that is cancelled ends as cancelled: nothing is sent, nothing waits, its attempt stays unknown."""
    stack.simulator.script("reset_after_payment", match="A cup that is let go")
    handle = await stack.start(held("A cup that is let go"))
    await until_held(handle)
    await handle.cancel()
    with pytest.raises(WorkflowFailureError) as raised:
        await handle.result()

    assert isinstance(raised.value.cause, CancelledError)
    assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED
    assert (await handle.describe()).typed_search_attributes.get(names.WAITS_FOR) is None
    status = await status_of(handle)
    assert (status.stage, status.open_decision) == ("cancelled", None)
    assert [attempt.outcome for attempt in stack.attempts(handle.id)] == ["unknown"]
    assert len(stack.calls(handle.id)) == 1


async def test_run_cancelled_during_a_lost_call_is_not_held(stack: Stack) -> None:
    """A run that is cancelled while its call is under way waits for nobody's decision when the answer is lost."""
    stack.simulator.script("reset_after_payment,delay_seconds=1", match="A cup let go before")
    handle = await stack.start(held("A cup let go before"))

    async def is_sent() -> bool:
        return len(stack.attempts(handle.id)) == 1

    await until(is_sent)
    await handle.cancel()
    with pytest.raises(WorkflowFailureError) as raised:
        await handle.result()

    assert isinstance(raised.value.cause, CancelledError)
    assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED
    assert len(stack.calls(handle.id)) == 1


async def test_unknown_outcome_setting_holds_runs_without_the_option(tmp_path: Path) -> None:
    """UNKNOWN_OUTCOME=hold holds runs whose request does not say; a request that says resend is sent again."""
    async with run_stack(
        sqlite_url(tmp_path), (tmp_path / "images").as_uri(), unknown_outcome="hold"
    ) as stack:
        stack.simulator.script("reset_after_payment", match="A cup by the setting")
        stack.simulator.script("reset_after_payment", match="A cup by its request")
        handle = await stack.start({**CONTRACT, "prompt": "A cup by the setting"})
        other = await stack.run({**CONTRACT, "prompt": "A cup by its request", "unknown_outcome": "resend"})
        await until_held(handle)

        assert other.provider.attempts == 2
        assert len(stack.calls(handle.id)) == 1
        await decide(handle)
        await handle.result()


async def test_late_answer_of_a_held_run_is_billed_without_another_call(stack: Stack) -> None:
    """Where the answer turns up while a run is held, the decision to send again finds and bills it: nothing is sent."""
    stack.simulator.script("reset_after_payment", match="A cup that turns up")
    handle = await stack.start(held("A cup that turns up"))
    await until_held(handle)
    (lost,) = stack.attempts(handle.id)
    image = await stack.store.put_image(make_picture("PNG", (1024, 1024)))
    answered = AttemptOutcome(
        outcome="succeeded",
        finished_at=datetime.now(UTC),
        images=(image.model_dump(mode="json"),),
        response={"usage": {"input_tokens": 50, "output_tokens": 4160}},
    )
    await update_outcome(stack.store, handle.id, lost.attempt_id, answered)
    await decide(handle)
    result = RunResult.model_validate(await handle.result())

    assert (result.cost.amount_usd, result.provider.attempts) == ("0.166900", 1)
    assert [attempt.outcome for attempt in stack.attempts(handle.id)] == ["succeeded"]
    assert len(stack.calls(handle.id)) == 1
