"""Marks: which fields differ between two contents, told without either."""

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
def test_the_fields_that_differ_are_named(change: dict[str, Any], fields: tuple[str, ...]) -> None:
    """Changed, added and left-out fields are named in order; the order of names inside of one plays no part."""
    assert name_differences(mark(), mark(**change)) == fields


def test_a_mark_is_short_and_tells_no_content() -> None:
    """A field has six hex digits, whatever its length; the fingerprint stands before them as it was."""
    marked = mark(prompt="a secret " * 1_000)

    assert strip_marks(marked) == "f1"
    assert "secret" not in marked
    assert len(marked) < 100
