from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_image_runs.billing.pricing.cost import compute_cost
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.pricing.rates import Rate, total_micro_usd
from gpt_image_runs.contracts.billing import Cost, CostInput
from gpt_image_runs.contracts.money import parse_usd
from gpt_image_runs.contracts.request import Operation

CARDS = RateCards.load()
SENT_AT = datetime(2026, 11, 23, 12, tzinfo=UTC)


def cost_of(usage: Any, model: str, operation: Operation = "generate", images: int = 1) -> Cost:
    order = CostInput(
        provider="openai",
        model=model,
        usage=usage,
        missing_usage="hold",
        operation=operation,
        images=images,
        sent_at=SENT_AT,
    )
    return compute_cost(order, CARDS)


tokens = st.integers(0, 5000) | st.integers(10**12 - 5000, 10**12)


@settings(deadline=None)
@given(input_tokens=tokens, output_tokens=tokens)
def test_the_contract_is_ten_and_forty_for_all_counts(input_tokens: int, output_tokens: int) -> None:
    """The charge for gpt-image-1 is 10 * input + 40 * output micro-USD, for all counts that no picture denies."""
    usage = {"input_tokens": input_tokens, "output_tokens": output_tokens}
    cost = cost_of(usage, "gpt-image-1", images=1 if input_tokens and output_tokens else 0)

    assert cost.amount_usd is not None
    assert parse_usd(cost.amount_usd) == 10 * input_tokens + 40 * output_tokens


@settings(deadline=None)
@given(input_tokens=tokens, share=st.integers(0, 100), output_tokens=tokens)
def test_the_lines_derive_the_total_again(input_tokens: int, share: int, output_tokens: int) -> None:
    """Tokens times the rate on its line is each line; their sum, rounded half up once, is the total."""
    image_tokens = input_tokens * share // 100
    named = {"text_tokens": input_tokens - image_tokens, "image_tokens": image_tokens}
    usage = {"input_tokens": input_tokens, "input_tokens_details": named, "output_tokens": output_tokens}
    cost = cost_of(usage, "gpt-image-1-mini", images=1 if input_tokens and output_tokens else 0)
    exact = [Decimal(line.tokens) * Decimal(line.usd_per_million) / 10**6 for line in cost.line_items]

    assert sum(line.tokens for line in cost.line_items) == input_tokens + output_tokens
    assert [Decimal(line.amount_usd) for line in cost.line_items] == exact
    assert cost.amount_usd == str(sum(exact, Decimal(0)).quantize(Decimal("0.000001"), ROUND_HALF_UP))


@settings(deadline=None)
@given(counts=st.tuples(tokens, tokens, tokens), more=st.tuples(*[st.integers(0, 100)] * 3))
def test_more_tokens_never_cost_less(counts: tuple[int, int, int], more: tuple[int, int, int]) -> None:
    """The total never falls when a count rises."""
    rate = Rate("card", {"text_in": 2_000_000, "image_in": 2_500_000, "image_out": 8_000_001})

    def total(text_in: int, image_in: int, image_out: int) -> int:
        return total_micro_usd({"text_in": text_in, "image_in": image_in, "image_out": image_out}, rate)

    assert total(*counts) <= total(*(count + extra for count, extra in zip(counts, more, strict=True)))


odd = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(0, 9)
    | st.floats(allow_nan=False)
    | st.text(max_size=3)
)
details = odd | st.fixed_dictionaries({}, optional={"text_tokens": odd, "image_tokens": odd})
usages = odd | st.fixed_dictionaries(
    {},
    optional={
        "input_tokens": odd,
        "output_tokens": odd,
        "total_tokens": odd,
        "input_tokens_details": details,
        "output_tokens_details": details,
    },
)


@settings(deadline=None)
@given(
    usage=usages,
    model=st.sampled_from(["gpt-image-1", "gpt-image-1.5", "gpt-image-2", "gpt-image-2.6-flare"]),
    operation=st.sampled_from(["generate", "edit"]),
)
def test_whatever_comes_is_billed_or_held_and_never_silently_zero(
    usage: Any, model: str, operation: Operation
) -> None:
    """Any usage at all ends in an amount or in a reason, and a zero only where zero was reported and no picture came."""
    assert cost_of(usage, model, operation).amount_usd != "0.000000"
    cost = cost_of(usage, model, operation, images=0)

    assert (cost.amount_usd is None) == (cost.basis == "none") == bool(cost.reason)
    assert ("reported_zero" in cost.flags and cost.basis != "none") == (cost.amount_usd == "0.000000")
    assert Cost.model_validate_json(cost.model_dump_json()) == cost


names_of_counters = st.sampled_from(
    [
        *(
            "input_tokens",
            "output_tokens",
            "total_tokens",
            "prompt_tokens",
            "completion_tokens",
            "inputTokens",
        ),
        *(
            "promptTokenCount",
            "candidatesTokenCount",
            "image_tokens",
            "reasoning_tokens",
            "cached_tokens",
            "tokens",
        ),
        *(
            "input_tokens_details",
            "prompt_tokens_details",
            "output_tokens_details",
            "usage",
            "images",
            "model",
        ),
    ]
)
values = st.recursive(
    st.none() | st.sampled_from([0, 1, 50, 4160, 4160.0, -3, "0", "4160", "n/a", True]),
    lambda parts: st.dictionaries(names_of_counters, parts, max_size=4) | st.lists(parts, max_size=2),
    max_leaves=8,
)


def list_numbers(value: Any) -> list[Any]:
    """List every number in the object, texts of digits included."""
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return [number for part in parts for number in list_numbers(part)]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return [value] if is_number or (isinstance(value, str) and value.isdigit()) else []


@settings(deadline=None, max_examples=500)
@given(
    usage=st.dictionaries(names_of_counters, values, max_size=6),
    model=st.sampled_from(["gpt-image-1", "gpt-image-2"]),
    images=st.integers(0, 2),
)
def test_no_usage_with_a_counter_is_billed_zero_and_no_counter_is_left_out(
    usage: dict[str, Any], model: str, images: int
) -> None:
    """Whatever names a counter has and wherever it stands: a bill by tokens is at least as large as each of them."""
    cost = cost_of(usage, model, images=images)
    if cost.amount_usd is None:
        assert cost.reason
        return
    if any(number not in {0, "0"} for number in list_numbers(usage)):
        assert cost.amount_usd != "0.000000"
    if cost.basis == "token_usage":
        billed = sum(line.tokens for line in cost.line_items)
        of_tokens = {name: part for name, part in usage.items() if "token" in name.lower()}
        assert all(isinstance(number, int) or number == "0" for number in list_numbers(of_tokens))
        assert max([0, *(number for number in list_numbers(of_tokens) if isinstance(number, int))]) <= billed
