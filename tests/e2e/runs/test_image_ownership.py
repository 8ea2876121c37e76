"""A tenant edits its own pictures alone, whoever asks and by whatever way the picture got into the store."""

import re
import uuid
from pathlib import Path
from typing import Any

import pytest

from gpt_image_runs.contracts import names
from tests.support.files.picture_files import make_picture
from tests.support.runs import economy_runs as economy
from tests.support.runs.commands import type_command
from tests.support.servers.stack import CONTRACT, Stack, new_run_id, run_stack, sqlite_url

pytestmark = pytest.mark.asyncio(loop_scope="session")


def edit_of(image: str, tenant: str, **more: Any) -> dict[str, Any]:
    return {**CONTRACT, "tenant": tenant, "images": [image], **more}


async def refusal(stack: Stack, image: str, tenant: str) -> str:
    run_id = new_run_id(tenant)
    failure = await stack.fail(edit_of(image, tenant), run_id=run_id)
    assert failure.type == names.REQUEST_REFUSED
    assert stack.calls(run_id) == []
    assert "(not found)" in failure.message
    return re.sub(r"is '\S+ (\(\d+ characters\) )?", "is URI ", failure.message)


def new_tenant(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


async def make(stack: Stack, tenant: str) -> Any:
    result = await stack.run(
        {**CONTRACT, "tenant": tenant, "prompt": f"A cup of {tenant}"}, run_id=new_run_id(tenant)
    )
    return result.images[0]


async def test_picture_of_another_tenant_is_refused_like_an_unknown_one(any_stack: Stack) -> None:
    """By its uri, nothing is sent; its owner edits it."""
    acme, evil = new_tenant("acme"), new_tenant("evil")
    image = await make(any_stack, acme)
    unknown = image.uri.replace(f"{image.sha256[:2]}/{image.sha256}", f"00/{'0' * 64}")

    assert await refusal(any_stack, image.uri, evil) == await refusal(any_stack, unknown, evil)
    result = await any_stack.run(edit_of(image.uri, acme), run_id=new_run_id(acme))
    assert result.operation == "edit"


async def test_uploaded_image_belongs_to_its_tenant(stack: Stack, tmp_path: Path) -> None:
    """`upload --tenant`, and the command line refuses others before a run is started."""
    acme, evil = new_tenant("acme"), new_tenant("evil")
    (tmp_path / "cat.png").write_bytes(make_picture("PNG", (1024, 1008)))
    uploaded = await type_command(
        stack, tmp_path, "upload", str(tmp_path / "cat.png"), "--tenant", acme, "--json"
    )
    uri = uploaded.document["uri"]

    assert (await stack.run(edit_of(uri, acme), run_id=new_run_id(acme))).operation == "edit"
    await refusal(stack, uri, evil)
    refused = await type_command(
        stack, tmp_path, "edit", "A hat", "--image", uri, "--model", "gpt-image-1", "--tenant", evil, "--json"
    )
    assert refused.status == 2
    assert "(not found)" in str(refused.document)


async def test_economy_line_with_a_foreign_picture_is_refused(stack: Stack) -> None:
    """At half price too."""
    acme, evil, batch_id = new_tenant("acme"), new_tenant("evil"), economy.new_batch_id()
    image = await make(stack, acme)
    requests = [
        *economy.make_requests(batch_id, ["a hat"], tenant=evil, images=[image.uri]),
        *economy.make_requests(f"{batch_id}-own", ["a hat"], tenant=acme, images=[image.uri]),
    ]
    summary, _ = await economy.run_batch(stack, requests, batch_id=batch_id)

    assert (summary.refused, summary.done) == (1, 1)


async def test_shared_images_setting_lets_every_tenant_use_an_image(tmp_path: Path) -> None:
    store = (tmp_path / "images").as_uri()
    async with run_stack(sqlite_url(tmp_path), store, shared_images=True) as sharing:
        image = await make(sharing, "acme")
        result = await sharing.run(edit_of(image.uri, "beta"), run_id=new_run_id("beta"))
        assert result.operation == "edit"
