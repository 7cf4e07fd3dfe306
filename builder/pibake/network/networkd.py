"""systemd-networkd: .network and .netdev files (systemd.network(5), systemd.netdev(5)).

They sort before what netplan and cloud-init make (10-...), since the first file that matches a port is the one for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.network import wifi
from pibake.network.ports import ANY, WIFI, ini, lines, renaming, vlan_name
from pibake.tree import Tree

if TYPE_CHECKING:
    from pibake.network.ports import Pairs
    from pibake.plan import NodePlan, Upstream
    from pibake.tree import File

FOLDER = "etc/systemd/network"
SUPPLICANT = f"etc/wpa_supplicant/wpa_supplicant-{WIFI}.conf"


def files(node: NodePlan, _port: str) -> Tree:
    """Return the files; the port is found by its MAC address or the first letter of its name, the head's by its name."""
    tree = _inner(node)
    if node.head:
        tree |= _outer(node, node.head.upstream) | renaming(node)
    if network := wifi.wireless(node):
        start = f"Wants=wpa_supplicant@{WIFI}.service"
        tree |= Tree(
            {
                SUPPLICANT: wifi.supplicant(node, network),
                "etc/systemd/system/multi-user.target.d/pibake-network.conf": lines(node, "[Unit]", start),
            }
        )
    return tree


def _outer(node: NodePlan, outer: Upstream) -> Tree:
    """Return the head's way out, which may come late or never."""
    fixed = [("Address", outer.address), ("Gateway", outer.gateway)] if outer.address else []
    network: Pairs = [
        ("DHCP", "no" if outer.address else "ipv4"),
        ("IPv6AcceptRA", "no"),
        *fixed,
        *(("DNS", server) for server in outer.nameservers),
    ]
    # by its name in any case: the firewall knows it by that
    match = [*([("MACAddress", outer.mac)] if outer.mac else []), ("Name", outer.name)]
    file = ini(node, ("Match", match), ("Link", [("RequiredForOnline", "no")]), ("Network", network))
    return Tree({f"{FOLDER}/03-pibake-outer.network": file})


def _inner(node: NodePlan) -> Tree:
    known = [("MACAddress", node.link.mac)] if node.link.mac else []
    named = [("Name", node.head.port if node.head else ANY)] if node.head or not known else []
    match = [*known, *named]
    if node.wifi:
        return Tree({f"{FOLDER}/05-pibake.network": _network(node, [("Name", WIFI)], _addressing(node))})
    if node.link.vlan is None:
        return Tree({f"{FOLDER}/05-pibake.network": _network(node, match, _addressing(node))})
    name = vlan_name(node)
    carrier = [("VLAN", name), ("DHCP", "no"), ("LinkLocalAddressing", "no"), ("IPv6AcceptRA", "no")]
    device = ("NetDev", [("Name", name), ("Kind", "vlan")]), ("VLAN", [("Id", node.link.vlan)])
    return Tree(
        {
            f"{FOLDER}/04-pibake-vlan.netdev": ini(node, *device),
            # before the port's: the VLAN has the same MAC address
            f"{FOLDER}/04-pibake-vlan.network": _network(node, [("Name", name)], _addressing(node)),
            f"{FOLDER}/05-pibake.network": _network(node, match, carrier),
        }
    )


def _network(node: NodePlan, match: Pairs, network: Pairs) -> File:
    return ini(node, ("Match", match), ("Network", network))


def _addressing(node: NodePlan) -> Pairs:
    link = node.link
    return [
        ("DHCP", "no"),
        ("IPv6AcceptRA", "yes" if link.ra else "no"),
        *(("Address", address.with_prefixlen) for address in link.addresses),
        *(("Gateway", gateway) for gateway in link.gateways),
        *(("DNS", server) for server in link.nameservers),
        *([("Domains", " ".join(link.search))] if link.search else []),
        # the root file system is behind it
        *([("KeepConfiguration", "yes")] if node.wired else []),
    ]
