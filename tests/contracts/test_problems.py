"""Messages that list what is wrong."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_image_runs.contracts.problems import Problem, describe_problems, describe_value


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("size", "10x10", "'10x10'"),
        ("n", 11, "11"),
        ("n", 1.5, "1.5"),
        ("n", True, "true"),
        ("n", False, "false"),
        ("images", [], "a list of 0"),
        ("images", ("a", "b"), "a list of 2"),
        ("metadata", {"a": 1}, "an object of 1"),
        ("prompt", "a secret", "a text of 8 characters"),
        ("prompt", "x" * 32_001, "a text of 32,001 characters"),
        ("prompt", 5, "5"),
        ("mask", "data:image/png;base64,AAAA", "a text of 26 characters"),
        ("images.0", "data:,x", "a text of 7 characters"),
        ("size", "1\n2", r"'1\n2'"),
        ("size", "\u202e\ud800", r"'\u202e\ud800'"),
        ("size", "\u00e9", r"'\xe9'"),
        ("size", "x" * 78, f"'{'x' * 78}'"),
        ("size", "x" * 79, f"'{'x' * 79}... (81 characters)"),
    ],
)
def test_value_is_escaped_and_cut_and_a_private_one_only_counted(field: str, value: Any, shown: str) -> None:
    assert describe_value(field, value) == shown


@given(
    st.sampled_from(["size", "prompt", "images.0", ""]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
)
def test_any_json_value_is_shown_on_one_short_ascii_line(field: str, value: Any) -> None:
    shown = describe_value(field, value)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= 120


def test_problems_are_listed_one_a_line_after_nothing_was_sent() -> None:
    problems = (
        Problem(field="n", value="11", allowed="a whole number from 1 to 10"),
        Problem(field="size", value="'huge'", allowed="auto"),
    )
    assert describe_problems(problems) == (
        "The request is refused, nothing was sent:\n"
        "- n is 11; allowed: a whole number from 1 to 10\n"
        "- size is 'huge'; allowed: auto"
    )
