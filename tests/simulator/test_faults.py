"""Each scripted fault does what it says to the real SDK, and is paid exactly when it says so."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import pytest
from openai import APIConnectionError, APIStatusError, AsyncOpenAI
from openai.types import ImagesResponse

from simulator.faults import Fault, FaultKind, find_fault
from simulator.http import StartupError
from simulator.server import Simulator

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]
REFUSALS = [
    ("rate_limited", 429, "rate_limit_exceeded"),
    ("slow_down", 429, "slow_down"),
    ("insufficient_quota", 429, "insufficient_quota"),
    ("insufficient_quota=credit_balance_exhausted", 429, "credit_balance_exhausted"),
    ("billing_hard_limit", 400, "billing_hard_limit_reached"),
    ("moderation_blocked", 400, "moderation_blocked"),
    ("invalid_api_key", 401, "invalid_api_key"),
    ("not_verified", 403, None),
    ("model_not_found", 404, "model_not_found"),
    ("no_access_model", 403, "model_not_found"),
    ("server_error", 500, "server_error"),
    ("overloaded", 503, "server_is_overloaded"),
    ("conflict", 409, "conflict"),
    ("unprocessable", 422, "unprocessable_entity"),
    ("request_timeout", 408, "request_timeout"),
]


async def generate(client: AsyncOpenAI, **changes: Any) -> ImagesResponse:
    """Send one small request: 7 tokens in and 272 out, 10,915 micro-USD."""
    answer: ImagesResponse = await client.images.generate(
        **{"model": "gpt-image-1", "quality": "low", "prompt": "abcd", **changes}
    )
    return answer


async def generate_json(http: httpx2.AsyncClient, **changes: Any) -> dict[str, Any]:
    body = {"model": "gpt-image-1", "quality": "low", "prompt": "abcd", **changes}
    parsed: dict[str, Any] = (await http.post("/images/generations", json=body)).json()
    return parsed


def paid_and_status(simulator: Simulator) -> list[tuple[bool, int | None]]:
    return [(entry.paid, entry.status) for entry in simulator.books.entries]


@pytest.mark.parametrize(("fault", "status", "code"), REFUSALS)
async def test_refused_request_is_unpaid_and_the_next_succeeds(
    client: AsyncOpenAI, simulator: Simulator, fault: str, status: int, code: str | None
) -> None:
    simulator.script(fault)
    with pytest.raises(APIStatusError) as refusal:
        await generate(client)
    assert (refusal.value.status_code, refusal.value.code) == (status, code)
    assert refusal.value.request_id == simulator.books.entries[0].request_id
    await generate(client)
    assert paid_and_status(simulator) == [(False, status), (True, 200)]


async def test_refusals_have_the_details_that_clients_classify_by(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    """Covers moderation_details, and the message of an organization that is not verified."""
    simulator.script("moderation_blocked", "not_verified")
    with pytest.raises(APIStatusError) as blocked:
        await generate(client)
    assert isinstance(blocked.value.body, dict)
    assert blocked.value.body["moderation_details"] == {
        "moderation_stage": "input",
        "categories": ["violence"],
    }
    with pytest.raises(APIStatusError) as not_verified:
        await generate(client)
    assert "organization must be verified to use the model `gpt-image-1`" in not_verified.value.message


async def test_retry_time_is_sent_in_the_chosen_header(client: AsyncOpenAI, simulator: Simulator) -> None:
    for header in ("retry-after", "retry-after-ms", "http-date", "none"):
        simulator.script(f"rate_limited,seconds=90,header={header}")
    answers = []
    for _ in range(4):
        with pytest.raises(APIStatusError) as refusal:
            await generate(client)
        answers.append(refusal.value)
    headers = [answer.response.headers for answer in answers]
    assert (headers[0]["retry-after"], headers[1]["retry-after-ms"]) == ("90", "90000")
    sent = parsedate_to_datetime(headers[2]["date"])
    assert 89 <= (parsedate_to_datetime(headers[2]["retry-after"]) - sent).total_seconds() <= 91
    assert not {"retry-after", "retry-after-ms"} & set(headers[3])
    assert "try again in 90s" in answers[3].message


@pytest.mark.parametrize(("fault", "status"), [("bad_gateway", 502), ("gateway_timeout", 504)])
async def test_gateway_page_has_no_provider_headers(
    client: AsyncOpenAI, simulator: Simulator, fault: str, status: int
) -> None:
    """Only the books know whether the request was paid."""
    simulator.script(fault, f"{fault},paid=true")
    for _ in range(2):
        with pytest.raises(APIStatusError) as refusal:
            await generate(client)
        assert refusal.value.status_code == status
        assert refusal.value.response.text.startswith("<html>")
        assert refusal.value.request_id is None
    assert paid_and_status(simulator) == [(False, status), (True, status)]


@pytest.mark.parametrize(
    ("fault", "status", "micro_usd"),
    [("reset_before", None, 0), ("reset_after_payment", None, 10_915), ("truncated", 200, 10_915)],
)
async def test_broken_connection_is_a_connection_error_in_the_sdk(
    client: AsyncOpenAI, simulator: Simulator, fault: str, status: int | None, micro_usd: int
) -> None:
    simulator.script(fault)
    with pytest.raises(APIConnectionError) as broken:
        await generate(client)
    assert isinstance(broken.value.__cause__, (httpx2.ReadError, httpx2.RemoteProtocolError))
    assert paid_and_status(simulator) == [(micro_usd > 0, status)]
    assert simulator.books.get_totals()["list_price_micro_usd"] == micro_usd


async def test_truncated_response_is_half_of_the_announced_body(
    http: httpx2.AsyncClient, simulator: Simulator
) -> None:
    simulator.script("truncated")
    body = {"model": "gpt-image-1", "prompt": "abcd", "quality": "low"}
    received = bytearray()
    async with http.stream("POST", "/images/generations", json=body) as answer:
        promised = int(answer.headers["content-length"])
        with suppress(httpx2.RemoteProtocolError):
            async for chunk in answer.aiter_raw():
                received += chunk
    assert len(received) == promised // 2


async def test_hanging_request_is_paid_at_once_and_ends_with_the_client(
    client: AsyncOpenAI, simulator: Simulator, eventually: Eventually
) -> None:
    simulator.script("hang")
    call = asyncio.create_task(generate(client))
    await eventually(lambda: len(simulator.books.paid) == 1)
    assert simulator.in_progress == 1
    call.cancel()
    await eventually(lambda: simulator.in_progress == 0)
    assert paid_and_status(simulator) == [(True, None)]


async def test_disconnected_client_is_charged(
    client: AsyncOpenAI, simulator: Simulator, eventually: Eventually
) -> None:
    simulator.script("delay=0.3")
    call = asyncio.create_task(generate(client))
    await eventually(lambda: simulator.in_progress == 1)
    call.cancel()
    await eventually(lambda: simulator.in_progress == 0)
    assert call.cancelled()
    assert paid_and_status(simulator) == [(True, 200)]


async def test_client_following_a_redirect_pays_twice(client: AsyncOpenAI, simulator: Simulator) -> None:
    """The SDK follows a 307 by default and sends the request again with the same client id."""
    headers = {"X-Client-Request-Id": "run-1:1"}
    answer = await generate(client, prompt="abcd [simulate:redirect]", extra_headers=headers)
    assert len(answer.data or []) == 1
    assert paid_and_status(simulator) == [(True, 307), (True, 200)]
    assert [entry.client_request_id_repeated for entry in simulator.books.entries] == [False, True]


@pytest.mark.parametrize("fault", ["malformed_json", "plain_text"])
async def test_response_body_that_is_not_json_is_paid(
    http: httpx2.AsyncClient, simulator: Simulator, fault: str
) -> None:
    simulator.script(fault)
    answer = await http.post("/images/generations", json={"model": "gpt-image-1", "prompt": "abcd"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(
        {"malformed_json": "application/json", "plain_text": "text/plain"}[fault]
    )
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    assert paid_and_status(simulator) == [(True, 200)]


async def test_damaged_images_are_paid(http: httpx2.AsyncClient, simulator: Simulator) -> None:
    simulator.script("no_data", "bad_base64", "not_an_image", "wrong_format", "wrong_count")
    answers = [await generate_json(http, n=2) for _ in range(5)]
    assert "data" not in answers[0]
    with pytest.raises(ValueError, match="base64"):
        base64.b64decode(answers[1]["data"][0]["b64_json"], validate=True)
    assert base64.b64decode(answers[2]["data"][0]["b64_json"], validate=True).startswith(
        b"This is not an image"
    )
    assert answers[3]["output_format"] == "png"
    assert base64.b64decode(answers[3]["data"][0]["b64_json"]).startswith(b"\xff\xd8\xff")
    assert len(answers[4]["data"]) == 1
    assert paid_and_status(simulator) == [(True, 200)] * 5


async def test_gateway_base64_variants_are_paid(http: httpx2.AsyncClient, simulator: Simulator) -> None:
    simulator.script(
        "odd_base64", "odd_base64=data_uri_in_url", "lost_picture=filter", "lost_picture=damaged"
    )
    wrapped, linked, filtered, damaged = [await generate_json(http, n=2) for _ in range(4)]
    assert "\n" in wrapped["data"][0]["b64_json"]
    assert linked["data"][0]["url"].startswith("data:image/png;base64,")
    assert filtered["data"][1]["b64_json"] is None
    assert len(damaged["data"][1]["b64_json"]) < len(damaged["data"][0]["b64_json"])
    assert paid_and_status(simulator) == [(True, 200)] * 4


async def test_missing_usage_is_recorded_in_the_books(http: httpx2.AsyncClient, simulator: Simulator) -> None:
    simulator.script("missing_usage", FaultKind.NULL_USAGE, Fault(kind=FaultKind.ZERO_USAGE))
    answers = [await generate_json(http) for _ in range(3)]
    assert "usage" not in answers[0]
    assert answers[1]["usage"] is None
    assert [answers[2]["usage"][name] for name in ("input_tokens", "output_tokens", "total_tokens")] == [
        0,
        0,
        0,
    ]
    for entry in simulator.books.entries:
        assert entry.usage is not None
        assert (entry.usage["output_tokens"], entry.list_price_micro_usd) == (272, 10_915)


@pytest.mark.parametrize("field", ["input_tokens", "output_tokens", "total_tokens", "input_tokens_details"])
async def test_partial_usage_omits_the_named_field(
    http: httpx2.AsyncClient, simulator: Simulator, field: str
) -> None:
    simulator.script(f"partial_usage={field}")
    usage = (await generate_json(http))["usage"]
    everything = {"input_tokens", "output_tokens", "total_tokens", "input_tokens_details"}
    assert set(usage) == everything - {field}


@pytest.mark.parametrize(
    ("form", "output_tokens"),
    [("negative", -272), ("string", "272"), ("float", 272.5), ("bool", True), ("absurd", 10**13)],
)
async def test_malformed_usage_has_the_requested_form(
    http: httpx2.AsyncClient, simulator: Simulator, form: str, output_tokens: object
) -> None:
    simulator.script(f"malformed_usage={form}")
    given = (await generate_json(http))["usage"]["output_tokens"]
    assert (given, type(given)) == (output_tokens, type(output_tokens))


async def test_usage_can_be_a_list_or_oversize(http: httpx2.AsyncClient, simulator: Simulator) -> None:
    simulator.script("malformed_usage=list", "oversize_usage")
    assert (await generate_json(http))["usage"] == [272]
    usage = (await generate_json(http))["usage"]
    assert (usage["output_tokens"], len(usage["trace"])) == (272, 3 * 1024 * 1024)


async def test_fault_in_the_prompt_precedes_queued_faults(client: AsyncOpenAI, simulator: Simulator) -> None:
    simulator.script("server_error")
    answer = await generate(client, prompt="A bicycle [simulate:delay=0.01] [simulate:missing_usage]")
    assert answer.usage is None
    assert [entry.fault for entry in simulator.books.entries] == ["missing_usage"]
    with pytest.raises(APIStatusError):
        await generate(client)


def test_delays_in_a_prompt_add_up() -> None:
    fault = find_fault("[simulate:delay=2] A bicycle [simulate:delay=3] [simulate:hang,delay_seconds=4]")
    assert fault is not None
    assert (fault.kind, fault.delay_seconds) == (FaultKind.HANG, 9)
    assert find_fault("[simulated] A bicycle") is None


@pytest.mark.parametrize(
    "token",
    [
        "[simulate:]",
        "[simulate:delay=soon]",
        "[simulate:delay=-1]",
        "[simulate:delay=inf]",
        "[simulate:server_error,paid=true]",
        "[simulate:server_error][simulate:missing_usage]",
        "[simulate:rate_limited,header=fax]",
    ],
)
async def test_unknown_fault_is_refused(client: AsyncOpenAI, simulator: Simulator, token: str) -> None:
    """A misspelled fault must not let a test pass because nothing happened."""
    with pytest.raises(APIStatusError) as refusal:
        await generate(client, prompt=f"A bicycle {token}")
    assert refusal.value.code == "unknown_fault"
    with pytest.raises(ValueError, match=r"fault|option|delay|header"):
        simulator.script(token.removeprefix("[simulate:").removesuffix("]"))


async def test_matching_fault_applies_to_the_first_matching_prompt(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    """Other prompts and refused requests do not use the fault up."""
    simulator.script("overloaded", match="bicycle")
    await generate(client, prompt="A car")
    with pytest.raises(APIStatusError):
        await generate(client, prompt="A bicycle", n=11)
    with pytest.raises(APIStatusError):
        await generate(client, prompt="A bicycle")
    await generate(client, prompt="A bicycle")
    assert [entry.status for entry in simulator.books.entries] == [200, 400, 503, 200]


async def test_faults_are_queued_listed_and_cleared_over_http(
    client: AsyncOpenAI, simulator: Simulator
) -> None:
    root = simulator.base_url.removesuffix("/v1")
    async with httpx2.AsyncClient(base_url=f"{root}/_simulator") as control:
        faults = [{"kind": "rate_limited", "seconds": 2, "header": "retry-after-ms"}, {"kind": "hang"}]
        queued = await control.post("/faults", json={"faults": faults, "match": "abc"})
        assert queued.json() == {"queued": 2}
        with pytest.raises(APIStatusError) as refusal:
            await generate(client)
        assert refusal.value.response.headers["retry-after-ms"] == "2000"
        shown = (await control.get("/faults")).json()
        assert shown["queued"] == [{"kind": "hang", "match": "abc"}]
        assert set(shown["kinds"]) == {kind.value for kind in FaultKind}
        assert (await control.delete("/faults")).json() == {"removed": 1}
        await generate(client)
        wrong_scripts: tuple[Any, ...] = (
            {"faults": [{"kind": "rain"}]},
            {"faults": []},
            {"faults": [{"kind": "hang", "paid": True}]},
            [],
        )
        for wrong in wrong_scripts:
            answer = await control.post("/faults", json=wrong)
            assert answer.status_code == 400
            assert answer.json()["error"]["message"].startswith("Invalid faults: ")


async def test_random_faults_are_reproducible_by_seed() -> None:

    async def outcomes(seed: int) -> list[str | None]:
        async with Simulator(fault_rates={"server_error": 0.4, "overloaded": 0.2}, seed=seed) as simulator:
            async with httpx2.AsyncClient(headers={"Authorization": "Bearer a"}) as http:
                body = {"model": "gpt-image-1", "prompt": "abcd"}
                for _ in range(30):
                    await http.post(f"{simulator.base_url}/images/generations", json=body)
            return [entry.fault for entry in simulator.books.entries]

    first = await outcomes(1)
    assert first == await outcomes(1)
    assert first != await outcomes(2)
    assert set(first) == {None, "server_error", "overloaded"}


@pytest.mark.parametrize(
    "rates", [{"server_error": 1.2}, {"hang": -0.1}, {"hang": 0.6, "delay=1": 0.6}, {"rain": 0.1}]
)
def test_invalid_fault_rates_are_refused(rates: dict[str, float]) -> None:
    with pytest.raises(StartupError, match="fault rates"):
        Simulator(fault_rates=rates)
