"""The values of a plan: frozen, typed, with no secret but password hashes and a Wi-Fi key, which `to_json` leaves out."""

from __future__ import annotations

import difflib
import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pibake.errors import PibakeError
from pibake.plan import head as heads
from pibake.plan.addons import addon_json
from pibake.plan.disks import disk_json
from pibake.plan.membership import kubernetes_json, part_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pibake.config.addon import Addon
    from pibake.config.overlays import Item
    from pibake.plan.disks import Disk
    from pibake.plan.fleet import Fleet
    from pibake.plan.head import Head
    from pibake.plan.membership import Kubernetes, Membership
    from pibake.secret import Secret

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True)
class SshKey:
    """A public key: its text, or the URL it is still to be had from; `origin` says where it was named."""

    text: str
    url: str
    origin: str


@dataclass(frozen=True)
class User:
    """Someone who can log in; an empty `password_hash` is a locked password."""

    name: str
    ssh_keys: tuple[SshKey, ...]
    password_hash: str
    sudo: bool
    groups: tuple[str, ...]
    shell: str


@dataclass(frozen=True)
class BaseRef:
    """A base image: a name of the catalogue, or a URL or absolute path with its SHA-256."""

    name: str = ""
    url: str = ""
    file: str = ""
    sha256: str = ""

    def __str__(self) -> str:
        return self.name or self.url or self.file


@dataclass(frozen=True)
class Overlay:
    """A folder of files to lay over the root file system, and what was found in it."""

    name: str
    path: Path
    items: tuple[Item, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Hook:
    """A program of the user's that puts files into golden images."""

    name: str
    path: Path


@dataclass(frozen=True)
class Link:
    """The port with the fixed address, its routes and resolver.

    `mac` is the Ethernet port's, empty where not known. `address6` is a second address beside an IPv4 `address`, and
    `ra` whether router advertisements are accepted.
    """

    address: Interface
    gateway: Address | None
    nameservers: tuple[str, ...]
    search: tuple[str, ...]
    vlan: int | None
    mac: str
    address6: ipaddress.IPv6Interface | None = None
    gateway6: ipaddress.IPv6Address | None = None
    ra: bool = True

    @property
    def addresses(self) -> tuple[Interface, ...]:
        """Both addresses, or the one there is."""
        return (self.address, self.address6) if self.address6 else (self.address,)

    @property
    def gateways(self) -> tuple[Address, ...]:
        """The routers of both addresses, as far as there are any."""
        return tuple(gateway for gateway in (self.gateway, self.gateway6) if gateway)


@dataclass(frozen=True)
class Wifi:
    """The wireless network a node is on: its name, its key (64 hex digits), and the country as two letters."""

    ssid: str
    psk: Secret
    country: str


@dataclass(frozen=True)
class Wire:
    """How a node boots when it boots from the wire.

    Attributes:
        root: "nfs", one read-only root file system that nodes share, or "nbd", a disk of its own.
        state: where its own files live beside a shared root: "server", "ram", "LABEL=..." or a device.
    """

    root: str = "nfs"
    state: str = "server"


@dataclass(frozen=True)
class Netboot:
    """What `pibake serve` does.

    Attributes:
        dhcp: its part in DHCP, "proxy" or "server".
        interface: the one the boards are behind, "" for the one in the subnet.
        disk: how large the disk or state of a node on the server looks, in MiB.
        adopt: who says which boards the nodes are that nothing identifies, "hand" or "auto".
        adopt_window: for how many seconds after its start it adopts boards by itself.
    """

    dhcp: str = "proxy"
    interface: str = ""
    disk: int = 16384
    adopt: str = "hand"
    adopt_window: int = 3600


@dataclass(frozen=True)
class Host:
    """A node's address in /etc/hosts, and its names."""

    address: str
    fqdn: str
    hostname: str


@dataclass(frozen=True)
class NodePlan:
    """Everything that makes a node this node.

    `serial` is the low 8 hex digits, empty where not known; `memory` is in MiB, 0 where not known. With `wifi` its link
    is the Wi-Fi port, otherwise an Ethernet port. `wired` says that it boots from the wire, and
    `wire` how it would. `head` is set on the one node that is the router of the others, and `mdns` has it answer to its name
    by multicast. `report` is the URL it posts its state to, unless Kubernetes' `phone_home` names another. Every
    node can be a key of a dict; what all nodes share is left out of its hash.
    """

    hostname: str
    fqdn: str
    link: Link
    role: str
    labels: Mapping[str, str] = field(hash=False)
    board: str
    serial: str
    base: BaseRef
    overlays: tuple[Overlay, ...]
    users: tuple[User, ...] = field(hash=False)
    locale: str
    timezone: str
    hosts: tuple[Host, ...] = field(hash=False)
    member: Membership | None = None
    memory: int = 0
    wifi: Wifi | None = None
    packages: tuple[str, ...] = ()
    debs: tuple[Path, ...] = ()
    hooks: tuple[Hook, ...] = ()
    fleet: Fleet | None = field(default=None, hash=False)
    wire: Wire = Wire()
    wired: bool = False
    report: str = ""
    node_class: str = ""
    disks: tuple[Disk, ...] = ()
    head: Head | None = None
    mdns: bool = False

    @property
    def image_name(self) -> str:
        """The file name of its card image."""
        return f"{self.hostname}.img"


@dataclass(frozen=True)
class Plan:
    """What will happen; `sources` are the files it was read from (for dates), `folder` is that of cluster.yaml.

    `addons` are in the order in which they are applied.
    """

    cluster: str
    domain: str
    nodes: tuple[NodePlan, ...]
    sources: tuple[Path, ...]
    kubernetes: Kubernetes | None = None
    folder: Path | None = None
    subnet: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    netboot: Netboot = Netboot()
    addons: tuple[Addon, ...] = ()

    @property
    def link(self) -> Link:
        """The link that nodes have: another than the head's, if there is one."""
        return next((node.link for node in self.nodes if node.head is None), self.nodes[0].link)

    def node(self, name: str) -> NodePlan:
        """Return a node by its short or full name."""
        for node in self.nodes:
            if name.lower() in {node.hostname, node.fqdn}:
                return node
        names = [node.hostname for node in self.nodes]
        close = difflib.get_close_matches(name.lower().partition(".")[0], names, n=1)
        some = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        hint = f"did you mean `{close[0]}`?" if close else f"its nodes are {some}"
        raise PibakeError(f"the cluster {self.cluster} has no node {name}", hint)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values; of a password hash only whether there is one."""
        return {
            "cluster": self.cluster,
            "domain": self.domain,
            "netboot": vars(self.netboot),
            "kubernetes": kubernetes_json(self.kubernetes) if self.kubernetes else None,
            "addons": [addon_json(addon) for addon in self.addons],
            "sources": [str(path) for path in self.sources],
            "nodes": [node_json(node) for node in self.nodes],
        }


def node_json(node: NodePlan) -> dict[str, Any]:
    """Return one node as JSON values, as in `Plan.to_json`."""
    link = node.link
    return {
        "hostname": node.hostname,
        "fqdn": node.fqdn,
        "image": node.image_name,
        "address": str(link.address),
        "gateway": str(link.gateway) if link.gateway else None,
        "nameservers": list(link.nameservers),
        "search": list(link.search),
        "address6": str(link.address6) if link.address6 else None,
        "gateway6": str(link.gateway6) if link.gateway6 else None,
        "ra": link.ra,
        "wifi": {"ssid": node.wifi.ssid, "country": node.wifi.country} if node.wifi else None,
        "head": heads.to_json(node.head) if node.head else None,
        "mdns": node.mdns,
        "vlan": link.vlan,
        "mac": link.mac or None,
        "serial": node.serial or None,
        "role": node.role,
        "labels": dict(node.labels),
        "member": _member_json(node.member) if node.member else None,
        "board": node.board,
        "memory": node.memory or None,
        "base": {key: text for key, text in vars(node.base).items() if text},
        "overlays": [{"name": overlay.name, "path": str(overlay.path)} for overlay in node.overlays],
        "packages": [*node.packages, *(str(deb) for deb in node.debs)],
        "hooks": [{"name": hook.name, "path": str(hook.path)} for hook in node.hooks],
        "wire": vars(node.wire),
        "class": node.node_class or None,
        "disks": [disk_json(disk) for disk in node.disks],
        "users": [_user_json(user) for user in node.users],
        "locale": node.locale,
        "timezone": node.timezone,
    }


def _member_json(member: Membership) -> dict[str, Any]:
    return {
        "distribution": member.kubernetes.distribution,
        "version": member.kubernetes.version,
        "part": part_name(member.part),
        "endpoint": member.kubernetes.url,
        "taints": list(member.taints),
    }


def _user_json(user: User) -> dict[str, Any]:
    return {
        "name": user.name,
        "ssh_keys": [vars(key) for key in user.ssh_keys],
        "password": bool(user.password_hash),
        "sudo": user.sudo,
        "groups": list(user.groups),
        "shell": user.shell,
    }
