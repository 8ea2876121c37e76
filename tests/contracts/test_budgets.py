"""Decisions about budgets, as JSON that anybody may have sent."""

from typing import Any

import pytest

from gpt_image_runs.contracts.budgets import BudgetDecision
from gpt_image_runs.contracts.problems import InvalidPayload, parse

SOUND: dict[str, Any] = {"tenant": "acme", "limits": {"month": "250"}, "reason": " a trial ", "actor": "ada"}


def read(payload: Any) -> BudgetDecision:
    return parse(BudgetDecision, payload, "decision")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("250", "250.000000"),
        ("0", "0.000000"),
        ("0.10", "0.100000"),
        ("1000000000", "1000000000.000000"),
        (None, None),
    ],
)
def test_a_limit_is_kept_with_six_places(given: str | None, kept: str | None) -> None:
    """However an amount is written, it is kept with six places; null stays null, and is no zero."""
    assert read(SOUND | {"limits": {"month": given}}).limits == {"month": kept}


@pytest.mark.parametrize(
    "given", ["", "-0.000001", "1,5", "1e3", "NaN", "0.0000001", "1000000000.000001", 5, 1.5, True, "٣"]
)
def test_another_limit_is_refused(given: object) -> None:
    """What is no amount, negative, finer than a micro-USD, beyond a billion or no text is refused with its value."""
    with pytest.raises(
        InvalidPayload, match=r"^limits\.month is .*; allowed: an amount in USD from 0 to a billion"
    ):
        read(SOUND | {"limits": {"month": given}})


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Every field that is wrong is named, and what is allowed there."""
    with pytest.raises(InvalidPayload) as refusal:
        read({"tenant": "A", "limits": {"year": "1", "day": "x"}, "reason": " "})
    sentence = str(refusal.value)
    assert all(
        f"{name} is " in sentence for name in ("tenant", "limits.year", "limits.day", "reason", "actor")
    )


def test_the_same_decision_has_the_same_workflow() -> None:
    """The order of periods and the way in which an amount is written make no other decision; another amount does."""
    first = read(SOUND | {"limits": {"month": "1", "day": None}}).workflow_id
    assert read(SOUND | {"limits": {"day": None, "month": "1.00"}}).workflow_id == first
    assert read(SOUND | {"limits": {"day": None, "month": "2"}}).workflow_id != first
    assert first.startswith("budget:acme:")
