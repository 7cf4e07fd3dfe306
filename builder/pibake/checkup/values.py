"""What a cluster says of itself, and what is found in that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

OK, WARNING, WRONG, UNKNOWN = "ok", "warning", "wrong", "unknown"


@dataclass(frozen=True)
class Finding:
    """What was looked at, of whom, how it stands (`OK`, `WARNING`, `WRONG`, `UNKNOWN`), and what to do about it."""

    what: str
    subject: str
    status: str
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Installed:
    """What a cluster has of an add-on.

    Attributes:
        wanted: how many objects the add-on has.
        missing: those of them that are not there, as Kind/name.
        failures: what helm-controller says of a chart of it that it could not install, by the chart's name.
        waiting: names of its charts that are not installed yet.
    """

    wanted: int
    missing: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What the cluster says of itself.

    Attributes:
        version: of the API server.
        now: its clock.
        here: this host's clock at that moment.
        certificate: when the API server's certificate ends; None if it could not be seen.
        troubles: names of its own checks that fail.
        nodes: Node objects.
        leases: when each node has renewed its Lease, by its clock.
        disks: free and all bytes of each node's file system; a node whose kubelet does not answer is missing.
        workloads: Deployments, StatefulSets and DaemonSets.
        addons: what is there of each add-on, by name.
    """

    version: str
    now: datetime
    here: datetime
    certificate: datetime | None
    troubles: tuple[str, ...]
    nodes: tuple[Mapping[str, Any], ...]
    leases: Mapping[str, datetime]
    disks: Mapping[str, tuple[int, int]]
    workloads: tuple[Mapping[str, Any], ...]
    addons: Mapping[str, Installed]
