"""What will happen to every node: all defaults decided, nothing done yet.

`plan` is pure: the same cluster gives the same plan, with no file, clock or network asked. A plan holds no secret,
so it prints as JSON and is the dry run.
"""

from __future__ import annotations

from pibake.config.addon import Addon, ChartRef
from pibake.plan.decide import plan
from pibake.plan.disks import Disk, disk_json
from pibake.plan.fleet import Fleet, Peer
from pibake.plan.head import Forward, Head, Lease, Upstream
from pibake.plan.membership import (
    K3sAgent,
    K3sServer,
    KubeadmInit,
    KubeadmJoin,
    Kubernetes,
    Membership,
    Part,
    Server,
    part_name,
)
from pibake.plan.values import (
    BaseRef,
    Hook,
    Host,
    Link,
    Netboot,
    NodePlan,
    Overlay,
    Plan,
    SshKey,
    User,
    Wifi,
    Wire,
    node_json,
)

__all__ = [
    "Addon",
    "BaseRef",
    "ChartRef",
    "Disk",
    "Fleet",
    "Forward",
    "Head",
    "Hook",
    "Host",
    "K3sAgent",
    "K3sServer",
    "KubeadmInit",
    "KubeadmJoin",
    "Kubernetes",
    "Lease",
    "Link",
    "Membership",
    "Netboot",
    "NodePlan",
    "Overlay",
    "Part",
    "Peer",
    "Plan",
    "Server",
    "SshKey",
    "Upstream",
    "User",
    "Wifi",
    "Wire",
    "disk_json",
    "node_json",
    "part_name",
    "plan",
]
