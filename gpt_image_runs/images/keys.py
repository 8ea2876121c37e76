"""Name the objects of the image store, and parse references to them. Pure: no I/O.

A key is what follows the store's root in a reference. It allows few characters on purpose: anything that must be
decoded, normalized or quoted before it can be compared (percent signs, backslashes, dots that lead upwards) is
refused.
"""

import re

from gpt_image_runs.contracts.images import MediaType
from gpt_image_runs.contracts.problems import describe_value
from gpt_image_runs.contracts.request import TENANT_PATTERN
from gpt_image_runs.images.backend import ReferenceRefused
from gpt_image_runs.images.formats import EXTENSIONS

DOCUMENTS = "documents/"
PICTURES = "sha256/"
OWNERS = "owners/"
# In their own folder, so that a lifecycle rule of the bucket can expire them.
PARTIAL_PICTURES = "partial/"
# In characters. S3 allows 1,024 including the prefix.
MAX_KEY_LENGTH = 600

KEY_RULE = "names of A-Z, a-z, 0-9, dot, hyphen and underscore, joined by slashes, none beginning with a dot or hyphen"
_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}"
_KEY = re.compile(rf"{_NAME}(/{_NAME})*")
_PICTURE_KEY = re.compile(r"(?:sha256|partial)/([0-9a-f]{2})/(\1[0-9a-f]{62})\.(png|jpg|webp)")


def picture_key(sha256: str, media_type: MediaType, folder: str = PICTURES) -> str:
    """Return the key of a picture: "sha256/ab/abcdef....png"."""
    return f"{folder}{sha256[:2]}/{sha256}.{EXTENSIONS[media_type]}"


def owner_key(sha256: str, tenant: str = "") -> str:
    """Return the key that marks a picture as a tenant's: "owners/ab/abcdef.../acme".

    Without a tenant it is the folder of all owners.

    Raises:
        ValueError: the tenant is not well-formed.
    """
    if tenant and not re.fullmatch(TENANT_PATTERN, tenant):
        raise ValueError(f"{describe_value('tenant', tenant)} is not a valid tenant: it cannot own a picture")
    return f"{OWNERS}{sha256[:2]}/{sha256}{'/' if tenant else ''}{tenant}"


def sha256_of_key(key: str) -> str | None:
    """Return the hash in a picture's key, or None for a key without one."""
    match = _PICTURE_KEY.fullmatch(key)
    return match[2] if match else None


def document_key(name: str) -> str:
    """Return the key of a document: "documents/" and its name.

    Raises:
        ValueError: the name is not a well-formed key.
    """
    if not is_key(name):
        raise ValueError(f"{describe_value('key', name)} is not a valid document name: use {KEY_RULE}")
    return DOCUMENTS + name


def is_key(text: str) -> bool:
    """Return whether a text is a well-formed key."""
    return len(text) <= MAX_KEY_LENGTH and _KEY.fullmatch(text) is not None


def key_of_reference(uri: str, root: str) -> str:
    """Return the key of a reference. `root` is the store's own URI and ends with a slash.

    Raises:
        ReferenceRefused: it is outside of the root, not well-formed, or does not name a picture.
    """
    shown = describe_value("uri", uri)
    if not uri.startswith(root):
        raise ReferenceRefused(f"The reference {shown} is outside of this image store, {root}.")
    key = uri.removeprefix(root)
    if not is_key(key):
        raise ReferenceRefused(
            f"The reference {shown} is not well-formed: after {root} it must have {KEY_RULE}."
        )
    if key.startswith((DOCUMENTS, OWNERS)) or (
        key.startswith((PICTURES, PARTIAL_PICTURES)) and not sha256_of_key(key)
    ):
        raise ReferenceRefused(f"The reference {shown} does not name a picture.")
    return key
