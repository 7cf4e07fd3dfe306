"""Nodes with every kind of network, for the tests of what is written for them."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import TYPE_CHECKING, Any

from pibake.plan import Wifi
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
