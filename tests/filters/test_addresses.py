"""The table of refused networks, against the IANA special-purpose registries and clouds' own addresses."""

import ast
import inspect
import ipaddress

import pytest

from mmcorpus.filters import addresses
from mmcorpus.filters.addresses import REFUSED_NETWORKS, refusal

IANA_4 = """0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.0.0/29
192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24
192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4
255.255.255.255/32"""
IANA_6 = """::1/128 ::/128 ::ffff:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32
2001:1::1/128 2001:1::2/128 2001:1::3/128 2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28
2001:30::/28 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10"""
"""https://www.iana.org/assignments/iana-ipv4-special-registry and …-ipv6-special-registry, as of 2025."""


@pytest.mark.parametrize("network", [*IANA_4.split(), *IANA_6.split(), "224.0.0.0/4", "ff00::/8", "fec0::/10"])
def test_special_networks_are_refused_from_end_to_end(network: str) -> None:
    whole = ipaddress.ip_network(network)
    middle = whole[whole.num_addresses // 2]
    assert all(refusal(str(address)) for address in (whole[0], middle, whole[-1]))


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254",
        "fd20:ce::254", "fe80::a9fe:a9fe", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::",
        "::ffff:0:169.254.169.254", "2001:0:1234::5601:5601",
    ],
)  # fmt: skip
def test_metadata_services_of_clouds_are_refused(address: str) -> None:
    assert refusal(address)


@pytest.mark.parametrize("address", ["4000::1", "8000::", "1000::1", "fe00::1", "0100:1::"])
def test_what_is_not_allocated_in_ipv6_is_refused(address: str) -> None:
    assert refusal(address) == "reserved"


@pytest.mark.parametrize(
    "address",
    [
        "1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "128.0.0.1", "168.63.129.15",
        "168.63.129.17", "169.253.255.255", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.0.3.0", "192.167.255.255",
        "192.169.0.0", "198.17.255.255", "198.20.0.0", "203.0.112.255", "223.255.255.255",
        "2001:200::1", "2001:db7::1", "2003::1", "2606:4700::1111", "2a00:1450::1", "3ffe::1", "2620:4f:7fff::1",
    ],
)  # fmt: skip
def test_their_neighbours_are_public(address: str) -> None:
    assert refusal(address) is None


def test_the_table_is_the_modules_own() -> None:
    """Python's `is_private` and the like differ between its patch releases."""
    names = {node.attr for node in ast.walk(ast.parse(inspect.getsource(addresses))) if isinstance(node, ast.Attribute)}
    assert not {name for name in names if name.startswith("is_")}
    assert len({network for network, _ in REFUSED_NETWORKS}) == len(REFUSED_NETWORKS)
