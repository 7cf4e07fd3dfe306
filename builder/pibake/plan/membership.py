"""What a node is a member of, and as what: the part of a plan that Kubernetes sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PORT = 6443
"""Where both distributions' API servers listen unless told otherwise."""


class Named(Protocol):
    """Whoever has a short name and a full one."""

    @property
    def hostname(self) -> str:
        """Return the short one."""

    @property
    def fqdn(self) -> str:
        """Return the one with the domain."""


@dataclass(frozen=True)
class Server:
    """A control-plane node: its names, its address, and what that is on if it is not where the default route leads."""

    hostname: str
    fqdn: str
    address: str
    interface: str = ""


@dataclass(frozen=True)
class Kubernetes:
    """What all members of a cluster share.

    Attributes:
        distribution: "k3s" or "kubeadm".
        version: the release, with its `v`.
        endpoint: address or name at which nodes register; `url` is the same with scheme and port.
        vip: address that kube-vip moves between the servers, or "".
        sans: every name and address in the API server's certificate.
        servers: the control plane; the first of them starts the cluster.
        cluster_dns: address of the cluster's DNS service.
        datastore: file with an external datastore's URL, or None.
        disable: components that k3s leaves out.
        k3s: what add-ons add to the configuration of k3s' servers.
        node_names: what nodes are called in the cluster: "short" or "full".
        token_ttl: life of kubeadm's bootstrap token, counted from the first server's start.
    """

    distribution: str
    version: str
    endpoint: str
    vip: str
    sans: tuple[str, ...]
    servers: tuple[Server, ...]
    pod_cidr: str
    service_cidr: str
    cluster_dns: str
    bundle: Path | None = None
    airgap: bool = False
    disable: tuple[str, ...] = ()
    snapshotter: str = "overlayfs"
    datastore: Path | None = None
    registries: Path | None = None
    cni: str = "flannel"
    token_ttl: str = "24h"  # noqa: S105 - a length of time
    phone_home: str = ""
    k3s: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    node_names: str = "short"
    port: int = PORT

    def node_name(self, node: Named) -> str:
        """Return the name of a node's object in the cluster."""
        return node.fqdn if self.node_names == "full" else node.hostname

    @property
    def host(self) -> str:
        """The endpoint with its port, as `host:port`; IPv6 addresses stand in brackets (RFC 3986 section 3.2.2)."""
        return f"[{self.endpoint}]:{self.port}" if ":" in self.endpoint else f"{self.endpoint}:{self.port}"

    @property
    def url(self) -> str:
        """Where the API server is, as seen by nodes and people."""
        return f"https://{self.host}"

    @property
    def minor(self) -> int:
        """The release's second number: 31 of v1.31.4."""
        return int(self.version.split(".")[1])

    @property
    def embedded_etcd(self) -> bool:
        """Whether k3s runs etcd itself: with several servers and no external datastore."""
        return self.distribution == "k3s" and len(self.servers) > 1 and self.datastore is None


@dataclass(frozen=True)
class K3sServer:
    """Runs k3s' control plane; `first` starts the cluster."""

    first: bool


@dataclass(frozen=True)
class K3sAgent:
    """Runs k3s' workload."""


@dataclass(frozen=True)
class KubeadmInit:
    """Starts the cluster with `kubeadm init`."""


@dataclass(frozen=True)
class KubeadmJoin:
    """Joins with `kubeadm join`, as a further control plane or as a worker."""

    control_plane: bool


Part = K3sServer | K3sAgent | KubeadmInit | KubeadmJoin


@dataclass(frozen=True)
class Membership:
    """What one node joins (`kubernetes`, the same object for all) and as what (`part`)."""

    part: Part
    taints: tuple[str, ...]
    kubernetes: Kubernetes = field(hash=False)

    @property
    def starts(self) -> bool:
        """Whether this node starts the cluster, and brings its add-ons."""
        return self.part in {K3sServer(first=True), KubeadmInit()}


def kubernetes_json(kubernetes: Kubernetes) -> dict[str, Any]:
    """Return what all members share as JSON values, without what is empty."""
    found = {key: value for key, value in vars(kubernetes).items() if value not in ("", (), None, False)}
    found["k3s"] = dict(kubernetes.k3s)
    if not kubernetes.k3s:
        del found["k3s"]
    found["servers"] = [server.hostname for server in kubernetes.servers]
    for key in ("bundle", "datastore", "registries"):
        if key in found:
            found[key] = str(found[key])
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


def part_name(part: Part) -> str:
    """Return a part in the words of its distribution."""
    match part:
        case K3sServer(first=first):
            return "first server" if first else "server"
        case K3sAgent():
            return "agent"
        case KubeadmInit():
            return "first control plane"
        case KubeadmJoin(control_plane=control_plane):
            return "control plane" if control_plane else "worker"
