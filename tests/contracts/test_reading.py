"""Reading what anybody may have sent: a request, or everything that is wrong with it."""

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


def test_the_documented_payload_is_read_as_it_stands() -> None:
    """The payload of the provider's documentation is a request without a problem."""
    reading = read_request(DOCUMENTED)
    assert reading.problems == ()
    assert reading.request == ImageRequest.model_validate(DOCUMENTED)
    assert reading.sound == reading.request


def test_a_request_is_read_again() -> None:
    """A request that was read before is read again, to the same request."""
    request = ImageRequest.model_validate({**DOCUMENTED, "images": ["store://a.png"]})
    assert read_request(request).request == request


def test_null_is_the_same_as_absent_even_where_the_name_is_unknown() -> None:
    """Clients that write every field send null for what they do not use: nothing is asked with it."""
    assert read_request({**BASE, "n": None, "stream": None}).request == ImageRequest.model_validate(BASE)


@pytest.mark.parametrize(
    ("payload", "shown"),
    [(None, "None"), (5, "5"), ("{}", "'{}'"), ([BASE], "a list of 1"), (True, "true")],
)
def test_what_is_no_object_is_no_request(payload: Any, shown: str) -> None:
    """A payload of another kind is one problem of the whole request."""
    reading = read_request(payload)
    assert told(reading) == [("request", shown, "one JSON object")]
    assert (reading.request, reading.sound) == (None, None)


def test_every_problem_is_told_at_once() -> None:
    """Fields that are wrong, absent or unknown are told together: field, value and what is allowed."""
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
def test_what_is_not_supported_is_refused_by_name(field: str, reason: str) -> None:
    """An option of the provider that is not supported is refused, with the reason, and never ignored."""
    (problem,) = read_request({**BASE, field: 1}).problems
    assert problem.field == field
    assert problem.allowed.startswith("nothing: ")
    assert reason in problem.allowed


def test_the_provider_s_streaming_payload_is_a_request() -> None:
    """`stream` beside `partial_images` is taken as the documentation writes it."""
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
def test_what_cannot_be_streamed(fields: dict[str, Any], problem: tuple[str, str, str]) -> None:
    """A stream without partial pictures shows nothing, and the provider streams no two pictures."""
    assert told(read_request({**BASE, **fields})) == [problem]


def test_response_format_other_than_b64_json_is_rejected_with_the_reason() -> None:
    """The default of retired models, url, is not what GPT Image models do."""
    (problem,) = read_request({**BASE, "response_format": "url"}).problems
    assert (problem.field, problem.value) == ("response_format", "'url'")
    assert "always answer with the picture itself" in problem.allowed


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [("promt", "prompt"), ("Size", "size"), ("image_s", "images"), ("requestId", "request_id")],
)
def test_a_misspelt_name_is_put_right(misspelt: str, meant: str) -> None:
    """An unknown name that is close to a known one comes with the question whether that was meant."""
    (problem,) = read_request({**BASE, misspelt: "x"}).problems
    assert (problem.field, problem.allowed) == (
        misspelt,
        f"nothing: there is no such field, did you mean {meant}?",
    )


@pytest.mark.parametrize("field", ["prompt", "mask"])
def test_what_is_private_or_long_is_not_repeated(field: str) -> None:
    """A prompt or a picture that is refused is told by its length, and the text is nowhere in the problem."""
    value = "data:secret\x00" if field == "prompt" else {"uri": "data:secret", "sha256": "x", "more": 1}
    reading = read_request({**BASE, field: value})
    assert reading.problems
    assert "secret" not in str(reading.problems)


def test_a_strange_name_is_shown_escaped() -> None:
    """A name that cannot be printed is shown escaped and cut, like any other value of a stranger."""
    (odd, long) = read_request({**BASE, "\u202e\n": 1, "x" * 500: 2}).problems
    assert odd.field == r"'\u202e\n'"
    assert long.field == "x" * 120


def test_a_part_of_a_field_is_named() -> None:
    """What is wrong inside of metadata or of images is told with its place."""
    reading = read_request({**BASE, "metadata": {"a": "1", "b": 2}, "images": ["store://a.png", {"uri": 5}]})
    assert {"images.1.uri", "metadata.b"} <= {problem.field for problem in reading.problems}


def test_a_field_has_one_problem() -> None:
    """Where both a name and its value are wrong, the name is told."""
    (problem,) = read_request({**BASE, "metadata": {"": 1}}).problems
    assert (problem.field, problem.value) == ("metadata.", "''")


def test_a_mask_belongs_to_an_edit() -> None:
    """A mask without images is refused, though each field is well-formed."""
    reading = read_request({**BASE, "mask": "store://m.png"})
    assert told(reading) == [("mask", "given", "only with images: a mask belongs to an edit")]
    assert reading.request is None
    assert reading.sound


def test_pictures_in_the_request_have_a_limit_together() -> None:
    """All data: URIs together may have 1,048,576 characters, mask included, and one more is refused."""
    half = "data:" + "A" * (512 * 1024 - 5)
    at_the_limit = {**BASE, "images": [half, "store://" + "a" * 1000], "mask": half}
    assert read_request(at_the_limit).problems == ()
    (problem,) = read_request({**at_the_limit, "mask": half + "A"}).problems
    assert problem.field == "images"
    assert problem.value == "data: URIs of 1,048,577 characters in all"
    assert "upload larger pictures" in problem.allowed


def test_the_sound_part_is_the_request_without_what_is_wrong() -> None:
    """For the rules that look at the rest, fields with a problem are left out and the others are as they were sent."""
    sound = read_request({**BASE, "n": 11, "size": "10x10", "metadata": {"a": 1}, "seed": 7}).sound
    assert sound == ImageRequest.model_validate({**BASE, "size": "10x10"})


def test_the_sound_part_survives_a_prompt_that_is_wrong() -> None:
    """Where the prompt is wrong, the rest can still be looked at."""
    sound = read_request({"model": "gpt-image-2", "size": "10x10"}).sound
    assert sound
    assert sound.size == "10x10"


@pytest.mark.parametrize("model", [None, 5, "", "no model"])
def test_without_a_model_there_is_no_sound_part(model: Any) -> None:
    """Where no model can be read there are no rules to look at the rest with."""
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
def test_whatever_is_sent_is_accepted_or_refused(payload: Any) -> None:
    """Reading never raises: JSON of any kind is a request without a problem, or problems and no request."""
    reading = read_request(payload)
    assert (reading.request is None) == bool(reading.problems)
    assert len({problem.field for problem in reading.problems}) == len(reading.problems)
    for problem in reading.problems:
        assert problem.field
        assert problem.value
        assert problem.allowed
        json.dumps(problem.model_dump()).encode()


@given(PAYLOADS)
def test_whatever_is_accepted_can_travel(payload: dict[str, Any]) -> None:
    """A request that was accepted comes back from JSON as it was, and is accepted again."""
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
def test_whatever_is_right_is_in_the_sound_part(payload: dict[str, Any]) -> None:
    """The sound part has every known field that was sent and has no problem, and nothing that was not sent."""
    sent = {name: value for name, value in {**payload, **BASE}.items() if value is not None}
    reading = read_request(sent)
    wrong = {problem.field.partition(".")[0] for problem in reading.problems}
    assert reading.sound
    said = {name for name, value in sent.items() if (name, value) not in NEVER_SENT_DEFAULTS}
    assert said & ALLOWED.keys() - wrong <= reading.sound.model_fields_set <= sent.keys()
