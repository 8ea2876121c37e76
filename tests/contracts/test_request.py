"""The request's rules that apply to every model, field by field."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from gpt_image_runs.contracts.images import ImageInput
from gpt_image_runs.contracts.request import ImageRequest

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
SHA256 = "0123456789abcdef" * 4


def read(**fields: Any) -> ImageRequest:
    return ImageRequest.model_validate({**BASE, **fields})


def test_documented_payload_gains_only_the_tenant() -> None:
    request = ImageRequest.model_validate(DOCUMENTED)
    assert request.model_dump() == {**DOCUMENTED, "tenant": "default"}


WITHIN_THE_LIMITS: tuple[tuple[Any, Any], ...] = (
    ("model", "m"),
    ("model", "azure/my-deployment:2.5_x" + "y" * 103),
    ("prompt", "x"),
    ("prompt", "x" * 32_000),
    ("prompt", "a\tlamp\r\nby a window"),
    ("prompt", "\u706f \U0001f4a1"),
    ("n", 1),
    ("n", 10),
    ("size", "auto"),
    ("size", "1x99999"),
    ("quality", "xhigh"),
    ("background", "transparent"),
    ("output_format", "webp"),
    ("output_compression", 0),
    ("output_compression", 100),
    ("moderation", "low"),
    ("safety_identifier", "x" * 64),
    ("user", "x"),
    ("input_fidelity", "high"),
    ("images", ["store://a.png"] * 16),
    ("mask", "store://m.png"),
    ("partial_images", 1),
    ("partial_images", 3),
    ("stream", True),
    ("tenant", "0-acme.eu_1"),
    ("tenant", "a" * 63),
    ("request_id", "Order-1.2_3"),
    ("request_id", "r" * 128),
    ("missing_usage", "hold"),
    ("unknown_outcome", "resend"),
    ("notify", "https://hooks.example.com"),
    ("notify", {"url": "https://hooks.example.com:8443/a/b?c=d%20e"}),
    ("notify", {"url": "http://[::1]:8080/"}),
    ("notify", "https://hooks.example.com/" + "a" * 2_022),
    ("metadata", {}),
    ("metadata", {str(number): "x" * 512 for number in range(16)}),
    ("metadata", {"k" * 64: ""}),
)


@pytest.mark.parametrize(("field", "value"), WITHIN_THE_LIMITS)
def test_value_within_the_limits_is_accepted_and_survives_json(field: str, value: Any) -> None:
    request = read(**{field: value})
    assert ImageRequest.model_validate_json(request.model_dump_json()) == request


BEYOND_THEM: tuple[tuple[Any, Any], ...] = (
    ("model", ""),
    ("model", "-m"),
    ("model", "m" * 129),
    ("model", "gpt image"),
    ("model", "gpt-image-2\n"),
    ("prompt", ""),
    ("prompt", " \t\n\u00a0"),
    ("prompt", "x" * 32_001),
    ("prompt", "a\x00lamp"),
    ("prompt", "a\x7flamp"),
    ("prompt", "half a pair: \ud83d"),
    ("prompt", ["a lamp"]),
    ("n", 0),
    ("n", 11),
    ("n", "1"),
    ("n", 1.0),
    ("n", True),
    ("size", "1024"),
    ("size", "1024X1024"),
    ("size", "0x1024"),
    ("size", "0100x100"),
    ("size", "100000x1"),
    ("size", "1024x1024\n"),
    ("size", "\u0661\u0660x\u0661\u0660"),
    ("quality", ""),
    ("quality", "High"),
    ("quality", "h" * 17),
    ("background", "white"),
    ("output_format", "gif"),
    ("output_format", "svg"),
    ("output_compression", -1),
    ("output_compression", 101),
    ("output_compression", 50.0),
    ("moderation", "high"),
    ("safety_identifier", "x" * 65),
    ("safety_identifier", "a\x1bb"),
    ("user", "x" * 65),
    ("input_fidelity", "auto"),
    ("images", []),
    ("images", "store://a.png"),
    ("images", ["store://a.png"] * 17),
    ("images", [""]),
    ("images", [None]),
    ("mask", ["store://m.png"]),
    ("tenant", "Acme"),
    ("tenant", ".acme"),
    ("tenant", "a" * 64),
    ("tenant", "a:b"),
    ("tenant", "acme\n"),
    ("request_id", ""),
    ("request_id", "a:b"),
    ("request_id", "-a"),
    ("request_id", "r" * 129),
    ("request_id", "a/b"),
    ("missing_usage", "ignore"),
    ("unknown_outcome", "ignore"),
    ("notify", ""),
    ("notify", "hooks.example.com"),
    ("notify", "ftp://hooks.example.com"),
    ("notify", "https://ada:secret@hooks.example.com"),
    ("notify", "https://hooks.example.com/#part"),
    ("notify", "https://hooks.example.com\\@elsewhere.example.com/"),
    ("notify", "https://hooks.example.com/a b"),
    ("notify", "https://hooks.example.com/\n"),
    ("notify", "https://h\u00f6rer.example.com/"),
    ("notify", "https://hooks.example.com/" + "a" * 2_023),
    ("notify", {}),
    ("notify", {"url": 1}),
    ("notify", {"url": "https://hooks.example.com", "secret": "x"}),
    ("notify", ["https://hooks.example.com"]),
    ("metadata", []),
    ("metadata", {str(number): "" for number in range(17)}),
    ("metadata", {"": "x"}),
    ("metadata", {"k" * 65: "x"}),
    ("metadata", {"k": "x" * 513}),
    ("metadata", {"k": 1}),
    ("metadata", {"k": "\x00"}),
    ("metadata", {"\ud800": "x"}),
    ("stream", 0),
    ("stream", 1),
    ("stream", "true"),
    ("partial_images", False),
    ("partial_images", 0.0),
    ("partial_images", -1),
    ("partial_images", 4),
    ("response_format", "url"),
    ("response_format", 1),
    ("partial_images", True),
    ("partial_images", 2.0),
    ("Size", "auto"),
)


@pytest.mark.parametrize(("field", "value"), BEYOND_THEM)
def test_value_beyond_the_limits_is_refused_with_its_field(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as raised:
        read(**{field: value})
    assert {error["loc"][0] for error in raised.value.errors()} == {field}


WRITTEN_DEFAULTS: tuple[tuple[str, Any, dict[str, Any]], ...] = (
    ("stream", False, {}),
    ("stream", False, {"partial_images": 0}),
    ("stream", False, {"n": 4}),
    ("partial_images", 0, {}),
    ("partial_images", 0, {"n": 4}),
    ("output_compression", 100, {}),
    ("output_compression", 100, {"output_format": "png"}),
    ("moderation", "auto", {"images": ["store://a.png"]}),
    ("response_format", "b64_json", {}),
    ("safety_identifier", "", {}),
    ("user", "", {}),
)


@pytest.mark.parametrize(("field", "value", "beside"), WRITTEN_DEFAULTS)
def test_written_default_is_the_same_as_absent(field: str, value: Any, beside: dict[str, Any]) -> None:
    assert read(**beside, **{field: value}) == read(**beside)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 1),
        ("size", "auto"),
        ("quality", "auto"),
        ("background", "auto"),
        ("output_format", "png"),
        ("moderation", "auto"),
    ],
)
def test_written_default_that_is_sent_stays(field: str, value: Any) -> None:
    """These were always accepted and are in the fingerprints of billed runs."""
    assert read(**{field: value}).model_dump()[field] == value


@pytest.mark.parametrize("field", sorted(set(ImageRequest.model_fields) - {"model", "prompt", "tenant"}))
def test_null_field_is_the_same_as_absent_and_not_written(field: str) -> None:
    assert read(**{field: None}) == read()
    assert json.loads(read(**{field: None}).model_dump_json()) == {**BASE, "tenant": "default"}


@pytest.mark.parametrize("field", ["model", "prompt"])
def test_model_and_prompt_are_required(field: str) -> None:
    with pytest.raises(ValidationError):
        ImageRequest.model_validate({name: value for name, value in BASE.items() if name != field})


def test_request_is_immutable() -> None:
    with pytest.raises(ValidationError):
        read().n = 2  # type: ignore[misc]  # the very assignment that is refused


def test_operation_is_edit_with_images_else_generate() -> None:
    assert read().operation == "generate"
    assert read(images=["store://a.png"]).operation == "edit"


def test_image_count_defaults_to_one() -> None:
    assert read().image_count == 1
    assert read(n=4).image_count == 4


def test_inputs_are_named_images_by_index_then_mask() -> None:
    request = read(images=["store://a.png", "store://b.png"], mask="store://m.png")
    assert [(name, image.uri) for name, image in request.inputs()] == [
        ("images.0", "store://a.png"),
        ("images.1", "store://b.png"),
        ("mask", "store://m.png"),
    ]
    assert read().inputs() == ()


@pytest.mark.parametrize(
    "spelling",
    [
        "store://a.png",
        {"uri": "store://a.png"},
        {"image_url": "store://a.png"},
        {"uri": "store://a.png", "media_type": "image/png", "bytes": 5, "width": 1, "height": 1},
    ],
)
def test_image_input_accepts_string_image_url_and_image_ref(spelling: Any) -> None:
    assert ImageInput.model_validate(spelling) == ImageInput(uri="store://a.png")


def test_image_ref_keeps_its_sha256() -> None:
    ref = {
        "uri": "store://a.png",
        "sha256": SHA256,
        "media_type": "image/png",
        "bytes": 5,
        "width": 1,
        "height": 1,
    }
    assert ImageInput.model_validate(ref).model_dump() == {"uri": "store://a.png", "sha256": SHA256}


@pytest.mark.parametrize(
    "spelling",
    [
        5,
        None,
        [],
        {},
        {"uri": ""},
        {"uri": 5},
        {"url": "store://a.png"},
        {"file_id": "file-1"},
        {"uri": "store://a.png", "detail": "high"},
        {"image_url": "store://a.png", "sha256": SHA256},
        {"uri": "store://a.png", "sha256": SHA256.upper()},
        {"uri": "store://a.png", "sha256": SHA256[:-1]},
        {"uri": "store://a.png", "sha256": f"{SHA256}\n"},
        {"uri": "\ud800"},
    ],
)
def test_image_input_in_any_other_form_is_refused(spelling: Any) -> None:
    with pytest.raises(ValidationError):
        ImageInput.model_validate(spelling)


def test_data_uri_is_distinguished_from_a_reference() -> None:
    assert ImageInput(uri="data:image/png;base64,AAAA").is_data_uri
    assert not ImageInput(uri="store://data:a.png").is_data_uri
