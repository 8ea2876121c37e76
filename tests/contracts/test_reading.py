"""Parsing of untrusted JSON into a request or all its problems."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.contracts.request_parsing import ALLOWED, NOT_SUPPORTED, Reading, read_request

DOCUMENTED = {
    "model": "gpt-image-1",
    "prompt": "Create a premium product hero shot on a neutral studio background",
    "n": 1,
    "size": "1024x1024",
    "quality": "high",
    "background": "auto",
    "output_format": "png",
}
BASE = {"model": "gpt-image-2", "prompt": "a lamp"}


def told(reading: Reading) -> list[tuple[str, str, str]]:
    return [(problem.field, problem.value, problem.allowed) for problem in reading.problems]


def test_payload_of_the_provider_s_documentation_has_no_problems() -> None:
    reading = read_request(DOCUMENTED)
    assert reading.problems == ()
    assert reading.request == ImageRequest.model_validate(DOCUMENTED)
    assert reading.sound == reading.request


def test_parsed_request_is_parsed_again_to_the_same_request() -> None:
    request = ImageRequest.model_validate({**DOCUMENTED, "images": ["store://a.png"]})
    assert read_request(request).request == request


def test_null_is_the_same_as_absent_even_under_an_unknown_name() -> None:
    """Clients that write every field send null for those they do not use."""
    assert read_request({**BASE, "n": None, "stream": None}).request == ImageRequest.model_validate(BASE)


@pytest.mark.parametrize(
    ("payload", "shown"),
    [(None, "None"), (5, "5"), ("{}", "'{}'"), ([BASE], "a list of 1"), (True, "true")],
)
def test_non_object_payload_is_one_problem_of_the_request(payload: Any, shown: str) -> None:
    reading = read_request(payload)
    assert told(reading) == [("request", shown, "one JSON object")]
    assert (reading.request, reading.sound) == (None, None)


def test_every_problem_is_reported_at_once() -> None:
    reading = read_request(
        {"model": "gpt-image-2", "n": 11, "size": "huge", "output_format": "gif", "seed": 7}
    )
    assert told(reading) == [
        ("prompt", "absent", "a text of 1 to 32,000 characters, not blank, without control characters"),
        ("n", "11", "a whole number from 1 to 10"),
        ("size", "'huge'", '"auto" or WIDTHxHEIGHT in pixels, such as 1024x1024'),
        (
            "output_format",
            "'gif'",
            "png, jpeg or webp (gif is not supported yet, as it changes what is billed)",
        ),
        ("seed", "7", "nothing: there is no such field"),
    ]
    assert reading.request is None


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("complexity", "may change what is billed"),
        ("frame_count", "animated pictures are not supported"),
        ("frame_duration_ms", "animated pictures are not supported"),
        ("svg", "bills a second model"),
        ("markup", "markup is not supported"),
        ("style", "have no style option"),
        ("image", "name the pictures to edit in images"),
    ],
)
def test_unsupported_option_is_refused_with_the_reason(field: str, reason: str) -> None:
    (problem,) = read_request({**BASE, field: 1}).problems
    assert problem.field == field
    assert problem.allowed.startswith("nothing: ")
    assert reason in problem.allowed


def test_stream_with_partial_images_is_accepted() -> None:
    assert read_request({**BASE, "n": 1, "stream": True, "partial_images": 2}).problems == ()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (
            {"stream": True},
            (
                "stream",
                "true",
                "true only with partial_images: without them a stream shows nothing before its end",
            ),
        ),
        (
            {"stream": False, "partial_images": 2},
            (
                "stream",
                "false",
                "true with partial_images 1 to 3, or false without them, which is the same as absent",
            ),
        ),
        (
            {"stream": True, "partial_images": 0},
            (
                "stream",
                "true",
                "true only with partial_images: without them a stream shows nothing before its end",
            ),
        ),
        (
            {"partial_images": 1, "n": 2},
            ("n", "2", "1 with partial_images: the provider streams one picture at a time"),
        ),
    ],
)
def test_stream_without_partial_images_or_of_several_pictures_is_refused(
    fields: dict[str, Any], problem: tuple[str, str, str]
) -> None:
    assert told(read_request({**BASE, **fields})) == [problem]


def test_response_format_other_than_b64_json_is_rejected_with_the_reason() -> None:
    """The default of retired models, url, is not available for GPT Image models."""
    (problem,) = read_request({**BASE, "response_format": "url"}).problems
    assert (problem.field, problem.value) == ("response_format", "'url'")
    assert "always answer with the picture itself" in problem.allowed


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [("promt", "prompt"), ("Size", "size"), ("image_s", "images"), ("requestId", "request_id")],
)
def test_unknown_name_close_to_a_known_one_is_suggested(misspelt: str, meant: str) -> None:
    (problem,) = read_request({**BASE, misspelt: "x"}).problems
    assert (problem.field, problem.allowed) == (
        misspelt,
        f"nothing: there is no such field, did you mean {meant}?",
    )


@pytest.mark.parametrize("field", ["prompt", "mask"])
def test_refused_prompt_or_picture_is_only_counted(field: str) -> None:
    value = "data:secret\x00" if field == "prompt" else {"uri": "data:secret", "sha256": "x", "more": 1}
    reading = read_request({**BASE, field: value})
    assert reading.problems
    assert "secret" not in str(reading.problems)


def test_unprintable_field_name_is_escaped_and_cut() -> None:
    (odd, long) = read_request({**BASE, "\u202e\n": 1, "x" * 500: 2}).problems
    assert odd.field == r"'\u202e\n'"
    assert long.field == "x" * 120


def test_problem_inside_a_field_is_named_with_its_path() -> None:
    reading = read_request({**BASE, "metadata": {"a": "1", "b": 2}, "images": ["store://a.png", {"uri": 5}]})
    assert {"images.1.uri", "metadata.b"} <= {problem.field for problem in reading.problems}


def test_metadata_entry_with_a_wrong_name_and_value_is_one_problem() -> None:
    (problem,) = read_request({**BASE, "metadata": {"": 1}}).problems
    assert (problem.field, problem.value) == ("metadata.", "''")


def test_mask_without_images_is_refused() -> None:
    reading = read_request({**BASE, "mask": "store://m.png"})
    assert told(reading) == [("mask", "given", "only with images: a mask belongs to an edit")]
    assert reading.request is None
    assert reading.sound


def test_data_uris_have_a_common_limit() -> None:
    half = "data:" + "A" * (512 * 1024 - 5)
    at_the_limit = {**BASE, "images": [half, "store://" + "a" * 1000], "mask": half}
    assert read_request(at_the_limit).problems == ()
    (problem,) = read_request({**at_the_limit, "mask": half + "A"}).problems
    assert problem.field == "images"
    assert problem.value == "data: URIs of 1,048,577 characters in all"
    assert "upload larger pictures" in problem.allowed


def test_sound_part_leaves_out_the_fields_with_problems() -> None:
    sound = read_request({**BASE, "n": 11, "size": "10x10", "metadata": {"a": 1}, "seed": 7}).sound
    assert sound == ImageRequest.model_validate({**BASE, "size": "10x10"})


def test_sound_part_exists_despite_an_invalid_prompt() -> None:
    sound = read_request({"model": "gpt-image-2", "size": "10x10"}).sound
    assert sound
    assert sound.size == "10x10"


@pytest.mark.parametrize("model", [None, 5, "", "no model"])
def test_sound_part_is_none_without_a_valid_model(model: Any) -> None:
    assert read_request({"model": model, "prompt": "a lamp"}).sound is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=8,
)
PICTURES = st.lists(
    st.text() | st.fixed_dictionaries({"uri": st.text()}) | st.fixed_dictionaries({"image_url": JSON}) | JSON,
    max_size=3,
)
LIKELY = {
    "model": st.sampled_from(["gpt-image-1", "gpt-image-2"]) | JSON,
    "prompt": st.text() | JSON,
    "n": st.integers(-1, 12) | JSON,
    "size": st.from_regex(r"\A[0-9]{1,6}x[0-9]{1,6}\Z") | st.just("auto") | JSON,
    "quality": st.sampled_from(["auto", "high", "HD"]) | JSON,
    "output_format": st.sampled_from(["png", "jpeg", "gif"]) | JSON,
    "output_compression": st.integers(-1, 101) | JSON,
    "images": PICTURES | JSON,
    "mask": st.text() | JSON,
    "partial_images": st.integers(0, 4) | JSON,
    "stream": st.booleans() | JSON,
    "tenant": st.from_regex(r"\A[a-z.]{0,64}\Z") | JSON,
    "notify": st.from_regex(r"\Ahttps?://[a-z.:0-9]{0,9}[/?]?[a-z@#]{0,3}\Z") | JSON,
    "metadata": st.dictionaries(st.text(st.characters()), st.text(st.characters()), max_size=3) | JSON,
}
PAYLOADS = st.fixed_dictionaries({}, optional=LIKELY) | st.dictionaries(
    st.sampled_from([*ALLOWED, *NOT_SUPPORTED]) | st.text(st.characters()), JSON, max_size=5
)


@given(PAYLOADS | JSON)
def test_any_json_is_accepted_or_refused_without_an_exception(payload: Any) -> None:
    reading = read_request(payload)
    assert (reading.request is None) == bool(reading.problems)
    assert len({problem.field for problem in reading.problems}) == len(reading.problems)
    for problem in reading.problems:
        assert problem.field
        assert problem.value
        assert problem.allowed
        json.dumps(problem.model_dump()).encode()


@given(PAYLOADS)
def test_accepted_request_survives_json_and_is_accepted_again(payload: dict[str, Any]) -> None:
    request = read_request({**BASE, **payload, "model": "gpt-image-2", "prompt": "a lamp"}).request
    if request is not None:
        assert read_request(json.loads(request.model_dump_json())).request == request


NEVER_SENT_DEFAULTS: list[tuple[str, Any]] = [
    ("stream", False),
    ("partial_images", 0),
    ("output_compression", 100),
    ("moderation", "auto"),
    ("response_format", "b64_json"),
    ("safety_identifier", ""),
    ("user", ""),
]


@given(PAYLOADS)
def test_sound_part_has_exactly_the_known_fields_without_problems(payload: dict[str, Any]) -> None:
    sent = {name: value for name, value in {**payload, **BASE}.items() if value is not None}
    reading = read_request(sent)
    wrong = {problem.field.partition(".")[0] for problem in reading.problems}
    assert reading.sound
    said = {name for name, value in sent.items() if (name, value) not in NEVER_SENT_DEFAULTS}
    assert said & ALLOWED.keys() - wrong <= reading.sound.model_fields_set <= sent.keys()
