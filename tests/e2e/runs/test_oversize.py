"""Requests of a size that would choke a workflow: refused at once, never a task that fails for ever."""

from typing import Any

import pytest

from gpt_image_runs.contracts import names
from tests.support.servers.stack import CONTRACT, Stack, new_run_id

pytestmark = pytest.mark.asyncio(loop_scope="session")

MANY = 100_000
NEARLY_TWO_MIB = 2 * 1024 * 1024 - 400


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({f"f{number}": 1 for number in range(MANY)}, "request"),
        ({"images": [1] * MANY}, "request"),
        ({"images": [{f"f{number}": 1 for number in range(MANY)}]}, "request"),
        ({"metadata": {f"f{number}": 1 for number in range(MANY)}}, "request"),
        ({"images": ["s3://" + "x" * NEARLY_TWO_MIB]}, "images.0"),
        ({"x" * NEARLY_TWO_MIB: 1}, "x" * 120),
        ({"size": "x" * NEARLY_TWO_MIB}, "size"),
    ],
    ids=["fields", "images", "an image's fields", "metadata", "reference", "name", "value"],
)
async def test_oversize_request_is_refused_with_a_short_reason(
    stack: Stack, payload: dict[str, Any], field: str
) -> None:
    """A request with a hundred thousand parts, or with one part of two megabytes, is refused with a short reason."""
    run_id = new_run_id()
    failure = await stack.fail({**CONTRACT, **payload}, run_id=run_id)

    assert failure.type == names.REQUEST_REFUSED
    assert [problem["field"] for problem in failure.details] == [field]
    assert len(failure.message) < 1_000
    assert stack.attempts(run_id) == ()


async def test_request_with_every_field_at_its_limit_is_accepted(stack: Stack) -> None:
    image = await stack.run({**CONTRACT, "quality": "low"})
    picture = image.images[0].model_dump(mode="json")
    result = await stack.run(
        {
            **CONTRACT,
            "quality": "low",
            "prompt": "\U0001f600" * 32_000,
            "images": [picture] * 16,
            "metadata": {f"{number:064d}": "\U0001f600" * 512 for number in range(16)},
            "safety_identifier": "s" * 64,
            "output_compression": None,
        }
    )

    assert result.billing.state == "billed"
