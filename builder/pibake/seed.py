"""The seed: the few files that make a golden image one particular node.

`seed` turns a NodePlan into a Tree for the boot partition, which cloud-init's NoCloud data source reads
(cloud-init documentation, "NoCloud": user-data, meta-data and network-config in the root of the partition).
Values in, values out: nothing here touches a disk, a clock or the network.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake import resources
from pibake.errors import PibakeError
from pibake.progress import size
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pibake.plan import NodePlan

CGROUP_FLAGS = ("cgroup_enable=cpuset", "cgroup_memory=1", "cgroup_enable=memory")
"""What k3s and kubeadm need on kernels that leave the memory controller off (k3s documentation, requirements)."""

LARGEST_FILES = 512 << 10
"""Bytes of overlay files a seed carries: it is text on a small boot partition, read before anything else runs."""

_CLOCK = (
    "t=$(sed -n 's/.*pibake\\.clock=\\([0-9]*\\).*/\\1/p' /proc/cmdline); "
    '[ "$(date +%s)" -ge "${t:-0}" ] || date -u -s "@$t"'
)


@dataclass(frozen=True)
class Seed:
    """The files of a seed, and the instance-id they carry: the same content, the same id."""

    tree: Tree
    instance_id: str


def seed(
    node: NodePlan,
    keys: Mapping[str, Sequence[str]],
    overlays: Tree,
    *,
    cmdline: str,
    cmdline_path: str,
    epoch: int,
) -> Seed:
    """Render the seed of one node.

    Args:
        node: what the node is.
        keys: public SSH keys (authorized_keys lines) by user name.
        overlays: files laid over the root file system, from the node's overlays.
        cmdline: the kernel command line the base came with.
        cmdline_path: where that line stands on the boot partition.
        epoch: unix time the node's clock starts from at the earliest.

    Raises:
        PibakeError: the overlays are too large for a seed.
    """
    files = overlays | _own_files(node)
    total = sum(len(file.data) for _, file in files)
    if total > LARGEST_FILES:
        raise PibakeError(
            f"the overlays of {node.hostname} hold {size(total)}; a seed carries {size(LARGEST_FILES)} at most",
            "overlays in a seed are for configuration files; take large files out of: "
            + ", ".join(overlay.name for overlay in node.overlays),
        )
    user_data = resources.render(
        "cloud-init/user-data.j2", node=node, keys=keys, files=list(files), clock_command=_CLOCK
    ).encode()
    network = resources.render("cloud-init/network-config.j2", node=node, wired=node.wired).encode()
    identity = hashlib.sha256(user_data + b"\0" + network).hexdigest()
    instance_id = f"pibake-{identity[:16]}"
    meta_data = resources.render("cloud-init/meta-data.j2", node=node, instance_id=instance_id).encode()
    tree = Tree(
        {
            "user-data": File(user_data),
            "meta-data": File(meta_data),
            "network-config": File(network),
            cmdline_path: File(kernel_cmdline(cmdline, epoch).encode()),
        }
    )
    return Seed(tree, instance_id)


def kernel_cmdline(existing: str, epoch: int) -> str:
    """Return the one line of cmdline.txt: what was there, the cgroup flags once, and the clock's start.

    The firmware reads the first line only (Raspberry Pi documentation, "kernel command line"), so whatever stands
    on further lines was meant for it, and joins it. Quoted values stay whole. What follows `--` belongs to init.
    """
    words = re.findall(r'(?:[^\s"]|"[^"]*"?)+', existing)
    ours = {*CGROUP_FLAGS, "cgroup_disable=memory", "cgroup_memory=0"}
    kept = [word for word in words if word not in ours and not word.startswith("pibake.clock=")]
    split = kept.index("--") if "--" in kept else len(kept)
    return " ".join([*kept[:split], *CGROUP_FLAGS, f"pibake.clock={epoch}", *kept[split:]]) + "\n"


def _own_files(node: NodePlan) -> Tree:
    return Tree.read(resources.path("overlays", "firstboot")) | Tree(
        {
            "etc/hosts": File(_hosts(node).encode()),
            "etc/pibake/node.conf": File(_node_conf(node).encode()),
        }
    )


def _hosts(node: NodePlan) -> str:
    """Return /etc/hosts with every node of the cluster; the node's own name means its real address, as Kubernetes wants."""
    lines = [
        "# Made by pibake: every node of the cluster, so that names work before DNS does.",
        "127.0.0.1 localhost",
        "::1 localhost ip6-localhost ip6-loopback",
        "ff02::1 ip6-allnodes",
        "ff02::2 ip6-allrouters",
        *(f"{host.address} {host.fqdn} {host.hostname}" for host in node.hosts),
    ]
    return "\n".join(lines) + "\n"


def _node_conf(node: NodePlan) -> str:
    """Return /etc/pibake/node.conf: what the node's own units know about it, as shell assignments."""
    labels = ",".join(f"{name}={value}" for name, value in sorted(node.labels.items()))
    values = {
        "PIBAKE_NODE": node.hostname,
        "PIBAKE_FQDN": node.fqdn,
        "PIBAKE_ADDRESS": str(node.wired.address.ip),
        "PIBAKE_ROLE": node.role,
        "PIBAKE_LABELS": labels,
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
