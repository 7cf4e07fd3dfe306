"""The shape of a cluster.yaml: every key, its type, its default and what it is for.

The JSON Schema for editors and the reference in docs/cluster-yaml.md are made from this module.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

from pydantic import Discriminator, Field, Tag

from pibake.config import disks, leaves
from pibake.config.model_head import Head  # noqa: TC001 - pydantic reads the annotations
from pibake.config.model_kubernetes import Kubernetes  # noqa: TC001 - the same
from pibake.config.shapes import Strict, Wifi

DEFAULT_BASE = "debian-13"
DEFAULT_DOMAIN = "home.arpa"

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo


def keys(kind: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the keys of a mapping as they are written, with what is known of each."""
    return {field.alias or name: field for name, field in kind.model_fields.items()}


class FileBase(Strict):
    """A base image in a local file."""

    file: leaves.FilePath = Field(
        description="Path of an image (raw, xz, gz, zip or zst), from the folder of cluster.yaml.",
        examples=["images/raspios.img.xz"],
    )
    sha256: leaves.Sha256 = Field(description="SHA-256 digest of that file.", examples=["9f86d081...0f00a08"])


class UrlBase(Strict):
    """A base image to download."""

    url: leaves.ImageUrl = Field(
        description="Where to get an image (raw, xz, gz, zip or zst).",
        examples=["https://files.lab.example/raspios.img.xz"],
    )
    sha256: leaves.Sha256 = Field(
        description="SHA-256 digest of the download.", examples=["9f86d081...0f00a08"]
    )


Base = Annotated[
    Annotated[leaves.BaseName, Tag("<text>")]
    | Annotated[FileBase, Tag("<file>")]
    | Annotated[UrlBase, Tag("<url>")],
    Discriminator(leaves.branch),
]


class KeyFile(Strict):
    """Public keys in a local file, one a line."""

    file: leaves.FilePath = Field(
        description="A .pub or authorized_keys file; ~ is your home, other paths start at cluster.yaml.",
        examples=["~/.ssh/id_ed25519.pub"],
    )


class KeyAt(Strict):
    """Public keys to download when the image is baked."""

    url: leaves.KeyUrl = Field(
        description="Where to get public keys, one a line; https only.",
        examples=["https://github.com/me.keys"],
    )


Key = Annotated[
    Annotated[leaves.KeyText, Tag("<text>")]
    | Annotated[KeyFile, Tag("<file>")]
    | Annotated[KeyAt, Tag("<url>")],
    Discriminator(leaves.branch),
]


class DataDisk(Strict):
    """A whole disk of a node's for data: made once, mounted at every boot."""

    device: leaves.Device = Field(
        description="The disk, as the node calls it; one of /dev/disk/by-id where a board has several.",
        examples=["/dev/sda"],
    )
    mount: leaves.MountPoint = Field(
        description="The folder to mount it on, before Kubernetes starts.", examples=["/var/lib/longhorn"]
    )
    filesystem: leaves.FileSystem = Field(
        default=disks.DEFAULT,
        description=f"What it is formatted with if it is empty: ext4, xfs or btrfs; {disks.DEFAULT} unless set.",
        examples=["xfs"],
    )
    label: leaves.DiskLabel | None = Field(
        default=None,
        description="Its name, by which the node knows it again wherever it is plugged in; the last part of `mount` unless set.",
        examples=["data"],
    )


class Common(Strict):
    """What a node can set, and its class and `defaults` can set for it."""

    role: leaves.Role | None = Field(
        default=None,
        description="server runs the control plane, agent the workload; agent unless set.",
        examples=["server"],
    )
    board: leaves.Board | None = Field(
        default=None, description="Which Raspberry Pi it is; generic unless set.", examples=["pi4"]
    )
    memory: leaves.Memory | None = Field(
        default=None,
        description="How much memory it has; the smallest size its board is sold with is assumed, for warnings, unless set.",
        examples=["4GiB"],
    )
    base: Base | None = Field(
        default=None,
        description=f"Base image: a name of the catalogue, or a file or URL with its sha256; {DEFAULT_BASE} unless set.",
        examples=["debian-13"],
    )
    labels: dict[leaves.LabelKey, leaves.LabelValue] = Field(
        default={},
        description="Kubernetes labels; a node's are added to the defaults' and win.",
        examples=[{"disk": "ssd"}],
    )
    taints: tuple[leaves.Taint, ...] | None = Field(
        default=None,
        description="Kubernetes taints, which keep away every pod that does not tolerate them; a node's list replaces the defaults'.",
        examples=[["storage=yes:NoSchedule"]],
    )
    overlays: tuple[leaves.Overlay, ...] | None = Field(
        default=None,
        description="Folders of files, templates and links to lay over the root file system, in order: overlays/NAME beside cluster.yaml, or pibake's own; a node's list replaces the defaults'.",
        examples=[["motd"]],
    )
    packages: tuple[leaves.Package, ...] | None = Field(
        default=None,
        description="Debian packages to bake in with all they need: names from the base's own sources, and paths (with a `/`) of .deb files or folders of them; a node's list replaces the defaults'.",
        examples=[["nftables", "debs/"]],
    )
    hooks: tuple[leaves.Hook, ...] | None = Field(
        default=None,
        description="Programs in hooks/ beside cluster.yaml, in order: each puts files of its making into the golden image; a node's list replaces the defaults'.",
        examples=[["fetch-app"]],
    )
    locale: leaves.Locale | None = Field(
        default=None, description="Locale; C.UTF-8 unless set.", examples=["en_GB.UTF-8"]
    )
    timezone: leaves.Timezone | None = Field(
        default=None, description="Time zone; Etc/UTC unless set.", examples=["Europe/Berlin"]
    )
    link: leaves.LinkKind | None = Field(
        default=None,
        description="The port with the fixed address: ethernet, or wifi with `network.wifi`; ethernet unless set.",
        examples=["wifi"],
    )
    root: leaves.Root | None = Field(
        default=None,
        description="On the wire: nfs shares one read-only root between all nodes, nbd gives each a disk of its own; nfs unless set.",
        examples=["nbd"],
    )
    state: leaves.State | None = Field(
        default=None,
        description="On the wire with `root: nfs`: where a node's own files live: server, ram, or an ext4 file system or empty disk of the board's; server unless set.",
        examples=["LABEL=data"],
    )
    disks: tuple[DataDisk, ...] | None = Field(
        default=None,
        description="Disks for data, made if they are empty and mounted at every boot; a node's list replaces the defaults'.",
        examples=[[{"device": "/dev/sda", "mount": "/var/lib/longhorn"}]],
    )


class Defaults(Common):
    """What every node gets unless it says otherwise."""


class NodeClass(Common):
    """What every node of a class gets unless it says otherwise."""


class Node(Common):
    """One board."""

    hostname: leaves.HostName = Field(
        description="Its name, short or with the cluster's domain.", examples=["node3"]
    )
    address: leaves.Address = Field(
        description="Its fixed address inside the subnet; the prefix may be left out.",
        examples=["192.168.10.13/24"],
    )
    address6: leaves.Address6 | None = Field(
        default=None,
        description="A second fixed address, inside `network.ipv6.subnet`; the prefix may be left out.",
        examples=["fd00:10::13"],
    )
    mac: leaves.Mac | None = Field(
        default=None,
        description="MAC address of its Ethernet port; finds the right port, and the board on the wire.",
        examples=["dc:a6:32:01:02:03"],
    )
    serial: leaves.Serial | None = Field(
        default=None,
        description="Serial number as in /proc/cpuinfo, or its last 8 digits; finds the board on the wire.",
        examples=["10000000abcd1234"],
    )
    class_: leaves.ClassName | None = Field(
        default=None,
        alias="class",
        description="Which of `classes` it is of: what it does not say for itself it takes from there, and only then from `defaults`.",
        examples=["storage"],
    )


class Ipv6(Strict):
    """IPv6 beside the network's own addresses."""

    subnet: leaves.Subnet6 | None = Field(
        default=None,
        description="The subnet of the nodes' `address6`, beside an IPv4 `subnet` of the network.",
        examples=["fd00:10::/64"],
    )
    gateway: leaves.IP6 | None = Field(
        default=None,
        description="The IPv6 router, for nodes with an `address6`; routers make themselves known unless `ra` is false.",
        examples=["fd00:10::1"],
    )
    ra: leaves.Switch = Field(
        default=True,
        description="Accept router advertisements, and with them further addresses and routes.",
        examples=[False],
    )


class Network(Strict):
    """The one network that all nodes are on."""

    subnet: leaves.Subnet = Field(description="The subnet of all nodes.", examples=["192.168.10.0/24"])
    gateway: leaves.IP | None = Field(
        default=None,
        description="The router; without it, nodes reach their own subnet only. With `head`, its address.",
        examples=["192.168.10.1"],
    )
    dns: tuple[leaves.IP, ...] | None = Field(
        default=None,
        max_length=3,
        description="Name servers, three at most; the gateway unless set.",
        examples=[["192.168.10.1", "1.1.1.1"]],
    )
    search: tuple[leaves.Domain, ...] | None = Field(
        default=None,
        description="Domains to complete short names with; the cluster's domain unless set.",
        examples=[["lab.example"]],
    )
    vlan: leaves.Vlan | None = Field(
        default=None, description="VLAN id, if nodes are to tag their traffic.", examples=[10]
    )
    ipv6: Ipv6 = Field(
        default=Ipv6(),
        description="IPv6 beside the subnet, and router advertisements.",
        examples=[{"subnet": "fd00:10::/64"}],
    )
    wifi: Wifi | None = Field(
        default=None,
        description="The wireless network of nodes with `link: wifi`.",
        examples=[{"ssid": "lab", "psk": "44116ea8...2a0a15ec", "country": "DE"}],
    )
    mdns: leaves.Switch = Field(
        default=False,
        description="Let every node answer to its name with .local, by multicast (avahi), on its own network.",
        examples=[True],
    )


class Netboot(Strict):
    """How `pibake serve` boots boards from the wire."""

    dhcp: leaves.Dhcp = Field(
        default="proxy",
        description="proxy works beside a router that gives the addresses, server gives each board its own.",
        examples=["server"],
    )
    interface: leaves.Interface | None = Field(
        default=None,
        description="The server's interface that the boards are behind; the one with an address in the subnet unless set.",
        examples=["eth1"],
    )
    disk: leaves.Disk = Field(
        default=16384,
        description="How large the disk or state of a node on the server looks to it; what it has written is all it takes there.",
        examples=["32GiB"],
    )
    adopt: leaves.Adopt = Field(
        default="hand",
        description="Which board a node without `mac` and `serial` is: hand leaves that to `pibake adopt`, auto takes the next that appears.",
        examples=["auto"],
    )
    adopt_window: leaves.Window = Field(
        default=3600,
        description="With `adopt: auto`: how long after the start of `pibake serve` boards are taken; 1h unless set.",
        examples=["15m"],
    )


class User(Strict):
    """Someone who can log in to every node."""

    name: leaves.UserName = Field(description="Login name.", examples=["ops"])
    ssh_keys: tuple[Key, ...] = Field(
        default=(),
        description="Public keys that may log in: as text, from a file, or from a URL.",
        examples=[[{"file": "~/.ssh/id_ed25519.pub"}]],
    )
    password_hash: leaves.PasswordHash | None = Field(
        default=None,
        description="Hash of a password for console and sudo, from `openssl passwd -6`; locked unless set. SSH takes keys only.",
        examples=["$6$..."],
    )
    sudo: leaves.Switch = Field(
        default=True, description="May become root without a password.", examples=[True]
    )
    groups: tuple[leaves.GroupName, ...] = Field(
        default=(), description="Further groups.", examples=[["video"]]
    )
    shell: leaves.Shell = Field(default="/bin/bash", description="Login shell.", examples=["/bin/bash"])


class ClusterFile(Strict):
    """A Raspberry Pi Kubernetes cluster, for pibake."""

    cluster: leaves.ClusterName = Field(description="Name of the cluster.", examples=["lab"])
    domain: leaves.Domain = Field(
        default=DEFAULT_DOMAIN,
        description=f"Domain of the nodes; {DEFAULT_DOMAIN} (RFC 8375, for networks at home) unless set.",
        examples=["lab.example"],
    )
    defaults: Defaults = Field(
        default=Defaults(), description="What every node gets unless it says otherwise."
    )
    classes: dict[leaves.ClassName, NodeClass] = Field(
        default={},
        description="Kinds of nodes, by name: what the nodes of each get unless they say otherwise.",
        examples=[{"storage": {"labels": {"disk": "ssd"}}}],
    )
    network: Network = Field(description="The network of all nodes.")
    head: Head | None = Field(
        default=None,
        description="Which node is the router between the nodes' network and another; without it, something else is.",
        examples=[{"node": "node1", "upstream": {"port": "eth1"}}],
    )
    kubernetes: Kubernetes | None = Field(
        default=None, description="What the nodes join; without it they are plain machines."
    )
    addons: leaves.Addons = Field(
        default_factory=lambda: MappingProxyType({}),
        description="What runs in the cluster when it comes up: add-ons of the catalogue with their options, and your own.",
        examples=[{"metallb": {"pools": ["192.168.10.240-192.168.10.250"]}}],
    )
    netboot: Netboot = Field(
        default=Netboot(),
        description="How `pibake serve` boots boards from the wire.",
        examples=[{"dhcp": "server"}],
    )
    users: tuple[User, ...] = Field(
        min_length=1, description="Who can log in; at least one needs a key or a password hash."
    )
    nodes: tuple[Node, ...] = Field(min_length=1, description="The boards.")
