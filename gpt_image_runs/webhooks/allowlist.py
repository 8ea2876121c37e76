"""Decide where webhooks may be sent by a deployment's settings, on admission and again before sending. Pure."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

_NOT_PUBLIC_4 = {
    IPv4Network(network): meaning
    for network, meaning in {
        "0.0.0.0/8": "this host",
        "10.0.0.0/8": "private",
        "100.64.0.0/10": "shared within a carrier or cloud",
        "127.0.0.0/8": "loopback",
        "169.254.0.0/16": "link-local",
        "172.16.0.0/12": "private",
        "192.0.0.0/24": "reserved for protocols",
        "192.0.2.0/24": "for documentation",
        "192.88.99.0/24": "a 6to4 relay",
        "192.168.0.0/16": "private",
        "198.18.0.0/15": "for benchmarks",
        "198.51.100.0/24": "for documentation",
        "203.0.113.0/24": "for documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved",
        # In a public range, but the host's own services, with the secrets of the virtual machine.
        "168.63.129.16/32": "an Azure host service",
    }.items()
}
_PUBLIC_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = {
    IPv6Network(network): meaning
    for network, meaning in {
        "2001::/23": "reserved for protocols",
        "2001:db8::/32": "for documentation",
        # Contains an IPv4 address that a relay would forward to.
        "2002::/16": "6to4",
        "3fff::/20": "for documentation",
    }.items()
}
# IPv4 addresses as seen from a network without IPv4 (NAT64).
_NAT64 = IPv6Network("64:ff9b::/96")


def blocked_reason(text: str) -> str | None:
    """Return why connections to this IP address are blocked, in a word or two, or None if it is public."""
    try:
        address = _unwrap(ip_address(text))
    except ValueError:
        return "not an IP address"
    if isinstance(address, IPv4Address):
        return next((meaning for network, meaning in _NOT_PUBLIC_4.items() if address in network), None)
    if address.is_loopback:
        return "loopback"
    if address not in _PUBLIC_6:
        return "not public"
    return next((meaning for network, meaning in _NOT_PUBLIC_6.items() if address in network), None)


def is_loopback(text: str) -> bool:
    """Return whether this is a loopback address, in any spelling."""
    try:
        return _unwrap(ip_address(text)).is_loopback
    except ValueError:
        return False


def _unwrap(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address embedded in an IPv6 one, if there is one."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address


_HOST = re.compile(r"(\*\.)?([a-z0-9]([a-z0-9.-]*[a-z0-9])?)|\[[0-9a-f:.]+\]")
_PORTS = {"https": 443, "http": 80}
_MAX_PORT = 65_535
_MAX_LABEL_LENGTH = 63


class _Rule(NamedTuple):
    """A lower-case host, or what follows its "*". `port` None is the scheme's default."""

    host: str
    port: int | None


@dataclass(frozen=True, slots=True)
class Destinations:
    """Hosts that webhooks may be sent to. `loopback` also allows this host, also by http, for tests.

    `setting` is the name of the setting that they come from, because downloads have a setting of their own.
    """

    rules: tuple[_Rule, ...] = ()
    signed: bool = False
    loopback: bool = False
    setting: str = "NOTIFY_HOSTS"

    @classmethod
    def read(
        cls, hosts: str | None, *, signed: bool, loopback: bool, setting: str = "NOTIFY_HOSTS"
    ) -> "Destinations":
        """Parse a setting's text: "hooks.example.com *.partners.example.com localhost:8080".

        Raises:
            ValueError: a part of it is not a valid host.
        """
        rules = tuple(map(_read_rule, (hosts or "").replace(",", " ").split()))
        return cls(rules, signed, loopback, setting)

    def validate(self, url: str) -> str | None:
        """Return what is allowed instead of a well-formed URL, or None if the URL is allowed."""
        return self._find_missing_setting() or self._validate_url(url)

    def _find_missing_setting(self) -> str | None:
        if not self.rules:
            return f"nothing: no destinations are allowed here (the worker's setting {self.setting})"
        if not self.signed:
            return "nothing: notifications cannot be signed here (the worker's setting NOTIFY_SECRETS)"
        return None

    def _validate_url(self, url: str) -> str | None:
        parts = urlsplit(url)
        host, port = parts.hostname or "", _port_of(url)
        if port is None:
            return f"a port from 1 to {_MAX_PORT}"
        if not self.matches(url):
            return f"an address whose host and port are in the worker's setting {self.setting}"
        if self.loopback and (host == "localhost" or is_loopback(host)):
            return None
        if parts.scheme != "https":
            return "an https address"
        return _validate_host(host)

    def matches(self, url: str) -> bool:
        """Return whether the host and port of an http or https URL are in the setting."""
        parts, port = urlsplit(url), _port_of(url)
        return port is not None and any(
            _matches(rule, parts.hostname or "", port, _PORTS[parts.scheme]) for rule in self.rules
        )

    def blocked_reason(self, address: str) -> str | None:
        """Return why sending to a resolved IP address is blocked, or None if it is allowed."""
        return None if self.loopback and is_loopback(address) else blocked_reason(address)


# The default without settings.
NO_DESTINATIONS = Destinations()


def describe_destination(url: str) -> str:
    """Return the part of a URL that may be shown. Its path may contain a token."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _read_rule(text: str) -> _Rule:
    host, colon, port = text.lower(), "", ""
    if not text.endswith("]") and ":" in text:
        host, colon, port = host.rpartition(":")
    is_port = port.isdecimal() and port.isascii() and 0 < int(port) <= _MAX_PORT
    if not _HOST.fullmatch(host) or (colon and not is_port):
        raise ValueError(text)
    return _Rule(host.removeprefix("*").strip("[]"), int(port) if colon else None)


def _matches(rule: _Rule, host: str, port: int, default_port: int) -> bool:
    is_host = host.endswith(rule.host) if rule.host.startswith(".") else host == rule.host
    return is_host and port == (rule.port or default_port)


def _validate_host(host: str) -> str | None:
    if _is_address(host):
        why = blocked_reason(host)
        return f"a public address, and this one is {why}" if why else None
    # Resolvers reject other names, Python's with an unrelated error.
    if not all(0 < len(label) <= _MAX_LABEL_LENGTH for label in host.split(".")):
        return f"a host with 1 to {_MAX_LABEL_LENGTH} characters before, between and after its dots"
    return None


def _port_of(url: str) -> int | None:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        return None
    return _PORTS[parts.scheme] if port is None else port or None


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdecimal()
