"""Reading the provider's answers, the good ones and the others."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.images.formats import verify_picture
from gpt_image_runs.provider.calls import RawAnswer
from gpt_image_runs.provider.errors import MalformedAnswer, ProviderFailure
from gpt_image_runs.provider.responses import (
    Answer,
    AnsweredPicture,
    decode_base64,
    read_answer,
    resolve_links,
)

PICTURE = b"\x89PNG a picture"
USAGE = {
    "input_tokens": 50,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
    "output_tokens": 4160,
    "total_tokens": 4210,
    "a_new_field": [1, 2.5, None],
}


def raw(payload: Any) -> RawAnswer:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return RawAnswer(
        body=body,
        headers={},
        http_status=200,
        provider_request_id="req_7",
        latency_ms=1,
        simulated=False,
        sent_at=datetime(2026, 11, 23, tzinfo=UTC),
    )


def picture(data: bytes = PICTURE, **more: str) -> dict[str, str]:
    return {"b64_json": base64.b64encode(data).decode(), **more}


def request(**fields: Any) -> ImageRequest:
    return ImageRequest.model_validate({"model": "gpt-image-2", "prompt": "a lighthouse", **fields})


def test_pictures_are_taken_out_and_everything_else_is_kept() -> None:
    """The response keeps each field, known or not, and no picture data."""
    payload = {
        "created": 1763899200,
        "data": [picture(revised_prompt="a tall lighthouse"), picture(b"second")],
        "size": "1024x1024",
        "quality": "high",
        "background": "opaque",
        "output_format": "png",
        "usage": USAGE,
        "a_new_field": {"x": 1},
    }
    answer = read_answer(raw(payload), request(n=2))
    assert answer == Answer(
        items=(AnsweredPicture(data=PICTURE), AnsweredPicture(data=b"second")),
        requested=2,
        response={
            "created": 1763899200,
            "data": [{"revised_prompt": "a tall lighthouse"}, {}],
            "size": "1024x1024",
            "quality": "high",
            "background": "opaque",
            "output_format": "png",
            "usage": USAGE,
            "a_new_field": {"x": 1},
        },
        usage=USAGE,
        size="1024x1024",
        quality="high",
        background="opaque",
        output_format="png",
    )
    assert answer.pictures == (PICTURE, b"second")
    assert answer.shortfall is None


@pytest.mark.parametrize("usage", [None, 0, "many", [], {"input_tokens": -1}, {"output_tokens": "12"}])
def test_usage_is_returned_unchanged(usage: Any) -> None:
    """Judging usage is billing's business: here it stays verbatim."""
    assert read_answer(raw({"data": [picture()], "usage": usage}), request()).usage == usage


def test_usage_that_is_absent_is_none() -> None:
    """Absent usage is no zero."""
    assert read_answer(raw({"data": [picture()]}), request()).usage is None


@pytest.mark.parametrize(
    ("told", "requested", "effective"),
    [
        ("1024x1024", "1536x1024", "1024x1024"),
        (None, "1536x1024", "1536x1024"),
        ("auto", "1536x1024", "1536x1024"),
        ("auto", "auto", None),
        (None, "auto", None),
        (None, None, None),
        (7, "1536x1024", "1536x1024"),
        ("x" * 65, None, None),
    ],
)
def test_the_effective_option_is_the_responses_then_the_requests(
    told: Any, requested: str | None, effective: str | None
) -> None:
    """The provider's word counts, else what was asked for; "auto" names nothing."""
    answer = read_answer(raw({"data": [picture()], "size": told}), request(size=requested))
    assert answer.size == effective


def test_another_count_than_asked_for_is_a_warning() -> None:
    """Pictures that were paid for are kept, fewer or more."""
    answer = read_answer(raw({"data": [picture(), picture()]}), request(n=4))
    assert len(answer.pictures) == 2
    assert answer.shortfall == (
        "4 pictures were asked for and 2 delivered. The bill follows the provider's usage."
    )


BASE64 = base64.b64encode(bytes(range(256))).decode()
URL_SAFE = base64.urlsafe_b64encode(bytes(range(256))).decode()


@pytest.mark.parametrize(
    "spelling",
    [
        BASE64,
        base64.encodebytes(bytes(range(256))).decode(),
        base64.encodebytes(bytes(range(256))).decode().replace("\n", "\r\n"),
        f"{BASE64}\n",
        f" \t{BASE64}\r\n",
        f"{BASE64[:40]}\\n{BASE64[40:]}\\r\\n",
        BASE64.rstrip("="),
        URL_SAFE,
        URL_SAFE.rstrip("="),
        f"data:image/png;base64,{BASE64}",
        f"DATA:IMAGE/PNG;Name=a.png;BASE64,{BASE64}\n",
        f"data:;base64,{BASE64}",
        f"data:image/png,{BASE64}",
        f"\ndata:image/png;base64,\n{BASE64.replace('+', '%2B').replace('=', '%3D')}",
    ],
)
def test_base64_is_decoded_as_gateways_write_it(spelling: str) -> None:
    """A picture that was paid for is not lost to a line end or a prefix, in `b64_json` or in `url`."""
    assert decode_base64(spelling) == bytes(range(256))
    for name in ("b64_json", "url"):
        if name == "b64_json" or "data:" in spelling.lower():
            answer = read_answer(raw({"data": [{name: spelling}], "usage": USAGE}), request())
            assert answer.pictures == (bytes(range(256)),)
            assert answer.response == {"data": [{}], "usage": USAGE}


@pytest.mark.parametrize(
    "spelling", ["", "data:", "data:image/png;base64,", "Q", "not base64!", "\u00e9", "===="]
)
def test_text_that_is_not_base64_is_refused(spelling: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - base64 and we word it differently
        decode_base64(spelling)


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (None, "data[1] has no b64_json"),
        ({}, "data[1] has no b64_json"),
        ({"b64_json": None, "url": None}, "data[1] has no b64_json"),
        ({"b64_json": "not base64!"}, "data[1].b64_json is not base64"),
        ({"url": "data:image/png;base64,!"}, "data[1].url is a data: URI that cannot be decoded"),
        (
            {
                "b64_json": None,
                "content_filter_results": {"violence": {"filtered": True, "severity": "high"}},
            },
            "data[1] was withheld by the content filter (violence)",
        ),
    ],
)
def test_unusable_image_does_not_affect_the_others(item: Any, problem: str) -> None:
    """The pictures that can be used are kept, and the sentence says how many came and what became of the rest."""
    answer = read_answer(raw({"data": [picture(), item, picture(b"third")], "usage": USAGE}), request(n=3))
    assert answer.pictures == (PICTURE, b"third")
    assert answer.usage == USAGE
    assert answer.shortfall == (
        f"3 pictures were asked for and 2 delivered: {problem}. The bill follows the provider's usage."
    )


@pytest.mark.parametrize(
    "payload",
    [
        {"data": picture()},
        {"data": [picture()["b64_json"]]},
        {"b64_json": picture()["b64_json"]},
        {"type": "image_generation.completed", **picture()},
    ],
)
def test_a_picture_outside_of_a_list_of_objects_is_found(payload: Any) -> None:
    answer = read_answer(raw({**payload, "usage": USAGE}), request())
    assert answer.pictures == (PICTURE,)
    assert "b64_json" not in json.dumps(answer.response)


REPORTED = Path(__file__).parent / "reported_answers"


@pytest.mark.parametrize(
    "name",
    [
        "02-wrapped_b64",
        "02-trailing_nl_b64",
        "04-data_url_b64",
        "04-data_url_in_url",
        "06-one_of_two_filtered",
    ],
)
def test_reported_answers_are_read(name: str) -> None:
    """Answers of real gateways whose picture and usage were lost."""
    answer = read_answer(raw((REPORTED / f"{name}.json").read_bytes()), request())
    (found,) = answer.pictures
    assert verify_picture(found).media_type == "image/png"
    assert isinstance(answer.usage, dict)


@pytest.mark.parametrize(
    ("payload", "detail"),
    [
        (b"", "it is empty"),
        (b"data: [DONE]\n\n", "its stream is complete, but has no final image"),
        (b"<html>busy</html>", "it is not JSON (Expecting value: line 1 column 1 (char 0))"),
        (b'{"data": [', "it is not JSON (Expecting value: line 1 column 11 (char 10))"),
        (b'{"usage": NaN}', "it is not JSON (NaN is not a JSON number)"),
        (b'{"usage": -Infinity}', "it is not JSON (-Infinity is not a JSON number)"),
        (b'{"usage": 1e999}', "it is not JSON (1e999 is too large a number)"),
        (b"[" * 100_000, "it is not JSON (it is nested too deeply)"),
        ([], "it is not a JSON object"),
        ("text", "it is not a JSON object"),
        ({}, "its field data is not a list of images"),
        ({"data": None}, "its field data is not a list of images"),
        ({"data": {}}, "data[0] has no b64_json"),
        ({"data": []}, "its field data is not a list of images"),
        ({"data": [None]}, "data[0] has no b64_json"),
        ({"data": [{"b64_json": None}]}, "data[0] has no b64_json"),
        ({"data": [{"b64_json": ""}]}, "data[0] has no b64_json"),
        (
            {"data": [{"b64_json": None}, {"b64_json": "not base64!"}]},
            "data[0] has no b64_json; data[1].b64_json is not base64",
        ),
        ({"data": [{"b64_json": "Q"}]}, "data[0].b64_json is not base64"),
        ({"data": [{"b64_json": "é"}]}, "data[0].b64_json is not base64"),
    ],
)
def test_an_answer_without_usable_pictures_is_malformed(payload: Any, detail: str) -> None:
    """Whatever is wrong with a 200 is said, its outcome is unknown, and its body is kept."""
    answer = raw(payload)
    with pytest.raises(MalformedAnswer) as caught:
        read_answer(answer, request())
    assert caught.value.detail == detail
    assert (caught.value.outcome, caught.value.retryable) == ("unknown", False)
    assert caught.value.provider_request_id == "req_7"
    assert caught.value.raw_body == answer.body[:65_536]


def test_a_malformed_answer_keeps_what_explains_its_bill() -> None:
    """The usage beside a broken picture survives, though the picture's megabytes do not."""
    payload = {"data": [{"b64_json": "!" * 1_000_000}], "usage": USAGE}
    with pytest.raises(MalformedAnswer) as caught:
        read_answer(raw(payload), request())
    assert caught.value.response == {"data": [{}], "usage": USAGE}
    assert caught.value.raw_body is not None
    assert len(caught.value.raw_body) == 65_536


async def test_thousands_of_pictures_are_neither_fetched_nor_explained_one_by_one() -> None:
    fetched: list[str] = []

    async def fetch(url: str) -> bytes:
        fetched.append(url)
        raise OSError("gone")

    items = [picture(), *({"url": f"https://img.example.net/{number}.png"} for number in range(5_000))]
    answer = await resolve_links(read_answer(raw({"data": items}), request()), fetch, OSError)
    assert len(fetched) == 10
    assert answer.shortfall is not None
    assert "data[10] has only a url, and gone; and 4990 more." in answer.shortfall


def test_a_link_is_left_to_be_fetched() -> None:
    """Reading fetches nothing: the address goes on, and a data: URI does not stay in the response."""
    links = [
        {"url": "https://img.example.net/a.png?sig=1"},
        {"b64_json": "!", "url": "https://img.example.net/b.png"},
    ]
    answer = read_answer(raw({"data": [*links, picture()], "usage": USAGE}), request(n=3))
    assert [item.url for item in answer.items] == [*(link["url"] for link in links), None]
    assert answer.pictures == (PICTURE,)


@pytest.mark.parametrize(
    ("payload", "kind", "outcome"),
    [
        (
            {"error": {"message": "Too many", "type": "upstream_error", "code": "429"}},
            "RateLimited",
            "rejected",
        ),
        ({"error": {"message": "Too many", "code": 429}}, "RateLimited", "rejected"),
        ({"error": {"code": "rate_limit_exceeded"}, "data": None}, "RateLimited", "rejected"),
        ({"error": {"code": "moderation_blocked"}, "data": [], "created": 1}, "ContentRefused", "rejected"),
        ({"error": {"message": "Rejected by the safety system."}}, "ContentRefused", "rejected"),
        (
            {"error": {"code": "moderation_blocked", "moderation_details": {"moderation_stage": "output"}}},
            "OutputRefused",
            "unknown",
        ),
        ({"error": {"type": "insufficient_quota"}}, "QuotaExhausted", "rejected"),
        ({"error": {"code": "invalid_api_key"}}, "AuthenticationFailed", "rejected"),
        ({"error": {"code": "400", "message": "bad size"}}, "InvalidRequest", "rejected"),
        ({"error": {"code": "503"}}, "ServerOverloaded", "rejected"),
        ({"error": {"code": "504"}}, "GatewayError", "unknown"),
        ({"error": {"code": "408"}}, "RequestTimeout", "unknown"),
        ({"error": {"message": "The upstream is busy"}}, "GatewayError", "unknown"),
        ({"error": "The upstream is busy"}, "GatewayError", "unknown"),
        (b'data: {"error": {"code": "429"}}\n\n', "RateLimited", "rejected"),
    ],
)
def test_an_error_in_a_success_is_named_by_its_class(payload: Any, kind: str, outcome: str) -> None:
    """An error without pictures and usage is what its code says, was not charged for sure, and is not sent again."""
    with pytest.raises(ProviderFailure) as caught:
        read_answer(raw(payload), request())
    failure = caught.value
    assert (type(failure).__name__, failure.outcome, failure.retryable) == (kind, outcome, False)
    assert "probably charged" not in str(failure)
    assert "an error inside of a success" in str(failure)


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        ({"error": {"message": "busy", "code": "429"}, "usage": USAGE}, "MalformedAnswer"),
        ({"error": {"code": "moderation_blocked"}, "data": [], "usage": USAGE}, "OutputRefused"),
        (
            {"data": [{"content_filter_results": {"hate": {"filtered": True}}}], "usage": USAGE},
            "OutputRefused",
        ),
        ({"data": [{"b64_json": None}], "error": None, "usage": USAGE}, "MalformedAnswer"),
    ],
)
def test_usage_beside_an_error_was_charged(payload: Any, kind: str) -> None:
    with pytest.raises(ProviderFailure) as caught:
        read_answer(raw(payload), request())
    assert (type(caught.value).__name__, caught.value.usage) == (kind, USAGE)
    assert "It was charged, and its usage is on the run's bill." in str(caught.value)


def test_a_response_holds_nothing_that_storage_refuses() -> None:
    """A NUL or half a surrogate pair in some field does not lose a paid picture later on."""
    body = b'{"data": [{"b64_json": "QUJD"}], "note\\u0000": ["a\\ud800"], "usage": {"x": "\\u0000"}}'
    answer = read_answer(raw(body), request())
    assert answer.pictures == (b"ABC",)
    assert answer.response == {"data": [{}], "note?": ["a?"], "usage": {"x": "?"}}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)
ITEMS = st.lists(
    JSON | st.fixed_dictionaries({"b64_json": JSON | st.binary().map(lambda b: base64.b64encode(b).decode())})
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine draws slowly
@given(st.fixed_dictionaries({}, optional={"data": JSON | ITEMS, "usage": JSON, "size": JSON, "error": JSON}))
def test_any_json_object_is_an_answer_or_a_provider_failure(payload: Any) -> None:
    """Any JSON object is an answer or malformed; nothing else is ever raised."""
    try:
        answer = read_answer(raw(payload), request())
    except ProviderFailure as failure:
        str(failure).encode()
    else:
        assert answer.pictures or any(item.url for item in answer.items)
        assert len(answer.items) == len(answer.response.get("data", [None]))
        json.dumps(answer.response, allow_nan=False, ensure_ascii=False).encode()
