"""What makes the head the router of the others: nftables' rules, dnsmasq's configuration, and a kernel that forwards.

The units that load them are baked into its golden image (`overlays/head`). Sources: nft(8), dnsmasq(8), sysctl.d(5); the order of
chains, linux/netfilter_ipv4.h and linux/netfilter_ipv6.h. No word of the rules is younger than nft 0.9 and Linux 4.18, before which
nftables and iptables could not both translate addresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.network.ports import lines
from pibake.resources import render
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from pibake.plan import Head, NodePlan

FOLDER = "etc/pibake/head"
FIREWALL = f"{FOLDER}/firewall.nft"
DNSMASQ = f"{FOLDER}/dnsmasq.conf"
FORWARDING = "etc/sysctl.d/90-pibake-head.conf"
LEASES = "/var/lib/pibake/head.leases"
UNITS = ("pibake-firewall.service", "pibake-dnsmasq.service")


def files(node: NodePlan) -> Tree:
    """Return the files of the head; nothing for other nodes.

    Raises:
        ValueError: a name holds a control character.
    """
    head = node.head
    if head is None:
        return Tree()
    return Tree(
        {
            FIREWALL: File(_firewall(node, head).encode()),
            DNSMASQ: File(
                render("cloud-init/head-dnsmasq.conf.j2", node=node, head=head, leases=LEASES).encode()
            ),
            FORWARDING: lines(node, "net.ipv4.ip_forward = 1"),
        }
    )


def _firewall(node: NodePlan, head: Head) -> str:
    """Return the rules; a set of ports has a type, without which nft could not read its own rules again."""
    ports = [("open", port.protocol, str(port).partition("/")[0]) for port in head.open]
    ports += [("forward", one.protocol, str(one.port)) for one in head.forward]
    sets: dict[str, list[str]] = {}
    for what, protocol, port in ports:
        sets.setdefault(f"{what}_{protocol}", []).append(port)
    return render(
        "cloud-init/head-firewall.nft.j2",
        node=node,
        head=head,
        outer=head.upstream.name,
        sets=dict(sorted(sets.items())),
    )
