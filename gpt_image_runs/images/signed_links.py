"""Create and check expiring links to pictures. Pure: no clock, no I/O.

A link is "https://images.example.com/{sha256}.png?expires=1763985600&signature=...". The signature is an HMAC-SHA256
of the name and the expiry time. Nothing is stored; the only way to revoke links is to change the secret.
"""

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.images.formats import EXTENSIONS

_NAME = re.compile(r"[0-9a-f]{64}\.(png|jpg|webp)")
_EXPIRES = re.compile(r"[1-9][0-9]{0,10}", re.ASCII)


class PictureLink(NamedTuple):
    """A link, and when it expires."""

    url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class PictureLinks:
    """Creates and checks links below `base_url`. The first secret signs, all are accepted."""

    base_url: str
    secrets: tuple[str, ...]
    life: timedelta

    @classmethod
    def configure(cls, base_url: str | None, secrets: Iterable[str], days: int) -> "PictureLinks | None":
        """Build it from a deployment's settings, or return None if links are not configured."""
        known = tuple(secrets)
        return cls(base_url, known, timedelta(days=days)) if base_url and known else None

    def make(self, image: ImageRef, now: datetime) -> PictureLink:
        """Create a link that is valid from now on."""
        name = f"{image.sha256}.{EXTENSIONS[image.media_type]}"
        moment = int((now + self.life).timestamp())
        signature = _sign(self.secrets[0], name, str(moment)).decode()
        url = f"{self.base_url.rstrip('/')}/{name}?expires={moment}&signature={signature}"
        return PictureLink(url, datetime.fromtimestamp(moment, UTC))

    def make_urls(self, images: Iterable[ImageRef], now: datetime) -> tuple[str, ...]:
        """Return the links to some pictures, in their order."""
        return tuple(self.make(image, now).url for image in images)

    def validate(self, name: str, expires: str, signature: str, now: datetime) -> str | None:
        """Return why a link is refused, as a sentence, or None if it is valid."""
        well_formed = _NAME.fullmatch(name) and _EXPIRES.fullmatch(expires)
        # Compare with all secrets, so that the duration reveals nothing.
        given = signature.encode("utf-8", "replace")
        known = [hmac.compare_digest(given, _sign(secret, name, expires)) for secret in self.secrets]
        if not well_formed or not any(known):
            return "This link is incomplete or was changed: copy it again from its source."
        if int(expires) <= now.timestamp():
            return "This link has expired: ask for a new one (`python starter.py links RUN`)."
        return None


def _sign(secret: str, name: str, moment: str) -> bytes:
    digest = hmac.digest(secret.encode(), f"picture\n{name}\n{moment}".encode("utf-8", "replace"), "sha256")
    return urlsafe_b64encode(digest).rstrip(b"=")
