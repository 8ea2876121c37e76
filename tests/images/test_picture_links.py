"""Each signed link is valid for one picture until it expires, and a changed link is refused."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.images.signed_links import PictureLinks

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
LIFE = timedelta(days=7)
LINKS = PictureLinks("https://images.example.com/p/", ("s" * 32,), LIFE)
IMAGE = ImageRef(uri="s3://pictures/x", sha256="ab" * 32, media_type="image/jpeg", bytes=1, width=1, height=1)
WHOLE = "This link is incomplete or was changed"


def take_apart(url: str) -> tuple[str, str, str]:
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    return parts.path.rpartition("/")[2], query["expires"][0], query["signature"][0]


def test_signed_link_opens_until_it_expires() -> None:
    link = LINKS.make(IMAGE, NOW)
    name, expires, signature = take_apart(link.url)

    assert link.url.startswith(f"https://images.example.com/p/{'ab' * 32}.jpg?expires=")
    assert (name, int(expires)) == (f"{'ab' * 32}.jpg", int((NOW + LIFE).timestamp()))
    assert link.expires_at == NOW + LIFE
    assert LINKS.validate(name, expires, signature, NOW) is None
    assert LINKS.validate(name, expires, signature, NOW + LIFE - timedelta(seconds=1)) is None
    assert "has expired" in (LINKS.validate(name, expires, signature, NOW + LIFE) or "")


def test_changed_link_is_refused() -> None:
    """Another picture, file type, expiry or signature gets the same message."""
    name, expires, signature = take_apart(LINKS.make(IMAGE, NOW).url)
    for changed in (
        (name.replace("ab", "cd", 1), expires, signature),
        (name.replace("jpg", "png"), expires, signature),
        (name, str(int(expires) + 1), signature),
        (name, f"0{expires}", signature),
        (name, expires, signature[:-1] + ("A" if signature[-1] != "A" else "B")),
        (name, expires, signature + "="),
        (name, expires, ""),
    ):
        assert (LINKS.validate(*changed, NOW) or "").startswith(WHOLE), changed


def test_links_of_the_old_secret_are_valid_while_both_are_set() -> None:
    old, new = "o" * 32, "n" * 32
    both, only = PictureLinks("https://i", (new, old), LIFE), PictureLinks("https://i", (new,), LIFE)
    before = take_apart(PictureLinks("https://i", (old,), LIFE).make(IMAGE, NOW).url)
    now = take_apart(both.make(IMAGE, NOW).url)

    assert both.validate(*before, NOW) is None
    assert only.validate(*before, NOW)
    assert only.validate(*now, NOW) is None


@given(st.text(), st.text(), st.text())
def test_arbitrary_input_is_refused_without_an_error(name: str, expires: str, signature: str) -> None:
    assert (LINKS.validate(name, expires, signature, NOW) or "").startswith(WHOLE)


@pytest.mark.parametrize(("url", "secrets"), [(None, ["x"]), ("https://i", [])])
def test_links_are_disabled_without_url_or_secret(url: str | None, secrets: list[str]) -> None:
    assert PictureLinks.configure(url, secrets, 7) is None
