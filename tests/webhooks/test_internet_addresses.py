"""Which addresses are public. An address that could be inside a private network is not."""

import pytest

from gpt_image_runs.webhooks.allowlist import blocked_reason, is_loopback


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.254",
        "127.0.0.1",
        "127.255.0.9",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "::",
        "::1",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:7f00:1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff::1",
        "4000::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "localhost",
        "",
        "127.1",
        "0x7f000001",
        "2130706433",
    ],
)
def test_address_that_is_not_public_is_blocked(address: str) -> None:
    """Covers private, local, reserved and documentation ranges, also embedded in IPv6, and text that is not an address."""
    assert blocked_reason(address)


@pytest.mark.parametrize(
    "address",
    [
        *("8.8.8.8", "172.15.0.1", "172.32.0.1", "100.63.0.1", "168.63.129.17", "223.255.255.255"),
        *("2600::1", "2001:4860:4860::8888", "2a00::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"),
    ],
)
def test_public_address_is_not_blocked(address: str) -> None:
    """Also IPv4 addresses translated by NAT64."""
    assert blocked_reason(address) is None


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        *(("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True)),
        *(("10.0.0.1", False), ("0.0.0.0", False), ("localhost", False)),
    ],
)
def test_loopback_is_recognized_in_every_spelling(address: str, *, loopback: bool) -> None:
    assert is_loopback(address) is loopback
