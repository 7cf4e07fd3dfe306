"""kubeadm: its configuration in the API version of the release, certificates, and containerd's part.

Sources: Kubernetes' reference "kubeadm Configuration" (v1beta2, v1beta3, v1beta4), "PKI certificates and
requirements", and "Container Runtimes".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pibake.identity import layout
from pibake.kube import document, vip
from pibake.plan import KubeadmInit, KubeadmJoin
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from pibake.identity import Secrets
    from pibake.plan import Kubernetes, Membership, NodePlan

FOLDER = "etc/pibake/kubeadm"
"""Where the configuration and the CAs wait; `pibake-join` puts the CAs in place and removes all of it in the end."""
ADDONS = "etc/pibake/addons"
"""What `pibake-addons.service` applies, in the order of its names."""
SOCKET = "/run/containerd/containerd.sock"
GROUP = "system:bootstrappers:kubeadm:default-node-token"
PATIENCE = "20m0s"
"""How long kubeadm waits for the control plane to answer; its own 4 minutes are short for a board and its card."""


def minor(version: str) -> int:
    """Return 31 of `v1.31.4`."""
    return int(version.split(".")[1])


def api_version(version: str) -> str:
    """Return the newest configuration API a release reads: v1beta4 came with 1.31, v1beta3 with 1.22."""
    number = minor(version)
    return f"kubeadm.k8s.io/v1beta{4 if number >= 31 else 3 if number >= 22 else 2}"


def render(node: NodePlan, member: Membership, secrets: Secrets) -> tuple[Tree, Tree]:
    """Return a kubeadm node's public files and its secret ones."""
    kubernetes = member.kubernetes
    public = Tree()
    secret: dict[str, File] = {f"{FOLDER}/join.yaml": _config([_join(node, member, secrets)])}
    control_plane = member.part != KubeadmJoin(control_plane=False)
    if member.part == KubeadmInit():
        secret[f"{FOLDER}/init.yaml"] = _config(
            [_init(node, member, secrets), _cluster(kubernetes, secrets), _kubelet()]
        )
    if control_plane:
        # kubeadm keeps the CAs and the service accounts' keys that it finds ("PKI certificates and requirements")
        secret |= {f"{FOLDER}/{path}": file for path, file in layout.pki(secrets)}
        if kubernetes.vip:
            # on the first node, admin.conf cannot do anything yet while `kubeadm init` of 1.29 and later runs
            kubeconfig = (
                "super-admin.conf"
                if member.part == KubeadmInit() and minor(kubernetes.version) >= 29
                else "admin.conf"
            )
            manifest = vip.static_pod(kubernetes, kubeconfig, node.head.interface if node.head else "")
            public = Tree({"etc/pibake/manifests/kube-vip.yaml": File(manifest.encode())})
    return public, Tree(secret)


def _config(documents: list[dict[str, Any]]) -> File:
    return File(document.dump(*documents).encode(), 0o600)


def _cluster(kubernetes: Kubernetes, secrets: Secrets) -> dict[str, Any]:
    server: dict[str, Any] = {"certSANs": list(kubernetes.sans)}
    if minor(kubernetes.version) < 31:
        server["timeoutForControlPlane"] = PATIENCE
    return {
        "apiVersion": api_version(kubernetes.version),
        "kind": "ClusterConfiguration",
        "clusterName": secrets.cluster,
        "kubernetesVersion": kubernetes.version,
        "controlPlaneEndpoint": kubernetes.host,
        "networking": {"podSubnet": kubernetes.pod_cidr, "serviceSubnet": kubernetes.service_cidr},
        "apiServer": server,
    }


def _init(node: NodePlan, member: Membership, secrets: Secrets) -> dict[str, Any]:
    kubernetes = member.kubernetes
    return {
        "apiVersion": api_version(kubernetes.version),
        "kind": "InitConfiguration",
        "bootstrapTokens": [
            {
                "token": secrets.tokens["bootstrap"].reveal(),
                "ttl": kubernetes.token_ttl,
                "usages": ["signing", "authentication"],
                "groups": [GROUP],
                "description": "issued by pibake",
            }
        ],
        "nodeRegistration": _registration(node, member),
        "localAPIEndpoint": {"advertiseAddress": str(node.link.address.ip), "bindPort": kubernetes.port},
        **_timeouts(kubernetes),
    }


def _timeouts(kubernetes: Kubernetes) -> dict[str, Any]:
    """Return what v1beta4 has in place of `timeoutForControlPlane`."""
    return (
        {"timeouts": {"controlPlaneComponentHealthCheck": PATIENCE}}
        if minor(kubernetes.version) >= 31
        else {}
    )


def _join(node: NodePlan, member: Membership, secrets: Secrets) -> dict[str, Any]:
    kubernetes = member.kubernetes
    document: dict[str, Any] = {
        "apiVersion": api_version(kubernetes.version),
        "kind": "JoinConfiguration",
        "discovery": {
            "bootstrapToken": {
                "token": secrets.tokens["bootstrap"].reveal(),
                "apiServerEndpoint": kubernetes.host,
                "caCertHashes": [secrets.ca_pin],
            }
        },
        "nodeRegistration": _registration(node, member),
    }
    if member.part != KubeadmJoin(control_plane=False):
        address = {"advertiseAddress": str(node.link.address.ip), "bindPort": kubernetes.port}
        document |= {"controlPlane": {"localAPIEndpoint": address}, **_timeouts(kubernetes)}
    return document


def _registration(node: NodePlan, member: Membership) -> dict[str, Any]:
    version = member.kubernetes.version
    arguments = {"node-ip": str(node.link.address.ip)}
    if node.labels:
        arguments["node-labels"] = ",".join(f"{key}={text}" for key, text in node.labels.items())
    registration: dict[str, Any] = {
        "name": member.kubernetes.node_name(node),
        # a path without a scheme is deprecated since 1.24, and the only form some older kubelets take
        "criSocket": f"unix://{SOCKET}" if minor(version) >= 24 else SOCKET,
        "kubeletExtraArgs": arguments
        if api_version(version) != "kubeadm.k8s.io/v1beta4"
        else [{"name": name, "value": text} for name, text in arguments.items()],
    }
    if member.taints:
        registration["taints"] = [_taint(text) for text in member.taints]
    return registration


def _taint(text: str) -> dict[str, str]:
    rest, _, effect = text.rpartition(":")
    key, equals, word = rest.partition("=")
    return {"key": key, **({"value": word} if equals else {}), "effect": effect}


def _kubelet() -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "systemd",
    }
