"""Whose request id it is where several contents come at once: the ledger decides, and every caller of its content gets the result."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.fingerprints import fingerprint
from gpt_image_runs.contracts.names import FINGERPRINT, SUBMISSION
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.contracts.submissions import SubmitReceipt
from tests.support.runs.submissions import submit
from tests.support.servers.stack import Stack, new_run_id

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROUNDS = 100
ROUNDS_AT_ONCE = 8
CALLERS = 40
# Temporal takes 10 Updates of a run at a time, and lets clients try again for a while only.
UPDATES_AT_ONCE = 9
Submitted = tuple[str, SubmitReceipt, WorkflowHandle[Any, Any]]


def make_request(prompt: str, **changes: Any) -> dict[str, Any]:
    return {
        "model": "gpt-image-2",
        "prompt": prompt,
        "size": "1024x1024",
        "quality": "low",
        "user": "owner",
        **changes,
    }


async def submit_with_memo(stack: Stack, payload: dict[str, Any], run_id: str) -> Submitted:
    """Submit as the examples in docs/how-to/integrate.md do."""
    update_id = new_run_id()
    receipt, handle = await submit(
        stack.client, payload, run_id, update_id=update_id, memo={SUBMISSION: update_id}
    )
    return payload["prompt"], receipt, handle


async def submit_without_memo(stack: Stack, payload: dict[str, Any], run_id: str) -> Submitted:
    receipt, handle = await submit(stack.client, payload, run_id)
    return payload["prompt"], receipt, handle


async def ask_in_turn(
    places: asyncio.Semaphore, stack: Stack, payload: dict[str, Any], run_id: str
) -> Submitted:
    async with places:
        return await submit_with_memo(stack, payload, run_id)


async def check_owner(submitted: Sequence[Submitted], owner: str, entry_id: str) -> None:
    """Check that callers of the owner's content got receipt and result, and all others a conflict."""
    for prompt, receipt, handle in submitted:
        if prompt == owner:
            assert receipt.status in {"accepted", "attached"}, receipt
            assert (await handle.result())["billing"]["entry_id"] == entry_id
        else:
            assert receipt.status in {"conflict", "refused"}, receipt
            assert receipt.status == "conflict" or "n is 11" in receipt.message


@pytest.mark.parametrize("ask", [submit_with_memo, submit_without_memo])
async def test_paid_content_beside_other_content_is_attached(stack: Stack, ask: Any) -> None:
    """Whoever submits what is paid gets it, also in the moment in which somebody submits other content, sound or not."""
    places = asyncio.Semaphore(ROUNDS_AT_ONCE)

    async def play(number: int) -> None:
        async with places:
            run_id, paid = new_run_id(), make_request("A cup that is paid")
            _, first = await submit(stack.client, paid, run_id)
            entry_id = (await first.result())["billing"]["entry_id"]
            other = make_request("A plate", **({"n": 11} if number % 4 == 0 else {}))
            submitted = await asyncio.gather(*(ask(stack, payload, run_id) for payload in (other, paid)))
            await check_owner(submitted, paid["prompt"], entry_id)
            assert len(stack.calls(run_id)) == len(stack.entries(run_id)) == 1

    await asyncio.gather(*map(play, range(ROUNDS // 2)))


async def test_one_of_several_contents_owns_a_new_request_id(stack: Stack) -> None:
    """Of many callers with several contents, those of the content that is billed have its result, and the others a conflict."""
    for number in range(4):
        run_id = new_run_id()
        contents = [make_request(f"A {what}") for what in ("cup", "plate", "spoon")]
        asked = [contents[place % 3] for place in range(CALLERS)]
        random.Random(number).shuffle(asked)
        places = asyncio.Semaphore(UPDATES_AT_ONCE)
        submitted = await asyncio.gather(*(ask_in_turn(places, stack, payload, run_id) for payload in asked))

        (entry,) = stack.entries(run_id)
        owners = {prompt for prompt, receipt, _ in submitted if receipt.status in {"accepted", "attached"}}
        assert len(owners) == 1
        await check_owner(submitted, owners.pop(), entry.entry_id)
        assert Counter(receipt.status for _, receipt, _ in submitted)["accepted"] <= 1
        assert len(stack.calls(run_id)) == 1


async def test_execution_of_other_content_ends_as_a_conflict(stack: Stack) -> None:
    """An execution that somebody awaits for its own content ends as a conflict; the owner's caller is told to submit again, and not `conflict`."""
    run_id, paid = new_run_id(), make_request("A cup that was paid before")
    _, first = await submit(stack.client, paid, run_id)
    entry_id = (await first.result())["billing"]["entry_id"]
    answers: Counter[str] = Counter()
    for _ in range(10):
        plain = await stack.start(make_request("A plate that is started plainly"), run_id=run_id)
        ended = await asyncio.gather(submit(stack.client, paid, run_id), return_exceptions=True)
        answer: Any = ended[0]
        if isinstance(answer, WorkflowUpdateFailedError):
            assert isinstance(answer.cause, ApplicationError)
            assert answer.cause.type == names.NO_RECEIPT
            assert "submit it again" in answer.cause.message
            answers["again"] += 1
        else:
            assert answer[0].status == "attached"
            assert (await answer[1].result())["billing"]["entry_id"] == entry_id
        with pytest.raises(WorkflowFailureError) as failed:
            await plain.result()
        assert isinstance(failed.value.cause, ApplicationError)
        assert failed.value.cause.type == names.RUN_CONFLICT
    assert answers["again"]
    assert len(stack.calls(run_id)) == len(stack.entries(run_id)) == 1


async def test_memo_of_a_run_is_that_of_its_owner(stack: Stack) -> None:
    """The memo by which others compare contents is that of the owner, and a later submission of the first content is a conflict."""
    run_id, paid = new_run_id(), make_request("A cup that has its owner")
    _, first = await submit(stack.client, paid, run_id)
    await first.result()
    other = make_request("A plate without an owner")
    for _ in range(40):
        update_id = new_run_id()
        memo = {SUBMISSION: update_id, FINGERPRINT: fingerprint(ImageRequest(**other))}
        submitted = await asyncio.gather(
            submit(stack.client, other, run_id, update_id=update_id, memo=memo),
            submit(stack.client, paid, run_id),
        )
        assert [receipt.status for receipt, _ in submitted] == ["conflict", "attached"]
        described = await submitted[1][1].describe()
        if described.id == run_id and (await described.memo()).get(SUBMISSION) == update_id:
            assert (await described.memo())[FINGERPRINT] == fingerprint(ImageRequest(**paid))
            return
    pytest.fail("in no round did the owner's caller meet the other content")
