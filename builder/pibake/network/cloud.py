"""The seed's network-config, in the version that a node's cloud-init reads.

Versions (cloud-init, "Network configuration"): 0.7.9 reads version 1 only. From 17.1 on version 2 is read, and handed to
netplan word for word. For every other program cloud-init translates, and version 1 is what it translates better: a
default route of version 2 becomes calls of route(8) for ifupdown, which no system since Debian 9 has.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pibake.errors import PibakeError
from pibake.network.netplan import version_2
from pibake.network.ports import ETHERNET, made
from pibake.system import Network

if TYPE_CHECKING:
    from pibake.plan import NodePlan
    from pibake.system import CloudInit

READS_2 = (17,)
WIFI, VLAN, SECOND, SILENT = "Wi-Fi", "a VLAN", "a second address", "`ra: false`"
PASSES_ON = {
    Network.IFUPDOWN: {VLAN, SECOND},
    Network.NETWORK_MANAGER: {SECOND},
    Network.NETWORKD: set[str](),
}
"""What cloud-init passes on, beyond an address, a router and name servers, to the programs it translates for.

Found out with cloud-init 0.7.9 to 25.1: for networkd it makes no .netdev and puts two gateways into one route; for
NetworkManager, the port below a VLAN asks for an address by DHCP; for ifupdown, 0.7.9 gives a second address to a port
eth0:1; no program hears that router advertisements are not wanted beside a fixed address. For ifcfg, 0.7.9 forgets the
router.
"""


def unfit(node: NodePlan, cloud_init: CloudInit) -> str:
    """Return what the node's network needs and this cloud-init cannot pass on; empty if it can pass on everything."""
    to = cloud_init.renders[0] if cloud_init.renders else None
    if to is None or not cloud_init.reads_network:
        return f"cloud-init {cloud_init.version} configures no network here"
    if to is Network.NETPLAN and cloud_init.release >= READS_2:
        return ""
    if to not in PASSES_ON:
        return f"cloud-init {cloud_init.version} writes no {to} configuration that can be relied on"
    passed = PASSES_ON[to] if cloud_init.release >= READS_2 else PASSES_ON[to] - {SECOND}
    lost = [need for need in _needs(node) if need not in passed]
    return f"cloud-init {cloud_init.version} does not pass on to {to}: {', '.join(lost)}" if lost else ""


def _needs(node: NodePlan) -> list[str]:
    link = node.link
    needs = {WIFI: node.wifi, VLAN: link.vlan, SECOND: link.address6, SILENT: not link.ra}
    return [need for need, needed in needs.items() if needed]


def network_config(node: NodePlan, cloud_init: CloudInit, port: str = ETHERNET) -> str:
    """Return the network-config of a NoCloud seed.

    Args:
        node: what the node is.
        cloud_init: which cloud-init is to read it, and for which program it will write the configuration.
        port: name of the Ethernet port; netplan finds it by itself, and others find it by the node's MAC address.

    Raises:
        PibakeError: this cloud-init cannot pass on what the node needs; `files` can.
    """
    if reason := unfit(node, cloud_init):
        raise PibakeError(
            f"{node.hostname}: {reason}", "take a base with netplan, or leave that out of cluster.yaml"
        )
    if cloud_init.renders[0] is Network.NETPLAN and cloud_init.release >= READS_2:
        return version_2(node)
    return _version_1(node, port)


def _version_1(node: NodePlan, port: str) -> str:
    """Return version 1: a list of devices, each with its subnets. JSON is YAML, and needs no quoting of our own."""
    link = node.link
    device: dict[str, Any] = {"type": "physical", "name": port}
    if link.mac:
        device["mac_address"] = link.mac
    subnets = [_subnet(node, version) for version in (4, 6)]
    found = [subnet for subnet in subnets if subnet]
    entries = [device]
    if link.vlan is None:
        device["subnets"] = found
    else:
        # without a subnet, 0.7.9 would leave the port out
        device["subnets"] = [{"type": "manual"}]
        # ifupdown makes a VLAN by itself where its name has a dot (interfaces(5), "VLAN INTERFACES")
        vlan = {"type": "vlan", "name": f"{port}.{link.vlan}", "vlan_link": port, "vlan_id": link.vlan}
        entries.append({**vlan, "subnets": found})
    return "\n".join([made(node), json.dumps({"version": 1, "config": entries}, indent=1), ""])


def _subnet(node: NodePlan, version: int) -> dict[str, Any] | None:
    link = node.link
    address = next((a for a in link.addresses if a.version == version), None)
    if address is None:
        return None
    subnet: dict[str, Any] = {
        "type": "static",
        "address": address.with_prefixlen,
    }
    for gateway in link.gateways:
        if gateway.version == version:
            subnet["gateway"] = str(gateway)
    if address is link.address:
        subnet |= {"dns_nameservers": list(link.nameservers), "dns_search": list(link.search)}
    return subnet
