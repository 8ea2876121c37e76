"""Links to pictures that end by themselves: who has one may look at one picture, until a moment. Pure: no clock, no I/O.

A link is "https://images.example.com/{sha256}.png?expires=1763985600&signature=...", the signature an HMAC-SHA256 of the
name and the moment. There is nothing to look up, and nothing to take back but the secret, with which all links end.
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
_MOMENT = re.compile(r"[1-9][0-9]{0,10}", re.ASCII)


class PictureLink(NamedTuple):
    """A link, and until when it is good."""

    url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class PictureLinks:
    """Makes and checks links below `base_url`. The first of the secrets signs, each of them is taken."""

    base_url: str
    secrets: tuple[str, ...]
    life: timedelta

    @classmethod
    def configure(cls, base_url: str | None, secrets: Iterable[str], days: int) -> "PictureLinks | None":
        """As a deployment has set it, None where there are to be no links."""
        known = tuple(secrets)
        return cls(base_url, known, timedelta(days=days)) if base_url and known else None

    def make(self, image: ImageRef, now: datetime) -> PictureLink:
        """A link to a picture that is good from now on."""
        name = f"{image.sha256}.{EXTENSIONS[image.media_type]}"
        moment = int((now + self.life).timestamp())
        signature = _sign(self.secrets[0], name, str(moment)).decode()
        url = f"{self.base_url.rstrip('/')}/{name}?expires={moment}&signature={signature}"
        return PictureLink(url, datetime.fromtimestamp(moment, UTC))

    def make_urls(self, images: Iterable[ImageRef], now: datetime) -> tuple[str, ...]:
        """The links to some pictures, in their order."""
        return tuple(self.make(image, now).url for image in images)

    def find_fault(self, name: str, expires: str, signature: str, now: datetime) -> str | None:
        """Why a link leads nowhere, as a sentence; None where it is good."""
        well_formed = _NAME.fullmatch(name) and _MOMENT.fullmatch(expires)
        # All are compared, so that the time tells nothing.
        given = signature.encode("utf-8", "replace")
        known = [hmac.compare_digest(given, _sign(secret, name, expires)) for secret in self.secrets]
        if not well_formed or not any(known):
            return "This link is not whole: copy it again from where it was given to you."
        if int(expires) <= now.timestamp():
            return "This link has expired: ask for a new one (`python starter.py links RUN`)."
        return None


def _sign(secret: str, name: str, moment: str) -> bytes:
    told = hmac.digest(secret.encode(), f"picture\n{name}\n{moment}".encode("utf-8", "replace"), "sha256")
    return urlsafe_b64encode(told).rstrip(b"=")
