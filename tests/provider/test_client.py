"""What the client sends and gives back, through the real SDK to a real HTTP server, and whose key and settings it goes by."""

import json
import logging

import pytest

from gpt_image_runs.provider import errors
from gpt_image_runs.provider.client import ImageClient, ProviderSettings, open_client
from tests.support.servers.scripted_provider import JPEG, KEY, MASK, PNG, WEBP, ScriptedProvider, call, edit


async def test_an_answer_comes_back_as_it_was_sent(provider: ScriptedProvider, client: ImageClient) -> None:
    """Body, status, request id and headers are the provider's, cookies left out; the answer is not parsed."""
    body = b" not even JSON "
    provider.answers(body=body, headers={"X-Request-Id": "req_7", "X-Simulated": "true", "Set-Cookie": "a=b"})
    answer = await client.send(call())
    assert answer.body == body
    assert answer.http_status == 200
    assert answer.provider_request_id == "req_7"
    assert answer.headers["x-request-id"] == "req_7"
    assert "set-cookie" not in answer.headers
    assert answer.simulated
    assert answer.latency_ms >= 0
    assert answer.sent_at.tzinfo is not None


async def test_an_answer_is_simulated_only_where_it_says_so(
    provider: ScriptedProvider, client: ImageClient
) -> None:
    """Without the header, an answer is a real provider's."""
    provider.answers()
    answer = await client.send(call())
    assert not answer.simulated
    assert answer.provider_request_id is None


async def test_only_what_the_request_names_is_sent(provider: ScriptedProvider, client: ImageClient) -> None:
    """Unset options and everything that is ours stay here; the model is the one to call, not the one asked for."""
    provider.answers()
    await client.send(
        call(
            tenant="acme",
            request_id="req-1",
            missing_usage="hold",
            unknown_outcome="hold",
            metadata={"order": "7"},
            n=2,
        )
    )
    (received,) = provider.received
    assert received.path == "/v1/images/generations"
    assert received.body == {"prompt": "a lighthouse", "model": "gpt-image-2", "n": 2}
    assert received.headers["Authorization"] == f"Bearer {KEY}"
    assert received.headers["X-Client-Request-Id"] == "image:acme:req-1:1"


async def test_every_option_is_sent_as_it_is(provider: ScriptedProvider, client: ImageClient) -> None:
    """The provider's payload arrives field by field, zero included."""
    provider.answers()
    options = {
        "n": 1,
        "size": "1024x1024",
        "quality": "high",
        "background": "auto",
        "output_format": "webp",
        "output_compression": 0,
        "moderation": "low",
        "safety_identifier": "someone",
        "user": "somebody",
    }
    await client.send(call(**options))
    assert provider.received[0].body == {"prompt": "a lighthouse", "model": "gpt-image-2", **options}


async def test_an_edit_is_a_form_with_named_pictures(provider: ScriptedProvider, client: ImageClient) -> None:
    """Pictures in their order with the right names and types, the mask, and the options as text."""
    provider.answers()
    await client.send(
        edit((PNG, JPEG, WEBP), MASK, n=2, size="auto", input_fidelity="high", moderation="low")
    )
    (received,) = provider.received
    assert received.path == "/v1/images/edits"
    assert received.headers["X-Client-Request-Id"] == "image:acme:req-1:1"
    files = [part for part in received.parts if part[1]]
    assert files == [
        ("image[]", "image-1.png", "image/png", PNG.data),
        ("image[]", "image-2.jpg", "image/jpeg", JPEG.data),
        ("image[]", "image-3.webp", "image/webp", WEBP.data),
        ("mask", "mask.png", "image/png", MASK.data),
    ]
    assert {name: data for name, filename, _, data in received.parts if not filename} == {
        "prompt": b"a lighthouse",
        "model": b"gpt-image-2",
        "n": b"2",
        "size": b"auto",
        "input_fidelity": b"high",
        "moderation": b"low",
    }


async def test_one_picture_is_sent_as_one(provider: ScriptedProvider, client: ImageClient) -> None:
    """A single picture goes by the plain name, and no mask is sent where there is none."""
    provider.answers()
    await client.send(edit((JPEG,)))
    files = [part for part in provider.received[0].parts if part[1]]
    assert files == [("image", "image-1.jpg", "image/jpeg", JPEG.data)]


async def test_each_call_has_its_own_connection(provider: ScriptedProvider, client: ImageClient) -> None:
    """No connection is kept that the other side might be closing when the next request is written to it."""
    provider.answers()
    await client.send(call())
    await client.send(call())
    first, second = provider.received
    assert first.peer != second.peer


async def test_the_key_appears_nowhere(
    provider: ScriptedProvider, client: ImageClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in a repr, not in a failure where the provider quotes it, not in what the failure came from, not in a log."""
    caplog.set_level(logging.DEBUG)
    message = f"Incorrect API key provided: {KEY}."
    provider.answers(401, json.dumps({"error": {"message": message, "code": "invalid_api_key"}}).encode())
    with pytest.raises(errors.AuthenticationFailed) as caught:
        await client.send(call())
    assert "Incorrect API key provided: [API key]." in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    shown = [repr(ProviderSettings(api_key=KEY)), repr(client), repr(vars(caught.value)), caplog.text]
    assert all(KEY not in text for text in shown)


async def test_the_key_is_in_no_answer_without_pictures(
    provider: ScriptedProvider, client: ImageClient
) -> None:
    """Some gateways answer an error with 200, and quote the key: what is kept and told of the answer is without it."""
    provider.answers(body=json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}."}}).encode())
    answer = await client.send(call())
    assert json.loads(answer.body) == {"error": {"message": "Incorrect API key provided: [API key]."}}


async def test_a_key_that_looks_like_pixels_changes_no_picture(provider: ScriptedProvider) -> None:
    """A placeholder for gateways without keys may be part of a picture's base64."""
    body = b'{"data": [{"b64_json": "QUFBQUFBQUFBQUFBQUFBQUFB"}]}'
    provider.answers(body=body)
    settings = ProviderSettings(api_key="QUFBQUFBQUFBQUFB", base_url=f"{provider.url}/v1")
    async with open_client(settings) as client:
        assert (await client.send(call())).body == body


async def test_azure_has_its_own_addresses_and_header(provider: ScriptedProvider) -> None:
    """On Azure the model names a deployment in the path, the version is asked for, and the key has a header of its own."""
    provider.answers(headers={"apim-request-id": "azure-7"})
    settings = ProviderSettings(api_key=KEY, azure_endpoint=provider.url, azure_api_version="2026-04-01")
    async with open_client(settings) as client:
        answer = await client.send(call())
        await client.send(edit((PNG,)))
    generation, edition = provider.received
    assert generation.path == "/openai/deployments/gpt-image-2/images/generations"
    assert edition.path == "/openai/deployments/gpt-image-2/images/edits"
    assert generation.query == edition.query == {"api-version": "2026-04-01"}
    assert generation.headers["api-key"] == KEY
    assert "Authorization" not in generation.headers
    assert answer.provider_request_id == "azure-7"


async def test_the_settings_alone_say_where_requests_go(
    provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's own reading of the environment does not move requests, and blanks around a key do not break it."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    provider.answers()
    async with open_client(ProviderSettings(api_key=f" {KEY}\n", base_url=f"{provider.url}/v1")) as client:
        await client.send(call())
    assert provider.received[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (ProviderSettings(api_key=None), "there is no API key; set OPENAI_API_KEY"),
        (ProviderSettings(api_key=" \n"), "there is no API key; set OPENAI_API_KEY"),
        (ProviderSettings(api_key="sk one"), "OPENAI_API_KEY contains a space"),
        (ProviderSettings(api_key="sk-\u2026"), "OPENAI_API_KEY contains a space"),
        (
            ProviderSettings(api_key=KEY, base_url="api.openai.com/v1"),
            "OPENAI_BASE_URL is 'api.openai.com/v1'",
        ),
        (ProviderSettings(api_key=KEY, base_url="ftp://x"), "OPENAI_BASE_URL is 'ftp://x'"),
        (ProviderSettings(api_key=KEY, base_url="http://x:port"), "OPENAI_BASE_URL is 'http://x:port'"),
        (
            ProviderSettings(api_key=KEY, azure_endpoint="mine", azure_api_version="1"),
            "AZURE_OPENAI_ENDPOINT is 'mine'",
        ),
        (ProviderSettings(api_key=KEY, azure_endpoint="https://x"), "set OPENAI_API_VERSION"),
        (
            ProviderSettings(
                api_key=KEY, azure_endpoint="https://x", azure_api_version="1", base_url="https://y"
            ),
            "are both set",
        ),
    ],
)
def test_a_setting_that_cannot_work_is_refused(settings: ProviderSettings, sentence: str) -> None:
    """One sentence names the setting and what to write; nothing is sent, and repeating does not help."""
    with pytest.raises(errors.ProviderNotConfigured, match=sentence) as caught:
        open_client(settings)
    assert (caught.value.outcome, caught.value.retryable) == ("not_sent", False)
