"""Whether a node can be the member of a cluster that it is to be.

Sources: kubeadm's preflight check of memory (`ControlPlaneMem`, 1700 MiB) and "Installing kubeadm" (2 GB a machine); k3s,
"Requirements" (server 2 GiB, agent 512 MiB) and "Resource profiling" (768 to 896 MiB for a server on a Pi 4 with nothing
else); Kubernetes, "About cgroup v2" (which distributions have it by default, and Linux 5.8), and the enhancements 4569
(cgroup v1 in maintenance mode since 1.31) and 5573 (a kubelet of 1.35 does not start on it unless `failCgroupV1` is false).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.boards import BOARDS, size
from pibake.fit.pages import pages
from pibake.fit.values import lacking, numbers, refused, warned
from pibake.plan import K3sAgent, K3sServer, KubeadmInit, KubeadmJoin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pibake.fit.values import Finding
    from pibake.plan import Membership, NodePlan, Part
    from pibake.system import System

CGROUP_V2_SINCE = {"debian": (11,), "raspbian": (11,), "ubuntu": (21, 10), "centos": (9,), "fedora": (31,)}
"""os-release's ID -> the first VERSION_ID that boots with cgroup v2."""
CGROUP_V2_KERNEL = (5, 8)
CGROUP_V1_MAINTAINED = (1, 31)
CGROUP_V1_REFUSED = (1, 35)


@dataclass(frozen=True)
class Need:
    """Memory in MiB that a part of a cluster cannot do without (`least`), and below which it struggles (`fair`)."""

    what: str
    least: int
    fair: int
    why: str


def member(node: NodePlan, system: System) -> Iterator[Finding]:
    """Yield what keeps a node from being, or staying, a member of its cluster; nothing for a plain machine."""
    if node.member is None:
        return
    yield from _tools(node, system)
    yield from _arch(node, node.member, system)
    yield from _memory(node, node.member)
    yield from _cgroups(node, node.member, system)
    yield from pages(node, system)


def _tools(node: NodePlan, system: System) -> Iterator[Finding]:
    for what in lacking(system):
        yield refused(
            f"{node.hostname} cannot join a cluster from {node.base}, which has no {what}: pibake-join needs it",
            f"take another base, or leave {node.hostname} out of the cluster",
        )


def _arch(node: NodePlan, member: Membership, system: System) -> Iterator[Finding]:
    if system.arch != "armhf":
        return
    if member.kubernetes.distribution == "kubeadm":
        yield refused(
            f"{node.hostname} is to run kubeadm, which pibake has for arm64 only, and {node.base} is a 32-bit system",
            "take a base for arm64, or `distribution: k3s`",
        )
        return
    yield warned(
        f"{node.hostname} is to run k3s-armhf, since {node.base} is a 32-bit system: many container images are not made for it",
        "every board pibake knows runs arm64: take a base for that if there is one",
    )


def _need(part: Part) -> Need:
    match part:
        case K3sServer():
            return Need(
                "k3s server", 1024, 2048, "k3s asks for 2 GiB, and takes 0.8 GiB with nothing else running"
            )
        case K3sAgent():
            return Need("k3s agent", 0, 512, "k3s asks for 512 MiB")
        case KubeadmInit() | KubeadmJoin(control_plane=True):
            return Need("kubeadm control plane", 1700, 1700, "kubeadm refuses to go on below 1700 MiB")
        case KubeadmJoin():
            return Need("kubeadm worker", 0, 1024, "kubeadm asks for 2 GiB, to leave room for the workload")


def _memory(node: NodePlan, member: Membership) -> Iterator[Finding]:
    """A size that is only assumed, the smallest its board is sold with, is no reason to refuse."""
    board = BOARDS[node.board]
    sizes = (node.memory,) if node.memory else board.memory
    need = _need(member.part)
    if not sizes or sizes[0] >= need.fair:
        return
    if sizes[-1] < need.least:
        yield refused(
            f"{node.hostname} has {size(sizes[-1])} of memory, too little for a {need.what}: {need.why}",
            "give it another part in the cluster, or take a board with more",
        )
    elif len(sizes) > 1:
        yield warned(
            f"{node.hostname} does not say how much memory it has, and a {board.name} may have {size(sizes[0])}, "
            f"too little for a {need.what}: {need.why}",
            f"say how much it has, as in `memory: {size(sizes[-1])}`",
        )
    else:
        yield warned(
            f"{node.hostname} has {size(sizes[0])} of memory, which is little for a {need.what}: {need.why}",
            "a board with more leaves room for the workload",
        )


def _cgroups(node: NodePlan, member: Membership, system: System) -> Iterator[Finding]:
    version = member.kubernetes.version
    release = numbers(version.removeprefix("v"))[:2]
    if release < CGROUP_V1_MAINTAINED or not _only_cgroup_v1(system):
        return
    about = f"{node.base} ({system.release.title}) boots without the cgroup v2 that Kubernetes wants"
    if release >= CGROUP_V1_REFUSED:
        yield refused(
            f"{about}: the kubelet of {version} on {node.hostname} would not start",
            "take a newer base, or a Kubernetes before v1.35",
        )
    else:
        yield warned(
            f"{about}: {version} on {node.hostname} runs with cgroup v1, which is in maintenance mode, and v1.35 will not",
            "take a newer base before the next upgrade of Kubernetes",
        )


def _only_cgroup_v1(system: System) -> bool:
    since = CGROUP_V2_SINCE.get(system.release.id)
    version = numbers(system.release.version)
    if since and version and version < since:
        return True
    releases = [numbers(kernel.release) for kernel in system.kernels if kernel.release]
    return bool(releases) and all(release[:2] < CGROUP_V2_KERNEL for release in releases)
