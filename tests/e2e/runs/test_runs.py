"""The main job: pictures made and edited, each run billed once, on real parts."""

import asyncio
import hashlib
from decimal import Decimal
from typing import Any

import pytest

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.result import RunResult, RunStatus
from gpt_image_runs.images.formats import verify_picture
from tests.support.files.picture_files import make_picture
from tests.support.servers.stack import CONTRACT, Stack, new_run_id

pytestmark = pytest.mark.asyncio(loop_scope="session")


def usage_of(result: RunResult) -> dict[str, Any]:
    assert isinstance(result.usage, dict)
    return result.usage


async def test_documented_payload_yields_one_image_and_one_charge(any_stack: Stack) -> None:
    """The payload of the documentation yields one stored picture and one charge of 10 and 40 micro-USD a token."""
    result = await any_stack.run(CONTRACT)

    (image,) = result.images
    data = await any_stack.store.read(image.uri)
    assert hashlib.sha256(data).hexdigest() == image.sha256
    assert verify_picture(data)[:3] == ("image/png", 1024, 1024)
    (call,) = any_stack.calls(result.run_id)
    assert call.paid
    assert call.usage == result.usage
    assert usage_of(result)["output_tokens"] == 4160
    assert Decimal(result.cost.amount_usd or 0) == Decimal("0.00001") * usage_of(result)[
        "input_tokens"
    ] + Decimal("0.1664")
    (entry,) = any_stack.entries(result.run_id)
    assert (entry.kind, entry.amount_usd, entry.entry_id) == (
        "charge",
        result.cost.amount_usd,
        result.billing.entry_id,
    )
    assert entry.usage == result.usage
    assert entry.images == result.images
    assert entry.simulated
    assert result.billing.state == "billed"


async def test_edit_with_two_images_and_a_mask_bills_image_input_tokens(any_stack: Stack) -> None:
    """Two stored pictures and a mask are edited by the same workflow, and the pictures are billed as input tokens."""
    first = await any_stack.store.put_image(make_picture("PNG", (1024, 1024)))
    second = await any_stack.store.put_image(make_picture("JPEG", (640, 480)))
    mask = await any_stack.store.put_image(make_picture("PNG", (1024, 1024), "RGBA"))

    result = await any_stack.run(
        {
            **CONTRACT,
            "prompt": "Put the cup on a marble table",
            "quality": "medium",
            "images": [first.model_dump(), second.uri],
            "mask": {"uri": mask.uri, "sha256": mask.sha256},
            "metadata": {"order": "4711"},
        }
    )

    assert result.operation == "edit"
    (call,) = any_stack.calls(result.run_id)
    assert (call.endpoint, call.paid, call.usage) == ("edits", True, result.usage)
    assert usage_of(result)["input_tokens_details"]["image_tokens"] > 0
    assert usage_of(result)["output_tokens"] == 1056
    (entry,) = any_stack.entries(result.run_id)
    assert entry.metadata == {"order": "4711"}
    assert entry.operation == "edit"


async def test_four_pictures_have_one_usage_and_one_charge(any_stack: Stack) -> None:
    """n=4 stores four different pictures, and the one usage of the answer is charged once, not four times."""
    result = await any_stack.run({**CONTRACT, "n": 4, "quality": "medium"})

    assert len({image.sha256 for image in result.images}) == 4
    assert usage_of(result)["output_tokens"] == 4 * 1056
    assert [item.tokens for item in result.cost.line_items] == [usage_of(result)["input_tokens"], 4 * 1056]
    assert len(any_stack.calls(result.run_id)) == 1
    assert len(any_stack.entries(result.run_id)) == 1


@pytest.mark.parametrize(
    ("options", "media_type", "size"),
    [
        (
            {"model": "gpt-image-1-mini", "output_format": "webp", "output_compression": 60},
            "image/webp",
            "1536x1024",
        ),
        ({"model": "gpt-image-1.5", "output_format": "jpeg", "quality": "low"}, "image/jpeg", "1024x1536"),
        ({"model": "gpt-image-2", "background": "transparent", "quality": "low"}, "image/png", "1280x768"),
        ({"model": "gpt-image-2.6-flare", "quality": "low"}, "image/png", "1024x1024"),
    ],
)
async def test_other_models_are_charged_at_their_list_price(
    stack: Stack, options: dict[str, Any], media_type: str, size: str
) -> None:
    """Every other model's charge is the provider's list price, and equals the provider's own books."""
    result = await stack.run({"prompt": "A lighthouse", "size": size, **options})

    (image,) = result.images
    assert (image.media_type, f"{image.width}x{image.height}") == (media_type, size)
    (call,) = stack.calls(result.run_id)
    assert result.cost.amount_usd == f"{call.list_price_micro_usd / 1_000_000:.6f}"
    assert result.cost.list_cost_usd == result.cost.amount_usd


async def test_completed_run_is_found_with_cost_and_images(stack: Stack) -> None:
    """A run is found by its search attributes and tells its outcome, cost and pictures on its page and by query."""
    run_id = new_run_id("acme")
    result = await stack.run({**CONTRACT, "tenant": "acme"}, run_id=run_id)
    handle = stack.client.get_workflow_handle(run_id)

    status = RunStatus.model_validate(await handle.query(names.QUERY_STATUS))
    described = await handle.describe()
    found = described.typed_search_attributes

    assert (status.stage, status.images, status.cost_usd) == ("completed", 1, result.cost.amount_usd)
    assert found[names.TENANT] == "acme"
    assert found[names.MODEL] == "gpt-image-1"
    assert found[names.OPERATION] == "generate"
    assert found[names.BILLING_STATE] == "billed"
    assert found[names.IMAGE_COUNT] == 1
    assert f"{found[names.COST_USD]:.6f}" == result.cost.amount_usd
    details = await handle.query("__temporal_workflow_metadata")
    assert result.cost.amount_usd in str(details)
    assert result.images[0].uri in str(details)


async def test_thirty_concurrent_runs_match_the_provider_to_the_micro_dollar(stack: Stack) -> None:
    """Thirty runs at once end in thirty charges that equal the provider's books to the micro-dollar."""
    results = await asyncio.gather(
        *(
            stack.run({**CONTRACT, "prompt": f"Cup number {index}", "model": "gpt-image-2"})
            for index in range(30)
        )
    )

    charged = sum(Decimal(result.cost.amount_usd or 0) for result in results)
    paid = sum(call.list_price_micro_usd for result in results for call in stack.calls(result.run_id))
    assert charged * 1_000_000 == paid
    assert len({result.billing.entry_id for result in results}) == 30
