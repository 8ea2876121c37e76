"""The simulator refuses what the real API refuses: same status, same error body, nothing paid."""

from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI, AuthenticationError, BadRequestError

from simulator.server import Simulator

SOUND = {"model": "gpt-image-1", "prompt": "A bicycle"}
SCHEMA, IMAGE = "invalid_request_error", "image_generation_user_error"

REFUSED: list[tuple[dict[str, Any], str, str, str]] = [
    ({"seed": 7}, "unknown_parameter", "seed", SCHEMA),
    ({"response_format": "url"}, "unknown_parameter", "response_format", SCHEMA),
    ({"input_fidelity": "low"}, "unknown_parameter", "input_fidelity", SCHEMA),
    ({"prompt": None}, "missing_required_parameter", "prompt", SCHEMA),
    ({"model": None}, "missing_required_parameter", "model", SCHEMA),
    ({"prompt": ""}, "empty_string", "prompt", SCHEMA),
    ({"prompt": "x" * 32_001}, "string_above_max_length", "prompt", SCHEMA),
    ({"prompt": ["A bicycle"]}, "invalid_type", "prompt", SCHEMA),
    ({"n": "2"}, "invalid_type", "n", SCHEMA),
    ({"n": 2.0}, "invalid_type", "n", SCHEMA),
    ({"n": True}, "invalid_type", "n", SCHEMA),
    ({"n": 0}, "integer_below_min_value", "n", SCHEMA),
    ({"n": 11}, "integer_above_max_value", "n", SCHEMA),
    ({"model": "dall-e-3"}, "invalid_value", "model", IMAGE),
    ({"size": "512x512"}, "invalid_value", "size", IMAGE),
    ({"size": "2048x2048"}, "invalid_value", "size", IMAGE),
    ({"quality": "xhigh"}, "invalid_value", "quality", IMAGE),
    ({"quality": "hd"}, "invalid_value", "quality", IMAGE),
    ({"background": "none"}, "invalid_value", "background", IMAGE),
    ({"moderation": "off"}, "invalid_value", "moderation", IMAGE),
    ({"output_format": "gif"}, "invalid_value", "output_format", IMAGE),
    ({"output_format": "svg"}, "invalid_value", "output_format", IMAGE),
    (
        {"background": "transparent", "output_format": "jpeg"},
        "invalid_transparent_background_output_format",
        "background",
        IMAGE,
    ),
    ({"output_compression": 50}, "invalid_value", "output_compression", IMAGE),
    (
        {"output_format": "webp", "output_compression": 101},
        "integer_above_max_value",
        "output_compression",
        SCHEMA,
    ),
    ({"stream": 1}, "invalid_type", "stream", SCHEMA),
    ({"stream": True, "partial_images": 4}, "integer_above_max_value", "partial_images", SCHEMA),
    ({"stream": True, "partial_images": -1}, "integer_below_min_value", "partial_images", SCHEMA),
    ({"partial_images": 2}, "invalid_value", "partial_images", SCHEMA),
    ({"stream": False, "partial_images": 0}, "invalid_value", "partial_images", SCHEMA),
    ({"prompt": "[simulate:stream_broken=1]"}, "unknown_fault", "prompt", SCHEMA),
    ({"model": "gpt-image-2", "size": "1000x1000"}, "invalid_value", "size", IMAGE),  # not divisible by 16
    ({"model": "gpt-image-2", "size": "3856x1600"}, "invalid_value", "size", IMAGE),  # edge above 3840
    ({"model": "gpt-image-2.5-flare", "size": "3200x1024"}, "invalid_value", "size", IMAGE),  # wider than 3:1
    ({"model": "gpt-image-2.6-flare", "size": "800x800"}, "invalid_value", "size", IMAGE),  # 640,000 pixels
    ({"model": "gpt-image-2", "size": "3840x2176"}, "invalid_value", "size", IMAGE),  # 8,355,840 pixels
    ({"model": "gpt-image-2", "size": "1024×1024"}, "invalid_value", "size", IMAGE),  # noqa: RUF001 - a sign, no letter
    ({"model": "gpt-image-2", "quality": "max"}, "invalid_value", "quality", IMAGE),
    ({"prompt": "[simulate:rain]"}, "unknown_fault", "prompt", SCHEMA),
]


@pytest.mark.parametrize(
    ("change", "code", "where"),
    [(change, code, (param, error_type)) for change, code, param, error_type in REFUSED],
    ids=lambda value: str(value)[:40],
)
async def test_invalid_generation_is_refused_unpaid(
    http: httpx2.AsyncClient,
    simulator: Simulator,
    change: dict[str, Any],
    code: str,
    where: tuple[str, str],
) -> None:
    answer = await http.post("/images/generations", json={**SOUND, **change})
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["code"], (error["param"], error["type"])) == (code, where)
    [entry] = simulator.books.entries
    assert (entry.paid, entry.status, entry.error_code) == (False, 400, code)


@pytest.mark.parametrize(
    "change",
    [
        {
            "model": "gpt-image-2",
            "size": "3840x2160",
            "quality": "low",
            "output_format": "jpeg",
            "output_compression": 0,
        },
        {"model": "gpt-image-2", "size": "1024x640"},  # exactly 655,360 pixels
        {"model": "gpt-image-2", "size": "1536x512"},  # exactly 3:1
        {"model": "gpt-image-2.5-sunburst", "quality": "max"},
        {"prompt": "x" * 32_000},
        {"n": None, "size": None, "stream": False, "user": "u", "moderation": "low"},
    ],
    ids=lambda value: str(value)[:40],
)
async def test_values_at_their_limits_are_accepted(http: httpx2.AsyncClient, change: dict[str, Any]) -> None:
    """A null parameter counts as omitted."""
    answer = await http.post("/images/generations", json={**SOUND, **change})
    assert answer.status_code == 200, answer.text


async def test_unknown_model_is_a_400_of_the_image_api(client: AsyncOpenAI) -> None:
    """The provider returns a 400 here, not a 404."""
    with pytest.raises(BadRequestError) as refusal:
        await client.images.generate(model="dall-e-2", prompt="A bicycle")
    assert refusal.value.body == {
        "message": "The model 'dall-e-2' does not exist.",
        "type": "image_generation_user_error",
        "param": "model",
        "code": "invalid_value",
    }


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer invalid", "Bearer sk-invalid-1", "Basic sk-test"]
)
async def test_missing_or_invalid_key_is_refused(
    http: httpx2.AsyncClient, simulator: Simulator, authorization: str
) -> None:
    headers = {"Authorization": authorization}
    answer = await http.post("/images/generations", json=SOUND, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert (await http.get("/models", headers=headers)).status_code == 401
    assert simulator.books.paid == ()


async def test_invalid_key_raises_authentication_error_in_the_sdk(simulator: Simulator) -> None:
    async with AsyncOpenAI(base_url=simulator.base_url, api_key="sk-invalid", max_retries=0) as client:
        with pytest.raises(AuthenticationError):
            await client.images.generate(model="gpt-image-1", prompt="A bicycle")


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (b'{"model": ', "application/json", "invalid_json"),
        (b'{"model": "gpt-image-1", "prompt": "a", "n": NaN}', "application/json", "invalid_json"),
        (b"\xff\xfe\x00", "application/json", "invalid_json"),
        (b"[" * 100_000, "application/json", "invalid_json"),
        (b'["gpt-image-1"]', "application/json", "invalid_type"),
        (b'{"model": "gpt-image-1", "prompt": "half \\ud83d a pair"}', "application/json", "invalid_value"),
        (b"model=gpt-image-1&prompt=a", "application/x-www-form-urlencoded", "unsupported_content_type"),
    ],
)
async def test_body_that_is_not_a_json_object_is_refused(
    http: httpx2.AsyncClient, body: bytes, content_type: str, code: str
) -> None:
    """Malformed, hostile or mislabeled JSON is a 400 with an error body, never a 500."""
    answer = await http.post("/images/generations", content=body, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


async def test_body_above_one_megabyte_is_refused(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/images/generations", json={**SOUND, "prompt": "x" * 1_100_000})
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, SCHEMA)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/images", 404), ("GET", "/images/edits", 405)]
)
async def test_unknown_path_or_method_gets_the_provider_error_body(
    http: httpx2.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await http.request(method, path)
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, SCHEMA)


@pytest.mark.parametrize("client_request_id", [b"x" * 513, "é".encode()])
async def test_invalid_client_request_id_is_refused(
    http: httpx2.AsyncClient, client_request_id: bytes
) -> None:
    headers = [(b"X-Client-Request-Id", client_request_id)]
    answer = await http.post("/images/generations", json=SOUND, headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "X-Client-Request-Id")


async def test_model_list_includes_shutdown_dates(client: AsyncOpenAI) -> None:
    dates = {model.id: model.shutdown_date async for model in client.models.list()}
    assert dates["gpt-image-1"] == "2026-10-23"
    assert dates["gpt-image-1-mini"] == "2026-12-01"
    assert dates["gpt-image-2"] is None
    assert "dall-e-3" not in dates


async def test_response_has_the_provider_headers(client: AsyncOpenAI, simulator: Simulator) -> None:
    raw = await client.images.with_raw_response.generate(
        model="gpt-image-1", prompt="A bicycle", quality="low"
    )
    assert raw.headers["x-request-id"] == simulator.books.entries[0].request_id
    assert raw.headers["x-request-id"].startswith("req_")
    assert (raw.headers["openai-organization"], raw.headers["x-simulated"]) == ("simulator", "true")
    assert raw.headers["openai-processing-ms"].isdigit()
    assert raw.headers["x-ratelimit-remaining-requests"] == "499"


@pytest.mark.parametrize(
    ("given", "echoed"),
    [
        ({"user": "u-1"}, "u-1"),
        ({"user": "u-1", "safety_identifier": "s-1"}, "s-1"),
        ({"user": "u", "safety_identifier": ""}, "u"),
    ],
)
async def test_effective_safety_identifier_is_echoed(
    http: httpx2.AsyncClient, given: dict[str, str], echoed: str
) -> None:
    """The `user` parameter is used where `safety_identifier` is empty."""
    answer = await http.post("/images/generations", json={**SOUND, **given})
    assert answer.json()["safety_identifier"] == echoed
