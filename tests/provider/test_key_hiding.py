"""Our key, quoted by a provider in whatever spelling, comes no further than the client."""

import base64
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from aiohttp import web

from gpt_image_runs.provider import errors
from gpt_image_runs.provider.batch_api import open_batch_client
from gpt_image_runs.provider.client import ImageClient, ProviderSettings
from gpt_image_runs.provider.sdk import hide_key
from tests.support.servers.scripted_provider import KEY, ScriptedProvider, call

AZURE_KEY = "9Zq+7Lm/0123456789abcdefGHIJKLMNOP=="
PICTURE = base64.b64encode(bytes(range(256)) * 400).decode()


def escape_all(key: str) -> str:
    return "".join(f"\\u{ord(character):04X}" for character in key)


SPELLINGS: list[Callable[[str], str]] = [
    lambda key: key,
    escape_all,
    lambda key: key.replace("-", "\\u002d").replace("+", "\\u002B").replace("/", "\\/"),
    lambda key: quote(key, safe=""),
    lambda key: quote(key, safe="").replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d"),
    lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
    lambda key: base64.b64encode(f"a{key}z".encode()).decode(),
    lambda key: base64.urlsafe_b64encode(f"ab{key}".encode()).decode(),
    lambda key: key.encode().hex(),
    lambda key: key.encode().hex().upper(),
]


@pytest.mark.parametrize("key", [KEY, AZURE_KEY])
@pytest.mark.parametrize("spell", SPELLINGS)
def test_a_key_is_removed_in_every_spelling(key: str, spell: Callable[[str], str]) -> None:
    body = f'{{"data": [{{"b64_json": "{PICTURE}"}}], "usage": {{"echo": "<{spell(key)}>"}}}}'.encode()

    hidden = hide_key(body, key)

    read = json.loads(hidden)
    assert "[API key]" in read["usage"]["echo"]
    assert read["data"][0]["b64_json"] == PICTURE
    for other in SPELLINGS[:5]:
        assert other(key).encode() not in hidden
    assert key not in read["usage"]["echo"]


@pytest.mark.parametrize("key", ["AAAAAAAAAAAAAAAAAAAA", "simulated", ""])
def test_a_placeholder_does_not_damage_a_picture(key: str) -> None:
    body = b'{"data": [{"b64_json": "' + b"A" * 100 + b'"}]}'

    assert hide_key(body, key) == body


async def test_a_key_beside_a_picture_is_in_no_part_of_the_answer(
    provider: ScriptedProvider, client: ImageClient
) -> None:
    """Usage and echoed fields go into the ledger and into histories, the body into the store, the request id everywhere."""
    body = {
        "data": [{"b64_json": PICTURE}],
        "usage": {"input_tokens": 5, "auth": f"Bearer {KEY}"},
        "echo": [KEY],
    }
    provider.answers(200, json.dumps(body).encode(), {"x-request-id": f"req_{KEY}"})

    answer = await client.send(call())

    assert KEY.encode() not in answer.body
    assert KEY not in str(answer.headers)
    assert answer.provider_request_id == "req_[API key]"
    read = json.loads(answer.body)
    assert (read["usage"]["auth"], read["data"][0]["b64_json"]) == ("Bearer [API key]", PICTURE)


async def test_a_key_in_a_stream_is_in_no_part_of_the_answer(
    provider: ScriptedProvider, client: ImageClient
) -> None:
    event = {"type": "image_generation.completed", "b64_json": PICTURE, "usage": {"note": KEY}}
    body = f"data: {json.dumps(event)}\n\n".encode()
    provider.answers(200, body, {"Content-Type": "text/event-stream"})

    answer = await client.send(call(partial_images=1))

    assert json.loads(answer.body)["usage"] == {"note": "[API key]"}


async def test_a_key_in_a_header_of_a_refusal_is_hidden(
    provider: ScriptedProvider, client: ImageClient
) -> None:
    provider.answers(400, b'{"error": {"message": "No."}}', {"x-request-id": KEY})

    with pytest.raises(errors.InvalidRequest) as caught:
        await client.send(call())

    assert caught.value.provider_request_id == "[API key]"


async def test_a_key_in_what_a_batch_says_is_hidden(provider: ScriptedProvider) -> None:
    batch = {
        "id": "batch_1",
        "object": "batch",
        "status": "failed",
        "created_at": 1,
        "endpoint": "/v1/images/generations",
        "input_file_id": "file-1",
        "completion_window": "24h",
        "errors": {"object": "list", "data": [{"code": "bad", "message": f"key {KEY}"}]},
    }

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/content"):
            return web.Response(body=json.dumps({"custom_id": "a", "usage": KEY}).encode() + b"\n")
        return web.json_response(batch)

    provider.handler = handler
    async with open_batch_client(ProviderSettings(api_key=KEY, base_url=f"{provider.url}/v1")) as batches:
        assert (await batches.look("batch_1")).errors == ("bad: key [API key]",)
        [line] = [line async for line in batches.read_lines("file-1")]

    assert json.loads(line.data) == {"custom_id": "a", "usage": "[API key]"}
