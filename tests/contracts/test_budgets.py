"""Parsing of budget decisions."""

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
def test_limit_is_normalized_to_six_places(given: str | None, kept: str | None) -> None:
    """Null stays null: it lifts the budget and is not zero."""
    assert read(SOUND | {"limits": {"month": given}}).limits == {"month": kept}


@pytest.mark.parametrize(
    "given", ["", "-0.000001", "1,5", "1e3", "NaN", "0.0000001", "1000000000.000001", 5, 1.5, True, "٣"]
)
def test_invalid_limit_is_refused_with_its_value(given: object) -> None:
    with pytest.raises(
        InvalidPayload, match=r"^limits\.month is .*; allowed: an amount in USD from 0 to a billion"
    ):
        read(SOUND | {"limits": {"month": given}})


def test_every_problem_of_a_decision_is_listed() -> None:
    with pytest.raises(InvalidPayload) as refusal:
        read({"tenant": "A", "limits": {"year": "1", "day": "x"}, "reason": " "})
    sentence = str(refusal.value)
    assert all(
        f"{name} is " in sentence for name in ("tenant", "limits.year", "limits.day", "reason", "actor")
    )


def test_workflow_id_depends_on_the_limits_not_their_spelling() -> None:
    first = read(SOUND | {"limits": {"month": "1", "day": None}}).workflow_id
    assert read(SOUND | {"limits": {"day": None, "month": "1.00"}}).workflow_id == first
    assert read(SOUND | {"limits": {"day": None, "month": "2"}}).workflow_id != first
    assert first.startswith("budget:acme:")
