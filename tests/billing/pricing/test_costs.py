import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from gpt_image_runs.billing.pricing import flags
from gpt_image_runs.billing.pricing.cost import compute_cost
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.billing.pricing.rates import Rate, total_micro_usd
from gpt_image_runs.contracts.billing import Cost, CostInput

VECTORS = json.loads((Path(__file__).parent / "vectors" / "costs.json").read_text(encoding="utf-8"))
CARDS = RateCards.load()
TODAY = datetime(2026, 11, 23, 12, tzinfo=UTC)


def cost_of(usage: Any, model: str = "gpt-image-1", **changed: Any) -> Cost:
    order = {
        "provider": "openai",
        "model": model,
        "usage": usage,
        "missing_usage": "estimate",
        "operation": "generate",
        "images": 1,
        "size": "1024x1024",
        "quality": "high",
        "output_format": "png",
        "sent_at": TODAY,
    }
    return compute_cost(CostInput.model_validate(order | changed), CARDS)


def lines_of(cost: Cost) -> list[tuple[str, int, str, str]]:
    return [
        (line.token_class, line.tokens, line.usd_per_million, line.amount_usd) for line in cost.line_items
    ]


@pytest.mark.parametrize("vector", VECTORS["token_usage"], ids=lambda vector: vector["name"])
def test_amounts_worked_by_hand(vector: dict[str, Any]) -> None:
    """Charge and list cost are the amounts worked by hand, and nothing about them needs a flag."""
    cost = cost_of(vector["usage"], vector["model"])

    assert (cost.amount_usd, cost.list_cost_usd) == (vector["charge_usd"], vector["list_cost_usd"])
    assert (cost.basis, cost.flags, cost.reason) == ("token_usage", (), None)


CONTRACT_FLAGS: dict[str, tuple[str, ...]] = {
    "input_tokens missing counts as zero, flagged": ("input_tokens_missing",),
    "output_tokens missing counts as zero, flagged": ("output_tokens_missing",),
    "usage all zero: reported zero, not absent": ("reported_zero",),
    "no details at all": (),
}


@pytest.mark.parametrize("vector", VECTORS["contract_gpt_image_1"], ids=lambda vector: vector["name"])
def test_the_contract_counts_what_is_missing_as_zero_and_says_so(vector: dict[str, Any]) -> None:
    """Under our contract each missing value is zero, flagged, and a reported zero is told from an absent usage.

    The vectors are tokens to amounts: zeros come to zero where no picture was delivered that denies them.
    """
    cost = cost_of(vector["usage"], images=0 if vector["charge_usd"] == "0.000000" else 1)

    assert (cost.amount_usd, cost.basis) == (vector["charge_usd"], "token_usage")
    assert cost.flags == CONTRACT_FLAGS[vector["name"]]


def test_a_bill_under_our_contract_reads_like_an_invoice() -> None:
    """Two lines on the totals, their rates, the card that they come from, and the list price beside."""
    usage = {
        "input_tokens": 50,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
        "output_tokens": 4160,
        "total_tokens": 4210,
    }

    assert cost_of(usage).model_dump(mode="json") == {
        "amount_usd": "0.166900",
        "basis": "token_usage",
        "flags": [],
        "rate_card": "charge-2026-11-04",
        "rates": {"input": "10.00", "output": "40.00"},
        "line_items": [
            {"token_class": "input", "tokens": 50, "usd_per_million": "10.00", "amount_usd": "0.000500"},
            {"token_class": "output", "tokens": 4160, "usd_per_million": "40.00", "amount_usd": "0.166400"},
        ],
        "list_cost_usd": "0.166850",
        "list_rate_card": "list-2026-11-04",
        "list_rates": {"text_in": "5.00", "image_in": "10.00", "image_out": "40.00"},
    }


def test_lines_are_exact_and_the_total_alone_is_rounded() -> None:
    """14 + 807.5 + 2,176 micro-USD is 2,997.5: the lines keep the half, the total rounds it up."""
    usage = {
        "input_tokens": 330,
        "input_tokens_details": {"text_tokens": 7, "image_tokens": 323},
        "output_tokens": 272,
    }
    cost = cost_of(usage, "gpt-image-1-mini", operation="edit")

    assert lines_of(cost) == [
        ("text_in", 7, "2.00", "0.000014"),
        ("image_in", 323, "2.50", "0.0008075"),
        ("image_out", 272, "8.00", "0.002176"),
    ]
    assert cost.amount_usd == "0.002998"


def test_two_halves_make_one_and_a_half_rounds_up() -> None:
    """Half a micro-USD twice is one, not two; two and a half are three, not two."""
    halves = Rate("card", {"text_in": 500_000, "image_in": 500_000, "image_out": 2_500_000})

    assert total_micro_usd({"text_in": 1, "image_in": 1}, halves) == 1
    assert total_micro_usd({"image_out": 1}, halves) == 3


def test_the_largest_counts_stay_exact() -> None:
    """999,999,999,999 image tokens at 2.50 per million are 2,499,999,999,997.5 micro-USD, to the last place."""
    usage = {
        "input_tokens": 10**12 - 1,
        "input_tokens_details": {"image_tokens": 10**12 - 1},
        "output_tokens": 0,
    }
    cost = cost_of(usage, "gpt-image-1-mini", images=0)

    assert lines_of(cost) == [("image_in", 999_999_999_999, "2.50", "2499999.9999975")]
    assert cost.amount_usd == "2499999.999998"


def test_details_without_a_list_price_do_not_hold_back_a_charge_on_totals() -> None:
    """Details that only the list price depends on leave the charge as it is; the list cost is not known."""
    usage = {"input_tokens": 676, "output_tokens": 1056, "output_tokens_details": {"text_tokens": 40}}
    cost = cost_of(usage, operation="edit")

    assert (cost.amount_usd, cost.flags) == ("0.049000", ())
    assert (cost.list_cost_usd, cost.list_rate_card, cost.list_rates) == (None, None, {})


@pytest.mark.parametrize("model", ["gpt-image-1", "gpt-image-2"])
def test_details_that_exceed_the_total_hold_the_charge(model: str) -> None:
    """Whatever is priced, totals or classes: which of the two counts is true is not known."""
    usage = {"input_tokens": 676, "input_tokens_details": {"image_tokens": 700}, "output_tokens": 1056}
    cost = cost_of(usage, model, operation="edit")

    assert (cost.amount_usd, cost.basis) == (None, "none")
    assert cost.reason == (
        "usage.input_tokens_details name 700 tokens, more than usage.input_tokens, which is 676."
    )


def test_an_unsplit_edit_is_an_upper_bound() -> None:
    """Unsplit input of an edit counts as images: for a charge per class, or for the list cost beside our contract."""
    usage = {"input_tokens": 100, "output_tokens": 1000}
    by_class = cost_of(usage, "gpt-image-1.5", operation="edit")
    by_contract = cost_of(usage, operation="edit")

    assert (by_class.amount_usd, by_class.list_cost_usd) == ("0.032800", "0.032800")
    assert by_class.flags == ("input_split_missing", "output_split_missing")
    assert (by_contract.amount_usd, by_contract.list_cost_usd) == ("0.041000", "0.041000")
    assert by_contract.flags == ("list_cost_is_upper_bound",)


@pytest.mark.parametrize(
    ("model", "size", "quality", "images", "line"),
    [
        ("gpt-image-1", "1024x1024", "high", 2, ("output", 8320, "40.00", "0.332800")),
        ("gpt-image-2", "1536x1024", "medium", 1, ("image_out", 1372, "30.00", "0.041160")),
        ("gpt-image-1-mini", "1024x1536", "low", 4, ("image_out", 1632, "8.00", "0.013056")),
    ],
)
def test_without_usage_the_output_is_estimated_and_flagged(
    model: str, size: str, quality: str, images: int, line: tuple[str, int, str, str]
) -> None:
    """The fallback prices the pictures returned by size and quality, leaves the input out, and says all that."""
    cost = cost_of(None, model, size=size, quality=quality, images=images)

    assert (cost.basis, cost.reason) == ("size_quality_estimate", None)
    assert cost.flags == ("usage_missing", "estimated", "input_tokens_not_estimated")
    assert lines_of(cost) == [line]
    assert cost.amount_usd == cost.list_cost_usd == line[-1]


@pytest.mark.parametrize(
    ("model", "changed", "reason"),
    [
        (
            "gpt-image-1",
            {"missing_usage": "hold"},
            "The provider returned no usage, and this request asks to hold such bills for reconciliation.",
        ),
        (
            "gpt-image-2.6-flare",
            {},
            "The provider returned no usage, and there is no sound estimate for gpt-image-2.6-flare (images 1, size 1024x1024, quality high, format png).",
        ),
        (
            "gpt-image-1",
            {"size": None, "quality": "auto"},
            "The provider returned no usage, and there is no sound estimate for gpt-image-1 (images 1, size unknown, quality auto, format png).",
        ),
        (
            "gpt-image-1",
            {"images": 0},
            "The provider returned no usage, and there is no sound estimate for gpt-image-1 (images 0, size 1024x1024, quality high, format png).",
        ),
        (
            "gpt-image-1",
            {"partial_images": 2},
            "The provider returned no usage, and there is no sound estimate with partial images: each that was drawn is billed, and how many were is not told.",
        ),
        (
            "gpt-image-2",
            {"sent_at": datetime(2026, 4, 20, 12, tzinfo=UTC)},
            "No price is known for model gpt-image-2 at provider openai on 2026-04-20.",
        ),
    ],
)
def test_without_usage_and_estimate_the_bill_is_held(
    model: str, changed: dict[str, Any], reason: str
) -> None:
    """No usage and nothing sound in its place is no amount, with the reason in words: never a zero."""
    cost = cost_of(None, model, **changed)

    assert cost == Cost(basis="none", reason=reason, flags=("usage_missing",))


def test_an_empty_usage_is_a_missing_usage() -> None:
    """An object without counts reports nothing: it is estimated or held, not billed as zero."""
    assert cost_of({}) == cost_of(None)
    assert cost_of({}, missing_usage="hold").basis == "none"


@pytest.mark.parametrize(
    ("usage", "reason"),
    [
        (
            {"input_tokens": 0, "output_tokens": 0, "prompt_tokens": 23, "completion_tokens": 4160},
            (
                "usage.prompt_tokens is 23, which does not agree with input_tokens 0 and output_tokens 0: a bill by these might"
                " leave tokens out."
            ),
        ),
        (
            {"input_tokens": 9, "completion_tokens": 4160},
            (
                "usage.completion_tokens is 4,160, which does not agree with input_tokens 9 and no output_tokens: a bill by these"
                " might leave tokens out."
            ),
        ),
        (
            {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "prompt_tokens": 0},
            "usage.input_tokens is 0 and usage.output_tokens is 0, although a picture was delivered: what it took is not known.",
        ),
        (
            {"input_tokens": 50, "output_tokens": 0},
            "usage.output_tokens is 0, although a picture was delivered: what it took is not known.",
        ),
        (
            {"input_tokens": 0, "output_tokens": 4160, "total_tokens": 4160},
            "usage.input_tokens is 0, although a picture was delivered: what it took is not known.",
        ),
        (
            {"output_tokens": 0},
            "usage.output_tokens is 0, although a picture was delivered: what it took is not known.",
        ),
        (
            {"input_tokens": 50, "total_tokens": 4210},
            (
                "usage.total_tokens is 4,210, which does not agree with input_tokens 50 and no output_tokens: a bill by these might"
                " leave tokens out."
            ),
        ),
    ],
)
@pytest.mark.parametrize("model", ["gpt-image-1", "gpt-image-2"])
@pytest.mark.parametrize("mode", ["standard", "batch"])
def test_usage_that_contradicts_itself_is_held_with_the_values(
    usage: Any, reason: str, model: str, mode: str
) -> None:
    cost = cost_of(usage, model, mode=mode)

    assert (cost.basis, cost.amount_usd, cost.reason) == ("none", None, reason)


def test_zeros_cost_nothing_only_where_no_picture_was_delivered() -> None:
    usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}

    assert cost_of(usage, images=0).amount_usd == "0.000000"
    assert cost_of(usage, images=1).amount_usd is None


def test_usage_without_a_price_waits_for_it() -> None:
    """A model, or a day, without a price is held; the day in the reason is the one in UTC."""
    late = datetime(2026, 11, 22, 23, tzinfo=timezone(timedelta(hours=-5)))
    cost = cost_of({"output_tokens": 10}, "gpt-image-9", provider="gateway", sent_at=late)

    assert cost == Cost(
        basis="none",
        reason="No price is known for model gpt-image-9 at provider gateway on 2026-11-23.",
        flags=("input_tokens_missing",),
    )


def test_a_usage_problem_holds_whatever_else_is_known() -> None:
    """Usage that could not be carried is neither estimated nor taken as missing."""
    problem = "The usage is too large to carry: it is kept with the attempt."

    assert cost_of(None, usage_problem=problem) == Cost(basis="none", reason=problem)


@pytest.mark.parametrize("count", [-5, "50", True, 50.0, 10**12 + 1], ids=repr)
def test_refused_usage_is_held_with_the_value(count: Any) -> None:
    """Each kind of refused count is held under every price, naming the field."""
    for model in ("gpt-image-1", "gpt-image-2"):
        cost = cost_of({"input_tokens": 50, "output_tokens": count}, model)

        assert (cost.basis, cost.amount_usd) == ("none", None)
        assert (cost.reason or "").startswith("usage.output_tokens is ")


def test_every_flag_is_explained() -> None:
    """Each flag that exists has a sentence, and they are listed in that order without repetition."""
    named = {value for name, value in vars(flags).items() if name.isupper() and name != "MEANINGS"}

    assert named == set(flags.MEANINGS)
    assert all(meaning.endswith(".") for meaning in flags.MEANINGS.values())
    assert flags.sort_flags(["estimated", "usage_missing", "estimated"]) == ("usage_missing", "estimated")
