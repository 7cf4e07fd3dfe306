"""Whether a node can be the head on its base, and what its cluster has to know of its two ports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.boards import BOARDS
from pibake.fit.values import numbers, refused, warned
from pibake.system import Network

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pibake.fit.values import Finding
    from pibake.plan import NodePlan
    from pibake.system import System

KERNEL = (4, 18)
"""Before it, nftables and the iptables of Kubernetes cannot both translate addresses (Linux, net/netfilter/nf_nat_core.c)."""


def head(node: NodePlan, system: System) -> Iterator[Finding]:
    """Yield what keeps a node from being the head; nothing for other nodes."""
    if node.head is None:
        return
    yield from _base(node, system)
    if node.head.upstream.wifi and not BOARDS[node.board].wifi:
        yield refused(
            f"{node.hostname} is to lead out by Wi-Fi, which a {node.board} does not have",
            "give `head.upstream` a `port`, such as a USB adapter, or correct `board:`",
        )
    yield from _flannel(node)


def _base(node: NodePlan, system: System) -> Iterator[Finding]:
    why = ""
    if system.network is Network.IFCFG:
        why = "configures its network by ifcfg files, where pibake gives a node one port"
    elif system.init != "systemd":
        why = "has no systemd, whose units make a node the head"
    releases = [kernel.release for kernel in system.kernels if kernel.release]
    if not why and releases and all(numbers(release)[:2] < KERNEL for release in releases):
        why = f"has Linux {releases[0]}, and the head's rules need {'.'.join(map(str, KERNEL))}"
    if why:
        yield refused(
            f"{node.hostname} cannot be the head on {node.base}, which {why}",
            f"give {node.hostname} a newer base that is Debian or made of it",
        )


def _flannel(node: NodePlan) -> Iterator[Finding]:
    """With k3s pibake tells flannel itself; with kubeadm its manifest comes from the bundle."""
    if (
        node.member
        and node.member.kubernetes.distribution == "kubeadm"
        and node.member.kubernetes.cni == "flannel"
    ):
        yield warned(
            f"on {node.hostname}, flannel takes the port of the default route, which leads out of the cluster, unless its manifest says otherwise",
            "take the add-on `flannel`, or give flanneld in the bundle's manifest `--iface-regex` with the nodes' addresses",
        )
