"""Marks of request fields: which fields of two contents differ."""

from typing import Any

import pytest

from gpt_image_runs.contracts.fingerprints import mark_content, name_differences, strip_marks
from gpt_image_runs.contracts.request import ImageRequest

BASE = {"model": "gpt-image-2", "prompt": "a lamp", "size": "1024x1024", "metadata": {"a": "1", "b": "2"}}


def mark(**fields: Any) -> str:
    return mark_content("f1", ImageRequest.model_validate({**BASE, **fields}))


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({}, ()),
        ({"request_id": "another"}, ()),
        ({"notify": "https://hooks.example.com"}, ()),
        ({"metadata": {"b": "2", "a": "1"}}, ()),
        ({"prompt": "a lamp "}, ("prompt",)),
        ({"size": None, "quality": "low"}, ("quality", "size")),
        ({"tenant": "acme", "images": ["store://a.png"]}, ("images", "tenant")),
    ],
)
def test_differing_fields_are_named_in_order(change: dict[str, Any], fields: tuple[str, ...]) -> None:
    assert name_differences(mark(), mark(**change)) == fields


def test_mark_is_six_hex_digits_whatever_the_content() -> None:
    marked = mark(prompt="a secret " * 1_000)

    assert strip_marks(marked) == "f1"
    assert "secret" not in marked
    assert len(marked) < 100
