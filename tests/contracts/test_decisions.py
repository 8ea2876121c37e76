"""Decisions as anybody may send them."""

from typing import Any

import pytest

from gpt_image_runs.contracts.decisions import Decision, MalformedDecision, read_decision

SOUND: dict[str, Any] = {"decision": "resend", "reason": "ticket 7", "actor": "ada"}


def test_a_decision_is_read() -> None:
    """What is sound becomes a decision; what a newer client has added is ignored; blanks around texts are none."""
    decision = read_decision({**SOUND, "reason": " ticket 7\n", "later": 1})

    assert decision == Decision(**SOUND)
    assert Decision.model_validate_json(decision.model_dump_json()) == decision


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (None, "The decision is None, no JSON object."),
        ("resend", "The decision is 'resend', no JSON object."),
        ({**SOUND, "decision": "give-up"}, "decision is 'give-up'; allowed: resend or give_up."),
        ({**SOUND, "decision": ["resend"]}, "decision is a list of 1; allowed: "),
        ({**SOUND, "reason": "\t"}, "reason is '\\t'; allowed: a text of 1 to 500 characters"),
        ({**SOUND, "reason": "\ud83d"}, "reason is '\\ud83d'; allowed: "),
        ({**SOUND, "actor": "a\x00"}, "actor is 'a\\x00'; allowed: who decides"),
        ({**SOUND, "actor": None}, "actor is None; allowed: who decides"),
    ],
)
def test_what_is_no_decision_is_refused(payload: Any, why: str) -> None:
    """Each field is refused by name, with its value and what is allowed."""
    with pytest.raises(MalformedDecision) as refused:
        read_decision(payload)

    assert str(refused.value).startswith(why)


def test_all_problems_are_told() -> None:
    """An empty object lacks three fields, and each is named."""
    with pytest.raises(MalformedDecision) as refused:
        read_decision({})

    assert [name for name in SOUND if f"{name} is absent" in str(refused.value)] == list(SOUND)
