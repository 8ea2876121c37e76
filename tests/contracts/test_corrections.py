"""Corrections as anybody may send them."""

from typing import Any

import pytest

from gpt_image_runs.contracts.corrections import (
    Correction,
    digest_usage,
)
from gpt_image_runs.contracts.problems import InvalidPayload, parse

SOUND: dict[str, Any] = {
    "action": "reconcile",
    "run_id": "image:acme:req-1",
    "usage": {"input_tokens": 50, "output_tokens": 4160},
    "reason": "ticket 7",
    "actor": "ada",
}
REVERSE = {"action": "reverse", "run_id": "image:acme:req-1", "reason": "A gift", "actor": "ada"}


def read(payload: Any) -> Correction:
    return parse(Correction, payload, "correction")


def test_a_correction_is_read() -> None:
    """What is sound becomes a correction; what a newer client has added is ignored; blanks around texts are none."""
    correction = read({**SOUND, "reason": " ticket 7\n", "later": 1})

    assert correction == Correction(**SOUND)
    assert correction.tenant == "acme"
    assert Correction.model_validate_json(correction.model_dump_json()) == correction


NO_CORRECTIONS: tuple[tuple[Any, Any], ...] = (
    (None, "The correction is None, not a JSON object."),
    ("reverse", "The correction is 'reverse', not a JSON object."),
    ({**SOUND, "action": "forgive"}, "action is 'forgive'; allowed: reconcile, reprice or reverse."),
    ({**SOUND, "run_id": "image:ACME:1"}, "run_id is 'image:ACME:1'; allowed: the id of a run"),
    ({**SOUND, "run_id": "image:acme:1\n"}, "run_id is 'image:acme:1\\n'; allowed: "),
    ({**SOUND, "reason": 7}, "reason is 7; allowed: "),
    ({**SOUND, "reason": "\t"}, "reason is '\\t'; allowed: "),
    ({**SOUND, "reason": "x" * 501}, "xxx... (503 characters); allowed: "),
    ({**SOUND, "reason": "\ud83d"}, "reason is '\\ud83d'; allowed: "),
    ({**SOUND, "actor": "a\x00"}, "actor is 'a\\x00'; allowed: who decides"),
    ({**SOUND, "usage": None}, "usage belongs to reconcile, and to that alone."),
    ({**REVERSE, "usage": {"input_tokens": 1}}, "usage belongs to reconcile, and to that alone."),
    ({**SOUND, "usage": {"a": "x" * 16_384}}, "usage is longer than 16,384 characters."),
    ({**SOUND, "usage": {"a": "\ud83d"}}, "usage holds half a surrogate pair"),
)


@pytest.mark.parametrize(("payload", "why"), NO_CORRECTIONS)
def test_what_is_no_correction_is_refused(payload: Any, why: str) -> None:
    """Each field is refused by name, with its value and what is allowed."""
    with pytest.raises(InvalidPayload) as refused:
        read(payload)

    assert why in str(refused.value)


def test_all_problems_are_told() -> None:
    """An empty object lacks four fields, and each is named."""
    with pytest.raises(InvalidPayload) as refused:
        read({})

    assert [name for name in SOUND if f"{name} is absent" in str(refused.value)] == [
        "action",
        "run_id",
        "reason",
        "actor",
    ]


def test_a_usage_is_known_by_what_it_says() -> None:
    """Order of names and blanks make no other usage, a count does. The digest is what `sha256sum` says of the JSON."""
    assert digest_usage({"output_tokens": 4160, "input_tokens": 50}) == "d4c3600472f498eb"
    assert digest_usage({"input_tokens": 50, "output_tokens": 4160}) == "d4c3600472f498eb"
    assert digest_usage({"input_tokens": 51, "output_tokens": 4160}) != "d4c3600472f498eb"


def test_a_correction_is_under_way_once() -> None:
    """The workflow's id is made of the run and of what tells its corrections apart."""
    reprice = {**REVERSE, "action": "reprice"}
    ids = [read(payload).workflow_id for payload in (SOUND, reprice, REVERSE)]

    assert ids == [
        "reconcile:image:acme:req-1:d4c3600472f498eb",
        "reconcile:image:acme:req-1:reprice",
        "reconcile:image:acme:req-1:reverse",
    ]
