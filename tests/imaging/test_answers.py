"""Reading the provider's answers, the good ones and the others."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.request import ImageRequest
from imaging.answers import Answer, read_answer
from imaging.calls import RawAnswer
from imaging.errors import MalformedAnswer

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
        pictures=(PICTURE, b"second"),
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
        warnings=(),
    )


@pytest.mark.parametrize("usage", [None, 0, "many", [], {"input_tokens": -1}, {"output_tokens": "12"}])
def test_usage_is_handed_on_whatever_it_holds(usage: Any) -> None:
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
    assert answer.warnings == (
        "4 pictures were asked for and 2 delivered; all are kept, and the bill follows the usage.",
    )


@pytest.mark.parametrize(
    ("payload", "detail"),
    [
        (b"", "it is no JSON (Expecting value: line 1 column 1 (char 0))"),
        (b"<html>busy</html>", "it is no JSON (Expecting value: line 1 column 1 (char 0))"),
        (b'{"data": [', "it is no JSON (Expecting value: line 1 column 11 (char 10))"),
        (b'{"usage": NaN}', "it is no JSON (NaN is no JSON number)"),
        (b'{"usage": -Infinity}', "it is no JSON (-Infinity is no JSON number)"),
        (b'{"usage": 1e999}', "it is no JSON (1e999 is too large a number)"),
        (b"[" * 100_000, "it is no JSON (it is nested too deeply)"),
        ([], "it is no JSON object"),
        ("text", "it is no JSON object"),
        ({}, "its field data is no list of pictures"),
        ({"data": None}, "its field data is no list of pictures"),
        ({"data": {}}, "its field data is no list of pictures"),
        ({"data": []}, "its field data is no list of pictures"),
        ({"data": [None]}, "data[0] has no b64_json"),
        ({"data": [{"url": "https://provider.example/1.png"}]}, "data[0] has no b64_json"),
        ({"data": [{"b64_json": None}]}, "data[0] has no b64_json"),
        ({"data": [{"b64_json": ""}]}, "data[0] has no b64_json"),
        ({"data": [picture(), {"b64_json": "not base64!"}]}, "data[1].b64_json is no base64"),
        ({"data": [{"b64_json": "QUJ"}]}, "data[0].b64_json is no base64"),
        ({"data": [{"b64_json": "QU JD"}]}, "data[0].b64_json is no base64"),
        ({"data": [{"b64_json": "é"}]}, "data[0].b64_json is no base64"),
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


def test_an_error_in_a_success_is_quoted() -> None:
    """Some gateways answer 200 with an error object: its message is shown."""
    with pytest.raises(MalformedAnswer, match="The upstream is busy") as caught:
        read_answer(raw({"error": {"message": "The upstream is busy"}}), request())
    assert caught.value.provider_message == "The upstream is busy"


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


@given(st.fixed_dictionaries({}, optional={"data": JSON | ITEMS, "usage": JSON, "size": JSON, "error": JSON}))
def test_no_json_breaks_the_reading(payload: Any) -> None:
    """Any JSON object is an answer or malformed; nothing else is ever raised."""
    try:
        answer = read_answer(raw(payload), request())
    except MalformedAnswer as failure:
        str(failure).encode()
    else:
        assert len(answer.pictures) == len(answer.response["data"])
        json.dumps(answer.response, allow_nan=False, ensure_ascii=False).encode()
