"""The Update `submit`, sent with a start: each submission gets its receipt in one round trip, and nothing is paid twice."""

import asyncio
import uuid
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from activities.check_request import RequestChecker
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.calls import Admission, CheckInput
from gpt_image_runs.contracts.names import SUBMISSION
from gpt_image_runs.contracts.submissions import Difference, SubmitReceipt
from tests.support.runs.run_states import WORST_WAIT_SECONDS, decide, raw, until_held
from tests.support.runs.submissions import rename, submit, until_looked_up
from tests.support.servers.stack import (
    Stack,
    activities_in,
    event_names,
    new_run_id,
    run_application,
    run_stack,
    run_temporal,
    sqlite_url,
)
from workflows import submissions as reception

pytestmark = pytest.mark.asyncio(loop_scope="session")

REQUEST = {"model": "gpt-image-2", "prompt": "A lighthouse at dawn", "size": "1024x1024", "quality": "low"}
# 196 tokens of a picture at 30 micro-USD and at most 120 of input at 8: the prompt's 20 bytes and 100 around it.
CEILING = "0.006840"
OTHER = {**REQUEST, "prompt": "A lighthouse at noon", "quality": "high"}
DIFFERENCES = (
    Difference(field="prompt", earlier="a text of 20 characters", submitted="a text of 20 characters"),
    Difference(field="quality", earlier="'low'", submitted="'high'"),
)


def make_lost(stack: Stack, prompt: str) -> dict[str, Any]:
    """Make a request whose first answer is lost: its run stays held as long as a test wants."""
    stack.simulator.script("reset_after_payment", match=prompt)
    return {**REQUEST, "prompt": prompt, "unknown_outcome": "hold"}


async def start_held(stack: Stack, prompt: str) -> tuple[str, dict[str, Any], WorkflowHandle[Any, Any]]:
    """Start a run without a submission and wait until it is held."""
    run_id, payload = new_run_id(), make_lost(stack, prompt)
    handle = await stack.start(payload, run_id=run_id)
    await until_held(handle)
    return run_id, payload, handle


async def finish(handle: WorkflowHandle[Any, Any]) -> Any:
    """Decide on a held run and return its result."""
    await decide(handle, {"decision": "resend", "actor": "ada", "reason": "ticket 7"})
    return await handle.result()


async def test_new_request_is_accepted_with_its_worst_case(any_stack: Stack) -> None:
    """The first submission is accepted with its worst case, before anything is sent; the workflow's result is the result."""
    run_id = new_run_id()

    receipt, handle = await submit(any_stack.client, REQUEST, run_id)

    assert (receipt.status, receipt.run_id, receipt.model) == ("accepted", run_id, "gpt-image-2")
    assert (receipt.price_ceiling_usd, receipt.paid_before) == (CEILING, False)
    result = await handle.result()
    assert result["run_id"] == run_id
    assert len(any_stack.calls(run_id)) == len(any_stack.entries(run_id)) == 1
    assert activities_in(await any_stack.events(run_id))[:3] == [
        ("check_request", "local"),
        ("find_earlier_run", "local"),
        ("call_gpt_image", "scheduled"),
    ]


async def test_same_update_id_gets_the_same_receipt(stack: Stack) -> None:
    """A client that lost the answer and asks again under the update's id is answered as before: it has started the run."""
    run_id = new_run_id()
    first, handle = await submit(stack.client, REQUEST, run_id, update_id="one-call")
    again, _ = await submit(stack.client, REQUEST, run_id, update_id="one-call")

    assert first.status == "accepted"
    assert again == first
    await handle.result()
    assert len(stack.calls(run_id)) == 1


async def test_update_id_of_other_content_gets_the_first_receipt(stack: Stack) -> None:
    """Temporal answers an update id that it knows by itself, be it of other content: that is why docs/how-to/integrate.md wants a new one."""
    run_id = new_run_id()
    first, handle = await submit(stack.client, REQUEST, run_id, update_id="used-again")
    await handle.result()

    again, _ = await submit(stack.client, OTHER, run_id, update_id="used-again")

    assert again == first
    assert len(stack.calls(run_id)) == 1


async def test_submission_to_a_running_run_attaches_or_conflicts(stack: Stack) -> None:
    """The same content attaches, whoever has started the run; other content is told what differs, with values and no prompt."""
    run_id, payload, handle = await start_held(stack, "A cup that is under way")
    other = {**payload, "prompt": "A cup that is secret", "quality": "high"}

    attached, _ = await submit(stack.client, {**payload, "request_id": run_id.split(":")[2]}, run_id)
    conflict, _ = await submit(stack.client, other, run_id)

    assert (attached.status, attached.paid_before, attached.run_id) == ("attached", False, run_id)
    assert attached.price_ceiling_usd is not None
    assert (conflict.status, conflict.price_ceiling_usd) == ("conflict", None)
    assert [difference.field for difference in conflict.differences] == ["prompt", "quality"]
    assert conflict.differences[1] == DIFFERENCES[1]
    assert "other in prompt, quality" in conflict.message
    assert "secret" not in conflict.model_dump_json()
    await finish(handle)
    assert len(stack.calls(run_id)) == 2  # the lost one, and the one that was decided on
    assert len(stack.entries(run_id)) == 1


async def test_submission_to_an_ended_run_gets_its_result_or_a_conflict(any_stack: Stack) -> None:
    """The same content gets the result that was paid; other content is a conflict, as the ledger remembers it."""
    run_id = new_run_id()
    _, handle = await submit(any_stack.client, REQUEST, run_id)
    first = await handle.result()

    attached, again = await submit(any_stack.client, REQUEST, run_id)
    assert (attached.status, attached.paid_before) == ("attached", True)
    assert await again.result() == first

    conflict, refused = await submit(any_stack.client, OTHER, run_id)
    assert conflict.status == "conflict"
    assert conflict.differences == tuple(
        difference.model_copy(update={"earlier": None}) for difference in DIFFERENCES
    )
    with pytest.raises(WorkflowFailureError) as failed:
        await refused.result()
    assert isinstance(failed.value.cause, ApplicationError)
    assert (failed.value.cause.type, failed.value.cause.message) == ("RunConflict", conflict.message)
    assert len(any_stack.calls(run_id)) == len(any_stack.entries(run_id)) == 1


async def test_invalid_request_is_refused_with_all_problems(stack: Stack) -> None:
    """What is wrong is told at once, by shape and by the model's rules, and the run fails with the same problems."""
    run_id = new_run_id()

    receipt, handle = await submit(stack.client, {**REQUEST, "n": 11, "size": "100x100"}, run_id)

    assert (receipt.status, receipt.run_id, receipt.price_ceiling_usd) == ("refused", run_id, None)
    assert [problem.field for problem in receipt.problems] == ["n", "size"]
    with pytest.raises(WorkflowFailureError) as failed:
        await handle.result()
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.message == receipt.message
    assert len(failed.value.cause.details) == len(receipt.problems)
    accepted, _ = await submit(stack.client, REQUEST, run_id)
    assert accepted.status == "accepted"


async def test_one_of_twenty_concurrent_submissions_is_accepted(any_stack: Stack) -> None:
    """Of twenty submissions at once one has started the run, and the others are attached: one call, one bill."""
    run_id, payload = new_run_id(), make_lost(any_stack, f"A cup that many want {uuid.uuid4().hex}")
    calls = [uuid.uuid4().hex for _ in range(20)]

    submitted = await asyncio.gather(
        *(
            submit(any_stack.client, payload, run_id, update_id=call, memo={SUBMISSION: call})
            for call in calls
        )
    )

    assert Counter(receipt.status for receipt, _ in submitted) == {"accepted": 1, "attached": 19}
    await until_held(submitted[0][1])
    await finish(submitted[0][1])
    assert len(any_stack.calls(run_id)) == 2
    assert len(any_stack.entries(run_id)) == 1


async def test_one_of_two_concurrent_contents_is_accepted(stack: Stack) -> None:
    """Of two contents at the same moment one is carried out, and the other is told what differs."""
    run_id = new_run_id()
    contents = [{**REQUEST, "prompt": f"A {what} at once"} for what in ("cup", "plate")]

    submitted = await asyncio.gather(*(submit(stack.client, payload, run_id) for payload in contents))

    (conflict,) = [receipt for receipt, _ in submitted if receipt.status == "conflict"]
    assert [difference.field for difference in conflict.differences] == ["prompt"]
    await asyncio.gather(*(handle.result() for _, handle in submitted), return_exceptions=True)
    assert len(stack.calls(run_id)) == len(stack.entries(run_id)) == 1


async def test_malformed_submission_is_refused_and_the_run_goes_on(stack: Stack) -> None:
    """A submission that is no request is refused with all of its own problems, and the run under way goes on."""
    run_id, sound, handle = await start_held(stack, "A cup beside nonsense")
    wrong: dict[str, Any] = {
        "request": "a cup",
        "n": {**sound, "n": 1.0},
        "model, prompt, n, modle": {"n": 11, "modle": "x"},
        "n, size": {**sound, "n": "1", "size": "100x100"},
    }

    for fields, payload in wrong.items():
        receipt, _ = await submit(stack.client, payload, run_id)
        assert receipt.status == "refused"
        assert ", ".join(problem.field for problem in receipt.problems) == fields

    assert (await submit(stack.client, sound, run_id))[0].status == "attached"
    assert (await finish(handle))["run_id"] == run_id


async def test_submission_with_wrong_number_of_arguments_is_rejected(stack: Stack) -> None:
    """An Update with two arguments is turned down, one without any is refused, and the run goes on."""
    run_id, _, handle = await start_held(stack, "A cup of two arguments")

    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update(names.UPDATE_SUBMIT, args=[REQUEST, REQUEST])
    nothing = await handle.execute_update(names.UPDATE_SUBMIT, result_type=SubmitReceipt)

    assert isinstance(refused.value.cause, ApplicationError)
    assert refused.value.cause.type == names.REQUEST_REFUSED
    assert nothing.status == "refused"
    assert (await finish(handle))["run_id"] == run_id


async def test_submission_of_another_request_id_is_a_conflict(stack: Stack) -> None:
    """Under a workflow id of somebody's own, the request id tells runs apart: another one is a conflict, a repeated one is not."""
    workflow_id = new_run_id().replace(":", "-")
    payload = {**make_lost(stack, "A cup on schedule"), "request_id": f"{workflow_id}-1"}
    accepted, handle = await submit(stack.client, payload, workflow_id)
    await until_held(handle)
    same, _ = await submit(stack.client, payload, workflow_id)
    other, _ = await submit(stack.client, {**payload, "request_id": f"{workflow_id}-2"}, workflow_id)

    assert (accepted.status, accepted.run_id) == ("accepted", f"image:default:{workflow_id}-1")
    assert same.status == "attached"
    assert [difference.field for difference in other.differences] == ["request_id"]
    await finish(handle)


async def test_failed_unpaid_run_is_accepted_again(stack: Stack) -> None:
    """What was given up and may not have been paid is carried out again: its submission is accepted anew."""
    run_id, payload, handle = await start_held(stack, "A cup that is given up and submitted")
    await decide(handle, {"decision": "give_up", "actor": "ada", "reason": "ticket 7"})
    with pytest.raises(WorkflowFailureError):
        await handle.result()

    again, anew = await submit(stack.client, payload, run_id)

    assert (again.status, again.paid_before) == ("accepted", False)
    await until_held(anew)
    await anew.terminate()


async def test_submission_waits_for_a_worker(tmp_path: Path) -> None:
    """A submission waits for a worker, and the run is started meanwhile. The memo says whose start it was, where there is one.

    And a run that is being refused takes nobody along who comes with it: other content is told to submit again, or what is wrong with it.
    """
    async with run_temporal() as client:
        plain, mine, wrong = (new_run_id() for _ in range(3))
        begun = await client.start_workflow(
            names.WORKFLOW, REQUEST, id=plain, task_queue=names.RUNS_QUEUE, memo={SUBMISSION: "somebody"}
        )
        waiting = [
            asyncio.create_task(submit(client, REQUEST, plain)),
            asyncio.create_task(submit(client, REQUEST, mine, update_id="mine", memo={SUBMISSION: "mine"})),
            asyncio.create_task(submit(client, {**REQUEST, "n": True}, wrong)),
        ]
        for run_id in (mine, wrong):
            await until_started(client, run_id)
        waiting += [asyncio.create_task(submit(client, {**REQUEST, "n": n}, wrong)) for n in (1, 0)]
        url = (tmp_path / "images").as_uri()
        async with run_application(client, sqlite_url(tmp_path), url) as stack:
            (attached, _), (accepted, handle), *others = await asyncio.gather(*waiting)
            refused, beside, refused_too = (receipt for receipt, _ in others)

            assert (attached.status, accepted.status) == ("attached", "accepted")
            assert [problem.value for problem in (*refused.problems, *refused_too.problems)] == ["true", "0"]
            assert beside.status in {"conflict", "accepted"}  # accepted where it came after that run's end
            assert beside.status == "accepted" or "is being refused" in beside.message
            await asyncio.gather(begun.result(), handle.result())
            assert len(stack.calls(plain)) == len(stack.calls(mine)) == 1


async def until_started(client: Client, run_id: str) -> None:
    async with asyncio.timeout(60):
        while (await client.count_workflows(f"WorkflowId = '{run_id}'")).count == 0:
            await asyncio.sleep(0.05)


async def test_submission_waits_for_the_ledger(tmp_path: Path) -> None:
    """No receipt is given on a guess: it waits for the ledger, and with a cancelled run it ends. Nothing is sent meanwhile."""
    async with run_stack(sqlite_url(tmp_path), (tmp_path / "images").as_uri()) as stack:
        waits, is_cancelled = new_run_id(), new_run_id()
        rename(stack, "runs", "runs_away")
        receipts = [
            asyncio.create_task(submit(stack.client, REQUEST, run_id)) for run_id in (waits, is_cancelled)
        ]
        for run_id in (waits, is_cancelled):
            await until_looked_up(stack, run_id)
        await stack.client.get_workflow_handle(is_cancelled).cancel()
        with pytest.raises(WorkflowUpdateFailedError) as nothing:
            await receipts[1]
        assert isinstance(nothing.value.cause, ApplicationError)
        assert nothing.value.cause.type == names.NO_RECEIPT
        assert not stack.simulator.books.entries

        rename(stack, "runs_away", "runs")
        receipt, handle = await receipts[0]
        assert receipt.status == "accepted"
        await handle.result()
        assert len(stack.calls(waits)) == len(stack.simulator.books.entries) == 1


async def test_held_run_stops_giving_receipts_after_many_submissions(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A held run gives no more receipts once it has given many, in words; somebody can still decide on it."""
    monkeypatch.setattr(reception, "MAX_SUBMISSIONS", 2)
    run_id, payload, handle = await start_held(stack, "A lighthouse asked for often")
    receipts = [(await submit(stack.client, payload, run_id))[0].status for _ in range(2)]
    with pytest.raises(WorkflowUpdateFailedError) as nothing:
        await submit(stack.client, payload, run_id)

    assert receipts == ["attached", "attached"]
    assert isinstance(nothing.value.cause, ApplicationError)
    assert nothing.value.cause.type == names.NO_RECEIPT
    assert "was submitted 2 times: it accepts no more submissions" in nothing.value.cause.message
    assert (await finish(handle))["billing"]["state"] == "billed"


async def test_large_submissions_are_rejected_before_the_history_limit(stack: Stack) -> None:
    """Submissions with large pictures are turned down long before Temporal would end the run for its history."""
    run_id, _, handle = await start_held(stack, "A lighthouse in many megabytes")
    large = {**REQUEST, "prompt": "x" * 1_500_000}
    for _ in range(6):
        await submit(stack.client, large, run_id)
    with pytest.raises(WorkflowUpdateFailedError) as nothing:
        await submit(stack.client, large, run_id)

    assert isinstance(nothing.value.cause, ApplicationError)
    assert nothing.value.cause.type == names.NO_RECEIPT
    assert (await finish(handle))["billing"]["state"] == "billed"
    assert sum(event.ByteSize() for event in await stack.events(run_id)) < 15_000_000


@pytest.mark.parametrize("update", [names.UPDATE_SUBMIT, names.UPDATE_DECIDE])
async def test_oversize_updates_are_refused_and_the_run_is_billed(stack: Stack, update: str) -> None:
    """Updates that take a second each to read are not read: both are refused in words, and the run goes on and is billed.

    Two, as Temporal itself ends a run to which more than 4 MB of Updates come in one workflow task.
    """
    _, _, handle = await start_held(stack, f"A lighthouse that is shouted at by {update}")
    shout = raw(b'{"a":[' + b",".join([b"{}"] * 640_000) + b"]}")
    async with asyncio.timeout(WORST_WAIT_SECONDS):
        answers = await asyncio.gather(
            *(handle.execute_update(update, shout) for _ in range(2)), return_exceptions=True
        )
        result = await finish(handle)

    for answer in answers:
        said = str(answer.cause) if isinstance(answer, WorkflowUpdateFailedError) else str(answer)
        assert "1,920,007 bytes, of which" in said
    assert result["billing"]["state"] == "billed"


NONSENSE = {"n": 11}


class CheckerInNoHurry(RequestChecker):
    """Looks at nonsense only once it may."""

    may_check = asyncio.Event()

    @activity.defn(name=names.CHECK_REQUEST)
    async def check_request(self, given: CheckInput) -> Admission:
        if given.payload == NONSENSE:
            await self.may_check.wait()
        return self.check(given.payload, given.workflow_id, "standard")


async def test_billed_run_cancelled_during_its_last_receipt_keeps_result_and_receipt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is done and billed waits for its last receipt; a cancellation that comes then takes neither its result nor the receipt."""
    monkeypatch.setattr("activities.registry.RequestChecker", CheckerInNoHurry)
    async with run_stack(sqlite_url(tmp_path), (tmp_path / "images").as_uri()) as stack:
        handle = await stack.client.start_workflow(
            names.WORKFLOW,
            make_lost(stack, "A cup with a late receipt"),
            id=new_run_id(),
            task_queue=names.RUNS_QUEUE,
            task_timeout=timedelta(seconds=2),  # the run hears of nothing else while a check is under way
        )
        await until_held(handle)
        receipt = asyncio.create_task(submit(stack.client, NONSENSE, handle.id))
        try:
            await until_updated(stack, handle.id)
            await decide(handle, {"decision": "resend", "actor": "ada", "reason": "ticket 7"})
            await until_shown(handle, "completed")
            await handle.cancel()
            await until_heard(stack, handle.id)
        finally:
            CheckerInNoHurry.may_check.set()  # no worker ends before its checks

        result = await asyncio.wait_for(handle.result(), 60)
        assert result["billing"]["state"] == "billed"
        assert (await receipt)[0].status == "refused"


async def until_shown(handle: WorkflowHandle[Any, Any], stage: str) -> None:
    """Wait until a run shows this stage."""
    async with asyncio.timeout(60):
        while (await handle.query(names.QUERY_STATUS))["stage"] != stage:
            await asyncio.sleep(0.05)


async def until_updated(stack: Stack, run_id: str) -> None:
    """Wait until a submission is in the history: the run has begun to handle it."""
    async with asyncio.timeout(60):
        while "WORKFLOW_EXECUTION_UPDATE_ACCEPTED" not in event_names(await stack.events(run_id)):
            await asyncio.sleep(0.05)


async def until_heard(stack: Stack, run_id: str) -> None:
    """Wait until the run has handled its cancellation."""
    cancelled, heard = "WORKFLOW_EXECUTION_CANCEL_REQUESTED", "WORKFLOW_TASK_COMPLETED"
    async with asyncio.timeout(60):
        while True:
            _, _, since = " ".join(event_names(await stack.events(run_id))).partition(cancelled)
            if heard in since:
                return
            await asyncio.sleep(0.05)
