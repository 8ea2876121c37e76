"""Where webhooks may be sent by the settings."""

import pytest

from gpt_image_runs.webhooks.allowlist import Destinations, describe_destination

HOSTS = "hooks.example.com *.partners.example.com, other.example.com:8443 LOCALHOST:8080 127.0.0.1:8080 8.8.8.8 [::1]:8080 [2600::1]"


def find(url: str, *, loopback: bool = False) -> str | None:
    return Destinations.read(HOSTS, signed=True, loopback=loopback).validate(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com",
        "https://hooks.example.com/a?b=c",
        "https://HOOKS.example.com:443/",
        "https://a.partners.example.com/",
        "https://a.b.partners.example.com/",
        "https://other.example.com:8443/",
        "https://8.8.8.8/",
        "https://[2600::1]/",
    ],
)
def test_listed_host_and_port_are_allowed(url: str) -> None:
    assert find(url) is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://example.com/", "NOTIFY_HOSTS"),
        ("https://hooks.example.com.evil.example/", "NOTIFY_HOSTS"),
        ("https://evil-hooks.example.com/", "NOTIFY_HOSTS"),
        ("https://partners.example.com/", "NOTIFY_HOSTS"),
        ("https://evilpartners.example.com/", "NOTIFY_HOSTS"),
        ("https://hooks.example.com:8443/", "NOTIFY_HOSTS"),
        ("https://other.example.com/", "NOTIFY_HOSTS"),
        ("https://hooks.example.com:0/", "a port from 1 to 65535"),
        ("https://hooks.example.com:65536/", "a port from 1 to 65535"),
        ("http://hooks.example.com/", "an https address"),
        ("http://8.8.8.8/", "an https address"),
        ("http://localhost:8080/", "an https address"),
        ("https://127.0.0.1:8080/", "a public address, and this one is loopback"),
        ("https://[::1]:8080/", "a public address, and this one is loopback"),
        ("https://a..partners.example.com/", "a host with 1 to 63 characters"),
        (f"https://{'a' * 64}.partners.example.com/", "a host with 1 to 63 characters"),
    ],
)
def test_unlisted_url_is_refused_with_what_is_allowed(url: str, words: str) -> None:
    """Covers similar hosts, another port, plain http, and this host."""
    fault = find(url)
    assert fault
    assert words in fault


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:8080", "[::1]:8080"])
def test_notify_loopback_allows_listed_loopback_hosts_by_http(host: str) -> None:
    assert find(f"http://{host}/", loopback=True) is None
    assert find(f"https://{host}/", loopback=True) is None
    assert find(f"http://{host.replace('8080', '8081')}/", loopback=True)
    assert find("http://hooks.example.com/", loopback=True) == "an https address"


def test_missing_setting_is_named() -> None:
    """Without hosts or a secret nothing is allowed."""
    url = "https://hooks.example.com"
    nowhere = Destinations.read(None, signed=True, loopback=True)
    unsigned = Destinations.read("hooks.example.com", signed=False, loopback=True)
    assert "NOTIFY_HOSTS" in (nowhere.validate(url) or "")
    assert "NOTIFY_SECRETS" in (unsigned.validate(url) or "")


@pytest.mark.parametrize(
    "hosts",
    [
        *("https://a.example", "a.example/", "*", "*.", "a b@c", "a.example:", "a.example:0"),
        *("a.example:65536", "a.example:x", "[::1", "a*.example", "-a.example", "a.example:\u0664"),
    ],
)
def test_invalid_host_in_the_setting_is_refused(hosts: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Destinations.read(hosts, signed=True, loopback=False)


def test_destination_is_described_without_path_and_query() -> None:
    assert describe_destination("https://a.example:8443/secret?token=x") == "https://a.example:8443"
