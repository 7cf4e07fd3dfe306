"""kube-vip: the address that moves between the servers (kube-vip documentation, "Static Pods" and "DaemonSet", ARP)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pibake.kube import document

if TYPE_CHECKING:
    from pibake.plan import Kubernetes

IMAGE = "ghcr.io/kube-vip/kube-vip:v1.2.3"
CAPABILITIES = ["NET_ADMIN", "NET_RAW"]
RULES: list[dict[str, Any]] = [
    {"apiGroups": [""], "resources": ["services/status"], "verbs": ["update"]},
    {"apiGroups": [""], "resources": ["services", "endpoints"], "verbs": ["list", "get", "watch", "update"]},
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "get", "watch", "update", "patch"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["list", "get", "watch", "update", "create"],
    },
    {
        "apiGroups": ["discovery.k8s.io"],
        "resources": ["endpointslices"],
        "verbs": ["list", "get", "watch", "update"],
    },
]


def _container(kubernetes: Kubernetes, interface: str) -> dict[str, Any]:
    """Return the container; without a name of the interface, kube-vip takes the one that the default route leads to."""
    settings = {
        **({"vip_interface": interface} if interface else {}),
        "vip_arp": "true",
        "port": str(kubernetes.port),
        "address": kubernetes.vip,
        "vip_subnet": "128" if ":" in kubernetes.vip else "32",
        "cp_enable": "true",
        "cp_namespace": "kube-system",
        "svc_enable": "false",
        "vip_leaderelection": "true",
        "vip_leasename": "plndr-cp-lock",
        "vip_leaseduration": "5",
        "vip_renewdeadline": "3",
        "vip_retryperiod": "1",
    }
    return {
        "name": "kube-vip",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["manager"],
        "env": [{"name": name, "value": value} for name, value in settings.items()],
        "securityContext": {"capabilities": {"add": CAPABILITIES, "drop": ["ALL"]}},
    }


def static_pod(kubernetes: Kubernetes, kubeconfig: str, interface: str = "") -> str:
    """Return kubeadm's static pod.

    Args:
        kubernetes: what all members share.
        kubeconfig: the file of /etc/kubernetes that it talks to the API with.
        interface: what the node's address is on, "" for where the default route leads.
    """
    container = {
        **_container(kubernetes, interface),
        "volumeMounts": [{"name": "kubeconfig", "mountPath": "/etc/kubernetes/admin.conf"}],
    }
    path = {"path": f"/etc/kubernetes/{kubeconfig}", "type": "FileOrCreate"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "kube-vip", "namespace": "kube-system"},
        "spec": {
            "hostNetwork": True,
            "containers": [container],
            "hostAliases": [{"ip": "127.0.0.1", "hostnames": ["kubernetes"]}],
            "volumes": [{"name": "kubeconfig", "hostPath": path}],
        },
    }
    return document.dump(pod)


def daemon_set(kubernetes: Kubernetes) -> str:
    """Return k3s' manifest: a DaemonSet on the servers, one more for the head if it is one of them, and the rights it needs."""
    name = {"name": "kube-vip", "namespace": "kube-system"}
    role = {"name": "system:kube-vip-role"}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "system:kube-vip-binding"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", **role},
        "subjects": [{"kind": "ServiceAccount", **name}],
    }
    apart = [server for server in kubernetes.servers if server.interface]
    sets = [_set(kubernetes, "kube-vip", "", "NotIn", [kubernetes.node_name(one) for one in apart])]
    sets += [
        _set(kubernetes, f"kube-vip-{one.hostname}", one.interface, "In", [kubernetes.node_name(one)])
        for one in apart
    ]
    documents: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": name},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": role,
            "rules": RULES,
        },
        binding,
        *sets,
    ]
    return document.dump(*documents)


def _set(
    kubernetes: Kubernetes, name: str, interface: str, operator: str, nodes: list[str]
) -> dict[str, Any]:
    """Return the DaemonSet of the servers with, or without, these names."""
    servers: list[dict[str, Any]] = [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]
    if nodes:
        servers.append({"key": "kubernetes.io/hostname", "operator": operator, "values": nodes})
    terms = {"nodeSelectorTerms": [{"matchExpressions": servers}]}
    labels = {"app.kubernetes.io/name": name}
    spec = {
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}},
        "containers": [_container(kubernetes, interface)],
        "hostNetwork": True,
        "serviceAccountName": "kube-vip",
        "tolerations": [
            {"effect": "NoSchedule", "operator": "Exists"},
            {"effect": "NoExecute", "operator": "Exists"},
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": "kube-system", "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
