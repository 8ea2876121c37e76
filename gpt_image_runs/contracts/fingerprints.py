"""Request fingerprints, and digests of single fields that tell two contents apart without storing them.

A marked fingerprint is the fingerprint and, behind it, six hex digits of the hash of each field that was given:
"3fa2... model:1b2c3d prompt:9e8f70". Only the fingerprint decides whether two contents are the same. The marks name the
fields that differ in a refusal, and show whether partial images were requested, for which there is no estimate.
"""

import hashlib
import json

from gpt_image_runs.contracts.request import NO_CONTENT, ImageRequest

_DIGITS = 6


def fingerprint(request: ImageRequest) -> str:
    """Return the SHA-256, in hex, of what is requested and by which tenant.

    The request_id, `notify`, and the replacement of a retired model are left out: the same request submitted again after a
    shutdown day is still the same. The order of keys makes no difference, nor does null instead
    of an absent field, nor a default that changes nothing (`stream` false, ...: see `ImageRequest`). Any other default
    that is written out does: a size "auto" differs from an absent one, as the provider may change its defaults.
    """
    asked = request.model_dump(mode="json", exclude=NO_CONTENT)
    canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def mark_content(fingerprint: str, request: ImageRequest) -> str:
    """Return the fingerprint of a request with the marks of its fields."""
    asked = request.model_dump(mode="json", exclude=NO_CONTENT)
    return " ".join([fingerprint, *(f"{field}:{_digest(asked[field])}" for field in sorted(asked))])


def strip_marks(marked: str) -> str:
    """Return the fingerprint without its marks."""
    return marked.partition(" ")[0]


def name_differences(known: str, asked: str) -> tuple[str, ...]:
    """Return the fields in which two marked fingerprints differ, in order."""
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
