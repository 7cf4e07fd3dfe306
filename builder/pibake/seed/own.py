"""The files that make a node this node on any system: its names, what it joins, and its secrets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pibake import network
from pibake.plan import K3sAgent, K3sServer, KubeadmInit, KubeadmJoin, disk_json
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from pibake.identity import Secrets
    from pibake.plan import Host, Membership, NodePlan

PASSWORDS = "etc/pibake/passwords"
"""Lines for `chpasswd -e`; whoever has set them removes the file."""


def files(node: NodePlan, secrets: Secrets | None) -> Tree:
    """Return what every node has, whatever its system."""
    texts = {"etc/hosts": _hosts(node), "etc/pibake/node.json": _node_json(node, secrets)}
    if node.disks:
        texts["etc/pibake/disks.json"] = _disks_json(node)
    own = Tree({path: File(text.encode()) for path, text in texts.items()})
    return network.radio(node) | network.mdns.files(node) | own


def secret(node: NodePlan, secrets: Secrets | None) -> Tree:
    """Return what no seed shows to whoever reads the card: password hashes and host keys."""
    files = {}
    if hashes := [f"{user.name}:{user.password_hash}\n" for user in node.users if user.password_hash]:
        files[PASSWORDS] = File("".join(hashes).encode(), 0o600)
    if secrets:
        key = secrets.nodes[node.hostname].host_key
        files["etc/ssh/ssh_host_ed25519_key"] = File(key.private.reveal().encode(), 0o600)
        files["etc/ssh/ssh_host_ed25519_key.pub"] = File(f"{key.public.strip()}\n".encode(), 0o644)
    return Tree(files)


def _hosts(node: NodePlan) -> str:
    """Return /etc/hosts with every node of the cluster; the node's own name means its real address, as Kubernetes wants."""

    def multicast(host: Host) -> str:
        name = f"{host.hostname}.local"
        return f" {name}" if node.mdns and name != host.fqdn else ""

    lines = [
        "# Made by pibake: every node of the cluster, so that names work before DNS does.",
        "127.0.0.1 localhost",
        "::1 localhost ip6-localhost ip6-loopback",
        "ff02::1 ip6-allnodes",
        "ff02::2 ip6-allrouters",
        *(f"{host.address} {host.fqdn} {host.hostname}{multicast(host)}" for host in node.hosts),
    ]
    return "\n".join(lines) + "\n"


def _disks_json(node: NodePlan) -> str:
    """Return /etc/pibake/disks.json: what `pibake-disks` knows of the data disks, by what names and UUIDs."""
    disks = [{**disk_json(disk), "node": node.hostname} for disk in node.disks]
    return json.dumps(disks, indent=1) + "\n"


def _node_json(node: NodePlan, secrets: Secrets | None) -> str:
    """Return /etc/pibake/node.json: what `pibake-join` knows about the node, with no secret in it."""
    values: dict[str, object] = {
        "node": node.hostname,
        "address": str(node.link.address.ip),
        "distribution": "",
        "part": "",
        "phone_home": node.report,
    }
    if node.member and secrets:
        values |= _member_values(node, node.member, secrets)
    return json.dumps(values, indent=1) + "\n"


def _member_values(node: NodePlan, member: Membership, secrets: Secrets) -> dict[str, object]:
    kubernetes = member.kubernetes
    host, others = kubernetes.endpoint, [s.address for s in kubernetes.servers if s.hostname != node.hostname]
    match member.part:
        case K3sServer(first=first):
            part = "server-first" if first else "server"
            host = host if first else kubernetes.servers[0].address
        case K3sAgent():
            part = "agent"
        case KubeadmInit():
            part = "init"
        case KubeadmJoin(control_plane=control_plane):
            part = "control-plane" if control_plane else "worker"
    bootstrap = secrets.tokens.get("bootstrap")
    return {
        "distribution": kubernetes.distribution,
        "version": kubernetes.version,
        "member": kubernetes.node_name(node),
        "part": part,
        "endpoint": [host, kubernetes.port],
        "peers": others if part in {"server-first", "init"} else [],
        "pin": secrets.ca_pin,
        # the part before the dot names the token and is no secret (Kubernetes, "Bootstrap Tokens", token format)
        "token_id": bootstrap.reveal().partition(".")[0] if bootstrap else "",
        "phone_home": kubernetes.phone_home or node.report,
    }
