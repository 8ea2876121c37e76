"""Usage that is missing, zero, partial or malformed: estimated and flagged, held with a reason, never silently zero."""

import pytest

from tests.e2e.stack import CONTRACT, Stack

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


async def test_no_sound_estimate_is_held(stack: Stack) -> None:
    """For a model without a formula a response without usage is pending: nothing is made up."""
    result = await stack.run(
        {"model": "gpt-image-2.6-flare", "prompt": "A cup [simulate:missing_usage]", "size": "1024x1024"}
    )

    assert (result.billing.state, result.cost.amount_usd) == ("pending", None)


async def test_zero_usage_is_a_reported_zero(stack: Stack) -> None:
    """A usage of zeros is charged as the zero that the provider reported, and flagged as that."""
    result = await stack.run({**CONTRACT, "prompt": "A cup [simulate:zero_usage]"})

    (entry,) = stack.entries(result.run_id)
    assert (entry.kind, entry.amount_usd) == ("charge", "0.000000")
    assert "reported_zero" in entry.flags


@pytest.mark.parametrize(
    ("field", "flag", "output_charge"),
    [("input_tokens", "input_tokens_missing", "0.166400"), ("output_tokens", "output_tokens_missing", None)],
)
async def test_a_missing_count_is_zero_and_flagged(
    stack: Stack, field: str, flag: str, output_charge: str | None
) -> None:
    """Of a usage that lacks one count, the other is charged and the lack is flagged."""
    result = await stack.run({**CONTRACT, "prompt": f"A cup [simulate:partial_usage={field}]"})

    assert flag in result.cost.flags
    assert (result.cost.basis, result.billing.state) == ("token_usage", "billed")
    if output_charge:
        assert result.cost.amount_usd == output_charge


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


async def test_an_oversize_usage_buys_no_second_picture(stack: Stack) -> None:
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
