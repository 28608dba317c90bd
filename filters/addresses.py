"""IP addresses that nothing of the web may lead to: the IANA special-purpose registries, and clouds' own services.

The table is this module's own, because that of Python's `ipaddress` depends on the interpreter's patch release.
"""

import functools
import ipaddress
from typing import Final

REFUSED_NETWORKS: Final = tuple(
    (ipaddress.ip_network(network), reason)
    for network, reason in (
        # IANA IPv4 Special-Purpose Address Registry, multicast, and what is not allocated.
        ("0.0.0.0/32", "unspecified"),
        ("0.0.0.0/8", "private"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "private"),
        ("192.0.2.0/24", "private"),
        ("192.31.196.0/24", "AS112"),
        ("192.52.193.0/24", "AMT relay"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "AS112"),
        ("198.18.0.0/15", "private"),
        ("198.51.100.0/24", "private"),
        ("203.0.113.0/24", "private"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "private"),
        # Public by its number, but reached from inside a cloud alone: Azure's platform services (WireServer).
        ("168.63.129.16/32", "cloud-internal"),
        # IANA IPv6 Special-Purpose Address Registry, and the ranges in which an IPv4 address hides.
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("::ffff:0:0:0/96", "IPv4-translated"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("100::/64", "private"),
        ("100:0:0:1::/64", "private"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "private"),
        ("2001:db8::/32", "private"),
        ("2002::/16", "6to4"),
        ("2620:4f:8000::/48", "AS112"),
        ("3fff::/20", "private"),
        ("5f00::/16", "private"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
"""Networks and the reason not to go there; of several that hold an address the first counts."""

_UNICAST_6: Final = ipaddress.ip_network("2000::/3")
"""All that IANA has allocated as global unicast of IPv6."""


@functools.lru_cache(65_536)
def refusal(address: str) -> str | None:
    """The reason not to connect to an IP address (`loopback`, `private`, …), or None if it is a public unicast one.

    A zone (`fe80::1%eth0`) is ignored. Raises ValueError for what is no address.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    for network, reason in REFUSED_NETWORKS:
        if ip.version == network.version and ip in network:
            return reason
    return None if ip.version == 4 or ip in _UNICAST_6 else "reserved"
