"""Usage that is missing, zero, partial or malformed: estimated and flagged, held with a reason, never silently zero."""

import pytest

from tests.support.servers.stack import CONTRACT, Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("fault", ["missing_usage", "null_usage"])
async def test_missing_usage_is_estimated_and_flagged(any_stack: Stack, fault: str) -> None:
    """A response without usage is billed by size and quality (4160 tokens at 40 micro-USD), flagged as an estimate."""
    result = await any_stack.run({**CONTRACT, "prompt": f"A cup [simulate:{fault}]"})

    (entry,) = any_stack.entries(result.run_id)
    assert (entry.kind, entry.amount_usd, entry.usage) == ("estimate", "0.166400", None)
    assert {"usage_missing", "estimated"} <= set(entry.flags)
    assert (result.cost.basis, result.billing.state) == ("size_quality_estimate", "estimated")


async def test_missing_usage_is_held_where_the_request_says_so(any_stack: Stack) -> None:
    """With missing_usage=hold the run is pending with a reason, without any amount, and its pictures are kept."""
    result = await any_stack.run(
        {**CONTRACT, "prompt": "A cup [simulate:missing_usage]", "missing_usage": "hold"}
    )

    (entry,) = any_stack.entries(result.run_id)
    assert (entry.kind, entry.amount_usd, result.cost.amount_usd) == ("hold", None, None)
    assert (result.billing.state, result.cost.basis) == ("pending", "none")
    assert result.billing.reason
    assert await any_stack.store.read(result.images[0].uri)


async def test_missing_usage_of_a_model_without_estimate_is_held(stack: Stack) -> None:
    """For a model without a formula a response without usage is pending: nothing is made up."""
    result = await stack.run(
        {"model": "gpt-image-2.6-flare", "prompt": "A cup [simulate:missing_usage]", "size": "1024x1024"}
    )

    assert (result.billing.state, result.cost.amount_usd) == ("pending", None)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (
            "zero_usage",
            "usage.input_tokens is 0 and usage.output_tokens is 0, although a picture was delivered: what it took is not known.",
        ),
        (
            "mixed_usage",
            "usage.prompt_tokens is 13, which does not agree with input_tokens 0 and output_tokens 0",
        ),
        (
            "partial_usage=input_tokens",
            "usage.input_tokens_details name 17 tokens, more than usage.input_tokens, which is missing.",
        ),
        (
            "partial_usage=output_tokens",
            "usage.total_tokens is 4,177, which does not agree with input_tokens 17",
        ),
    ],
)
async def test_usage_that_contradicts_itself_or_the_picture_is_held(
    stack: Stack, fault: str, reason: str
) -> None:
    """The usage is kept verbatim, the picture delivered once, and nothing is billed, least of all a zero."""
    result = await stack.run({**CONTRACT, "prompt": f"A cup [simulate:{fault}]"})

    (entry,) = stack.entries(result.run_id)
    assert (entry.kind, entry.amount_usd, entry.usage) == ("hold", None, result.usage)
    assert (result.billing.state, result.cost.amount_usd) == ("pending", None)
    assert (result.billing.reason or "").startswith(reason)
    assert len(stack.calls(result.run_id)) == len(result.images) == 1


@pytest.mark.parametrize(
    ("field", "flag", "amount"),
    [
        ("input_tokens", "input_tokens_missing", "0.166400"),
        ("output_tokens", "output_tokens_missing", "0.000170"),
    ],
)
async def test_missing_count_of_a_usage_is_zero_and_flagged(
    stack: Stack, field: str, flag: str, amount: str
) -> None:
    """Of a usage that has only one count, that one is charged and the lack of the other is flagged."""
    result = await stack.run({**CONTRACT, "prompt": f"A cup [simulate:sparse_usage={field}]"})

    assert result.cost.flags == (flag,)
    assert (result.cost.basis, result.billing.state) == ("token_usage", "billed")
    assert result.cost.amount_usd == amount


@pytest.mark.parametrize("form", ["negative", "string", "float", "bool", "absurd", "list"])
async def test_malformed_usage_is_held_with_its_reason(stack: Stack, form: str) -> None:
    """A usage that cannot be true is kept verbatim and held with a reason, not billed and not refused."""
    result = await stack.run({**CONTRACT, "prompt": f"A cup [simulate:malformed_usage={form}]"})

    (entry,) = stack.entries(result.run_id)
    assert (entry.kind, entry.amount_usd) == ("hold", None)
    assert entry.reason is not None
    assert "usage" in entry.reason
    assert entry.usage is not None
    assert len(stack.calls(result.run_id)) == 1


async def test_oversize_usage_is_held_and_not_bought_again(stack: Stack) -> None:
    """A usage of 3 MB, more than Temporal carries, is kept whole on the run's entry and held: one call, one picture."""
    result = await stack.run({**CONTRACT, "prompt": "A cup [simulate:oversize_usage]"})

    (attempt,) = stack.attempts(result.run_id)
    assert isinstance(attempt.response, dict)
    assert len(str(attempt.response["usage"])) > 3_000_000
    (entry,) = stack.entries(result.run_id)
    assert (entry.kind, entry.amount_usd, entry.attempt_id) == ("hold", None, attempt.attempt_id)
    assert entry.usage == attempt.response["usage"]
    assert (result.usage, result.billing.state) == (None, "pending")
    assert len(stack.calls(result.run_id)) == 1
