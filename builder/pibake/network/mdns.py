"""Names without any server: avahi answers to NAME.local on the nodes' own network (RFC 6762), by multicast.

What containers have of interfaces is left out, or a node would be known by addresses that lead nowhere; so is the head's way out.
Format: avahi-daemon.conf(5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.network.ports import ini
from pibake.tree import Tree

if TYPE_CHECKING:
    from pibake.plan import NodePlan

CONFIG = "etc/pibake/avahi-daemon.conf"
CONTAINERS = (
    "cni0",
    "docker0",
    "flannel.1",
    "flannel-wg",
    "kube-bridge",
    "kube-ipvs0",
    "nodelocaldns",
    "tunl0",
    "vxlan.calico",
    "cilium_host",
)


def files(node: NodePlan) -> Tree:
    """Return avahi's configuration; nothing where names by multicast are not asked for."""
    if not node.mdns:
        return Tree()
    denied = [*CONTAINERS, *([node.head.upstream.name] if node.head else [])]
    server = [
        ("host-name", node.hostname),
        ("domain-name", "local"),
        ("use-ipv4", "yes" if node.link.address.version == 4 else "no"),
        # ports of pods have IPv6 addresses of their own, and names of no pattern
        ("use-ipv6", "no" if node.link.address.version == 4 else "yes"),
        ("deny-interfaces", ",".join(denied)),
        ("enable-dbus", "no"),
    ]
    publish = [("publish-hinfo", "no"), ("publish-workstation", "no")]
    return Tree({CONFIG: ini(node, ("server", server), ("publish", publish))})
