"""Wrong requests, sent past our client as any language could: refused at once, with every reason, and nothing sent."""

import asyncio
import base64
import uuid
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowFailureError
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from gpt_image_runs.contracts import names
from tests.support.files.picture_files import make_picture, png_of_size
from tests.support.runs.submissions import submit
from tests.support.servers.stack import CONTRACT, Stack, new_run_id

pytestmark = pytest.mark.asyncio(loop_scope="session")


def fields_of(failure: ApplicationError) -> list[str]:
    """List the fields that a refusal names, in order."""
    assert failure.type == names.REQUEST_REFUSED, failure
    return [problem["field"] for problem in failure.details]


async def refuse(stack: Stack, *arguments: Any) -> ApplicationError:
    """Start a run with any arguments and return the refusal, checking that nothing was sent or written."""
    run_id = new_run_id()
    before = len(stack.simulator.books.entries)
    handle = await stack.client.start_workflow(
        names.WORKFLOW, args=arguments, id=run_id, task_queue=names.RUNS_QUEUE
    )
    with pytest.raises(WorkflowFailureError) as raised:
        await handle.result()
    assert isinstance(raised.value.cause, ApplicationError)
    assert len(stack.simulator.books.entries) == before
    assert stack.attempts(run_id) == ()
    return raised.value.cause


async def test_refusal_lists_every_problem(stack: Stack) -> None:
    """A request with wrong values of every kind is refused with all of them: field, value, and what is allowed."""
    failure = await refuse(
        stack,
        {
            **CONTRACT,
            "n": 11,
            "size": "1024x1000",
            "quality": "xhigh",
            "output_compression": 50,
            "qualty": "high",
        },
    )

    assert fields_of(failure) == ["n", "size", "quality", "output_compression", "qualty"]
    assert failure.details[0] == {"field": "n", "value": "11", "allowed": "a whole number from 1 to 10"}
    assert "did you mean quality?" in failure.message


@pytest.mark.parametrize("field", ["svg", "frame_count", "markup", "complexity"])
async def test_unsupported_option_is_refused_by_name(stack: Stack, field: str) -> None:
    """An option of the provider that we do not support is refused by its name, not ignored."""
    assert fields_of(await refuse(stack, {**CONTRACT, field: 1})) == [field]


@pytest.mark.parametrize("output_format", ["gif", "svg"])
async def test_unsupported_output_format_is_refused(stack: Stack, output_format: str) -> None:
    """The formats gif and svg are refused with the reason."""
    failure = await refuse(stack, {**CONTRACT, "output_format": output_format})

    assert fields_of(failure) == ["output_format"]
    assert "not supported yet" in failure.message


def raw(data: bytes, encoding: bytes = b"json/plain") -> RawValue:
    return RawValue(Payload(metadata={"encoding": encoding}, data=data))


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (None,),
        ("a text",),
        ([CONTRACT],),
        (CONTRACT, CONTRACT),
        (1, 2, 3),
        (b"\x00\xff",),
        (raw(b"{"),),
        (raw(b'{"model": "gpt-image-1", "prompt": "\\ud800"}'),),
        (raw(b'{"model": "gpt-image-1", "prompt": "x", "n": NaN}'),),
        (raw(b'{"model": "gpt-image-1", "prompt": "x", "n": 1e999}'),),
        (raw(b"[" * 100_000),),
        (raw(b"\x0a\x01x", b"binary/protobuf"),),
        (raw(b"", b"of-their-own"),),
    ],
)
async def test_non_object_payload_is_refused(stack: Stack, arguments: tuple[Any, ...]) -> None:
    """Arguments that are no JSON object, or cannot even be decoded, end the run as refused, never as a stuck task."""
    assert fields_of(await refuse(stack, *arguments))[0] in {"request", "n"}


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "../../../etc/passwd",
        "s3://other/sha256/00/00.png",
        "https://example.com/cat.png",
        "data:image/png;base64,bm8gcGljdHVyZQ==",
        "data:text/plain,hello",
    ],
)
async def test_input_image_outside_of_the_store_is_refused(stack: Stack, uri: str) -> None:
    """A reference out of the store, or data that is no picture, is refused with the field's name."""
    assert fields_of(await refuse(stack, {**CONTRACT, "images": [uri]})) == ["images.0"]


async def test_image_reference_with_dots_is_refused(stack: Stack) -> None:
    """A reference below the store's root that leads out of it with dots is refused, encoded dots too."""
    root = stack.store.root
    for path in ("../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "sha256/../../x.png"):
        assert fields_of(await refuse(stack, {**CONTRACT, "images": [root + path]})) == ["images.0"]


async def test_image_reference_through_a_symlink_is_refused(stack: Stack, tmp_path: Path) -> None:
    """A link inside the store that leads to a file outside of it is refused."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(make_picture("PNG", (1024, 1024)))
    inside = await stack.store.put_image(make_picture("PNG", (640, 480)))
    path = stack.store.local_path(inside.uri)
    assert path is not None
    link = path.with_name("0" * 64 + ".png")
    link.symlink_to(secret)

    reference = inside.uri.replace(path.name, link.name)
    assert fields_of(await refuse(stack, {**CONTRACT, "images": [reference]})) == ["images.0"]


async def test_invalid_masks_and_images_are_refused_in_one_list(stack: Stack) -> None:
    """A mask without alpha, of another size, and a bomb of 10^10 pixels are each refused, in one list."""
    image = await stack.store.put_image(make_picture("PNG", (1024, 1024)))
    bomb = "data:image/png;base64," + base64.b64encode(png_of_size(100_000, 100_000)).decode()
    mask = "data:image/png;base64," + base64.b64encode(make_picture("PNG", (512, 512), "RGB")).decode()

    failure = await refuse(stack, {**CONTRACT, "images": [image.uri, bomb], "mask": mask})

    assert set(fields_of(failure)) == {"images.1", "mask"}
    assert "alpha" in failure.message


async def test_data_uris_over_1_mib_are_refused(stack: Stack) -> None:
    """More than 1 MiB in data: URIs is refused, and the refusal says how to upload."""
    failure = await refuse(stack, {**CONTRACT, "images": ["data:image/png;base64," + "A" * 1_100_000]})

    assert fields_of(failure) == ["images"]
    assert "upload" in failure.message


async def test_small_data_uri_is_edited(stack: Stack) -> None:
    """A small data: URI is sent to the provider as the picture that it is."""
    uri = "data:image/png;base64," + base64.b64encode(make_picture("PNG", (640, 480))).decode()
    result = await stack.run({**CONTRACT, "images": [{"image_url": uri}]})

    assert result.operation == "edit"


async def test_invalid_workflow_id_without_request_id_is_refused(stack: Stack) -> None:
    """A workflow id that is no run id, without a request_id, is refused and told what to do; the id itself is shown."""
    handle = await stack.client.start_workflow(
        names.WORKFLOW, CONTRACT, id="any/id with blanks", task_queue=names.RUNS_QUEUE
    )
    with pytest.raises(WorkflowFailureError) as raised:
        await handle.result()

    assert isinstance(raised.value.cause, ApplicationError)
    assert fields_of(raised.value.cause) == ["request_id"]
    assert "image:TENANT:REQUEST_ID" in raised.value.cause.message


@pytest.mark.parametrize(
    ("workflow_id", "arguments", "tenant"),
    [
        ("image:acme:{}", [{**CONTRACT, "tenant": "acme", "n": 11}], "acme"),
        ("own-{}", [{**CONTRACT, "tenant": "acme", "modle": "x"}], "acme"),
        ("own-{}", [{**CONTRACT, "n": 11}], "default"),
        ("image:acme:{}", [{**CONTRACT, "tenant": "Not A Tenant"}], "acme"),
        ("image:acme:{}", ["a cup"], "acme"),
        ("image:acme:{}", [], "acme"),
        ("image:acme:{}", [CONTRACT, CONTRACT], "acme"),
        ("own-{}", ["a cup"], None),
        ("own-{}", [{**CONTRACT, "tenant": "Not A Tenant"}], None),
    ],
)
async def test_refused_run_is_found_by_its_tenant(
    stack: Stack, workflow_id: str, arguments: list[Any], tenant: str | None
) -> None:
    run_id = workflow_id.format(uuid.uuid4().hex)
    handle = await stack.client.start_workflow(
        names.WORKFLOW, args=arguments, id=run_id, task_queue=names.RUNS_QUEUE
    )
    with pytest.raises(WorkflowFailureError):
        await handle.result()

    assert (await handle.describe()).typed_search_attributes.get(names.TENANT) == tenant
    if tenant is not None:
        query = f'WorkflowType = "{names.WORKFLOW}" AND Tenant = "{tenant}" AND WorkflowId = "{run_id}"'
        async with asyncio.timeout(60):
            while (await stack.client.count_workflows(query)).count == 0:
                await asyncio.sleep(0.05)


async def test_run_of_a_request_id_with_other_content_is_found_by_its_tenant(stack: Stack) -> None:
    """Also where the conflict is known before the call."""
    run_id, request = new_run_id("acme"), {**CONTRACT, "tenant": "acme", "quality": "low"}
    _, first = await submit(stack.client, request, run_id)
    await first.result()
    receipt, handle = await submit(stack.client, {**request, "prompt": "A plate"}, run_id)
    with pytest.raises(WorkflowFailureError):
        await handle.result()

    assert receipt.status == "conflict"
    assert (await handle.describe()).typed_search_attributes.get(names.TENANT) == "acme"
