"""Validation problems in words for the sender, and the parser of untrusted payloads."""

from itertools import accumulate
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from gpt_image_runs.contracts.base import Contract

Parsed = TypeVar("Parsed", bound=Contract)

# Fields whose texts are never repeated: a refused address may contain a password.
_PRIVATE = {"prompt", "notify"}
_MAX_VALUE = 80
# Characters; every field of a request wrong at once takes less.
_MAX_LIST = 3_500


class Problem(Contract):
    """One thing that is wrong: the field, its value (shortened), and what is allowed there."""

    field: str = Field(
        description="The field that is wrong, such as size or images.0; request for the whole of it."
    )
    value: str = Field(description="What was given there, shortened; never a prompt or a picture.")
    allowed: str = Field(description="What is allowed there, as a sentence.")

    def __str__(self) -> str:
        return f"{self.field} is {self.value}; allowed: {self.allowed}"


def describe_value(field: str, value: Any) -> str:
    """Format a value for a message: short, and never a prompt, a picture or an address."""
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
    """Format problems as one message with a line for each, up to a limit; the rest are counted."""
    lines = [f"- {problem}" for problem in problems]
    told = sum(length <= _MAX_LIST for length in accumulate(map(len, lines)))
    more = [f"- and {len(lines) - told:,} more"] if told < len(lines) else []
    return "\n".join(["The request is refused, nothing was sent:", *lines[:told], *more])


class InvalidPayload(ValueError):
    """A payload that is not a valid contract. `problems` has a sentence for each thing that is wrong."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


def parse(model: type[Parsed], payload: Any, what: str) -> Parsed:
    """Parse untrusted JSON, already decoded, into a contract. `what` names it in messages, such as "decision".

    What a field allows is its description in the contract.

    Raises:
        InvalidPayload: with everything that is wrong.
    """
    if not isinstance(payload, dict):
        raise InvalidPayload((f"The {what} is {describe_value(what, payload)}, not a JSON object.",))
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
        # One problem for each field: of two about one value, the later one is the more specific.
        problems = dict(_build_problem(model, detail) for detail in details)
        raise InvalidPayload(tuple(problems.values())) from None


def _build_problem(model: type[Contract], detail: Any) -> tuple[str, str]:
    place = [str(part) for part in detail["loc"] if part != "[key]"]
    if not place:
        return "", f"{detail['msg'].removeprefix('Value error, ')}."
    name, known = ".".join(place), model.model_fields.get(place[0])
    value = "absent" if detail["type"] == "missing" else describe_value(name, detail["input"])
    if known is None:
        return name, f"{name!a} is {value}; allowed: nothing: there is no such field."
    return name, f"{name} is {value}; allowed: {model.nested_descriptions.get(name, known.description)}."
