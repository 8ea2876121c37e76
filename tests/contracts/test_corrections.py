"""Parsing of corrections."""

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


def test_sound_correction_is_parsed() -> None:
    """Unknown fields are ignored, as a newer client may have added them; surrounding spaces are stripped."""
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
def test_invalid_correction_is_refused_with_field_and_value(payload: Any, why: str) -> None:
    with pytest.raises(InvalidPayload) as refused:
        read(payload)

    assert why in str(refused.value)


def test_empty_correction_lists_every_required_field() -> None:
    with pytest.raises(InvalidPayload) as refused:
        read({})

    assert [name for name in SOUND if f"{name} is absent" in str(refused.value)] == [
        "action",
        "run_id",
        "reason",
        "actor",
    ]


def test_usage_digest_ignores_key_order() -> None:
    """The digest is the one that `sha256sum` prints for the canonical JSON."""
    assert digest_usage({"output_tokens": 4160, "input_tokens": 50}) == "d4c3600472f498eb"
    assert digest_usage({"input_tokens": 50, "output_tokens": 4160}) == "d4c3600472f498eb"
    assert digest_usage({"input_tokens": 51, "output_tokens": 4160}) != "d4c3600472f498eb"


def test_workflow_id_is_made_of_run_and_correction() -> None:
    reprice = {**REVERSE, "action": "reprice"}
    ids = [read(payload).workflow_id for payload in (SOUND, reprice, REVERSE)]

    assert ids == [
        "reconcile:image:acme:req-1:d4c3600472f498eb",
        "reconcile:image:acme:req-1:reprice",
        "reconcile:image:acme:req-1:reverse",
    ]
