"""NetworkManager: connection profiles as keyfiles (nm-settings-keyfile(5)), which must be readable by root only.

A profile for Ethernet that names no port fits every Ethernet port, and is brought up on the first that has a carrier.
"""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING

from pibake.network.ports import ini, renaming, vlan_name
from pibake.tree import Tree

if TYPE_CHECKING:
    from pibake.network.ports import Pairs
    from pibake.plan import NodePlan, Upstream, Wifi
    from pibake.tree import File

FOLDER = "etc/NetworkManager/system-connections"
PRIORITY = 100
"""Above the profiles of others, which have 0, and below the 999 that nothing may exceed."""


def files(node: NodePlan, _port: str) -> Tree:
    """Return the profile, with a VLAN another for the port below it, and another for the head's way out."""
    if node.head is None:
        return _inner(node)
    return _inner(node, node.head.port) | _outer(node, node.head.upstream) | renaming(node)


def _outer(node: NodePlan, outer: Upstream) -> Tree:
    """Return the profile of the head's way out, which is tried again for ever."""
    servers = [("dns", "".join(f"{server};" for server in outer.nameservers))] if outer.nameservers else []
    address = [("address1", f"{outer.address},{outer.gateway}")] if outer.address else []
    families = [
        ("ipv4", [("method", "manual" if outer.address else "auto"), *address, *servers]),
        ("ipv6", [("method", "disabled")]),
    ]
    if outer.wifi:
        return _profile(node, "pibake-outer", "wifi", *_wireless(outer.wifi), *families, interface=outer.name)
    ethernet = ("ethernet", [("mac-address", outer.mac.upper())] if outer.mac else [])
    return _profile(node, "pibake-outer", "ethernet", ethernet, *families, interface=outer.name)


def _wireless(wifi: Wifi) -> tuple[tuple[str, Pairs], tuple[str, Pairs]]:
    network: Pairs = [("mode", "infrastructure"), ("ssid", _ssid(wifi.ssid))]
    key: Pairs = [("key-mgmt", "wpa-psk"), ("psk", wifi.psk.reveal())]
    return ("wifi", network), ("wifi-security", key)


def _inner(node: NodePlan, port: str = "") -> Tree:
    """Return the profile of the node's link; `port` is the name of the port, where it has one that is known."""
    ethernet = ("ethernet", [("mac-address", node.link.mac.upper())] if node.link.mac else [])
    if node.wifi:
        return _profile(node, "pibake", "wifi", *_wireless(node.wifi), *_addressing(node), interface=port)
    if node.link.vlan is None:
        return _profile(node, "pibake", "ethernet", ethernet, *_addressing(node), interface=port)
    nothing = ("ipv4", [("method", "disabled")]), ("ipv6", [("method", "disabled")])
    vlan = ("vlan", [("id", node.link.vlan), ("parent", _uuid(node, "pibake-port"))])
    return _profile(node, "pibake", "vlan", vlan, *_addressing(node), interface=vlan_name(node)) | _profile(
        node, "pibake-port", "ethernet", ethernet, *nothing, interface=port
    )


def _profile(node: NodePlan, name: str, kind: str, *sections: tuple[str, Pairs], interface: str = "") -> Tree:
    connection: Pairs = [
        ("id", name),
        ("uuid", _uuid(node, name)),
        ("type", kind),
        *([("interface-name", interface)] if interface else []),
        ("autoconnect-priority", PRIORITY),
        *([("autoconnect-retries", 0)] if name == "pibake-outer" else []),
    ]
    file: File = ini(node, ("connection", connection), *sections, mode=0o600)
    return Tree({f"{FOLDER}/{name}.nmconnection": file})


def _uuid(node: NodePlan, name: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.{node.fqdn}")


def _addressing(node: NodePlan) -> list[tuple[str, Pairs]]:
    """Return both families; `link-local` has no other addresses, and `manual` hears no router."""
    fixed = {version: _fixed(node, version) for version in (4, 6)}
    method = "auto" if node.link.ra else "manual" if fixed[6] else "link-local"
    return [
        ("ipv4", [("method", "manual"), *fixed[4]] if fixed[4] else [("method", "disabled")]),
        ("ipv6", [("method", method), *fixed[6]]),
    ]


def _fixed(node: NodePlan, version: int) -> Pairs:
    """Return the address, gateway and resolver of one family, or nothing; search domains stand with `address`."""
    link = node.link
    address = next((a for a in link.addresses if a.version == version), None)
    if address is None:
        return []
    gateway = next((g for g in link.gateways if g.version == version), None)
    servers = [s for s in link.nameservers if (6 if ":" in s else 4) == version]
    searched = link.search if address is link.address else ()
    return [
        ("address1", address.with_prefixlen + (f",{gateway}" if gateway else "")),
        *([("dns", "".join(f"{server};" for server in servers))] if servers else []),
        *([("dns-search", "".join(f"{domain};" for domain in searched))] if searched else []),
    ]


def _ssid(ssid: str) -> str:
    """Return the name as text where the format has no other meaning for it, else as a list of its bytes."""
    if re.fullmatch(r"[A-Za-z]([A-Za-z0-9 _.-]*[A-Za-z0-9_.-])?", ssid):
        return ssid
    return "".join(f"{byte};" for byte in ssid.encode())
