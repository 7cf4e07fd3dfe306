"""dhcpcd: dhcpcd.conf(5), as Raspberry Pi OS had it until bullseye.

The file is replaced, not appended to: what an image has there about the same port would be in force as well, and a second
appending would double ours. Three things besides could touch the port: ifupdown, whose main file becomes one with
nothing but `lo`; dhcpcd's own hook for resolv.conf, which is turned off in favour of a fixed file; and dhcpcd itself on
the ports of containers, where `allowinterfaces` keeps it away.

What dhcpcd cannot do is done by its hooks and by systemd: a fixed IPv6 gateway, and a VLAN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.network import wifi
from pibake.network.ports import lines, named, renaming, resolver, vlan_name
from pibake.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pibake.plan import NodePlan

SUPPLICANT = "etc/wpa_supplicant/wpa_supplicant.conf"
VLAN_UNIT = "pibake-vlan.service"
WANTED = "etc/systemd/system/multi-user.target.d/pibake-network.conf"


def files(node: NodePlan, port: str) -> Tree:
    """Return the files; dhcpcd's own hook starts wpa_supplicant for a Wi-Fi port."""
    below = named(node, port)
    name = vlan_name(node) if node.link.vlan else below
    tree = {
        "etc/dhcpcd.conf": lines(node, *_conf(node, name, below)),
        "etc/network/interfaces": lines(node, "auto lo", "iface lo inet loopback"),
        "etc/resolv.conf": resolver(node),
    }
    gateway = next((g for g in node.link.gateways if g.version == 6), None)
    if gateway:
        # sourced for every event of every port; a route that is there already is replaced by itself
        route = f"ip -6 route replace default via {gateway} dev {name} onlink"
        tree["etc/dhcpcd.exit-hook"] = lines(
            node, 'case "$interface-$reason" in', f"    {name}-CARRIER | {name}-STATIC*) {route} ;;", "esac"
        )
    silent = [*([name] if not node.link.ra else []), *([node.head.upstream.name] if node.head else [])]
    if silent:
        # dhcpcd takes router advertisements over from the kernel, or else leaves them to it
        settings = (f"net.ipv6.conf.{port}.accept_ra = 0" for port in silent)
        tree["etc/sysctl.d/90-pibake.conf"] = lines(node, *settings)
    if node.link.vlan:
        tree[f"etc/systemd/system/{VLAN_UNIT}"] = lines(node, *_unit(node, name, below))
        tree[WANTED] = lines(node, "[Unit]", f"Wants={VLAN_UNIT}")
    if network := wifi.wireless(node):
        tree[SUPPLICANT] = wifi.supplicant(node, network)
    return Tree(tree) | renaming(node)


def _conf(node: NodePlan, name: str, below: str) -> Iterator[str]:
    outer = node.head.upstream if node.head else None
    yield f"allowinterfaces {' '.join(dict.fromkeys([below, name, *([outer.name] if outer else [])]))}"
    # what DHCP says of the head's name servers is what there is to know of them
    told = outer and not outer.address and not outer.nameservers
    yield from ("persistent", "noipv4ll", *([] if told else ["nohook resolv.conf"]))
    if below != name:
        yield from ("", f"interface {below}", "noipv4", "noipv6")
    yield from ("", f"interface {name}")
    for address in node.link.addresses:
        yield f"static ip{'6' if address.version == 6 else ''}_address={address.with_prefixlen}"
    for gateway in node.link.gateways:
        if gateway.version == 4:
            yield f"static routers={gateway}"
    if all(address.version == 6 for address in node.link.addresses):
        yield "noipv4"
    if not node.link.ra:
        yield "noipv6rs"
    if outer:
        yield from ("", f"interface {outer.name}", "noipv6")
        if outer.address:
            yield from (f"static ip_address={outer.address}", f"static routers={outer.gateway}")


def _unit(node: NodePlan, name: str, below: str) -> Iterator[str]:
    device = f"sys-subsystem-net-devices-{below}.device"
    yield from ("[Unit]", f"Description=VLAN {node.link.vlan} on {below}")
    yield from (f"BindsTo={device}", f"After={device}", "")
    yield from ("[Service]", "Type=oneshot", "RemainAfterExit=yes")
    yield f"ExecStart=/sbin/ip link add link {below} name {name} type vlan id {node.link.vlan}"
