"""Decides what each node joins, and as what."""

from __future__ import annotations

import ipaddress
from types import MappingProxyType
from typing import TYPE_CHECKING

from pibake.config.rules_kubernetes import POD_CIDR, SERVICE_CIDR
from pibake.plan import head
from pibake.plan.addons import further_names, has_plugin, k3s_config, left_out
from pibake.plan.membership import (
    K3sAgent,
    K3sServer,
    KubeadmInit,
    KubeadmJoin,
    Kubernetes,
    Membership,
    Part,
    Server,
)

if TYPE_CHECKING:
    from pibake.config import Cluster
    from pibake.config.model import ClusterFile, Node

DNS_INDEX = 10
"""The cluster's DNS is the tenth address of the services (kubeadm, `GetDNSIP`; k3s, `--cluster-dns`)."""


def kubernetes(cluster: Cluster) -> Kubernetes | None:
    """Decide what all nodes share; None where they are plain machines."""
    file = cluster.file
    written = file.kubernetes
    if written is None:
        return None
    router, inner = head.interface(cluster)
    servers = tuple(
        Server(short, f"{short}.{file.domain}", str(node.address), inner if short == router else "")
        for node in cluster.nodes
        if role(node) == "server"
        for short in [node.hostname.partition(".")[0]]
    )
    vip = str(written.vip) if written.vip else ""
    endpoint = written.endpoint or vip or servers[0].address
    services = written.service_cidr or ipaddress.ip_network(SERVICE_CIDR[written.distribution])
    own = [text for server in servers for text in (server.address, server.hostname, server.fqdn)]
    return Kubernetes(
        distribution=written.distribution,
        version=written.version,
        endpoint=endpoint,
        vip=vip,
        sans=tuple(
            dict.fromkeys(
                [
                    endpoint,
                    *([vip] if vip else []),
                    *own,
                    *_outside(file),
                    *written.sans,
                    *further_names(cluster),
                ]
            )
        ),
        servers=servers,
        pod_cidr=str(written.pod_cidr or POD_CIDR[written.distribution]),
        service_cidr=str(services),
        cluster_dns=str(services.network_address + DNS_INDEX),
        airgap=written.airgap,
        disable=left_out(cluster),
        k3s=MappingProxyType(k3s_config(cluster)),
        node_names=written.node_names or Kubernetes.node_names,
        snapshotter=written.snapshotter or Kubernetes.snapshotter,
        cni=written.cni or ("none" if has_plugin(cluster) else Kubernetes.cni),
        token_ttl=written.token_ttl or Kubernetes.token_ttl,
        phone_home=written.phone_home or "",
        bundle=cluster.images[written.bundle] if written.bundle else None,
        datastore=cluster.images[written.datastore] if written.datastore else None,
        registries=cluster.images[written.registries] if written.registries else None,
    )


def _outside(file: ClusterFile) -> list[str]:
    """Return the head's fixed address on the other side: its open ports, or one that leads inside, are reached there."""
    fixed = file.head.upstream.address if file.head else None
    return [str(fixed.ip)] if fixed else []


def membership(shared: Kubernetes | None, node: Node) -> Membership | None:
    """Decide a node's part."""
    if shared is None:
        return None
    first = node.hostname.partition(".")[0] == shared.servers[0].hostname
    server = role(node) == "server"
    part: Part
    if shared.distribution == "k3s":
        part = K3sServer(first) if server else K3sAgent()
    else:
        part = KubeadmInit() if first else KubeadmJoin(control_plane=server)
    return Membership(part, tuple(dict.fromkeys(node.taints or ())), shared)


def role(node: Node) -> str:
    """Return a node's role, or agent."""
    return node.role or "agent"
