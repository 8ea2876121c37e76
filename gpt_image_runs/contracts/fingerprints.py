"""What tells two contents of one request id apart, field by field, without keeping the content.

A marked fingerprint is the fingerprint and, behind it, six hex digits of the hash of each field that was given:
"3fa2... model:1b2c3d prompt:9e8f70". Only the fingerprint decides whether two contents are the same. The marks are for the
words of a refusal, and tell whether partial images were asked for, with which there is no estimate.
"""

import hashlib
import json

from gpt_image_runs.contracts.request import NO_CONTENT, ImageRequest

_DIGITS = 6


def fingerprint(request: ImageRequest) -> str:
    """What is asked, and by whom, as a SHA-256 in hex: equal where all of that is equal.

    The request_id is left out, whom the run's end is told, and the model that answers where a retired one is replaced: the same request
    submitted again after a shutdown day is still the same. The order of keys makes no difference, nor does null instead
    of an absent field, nor a default that changes nothing (`stream` false, ...: see `ImageRequest`). Any other default
    that is written out does: a size "auto" is not the same as none, as the provider may move its defaults.
    """
    asked = request.model_dump(mode="json", exclude=NO_CONTENT)
    canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def mark_content(fingerprint: str, request: ImageRequest) -> str:
    """The fingerprint of a request with the marks of its fields."""
    asked = request.model_dump(mode="json", exclude=NO_CONTENT)
    return " ".join([fingerprint, *(f"{field}:{_digest(asked[field])}" for field in sorted(asked))])


def strip_marks(marked: str) -> str:
    """The fingerprint alone."""
    return marked.partition(" ")[0]


def name_differences(known: str, asked: str) -> tuple[str, ...]:
    """The fields in which two marked fingerprints differ, in order."""
    before, now = _read_marks(known), _read_marks(asked)
    return tuple(field for field in sorted(before.keys() | now.keys()) if before.get(field) != now.get(field))


def has_field(marked: str, field: str) -> bool:
    """Return whether the content named that field."""
    return field in _read_marks(marked)


def _digest(value: object) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:_DIGITS]


def _read_marks(marked: str) -> dict[str, str]:
    return dict(mark.split(":") for mark in marked.split(" ")[1:])
