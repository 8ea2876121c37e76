"""Which IP addresses are those of somebody else on the public internet. Pure; names are resolved elsewhere.

By IANA's registries of special-purpose addresses, written out, as what Python's `is_global` knows changes with its version.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_NOT_PUBLIC_4 = {
    IPv4Network(network): meaning
    for network, meaning in {
        "0.0.0.0/8": "this host",
        "10.0.0.0/8": "private",
        "100.64.0.0/10": "shared within a carrier or a cloud",
        "127.0.0.0/8": "loopback",
        "169.254.0.0/16": "link-local",
        "172.16.0.0/12": "private",
        "192.0.0.0/24": "reserved for protocols",
        "192.0.2.0/24": "for documentation",
        "192.88.99.0/24": "a relay of 6to4",
        "192.168.0.0/16": "private",
        "198.18.0.0/15": "for benchmarks",
        "198.51.100.0/24": "for documentation",
        "203.0.113.0/24": "for documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved",
        # In a public range, and yet the host's own services, with the secrets of the virtual machine.
        "168.63.129.16/32": "Azure's services of the host",
    }.items()
}
_PUBLIC_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = {
    IPv6Network(network): meaning
    for network, meaning in {
        "2001::/23": "reserved for protocols",
        "2001:db8::/32": "for documentation",
        # An IPv4 address is inside, which a relay would go on to.
        "2002::/16": "6to4",
        "3fff::/20": "for documentation",
    }.items()
}
_TRANSLATED = IPv6Network("64:ff9b::/96")
"""Where a network without IPv4 puts the addresses of the old internet (NAT64)."""


def find_objection(text: str) -> str | None:
    """Why nothing of ours may connect to this IP address, in a word or two; None where it is public."""
    try:
        address = _unwrap(ip_address(text))
    except ValueError:
        return "no IP address"
    if isinstance(address, IPv4Address):
        return next((meaning for network, meaning in _NOT_PUBLIC_4.items() if address in network), None)
    if address.is_loopback:
        return "loopback"
    if address not in _PUBLIC_6:
        return "not public"
    return next((meaning for network, meaning in _NOT_PUBLIC_6.items() if address in network), None)


def is_loopback(text: str) -> bool:
    """Whether this is an IP address of this host to itself, in whatever spelling."""
    try:
        return _unwrap(ip_address(text)).is_loopback
    except ValueError:
        return False


def _unwrap(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that is meant by an IPv6 one, where one is."""
    if isinstance(address, IPv4Address):
        return address
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address
