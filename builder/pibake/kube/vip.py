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


def _container(kubernetes: Kubernetes) -> dict[str, Any]:
    settings = {
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


def static_pod(kubernetes: Kubernetes, kubeconfig: str) -> str:
    """Return kubeadm's static pod; `kubeconfig` is the file of /etc/kubernetes that it talks to the API with."""
    container = {
        **_container(kubernetes),
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
    """Return k3s' manifest: a DaemonSet on the servers, and the rights it needs."""
    name = {"name": "kube-vip", "namespace": "kube-system"}
    role = {"name": "system:kube-vip-role"}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "system:kube-vip-binding"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", **role},
        "subjects": [{"kind": "ServiceAccount", **name}],
    }
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {
                        "matchExpressions": [
                            {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}
                        ]
                    }
                ]
            }
        }
    }
    spec = {
        "affinity": affinity,
        "containers": [_container(kubernetes)],
        "hostNetwork": True,
        "serviceAccountName": "kube-vip",
        "tolerations": [
            {"effect": "NoSchedule", "operator": "Exists"},
            {"effect": "NoExecute", "operator": "Exists"},
        ],
    }
    labels = {"app.kubernetes.io/name": "kube-vip"}
    documents: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": name},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": role,
            "rules": RULES,
        },
        binding,
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {**name, "labels": labels},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        },
    ]
    return document.dump(*documents)
