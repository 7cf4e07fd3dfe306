"""Which nodes can boot from the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.boards import BOARDS

if TYPE_CHECKING:
    from pibake.plan.values import NodePlan

ROM_OUI = "b8:27:eb"
"""The first half of the MAC address of every board that boots by its ROM."""


def obstacle(node: NodePlan) -> str:
    """Return why a node cannot boot from the wire; "" if it can."""
    if unknown(node):
        return "neither its `mac` nor its `serial` is in cluster.yaml, so nothing would recognise it"
    return _hindrance(node)


def unknown(node: NodePlan) -> bool:
    """Tell whether a node could boot from the wire, if it were known which board it is."""
    return not mac(node) and not node.serial and not _hindrance(node)


def _hindrance(node: NodePlan) -> str:
    """Return why a node cannot boot from the wire, whichever board it is."""
    board = BOARDS[node.board]
    if board.netboot == "none":
        return f"the {board.title} has no Ethernet port to boot from"
    if node.head:
        return "it is the head, which is up before others boot, from a card"
    if node.wifi:
        return "it is on Wi-Fi, and no board boots over that"
    if node.link.vlan is not None:
        return "boards ask for what they boot from without a VLAN's tag"
    if node.link.address.version != 4:
        return "boards boot over IPv4, and its address is IPv6"
    return ""


def mac(node: NodePlan) -> str:
    """Return the MAC address of a node's Ethernet port, or "".

    Boards before the Pi 4 have the low 24 bits of their serial number in it (Raspberry Pi documentation, "Network booting").
    """
    if node.link.mac or not node.serial or not BOARDS[node.board].netboot.startswith("rom-"):
        return node.link.mac
    low = node.serial[-6:]
    return ":".join([ROM_OUI, low[:2], low[2:4], low[4:]])
