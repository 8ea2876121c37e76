"""Each scripted fault does what it says, to the real SDK, and is paid exactly when it says so."""

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
    """One small order: 7 tokens in and 272 out, 10,915 micro-USD."""
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
async def test_refusal(
    client: AsyncOpenAI, simulator: Simulator, fault: str, status: int, code: str | None
) -> None:
    """An error answer has its status and code, costs nothing, and the next request goes well."""
    simulator.script(fault)
    with pytest.raises(APIStatusError) as refusal:
        await generate(client)
    assert (refusal.value.status_code, refusal.value.code) == (status, code)
    assert refusal.value.request_id == simulator.books.entries[0].request_id
    await generate(client)
    assert paid_and_status(simulator) == [(False, status), (True, 200)]


async def test_details_that_classifiers_read(client: AsyncOpenAI, simulator: Simulator) -> None:
    """A blocked prompt brings moderation_details; an organisation that is not verified is known by its message."""
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


async def test_spellings_of_the_time_to_wait(client: AsyncOpenAI, simulator: Simulator) -> None:
    """The time to wait is sent in seconds, in milliseconds, as a date, or in the message only."""
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
async def test_gateway_page(client: AsyncOpenAI, simulator: Simulator, fault: str, status: int) -> None:
    """A proxy's page is HTML without the provider's headers, and only the books know whether it was paid."""
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
async def test_connection_that_breaks(
    client: AsyncOpenAI, simulator: Simulator, fault: str, status: int | None, micro_usd: int
) -> None:
    """A reset and a half answer look like a lost connection to the client, whether paid or not."""
    simulator.script(fault)
    with pytest.raises(APIConnectionError) as broken:
        await generate(client)
    assert isinstance(broken.value.__cause__, (httpx2.ReadError, httpx2.RemoteProtocolError))
    assert paid_and_status(simulator) == [(micro_usd > 0, status)]
    assert simulator.books.sum_up()["list_price_micro_usd"] == micro_usd


async def test_truncated_answer_is_half_of_what_was_promised(
    http: httpx2.AsyncClient, simulator: Simulator
) -> None:
    """Half of the promised body arrives before the connection ends."""
    simulator.script("truncated")
    body = {"model": "gpt-image-1", "prompt": "abcd", "quality": "low"}
    received = bytearray()
    async with http.stream("POST", "/images/generations", json=body) as answer:
        promised = int(answer.headers["content-length"])
        with suppress(httpx2.RemoteProtocolError):
            async for chunk in answer.aiter_raw():
                received += chunk
    assert len(received) == promised // 2


async def test_hang_ends_when_the_client_leaves(
    client: AsyncOpenAI, simulator: Simulator, eventually: Eventually
) -> None:
    """A hanging request is paid at once, stays open until the client gives up, and is done with then."""
    simulator.script("hang")
    call = asyncio.create_task(generate(client))
    await eventually(lambda: len(simulator.books.paid) == 1)
    assert simulator.in_progress == 1
    call.cancel()
    await eventually(lambda: simulator.in_progress == 0)
    assert paid_and_status(simulator) == [(True, None)]


async def test_client_that_leaves_early_pays_all_the_same(
    client: AsyncOpenAI, simulator: Simulator, eventually: Eventually
) -> None:
    """The work goes on without its client: giving up does not make a picture free."""
    simulator.script("delay=0.3")
    call = asyncio.create_task(generate(client))
    await eventually(lambda: simulator.in_progress == 1)
    call.cancel()
    await eventually(lambda: simulator.in_progress == 0)
    assert call.cancelled()
    assert paid_and_status(simulator) == [(True, 200)]


async def test_client_that_follows_a_redirect_pays_twice(client: AsyncOpenAI, simulator: Simulator) -> None:
    """The SDK follows a 307 by default and sends the picture's order again: two payments, the same client id."""
    headers = {"X-Client-Request-Id": "run-1:1"}
    answer = await generate(client, prompt="abcd [simulate:redirect]", extra_headers=headers)
    assert len(answer.data or []) == 1
    assert paid_and_status(simulator) == [(True, 307), (True, 200)]
    assert [entry.client_request_id_repeated for entry in simulator.books.entries] == [False, True]


@pytest.mark.parametrize("fault", ["malformed_json", "plain_text"])
async def test_answer_that_is_no_json(http: httpx2.AsyncClient, simulator: Simulator, fault: str) -> None:
    """A 200 whose body is no JSON, labelled as JSON or as text, and paid."""
    simulator.script(fault)
    answer = await http.post("/images/generations", json={"model": "gpt-image-1", "prompt": "abcd"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(
        {"malformed_json": "application/json", "plain_text": "text/plain"}[fault]
    )
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    assert paid_and_status(simulator) == [(True, 200)]


async def test_spoilt_pictures(http: httpx2.AsyncClient, simulator: Simulator) -> None:
    """Pictures are absent, undecodable, no pictures, of another format, or one too few; all of it is paid."""
    simulator.script("no_data", "bad_base64", "not_an_image", "wrong_format", "wrong_count")
    answers = [await generate_json(http, n=2) for _ in range(5)]
    assert "data" not in answers[0]
    with pytest.raises(ValueError, match="base64"):
        base64.b64decode(answers[1]["data"][0]["b64_json"], validate=True)
    assert base64.b64decode(answers[2]["data"][0]["b64_json"], validate=True).startswith(
        b"This is no picture"
    )
    assert answers[3]["output_format"] == "png"
    assert base64.b64decode(answers[3]["data"][0]["b64_json"]).startswith(b"\xff\xd8\xff")
    assert len(answers[4]["data"]) == 1
    assert paid_and_status(simulator) == [(True, 200)] * 5


async def test_pictures_as_gateways_send_them(http: httpx2.AsyncClient, simulator: Simulator) -> None:
    """The same picture in another spelling, or with something else in place of the last one; all of it is paid."""
    simulator.script(
        "odd_base64", "odd_base64=data_uri_in_url", "lost_picture=filter", "lost_picture=damaged"
    )
    wrapped, linked, filtered, damaged = [await generate_json(http, n=2) for _ in range(4)]
    assert "\n" in wrapped["data"][0]["b64_json"]
    assert linked["data"][0]["url"].startswith("data:image/png;base64,")
    assert filtered["data"][1]["b64_json"] is None
    assert len(damaged["data"][1]["b64_json"]) < len(damaged["data"][0]["b64_json"])
    assert paid_and_status(simulator) == [(True, 200)] * 4


async def test_withheld_usage_is_known_to_the_books(http: httpx2.AsyncClient, simulator: Simulator) -> None:
    """Usage that is missing, null or zero in the answer was used, and paid, all the same."""
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
async def test_partial_usage(http: httpx2.AsyncClient, simulator: Simulator, field: str) -> None:
    """Exactly the named field is missing."""
    simulator.script(f"partial_usage={field}")
    usage = (await generate_json(http))["usage"]
    everything = {"input_tokens", "output_tokens", "total_tokens", "input_tokens_details"}
    assert set(usage) == everything - {field}


@pytest.mark.parametrize(
    ("form", "output_tokens"),
    [("negative", -272), ("string", "272"), ("float", 272.5), ("bool", True), ("absurd", 10**13)],
)
async def test_malformed_usage(
    http: httpx2.AsyncClient, simulator: Simulator, form: str, output_tokens: object
) -> None:
    """output_tokens has the form that was asked for."""
    simulator.script(f"malformed_usage={form}")
    given = (await generate_json(http))["usage"]["output_tokens"]
    assert (given, type(given)) == (output_tokens, type(output_tokens))


async def test_usage_of_a_wrong_type_and_of_a_wrong_size(
    http: httpx2.AsyncClient, simulator: Simulator
) -> None:
    """Usage can be a list, and it can hold 3 MB that nobody asked for beside true numbers."""
    simulator.script("malformed_usage=list", "oversize_usage")
    assert (await generate_json(http))["usage"] == [272]
    usage = (await generate_json(http))["usage"]
    assert (usage["output_tokens"], len(usage["trace"])) == (272, 3 * 1024 * 1024)


async def test_prompt_asks_for_a_fault(client: AsyncOpenAI, simulator: Simulator) -> None:
    """A prompt brings its own fault and its delay, before anything that is queued."""
    simulator.script("server_error")
    answer = await generate(client, prompt="A bicycle [simulate:delay=0.01] [simulate:missing_usage]")
    assert answer.usage is None
    assert [entry.fault for entry in simulator.books.entries] == ["missing_usage"]
    with pytest.raises(APIStatusError):
        await generate(client)


def test_delays_add_up() -> None:
    """All delays of a prompt count, beside its one fault."""
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
async def test_fault_that_does_not_exist(client: AsyncOpenAI, simulator: Simulator, token: str) -> None:
    """A misspelt fault is refused, so that no test passes because its fault never struck."""
    with pytest.raises(APIStatusError) as refusal:
        await generate(client, prompt=f"A bicycle {token}")
    assert refusal.value.code == "unknown_fault"
    with pytest.raises(ValueError, match=r"fault|option|delay|header"):
        simulator.script(token.removeprefix("[simulate:").removesuffix("]"))


async def test_faults_wait_for_the_prompt_that_they_match(client: AsyncOpenAI, simulator: Simulator) -> None:
    """A fault with a match strikes the first prompt that contains it, others go by, refused ones do not use it up."""
    simulator.script("overloaded", match="bicycle")
    await generate(client, prompt="A car")
    with pytest.raises(APIStatusError):
        await generate(client, prompt="A bicycle", n=11)
    with pytest.raises(APIStatusError):
        await generate(client, prompt="A bicycle")
    await generate(client, prompt="A bicycle")
    assert [entry.status for entry in simulator.books.entries] == [200, 400, 503, 200]


async def test_faults_are_scripted_over_http(client: AsyncOpenAI, simulator: Simulator) -> None:
    """Another process queues, sees and forgets faults over HTTP; a wrong one is refused in a sentence."""
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
            assert answer.json()["error"]["message"].startswith("These faults cannot be scripted: ")


async def test_random_faults_repeat_with_their_seed() -> None:
    """The same seed and rates give the same faults in the same order, another seed gives others."""

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
def test_rates_that_are_none(rates: dict[str, float]) -> None:
    """Rates that are no probabilities or name no fault are refused at once."""
    with pytest.raises(StartupError, match="fault rates"):
        Simulator(fault_rates=rates)
