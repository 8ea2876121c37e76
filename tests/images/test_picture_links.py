"""Links: each leads to one picture until one moment, and whoever changes one has none."""

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
WHOLE = "This link is not whole"


def take_apart(url: str) -> tuple[str, str, str]:
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    return parts.path.rpartition("/")[2], query["expires"][0], query["signature"][0]


def test_a_link() -> None:
    """A link has the picture's hash, its end and a signature, and is good until that end to the second."""
    link = LINKS.make(IMAGE, NOW)
    name, expires, signature = take_apart(link.url)

    assert link.url.startswith(f"https://images.example.com/p/{'ab' * 32}.jpg?expires=")
    assert (name, int(expires)) == (f"{'ab' * 32}.jpg", int((NOW + LIFE).timestamp()))
    assert link.expires_at == NOW + LIFE
    assert LINKS.find_fault(name, expires, signature, NOW) is None
    assert LINKS.find_fault(name, expires, signature, NOW + LIFE - timedelta(seconds=1)) is None
    assert "has expired" in (LINKS.find_fault(name, expires, signature, NOW + LIFE) or "")


def test_a_changed_link_is_none() -> None:
    """Another picture, another kind of file, a later end, and another signature are all told alike."""
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
        assert (LINKS.find_fault(*changed, NOW) or "").startswith(WHOLE), changed


def test_a_secret_is_changed() -> None:
    """Links of the old secret are good while both are set, new ones are of the new; without the old one its links end."""
    old, new = "o" * 32, "n" * 32
    both, only = PictureLinks("https://i", (new, old), LIFE), PictureLinks("https://i", (new,), LIFE)
    before = take_apart(PictureLinks("https://i", (old,), LIFE).make(IMAGE, NOW).url)
    now = take_apart(both.make(IMAGE, NOW).url)

    assert both.find_fault(*before, NOW) is None
    assert only.find_fault(*before, NOW)
    assert only.find_fault(*now, NOW) is None


@given(st.text(), st.text(), st.text())
def test_whatever_is_asked(name: str, expires: str, signature: str) -> None:
    """Nothing that somebody makes up is a link, and nothing breaks the check."""
    assert (LINKS.find_fault(name, expires, signature, NOW) or "").startswith(WHOLE)


@pytest.mark.parametrize(("url", "secrets"), [(None, ["x"]), ("https://i", [])])
def test_where_nothing_is_set(url: str | None, secrets: list[str]) -> None:
    """Without an address or without a secret there are no links."""
    assert PictureLinks.configure(url, secrets, 7) is None
