"""Orders of economy batches, as anybody may send them."""

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


def test_a_sound_order() -> None:
    """An order names its lines, and its workflow's id is made of its own."""
    assert read(SOUND).workflow_id == "economy-batch:summer"


def test_an_order_with_its_progress_comes_back_as_it_was() -> None:
    """What one run of the workflow hands to the next survives its way through JSON."""
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
def test_what_is_wrong_with_an_order(change: dict[str, Any], said: str) -> None:
    """Every field that is wrong is named with its value and what is allowed there."""
    with pytest.raises(InvalidPayload) as raised:
        read(SOUND | change)
    assert said in str(raised.value)


def test_no_order_at_all() -> None:
    """What is no object says so."""
    with pytest.raises(InvalidPayload, match="a list of 2, not a JSON object"):
        read([1, 2])
