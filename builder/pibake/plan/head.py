"""The node that is the router of the others: what it does for them, and the port that leads out."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pibake.config.head import SSH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pibake.config import Cluster
    from pibake.config.head import Opening
    from pibake.config.model import ClusterFile, Node
    from pibake.plan.values import Wifi

INNER, OUTER, RADIO = "lan0", "wan0", "wlan0"
"""What the head's ports are called: those known by their MAC address, names the kernel gives to none; and Wi-Fi."""
PACKAGES = ("nftables", "dnsmasq-base")
"""dnsmasq-base has no service of its own, which would answer on every port."""
KERNELS = re.compile(r"eth[0-9]+")


@dataclass(frozen=True)
class Upstream:
    """The way out: a port by its name on the node, which `mac` finds where it is known, or Wi-Fi.

    Without an `address`, DHCP tells it, the router and the name servers, of which `nameservers` take the place if there are any.
    """

    name: str
    mac: str = ""
    address: ipaddress.IPv4Interface | None = None
    gateway: ipaddress.IPv4Address | None = None
    nameservers: tuple[str, ...] = ()
    wifi: Wifi | None = None


@dataclass(frozen=True)
class Lease:
    """A node's own address, for whoever asks with its MAC address."""

    mac: str
    address: str
    hostname: str


@dataclass(frozen=True)
class Forward:
    """A port of the outer network that leads to an address and port of the inner one."""

    protocol: str
    port: int
    address: ipaddress.IPv4Address
    to: int


@dataclass(frozen=True)
class Head:
    """What the head is to the others.

    Attributes:
        port: name of its Ethernet port or radio to the nodes.
        interface: name of what has its address there: the port, or the VLAN on it.
        upstream: the way out.
        subnet: the nodes' network.
        address: its own there.
        domain: the cluster's.
        nameservers: what guests are told.
        pool: first and last address for guests, or None.
        leases: the nodes' own addresses.
        open: ports that are reachable from outside.
        forward: ports that lead inside.
    """

    port: str
    interface: str
    upstream: Upstream
    subnet: ipaddress.IPv4Network
    address: ipaddress.IPv4Address
    domain: str
    nameservers: tuple[str, ...]
    pool: tuple[ipaddress.IPv4Address, ipaddress.IPv4Address] | None
    leases: tuple[Lease, ...]
    open: tuple[Opening, ...]
    forward: tuple[Forward, ...]

    @property
    def kernel_names(self) -> bool:
        """Whether a port is known by the name that the kernel gives it, and udev has to leave that."""
        return any(KERNELS.fullmatch(name) for name in (self.port, self.upstream.name))


def is_head(node: Node, file: ClusterFile) -> bool:
    """Return whether a node is the head."""
    return file.head is not None and _short(file.head.node) == _short(node.hostname)


def inner_address(file: ClusterFile) -> ipaddress.IPv4Address | None:
    """Return the head's address on the nodes' network; None where there is no head."""
    found = next((node.address for node in file.nodes if is_head(node, file)), None)
    return found if isinstance(found, ipaddress.IPv4Address) else None


def head(
    node: Node, cluster: Cluster, *, nameservers: tuple[str, ...], outer_wifi: Wifi | None
) -> Head | None:
    """Decide what the head does; None for every other node.

    Args:
        node: what the user wrote of the node, its class and all nodes.
        cluster: what the user wrote of the cluster.
        nameservers: those of the other nodes.
        outer_wifi: the wireless network that leads out, if any.
    """
    file = cluster.file
    written, subnet, own = file.head, file.network.subnet, node.address
    if written is None or not is_head(node, file):
        return None
    assert isinstance(subnet, ipaddress.IPv4Network)  # noqa: S101 - the rules have refused others
    assert isinstance(own, ipaddress.IPv4Address)  # noqa: S101 - the same
    return Head(
        port=_port(node, file),
        interface=interface(cluster)[1],
        upstream=_upstream(file, outer_wifi),
        subnet=subnet,
        address=own,
        domain=file.domain,
        nameservers=nameservers,
        pool=written.dhcp,
        leases=tuple(
            Lease(n.mac, str(n.address), _short(n.hostname))
            for n in file.nodes
            if n.mac and not is_head(n, file)
        ),
        open=tuple(sorted(set(written.open if written.open is not None else (SSH,)))),
        forward=tuple(
            Forward(port.protocol, port.first, to.address, to.port or port.first)
            for port, to in sorted(written.forward.items(), key=lambda item: item[0])
        ),
    )


def interface(cluster: Cluster) -> tuple[str, str]:
    """Return the head's short name, and what its address among the nodes is on; two times nothing without a head."""
    file = cluster.file
    found = next((node for node in cluster.nodes if is_head(node, file)), None)
    if found is None:
        return "", ""
    return _short(found.hostname), f"vlan{file.network.vlan}" if file.network.vlan else _port(found, file)


def _port(node: Node, file: ClusterFile) -> str:
    """Return what the head's port to the nodes is called: without a MAC address, the kernel's first that does not lead out."""
    if node.link == "wifi":
        return RADIO
    outer = file.head.upstream.port if file.head else None
    return INNER if node.mac else "eth1" if outer == "eth0" else "eth0"


def _upstream(file: ClusterFile, wifi: Wifi | None) -> Upstream:
    assert file.head is not None  # noqa: S101 - the caller has looked
    written = file.head.upstream
    mac = written.port if written.port and ":" in written.port else ""
    fallback = (written.gateway,) if written.gateway else ()
    servers: Sequence[ipaddress.IPv4Address] = written.dns if written.dns is not None else fallback
    return Upstream(
        name=RADIO if wifi else OUTER if mac else written.port or "",
        mac=mac,
        address=written.address,
        gateway=written.gateway,
        nameservers=tuple(map(str, servers)),
        wifi=wifi,
    )


def _short(hostname: str) -> str:
    return hostname.partition(".")[0]


def to_json(head: Head) -> dict[str, Any]:
    """Return it as JSON values, without the key of a wireless network."""
    up = head.upstream
    return {
        "port": head.port,
        "upstream": {
            "port": up.name,
            "mac": up.mac or None,
            "wifi": {"ssid": up.wifi.ssid, "country": up.wifi.country} if up.wifi else None,
            "address": str(up.address) if up.address else "dhcp",
            "gateway": str(up.gateway) if up.gateway else None,
            "nameservers": list(up.nameservers),
        },
        "dhcp": "-".join(map(str, head.pool)) if head.pool else None,
        "leases": {lease.mac: lease.address for lease in head.leases},
        "open": [str(port) for port in head.open],
        "forward": {f"{one.port}/{one.protocol}": f"{one.address}:{one.to}" for one in head.forward},
    }
