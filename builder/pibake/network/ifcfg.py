"""ifcfg files, which both NetworkManager's ifcfg-rh plugin and the network service of CentOS 7 read.

Format: initscripts, /usr/share/doc/initscripts-*/sysconfig.txt. The shell reads them, and `HWADDR` renames the port.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from pibake.errors import PibakeError
from pibake.network.ports import lines
from pibake.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pibake.plan import NodePlan
    from pibake.tree import File

FOLDER = "etc/sysconfig/network-scripts"


def files(node: NodePlan, port: str) -> Tree:
    """Return the file of the port, and of the VLAN on it.

    Raises:
        PibakeError: the node is to use Wi-Fi, which the network service cannot, or is the head.
    """
    if node.head:
        raise PibakeError(
            f"{node.hostname} is the head, and this base configures its network by ifcfg files: what the head needs comes in Debian packages",
            "give it a base that is Debian or made of it",
        )
    if node.wifi:
        raise PibakeError(
            f"{node.hostname} has `link: wifi`, and this base configures its network by ifcfg files, which know no WPA",
            "give it `link: ethernet`, or a base with netplan, NetworkManager, ifupdown or dhcpcd",
        )
    hardware = [("HWADDR", node.link.mac.upper())] if node.link.mac else []
    own: list[tuple[str, object]] = [("TYPE", "Ethernet"), *hardware]
    if node.link.vlan is None:
        return Tree({f"{FOLDER}/ifcfg-{port}": _file(node, port, [*own, *_addressing(node, port)])})
    vlan = f"{port}.{node.link.vlan}"
    tagged: list[tuple[str, object]] = [("TYPE", "Vlan"), ("VLAN", "yes"), ("PHYSDEV", port)]
    return Tree(
        {
            f"{FOLDER}/ifcfg-{port}": _file(node, port, [*own, ("IPV6INIT", "no")]),
            f"{FOLDER}/ifcfg-{vlan}": _file(node, vlan, [*tagged, *_addressing(node, vlan)]),
        }
    )


def _file(node: NodePlan, name: str, pairs: list[tuple[str, object]]) -> File:
    head = [("DEVICE", name), ("NAME", name), ("ONBOOT", "yes"), ("BOOTPROTO", "none")]
    return lines(node, *(f"{key}={shlex.quote(str(text))}" for key, text in [*head, *pairs]))


def _addressing(node: NodePlan, name: str) -> Iterator[tuple[str, object]]:
    link = node.link
    first = next((a for a in link.addresses if a.version == 4), None)
    second = next((a for a in link.addresses if a.version == 6), None)
    if first:
        yield from (("IPADDR", first.ip), ("PREFIX", first.network.prefixlen))
    yield "IPV6INIT", "yes" if second or link.ra else "no"
    if second:
        yield "IPV6ADDR", second.with_prefixlen
    yield from (
        ("IPV6_AUTOCONF", "yes" if link.ra else "no"),
        ("IPV6_FORCE_ACCEPT_RA", "yes" if link.ra else "no"),
    )
    for gateway in link.gateways:
        if gateway.version == 4:
            yield "GATEWAY", gateway
        else:
            # a link-local router is only known together with the port it is on
            yield "IPV6_DEFAULTGW", f"{gateway}%{name}" if gateway.is_link_local else gateway
    for number, server in enumerate(link.nameservers, 1):
        yield f"DNS{number}", server
    if link.search:
        yield "DOMAIN", " ".join(link.search)
