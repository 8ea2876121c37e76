"""Edits: multipart as the real SDK sends it, and pictures that are what they claim to be."""

import base64
import io
from collections.abc import Callable

import httpx2
import pytest
from openai import AsyncOpenAI
from PIL import Image

from simulator.server import Simulator

MakePicture = Callable[..., bytes]
Part = tuple[str, tuple[str | None, bytes | str, str] | tuple[None, str]]

FIELDS: list[Part] = [("model", (None, "gpt-image-1")), ("prompt", (None, "Make it blue"))]
IMAGE_ERROR = "image_generation_user_error"


def picture(name: str, content: bytes, content_type: str = "image/png") -> Part:
    """Build a multipart part with a file."""
    return name, ("file", content, content_type)


async def refusal_of(http: httpx2.AsyncClient, parts: list[Part]) -> tuple[int, str, str]:
    """Return the status, code and parameter of the error that an edit gets."""
    answer = await http.post("/images/edits", files=parts)
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


async def test_edit_with_two_images_and_mask_bills_both_images(
    client: AsyncOpenAI, simulator: Simulator, make_picture: MakePicture
) -> None:
    mask = Image.new("RGBA", (1024, 1024), "black")
    mask.paste((0, 0, 0, 0), (256, 256, 512, 512))
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    answer = await client.images.edit(
        model="gpt-image-1",
        prompt="abcd",
        image=[
            ("first.png", make_picture("RGB", (1024, 1024), (200, 30, 30)), "image/png"),
            ("second.webp", make_picture("RGB", (1536, 1024), "blue", "WEBP"), "image/webp"),
        ],
        mask=("mask.png", buffer.getvalue(), "image/png"),
        n=2,
        size="1024x1024",
        quality="medium",
        input_fidelity="high",
    )
    assert answer.usage is not None
    # Per picture: text 7; images 194 + 4160 and 323 + 6240, the mask not counted; output 1056.
    assert answer.usage.input_tokens_details.text_tokens == 14
    assert answer.usage.input_tokens_details.image_tokens == 2 * (4354 + 6563)
    assert answer.usage.output_tokens == 2112
    edited = [
        Image.open(io.BytesIO(base64.b64decode(each.b64_json or ""))).convert("RGB")
        for each in answer.data or []
    ]
    assert len(edited) == 2
    assert [each.getpixel((100, 100)) for each in edited] == [(200, 30, 30)] * 2
    assert all(each.getpixel((300, 300)) != (200, 30, 30) for each in edited)
    assert simulator.books.entries[0].endpoint == "edits"


async def test_edit_with_one_image_is_scaled_to_the_requested_size(
    client: AsyncOpenAI, make_picture: MakePicture
) -> None:
    """The SDK sends a single image in a part named `image`, without brackets."""
    answer = await client.images.edit(
        model="gpt-image-2",
        prompt="Make it blue",
        image=("photo.jpg", make_picture("L", (300, 200), 90, "JPEG"), "image/jpeg"),
        size="1024x768",
        output_format="webp",
        output_compression=60,
    )
    [edited] = answer.data or []
    assert Image.open(io.BytesIO(base64.b64decode(edited.b64_json or ""))).size == (1024, 768)


async def test_image_of_another_type_than_declared_is_refused(
    http: httpx2.AsyncClient, make_picture: MakePicture
) -> None:
    png = make_picture("RGB", (64, 64), "red")
    noise = Image.effect_noise((64, 64), 90)
    buffer = io.BytesIO()
    noise.save(buffer, "PNG")
    wrong = [
        picture("image", b"GIF89a no picture"),
        picture("image", buffer.getvalue()[:900]),
        picture("image", png, "image/jpeg"),
        picture("image", png, "application/octet-stream"),
        picture("image", make_picture("P", (64, 64), 1, "GIF"), "image/gif"),
        picture("image", b""),
    ]
    answers = [await refusal_of(http, [*FIELDS, part]) for part in wrong]
    assert answers == [(400, "invalid_image_file", "image")] * 6


async def test_mask_without_alpha_or_of_another_size_is_refused(
    http: httpx2.AsyncClient, make_picture: MakePicture
) -> None:
    first = picture("image[]", make_picture("RGB", (64, 64), "red"))
    second = picture("image[]", make_picture("RGB", (32, 32), "red"))
    wrong = [
        picture("mask", make_picture("RGB", (64, 64), "white")),
        picture("mask", make_picture("RGBA", (32, 32), "white")),
        picture("mask", make_picture("RGBA", (64, 64), "white", "WEBP"), "image/webp"),
    ]
    answers = [await refusal_of(http, [*FIELDS, first, second, part]) for part in wrong]
    assert answers == [(400, "invalid_image_file", "mask")] * 3
    fitting = picture("mask", make_picture("RGBA", (64, 64), (0, 0, 0, 0)))
    assert (await http.post("/images/edits", files=[*FIELDS, first, second, fitting])).status_code == 200


async def test_too_large_files_are_refused(http: httpx2.AsyncClient, make_picture: MakePicture) -> None:
    """The limits are 50 MB an image, 4 MB a mask, and 50 megapixels when decoded."""
    small = picture("image", make_picture("RGB", (64, 64), "red"))
    png = make_picture("RGB", (64, 64), "red")
    bomb = make_picture("1", (7_200, 7_200), 0)
    answers = [
        await refusal_of(http, [*FIELDS, picture("image", png.ljust(50 * 1024 * 1024, b"\0"))]),
        await refusal_of(http, [*FIELDS, small, picture("mask", png.ljust(4 * 1024 * 1024, b"\0"))]),
        await refusal_of(http, [*FIELDS, picture("image", bomb)]),
    ]
    assert answers == [
        (400, "image_too_large", "image"),
        (400, "image_too_large", "mask"),
        (400, "image_too_large", "image"),
    ]


async def test_image_count_outside_1_to_16_is_refused(
    http: httpx2.AsyncClient, make_picture: MakePicture
) -> None:
    """Several images must be sent as `image[]`."""
    png = make_picture("RGB", (16, 16), "red")
    assert await refusal_of(http, [*FIELDS]) == (400, "missing_required_parameter", "image")
    sixteen = [picture("image[]", png)] * 16
    assert (await http.post("/images/edits", files=[*FIELDS, *sixteen])).status_code == 200
    assert await refusal_of(http, [*FIELDS, *sixteen, picture("image[]", png)]) == (
        400,
        "array_above_max_length",
        "image",
    )
    doubled = [picture("image", png), picture("image", png)]
    assert await refusal_of(http, [*FIELDS, *doubled]) == (400, "duplicate_parameter", "image")


@pytest.mark.parametrize(
    ("part", "code"),
    [
        (("n", (None, "two")), "invalid_type"),
        (("n", (None, "11")), "integer_above_max_value"),
        (("prompt", (None, "twice")), "duplicate_parameter"),
        (("quality", ("quality.txt", b"low", "text/plain")), "invalid_type"),
        (("moderation", (None, "low")), "unknown_parameter"),
        (("markup", ("markup.png", b"...", "image/png")), "unsupported_parameter"),
        (("stream", (None, "yes")), "invalid_type"),
        (("partial_images", (None, "2")), "invalid_value"),
    ],
)
async def test_invalid_form_field_is_refused(
    http: httpx2.AsyncClient, make_picture: MakePicture, part: Part, code: str
) -> None:
    parts = [*FIELDS, picture("image", make_picture("RGB", (16, 16), "red")), part]
    assert await refusal_of(http, parts) == (400, code, part[0])


async def test_image_sent_as_text_field_is_refused(http: httpx2.AsyncClient) -> None:
    parts: list[Part] = [*FIELDS, ("image", (None, "https://example.com/a.png"))]
    assert await refusal_of(http, parts) == (400, "invalid_type", "image")


@pytest.mark.parametrize(
    ("model", "fidelity", "accepted"),
    [
        ("gpt-image-1", "high", True),
        ("gpt-image-1-mini", "low", True),
        ("gpt-image-1-mini", "high", False),
        ("gpt-image-2", "low", False),
        ("gpt-image-2.6-flare", "high", False),
    ],
)
async def test_unsupported_input_fidelity_is_refused(
    http: httpx2.AsyncClient, make_picture: MakePicture, model: str, fidelity: str, *, accepted: bool
) -> None:
    """The mini model supports only low; gpt-image-2 and later do not support the parameter."""
    parts: list[Part] = [
        ("model", (None, model)),
        ("prompt", (None, "Make it blue")),
        ("input_fidelity", (None, fidelity)),
        picture("image", make_picture("RGB", (16, 16), "red")),
    ]
    answer = await http.post("/images/edits", files=parts)
    assert (answer.status_code == 200) == accepted
    assert accepted or answer.json()["error"]["code"] == "invalid_value"


async def test_edit_without_complete_multipart_form_is_refused(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/images/edits", json={"model": "gpt-image-1", "prompt": "a"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_content_type")
    cut_off = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nMake it'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = await http.post("/images/edits", content=cut_off, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_multipart")
