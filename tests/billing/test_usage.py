from typing import Any

import pytest

from billing.usage import UnbillableUsage, read_usage


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
def test_what_is_odd_is_counted_and_flagged(
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
def test_what_cannot_be_billed_names_the_field_and_the_value(raw: Any, reason: str) -> None:
    """Nonsense is never coerced to a number, and never a zero."""
    with pytest.raises(UnbillableUsage) as held:
        read_usage(raw)

    assert str(held.value).startswith(reason)
