"""Parsing of economy batch orders."""

from typing import Any

import pytest

from gpt_image_runs.contracts.economy import (
    EconomyOrder,
    EconomyProgress,
    PlannedPart,
)
from gpt_image_runs.contracts.problems import InvalidPayload, parse

SOUND = {"batch_id": "summer", "digest": "a1" * 32, "lines": 3, "pages": 1}


def read(payload: Any) -> EconomyOrder:
    return parse(EconomyOrder, payload, "economy batch")


def test_sound_order_has_a_workflow_id_of_its_own() -> None:
    assert read(SOUND).workflow_id == "economy-batch:summer"


def test_order_with_progress_survives_json() -> None:
    part = PlannedPart(number=0, endpoint="/v1/images/edits", model="gpt-image-1", lines=3)
    progress = EconomyProgress(round=2, stage="waiting", parts=({"part": part},), looks=7)
    order = read(SOUND).model_copy(update={"progress": progress})

    assert read(order.model_dump(mode="json")) == order


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch_id": "../etc"}, "batch_id is '../etc'; allowed: 1 to 64 characters"),
        ({"digest": "A1"}, "digest is 'A1'; allowed: the SHA-256"),
        ({"lines": 100_001}, "lines is 100001; allowed: how many lines the batch has, 1 to 100,000"),
        ({"lines": "3"}, "lines is '3'"),
        ({"pages": 0}, "pages is 0"),
        ({"window": 1}, "'window' is 1; allowed: nothing: there is no such field"),
    ],
)
def test_invalid_order_is_refused_with_field_and_value(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidPayload) as raised:
        read(SOUND | change)
    assert said in str(raised.value)


def test_non_object_order_is_refused() -> None:
    with pytest.raises(InvalidPayload, match="a list of 2, not a JSON object"):
        read([1, 2])
