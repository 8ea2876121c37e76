"""Sign messages by Standard Webhooks (https://github.com/standard-webhooks/standard-webhooks), symmetric, v1."""

import base64
import binascii
from collections.abc import Iterable
from datetime import datetime

from standardwebhooks import Webhook

_PREFIX = "whsec_"
_MIN_KEY_BYTES, _MAX_KEY_BYTES = 24, 64


def is_signing_secret(text: str) -> bool:
    """Return whether this is a valid secret: the prefix, and 24 to 64 bytes in base64."""
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        return False
    return text.startswith(_PREFIX) and _MIN_KEY_BYTES <= len(key) <= _MAX_KEY_BYTES


def sign_message(secrets: Iterable[str], message_id: str, now: datetime, content: str) -> dict[str, str]:
    """Return the headers of a message sent now, signed with each secret.

    A receiver may know either the old or the new secret.
    """
    signatures = (Webhook(secret).sign(msg_id=message_id, timestamp=now, data=content) for secret in secrets)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
