"""The pictures of a request: what is sent, and what is refused before anything is sent."""

import base64
import hashlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.images.backend import StoreUnavailable
from gpt_image_runs.images.inputs import InputsRefused, load_inputs, upload_file
from gpt_image_runs.images.store import ImageStore
from tests.support.files.picture_files import make_animation, make_picture, png_of_size

CAT = make_picture("PNG", (8, 6))
DOG = make_picture("JPEG", (31, 17))
MASK = make_picture("PNG", (8, 6), "RGBA")
MIB = 1024 * 1024


def edit(*images: str | dict[str, str], mask: str | None = None) -> ImageRequest:
    payload: dict[str, Any] = {"model": "gpt-image-2", "prompt": "Add a hat", "images": images, "mask": mask}
    return ImageRequest.model_validate(payload)


def data_uri(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


async def refusal_of(request: ImageRequest, store: ImageStore) -> list[str]:
    with pytest.raises(InputsRefused) as refusal:
        await load_inputs(request, store)
    assert str(refusal.value).startswith("The request is refused, nothing was sent:\n- ")
    return [str(problem) for problem in refusal.value.problems]


async def test_generation_loads_no_pictures(local_store: ImageStore) -> None:
    request = ImageRequest(model="gpt-image-2", prompt="A cat")
    assert await load_inputs(request, local_store) == ((), None)


async def test_edit_loads_pictures_in_request_order_with_actual_types(store: ImageStore) -> None:
    cat = await store.put_image(CAT)
    dog = await store.put_image(DOG)
    mask = await store.put_image(MASK)
    request = edit(
        {"uri": cat.uri, "sha256": cat.sha256},
        data_uri(make_picture("WEBP"), "image/webp"),
        {"image_url": dog.uri},
        mask=mask.uri,
    )
    inputs = await load_inputs(request, store)
    assert inputs.images == (
        ("images-0.png", CAT, "image/png"),
        ("images-1.webp", make_picture("WEBP"), "image/webp"),
        ("images-2.jpg", DOG, "image/jpeg"),
    )
    assert inputs.mask == ("mask.png", MASK, "image/png")


async def test_sixteen_pictures_keep_their_order(store: ImageStore) -> None:
    pictures = [make_picture("PNG", (8, 6), colour=shade) for shade in range(16)]
    inputs = await load_inputs(edit(*[(await store.put_image(each)).uri for each in pictures]), store)
    assert [data for _, data, _ in inputs.images] == pictures


async def test_all_problems_are_reported_at_once(store: ImageStore) -> None:
    """Each has its field, its value with the reason, and what is allowed."""
    dog = await store.put_image(DOG)
    request = edit(
        dog.uri,
        "file:///etc/passwd",
        store.root + "gone.png",
        data_uri(b"GIF89a"),
        {"uri": data_uri(CAT), "sha256": "0" * 64},
        mask=data_uri(make_picture("JPEG"), "image/jpeg"),
    )
    assert await refusal_of(request, store) == [
        f"images.1 is 'file:///etc/passwd' (not in this image store); allowed: a reference that begins with {store.root}, or a data: URI",
        f"images.2 is {shown(store.root + 'gone.png')} (not found); allowed: a picture that is in the image store (`python starter.py upload FILE`)",
        f"images.3 is a text of 30 characters (the bytes are neither a PNG nor a JPEG nor a WebP picture, but a GIF picture: convert it to PNG or JPEG); allowed: {RULE}",
        f"images.4 is a text of {len(data_uri(CAT)):,} characters (its bytes do not have the given sha256); allowed: {RULE}",
        "mask is image/jpeg without an alpha channel; allowed: a PNG picture with an alpha channel",
        "mask is 8x6 pixels; allowed: 31x17 pixels, the size of the first picture",
    ]


RULE = "a PNG, JPEG or WebP picture, not animated"


def shown(uri: str) -> str:
    quoted = f"'{uri}'"
    return quoted if len(quoted) <= 80 else f"{quoted[:80]}... ({len(quoted)} characters)"


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("data:", "needs a comma before its data"),
        ("data:image/png;base64", "needs a comma before its data"),
        ("data:,cat", "neither a PNG nor a JPEG nor a WebP"),
        ("data:image/gif;base64,R0lGODlh", "but a GIF picture: convert it"),
        ("data:image/png;base64,A", "is not base64"),
        ("data:image/png;base64,AA==AA", "is not base64"),
        ("data:image/png;base64,\u00c4\u00c4\u00c4\u00c4", "is not base64"),
        ("data:image/png;base64,", "neither a PNG nor a JPEG nor a WebP"),
        (data_uri(CAT[:20]), "cut off inside its header"),
        (data_uri(make_animation("PNG")), "animated"),
        (data_uri(png_of_size(16_384, 16_384)), "at most 50,000,000 pixels"),
    ],
)
async def test_invalid_data_uri_is_refused_without_repeating_the_data(
    local_store: ImageStore, uri: str, why: str
) -> None:
    (problem,) = await refusal_of(edit(uri), local_store)
    assert problem.startswith(f"images.0 is a text of {len(uri):,} characters (")
    assert why in problem


PAYLOAD = base64.b64encode(DOG).decode()


@pytest.mark.parametrize(
    "uri",
    [
        f"data:image/jpg;base64,{PAYLOAD}",
        f"data:image/png;base64,{PAYLOAD}",
        f"data:image/pjpeg;base64,{PAYLOAD}",
        f"data:application/octet-stream;base64,{PAYLOAD}",
        f"data:;base64,{PAYLOAD}",
        f"DATA:IMAGE/JPEG;BASE64,{PAYLOAD}",
        f"data:image/jpeg;charset=utf-8;base64,{PAYLOAD}",
        f"data:image/jpeg;name=my%20dog.jpg; base64,{PAYLOAD}",
        f"data:image/jpeg;base64, {base64.encodebytes(DOG).decode()}",
        f"data:image/jpeg;base64,{base64.encodebytes(DOG).decode()}".replace("\n", "\r\n"),
        f"data:image/jpeg;base64,{quote(PAYLOAD, safe='')}",
        f"data:image/jpeg;base64,{quote(base64.encodebytes(DOG).decode(), safe='')}",
        f"data:image/jpeg;base64,{PAYLOAD.rstrip('=')}",
        f"data:image/jpeg;base64,{base64.urlsafe_b64encode(DOG).decode()}",
        f"data:image/jpeg,{quote(DOG)}",
    ],
    ids=lambda uri: uri[:42],
)
async def test_data_uri_variants_of_browsers_are_accepted(local_store: ImageStore, uri: str) -> None:
    """The bytes decide about the type."""
    inputs = await load_inputs(edit(uri), local_store)
    assert inputs.images == (("images-0.jpg", DOG, "image/jpeg"),)


def iso_file(major: bytes, *compatible: bytes) -> bytes:
    brands = major + bytes(4) + b"".join(compatible)
    return (len(brands) + 8).to_bytes(4, "big") + b"ftyp" + brands + bytes(64)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (iso_file(b"heic", b"mif1", b"heic"), "a HEIC picture, as phones take them"),
        (iso_file(b"mif1", b"heic"), "a HEIC picture, as phones take them"),
        (iso_file(b"avif", b"mif1", b"miaf"), "an AVIF picture"),
        (iso_file(b"mif1", b"avif", b"miaf"), "an AVIF picture"),
        (iso_file(b"isom", b"mp42"), "a video"),
        (b"GIF89a" + bytes(32), "a GIF picture"),
        (b"BM" + bytes(32), "a BMP picture"),
        (b"II*\x00" + bytes(32), "a TIFF picture"),
        (b"MM\x00*" + bytes(32), "a TIFF picture"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b'<?xml version="1.0"?>\n<svg xmlns="...">', "an SVG drawing"),
        (b"\n<!DOCTYPE html><html>", "a web page (HTML)"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
async def test_unsupported_format_is_named_whatever_the_extension(
    tmp_path: Path, local_store: ImageStore, data: bytes, name: str
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(InputsRefused) as refusal:
        await upload_file(path, local_store)
    assert f"but {name}: convert it to PNG or JPEG" in str(refusal.value)


async def test_wrong_extension_is_ignored(local_store: ImageStore, tmp_path: Path) -> None:
    for name in ("dog.png", "dog.JPEG", "dog", "dog.heic"):
        (tmp_path / "store" / name).write_bytes(DOG)
        inputs = await load_inputs(edit(local_store.root + name), local_store)
        assert inputs.images == (("images-0.jpg", DOG, "image/jpeg"),)


async def test_picture_damaged_in_the_store_is_refused(local_store: ImageStore) -> None:
    cat = await local_store.put_image(CAT)
    path = local_store.local_path(cat.uri)
    assert path is not None
    path.write_bytes(CAT + b"!")
    (problem,) = await refusal_of(edit(cat.uri), local_store)
    assert "(its bytes do not match its name)" in problem


async def test_picture_and_mask_at_the_size_limit_are_refused_unread(
    local_store: ImageStore, tmp_path: Path
) -> None:
    """One byte less is accepted."""
    root = tmp_path / "store"
    for name, data, size in (("cat.png", CAT, 50 * MIB), ("mask.png", MASK, 4 * MIB)):
        (root / name).write_bytes(data)
        os.truncate(root / name, size)
    request = edit(local_store.root + "cat.png", mask=local_store.root + "mask.png")
    image_problem, mask_problem = await refusal_of(request, local_store)
    assert "(52,428,800 bytes); allowed: a picture under 50 MB" in image_problem
    assert "(4,194,304 bytes); allowed: a picture under 4 MB" in mask_problem
    os.truncate(root / "cat.png", 50 * MIB - 1)
    os.truncate(root / "mask.png", 4 * MIB - 1)
    inputs = await load_inputs(request, local_store)
    assert inputs.mask is not None
    assert (len(inputs.images[0].data), len(inputs.mask.data)) == (50 * MIB - 1, 4 * MIB - 1)


async def test_mask_as_data_uri_has_the_same_size_limit(local_store: ImageStore) -> None:
    padding = bytes(4 * MIB - len(MASK))
    (problem,) = await refusal_of(edit(data_uri(CAT), mask=data_uri(MASK + padding)), local_store)
    assert "(4,194,304 bytes, 4 MB or more)" in problem
    assert await load_inputs(edit(data_uri(CAT), mask=data_uri(MASK + padding[:-1])), local_store)


@pytest.mark.parametrize(
    ("mask", "problems"),
    [
        (make_picture("PNG", (8, 6)), ["mask is image/png without an alpha channel; allowed: a PNG"]),
        (make_picture("WEBP", (8, 6), "RGBA"), ["mask is image/webp with an alpha channel; allowed: a PNG"]),
        (make_picture("PNG", (6, 8), "RGBA"), ["mask is 6x8 pixels; allowed: 8x6 pixels"]),
    ],
    ids=["no alpha", "no PNG", "other size"],
)
async def test_mask_without_alpha_or_of_another_size_is_refused(
    store: ImageStore, mask: bytes, problems: list[str]
) -> None:
    cat = await store.put_image(CAT)
    reference = (await store.put_image(mask)).uri
    found = await refusal_of(edit(cat.uri, mask=reference), store)
    assert [problem[: len(expected)] for problem, expected in zip(found, problems, strict=True)] == problems


async def test_mask_is_not_compared_with_a_refused_picture(local_store: ImageStore) -> None:
    found = await refusal_of(
        edit(local_store.root + "gone.png", data_uri(DOG, "image/jpeg"), mask=data_uri(MASK)), local_store
    )
    assert [problem.partition(" ")[0] for problem in found] == ["images.0"]


async def test_store_outage_is_not_a_refusal(s3_store: ImageStore) -> None:
    missing = ImageStore.from_url("s3://no-such-bucket")
    with pytest.raises(StoreUnavailable):
        await load_inputs(edit(missing.root + "cat.png"), missing)


async def test_upload_stores_file_under_its_hash_and_actual_type(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "my dog.jpeg").write_bytes(DOG)
    image = await upload_file(tmp_path / "my dog.jpeg", store)
    assert (image.sha256, image.media_type) == (hashlib.sha256(DOG).hexdigest(), "image/jpeg")
    assert await store.read(image.uri) == DOG


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("cat.png", b"no picture", "(the bytes are neither a PNG nor a JPEG nor a WebP picture)"),
        ("cat.png", b"", "(the bytes are neither a PNG nor a JPEG nor a WebP picture: they are empty)"),
        ("cat.png", make_picture("PNG", (300, 200))[:-12], "(the PNG picture cannot be decoded: "),
        ("cat.png", make_animation("PNG"), "animated"),
        ("cat.png", None, "(no such file or directory)"),
        ("folder/cat.png/cat.png", None, "(no such file or directory)"),
        (".", None, "(a folder or a device, not a file)"),
    ],
)
async def test_invalid_upload_is_refused_and_not_stored(
    local_store: ImageStore, tmp_path: Path, name: str, data: bytes | None, why: str
) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputsRefused) as refusal:
        await upload_file(path, local_store)
    (problem,) = refusal.value.problems
    assert str(problem).startswith(f"file is '{path}' (")
    assert why in str(problem)
    assert problem.allowed == f"a file with {RULE}, under 50 MB"
    assert not (tmp_path / "store/sha256").exists()


async def test_upload_of_50_mib_is_refused_unread(local_store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(CAT)
    os.truncate(tmp_path / "cat.png", 50 * MIB)
    with pytest.raises(InputsRefused, match=r"52,428,800 bytes large"):
        await upload_file(tmp_path / "cat.png", local_store)


async def test_upload_of_a_pipe_is_refused_without_blocking(local_store: ImageStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cat.png")
    with pytest.raises(InputsRefused, match="a folder or a device, not a file"):
        await upload_file(tmp_path / "cat.png", local_store)
