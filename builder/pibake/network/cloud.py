"""The seed's network-config, in the version that a node's cloud-init reads.

Versions (cloud-init, "Network configuration"): 0.7.9 reads version 1 only. From 17.1 on version 2 is read, and handed to
netplan word for word; for every other program cloud-init translates it and loses what it has no words for.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pibake.errors import PibakeError
from pibake.network.netplan import version_2
from pibake.network.ports import ETHERNET, made, vlan_name
from pibake.system import Network

if TYPE_CHECKING:
    from pibake.plan import NodePlan
    from pibake.system import CloudInit

READS_2 = (17,)
HEARS_ROUTERS = {Network.IFUPDOWN: (19, 4), Network.IFCFG: (20, 1), Network.NETWORKD: (21, 3)}
"""Since which release cloud-init passes `accept-ra` on (its ChangeLog); never to NetworkManager."""


def unfit(node: NodePlan, cloud_init: CloudInit) -> str:
    """Return what the node's network needs and this cloud-init cannot pass on; empty if it can pass on everything."""
    to = cloud_init.renders[0] if cloud_init.renders else None
    if to is None or not cloud_init.reads_network:
        return f"cloud-init {cloud_init.version} configures no network here"
    who = f"cloud-init {cloud_init.version} writes for {to}"
    if to is Network.NETPLAN and cloud_init.release >= READS_2:
        return ""
    if node.wifi:
        return f"{who}, and passes Wi-Fi on to netplan only"
    since = HEARS_ROUTERS.get(to)
    if not node.link.ra and (since is None or cloud_init.release < since):
        return f"{who}, and cannot pass on that router advertisements are not wanted"
    return ""


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
    if cloud_init.release < READS_2:
        return _version_1(node, port)
    return version_2(node, "" if cloud_init.renders[0] is Network.NETPLAN else port)


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
        vlan = {"type": "vlan", "name": vlan_name(node), "vlan_link": port, "vlan_id": link.vlan}
        entries.append({**vlan, "subnets": found})
    return "\n".join([made(node), json.dumps({"version": 1, "config": entries}, indent=1), ""])


def _subnet(node: NodePlan, version: int) -> dict[str, Any] | None:
    link = node.link
    address = next((a for a in link.addresses if a.version == version), None)
    if address is None:
        return None
    subnet: dict[str, Any] = {
        "type": "static6" if version == 6 else "static",
        "address": address.with_prefixlen,
    }
    for gateway in link.gateways:
        if gateway.version == version:
            subnet["gateway"] = str(gateway)
    if address is link.address:
        subnet |= {"dns_nameservers": list(link.nameservers), "dns_search": list(link.search)}
    return subnet
