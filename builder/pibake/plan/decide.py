"""From what the user wrote to what will happen: every default is decided here."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from pibake.config.disks import FILE_SYSTEMS, label_of
from pibake.config.model import DEFAULT_BASE, FileBase, KeyAt, KeyFile, UrlBase
from pibake.plan import head, members
from pibake.plan.addons import addons, packages
from pibake.plan.disks import Disk
from pibake.plan.fleet import Fleet, Peer
from pibake.plan.values import (
    BaseRef,
    Hook,
    Host,
    Link,
    Netboot,
    NodePlan,
    Overlay,
    Plan,
    SshKey,
    User,
    Wifi,
    Wire,
)

if TYPE_CHECKING:
    from pibake.config import Cluster
    from pibake.config.model import ClusterFile, Common, DataDisk, Network, Node
    from pibake.config.model import User as WrittenUser
    from pibake.plan.membership import Kubernetes

BOARD = "generic"
LOCALE = "C.UTF-8"
TIMEZONE = "Etc/UTC"
LINK = "ethernet"
MDNS = ("avahi-daemon",)
"""What answers to a node's name by multicast; nodes themselves have each other's names in /etc/hosts."""


def plan(cluster: Cluster) -> Plan:
    """Decide everything about every node."""
    file = cluster.file
    users = tuple(_user(user, cluster) for user in file.users)
    hosts = tuple(host for node in file.nodes for host in _hosts(node, file.domain))
    shared = members.kubernetes(cluster)
    chosen = addons(cluster)
    decide = _Decide(cluster, users, hosts, shared, packages(chosen))
    sources = (*((cluster.source,) if cluster.source else ()), *cluster.files_read)
    nodes = [decide.node(node) for node in cluster.nodes]
    fleet = Fleet(file.cluster, file.domain, tuple(map(_peer, nodes)))
    nodes = [replace(node, fleet=fleet) for node in nodes]
    folder = cluster.source.parent if cluster.source else None
    written = file.netboot
    netboot = Netboot(
        written.dhcp, written.interface or "", written.disk, written.adopt, written.adopt_window
    )
    subnet = file.network.subnet
    return Plan(file.cluster, file.domain, tuple(nodes), sources, shared, folder, subnet, netboot, chosen)


@dataclass(frozen=True)
class _Decide:
    """What all nodes of a cluster share; `users` and `hosts` are the same objects in every node.

    `needed` are the packages that add-ons want.
    """

    cluster: Cluster
    users: tuple[User, ...]
    hosts: tuple[Host, ...]
    kubernetes: Kubernetes | None
    needed: tuple[str, ...]

    def node(self, node: Node) -> NodePlan:
        domain = self.cluster.file.domain
        short = node.hostname.partition(".")[0]
        written = node.packages or ()
        disks = tuple(_disk(disk, self.cluster.file.cluster, short) for disk in node.disks or ())
        makers = {FILE_SYSTEMS[disk.filesystem] for disk in disks} - {""}
        return NodePlan(
            hostname=short,
            fqdn=f"{short}.{domain}",
            link=_link(node, self.cluster.file),
            role=members.role(node),
            member=members.membership(self.kubernetes, node),
            labels=MappingProxyType(dict(sorted(node.labels.items()))),
            board=node.board or BOARD,
            memory=node.memory or 0,
            serial=node.serial or "",
            base=self.base(node),
            overlays=self.overlays(node),
            users=self.users,
            locale=node.locale or LOCALE,
            timezone=node.timezone or TIMEZONE,
            hosts=self.hosts,
            wifi=_wifi(node, self.cluster.file),
            head=self.head(node),
            mdns=self.cluster.file.network.mdns,
            packages=tuple(
                dict.fromkeys(
                    [
                        *(name for name in written if "/" not in name),
                        *sorted(makers),
                        *self.ours(node),
                        *self.needed,
                    ]
                )
            ),
            debs=tuple(deb for name in written if "/" in name for deb in self.cluster.debs[name]),
            hooks=self.hooks(node),
            wire=Wire(node.root or Wire.root, node.state or Wire.state),
            node_class=node.class_ or "",
            disks=disks,
        )

    def base(self, node: Common) -> BaseRef:
        match node.base or DEFAULT_BASE:
            case FileBase(file=file, sha256=digest):
                return BaseRef(file=str(self.cluster.images[file]), sha256=digest)
            case UrlBase(url=url, sha256=digest):
                return BaseRef(url=url, sha256=digest)
            case name:
                return BaseRef(name=name)

    def overlays(self, node: Common) -> tuple[Overlay, ...]:
        names = node.overlays or ()
        return tuple(Overlay(name, self.cluster.overlays[name], self.cluster.items[name]) for name in names)

    def ours(self, node: Node) -> tuple[str, ...]:
        """Return the packages that what pibake does there needs."""
        file = self.cluster.file
        router = head.PACKAGES if head.is_head(node, file) else ()
        return (*router, *(MDNS if file.network.mdns else ()))

    def head(self, node: Node) -> head.Head | None:
        file = self.cluster.file
        outer = file.head.upstream.wifi if file.head else None
        return head.head(
            node,
            self.cluster,
            nameservers=_nameservers(file),
            outer_wifi=Wifi(outer.ssid, outer.psk, outer.country) if outer else None,
        )

    def hooks(self, node: Common) -> tuple[Hook, ...]:
        return tuple(Hook(name, self.cluster.hooks[name]) for name in node.hooks or ())


def _peer(node: NodePlan) -> Peer:
    second = node.link.address6
    return Peer(
        node.hostname, node.fqdn, str(node.link.address.ip), str(second.ip) if second else "", node.role,
        node.board, node.labels,
    )  # fmt: skip


def _link(node: Node, file: ClusterFile) -> Link:
    """Decide a node's link; the head's leads out nowhere: its router and name servers are on the other side."""
    network, is_head = file.network, head.is_head(node, file)
    return Link(
        address=ipaddress.ip_interface((node.address, network.subnet.prefixlen)),
        gateway=None if is_head else network.gateway or head.inner_address(file),
        nameservers=() if is_head else _nameservers(file),
        search=network.search if network.search is not None else (file.domain,),
        vlan=network.vlan,
        mac=node.mac or "",
        address6=_interface6(node, network),
        gateway6=network.ipv6.gateway if node.address6 else None,
        ra=network.ipv6.ra,
    )


def _nameservers(file: ClusterFile) -> tuple[str, ...]:
    router = file.network.gateway or head.inner_address(file)
    servers = file.network.dns if file.network.dns is not None else (router,) if router else ()
    return tuple(map(str, servers))


def _interface6(node: Node, network: Network) -> ipaddress.IPv6Interface | None:
    if node.address6 is None or network.ipv6.subnet is None:
        return None
    return ipaddress.IPv6Interface((node.address6, network.ipv6.subnet.prefixlen))


def _wifi(node: Node, file: ClusterFile) -> Wifi | None:
    written = file.network.wifi
    if written is None or (node.link or LINK) != "wifi":
        return None
    return Wifi(written.ssid, written.psk, written.country)


def _disk(disk: DataDisk, cluster: str, hostname: str) -> Disk:
    label = disk.label or label_of(disk.mount)
    return Disk(disk.device, disk.mount, disk.filesystem, label, f"{cluster}/{hostname}/{label}")


def _hosts(node: Node, domain: str) -> tuple[Host, ...]:
    short = node.hostname.partition(".")[0]
    addresses = [node.address, *([node.address6] if node.address6 else [])]
    return tuple(Host(str(address), f"{short}.{domain}", short) for address in addresses)


def _user(user: WrittenUser, cluster: Cluster) -> User:
    keys: list[SshKey] = []
    for written in user.ssh_keys:
        match written:
            case KeyFile(file=file):
                keys += [SshKey(text, "", file) for text in cluster.keys[file]]
            case KeyAt(url=url):
                keys.append(SshKey("", url, url))
            case text:
                keys.append(SshKey(text, "", cluster.source.name if cluster.source else "--ssh-key"))
    # the same key from two places is one key; its type and base64 say which it is, its comment does not
    unique = {(tuple(key.text.split()[:2]), key.url): key for key in reversed(keys)}
    return User(
        name=user.name,
        ssh_keys=tuple(reversed(unique.values())),
        password_hash=user.password_hash or "",
        sudo=user.sudo,
        groups=tuple(dict.fromkeys(user.groups)),
        shell=user.shell,
    )
