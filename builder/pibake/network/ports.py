"""How the port with a node's address is found and named, and small pieces that several renderers share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.plan.head import INNER, RADIO
from pibake.resources import line
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pibake.plan import NodePlan

    Pairs = Sequence[tuple[str, object]]
    """Keys and values, in the order they are written."""

ETHERNET = "eth0"
"""What a kernel calls the first Ethernet port, and udev as well with `net.ifnames=0` or where no rule renames it."""
ANY = "e*"
"""The Ethernet port of a board by whatever name: eth0, end0 or enx... by distribution and release."""
WIFI = RADIO
"""The Wi-Fi port of every board that has one: udev has no other name for a device on SDIO."""
BY_MAC = INNER
"""What a port found by its MAC address is renamed to, a name the kernel gives to none."""


def named(node: NodePlan, port: str) -> str:
    """Return the name of the node's port, for programs that know ports by their full names only."""
    if node.head:
        return node.head.port
    if node.wifi:
        return WIFI
    return BY_MAC if node.link.mac else port


def renaming(node: NodePlan) -> Tree:
    """Return the systemd.link(5) files that make names true for ports known by their MAC addresses.

    udev reads them even with `net.ifnames=0`, which takes away its naming policies and nothing else.
    """
    outer = node.head.upstream if node.head else None
    known = [
        ("10-pibake", "" if node.wifi else node.link.mac, BY_MAC),
        ("10-pibake-outer", outer.mac if outer else "", outer.name if outer else ""),
    ]
    return Tree(
        {f"etc/systemd/network/{file}.link": _link(node, mac, name) for file, mac, name in known if mac}
    )


def _link(node: NodePlan, mac: str, name: str) -> File:
    # a VLAN has the address of its port, but no place on a bus
    match = ("Match", [("MACAddress", mac), ("Path", "*")])
    return ini(node, match, ("Link", [("Name", name)]))


def vlan_name(node: NodePlan) -> str:
    """Return the name of the node's VLAN interface."""
    return f"vlan{node.link.vlan}"


def made(node: NodePlan) -> str:
    """Return the first line of every file."""
    return f"# Made by pibake for {line(node.fqdn)}."


def ini(node: NodePlan, *sections: tuple[str, Pairs], mode: int = 0o644) -> File:
    """Return a file of sections and assignments, as systemd and GLib read them."""
    blocks = []
    for title, pairs in sections:
        lines = [f"{key}={line(value)}" for key, value in pairs]
        blocks.append("\n".join([f"[{title}]", *lines]))
    return File("\n".join([made(node), *"\n\n".join(blocks).split("\n"), ""]).encode(), mode)


def lines(node: NodePlan, *rows: str, mode: int = 0o644) -> File:
    """Return a file of lines."""
    return File("\n".join([made(node), *map(line, rows), ""]).encode(), mode)


def resolver(node: NodePlan) -> File:
    """Return resolv.conf(5); the head's name servers are those outside, which DHCP may be the one to tell."""
    search = [f"search {' '.join(node.link.search)}"] if node.link.search else []
    servers = node.head.upstream.nameservers if node.head else node.link.nameservers
    return lines(node, *search, *(f"nameserver {server}" for server in servers))
