from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_image_runs.billing.pricing.rates import Rate
from gpt_image_runs.billing.pricing.usage import TokenSplit, UnbillableUsage, read_usage, split_tokens
from gpt_image_runs.contracts.request import Operation

PER_CLASS = Rate("card", {"text_in": 5_000_000, "image_in": 8_000_000, "image_out": 30_000_000})
WITH_TEXT = Rate("card", {**PER_CLASS.micro_usd_per_million, "text_out": 10_000_000})
TEXT_IS_DEARER = Rate("card", {"text_in": 9_000_000, "image_in": 8_000_000, "image_out": 30_000_000})
ON_TOTALS = Rate("card", {"input": 10_000_000, "output": 40_000_000})


def split(
    rate: Rate,
    operation: Operation,
    input_details: Any,
    output_details: Any = None,
    totals: tuple[int, int] = (100, 1000),
) -> TokenSplit:
    raw = {
        "input_tokens": totals[0],
        "input_tokens_details": input_details,
        "output_tokens": totals[1],
        "output_tokens_details": output_details,
    }
    usage = read_usage(raw)
    assert usage is not None
    return split_tokens(usage, rate, operation)


def test_nothing_is_assumed_about_no_tokens() -> None:
    """Zero tokens cost the same in every class, so their missing split needs no flag."""
    assert split(WITH_TEXT, "edit", None, totals=(0, 0)).flags == ()


def test_details_that_add_up_are_taken_as_they_are() -> None:
    """Nothing is assumed where the provider tells text from images."""
    tokens, flags = split(
        WITH_TEXT, "edit", {"text_tokens": 30, "image_tokens": 70}, {"text_tokens": 40, "image_tokens": 960}
    )

    assert tokens == {"text_in": 30, "image_in": 70, "text_out": 40, "image_out": 960}
    assert flags == ()


@pytest.mark.parametrize("details", [None, {}, {"cached_tokens": 5}, {"text_tokens": None}])
def test_unsplit_input_of_a_generation_is_text(details: Any) -> None:
    """A generation brings no pictures, so its input needs no assumption; nor does output that can only be a picture."""
    assert split(PER_CLASS, "generate", details) == ({"text_in": 100, "image_out": 1000}, ())


def test_unsplit_input_of_an_edit_is_priced_as_the_dearer() -> None:
    """An edit's input is part text, part pictures: unsplit, all of it is flagged and counts as the dearer."""
    assert split(PER_CLASS, "edit", None) == ({"image_in": 100, "image_out": 1000}, ("input_split_missing",))
    assert split(TEXT_IS_DEARER, "edit", None).tokens == {"text_in": 100, "image_out": 1000}


def test_unsplit_output_is_flagged_only_where_the_model_emits_text() -> None:
    """Output of a model with a price for text is flagged when unsplit, and counts as a picture, the dearer."""
    assert split(WITH_TEXT, "generate", None) == (
        {"text_in": 100, "image_out": 1000},
        ("output_split_missing",),
    )


@pytest.mark.parametrize(
    ("details", "tokens_in"),
    [
        ({"text_tokens": 30, "image_tokens": 60}, {"text_in": 30, "image_in": 70}),
        ({"text_tokens": 30}, {"text_in": 30, "image_in": 70}),
        ({"image_tokens": 60}, {"image_in": 100}),
        ({"text_tokens": 0, "image_tokens": 0}, {"text_in": 0, "image_in": 100}),
    ],
)
def test_tokens_that_details_leave_out_go_to_the_dearer_class(
    details: Any, tokens_in: dict[str, int]
) -> None:
    """No token is lost when details fall short of their total, and the bill says so."""
    assert split(PER_CLASS, "generate", details) == (
        {**tokens_in, "image_out": 1000},
        ("details_do_not_add_up",),
    )


@pytest.mark.parametrize(
    ("input_details", "output_details", "reason"),
    [
        (
            {"text_tokens": 30, "image_tokens": 71},
            None,
            "usage.input_tokens_details name 101 tokens, more than usage.input_tokens, which is 100.",
        ),
        ({"text_tokens": -1}, None, "usage.input_tokens_details.text_tokens is -1: "),
        ({"image_tokens": "70"}, None, "usage.input_tokens_details.image_tokens is '70': "),
        ([70], None, "usage.input_tokens_details is a list of 1: it has to be an object."),
        (None, {"image_tokens": 1.5}, "usage.output_tokens_details.image_tokens is 1.5: "),
        (
            None,
            {"text_tokens": 40},
            "usage.output_tokens_details.text_tokens is 40, and card has no price for text_out.",
        ),
    ],
)
def test_details_that_contradict_the_total_cannot_be_billed(
    input_details: Any, output_details: Any, reason: str
) -> None:
    """Details that are malformed, exceed their total or have no price are a reason, not a guess."""
    with pytest.raises(UnbillableUsage) as held:
        split(PER_CLASS, "edit", input_details, output_details)

    assert str(held.value).startswith(reason)


def test_zero_text_output_needs_no_price() -> None:
    """A model that never emits text may say so."""
    named = {"text_tokens": 0, "image_tokens": 1000}

    assert split(PER_CLASS, "generate", None, named) == ({"text_in": 100, "image_out": 1000}, ())


def test_a_price_on_totals_looks_at_no_details() -> None:
    """Our contract is on the totals, so details never stand in its way."""
    assert split(ON_TOTALS, "edit", {"text_tokens": -1}, "nonsense") == ({"input": 100, "output": 1000}, ())


some_input = st.none() | st.integers(0, 120)
some_output = st.none() | st.integers(0, 1200)


@settings(deadline=None)
@given(
    named_in=st.fixed_dictionaries({"text_tokens": some_input, "image_tokens": some_input}),
    named_out=st.fixed_dictionaries({"text_tokens": some_output, "image_tokens": some_output}),
    rate=st.sampled_from([PER_CLASS, WITH_TEXT, TEXT_IS_DEARER, ON_TOTALS]),
    operation=st.sampled_from(["generate", "edit"]),
)
def test_the_classes_always_add_up_to_the_totals(
    named_in: dict[str, int | None], named_out: dict[str, int | None], rate: Rate, operation: Operation
) -> None:
    """Whatever the details say: each token is counted once and none is lost, or the usage is held."""
    try:
        tokens, _ = split(rate, operation, named_in, named_out)
    except UnbillableUsage:
        exceeded = (
            sum(n or 0 for n in named_in.values()) > 100 or sum(n or 0 for n in named_out.values()) > 1000
        )
        assert exceeded or (named_out["text_tokens"] and "text_out" not in rate.micro_usd_per_million)
        return
    assert sum(count for name, count in tokens.items() if name in {"input", "text_in", "image_in"}) == 100
    assert sum(count for name, count in tokens.items() if name in {"output", "text_out", "image_out"}) == 1000
