"""k3s: configuration, certificates and units, in the places and shapes k3s reads them from.

Sources: the k3s documentation ("Configuration File", "token", "certificate", "Private Registry Configuration"), and
for the unit its install script.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pibake.identity import layout
from pibake.kube import document, vip
from pibake.plan import K3sAgent, K3sServer
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from pibake.identity import Secrets
    from pibake.plan import Kubernetes, Membership, NodePlan
    from pibake.secret import Secret

CONFIG = "etc/rancher/k3s/config.yaml"
REGISTRIES = "etc/rancher/k3s/registries.yaml"
NODE_PASSWORD = "etc/rancher/node/password"  # noqa: S105 - a path
HOME = layout.HOME["k3s"]
MANIFESTS = f"{HOME}/server/manifests"
SWITCHES = ("kube-proxy", "network-policy", "cloud-controller", "helm-controller")
"""Components that have a `--disable-NAME` switch of their own instead of being named to `--disable`."""


def render(
    node: NodePlan, member: Membership, secrets: Secrets, datastore: Secret | None, registries: Secret | None
) -> tuple[Tree, Tree]:
    """Return a k3s node's public files and its secret ones."""
    config = _config(node, member, secrets, datastore)
    secret = {
        CONFIG: _private(document.dump(config)),
        NODE_PASSWORD: _private(secrets.nodes[node.hostname].node_password.reveal() + "\n"),
    }
    if registries:
        secret[REGISTRIES] = _private(registries.reveal())
    public = Tree()
    if member.part == K3sServer(first=True):
        secret |= {f"{HOME}/{path}": file for path, file in layout.pki(secrets)}
        if member.kubernetes.vip:
            manifest = vip.daemon_set(member.kubernetes)
            public = Tree({f"{MANIFESTS}/kube-vip.yaml": File(manifest.encode())})
    return public, Tree(secret)


def _config(node: NodePlan, member: Membership, secrets: Secrets, datastore: Secret | None) -> dict[str, Any]:
    """Return config.yaml: its keys are k3s' long flags without the dashes."""
    kubernetes = member.kubernetes
    config: dict[str, Any] = {
        "node-name": kubernetes.node_name(node),
        "node-ip": str(node.link.address.ip),
    }
    if node.head:
        # flannel would go by the default route, which leads out
        config["flannel-iface"] = node.head.interface
    if node.labels:
        config["node-label"] = [f"{key}={text}" for key, text in node.labels.items()]
    if member.taints:
        config["node-taint"] = list(member.taints)
    if kubernetes.snapshotter != "overlayfs":
        config["snapshotter"] = kubernetes.snapshotter
    match member.part:
        case K3sAgent():
            config |= {"server": kubernetes.url, "token": secrets.tokens["agent"].reveal()}
        case K3sServer(first=first):
            config |= _server(kubernetes, secrets, datastore, first=first)
    return config


def _server(
    kubernetes: Kubernetes, secrets: Secrets, datastore: Secret | None, *, first: bool
) -> dict[str, Any]:
    agent = secrets.tokens["agent"].reveal()
    config: dict[str, Any] = {
        "token": secrets.tokens["server"].reveal(),
        # the server compares what is behind the CA's hash and the user: "Token", long format
        "agent-token": agent.rpartition(":")[2],
        "tls-san": list(kubernetes.sans),
        "cluster-cidr": kubernetes.pod_cidr,
        "service-cidr": kubernetes.service_cidr,
        "cluster-dns": kubernetes.cluster_dns,
        "write-kubeconfig-mode": "0600",
    }
    if datastore:
        config["datastore-endpoint"] = datastore.reveal().strip()
    elif kubernetes.embedded_etcd and first:
        config["cluster-init"] = True
    elif not first:
        config["server"] = _joining_url(kubernetes)
    if named := [name for name in kubernetes.disable if name not in SWITCHES]:
        config["disable"] = named
    config |= {f"disable-{name}": True for name in kubernetes.disable if name in SWITCHES}
    return config | dict(kubernetes.k3s)


def _joining_url(kubernetes: Kubernetes) -> str:
    """Return where further servers join: the first one's own address, since a VIP has no holder before they came."""
    address = kubernetes.servers[0].address
    host = f"[{address}]" if ":" in address else address
    return f"https://{host}:{kubernetes.port}"


def _private(text: str) -> File:
    return File(text.encode(), 0o600)
