"""What is wrong with a request, in words for the person who sent it."""

from itertools import accumulate
from typing import Any

from gpt_image_runs.contracts.base import Contract

_PRIVATE = {"prompt", "notify"}
"""Fields whose texts are not repeated: an address that is refused may have a password in it."""
_MAX_VALUE = 80
_MAX_LIST = 3_500
"""Characters; every field of a request wrong at once takes less."""


class Problem(Contract):
    """One thing that is wrong: the field, its value (shortened), and what is allowed there."""

    field: str
    value: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.field} is {self.value}; allowed: {self.allowed}"


def describe_value(field: str, value: Any) -> str:
    """A value as a person should see it in a message: short, and never a prompt, a picture or somebody's address."""
    if isinstance(value, str) and (field.partition(".")[0] in _PRIVATE or value[:5].lower() == "data:"):
        return f"a text of {len(value):,} characters"
    if isinstance(value, (list, tuple, dict)):
        return f"a list of {len(value):,}" if not isinstance(value, dict) else f"an object of {len(value):,}"
    text = (
        ascii(value)
        if isinstance(value, str)
        else str(value).lower()
        if isinstance(value, bool)
        else repr(value)
    )
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}... ({len(text):,} characters)"


def describe_problems(problems: tuple[Problem, ...]) -> str:
    """All problems as one message: a line each, the rest by their number where a stranger has made too many of them."""
    lines = [f"- {problem}" for problem in problems]
    told = sum(length <= _MAX_LIST for length in accumulate(map(len, lines)))
    more = [f"- and {len(lines) - told:,} more"] if told < len(lines) else []
    return "\n".join(["The request is refused, nothing was sent:", *lines[:told], *more])
