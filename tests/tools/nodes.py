"""Nodes with every kind of network, for the tests of what is written for them."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import TYPE_CHECKING, Any

from pibake.config.head import SSH, Opening
from pibake.plan import Forward, Head, Lease, Upstream, Wifi
from pibake.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from pibake.plan import NodePlan

PSK = "44116ea8881531996d8a23af58b376d70f6b8ea7bbfa1b4a4ed4dd292a0a15ec"
MAC = "dc:a6:32:01:02:03"
SECOND = {
    "address6": ipaddress.IPv6Interface("fd00:10::13/64"),
    "gateway6": ipaddress.IPv6Address("fd00:10::1"),
    "nameservers": ("192.168.10.1", "fd00:10::1"),
}


def linked(node: NodePlan, **changes: Any) -> NodePlan:
    """Return the node with another link."""
    return dataclasses.replace(node, link=dataclasses.replace(node.link, **changes))


def on_wifi(node: NodePlan, ssid: str = "my lab") -> NodePlan:
    """Return the node on Wi-Fi."""
    return dataclasses.replace(node, wifi=Wifi(ssid, Secret(PSK), "DE"))


NETWORKS: dict[str, Callable[[NodePlan], NodePlan]] = {
    "plain": lambda node: node,
    "mac": lambda node: linked(node, mac=MAC),
    "vlan": lambda node: linked(node, vlan=10),
    "no gateway": lambda node: linked(node, gateway=None),
    "ipv6": lambda node: linked(
        node,
        address=ipaddress.ip_interface("fd00::13/64"),
        gateway=ipaddress.ip_address("fe80::1"),
        nameservers=("fd00::1",),
    ),
    "dual stack": lambda node: linked(node, **SECOND),
    "ra off": lambda node: linked(node, ra=False),
    "dual stack, ra off": lambda node: linked(node, **SECOND, ra=False),
    "wifi": on_wifi,
    "mac, vlan, dual stack, ra off": lambda node: linked(node, **SECOND, ra=False, vlan=10, mac=MAC),
}


OUTER_MAC = "00:e0:4c:68:00:01"
FIXED: dict[str, Any] = {
    "address": ipaddress.IPv4Interface("203.0.113.5/24"),
    "gateway": ipaddress.IPv4Address("203.0.113.1"),
    "nameservers": ("203.0.113.1", "1.1.1.1"),
}


def heading(
    node: NodePlan, *, port: str = "eth0", mac: str = "", mac_out: str = "", **upstream: Any
) -> NodePlan:
    """Return the node as the head, 10.0.0.1, with eth1 leading out by DHCP unless `upstream` says otherwise."""
    inner = dataclasses.replace(
        node.link, address=ipaddress.ip_interface("10.0.0.1/24"), gateway=None, nameservers=(), mac=mac
    )
    head = Head(
        port=port,
        interface=port,
        upstream=Upstream(**{"name": "eth1", "mac": mac_out, **upstream}),
        subnet=ipaddress.IPv4Network("10.0.0.0/24"),
        address=ipaddress.IPv4Address("10.0.0.1"),
        domain="lab.example",
        nameservers=("10.0.0.1",),
        pool=(ipaddress.IPv4Address("10.0.0.100"), ipaddress.IPv4Address("10.0.0.199")),
        leases=(Lease(MAC, "10.0.0.11", "node2"),),
        open=(SSH,),
        forward=(),
    )
    return dataclasses.replace(node, link=inner, head=head)


def wide(node: NodePlan) -> NodePlan:
    """Return the head with every kind of port open and leading inside, and no guests."""
    made = heading(node)
    assert made.head
    opened = (SSH, Opening("tcp", 30000, 32767), Opening("udp", 51820, 51820))
    to = ipaddress.IPv4Address("10.0.0.240")
    leads = (Forward("tcp", 80, to, 80), Forward("tcp", 8443, to, 443), Forward("udp", 53, to, 5353))
    changed = dataclasses.replace(made.head, open=opened, forward=leads, pool=None, leases=(), nameservers=())
    return dataclasses.replace(made, head=changed)


def shut(node: NodePlan) -> NodePlan:
    """Return the head with nothing open."""
    made = heading(node)
    assert made.head
    return dataclasses.replace(made, head=dataclasses.replace(made.head, open=()))


HEADS: dict[str, Callable[[NodePlan], NodePlan]] = {
    "head, dhcp": heading,
    "head, fixed": lambda node: heading(node, **FIXED),
    "head, dhcp, name servers": lambda node: heading(node, nameservers=("1.1.1.1",)),
    "head, by MAC addresses": lambda node: heading(
        node, port="lan0", mac=MAC, name="wan0", mac_out=OUTER_MAC
    ),
    "head, by MAC addresses, vlan": lambda node: linked(
        heading(node, port="lan0", mac=MAC, name="wan0", mac_out=OUTER_MAC), vlan=10
    ),
    "head, out by wifi": lambda node: heading(node, name="wlan0", wifi=Wifi("home", Secret(PSK), "DE")),
    "head, out by wifi, fixed": lambda node: heading(
        node, name="wlan0", wifi=Wifi("home", Secret(PSK), "DE"), **FIXED
    ),
    "head, nodes by wifi": lambda node: on_wifi(heading(node, port="wlan0")),
    "head, many ports": wide,
    "head, no port": shut,
}
