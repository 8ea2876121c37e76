"""Signatures by Standard Webhooks: https://github.com/standard-webhooks/standard-webhooks, symmetric ones (v1)."""

import base64
import binascii
from collections.abc import Iterable
from datetime import datetime

from standardwebhooks import Webhook

_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64


def is_signing_secret(text: str) -> bool:
    """Whether this is a secret of the specification's form: its prefix, and 24 to 64 bytes in base64."""
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        return False
    return text.startswith(_PREFIX) and _SHORTEST <= len(key) <= _LONGEST


def sign_message(secrets: Iterable[str], message_id: str, now: datetime, content: str) -> dict[str, str]:
    """The headers of a message that is sent now. Each secret signs, so that a receiver may know the old or the new one."""
    signatures = (Webhook(secret).sign(msg_id=message_id, timestamp=now, data=content) for secret in secrets)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
