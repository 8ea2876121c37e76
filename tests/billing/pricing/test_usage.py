from typing import Any

import pytest

from gpt_image_runs.billing.pricing.usage import (
    UnbillableUsage,
    check_usage,
    find_unpriced_usage,
    read_usage,
    require_usage,
)


@pytest.mark.parametrize(
    "raw", [None, {}, {"input_tokens": None, "output_tokens": None, "total_tokens": None}]
)
def test_without_any_count_there_is_no_usage(raw: Any) -> None:
    """Absent, null and empty are one and the same: nothing was reported."""
    assert read_usage(raw) is None


def test_counts_are_taken_as_they_are() -> None:
    """A sound usage raises no flag."""
    usage = read_usage(
        {"input_tokens": 50, "output_tokens": 4160, "total_tokens": 4210, "from_the_future": {}}
    )

    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.flags) == (50, 4160, ())


@pytest.mark.parametrize(
    ("raw", "counts", "flags"),
    [
        ({"output_tokens": 4160}, (0, 4160), ("input_tokens_missing",)),
        ({"input_tokens": 50, "output_tokens": None}, (50, 0), ("output_tokens_missing",)),
        (
            {"input_tokens": 50, "output_tokens": 60, "total_tokens": 111},
            (50, 60),
            ("total_tokens_mismatch",),
        ),
        ({"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}, (0, 0), ("reported_zero",)),
        ({"output_tokens": 0}, (0, 0), ("input_tokens_missing", "reported_zero")),
        ({"input_tokens": 10**12, "output_tokens": 10**12}, (10**12, 10**12), ()),
    ],
)
def test_missing_count_and_mismatched_total_are_flagged(
    raw: Any, counts: tuple[int, int], flags: tuple[str, ...]
) -> None:
    """A missing count is zero with a flag; a total that does not fit is flagged; a reported zero is a zero."""
    usage = read_usage(raw)

    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == counts
    assert usage.flags == flags


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ([1, 2], "usage is a list of 2: it has to be an object."),
        ("none", "usage is 'none': it has to be an object."),
        (False, "usage is false: it has to be an object."),
        (0, "usage is 0: it has to be an object."),
        (
            {"input_tokens": 50, "output_tokens": -5},
            "usage.output_tokens is -5: a token count has to be a whole number from 0 to 1,000,000,000,000.",
        ),
        ({"input_tokens": "50", "output_tokens": 5}, "usage.input_tokens is '50': a token count has to be"),
        ({"input_tokens": True, "output_tokens": 5}, "usage.input_tokens is true: "),
        ({"input_tokens": 50.0, "output_tokens": 5}, "usage.input_tokens is 50.0: "),
        ({"input_tokens": 50, "output_tokens": 10**12 + 1}, "usage.output_tokens is 1000000000001: "),
        ({"input_tokens": 50, "output_tokens": 5, "total_tokens": []}, "usage.total_tokens is a list of 0: "),
        ({"total_tokens": 4210}, "usage has neither input_tokens nor output_tokens, only 'total_tokens'."),
        (
            {"prompt_tokens": 50, "completion_tokens": 4160, "model": "x"},
            "usage has neither input_tokens nor output_tokens, only 'prompt_tokens, completion_tokens'.",
        ),
        (
            {"input_tokens": 0, "output_tokens": 0, "total_tokens": 4210},
            "usage.total_tokens is 4,210, but input_tokens and output_tokens come to zero.",
        ),
    ],
)
def test_invalid_usage_is_refused_with_field_and_value(raw: Any, reason: str) -> None:
    """Nonsense is never coerced to a number, and never a zero."""
    with pytest.raises(UnbillableUsage) as held:
        read_usage(raw)

    assert str(held.value).startswith(reason)


SOUND = {"input_tokens": 50, "output_tokens": 4160}


@pytest.mark.parametrize(
    "more",
    [
        {"total_tokens": 4210, "prompt_tokens": 50, "completion_tokens": 4160},
        {"total_tokens": 0, "prompt_tokens": 0, "completion_tokens": 0},
        {"input_tokens_details": {"text_tokens": 10, "image_tokens": 40, "cached_tokens": 50}},
        {"output_tokens_details": {"text_tokens": 0, "reasoning_tokens": 4160}},
        {"prompt_tokens_details": [{"modality": "TEXT", "tokenCount": 50}]},
        {"tokenizer": "o200k_base", "images": 1, "cost": 0.17, "from_the_future": {"seconds": 31}},
        {"reasoning_tokens": 0, "audio_tokens": None, "has_tokens": True},
    ],
)
def test_counters_that_restate_or_split_the_totals_are_billed(more: dict[str, Any]) -> None:
    require_usage({**SOUND, **more})
    check_usage({**SOUND, **more}, read_usage({**SOUND, **more}), images=1)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"completion_tokens": 4161}, "usage.completion_tokens is 4,161"),
        ({"total_tokens": 4211}, "usage.total_tokens is 4,211"),
        ({"total_tokens": 4209}, "usage.total_tokens is 4,209"),
        ({"reasoning_tokens": 7}, "usage.reasoning_tokens is 7"),
        ({"cache_read_input_tokens": 2000}, "usage.cache_read_input_tokens is 2,000"),
        ({"promptTokenCount": 23}, "usage.promptTokenCount is 23"),
        ({"svg_usage": {"output_tokens": 900}}, "usage.svg_usage.output_tokens is 900"),
        ({"steps": [{"tokens": {"in": 3}}]}, "usage.steps[0].tokens.in is 3"),
        ({"completion_tokens": "4160"}, "usage.completion_tokens is '4160': a token count has to be"),
        ({"completion_tokens": 4160.0}, "usage.completion_tokens is 4160.0: a token count has to be"),
        ({"completion_tokens": -1}, "usage.completion_tokens is -1: a token count has to be"),
        ({"thought_tokens": " 4,160 tokens"}, "usage.thought_tokens is ' 4,160 tokens': "),
        ({"input_tokens_details": {"cached_tokens": 51}}, "usage.input_tokens_details.cached_tokens is 51"),
        (
            {"output_tokens_details": {"text_tokens": 1, "image_tokens": 4160}},
            "usage.output_tokens_details name 4,161 tokens, more than usage.output_tokens, which is 4,160.",
        ),
        (
            {"input_tokens": None, "output_tokens": 4160, "input_tokens_details": {"text_tokens": 9}},
            "usage.input_tokens_details name 9 tokens, more than usage.input_tokens, which is missing.",
        ),
        ({"output_tokens": None, "output": 4160}, "usage.output is 4,160"),
        ({"output_tokens": None, "images": [{"count": "4160"}]}, "usage.images[0].count is '4160'"),
        ({"bad\x1b[2Jtokens": 5}, "usage.bad\\x1b[2Jtokens is 5"),
    ],
)
def test_a_counter_that_a_bill_leaves_out_is_named_with_its_value(more: dict[str, Any], named: str) -> None:
    with pytest.raises(UnbillableUsage) as held:
        require_usage({**SOUND, **more})

    assert str(held.value).startswith(named)


@pytest.mark.parametrize(
    "raw", [{"inputTokens": 50}, {"usage": {"output_tokens": 4160}}, {"Prompt_Tokens": "50"}]
)
def test_counters_under_other_names_are_refused(raw: Any) -> None:
    """An estimate in the place of a count that is there would be a guess."""
    with pytest.raises(
        UnbillableUsage, match=r"^usage has neither input_tokens nor output_tokens, but usage\."
    ):
        check_usage(raw, read_usage(raw))


def test_usage_that_is_nested_without_end_is_checked() -> None:
    deep: Any = {"tokens": 5}
    for _ in range(50_000):
        deep = [deep]

    with pytest.raises(UnbillableUsage):
        require_usage({**SOUND, "deep": deep})


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ({"usage": SOUND}, None),
        ({"usage": SOUND, "svg_usage": {"model": "gpt-5", "output_tokens": 0}}, None),
        (
            {"usage": SOUND, "svg_usage": {"model": "gpt-5", "output_tokens": 900}},
            "svg_usage.output_tokens is 900: it is charged beside usage, and no rate card has a price for it.",
        ),
        ("nonsense", None),
    ],
)
def test_svg_usage_is_not_billed_by_usage_alone(response: Any, reason: str | None) -> None:
    assert find_unpriced_usage(response) == reason
