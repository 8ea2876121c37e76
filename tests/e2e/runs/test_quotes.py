"""Quotes for services: a workflow that any language starts by its name, and that sends nothing."""

import uuid
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.money import parse_usd
from gpt_image_runs.contracts.quote import Quote
from tests.support.servers.stack import CONTRACT, Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def ask(stack: Stack, payload: Any) -> Quote:
    quoted = await stack.client.execute_workflow(
        names.PRICE_QUOTE, payload, id=f"quote:{uuid.uuid4()}", task_queue=names.RUNS_QUEUE
    )
    return Quote.model_validate(quoted)


async def test_quote_bounds_the_cost_of_its_run(stack: Stack) -> None:
    """The run costs what was expected and its prompt, and no more than the ceiling; the quote itself sent nothing."""
    sent_before = len(stack.simulator.books.entries)
    quoted = await ask(stack, {**CONTRACT, "tenant": "acme", "request_id": f"quoted-{uuid.uuid4().hex}"})
    assert len(stack.simulator.books.entries) == sent_before

    result = await stack.run(CONTRACT)

    charged, expected = parse_usd(result.cost.amount_usd or ""), parse_usd(quoted.expected_usd or "")
    assert charged == expected + 10 * result.usage["input_tokens"]  # type: ignore[index,call-overload,operator]  # the provider's own object
    assert charged <= parse_usd(quoted.ceiling_usd or "")
    assert quoted.rate_card == result.cost.rate_card


@pytest.mark.parametrize("payload", [{**CONTRACT, "n": 11, "size": "10x10"}, "a lamp", None])
async def test_quote_of_an_invalid_request_is_refused_like_its_run(stack: Stack, payload: Any) -> None:
    """What could not run has no price: the same failure with the same problems."""
    refused = await stack.fail(payload)

    with pytest.raises(WorkflowFailureError) as raised:
        await ask(stack, payload)

    cause = raised.value.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.message, cause.details) == (refused.type, refused.message, refused.details)
