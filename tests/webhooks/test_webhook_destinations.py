"""Where webhooks may go by the settings."""

import pytest

from gpt_image_runs.webhooks.allowlist import Destinations, describe_destination

HOSTS = "hooks.example.com *.partners.example.com, other.example.com:8443 LOCALHOST:8080 127.0.0.1:8080 8.8.8.8 [::1]:8080 [2600::1]"


def find(url: str, *, loopback: bool = False) -> str | None:
    return Destinations.read(HOSTS, signed=True, loopback=loopback).find_fault(url)


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
def test_what_is_allowed(url: str) -> None:
    """A host of the list, whatever is behind it, and its port; a public address where the list has it."""
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
def test_what_is_not(url: str, words: str) -> None:
    """Another host, however like it, another port, plain http and this host itself are told with what is allowed."""
    fault = find(url)
    assert fault
    assert words in fault


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:8080", "[::1]:8080"])
def test_this_host_where_that_is_set(host: str) -> None:
    """NOTIFY_LOOPBACK allows this host by both schemes, and nothing that the list has not; others stay with https."""
    assert find(f"http://{host}/", loopback=True) is None
    assert find(f"https://{host}/", loopback=True) is None
    assert find(f"http://{host.replace('8080', '8081')}/", loopback=True)
    assert find("http://hooks.example.com/", loopback=True) == "an https address"


def test_what_is_missing_is_told() -> None:
    """Without hosts, and without a secret, nothing is allowed, and the setting is named."""
    url = "https://hooks.example.com"
    nowhere = Destinations.read(None, signed=True, loopback=True)
    unsigned = Destinations.read("hooks.example.com", signed=False, loopback=True)
    assert "NOTIFY_HOSTS" in (nowhere.find_fault(url) or "")
    assert "NOTIFY_SECRETS" in (unsigned.find_fault(url) or "")


@pytest.mark.parametrize(
    "hosts",
    [
        *("https://a.example", "a.example/", "*", "*.", "a b@c", "a.example:", "a.example:0"),
        *("a.example:65536", "a.example:x", "[::1", "a*.example", "-a.example", "a.example:\u0664"),
    ],
)
def test_what_is_no_host(hosts: str) -> None:
    """Something else in the list is refused when the settings are read, not taken for a host that nothing matches."""
    with pytest.raises(ValueError, match=r"."):
        Destinations.read(hosts, signed=True, loopback=False)


def test_a_destination_is_told_without_its_path() -> None:
    """What people see of an address is neither its path nor its query."""
    assert describe_destination("https://a.example:8443/secret?token=x") == "https://a.example:8443"
