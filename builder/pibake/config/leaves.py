"""The types of a cluster.yaml's single values: our parser for each, and what editors are told of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Network
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from pibake.boards import BOARDS
from pibake.config import accounts, disks, formats, head, kube, membership, names, radio, values, wire
from pibake.config.problems import Bad
from pibake.secret import Secret

OURS = "value_error"
"""What pydantic calls the error of a validator; in ours, `ctx["error"]` is the `Bad` that was raised."""
TAGS = frozenset({"<text>", "<file>", "<url>", "<repo>"})
"""What pydantic puts into an error's path to say which branch of a choice it took."""

LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
DNS_NAME = rf"^{LABEL}(\.{LABEL})*$"
SCALAR = ["string", "number", "boolean"]
"""Editors read YAML 1.2, where 12345678 is a number; pibake takes every value as it was typed."""


def _leaf(parse: Callable[[str], Any], **schema: Any) -> tuple[PlainValidator, WithJsonSchema]:
    """Return the annotations of a single value: our parser, and what editors are told."""

    def validate(raw: object) -> object:
        if not isinstance(raw, str):
            # `check` says what stands here instead
            raise Bad("a single value belongs here")
        return parse(raw)

    return PlainValidator(validate), WithJsonSchema({"type": "string", **schema})


def _addons(raw: object) -> Mapping[str, Any]:
    """Take the mapping as it is: what each add-on's options must be says the catalogue (`config.addons`)."""
    if not isinstance(raw, Mapping):
        raise Bad("a mapping belongs here")
    return MappingProxyType(raw)


Addons = Annotated[Mapping[str, Any], PlainValidator(_addons), WithJsonSchema({"type": "object"})]
HostName = Annotated[str, *_leaf(names.hostname, type=SCALAR, pattern=DNS_NAME, maxLength=253)]
ClusterName = Annotated[str, *_leaf(names.cluster, type=SCALAR, pattern=f"^{LABEL}$")]
Domain = Annotated[str, *_leaf(names.domain, pattern=DNS_NAME, maxLength=253)]
Subnet = Annotated[values.IPNetwork, *_leaf(values.subnet, pattern="^[0-9A-Fa-f.:]+/[0-9]{1,3}$")]
Address = Annotated[values.IPAddress, *_leaf(values.address, pattern="^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$")]
Subnet6 = Annotated[IPv6Network, *_leaf(values.subnet6, pattern="^[0-9A-Fa-f.:]+/[0-9]{1,3}$")]
Address6 = Annotated[IPv6Address, *_leaf(values.address6, pattern="^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$")]
IP6 = Annotated[IPv6Address, *_leaf(values.ip6, pattern="^[0-9A-Fa-f.:]+$")]
IP = Annotated[values.IPAddress, *_leaf(values.ip, pattern="^[0-9A-Fa-f.:]+$")]
Vlan = Annotated[int, *_leaf(values.vlan, type="integer", minimum=1, maximum=4094)]
LinkKind = Annotated[str, *_leaf(radio.link, enum=list(radio.LINKS))]
Ssid = Annotated[str, *_leaf(radio.ssid, type=SCALAR)]
Psk = Annotated[Secret, *_leaf(radio.psk, type=SCALAR, pattern="^[0-9A-Fa-f]{64}$")]
Country = Annotated[str, *_leaf(radio.country, type=SCALAR, pattern="^[A-Z]{2}$")]
Switch = Annotated[bool, *_leaf(values.boolean, type="boolean")]
Mac = Annotated[str, *_leaf(values.mac, pattern="^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$")]
Serial = Annotated[str, *_leaf(values.serial, type=SCALAR, pattern="^([0-9A-Fa-f]{8}){1,2}$")]
Locale = Annotated[str, *_leaf(values.locale)]
Timezone = Annotated[str, *_leaf(values.timezone)]
Role = Annotated[str, *_leaf(kube.role, enum=list(kube.ROLES))]
Board = Annotated[str, *_leaf(kube.board, enum=list(BOARDS))]
Memory = Annotated[int, *_leaf(values.memory, pattern="^[1-9][0-9]*(MiB|GiB)$")]
LabelKey = Annotated[str, *_leaf(kube.label_key)]
LabelValue = Annotated[str, *_leaf(kube.label_value, type=SCALAR, maxLength=63)]
Overlay = Annotated[str, *_leaf(values.overlay, pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Hook = Annotated[str, *_leaf(values.hook, pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Package = Annotated[str, *_leaf(values.package, pattern="^([a-z0-9][a-z0-9+.-]+|.*/.*)$")]
FilePath = Annotated[str, *_leaf(values.filename, minLength=1)]
ImageUrl = Annotated[str, *_leaf(values.image_url, format="uri", pattern="^https?://")]
KeyUrl = Annotated[str, *_leaf(values.key_url, format="uri", pattern="^https://")]
Sha256 = Annotated[str, *_leaf(values.sha256, type=SCALAR, pattern="^(sha256:)?[0-9A-Fa-f]{64}$")]
UserName = Annotated[str, *_leaf(accounts.username, pattern="^[a-z_][a-z0-9_-]{0,31}$")]
GroupName = Annotated[str, *_leaf(accounts.group, pattern="^[a-z_][a-z0-9_-]{0,31}$")]
Shell = Annotated[str, *_leaf(accounts.shell, pattern="^/")]
PasswordHash = Annotated[str, *_leaf(accounts.password_hash, pattern=r"^\$(6|5|y|gy|2[aby])\$")]
KeyText = Annotated[str, *_leaf(accounts.public_key, pattern=r"^(ssh|ecdsa|sk)-\S+ \S+")]
Taint = Annotated[str, *_leaf(membership.taint, pattern="^[^:]+:(NoSchedule|PreferNoSchedule|NoExecute)$")]
Distribution = Annotated[str, *_leaf(membership.distribution, enum=list(membership.DISTRIBUTIONS))]
Version = Annotated[str, *_leaf(membership.version, pattern=r"^v?1\.[0-9]+\.[0-9]+(-.*)?(\+k3s[0-9]+)?$")]
NodeNames = Annotated[str, *_leaf(membership.node_names, enum=list(membership.NODE_NAMES))]
Snapshotter = Annotated[str, *_leaf(membership.snapshotter, enum=list(membership.SNAPSHOTTERS))]
Component = Annotated[str, *_leaf(membership.component, enum=list(membership.COMPONENTS))]
Cni = Annotated[str, *_leaf(membership.cni, enum=list(membership.CNIS))]
Cidr = Annotated[values.IPNetwork, *_leaf(membership.cidr, pattern="^[0-9A-Fa-f.:]+/[0-9]{1,3}$")]
Place = Annotated[str, *_leaf(membership.place)]
Duration = Annotated[str, *_leaf(membership.duration, pattern="^([0-9]+h)?([0-9]+m)?([0-9]+s)?$")]
PhoneUrl = Annotated[str, *_leaf(membership.phone, format="uri", pattern="^https?://")]
Root = Annotated[str, *_leaf(wire.root, enum=list(wire.ROOTS))]
State = Annotated[str, *_leaf(wire.state, pattern="^(server|ram|LABEL=.+|/dev/.+)$")]
Dhcp = Annotated[str, *_leaf(wire.dhcp, enum=list(wire.DHCP))]
Adopt = Annotated[str, *_leaf(wire.adopt, enum=list(wire.ADOPT))]
Window = Annotated[int, *_leaf(wire.window, pattern="^([0-9]+h)?([0-9]+m)?([0-9]+s)?$")]
Interface = Annotated[str, *_leaf(wire.interface, maxLength=15)]
Disk = Annotated[int, *_leaf(values.disk, pattern="^[1-9][0-9]*(MiB|GiB)$")]
ChartRepo = Annotated[str, *_leaf(formats.chart_repo, format="uri", pattern="^(https?|oci)://")]
ChartName = Annotated[str, *_leaf(formats.chart_name, pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")]
ChartVersion = Annotated[str, *_leaf(formats.chart_version, type=SCALAR)]
Namespace = Annotated[str, *_leaf(names.label, pattern=f"^{LABEL}$")]
ImageName = Annotated[str, *_leaf(formats.image, pattern=r"^\S+$")]
ClassName = Annotated[str, *_leaf(names.node_class, type=SCALAR, pattern=f"^{LABEL}$")]
Device = Annotated[str, *_leaf(disks.device, pattern="^/dev/.+$")]
MountPoint = Annotated[str, *_leaf(disks.mount, pattern="^/.+$")]
FileSystem = Annotated[str, *_leaf(disks.filesystem, enum=list(disks.FILE_SYSTEMS))]
DiskLabel = Annotated[str, *_leaf(disks.label, type=SCALAR, maxLength=disks.LONGEST_LABEL)]
OuterPort = Annotated[str, *_leaf(head.port, maxLength=17)]
OuterAddress = Annotated[IPv4Interface | None, *_leaf(head.address, pattern="^(dhcp|[0-9.]+/[0-9]{1,2})$")]
IP4 = Annotated[IPv4Address, *_leaf(head.ip4, pattern="^[0-9.]+$")]
Pool = Annotated[tuple[IPv4Address, IPv4Address], *_leaf(head.pool, pattern="^[0-9.]+ *- *[0-9.]+$")]
Opening = Annotated[
    head.Opening, *_leaf(head.opening, type=SCALAR, pattern="^[0-9]+(-[0-9]+)?(/(tcp|udp))?$")
]
Single = Annotated[head.Opening, *_leaf(head.single, pattern="^[0-9]+(/(tcp|udp))?$")]
Target = Annotated[head.Target, *_leaf(head.target, pattern="^[0-9.]+(:[0-9]+)?$")]
BaseName = Annotated[str, *_leaf(str)]


def branch(raw: object) -> str:
    """Say which branch of text, `file:` or `url:` a value takes."""
    if not isinstance(raw, Mapping):
        return "<text>" if isinstance(raw, str) or raw is None else "<file>"
    return "<url>" if "url" in raw else "<file>"


def chart_branch(raw: object) -> str:
    """Say which branch, `file:` or `repo:`, a chart takes."""
    return "<file>" if isinstance(raw, Mapping) and "file" in raw and "repo" not in raw else "<repo>"
