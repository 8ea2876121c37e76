"""Parsing of decisions about held runs."""

from typing import Any

import pytest

from gpt_image_runs.contracts.decisions import Decision
from gpt_image_runs.contracts.problems import InvalidPayload, parse

SOUND: dict[str, Any] = {"decision": "resend", "reason": "ticket 7", "actor": "ada"}


def test_sound_decision_is_parsed() -> None:
    """Unknown fields are ignored, as a newer client may have added them; surrounding spaces are stripped."""
    decision = parse(Decision, {**SOUND, "reason": " ticket 7\n", "later": 1}, "decision")

    assert decision == Decision(**SOUND)
    assert Decision.model_validate_json(decision.model_dump_json()) == decision


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (None, "The decision is None, not a JSON object."),
        ("resend", "The decision is 'resend', not a JSON object."),
        ({**SOUND, "decision": "give-up"}, "decision is 'give-up'; allowed: resend or give_up."),
        ({**SOUND, "decision": ["resend"]}, "decision is a list of 1; allowed: "),
        ({**SOUND, "reason": "\t"}, "reason is '\\t'; allowed: a text of 1 to 500 characters"),
        ({**SOUND, "reason": "\ud83d"}, "reason is '\\ud83d'; allowed: "),
        ({**SOUND, "actor": "a\x00"}, "actor is 'a\\x00'; allowed: who decides"),
        ({**SOUND, "actor": None}, "actor is None; allowed: who decides"),
    ],
)
def test_invalid_decision_is_refused_with_field_and_value(payload: Any, why: str) -> None:
    with pytest.raises(InvalidPayload) as refused:
        parse(Decision, payload, "decision")

    assert str(refused.value).startswith(why)


def test_empty_decision_lists_a_problem_for_each_field() -> None:
    with pytest.raises(InvalidPayload) as refused:
        parse(Decision, {}, "decision")

    assert [problem.partition(" is absent")[0] for problem in refused.value.problems] == list(SOUND)
