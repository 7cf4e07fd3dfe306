"""ifupdown: interfaces(5), as Debian and HypriotOS have it, down to ifupdown 0.7 of Debian 8.

resolv.conf is written as well: ifupdown passes name servers on to resolvconf and systemd-resolved, and has no effect on
it where neither is installed. On HypriotOS and old Raspbian dhcpcd runs beside ifupdown and would ask for a second
address, so its unit is masked, by an empty file (systemd.unit(5)); should it run already when the files are
written, it puts `resolv.conf.head` above the name servers it was told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.network import wifi
from pibake.network.ports import lines, named, renaming, resolver, vlan_name
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pibake.plan import NodePlan, Upstream

SUPPLICANT = "etc/wpa_supplicant/wpa_supplicant.conf"
SILENT = "pre-up echo 0 > /proc/sys/net/ipv6/conf/$IFACE/accept_ra || :"


def files(node: NodePlan, port: str) -> Tree:
    """Return the files; the main one reads no other file than ours, so that no other one configures the port too."""
    name = named(node, port)
    stanzas = {name: _vlan(node, name) if node.link.vlan else _port(node, name)}
    if node.head:
        stanzas[node.head.upstream.name] = _outer(node.head.upstream)
    own = {f"etc/network/interfaces.d/{name}": lines(node, *rows) for name, rows in stanzas.items()}
    sources = [f"source /{path}" for path in own]
    tree = {
        "etc/network/interfaces": lines(node, *sources, "", "auto lo", "iface lo inet loopback"),
        **own,
        "etc/resolv.conf": resolver(node),
        "etc/resolv.conf.head": resolver(node),
        "etc/systemd/system/dhcpcd.service": File(b""),
    }
    if network := wifi.wireless(node):
        tree[SUPPLICANT] = wifi.supplicant(node, network)
    return Tree(tree) | renaming(node)


def _outer(outer: Upstream) -> Iterator[str]:
    """Yield the head's way out, which is asked for after its port to the nodes is up."""
    yield from (f"auto {outer.name}", f"allow-hotplug {outer.name}")
    yield f"iface {outer.name} inet {'static' if outer.address else 'dhcp'}"
    if outer.address:
        yield from (f"    address {outer.address}", f"    gateway {outer.gateway}")
    if outer.nameservers:
        yield f"    dns-nameservers {' '.join(outer.nameservers)}"
    if outer.wifi:
        yield f"    wpa-conf /{SUPPLICANT}"
    yield from (f"iface {outer.name} inet6 manual", f"    {SILENT}")


def _port(node: NodePlan, name: str) -> Iterator[str]:
    # `auto` makes the boot wait for the port, `allow-hotplug` finds it on USB, where it can come late
    yield from (f"auto {name}", f"allow-hotplug {name}")
    yield from _stanzas(node, name, [f"wpa-conf /{SUPPLICANT}"] if node.wifi else [])


def _vlan(node: NodePlan, name: str) -> Iterator[str]:
    """Yield the port and the VLAN on it, which comes and goes with the port; iproute2 makes it, with or without vlan(8)."""
    vlan = vlan_name(node)
    yield from (f"auto {name}", f"allow-hotplug {name}")
    yield from (f"iface {name} inet manual", f"    up ifup {vlan}", f"    down ifdown {vlan}", "")
    add = f"ip link add link {name} name {vlan} type vlan id {node.link.vlan}"
    extra = [
        f"pre-up ip link set dev {name} up",
        f"pre-up ip link show dev {vlan} > /dev/null 2>&1 || {add}",
        f"post-down ip link delete dev {vlan}",
    ]
    yield from _stanzas(node, vlan, extra)


def _stanzas(node: NodePlan, name: str, extra: list[str]) -> Iterator[str]:
    """Yield a stanza for each address family; `extra` stands in the first."""
    link = node.link
    resolver = [
        *([f"dns-nameservers {' '.join(link.nameservers)}"] if link.nameservers else []),
        *([f"dns-search {' '.join(link.search)}"] if link.search else []),
    ]
    extra = [*extra, *resolver]
    for address in link.addresses:
        gateway = next((g for g in link.gateways if g.version == address.version), None)
        yield f"iface {name} {'inet6' if address.version == 6 else 'inet'} static"
        yield f"    address {address.with_prefixlen}"
        if gateway:
            yield f"    gateway {gateway}"
        if address.version == 6:
            # 2: also where the node forwards, as Kubernetes has it do
            yield from (f"    accept_ra {2 if link.ra else 0}", f"    autoconf {int(link.ra)}")
        yield from (f"    {option}" for option in extra)
        extra = []
    if not link.ra and all(address.version == 4 for address in link.addresses):
        yield f"iface {name} inet6 manual"
        yield f"    {SILENT}"
